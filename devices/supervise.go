package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// Bounds of putting a device into its safe state.
const (
	// graceBound is how long a cancelled Run and cancelled procedures may take
	// to return before Halt is called all the same.
	graceBound = 200 * time.Millisecond
	// haltBound is how long all of it may take.
	haltBound = time.Second
)

var (
	errStopping = errors.New("the gateway is stopping")
	errNoReason = errors.New("the driver gave up without a reason")
)

// hosted is one device under supervision. Its mutex is a leaf: nothing is
// called, logged or sent under it.
type hosted struct {
	name       string
	base       string // <prefix>.<name>
	driver     *Driver
	dev        Device
	restart    Restart
	log        *slog.Logger
	readings   []Reading
	procedures []Procedure
	index      map[string]int // reading name -> slot
	topics     []string       // by slot
	units      []any          // by slot; boxed once, not per event
	stages     []*stage       // by slot, nil for readings that declare none; nil when all do

	controlled  Control
	controlWake chan struct{} // tells the control's watch that there is something

	haltTurn chan struct{} // holds a token while Halt runs
	wake     chan struct{} // tells the publisher that there is something
	ended    chan struct{} // closed when the supervisor has returned
	settled  chan struct{} // closed when it is known how the first opening ended

	settleOnce sync.Once

	mu      sync.Mutex
	cancel  context.CancelFunc // ends the supervisor; nil before start
	stopped bool
	run     *run // the current or the last one
	calls   int
	// controller is who commands the device, if its config wants to know.
	controller controller
	idle       chan struct{} // closed when calls becomes 0; nil when nobody waits

	status        Status
	latest        []entry // by slot; seq 0 when there was none
	queue         queue
	online        bool
	draining      bool
	pending       []bool // by slot, while offline: latest is not published yet
	statusPending bool
	alarms        []alarmEvent // to be published
	misused       bool         // an undeclared reading was logged
	failure       string       // the last back-off's reason, since the device last was ready
	unsafe        string       // why the last Halt after a failure was not done
}

// run is one run of the device's driver, and the Outlet that it speaks
// through. Values are taken from a run that is over too, so that Halt can
// publish what it did; its words on the device's state are not.
type run struct {
	d      *hosted
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when the driver's Run has returned

	// Guarded by d.mu.
	readySince time.Time
	open       bool // procedures may be called
	halting    bool // Halt was begun: who still acts must call it again
}

// panicError is what a driver's panic becomes.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("the driver crashed: %v", e.value) }

