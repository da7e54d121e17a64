package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// The kinds of faults.
const (
	faultUnplug = "unplug"
	faultNoise  = "noise"
	faultStuck  = "stuck"
	faultSlow   = "slow"
	faultNone   = "none"

	maxFaults = 64
)

var errUnplugged = errors.New("it is unplugged (simulated)")

// World is the simulated hardware of a whole configuration: every device on
// hardware that is not there, with the values and faults that its entry or the
// procedure simulate says.
type World struct {
	table   *devices.Table
	prefix  string
	entries map[string]devices.Entry

	mu     sync.Mutex
	bodies map[string]*body
}

// NewWorld makes a world for the devices of a configuration. The error names
// the type that cannot be simulated, or the script that is not sound.
func NewWorld(real *devices.Table, cfg devices.Config) (*World, error) {
	w := &World{prefix: cfg.Prefix, entries: map[string]devices.Entry{}, bodies: map[string]*body{}}
	var errs []error
	for _, e := range cfg.List {
		w.entries[e.Name] = e
		for name, s := range e.Sim.Readings {
			p := scriptParams(s)
			p.Validate(func(_, problem, hint string) {
				errs = append(errs, fmt.Errorf("device %q: sim.readings.%s: %s: %s", e.Name, name, problem, hint))
			})
		}
	}
	rows := real.Drivers()
	for i := range rows {
		open := rows[i].Open
		rows[i].Open = func(env devices.Env, params any) (devices.Device, error) {
			s, ok := params.(devices.Simulator)
			if !ok {
				return nil, fmt.Errorf("a device with %T cannot be simulated", params)
			}
			s.Simulate()
			dev, err := open(env, params)
			if err != nil {
				return nil, err
			}
			return w.embody(env.Name, dev), nil
		}
	}
	var err error
	if w.table, err = devices.NewTable(rows...); err != nil {
		errs = append(errs, err)
	}
	return w, errors.Join(errs...)
}

// Table is the driver table of the world: the same types, simulated.
func (w *World) Table() *devices.Table { return w.table }

func (w *World) embody(name string, dev devices.Device) devices.Device {
	b := &body{
		Device: dev, script: w.entries[name].Sim, kick: make(chan struct{}, 1), born: time.Now(),
		types: map[string]string{}, set: map[string]any{}, last: map[string]any{}, lastAt: map[string]time.Time{},
	}
	for _, r := range dev.Readings() {
		b.types[r.Name] = r.Type
	}
	for _, f := range b.script.Faults {
		b.faults = append(b.faults, fault{SimulatedFault: f, begin: b.born.Add(f.At)})
	}
	w.mu.Lock()
	w.bodies[name] = b
	w.mu.Unlock()
	if r, ok := dev.(devices.Releaser); ok {
		return &releasing{b, r}
	}
	return b
}

// Offer registers the procedure <prefix>.simulate with a session.
func (w *World) Offer(ctx context.Context, s *client.Session) error {
	_, err := s.Register(ctx, w.prefix+".simulate", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		return &client.Result{}, w.simulate(inv.Args, inv.KwArgs)
	})
	if err != nil {
		return fmt.Errorf("register %s.simulate: %w", w.prefix, err)
	}
	return nil
}

