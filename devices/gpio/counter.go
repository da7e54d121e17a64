package gpio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// CounterParams are the parameters of a "gpio-counter".
type CounterParams struct {
	Pin       string        `yaml:"pin" required:"true" doc:"the line: its name (GPIO17), its place on the 40-pin header (P1-11), or with chip also its offset there"`
	Chip      string        `yaml:"chip" doc:"the chip's label or device, or the name of a device that is a chip, where the pin's name does not say it; sim for a simulated line inside the gateway"`
	Pull      string        `yaml:"pull" doc:"bias of the line: up, down, off, or as-is to leave it as it is"`
	ActiveLow bool          `yaml:"active_low" doc:"the level is true when the line is electrically low"`
	Edge      string        `yaml:"edge" doc:"what is a pulse: rising (to true), falling (to false), or both for one at each change"`
	Debounce  time.Duration `yaml:"debounce" doc:"how long a level must last before it counts, for reed contacts; 0s for every edge"`
	Buffer    int           `yaml:"buffer" doc:"edges that the kernel keeps until the gateway fetches them; those beyond are counted all the same, without their times"`
	Scale     float64       `yaml:"scale" doc:"what one pulse stands for, in the unit: 0.001 for an energy meter of 1000 pulses a kWh"`
	Unit      string        `yaml:"unit" doc:"unit of the total, such as kW.h or L"`
	RateUnit  string        `yaml:"rate_unit" doc:"unit of the rate, such as kW or L/min"`
	RatePer   time.Duration `yaml:"rate_per" doc:"the time that the rate is for: 1h with kW.h gives kW, 1m with L gives L/min"`
	RateZero  time.Duration `yaml:"rate_zero" doc:"the rate is 0 after this long without a pulse"`
	Interval  time.Duration `yaml:"interval" doc:"how often the readings are published"`
	SaveEvery time.Duration `yaml:"save_every" doc:"how often at most the count is written to state_dir, beside the end of the gateway: what a power failure costs"`
}

func newCounterParams() *CounterParams {
	return &CounterParams{
		Pull: "as-is", Edge: "rising", Buffer: 4 * defaultBuffer, Scale: 1, RatePer: time.Second, RateZero: time.Minute,
		Interval: 10 * time.Second, SaveEvery: time.Minute,
	}
}

// Validate implements devices.Validator.
func (p *CounterParams) Validate(report func(path, problem, hint string)) {
	in := InputParams{Pin: p.Pin, Chip: p.Chip, Pull: p.Pull, Edge: p.Edge, Debounce: p.Debounce, Buffer: p.Buffer, MaxRate: 1}
	in.Validate(report)
	if p.Scale == 0 || math.IsNaN(p.Scale) || math.IsInf(p.Scale, 0) {
		report("scale", fmt.Sprintf("%v is no scale", p.Scale), "write what one pulse stands for, such as 0.001")
	}
	for _, t := range []struct {
		path  string
		d     time.Duration
		least time.Duration
	}{{"rate_per", p.RatePer, time.Second}, {"rate_zero", p.RateZero, time.Second}, {"interval", p.Interval, 100 * time.Millisecond}, {"save_every", p.SaveEvery, time.Second}} {
		if t.d < t.least || t.d > maxTimes {
			report(t.path, fmt.Sprintf("%v is out of range", t.d), fmt.Sprintf("write %v to %v", t.least, maxTimes))
		}
	}
}

// Simulate implements devices.Simulator.
func (p *CounterParams) Simulate() { p.Pin, p.Chip = simulated(p.Pin, p.Chip), simChip }

// Claims implements devices.Claimer.
func (p *CounterParams) Claims() []string { return claims(p.Pin, p.Chip, "in") }

var (
	counterFaces = []devices.Procedure{
		{Name: "reset", Doc: "Begins the count at 0.", Returns: "float: the total until then"},
		{
			Name: "set", Doc: "Sets the total, to what the meter's own dial shows.",
			Args: []devices.Arg{{Name: "total", Type: "float", Doc: "the total, in its unit"}}, Returns: "float: the total until then",
		},
	}
	simulatePulses = devices.Procedure{
		Name: "simulate", Doc: "Makes pulses on the simulated line.",
		Args: []devices.Arg{{Name: "pulses", Type: "int", Doc: "how many, 1 to 10000"}},
	}
)

