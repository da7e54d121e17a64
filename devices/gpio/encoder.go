package gpio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// EncoderParams are the parameters of a "gpio-encoder".
type EncoderParams struct {
	A              string        `yaml:"a" required:"true" doc:"the line of channel A, as a pin of gpio-input"`
	B              string        `yaml:"b" required:"true" doc:"the line of channel B"`
	Chip           string        `yaml:"chip" doc:"the chip's label or device, or the name of a device that is a chip, where the pins' names do not say it; sim for simulated lines inside the gateway"`
	Pull           string        `yaml:"pull" doc:"bias of both lines: up, down, off, or as-is to leave it as it is"`
	Debounce       time.Duration `yaml:"debounce" doc:"how long a level must last before it counts; the decoding stands bouncing contacts by itself"`
	StepsPerDetent int           `yaml:"steps_per_detent" doc:"changes of the two lines from one detent to the next: 4 for most knobs, 2 or 1 for some, 1 for motors without detents"`
	Reverse        bool          `yaml:"reverse" doc:"counts the other way round"`
	Min            *int64        `yaml:"min" doc:"the position does not go below; without it there is no bound"`
	Max            *int64        `yaml:"max" doc:"the position does not go above; without it there is no bound"`
	Wrap           bool          `yaml:"wrap" doc:"after max comes min, and the other way round; it needs both"`
}

func newEncoderParams() *EncoderParams { return &EncoderParams{Pull: "up", StepsPerDetent: 4} }

// Validate implements devices.Validator.
func (p *EncoderParams) Validate(report func(path, problem, hint string)) {
	for path, pin := range map[string]string{"a": p.A, "b": p.B} {
		validatePin(pin, p.Chip, func(_, problem, hint string) { report(path, problem, hint) })
	}
	if a, err := canonical(p.A, p.Chip); err == nil {
		if b, err := canonical(p.B, p.Chip); err == nil && a == b {
			report("b", fmt.Sprintf("%q is the same line as a", p.B), "the encoder's two channels need a line each")
		}
	}
	oneOf("pull", p.Pull, pulls, report)
	if p.Debounce < 0 || p.Debounce > maxDebounce {
		report("debounce", fmt.Sprintf("%v is out of range", p.Debounce), "1ms suits bad contacts; 0s is most often best")
	}
	if p.StepsPerDetent != 1 && p.StepsPerDetent != 2 && p.StepsPerDetent != 4 {
		report("steps_per_detent", fmt.Sprintf("%d is not known", p.StepsPerDetent), "write 1, 2 or 4")
	}
	if p.Min != nil && p.Max != nil && *p.Min >= *p.Max {
		report("max", fmt.Sprintf("%d is not above min, %d", *p.Max, *p.Min), "")
	}
	if p.Wrap && (p.Min == nil || p.Max == nil) {
		report("wrap", "it needs min and max", "write both, or leave wrap out")
	}
}

// Simulate implements devices.Simulator.
func (p *EncoderParams) Simulate() {
	p.A, p.B, p.Chip = simulated(p.A, p.Chip), simulated(p.B, p.Chip), simChip
}

// Claims implements devices.Claimer.
func (p *EncoderParams) Claims() []string {
	return append(claims(p.A, p.Chip, "in"), claims(p.B, p.Chip, "in")...)
}

var (
	positionReading = devices.Reading{
		Name: "position", Type: "int",
		Doc: "the position in detents; one event for each turn of the knob that the gateway saw at once, with the keyword arguments delta (by how many detents it was " +
			"turned, also beyond a bound) and missed (changes of both lines at once since the device started: it is turned faster than it can be read, or a wire is loose)",
	}
	encoderFaces = []devices.Procedure{{
		Name: "set", Doc: "Sets the position.",
		Args: []devices.Arg{{Name: "position", Type: "int", Doc: "the position in detents, within the bounds"}}, Returns: "int: the position",
	}}
	simulateTurn = devices.Procedure{
		Name: "simulate", Doc: "Turns the simulated knob.",
		Args: []devices.Arg{{Name: "detents", Type: "int", Doc: "by how many detents, -100 to 100"}},
	}
)