// simulate is the procedure: simulate(device, reading=…, value=…) has a reading
// measure a value from now on; simulate(device, fault=…, reading=…, amount=…,
// ms=…) begins a fault; the fault none ends all of them, and lets go of values.
func (w *World) simulate(args wamp.List, kwargs wamp.Dict) error {
	invalid := func(format string, a ...any) error { return wamp.Errorf(wamp.ErrInvalidArgument, format, a...) }
	if len(args) > 1 {
		return invalid("simulate takes the device by position, and reading, value, fault, amount and ms by keyword")
	}
	for key := range kwargs {
		if !slices.Contains([]string{"device", "reading", "value", "fault", "amount", "ms"}, key) {
			return invalid("the keyword %q is unknown: there are device, reading, value, fault, amount and ms", key)
		}
	}
	name, _ := kwargs["device"].(string)
	if len(args) == 1 {
		name, _ = args[0].(string)
	}
	w.mu.Lock()
	b := w.bodies[name]
	w.mu.Unlock()
	if b == nil {
		return invalid("there is no device %q", name)
	}
	reading, _ := kwargs["reading"].(string)
	if _, ok := b.types[reading]; reading != "" && !ok {
		return invalid("device %q has no reading %q", name, reading)
	}
	if v, ok := kwargs["value"]; ok {
		if reading == "" {
			return invalid("a value is of a reading: name it")
		}
		b.setValue(reading, v)
		return nil
	}
	kind, _ := kwargs["fault"].(string)
	switch kind {
	case faultUnplug, faultNoise, faultStuck, faultSlow, faultNone:
	default:
		return invalid("fault must be one of unplug, noise, stuck, slow, none, not %q", kind)
	}
	amount, _ := wamp.ToFloat(kwargs["amount"])
	ms, _ := wamp.ToInt(kwargs["ms"])
	if !(amount >= 0 && amount < 1e9) || ms < 0 || ms > int64(24*time.Hour/time.Millisecond) {
		return invalid("amount must be from 0 to 1000000000, and ms from 0 to a day's 86400000")
	}
	b.begin(devices.SimulatedFault{Kind: kind, Reading: reading, For: time.Duration(ms) * time.Millisecond, Amount: amount})
	return nil
}

// fault is one with its beginning.
type fault struct {
	devices.SimulatedFault
	begin time.Time
}

func (f *fault) active(now time.Time) bool {
	return !now.Before(f.begin) && (f.For == 0 || now.Before(f.begin.Add(f.For)))
}

// body is a device in the world. While its device runs, it has a goroutine for
// each script, and one that unplugs it; all end with Run.
type body struct {
	devices.Device
	script devices.Simulation
	types  map[string]string // of the readings
	born   time.Time
	kick   chan struct{} // tells that faults have changed

	mu     sync.Mutex
	out    devices.Outlet // of the current Run
	faults []fault
	set    map[string]any
	last   map[string]any
	lastAt map[string]time.Time
}

// releasing is the body of an actuator.
type releasing struct {
	*body
	devices.Releaser
}

// Prepare implements devices.Preparer, for devices that do not begin in their
// safe state.
func (b *body) Prepare() error {
	if p, ok := b.Device.(devices.Preparer); ok {
		return p.Prepare()
	}
	return b.Halt()
}

// Run implements devices.Device.
func (b *body) Run(ctx context.Context, out devices.Outlet) error {
	if b.unplugged(time.Now()) {
		return errUnplugged
	}
	ctx, cancel := context.WithCancelCause(ctx)
	b.mu.Lock()
	b.out = out
	b.mu.Unlock()
	var all sync.WaitGroup
	all.Go(func() { b.watch(ctx, cancel) })
	for name, s := range b.script.Readings {
		p := &playback{scriptParams(s)}
		all.Go(func() {
			if err := p.Run(ctx, &scripted{b: b, reading: name, out: out}); err != nil {
				out.Fault(name, err)
			}
		})
	}
	err := b.Device.Run(ctx, &altered{b: b, Outlet: out})
	cause := context.Cause(ctx)
	cancel(nil)
	all.Wait()
	if errors.Is(cause, errUnplugged) {
		return errUnplugged
	}
	return err
}

// watch ends the run when the device is unplugged.
func (b *body) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.kick:
		case <-timer.C:
		}
		now := time.Now()
		if b.unplugged(now) {
			cancel(errUnplugged)
			return
		}
		b.mu.Lock()
		for _, f := range b.faults {
			if f.Kind == faultUnplug && f.begin.After(now) {
				timer.Reset(f.begin.Sub(now))
				break
			}
		}
		b.mu.Unlock()
	}
}

func (b *body) unplugged(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.faults, func(f fault) bool { return f.Kind == faultUnplug && f.active(now) })
}

