package gpio

import (
	"context"
	"fmt"
	"sync"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

const (
	maxPulse = time.Hour
	// A line with a capacitor on it takes its time to show what drives it.
	readBackTries = 10
	readBackPause = 2 * time.Millisecond
)

var (
	onReading = devices.Reading{Name: "on", Type: "bool", Doc: "the state that the line is driven to; one event a change"}

	setProcedure = devices.Procedure{
		Name: "set", Doc: "Switches the line, and ends a pulse.",
		Args: []devices.Arg{{Name: "on", Type: "bool", Doc: "the state"}}, Returns: "the state",
	}
	toggleProcedure = devices.Procedure{
		Name: "toggle", Doc: "Switches the line to the other state, and ends a pulse.", Returns: "the state now",
	}
	pulseProcedure = devices.Procedure{
		Name:    "pulse",
		Doc:     "Switches the line on, and off again after a time that the gateway keeps, whatever becomes of the caller. On a line that is on, the time begins anew.",
		Args:    []devices.Arg{{Name: "ms", Type: "int", Doc: "the time in milliseconds, 1 to 3600000"}},
		Returns: "true: the line is on",
	}
)

func outputDriver(chips *Chips) devices.Driver {
	return devices.Driver{
		Type:    "gpio-output",
		Summary: "A digital output: one line that switches a relay, a valve or a lamp.",
		Doc: "One line of a GPIO chip as output. It takes its first state without a glitch, and its safe state when the gateway stops or the device fails; " +
			"the gateway never gives the line back while it runs.\n\n" +
			"When the gateway is killed, a Raspberry Pi's line keeps its state (unless `dtparam=strict_gpiod` is set); other chips may let it go, so give a relay " +
			"that must be off a resistor that holds it off.\n\n" +
			"With `chip: sim` the line exists inside the gateway only; a `gpio-input` with `chip: sim` of the same pin follows it.",
		Example: "name: pump\ntype: gpio-output\npin: GPIO27\nactive_low: true\ninitial: off\nsafe: off\n",
		NewParams: func() any {
			return newOutputParams()
		},
		Readings:   []devices.Reading{onReading},
		Procedures: []devices.Procedure{setProcedure, toggleProcedure, pulseProcedure},
		Open: func(env devices.Env, params any) (devices.Device, error) {
			p := params.(*OutputParams)
			open, err := chips.opener(p.Pin, p.Chip, LineConfig{
				Consumer: "postern:" + env.Name, ActiveLow: p.ActiveLow, Drive: drives[p.Drive],
			})
			if err != nil {
				return nil, err
			}
			return newOutput(*p, open), nil
		},
	}
}

// output is a device of type "gpio-output". Run, the procedures and Halt may
// be called at the same time; the mutex makes one of them after the other, the
// events they publish included, and is held across calls of the kernel that do
// not wait.
type output struct {
	params OutputParams
	open   openPin
	kick   chan struct{} // tells Run that the pulse or failure has changed

	mu      sync.Mutex
	pin     periph.PinIO   // from the first use on, until it fails
	out     devices.Outlet // of the last Run, nil before the first
	live    bool           // Run serves the procedures
	on      bool
	pulse   time.Time // when the pulse ends; zero without one
	failure error     // why Run must give up
}

func newOutput(p OutputParams, open openPin) *output {
	return &output{params: p, open: open, kick: make(chan struct{}, 1)}
}

func (d *output) Readings() []devices.Reading { return []devices.Reading{onReading} }

func (d *output) Procedures() []devices.Procedure {
	set, toggle, pulse := setProcedure, toggleProcedure, pulseProcedure
	set.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		return d.act(func() (bool, time.Duration) { return args[0].(bool), 0 })
	}
	toggle.Call = func(context.Context, wamp.List, wamp.Dict) (any, error) {
		return d.act(func() (bool, time.Duration) { return !d.on, 0 })
	}
	pulse.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		ms := args[0].(int64)
		if ms < 1 || ms > int64(maxPulse/time.Millisecond) {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "pulse: ms must be from 1 to %d, not %d", int64(maxPulse/time.Millisecond), ms)
		}
		return d.act(func() (bool, time.Duration) { return true, time.Duration(ms) * time.Millisecond })
	}
	return []devices.Procedure{set, toggle, pulse}
}