func counterReadings(unit, rateUnit string) []devices.Reading {
	return []devices.Reading{
		{Name: "pulses", Type: "int", Doc: "pulses since the count began, with the keyword argument dropped: how many of them the kernel counted without keeping their times, since the device started"},
		{Name: "total", Type: "float", Unit: unit, Doc: "the total: pulses times the scale; it outlives a restart"},
		{Name: "rate", Type: "float", Unit: rateUnit, Doc: "the rate between the last pulses, from the kernel's timestamps"},
	}
}

func counterDriver(chips *Chips) devices.Driver {
	return devices.Driver{
		Type:    "gpio-counter",
		Summary: "A pulse counter: flow meters, energy and gas meters, rain gauges.",
		Doc: "Counts the edges of one line. The kernel numbers them, so that none is missed as long as the line's interrupts are served, also those for " +
			"which its buffer had no room. The total is kept in `state_dir`, replaced atomically at most every `save_every` and at the end.\n\n" +
			"An S0 output or a reed contact to ground wants `pull: up`, `edge: falling` and `debounce: 5ms`. A hall-effect flow meter that is fed with 5 V needs a divider: " +
			"Raspberry Pi inputs stand 3.3 V at most.\n\n" +
			"With `chip: sim` it counts what a `gpio-output` with `chip: sim` of the same pin does, and has one procedure more, `simulate(pulses)`.",
		Example:    "name: energy\ntype: gpio-counter\npin: GPIO22\npull: up\nedge: falling\ndebounce: 5ms\nscale: 0.001\nunit: kW.h\nrate_unit: kW\nrate_per: 1h\nrate_zero: 10m\n",
		NewParams:  func() any { return newCounterParams() },
		Readings:   counterReadings("", ""),
		Procedures: counterFaces,
		Open: func(env devices.Env, params any) (devices.Device, error) {
			p := params.(*CounterParams)
			open, err := chips.opener(p.Pin, p.Chip, LineConfig{
				Consumer: "postern:" + env.Name, ActiveLow: p.ActiveLow, Debounce: p.Debounce, Buffer: p.Buffer,
			})
			if err != nil {
				return nil, err
			}
			d := &counter{params: *p, open: open, state: env.StateFile()}
			if p.Chip == simChip {
				d.sim = chips.board.open(mustCanonical(p.Pin), LineConfig{ActiveLow: p.ActiveLow})
			}
			return d, nil
		},
	}
}

// counter is a device of type "gpio-counter".
type counter struct {
	params CounterParams
	open   openPin
	state  *devices.StateFile
	sim    *simPin // the outside end of a simulated line; else nil
	buf    [64]Event

	mu      sync.Mutex
	out     devices.Outlet // nil before the first Run
	loaded  bool
	count   meter
	dirty   bool
	dropped uint64
	rate    rate
}

// meter is what outlives the gateway. The total is Base plus the pulses, so
// that it does not gather rounding errors.
type meter struct {
	Pulses int64   `json:"pulses"`
	Base   float64 `json:"base"`
}

// rate measures pulses against the edges' own clock: between the last pulse of
// one look and the last of the next.
type rate struct {
	last    time.Duration // clock of the last pulse
	begin   time.Duration // clock of the last pulse at the last look; 0 for none
	pulses  int64         // since begin
	seen    time.Time     // when the last pulse came
	per     float64       // pulses a second, as last measured
	started bool
}

func (r *rate) add(e *Event, pulses int64) {
	if !r.started {
		r.started, r.begin = true, e.Clock
	} else {
		r.pulses += pulses
	}
	r.last, r.seen = e.Clock, e.Time
}

// look returns pulses a second. Without new pulses it is what it would be at
// most if the next one came now, and 0 after zero.
func (r *rate) look(now time.Time, zero time.Duration) float64 {
	switch idle := now.Sub(r.seen); {
	case !r.started:
		return 0
	case r.pulses > 0 && r.last > r.begin:
		r.per = float64(r.pulses) / (r.last - r.begin).Seconds()
		r.begin, r.pulses = r.last, 0
	case idle >= zero:
		r.per, r.started = 0, false
	case idle > 0:
		r.per = min(r.per, 1/idle.Seconds())
	}
	return r.per
}