func encoderDriver(chips *Chips) devices.Driver {
	return devices.Driver{
		Type:    "gpio-encoder",
		Summary: "A rotary encoder: a knob or a wheel with two channels in quadrature.",
		Doc: "Two lines, A and B, of which the one that changes first says the direction. The kernel keeps the changes of both in their order, and they are decoded by a " +
			"table, so that contacts that bounce move the position forth and back and leave it right.\n\n" +
			"The knob's common pin goes to ground; A and B have pull-ups. With `chip: sim` the lines exist inside the gateway only, and there is one " +
			"procedure more, `simulate(detents)`.",
		Example:    "name: volume\ntype: gpio-encoder\na: GPIO5\nb: GPIO6\nmin: 0\nmax: 100\n",
		NewParams:  func() any { return newEncoderParams() },
		Readings:   []devices.Reading{positionReading},
		Procedures: encoderFaces,
		Open: func(env devices.Env, params any) (devices.Device, error) {
			p := params.(*EncoderParams)
			d := &encoder{params: *p}
			d.pair = func() (*Line, error) {
				if chips.find(p.Chip) != nil {
					return nil, nil
				}
				return openPair(p.A, p.B, p.Chip, LineConfig{Consumer: "postern:" + env.Name, Debounce: p.Debounce})
			}
			for i, pin := range []string{p.A, p.B} {
				// The kernel shows 31 bytes of it.
				open, err := chips.opener(pin, p.Chip, LineConfig{Consumer: "postern:" + env.Name, Debounce: p.Debounce})
				if err != nil {
					return nil, err
				}
				d.open[i] = open
				if p.Chip == simChip {
					d.sim[i] = chips.board.open(mustCanonical(pin), LineConfig{})
				}
			}
			d.position = d.bound(0)
			return d, nil
		},
	}
}

// encoder is a device of type "gpio-encoder". Where the two lines cannot be
// waited for together, a goroutine waits at each of them while it runs; both
// end before Run returns.
type encoder struct {
	params EncoderParams
	pair   func() (*Line, error) // both lines in one, nil where that cannot be
	open   [2]openPin
	sim    [2]*simPin // the outside ends of simulated lines; else nil

	mu       sync.Mutex
	out      devices.Outlet // nil before the first Run
	position int64
	decoder  quadrature
	turned   int // of the simulated knob: which of the four states it shows
}

// quadrature decodes the levels of the two channels. Its state is the two
// levels as bits, A the higher one.
type quadrature struct {
	state  uint8
	rest   uint8 // the state at a detent: that at the start
	steps  int   // since the last detent
	missed int64
}

// quadratureSteps is by old state and new one: the sequence 0, 2, 3, 1 is
// forward. Two changed at once are not a step but an error.
var quadratureSteps = [4][4]int8{
	{0, -1, 1, 0},
	{1, 0, 0, -1},
	{-1, 0, 0, 1},
	{0, 1, -1, 0},
}

// take takes the level of a channel, 0 for A, and returns full detents.
func (q *quadrature) take(channel int, level bool, perDetent int) int {
	bit := uint8(2) >> channel
	next := q.state &^ bit
	if level {
		next |= bit
	}
	if next == q.state {
		// The line changed and changed back, and the first was lost.
		q.missed++
		return 0
	}
	q.steps += int(quadratureSteps[q.state][next])
	q.state = next
	// Where a detent must be the steps are rounded, so that one that was missed
	// does not shift all that come.
	if perDetent == 4 && q.state != q.rest || perDetent == 2 && q.state != q.rest && q.state != q.rest^3 {
		return 0
	}
	half := perDetent / 2
	if q.steps < 0 {
		half = -half
	}
	detents := (q.steps + half) / perDetent
	q.steps = 0
	return detents
}

func (d *encoder) Readings() []devices.Reading { return []devices.Reading{positionReading} }

func (d *encoder) Procedures() []devices.Procedure {
	set := encoderFaces[0]
	set.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		to := args[0].(int64)
		if d.bound(to) != to {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "set: position %d is beyond the bounds", to)
		}
		if d.position != to {
			d.position = to
			d.emit(0)
		}
		return to, nil
	}
	if d.sim[0] == nil {
		return []devices.Procedure{set}
	}
	turn := simulateTurn
	turn.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		n := args[0].(int64)
		if n < -100 || n > 100 {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "simulate: detents must be from -100 to 100, not %d", n)
		}
		d.turn(int(n) * d.params.StepsPerDetent)
		return nil, nil
	}
	return []devices.Procedure{set, turn}
}

// turn moves the simulated lines. The knob rests with both lines high.
func (d *encoder) turn(steps int) {
	sequence := [4]uint8{3, 1, 0, 2}
	by := 1
	if steps < 0 {
		by, steps = -1, -steps
	}
	for range steps {
		time.Sleep(time.Millisecond) // as fast as a hand turns it
		d.mu.Lock()
		d.turned = (d.turned + by + 4) % 4
		state := sequence[d.turned]
		d.mu.Unlock()
		d.sim[0].drive(state&2 != 0)
		d.sim[1].drive(state&1 != 0)
	}
}

func (d *encoder) bound(to int64) int64 {
	if d.params.Min != nil {
		to = max(to, *d.params.Min)
	}
	if d.params.Max != nil {
		to = min(to, *d.params.Max)
	}
	return to
}

