package gpio

import (
	"context"
	"errors"
	"fmt"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
)

// take gets hold of the line and drives a state; with keep it takes the state
// that a line has, when it is not ours yet. The caller has d.mu.
func (d *output) take(state, cause string) error {
	fresh := d.pin == nil
	if fresh {
		pin, err := d.open()
		if err != nil {
			return err
		}
		d.pin = pin
	}
	if state != stateKeep {
		return d.drive(state == stateOn, cause)
	}
	if !fresh {
		return nil
	}
	if k, ok := d.pin.(interface{ Keep() (periph.Level, error) }); ok {
		v, err := k.Keep()
		if err != nil {
			closePin(d.pin)
			d.pin = nil
			return err
		}
		d.limits.switched(d.on, bool(v), time.Now())
		d.on = bool(v)
		return nil
	}
	return d.drive(bool(d.pin.Read()), cause)
}

// initial is the state to start with. The caller has d.mu.
func (d *output) initial() (string, error) {
	if !d.remembers() {
		return d.params.Initial, nil
	}
	if d.out == nil { // the first time since the gateway started
		found, err := d.state.Load(&d.wanted)
		if err != nil || !found {
			d.wanted.On = d.params.Safe == stateOn
			return d.params.Safe, err
		}
		if d.params.Initial == stateInverted {
			d.wanted.On = !d.wanted.On
			d.save = time.Now()
		}
	}
	return word(d.wanted.On), nil
}

// Prepare implements devices.Preparer: the line goes to its initial state
// straight from what it was, in the request that makes it an output.
func (d *output) Prepare() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	state, loadErr := d.initial()
	if err := d.take(state, causeStart); err != nil {
		return err
	}
	d.prepared = loadErr == nil
	return loadErr
}

// Run implements devices.Device.
func (d *output) Run(ctx context.Context, out devices.Outlet) error {
	if err := d.begin(out); err != nil {
		return err
	}
	err := d.serve(ctx)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = false
	if endErr := d.endTimer(causeTimer); err == nil {
		err = endErr
	}
	if !d.save.IsZero() {
		err = errors.Join(err, d.store())
	}
	return err
}

// begin takes the line in its initial state.
func (d *output) begin(out devices.Outlet) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.prepared {
		state, err := d.initial()
		if err != nil {
			return err
		}
		d.out = nil // the first event is the one below
		if err := d.take(state, causeStart); err != nil {
			return err
		}
	}
	d.prepared = false
	d.out, d.live, d.failure, d.odd = out, true, nil, false
	d.limits.began(d.on, time.Now())
	out.Ready()
	out.Emit(onReading.Name, d.on, devices.Sample{Extra: map[string]any{"cause": causeStart}})
	return nil
}

// serve does what comes by itself until ctx ends or the line fails.
func (d *output) serve(ctx context.Context) error {
	var failed <-chan struct{} // of the line that it began with
	if f, ok := d.line().(Failer); ok {
		failed = f.Failed()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-failed:
			return fmt.Errorf("the chip of GPIO line %s has failed", d.params.Pin)
		case <-timer.C:
		case <-d.kick:
		}
		next, err := d.step(time.Now())
		if err != nil {
			return err
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (d *output) line() periph.PinIO {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pin
}

// step does what is due and returns when it wants to be called again; the zero
// time is never.
func (d *output) step(now time.Time) (next time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil && d.live {
		d.failure = d.due(now)
	}
	for _, t := range []time.Time{d.timer.next, d.limits.offAt(d.on), d.verify, d.save} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next, d.failure
}

func reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

func (d *output) due(now time.Time) error {
	if reached(d.limits.offAt(d.on), now) {
		d.timer = program{}
		d.want(false)
		if err := d.drive(false, causeMaxOn); err != nil {
			return err
		}
	}
	if reached(d.timer.next, now) {
		if err := d.turn(now); err != nil {
			return err
		}
	}
	if reached(d.verify, now) {
		d.verify = time.Time{}
		if err := d.readBack(); err != nil {
			return err
		}
	}
	if reached(d.save, now) {
		return d.store()
	}
	return nil
}

// turn does the next step of a pulse or of blinking. A step that is not
// permitted ends it.
func (d *output) turn(now time.Time) error {
	t := &d.timer
	if d.on {
		if err := d.drive(false, causeTimer); err != nil {
			return err
		}
		t.next = t.next.Add(t.off)
		if t.left == 0 {
			t.next = time.Time{}
		}
		return nil
	}
	if d.limits.permit(false, true, now) != nil {
		*t = program{}
		return nil
	}
	if t.left > 0 {
		t.left--
	}
	t.next = t.next.Add(t.on)
	if t.next.Before(now) { // the machine slept
		t.next = now.Add(t.on)
	}
	return d.drive(true, causeTimer)
}

// readBack compares the line's level with its state.
func (d *output) readBack() error {
	v, err := level(d.pin)
	switch {
	case err != nil:
		return fmt.Errorf("read back GPIO line %s: %w", d.pin, err)
	case v != d.on:
		d.odd = true
		d.out.Degraded(d.mismatch(v))
	case d.odd:
		d.odd = false
		d.out.Ready()
	}
	return nil
}

func (d *output) mismatch(v bool) error {
	return fmt.Errorf("GPIO line %s was driven %s but reads %s: look for a short circuit or an overload", d.pin, word(d.on), word(v))
}

// store writes the state to come back to.
func (d *output) store() error {
	d.save = time.Time{}
	return d.state.Save(d.wanted)
}

// endTimer ends a pulse or blinking if there is one: nothing times it any more.
// The caller has d.mu.
func (d *output) endTimer(cause string) error {
	if d.timer.next.IsZero() {
		return nil
	}
	d.timer = program{}
	if d.pin == nil {
		return nil
	}
	return d.drive(false, cause)
}

// Release implements devices.Releaser.
func (d *output) Release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live {
		return nil // it is on its way to being halted
	}
	if d.params.Safe == stateKeep {
		return d.endTimer(causeSafe)
	}
	d.timer = program{}
	d.want(d.params.Safe == stateOn)
	d.wakeRun()
	return d.take(d.params.Safe, causeSafe)
}

// Halt implements devices.Device. It takes the line when Run never got it, and
// holds it from then on.
func (d *output) Halt() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live, d.prepared = false, false
	if d.params.Safe == stateKeep {
		return d.endTimer(causeSafe)
	}
	d.timer = program{}
	if err := d.take(d.params.Safe, causeSafe); err != nil {
		return err
	}
	if d.params.Drive != drivePushPull {
		return nil // what it lets go of may have any level
	}
	var v bool
	var err error
	for range readBackTries {
		if v, err = level(d.pin); err == nil && v == d.on {
			return nil
		}
		time.Sleep(readBackPause)
	}
	if err != nil {
		return fmt.Errorf("read back GPIO line %s: %w", d.pin, err)
	}
	return d.mismatch(v)
}

func word(on bool) string {
	if on {
		return stateOn
	}
	return stateOff
}