func (d *counter) Readings() []devices.Reading {
	return counterReadings(d.params.Unit, d.params.RateUnit)
}

func (d *counter) Procedures() []devices.Procedure {
	reset, set := counterFaces[0], counterFaces[1]
	reset.Call = func(context.Context, wamp.List, wamp.Dict) (any, error) { return d.set(0) }
	set.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) { return d.set(args[0].(float64)) }
	procedures := []devices.Procedure{reset, set}
	if d.sim != nil {
		p := simulatePulses
		p.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
			n := args[0].(int64)
			if n < 1 || n > 10_000 {
				return nil, wamp.Errorf(wamp.ErrInvalidArgument, "simulate: pulses must be from 1 to 10000, not %d", n)
			}
			for range n {
				active := d.params.Edge != "falling"
				d.sim.drive(!active)
				d.sim.drive(active)
			}
			return nil, nil
		}
		procedures = append(procedures, p)
	}
	return procedures
}

func (d *counter) total() float64 { return d.count.Base + float64(d.count.Pulses)*d.params.Scale }

// set begins the count anew at a total, which is written at once.
func (d *counter) set(total float64) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.total()
	d.count = meter{Base: total}
	if err := d.state.Save(d.count); err != nil && !errors.Is(err, devices.ErrNoState) {
		d.dirty = true
		return nil, wamp.Errorf(wamp.ErrRuntimeError, "the total is set, but could not be written down")
	}
	d.dirty = false
	d.emit()
	return before, nil
}

// emit publishes all readings. The caller has d.mu.
func (d *counter) emit() {
	now := time.Now()
	d.out.Emit("pulses", d.count.Pulses, devices.Sample{Time: now, Extra: wamp.Dict{"dropped": int64(d.dropped)}})
	d.out.Emit("total", d.total(), devices.Sample{Time: now})
	rate := d.rate.look(now, d.params.RateZero)
	d.out.Emit("rate", rate*d.params.Scale*d.params.RatePer.Seconds(), devices.Sample{Time: now})
}

// Halt implements devices.Device: a counter has no state to make safe.
func (d *counter) Halt() error { return nil }

// Run implements devices.Device.
func (d *counter) Run(ctx context.Context, out devices.Outlet) error {
	if err := d.load(); err != nil {
		return err
	}
	pin, err := d.open()
	if err != nil {
		return err
	}
	defer closePin(pin)
	if err := pin.In(pulls[d.params.Pull], edges[d.params.Edge]); err != nil {
		return err
	}
	defer haltWhenDone(ctx, pin)()
	d.mu.Lock()
	d.out, d.rate, d.dropped = out, rate{}, 0
	out.Ready()
	d.emit()
	d.mu.Unlock()
	err = d.follow(ctx, edgesOf(pin))
	return errors.Join(err, d.store())
}

// load reads the total of the last time, once.
func (d *counter) load() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loaded {
		return nil
	}
	if _, err := d.state.Load(&d.count); err != nil {
		return err
	}
	d.loaded = true
	return nil
}

// store writes the count if it has changed.
func (d *counter) store() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return nil
	}
	d.dirty = false
	return d.state.Save(d.count)
}

// follow counts until ctx ends.
func (d *counter) follow(ctx context.Context, waiter EdgeWaiter) error {
	publish := time.Now().Add(d.params.Interval)
	save := time.Now().Add(d.params.SaveEvery)
	for {
		n, err := waiter.WaitEdges(earlier(publish, save), d.buf[:])
		now := time.Now()
		d.mu.Lock()
		d.take(d.buf[:n])
		if ctx.Err() != nil || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			d.mu.Unlock()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !now.Before(publish) {
			d.emit()
			publish = now.Add(d.params.Interval)
		}
		d.mu.Unlock()
		if !now.Before(save) {
			if err := d.store(); err != nil {
				return err
			}
			save = now.Add(d.params.SaveEvery)
		}
	}
}

// take counts edges, those included that were lost before them. The caller has
// d.mu.
func (d *counter) take(events []Event) {
	for i := range events {
		e := &events[i]
		pulses := int64(1)
		if e.Dropped > d.dropped {
			pulses += int64(e.Dropped - d.dropped)
			d.dropped = e.Dropped
		}
		d.count.Pulses += pulses
		d.rate.add(e, pulses)
		d.dirty = true
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
