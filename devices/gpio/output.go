package gpio

import (
	"context"
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
	// saveEvery bounds how often the last state is written.
	saveEvery = time.Second
)

var (
	onReading = devices.Reading{Name: "on", Type: "bool", Doc: "the state that the line is driven to; one event a change, " +
		"with its reason as keyword argument cause: start, command, timer (the end of a pulse, a step of a blink), max_on or safe"}

	msArg       = devices.Arg{Name: "ms", Type: "int", Doc: "the time in milliseconds, 1 to 3600000"}
	outputFaces = []devices.Procedure{
		{
			Name: "set", Doc: "Switches the line, and ends a pulse or blinking.",
			Args: []devices.Arg{{Name: "on", Type: "bool", Doc: "the state"}}, Returns: "the state",
		},
		{Name: "toggle", Doc: "Switches the line to the other state, and ends a pulse or blinking.", Returns: "the state now"},
		{
			Name:    "pulse",
			Doc:     "Switches the line on, and off again after a time that the gateway keeps, whatever becomes of the caller. On a line that is on, the time begins anew.",
			Args:    []devices.Arg{msArg},
			Returns: "true: the line is on",
		},
		{
			Name: "blink", Doc: "Switches the line on and off again and again, timed by the gateway, until the count is reached or the next command.",
			Args: []devices.Arg{
				{Name: "on_ms", Type: "int", Doc: "how long on, in milliseconds, 1 to 3600000"},
				{Name: "off_ms", Type: "int", Doc: "how long off, in milliseconds, 1 to 3600000"},
				{Name: "count", Type: "int", Doc: "how often on; without end when left out", Optional: true},
			},
			Returns: "true: the line is on",
		},
		{Name: "read", Doc: "Reads the level that the line has, which is another than the state when something stronger drives it.", Returns: "bool: the level, true for on"},
	}
)

func outputDriver(chips *Chips) devices.Driver {
	return devices.Driver{
		Type:    "gpio-output",
		Summary: "A digital output: one line that switches a relay, a valve or a lamp.",
		Doc: "One line of a GPIO chip as output. It goes to its first state (`initial`) straight from what it was before the gateway started, without a glitch and " +
			"without passing through its safe state; it takes its safe state when the gateway stops, when the device fails, and when its controller is gone " +
			"(`control`). The gateway never gives the line back while it runs.\n\n" +
			"`initial: last` is the state that was commanded last, also before a restart; `inverted` is the opposite, for something that a power failure shall " +
			"toggle; both are the safe state where nothing is known. It is kept in `state_dir`, written at most once a second.\n\n" +
			"A command against `min_on`, `min_off`, `max_rate` or `interlock` is refused with `postern.error.refused` and the keywords `rule` and `retry_ms`; " +
			"nothing is switched later that nobody waits for. Going to the safe state and `max_on` come before `min_on`. `min_off` also runs from the start of the gateway.\n\n" +
			"Outputs with the same `interlock` are never on at the same time: one can be switched on when the others are off and have been for the longest " +
			"`dead_time` of the group. They start off and are safe off. An interlock is no replacement for one in the wiring.\n\n" +
			"A push-pull line is read back 20 ms after every change: where the level is another, the device is degraded.\n\n" +
			"When the gateway is killed, a Raspberry Pi's line keeps its state (unless `dtparam=strict_gpiod` is set); other chips may let it go, so give a relay " +
			"that must be off a resistor that holds it off.\n\n" +
			"With `chip: sim` the line exists inside the gateway only; a `gpio-input` with `chip: sim` of the same pin follows it.",
		Example: "name: pump\ntype: gpio-output\npin: GPIO27\nactive_low: true\ninitial: off\nsafe: off\nmax_on: 15m\n",
		NewParams: func() any {
			return newOutputParams()
		},
		Readings:   []devices.Reading{onReading},
		Procedures: outputFaces,
		Open: func(env devices.Env, params any) (devices.Device, error) {
			p := params.(*OutputParams)
			open, err := chips.opener(p.Pin, p.Chip, LineConfig{
				Consumer: "postern:" + env.Name, ActiveLow: p.ActiveLow, Drive: drives[p.Drive],
			})
			if err != nil {
				return nil, err
			}
			d := newOutput(*p, open)
			d.limits.name, d.state = env.Name, env.StateFile()
			if p.Interlock != "" {
				d.limits.lock = chips.interlock(p.Interlock, p.DeadTime)
			}
			return d, nil
		},
	}
}

// The causes of a change.
const (
	causeStart   = "start"
	causeCommand = "command"
	causeTimer   = "timer"
	causeMaxOn   = "max_on"
	causeSafe    = "safe"
)

// output is a device of type "gpio-output". Run, the procedures, Prepare,
// Release and Halt may be called at the same time; the mutex makes one of them
// after the other, the events they publish included, and is held across calls
// of the kernel that do not wait.
type output struct {
	params OutputParams
	open   openPin
	state  *devices.StateFile
	kick   chan struct{} // tells Run that there is something to time, or a failure

	mu       sync.Mutex
	pin      periph.PinIO   // from the first use on, until it fails
	out      devices.Outlet // of the last Run, nil before the first
	live     bool           // Run serves the procedures
	prepared bool           // the line has its initial state, and no Run has begun since
	on       bool
	limits   limits
	timer    program
	verify   time.Time // when to read back; zero: not
	odd      bool      // the last read-back found another level
	wanted   saved
	save     time.Time // when to write wanted; zero: not
	failure  error     // why Run must give up
}

