package gpio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// Drivers returns the drivers of this package over chips, which are the
// kernel's and those of chips: a simulated input sees what a simulated output
// drives.
func Drivers(chips *Chips) []devices.Driver {
	return []devices.Driver{inputDriver(chips), outputDriver(chips), counterDriver(chips), encoderDriver(chips)}
}

func closePin(p periph.PinIO) {
	if c, ok := p.(io.Closer); ok {
		c.Close()
	}
}

// level reads a pin with its error where the pin can tell.
func level(p periph.PinIO) (bool, error) {
	if l, ok := p.(interface{ Level() (periph.Level, error) }); ok {
		v, err := l.Level()
		return bool(v), err
	}
	return bool(p.Read()), nil
}

var (
	levelReading = devices.Reading{Name: "level", Type: "bool", Doc: "the level of the line; true is the active one. " +
		"One event an edge, with its time as the kernel took it, and with the keyword arguments edge_seq (counts the edges of this line from 1), " +
		"edge_dropped (how many of them were not published since the device started) and edge_clock (the time since boot in nanoseconds, " +
		"to be subtracted from another edge's). The event without them is the level at start."}
	simulate = devices.Procedure{
		Name: "simulate", Doc: "Drives the simulated line to a level from outside, until an output takes it over.",
		Args:    []devices.Arg{{Name: "level", Type: "bool", Doc: "the level that the input is to see"}},
		Returns: "the level that the line has now",
	}
)

func inputDriver(chips *Chips) devices.Driver {
	return devices.Driver{
		Type:    "gpio-input",
		Summary: "A digital input: level changes of one line, with the kernel's timestamps.",
		Doc: "One line of a GPIO chip as input: a switch, a button, a motion sensor, a pulse output. Raspberry Pi inputs stand 3.3 V at most.\n\n" +
			"A switch to ground wants `pull: up` and `active_low: true`, and `debounce: 10ms`. The kernel stamps, counts and debounces the edges; " +
			"where it cannot debounce, the gateway does.\n\n" +
			"A button may have the readings `press`, `long_press` and `double_click` beside the level: each is there when its parameter is set.\n\n" +
			"With `chip: sim` the line exists inside the gateway only. It follows a `gpio-output` with `chip: sim` of the same pin, " +
			"and has one procedure more, `simulate(level)`.",
		Example: "name: door\ntype: gpio-input\npin: GPIO17\npull: up\nactive_low: true\ndebounce: 10ms\nlong_press: 800ms\n",
		NewParams: func() any {
			return newInputParams()
		},
		Readings: []devices.Reading{levelReading, pressReading, longReading, twiceReading},
		Open: func(env devices.Env, params any) (devices.Device, error) {
			p := params.(*InputParams)
			open, err := chips.opener(p.Pin, p.Chip, LineConfig{
				Consumer: "postern:" + env.Name, ActiveLow: p.ActiveLow, Debounce: p.Debounce, Buffer: p.Buffer,
			})
			if err != nil {
				return nil, err
			}
			d := &input{params: *p, open: open}
			if p.Chip == simChip {
				d.sim = chips.board.open(mustCanonical(p.Pin), LineConfig{ActiveLow: p.ActiveLow})
			}
			return d, nil
		},
	}
}

// mustCanonical is for a pin that was checked.
func mustCanonical(pin string) string {
	name, _ := canonical(pin, simChip)
	return name
}

// input is a device of type "gpio-input".
type input struct {
	params InputParams
	open   openPin
	sim    *simPin // the outside end of a simulated line, never attached; else nil
	buf    [64]Event
}

func (d *input) Readings() []devices.Reading {
	readings := []devices.Reading{levelReading}
	if d.params.Press {
		readings = append(readings, pressReading)
	}
	if d.params.LongPress > 0 {
		readings = append(readings, longReading)
	}
	if d.params.DoubleClick > 0 {
		readings = append(readings, twiceReading)
	}
	return readings
}

func (d *input) Procedures() []devices.Procedure {
	if d.sim == nil {
		return nil
	}
	p := simulate
	p.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		d.sim.drive(args[0].(bool))
		return bool(d.sim.Read()), nil
	}
	return []devices.Procedure{p}
}