// guard calls f and turns a panic into an error, logged with its stack.
func (d *hosted) guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p}
			d.mu.Lock()
			d.status.Panics++
			d.mu.Unlock()
			d.log.Error("device driver crashed", "in", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// supervise runs the driver again and again until ctx ends.
func (d *hosted) supervise(ctx context.Context) {
	defer close(d.ended)
	wait := d.restart.Min
	for attempt := 1; ctx.Err() == nil; attempt++ {
		r, err := d.runOnce(ctx, attempt)
		if ctx.Err() != nil {
			return
		}
		d.fail(err)
		d.tellUnsafe(d.halt(haltBound))
		if !r.readySince.IsZero() && time.Since(r.readySince) >= d.restart.StableAfter {
			wait, attempt = d.restart.Min, 0
		}
		d.setState(StateBackOff, err.Error())
		// Jitter keeps devices that failed together from returning together.
		timer := time.NewTimer(wait - time.Duration(rand.Int64N(int64(wait)/5+1)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, d.restart.Max)
	}
}

// runOnce runs the driver once. When it returns, no procedure of that run can
// be entered any more, and either none is running or Halt will be called again
// by the last to leave.
func (d *hosted) runOnce(parent context.Context, attempt int) (*run, error) {
	ctx, cancel := context.WithCancelCause(parent)
	r := &run{d: d, ctx: ctx, cancel: cancel, ended: make(chan struct{})}
	d.mu.Lock()
	if d.stopped { // a HaltAll that came before this run is not undone by it
		d.mu.Unlock()
		cancel(errStopping)
		return r, errStopping
	}
	d.run = r
	d.status.Attempts = attempt
	d.mu.Unlock()
	d.setState(StateOpening, "")

	err := d.guard("Run", func() error { return d.dev.Run(ctx, r) })
	if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
		err = cause // a procedure crashed, and that ended the run
	}
	if err == nil {
		err = errNoReason
	}
	cancel(err)
	d.mu.Lock()
	r.open = false
	again := r.halting // stop did not wait for this run to end
	close(r.ended)
	d.mu.Unlock()
	if again {
		d.rehalt()
	}
	if parent.Err() == nil {
		d.awaitCalls(graceBound)
		d.mu.Lock()
		r.halting = true
		d.mu.Unlock()
	}
	return r, err
}

// tellUnsafe logs that a failed device could not be put into its safe state,
// once for each reason: a line that another process holds stays held for many
// attempts.
func (d *hosted) tellUnsafe(err error) {
	reason := reasonOf(err)
	d.mu.Lock()
	news := d.unsafe != reason
	d.unsafe = reason
	d.mu.Unlock()
	if err != nil && news {
		d.log.Error("device not put into its safe state", "reason", err)
	}
}

// rehalt repairs what a run or a procedure may have done after the device was
// halted over its head.
func (d *hosted) rehalt() {
	d.log.Warn("device outlived its halt, halting it again")
	if err := d.halt(haltBound); err != nil {
		d.log.Error("device not put into its safe state", "reason", err)
	}
}

// halt calls the device's Halt, one at a time, and waits as long as bound for
// it. A Halt that hangs keeps its goroutine: there is no way to end it.
func (d *hosted) halt(bound time.Duration) error {
	return d.settle(bound, "Halt", d.dev.Halt)
}

// prepare puts the device into the state that it starts with: the safe one,
// unless it knows better.
func (d *hosted) prepare(bound time.Duration) error {
	if p, ok := d.dev.(Preparer); ok {
		return d.settle(bound, "Prepare", p.Prepare)
	}
	return d.halt(bound)
}

func (d *hosted) settle(bound time.Duration, what string, f func() error) error {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case d.haltTurn <- struct{}{}:
	case <-timer.C:
		return fmt.Errorf("halt %q: an earlier Halt has not returned", d.name)
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-d.haltTurn }()
		done <- d.guard(what, f)
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("halt %q: %w", d.name, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("halt %q: not done within %v", d.name, bound)
	}
}

// stop ends the device for good: no procedure can be entered any more, running
// ones and the driver are cancelled, and the safe state is set, whether they
// obey or not.
func (d *hosted) stop() error {
	deadline := time.Now().Add(haltBound)
	d.mu.Lock()
	d.stopped = true
	r := d.run
	if r != nil {
		r.open = false
		r.cancel(errStopping)
	}
	if d.cancel != nil {
		d.cancel()
	}
	d.mu.Unlock()
	if r != nil {
		select {
		case <-r.ended:
		case <-time.After(graceBound):
		}
		d.awaitCalls(time.Until(deadline.Add(graceBound - haltBound)))
		d.mu.Lock()
		r.halting = true
		d.mu.Unlock()
	}
	err := d.halt(time.Until(deadline))
	d.setState(StateStopped, reasonOf(err))
	return err
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// setState changes the state, has it published, and logs it once.
func (d *hosted) setState(s State, reason string) {
	d.mu.Lock()
	old := d.status
	if old.State == s && old.Reason == reason || old.State == StateStopped && s != StateStopped {
		d.mu.Unlock()
		return
	}
	d.status.State, d.status.Reason, d.status.Since = s, reason, time.Now()
	if s != StateOpening {
		d.settleOnce.Do(func() { close(d.settled) })
	}
	news := false // a device that stays away for one reason is logged once
	switch s {
	case StateBackOff:
		news, d.failure = d.failure != reason, reason
	case StateReady:
		d.failure = ""
	}
	d.enqueue(entry{slot: statusSlot, value: d.statusLocked()})
	d.mu.Unlock()
	d.signal()

	level := slog.LevelInfo
	switch {
	case s == StateDegraded, s == StateBackOff && news, s == StateStopped && reason != "":
		level = slog.LevelWarn
	case s == StateOpening, s == StateBackOff, s == StateStopped:
		level = slog.LevelDebug
	}
	d.log.Log(context.Background(), level, "device "+string(s), "reason", reason, "attempts", old.Attempts)
}

func (d *hosted) statusLocked() Status {
	s := d.status
	s.Queued = d.queue.count
	s.Alarms = d.raisedLocked()
	return s
}

func (d *hosted) currentStatus() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statusLocked()
}
