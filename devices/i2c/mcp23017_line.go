package i2c

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	periph "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"

	"github.com/postern-iot/postern/devices/gpio"
)

// expanderLine is one line of an MCP23017. It implements periph's gpio.PinIO,
// and the rest that package gpio knows of lines. Its state is under its
// expander's mutex.
type expanderLine struct {
	e    *expander
	name string
	mask uint16
	cfg  gpio.LineConfig
	wake chan struct{} // has one element when there is something to look at

	input  bool
	edge   periph.Edge
	halted bool
	gen    uint64
	seq    uint32
	lost   uint64
	queue  []gpio.Event
	soft   *gpio.Debouncer
}

var (
	_ periph.PinIO    = (*expanderLine)(nil)
	_ gpio.EdgeWaiter = (*expanderLine)(nil)
	_ gpio.Failer     = (*expanderLine)(nil)
)

var processStart = time.Now()

func sinceStart() time.Duration { return time.Since(processStart) }

// line makes a line by its name, GPA0 to GPB7; it does not touch it.
func (e *expander) line(name string, cfg gpio.LineConfig) (periph.PinIO, error) {
	port, bit := "", byte(0)
	if len(name) == 4 {
		port, bit = name[:3], name[3]-'0'
	}
	if port != "GPA" && port != "GPB" || bit > 7 {
		return nil, fmt.Errorf("device %s has no line %q: they are GPA0 to GPA7 and GPB0 to GPB7", e.name, name)
	}
	if cfg.Drive == gpio.OpenSource {
		return nil, fmt.Errorf("line %s of device %s: the chip's outputs are push-pull; open-drain can be had, open-source not", name, e.name)
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = 1024
	}
	mask := uint16(1) << bit
	if port == "GPB" {
		mask <<= 8
	}
	return &expanderLine{e: e, name: name, mask: mask, cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

func (l *expanderLine) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// interrupt ends a wait. The caller has the expander's mutex.
func (l *expanderLine) interrupt() {
	l.gen++
	l.queue = l.queue[:0]
	l.wakeUp()
}

// take queues an edge, as the kernel does.
func (l *expanderLine) take(high bool, at time.Time) {
	rising := high != l.cfg.ActiveLow
	edge := l.edge
	if l.soft != nil {
		edge = periph.BothEdges
	}
	if !l.input || edge == periph.NoEdge || edge == periph.RisingEdge && !rising || edge == periph.FallingEdge && rising {
		return
	}
	l.seq++
	if len(l.queue) >= l.cfg.Buffer {
		l.queue = append(l.queue[:0], l.queue[1:]...)
		l.lost++
	}
	l.queue = append(l.queue, gpio.Event{Rising: rising, Time: at, Clock: at.Sub(processStart), Seq: l.seq, Dropped: l.lost})
	l.wakeUp()
}

// set writes a register where it is to have another value, and remembers it.
func (l *expanderLine) set(ctx context.Context, c *conn, reg byte, have *uint16, on bool) error {
	want := *have &^ l.mask
	if on {
		want |= l.mask
	}
	if want != *have && !l.e.stale {
		if err := l.e.put(ctx, c, reg, want); err != nil {
			return err
		}
	}
	*have = want
	return nil
}

// Failed implements gpio.Failer.
func (l *expanderLine) Failed() <-chan struct{} {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	return l.e.broken
}

// In implements gpio.PinIn.
func (l *expanderLine) In(pull periph.Pull, edge periph.Edge) error {
	if pull == periph.PullDown {
		return fmt.Errorf("line %s of device %s: the chip has pull-ups only; wire a resistor to ground", l.name, l.e.name)
	}
	return l.e.do(func(ctx context.Context, c *conn) error {
		if pull != periph.PullNoChange {
			if err := l.set(ctx, c, mcpGPPU, &l.e.pull, pull == periph.PullUp); err != nil {
				return err
			}
		}
		if err := l.set(ctx, c, mcpIODIR, &l.e.dir, true); err != nil {
			return err
		}
		if err := l.set(ctx, c, mcpGPINTEN, &l.e.notify, edge != periph.NoEdge); err != nil {
			return err
		}
		l.input = false // edges until here are nobody's
		if err := l.e.sample(ctx, c, time.Now()); err != nil {
			return err
		}
		l.attach()
		l.interrupt()
		l.input, l.edge, l.halted, l.soft = true, edge, false, nil
		if l.cfg.Debounce > 0 {
			l.soft = gpio.NewDebouncer(l.cfg.Debounce, edge, l.active(), sinceStart)
		}
		return nil
	})
}

// active is the logical level as read last.
func (l *expanderLine) active() bool { return (l.e.levels&l.mask != 0) != l.cfg.ActiveLow }

func (l *expanderLine) attach() {
	for _, other := range l.e.lines {
		if other == l {
			return
		}
	}
	l.e.lines = append(l.e.lines, l)
}

// Out implements gpio.PinOut. The line goes straight to the level.
func (l *expanderLine) Out(level periph.Level) error {
	return l.e.do(func(ctx context.Context, c *conn) error { return l.out(ctx, c, bool(level)) })
}

func (l *expanderLine) out(ctx context.Context, c *conn, level bool) error {
	high := level != l.cfg.ActiveLow
	letsGo := l.cfg.Drive == gpio.OpenDrain && high
	if !letsGo {
		if err := l.set(ctx, c, mcpOLAT, &l.e.latch, high); err != nil {
			return err
		}
	}
	if err := l.set(ctx, c, mcpGPINTEN, &l.e.notify, false); err != nil {
		return err
	}
	if l.input {
		l.input = false
		l.interrupt()
	}
	return l.set(ctx, c, mcpIODIR, &l.e.dir, letsGo)
}

// Keep makes the line an output at the level that it has, as gpio.Line's does.
func (l *expanderLine) Keep() (periph.Level, error) {
	var level bool
	err := l.e.do(func(ctx context.Context, c *conn) error {
		if err := l.e.sample(ctx, c, time.Now()); err != nil {
			return err
		}
		level = l.active()
		return l.out(ctx, c, level)
	})
	return periph.Level(level), err
}

// Level reads the line.
func (l *expanderLine) Level() (periph.Level, error) {
	var level bool
	err := l.e.do(func(ctx context.Context, c *conn) error {
		err := l.e.sample(ctx, c, time.Now())
		level = l.active()
		return err
	})
	return periph.Level(level), err
}

// Read implements gpio.PinIn: Level, with Low for an error.
func (l *expanderLine) Read() periph.Level {
	v, err := l.Level()
	return v && err == nil
}

// WaitForEdge implements gpio.PinIn.
func (l *expanderLine) WaitForEdge(timeout time.Duration) bool {
	var deadline time.Time
	if timeout >= 0 {
		deadline = time.Now().Add(timeout)
	}
	var one [1]gpio.Event
	n, err := l.WaitEdges(deadline, one[:])
	return err == nil && n > 0
}

// WaitEdges implements gpio.EdgeWaiter. It fails when the expander does.
func (l *expanderLine) WaitEdges(deadline time.Time, buf []gpio.Event) (int, error) {
	l.e.mu.Lock()
	gen, soft := l.gen, l.soft
	l.e.mu.Unlock()
	fetch := func(deadline time.Time, buf []gpio.Event) (int, error) { return l.fetch(gen, deadline, buf) }
	if soft == nil {
		return fetch(deadline, buf)
	}
	return soft.Wait(deadline, buf, fetch, func() (bool, error) {
		v, err := l.Level()
		return bool(v), err
	})
}

func (l *expanderLine) fetch(gen uint64, deadline time.Time, buf []gpio.Event) (int, error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	for {
		l.e.mu.Lock()
		if l.gen != gen || l.halted {
			l.e.mu.Unlock()
			return 0, gpio.ErrInterrupted
		}
		n := copy(buf, l.queue)
		l.queue = append(l.queue[:0], l.queue[n:]...)
		failure := l.e.failure
		l.e.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case failure != nil:
			return 0, fmt.Errorf("device %s: %w", l.e.name, failure)
		}
		select {
		case <-l.wake:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Halt implements conn.Resource: it ends a wait.
func (l *expanderLine) Halt() error {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.halted = true
	l.interrupt()
	return nil
}

// Close takes the line off the expander; an output stays as it is driven.
func (l *expanderLine) Close() error {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.input = false
	l.interrupt()
	for i, other := range l.e.lines {
		if other == l {
			l.e.lines = append(l.e.lines[:i], l.e.lines[i+1:]...)
			break
		}
	}
	return nil
}

// String implements fmt.Stringer.
func (l *expanderLine) String() string { return l.name + " of " + l.e.name }

// Name implements pin.Pin.
func (l *expanderLine) Name() string { return l.name }

// Number implements pin.Pin; the lines have names only.
func (l *expanderLine) Number() int { return -1 }

// Function implements pin.Pin, from what is known without asking the chip.
func (l *expanderLine) Function() string {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.dir&l.mask != 0 {
		return string(periph.IN)
	}
	return string(periph.OUT)
}

// Pull implements gpio.PinIn.
func (l *expanderLine) Pull() periph.Pull {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.pull&l.mask != 0 {
		return periph.PullUp
	}
	return periph.Float
}

// DefaultPull implements gpio.PinIn.
func (l *expanderLine) DefaultPull() periph.Pull { return periph.Float }

// PWM implements gpio.PinOut.
func (l *expanderLine) PWM(periph.Duty, physic.Frequency) error {
	return fmt.Errorf("line %s: no PWM on a plain line: %w", l, errors.ErrUnsupported)
}