// act does what a procedure wants: a state, and for how long, 0 for good.
func (d *output) act(want func() (on bool, pulse time.Duration)) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live || d.pin == nil {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "the output is not running")
	}
	on, pulse := want()
	if err := d.drive(on); err != nil {
		d.failure = err
		d.wakeRun()
		return nil, wamp.Errorf(wamp.ErrRuntimeError, "the line could not be driven; its device starts anew")
	}
	d.pulse = time.Time{}
	if pulse > 0 {
		d.pulse = time.Now().Add(pulse)
	}
	d.wakeRun()
	return on, nil
}

func (d *output) wakeRun() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// drive sets the line and publishes a change. The caller has d.mu. A line that
// fails is let go: the next use searches it again.
func (d *output) drive(on bool) error {
	if err := d.pin.Out(periph.Level(on)); err != nil {
		closePin(d.pin)
		d.pin = nil
		return err
	}
	if d.on != on {
		d.on = on
		if d.out != nil {
			d.out.Emit(onReading.Name, on, devices.Sample{})
		}
	}
	return nil
}

// take gets hold of the line and drives a state; with keep it takes the state
// that a line has, when it is not ours yet. The caller has d.mu.
func (d *output) take(state string) error {
	fresh := d.pin == nil
	if fresh {
		pin, err := d.open()
		if err != nil {
			return err
		}
		d.pin = pin
	}
	if state != stateKeep {
		return d.drive(state == stateOn)
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
		d.on = bool(v)
		return nil
	}
	return d.drive(bool(d.pin.Read()))
}

// Run implements devices.Device.
func (d *output) Run(ctx context.Context, out devices.Outlet) error {
	d.mu.Lock()
	d.out = nil // the first event is the one below
	if err := d.take(d.params.Initial); err != nil {
		d.mu.Unlock()
		return err
	}
	d.out, d.live, d.failure = out, true, nil
	out.Ready()
	out.Emit(onReading.Name, d.on, devices.Sample{})
	d.mu.Unlock()

	err := d.serve(ctx)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = false
	if endErr := d.endPulse(); err == nil {
		err = endErr
	}
	return err
}

// serve times pulses until ctx ends or the line fails.
func (d *output) serve(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.kick:
		}
		d.mu.Lock()
		if !d.pulse.IsZero() && !time.Now().Before(d.pulse) {
			if err := d.endPulse(); err != nil {
				d.failure = err
			}
		}
		failure, pulse := d.failure, d.pulse
		d.mu.Unlock()
		if failure != nil {
			return failure
		}
		timer.Stop()
		if !pulse.IsZero() {
			timer.Reset(time.Until(pulse))
		}
	}
}

// endPulse ends a pulse if there is one: nothing times it any more. The caller
// has d.mu.
func (d *output) endPulse() error {
	if d.pulse.IsZero() {
		return nil
	}
	d.pulse = time.Time{}
	if d.pin == nil {
		return nil
	}
	return d.drive(false)
}

// Halt implements devices.Device. It takes the line when Run never got it, and
// holds it from then on.
func (d *output) Halt() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = false
	if d.params.Safe == stateKeep {
		return d.endPulse()
	}
	d.pulse = time.Time{}
	on := d.params.Safe == stateOn
	if err := d.take(d.params.Safe); err != nil {
		return err
	}
	if d.params.Drive != "push-pull" {
		return nil // what it lets go of may have any level
	}
	var v bool
	var err error
	for range readBackTries {
		if v, err = level(d.pin); err == nil && v == on {
			return nil
		}
		time.Sleep(readBackPause)
	}
	if err != nil {
		return fmt.Errorf("read back GPIO line %s: %w", d.pin, err)
	}
	return fmt.Errorf("GPIO line %s was driven %s but reads %s: look for a short circuit or an overload", d.pin, word(on), word(v))
}

func word(on bool) string {
	if on {
		return stateOn
	}
	return stateOff
}

// Release implements devices.Releaser.
func (d *output) Release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live {
		return nil // it is on its way to being halted
	}
	if d.params.Safe == stateKeep {
		return d.endPulse()
	}
	d.pulse = time.Time{}
	return d.take(d.params.Safe)
}