// Halt implements devices.Device: an input has no state to make safe.
func (d *input) Halt() error { return nil }

// Run implements devices.Device.
func (d *input) Run(ctx context.Context, out devices.Outlet) error {
	pin, err := d.open()
	if err != nil {
		return err
	}
	defer closePin(pin)
	if err := pin.In(pulls[d.params.Pull], edges[d.params.Edge]); err != nil {
		return err
	}
	defer haltWhenDone(ctx, pin)()
	v, err := level(pin)
	if err != nil {
		return fmt.Errorf("read GPIO line %s: %w", pin, err)
	}
	out.Ready()
	out.Emit(levelReading.Name, v, devices.Sample{})
	flow := edgeFlow{max: max(1, d.params.MaxRate/10), out: out}
	var button *clicks
	if d.params.clicks() {
		button = &clicks{press: d.params.Press, long: d.params.LongPress, twice: d.params.DoubleClick, out: out, down: v, told: v}
	}
	return d.follow(ctx, edgesOf(pin), &flow, button)
}

// follow publishes edges, and what they mean for a button that is not nil,
// until ctx ends.
func (d *input) follow(ctx context.Context, waiter EdgeWaiter, flow *edgeFlow, button *clicks) error {
	_, keeps := waiter.(*plainEdges)
	keeps = !keeps && d.params.Buffer >= defaultBuffer // edges while nobody waits
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		deadline := flow.deadline()
		if button != nil && !button.due.IsZero() && (deadline.IsZero() || button.due.Before(deadline)) {
			deadline = button.due
		}
		n, err := waiter.WaitEdges(deadline, d.buf[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			now := time.Now()
			flow.expire(now)
			if button != nil {
				button.expire(now)
			}
		case err != nil:
			return err
		}
		for _, e := range d.buf[:n] {
			flow.take(e)
			if button != nil {
				button.take(e)
			}
		}
		if keeps && flow.count > batchAfter {
			pause.Reset(batchPause)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
	}
}

// haltWhenDone ends the pin's wait when ctx ends; the function returned undoes
// that and waits for it.
func haltWhenDone(ctx context.Context, pin periph.PinIO) func() {
	var halting sync.WaitGroup
	halting.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer halting.Done()
		pin.Halt()
	})
	return func() {
		if !stop() {
			halting.Wait()
		}
	}
}

// Where edges come often, waking up for each of them, and so waking publisher,
// router and client, costs more than all that is done with it. From batchAfter
// edges in a window on they are fetched after a pause, all at once: the kernel
// has kept them, with their times.
const (
	batchAfter = 16
	batchPause = 10 * time.Millisecond
)

// flowWindow is the time over which an input's rate is bounded.
const flowWindow = 100 * time.Millisecond

// edgeFlow publishes edges as fast as they come, up to max in a window; of
// those beyond it holds the newest, and publishes it when the window is over.
// It runs on the edges' own clock, so that a burst that was fetched late is
// judged as it happened.
type edgeFlow struct {
	max int
	out devices.Outlet

	start   time.Duration // of the window, on the edges' clock
	count   int           // in the window
	skipped uint64
	held    Event
	holding bool
	until   time.Time // when to publish held
}

// deadline is when expire wants to be called; the zero time is never.
func (f *edgeFlow) deadline() time.Time {
	if !f.holding {
		return time.Time{}
	}
	return f.until
}

func (f *edgeFlow) expire(now time.Time) {
	if f.holding && !now.Before(f.until) {
		f.holding = false
		f.count++
		f.emit(f.held)
	}
}

func (f *edgeFlow) take(e Event) {
	if f.holding {
		f.skipped++ // superseded by e
	}
	f.holding = false
	if e.Clock-f.start >= flowWindow || e.Clock < f.start {
		f.start, f.count = e.Clock, 0
	}
	if f.count >= f.max {
		f.held, f.holding = e, true
		f.until = time.Now().Add(flowWindow)
		return
	}
	f.count++
	f.emit(e)
}

func (f *edgeFlow) emit(e Event) {
	f.out.Emit(levelReading.Name, e.Rising, devices.Sample{Time: e.Time, Edge: devices.Edge{
		Seq: int64(e.Seq), Dropped: int64(e.Dropped + f.skipped), Clock: e.Clock,
	}})
}