// saved is what outlives the gateway.
type saved struct {
	On bool `json:"on"`
}

// program is what an output does by itself.
type program struct {
	next    time.Time // when the line changes; zero: not
	on, off time.Duration
	left    int // switchings on that are to come; below 0 without end
}

func newOutput(p OutputParams, open openPin) *output {
	d := &output{params: p, open: open, state: devices.Env{}.StateFile(), kick: make(chan struct{}, 1), limits: limits{p: p}}
	return d
}

func (d *output) Readings() []devices.Reading { return []devices.Reading{onReading} }

func (d *output) Procedures() []devices.Procedure {
	calls := []func(args wamp.List) (any, error){
		func(args wamp.List) (any, error) {
			return d.act(func() (bool, program) { return args[0].(bool), program{} })
		},
		func(wamp.List) (any, error) { return d.act(func() (bool, program) { return !d.on, program{} }) },
		d.pulse,
		d.blink,
		d.read,
	}
	procedures := make([]devices.Procedure, len(outputFaces))
	for i, p := range outputFaces {
		p.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) { return calls[i](args) }
		procedures[i] = p
	}
	return procedures
}

func (d *output) pulse(args wamp.List) (any, error) {
	on, err := duration("ms", args[0].(int64))
	if err != nil {
		return nil, err
	}
	if on < d.params.MinOn {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "pulse: ms is shorter than min_on, %v", d.params.MinOn)
	}
	return d.act(func() (bool, program) { return true, program{next: time.Now().Add(on), on: on} })
}

func (d *output) blink(args wamp.List) (any, error) {
	on, err := duration("on_ms", args[0].(int64))
	if err != nil {
		return nil, err
	}
	off, err := duration("off_ms", args[1].(int64))
	if err != nil {
		return nil, err
	}
	left := -1
	if n, given := args[2].(int64); given {
		if n < 1 || n > 1_000_000 {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "blink: count must be from 1 to 1000000, not %d", n)
		}
		left = int(n) - 1
	}
	switch p := d.params; {
	case on < p.MinOn || off < p.MinOff:
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "blink: on_ms is shorter than min_on, %v, or off_ms than min_off, %v", p.MinOn, p.MinOff)
	case p.MaxRate > 0 && on+off < time.Minute/time.Duration(p.MaxRate):
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "blink: that is more often than max_rate, %d a minute", p.MaxRate)
	}
	return d.act(func() (bool, program) { return true, program{next: time.Now().Add(on), on: on, off: off, left: left} })
}

func duration(name string, ms int64) (time.Duration, error) {
	if ms < 1 || ms > int64(maxPulse/time.Millisecond) {
		return 0, wamp.Errorf(wamp.ErrInvalidArgument, "%s must be from 1 to %d, not %d", name, int64(maxPulse/time.Millisecond), ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (d *output) read(wamp.List) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live || d.pin == nil {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "the output is not running")
	}
	v, err := level(d.pin)
	if err != nil {
		return nil, wamp.Errorf(wamp.ErrRuntimeError, "the line could not be read")
	}
	return v, nil
}

// act does what a procedure wants: a state, and what follows by itself.
func (d *output) act(want func() (on bool, then program)) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live || d.pin == nil {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "the output is not running")
	}
	on, then := want()
	if err := d.limits.permit(d.on, on, time.Now()); err != nil {
		return nil, err
	}
	if err := d.drive(on, causeCommand); err != nil {
		d.failure = err
		d.wakeRun()
		return nil, wamp.Errorf(wamp.ErrRuntimeError, "the line could not be driven; its device starts anew")
	}
	d.timer = then
	d.want(on && then.next.IsZero())
	d.wakeRun()
	return on, nil
}

// want notes the state to come back to after a restart, and has it written
// where the config asks for it. The caller has d.mu.
func (d *output) want(on bool) {
	if d.wanted.On == on {
		return
	}
	d.wanted.On = on
	if d.remembers() && d.save.IsZero() {
		d.save = time.Now().Add(saveEvery)
	}
}

func (d *output) remembers() bool {
	return d.params.Initial == stateLast || d.params.Initial == stateInverted
}

func (d *output) wakeRun() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// drive sets the line and publishes a change. The caller has d.mu. A line that
// fails is let go: the next use searches it again.
func (d *output) drive(on bool, cause string) error {
	if err := d.pin.Out(periph.Level(on)); err != nil {
		closePin(d.pin)
		d.pin = nil
		return err
	}
	now := time.Now()
	d.limits.switched(d.on, on, now)
	if d.on != on {
		d.on = on
		if d.out != nil {
			d.out.Emit(onReading.Name, on, devices.Sample{Extra: wamp.Dict{"cause": cause}})
		}
	}
	if d.params.Drive == drivePushPull {
		d.verify = now.Add(readBackTries * readBackPause)
	}
	return nil
}
