package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

const (
	// watchEvery is how often the host looks whether its session has joined
	// again after it lost its connection.
	watchEvery = 250 * time.Millisecond
	// farewellBound is how long publishing the last states may take.
	farewellBound = 500 * time.Millisecond
	// settleBound is how long the host's readiness may wait for devices that
	// are slow to open.
	settleBound = 250 * time.Millisecond
)

// Host runs devices. Make one with NewHost.
type Host struct {
	prefix  string
	log     *slog.Logger
	devices []*hosted
	running atomic.Bool
	ready   chan struct{}
	halted  chan struct{}
	haltOne sync.Once
}

// HaltResult is what became of putting one device into its safe state.
type HaltResult struct {
	Device string
	// Actuator says that the device has a safe state at all.
	Actuator bool
	// Err is nil when the device has reported that its safe state is set.
	Err  error
	Took time.Duration
}

// NewHost opens the configured devices through the table; no hardware is
// touched yet. The error names every device that cannot be.
func NewHost(cfg Config, table *Table, log *slog.Logger) (*Host, error) {
	if log == nil {
		log = slog.Default()
	}
	var errs []error
	cfg.Validate(func(path, problem, hint string) {
		errs = append(errs, fmt.Errorf("devices: %s: %s; %s", path, problem, hint))
	})
	if strings.Contains(cfg.Prefix, hostnameVar) {
		errs = append(errs, fmt.Errorf("devices: prefix: %s is not replaced", hostnameVar))
	}
	for _, c := range CheckClaims(cfg.List) {
		errs = append(errs, fmt.Errorf("devices: %q%s and %q%s both claim %s%s", cfg.List[c.First].Name, c.Role(0), cfg.List[c.Second].Name, c.Role(1), c.Claim, c.Differ()))
	}
	for _, l := range CheckGroups(cfg.List) {
		errs = append(errs, fmt.Errorf("devices: %q is the only one with %s %q", cfg.List[l.Index].Name, l.Key, l.Name))
	}
	h := &Host{prefix: cfg.Prefix, log: log, ready: make(chan struct{}), halted: make(chan struct{})}
	for _, e := range cfg.List {
		d, err := newHosted(cfg, e, table, log)
		if err != nil {
			errs = append(errs, fmt.Errorf("device %q: %w", e.Name, err))
			continue
		}
		h.devices = append(h.devices, d)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return h, nil
}

func newHosted(cfg Config, e Entry, table *Table, log *slog.Logger) (*hosted, error) {
	driver := table.Driver(e.Type)
	if driver == nil {
		return nil, fmt.Errorf("there is no driver %q; the drivers are %s", e.Type, strings.Join(table.Types(), ", "))
	}
	params := driver.NewParams()
	if e.Params != nil {
		if want, have := reflect.TypeOf(params), reflect.TypeOf(e.Params); want != have {
			return nil, fmt.Errorf("driver %q takes %v, not %v", e.Type, want, have)
		}
		params = e.Params
	}
	d := &hosted{
		name: e.Name, base: cfg.Prefix + "." + e.Name, driver: driver, restart: cfg.Restart,
		log:        log.With("device", e.Name, "type", e.Type),
		controlled: e.Control, controlWake: make(chan struct{}, 1),
		haltTurn: make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
		settled:  make(chan struct{}),
		queue:    queue{max: cfg.Queue},
		status:   Status{Device: e.Name, Type: e.Type, State: StateConfigured, Since: time.Now()},
	}
	err := d.guard("Open", func() (err error) {
		d.dev, err = driver.Open(Env{Name: e.Name, StateDir: cfg.StateDir}, params)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, ok := d.dev.(Releaser); e.Control.active() && !ok {
		return nil, fmt.Errorf("a device of type %q has nothing to control: remove its key control", e.Type)
	}
	d.readings, d.procedures = slices.Clone(d.dev.Readings()), d.dev.Procedures()
	if problems := faceProblems(d.readings, d.procedures); len(problems) > 0 {
		return nil, errors.New(strings.Join(problems, "; "))
	}
	if problems := readingProblems(e, d.readings); len(problems) > 0 {
		return nil, errors.New(strings.Join(problems, "; "))
	}
	d.stages = newStages(e, d.readings)
	d.index = make(map[string]int, len(d.readings))
	for slot, r := range d.readings {
		d.index[r.Name] = slot
		d.topics = append(d.topics, d.base+"."+r.Name)
		d.units = append(d.units, r.Unit)
	}
	d.latest = make([]entry, len(d.readings))
	d.pending = make([]bool, len(d.readings))
	return d, nil
}

// String names the host as a task.
func (h *Host) String() string { return "devices" }

// Ready is closed when the procedures are registered, and every device works
// or is known not to, as far as that takes no longer than settleBound.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Status returns the status of every device, in the order of the
// configuration.
func (h *Host) Status() []Status {
	all := make([]Status, len(h.devices))
	for i, d := range h.devices {
		all[i] = d.currentStatus()
	}
	return all
}

// Run puts every actuator into its safe state, starts the devices, registers
// their procedures with session, and serves them until ctx ends, HaltAll is
// called or the session ends for good. Before it returns it puts every
// actuator into its safe state again, and publishes the last states; the
// session is left open, so that they arrive. It can be called once.
//
// The error says which safe state was not reached, which driver did not come
// back, and why the session ended; nil means none of that.
func (h *Host) Run(ctx context.Context, session *client.Session) error {
	return h.run(ctx, sessionRealm{session})
}

func (h *Host) run(ctx context.Context, r realm) error {
	if h.running.Swap(true) {
		return errors.New("devices: the host runs already, or has run")
	}
	h.haltFirst()
	var publishers sync.WaitGroup
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPublishing()
	for _, d := range h.devices {
		p := &publisher{d: d, r: r, kwargs: make(wamp.Dict, 8)}
		p.look() // before the driver says anything, so that nothing is coalesced
		publishers.Go(func() { p.serve(publishing) })
		d.start(ctx)
	}
	regs := newRegistry(h, r)
	stopWatching := h.watchControllers(ctx, r)
	registering, stopRegistering := context.WithCancel(ctx)
	registered := make(chan struct{})
	go func() {
		defer close(registered)
		if regs.registerAll(registering) && h.awaitSettled(registering) {
			close(h.ready)
		}
	}()
	var errs []error
	if err := h.watch(ctx, r); err != nil {
		errs = append(errs, err)
	}

	// From here on, nothing may delay the actuators: the procedures refuse
	// calls by themselves before the router has heard that they are gone.
	stopRegistering()
	stopWatching()
	withdrawn := make(chan struct{})
	go func() {
		defer close(withdrawn)
		<-registered
		regs.withdraw(context.WithoutCancel(ctx))
	}()
	for _, res := range h.HaltAll(context.WithoutCancel(ctx)) {
		if res.Err != nil {
			h.log.Error("device not put into its safe state", "device", res.Device, "reason", res.Err)
			errs = append(errs, res.Err)
		}
	}
	<-withdrawn
	for _, d := range h.devices {
		d.drain()
	}
	timer := time.AfterFunc(farewellBound, stopPublishing)
	publishers.Wait()
	timer.Stop()
	for _, d := range h.devices {
		select {
		case <-d.ended:
		case <-time.After(graceBound):
			errs = append(errs, fmt.Errorf("device %q: its driver has not returned", d.name))
		}
	}
	return errors.Join(errs...)
}

// watchControllers starts what watches over the devices with a control
// section; the function returned ends it, and waits for it.
func (h *Host) watchControllers(ctx context.Context, r realm) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, d := range h.devices {
		if d.controlled.active() {
			all.Go(func() { d.watchControl(ctx, r) })
		}
	}
	if h.holds() {
		all.Go(func() {
			for {
				err := r.subscribe(ctx, topicOnLeave, h.sessionLeft)
				if err == nil || ctx.Err() != nil {
					return
				}
				if refused := new(wamp.Error); errors.As(err, &refused) {
					h.log.Error("devices do not hear of sessions that leave; each second they ask", "reason", err)
					return
				}
				select {
				case <-time.After(registerRetry):
				case <-ctx.Done():
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// haltFirst puts all actuators into their safe state, or the one that they
// are to start with, before anything is started. A device that is not there cannot be halted: its supervisor will
// say so.
func (h *Host) haltFirst() {
	var all sync.WaitGroup
	for _, d := range h.devices {
		all.Go(func() {
			if err := d.prepare(haltBound); err != nil {
				d.log.Warn("device not put into its state at start", "reason", err)
			}
		})
	}
	all.Wait()
}

// awaitSettled waits until the devices' first openings have ended, one way or
// the other, so that who calls a device at once does not come too early.
func (h *Host) awaitSettled(ctx context.Context) bool {
	timer := time.NewTimer(settleBound)
	defer timer.Stop()
	for _, d := range h.devices {
		select {
		case <-d.settled:
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// watch waits for the end of ctx or of the session, and wakes the publishers
// when the session has come back.
func (h *Host) watch(ctx context.Context, r realm) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := r.id()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.halted:
			return nil
		case <-r.done():
			if err := r.err(); err != nil {
				return fmt.Errorf("devices: the session ended: %w", err)
			}
			return errors.New("devices: the session ended")
		case <-tick.C:
			if id := r.id(); id != last {
				last = id
				for _, d := range h.devices {
					d.signal()
				}
			}
		}
	}
}

// Actuators are the names of the devices that have a safe state.
func (h *Host) Actuators() []string {
	var all []string
	for _, d := range h.devices {
		if _, ok := d.dev.(Releaser); ok {
			all = append(all, d.name)
		}
	}
	return all
}

// HaltAll puts every actuator into its safe state, all at once, and ends every
// device for good: no call is taken any more, running procedures and drivers
// are cancelled, and each device gets a second in all, whether they obey or
// not. It can be called at any time, also without Run, and again; it returns
// early, with what is known, when ctx ends. The results are in the order of
// the configuration.
func (h *Host) HaltAll(ctx context.Context) []HaltResult {
	h.haltOne.Do(func() { close(h.halted) })
	type done struct {
		i   int
		res HaltResult
	}
	results := make([]HaltResult, len(h.devices))
	each := make(chan done, len(h.devices))
	for i, d := range h.devices {
		_, actuator := d.dev.(Releaser)
		results[i] = HaltResult{Device: d.name, Actuator: actuator, Err: fmt.Errorf("halt %q: given up waiting", d.name)}
		go func() {
			begun := time.Now()
			err := d.stop()
			each <- done{i, HaltResult{Device: d.name, Actuator: actuator, Err: err, Took: time.Since(begun)}}
		}()
	}
	for range h.devices {
		select {
		case d := <-each:
			results[d.i] = d.res
		case <-ctx.Done():
			return results
		}
	}
	return results
}

// start starts the supervisor, unless the device is stopped already. The
// supervisor ends with stop, not with ctx: the host decides the order.
func (d *hosted) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.mu.Lock()
	d.cancel = cancel
	stopped := d.stopped
	d.mu.Unlock()
	if stopped {
		cancel()
	}
	go d.supervise(ctx)
}

// drain lets the publisher end when it has published what there is.
func (d *hosted) drain() {
	d.mu.Lock()
	d.draining = true
	d.flushLocked()
	d.mu.Unlock()
	d.signal()
}