// move moves the position by detents. The caller has d.mu.
func (d *encoder) move(detents int) {
	to := d.position + int64(detents)
	if d.params.Wrap {
		low, span := *d.params.Min, *d.params.Max-*d.params.Min+1
		to = low + ((to-low)%span+span)%span
	}
	d.position = d.bound(to)
}

// emit publishes the position. The caller has d.mu.
func (d *encoder) emit(delta int) {
	if d.out != nil {
		d.out.Emit(positionReading.Name, d.position, devices.Sample{Extra: wamp.Dict{"delta": int64(delta), "missed": d.decoder.missed}})
	}
}

// Halt implements devices.Device: an encoder has no state to make safe.
func (d *encoder) Halt() error { return nil }

// edge is one of either channel.
type edge struct {
	channel int
	Event
}

// settle is how long edges of one line may be fetched later than those of the
// other that came after them.
const settle = 2 * time.Millisecond

// Run implements devices.Device.
func (d *encoder) Run(ctx context.Context, out devices.Outlet) error {
	pair, err := d.pair()
	if err != nil {
		return err
	}
	if pair != nil {
		return d.runPair(ctx, out, pair)
	}
	return d.runApart(ctx, out)
}

// begin publishes the position at the levels that the lines have.
func (d *encoder) begin(out devices.Outlet, state uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out, d.decoder = out, quadrature{state: state, rest: state}
	out.Ready()
	d.emit(0)
}

// runPair serves two lines whose edges come from one queue.
func (d *encoder) runPair(ctx context.Context, out devices.Outlet, pair *Line) error {
	defer closePin(pair)
	if err := pair.In(pulls[d.params.Pull], periph.BothEdges); err != nil {
		return err
	}
	defer haltWhenDone(ctx, pair)()
	a, b, err := pair.Levels()
	if err != nil {
		return fmt.Errorf("read GPIO line %s: %w", pair, err)
	}
	var state uint8
	if a {
		state |= 2
	}
	if b {
		state |= 1
	}
	d.begin(out, state)
	var buf [64]Event
	all := make([]edge, 0, len(buf))
	waiter := edgesOf(pair)
	for {
		n, err := waiter.WaitEdges(time.Time{}, buf[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		all = all[:0]
		for _, e := range buf[:n] {
			channel := 0
			if e.Second {
				channel = 1
			}
			all = append(all, edge{channel, e})
		}
		d.decode(all)
	}
}

// runApart serves two lines that have a queue each.
func (d *encoder) runApart(ctx context.Context, out devices.Outlet) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	fetched := make(chan []edge)
	failed := make(chan error, 2)
	var state uint8
	for channel := range d.open {
		pin, err := d.open[channel]()
		if err != nil {
			return err
		}
		defer closePin(pin)
		if err := pin.In(pulls[d.params.Pull], periph.BothEdges); err != nil {
			return err
		}
		v, err := level(pin)
		if err != nil {
			return fmt.Errorf("read GPIO line %s: %w", pin, err)
		}
		if v {
			state |= 2 >> channel
		}
		defer haltWhenDone(ctx, pin)()
		waiting.Go(func() { failed <- fetchEdges(ctx, channel, edgesOf(pin), fetched) })
	}
	defer waiting.Wait() // before the lines are closed
	defer cancel()
	d.begin(out, state)
	return d.follow(ctx, fetched, failed)
}

// fetchEdges sends a line's edges until ctx ends.
func fetchEdges(ctx context.Context, channel int, waiter EdgeWaiter, to chan<- []edge) error {
	var buf [64]Event
	for {
		n, err := waiter.WaitEdges(time.Time{}, buf[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		batch := make([]edge, n)
		for i, e := range buf[:n] {
			batch[i] = edge{channel, e}
		}
		select {
		case to <- batch:
		case <-ctx.Done():
			return nil
		}
	}
}

// follow decodes edges in the order of their timestamps until ctx ends.
func (d *encoder) follow(ctx context.Context, fetched <-chan []edge, failed <-chan error) error {
	for {
		var all []edge
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case all = <-fetched:
		}
		timer := time.NewTimer(settle)
		for waiting := true; waiting; {
			select {
			case more := <-fetched:
				all = append(all, more...)
			case <-timer.C:
				waiting = false
			case <-ctx.Done():
				timer.Stop()
				return nil
			}
		}
		slices.SortStableFunc(all, func(a, b edge) int { return int(a.Clock - b.Clock) })
		d.decode(all)
	}
}

// decode moves by edges and publishes what came of it.
func (d *encoder) decode(all []edge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delta := 0
	for _, e := range all {
		detents := d.decoder.take(e.channel, e.Rising, d.params.StepsPerDetent)
		if d.params.Reverse {
			detents = -detents
		}
		if detents != 0 {
			delta += detents
			d.move(detents)
		}
	}
	if delta != 0 {
		d.emit(delta)
	}
}