func (b *body) begin(f devices.SimulatedFault) {
	b.mu.Lock()
	if f.Kind == faultNone {
		now := time.Now() // those that the configuration has still to come stay
		b.faults = slices.DeleteFunc(b.faults, func(old fault) bool {
			return !old.begin.After(now) && (f.Reading == "" || old.Reading == f.Reading)
		})
		for name := range b.set {
			if f.Reading == "" || f.Reading == name {
				delete(b.set, name)
			}
		}
	} else {
		now := time.Now()
		b.faults = slices.DeleteFunc(b.faults, func(old fault) bool { return old.For > 0 && !now.Before(old.begin.Add(old.For)) })
		if len(b.faults) >= maxFaults {
			b.faults = b.faults[1:]
		}
		b.faults = append(b.faults, fault{f, now})
		slices.SortFunc(b.faults, func(a, b fault) int { return a.begin.Compare(b.begin) })
	}
	b.mu.Unlock()
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// setValue has a reading measure v, now and from now on.
func (b *body) setValue(reading string, v any) {
	b.mu.Lock()
	b.set[reading] = v
	out := b.out
	b.mu.Unlock()
	if out != nil {
		(&altered{b: b, Outlet: out, own: true}).Emit(reading, v, devices.Sample{})
	}
}

// altered is an Outlet in whose way the world is.
type altered struct {
	devices.Outlet
	b   *body
	own bool // the value is the world's, not the driver's
}

// Emit implements devices.Outlet.
func (o *altered) Emit(reading string, value any, s devices.Sample) {
	if !o.own {
		if _, played := o.b.script.Readings[reading]; played {
			return
		}
	}
	if v, ok := o.b.alter(reading, value, time.Now()); ok {
		o.Outlet.Emit(reading, v, s)
	}
}

// alter is what becomes of a value; ok is false when it does not come at all.
func (b *body) alter(reading string, v any, now time.Time) (_ any, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if set, ok := b.set[reading]; ok {
		v = set
	}
	for i := range b.faults {
		f := &b.faults[i]
		if !f.active(now) || f.Reading != "" && f.Reading != reading {
			continue
		}
		amount := f.Amount
		if amount == 0 {
			amount = 1
		}
		switch f.Kind {
		case faultStuck:
			if last, ok := b.last[reading]; ok {
				v = last
			}
		case faultSlow:
			if now.Sub(b.lastAt[reading]).Seconds() < amount {
				return nil, false
			}
		case faultNoise:
			if n, ok := wamp.ToFloat(v); ok && b.types[reading] != "bool" {
				v = b.typed(reading, n+amount*rand.NormFloat64())
			}
		}
	}
	b.last[reading], b.lastAt[reading] = v, now
	return v, true
}

// typed is a number as a value of the reading's type.
func (b *body) typed(reading string, v float64) any {
	switch b.types[reading] {
	case "bool":
		return v >= 0.5
	case "int":
		return int64(max(math.MinInt32, min(math.Round(v), math.MaxInt32)))
	case "string":
		return fmt.Sprint(v)
	}
	return v
}

// scripted is the Outlet of a script.
type scripted struct {
	b       *body
	reading string
	out     devices.Outlet
}

func (s *scripted) Ready()         {}
func (s *scripted) Degraded(error) {}

func (s *scripted) Emit(_ string, value any, sample devices.Sample) {
	if v, ok := wamp.ToFloat(value); ok {
		(&altered{b: s.b, Outlet: s.out, own: true}).Emit(s.reading, s.b.typed(s.reading, v), sample)
	}
}

func (s *scripted) Fault(_ string, reason error) { s.out.Fault(s.reading, reason) }

// scriptParams are a script as a playback of one column.
func scriptParams(s devices.Script) PlaybackParams {
	p := PlaybackParams{File: s.File, TimeColumn: s.TimeColumn, Interval: s.Interval, Speed: s.Speed, Loop: s.Loop}
	for _, at := range s.Points {
		p.Points = append(p.Points, Point(at))
	}
	column := s.Column
	if column == "" {
		column = "1"
	}
	p.Columns = []Column{{Name: "value", Column: strings.TrimSpace(column), Type: "float"}}
	return p
}
