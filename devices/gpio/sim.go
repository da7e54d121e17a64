package gpio

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	periph "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
)

// simChip is the chip whose lines are wires inside the process.
const simChip = "sim"

// simBoard is all the simulated wires of one driver table, by name. Wires are
// made when first used and never removed; the config bounds their number.
type simBoard struct {
	mu    sync.Mutex
	wires map[string]*simWire
}

func newSimBoard() *simBoard { return &simBoard{wires: map[string]*simWire{}} }

func (b *simBoard) wire(name string) *simWire {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.wires[name]
	if w == nil {
		w = &simWire{}
		b.wires[name] = w
	}
	return w
}

func (b *simBoard) open(name string, cfg LineConfig) *simPin {
	buffer := cfg.Buffer
	if buffer <= 0 {
		buffer = defaultBuffer
	}
	return &simPin{name: name, cfg: cfg, wire: b.wire(name), buffer: buffer, wake: make(chan struct{}, 1)}
}

// simWire is one electrical node. An output that drives it wins over what the
// simulation puts there from outside, and that over a pull.
type simWire struct {
	mu      sync.Mutex
	pins    []*simPin
	driver  *simPin // nil: no output, or an open one that lets go
	driven  bool
	outside *bool // set by drive
	pull    periph.Pull
}

// level is the electrical level. The caller has w.mu.
func (w *simWire) level() bool {
	switch {
	case w.driver != nil:
		return w.driven
	case w.outside != nil:
		return *w.outside
	}
	return w.pull == periph.PullUp
}

// change runs f and tells the inputs when it has changed the level. The caller
// has w.mu.
func (w *simWire) change(f func()) {
	before := w.level()
	f()
	after := w.level()
	if before == after {
		return
	}
	now := time.Now()
	for _, p := range w.pins {
		p.edgeLocked(after, now)
	}
}

// drive puts an electrical level on the wire from outside.
func (w *simWire) drive(level bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.change(func() { w.outside = &level })
}

// simPin is one user's end of a wire, the simulated Line: the same levels,
// edges, sequence numbers and bounded buffer. Its state is under its wire's
// mutex, as an edge reaches several pins at once.
type simPin struct {
	name   string
	cfg    LineConfig
	wire   *simWire
	buffer int
	wake   chan struct{} // has one element when queue, gen or halted changed

	input   bool
	edge    periph.Edge
	halted  bool
	gen     uint64
	seq     uint32
	dropped uint64
	queue   []Event
	soft    *debouncer
}

var (
	_ periph.PinIO = (*simPin)(nil)
	_ EdgeWaiter   = (*simPin)(nil)
)

// edgeLocked queues a change of the electrical level, the oldest edge giving
// way when the queue is full, as in the kernel.
func (p *simPin) edgeLocked(electrical bool, now time.Time) {
	rising := electrical != p.cfg.ActiveLow
	edge := p.edge
	if p.soft != nil {
		edge = periph.BothEdges
	}
	if !p.input || edge == periph.NoEdge || edge == periph.RisingEdge && !rising || edge == periph.FallingEdge && rising {
		return
	}
	p.seq++
	if len(p.queue) >= p.buffer {
		p.queue = append(p.queue[:0], p.queue[1:]...)
		p.dropped++
	}
	p.queue = append(p.queue, Event{Rising: rising, Time: now, Clock: now.Sub(processStart), Seq: p.seq, Dropped: p.dropped})
	p.notify()
}

func (p *simPin) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *simPin) interruptLocked() {
	p.gen++
	p.queue = p.queue[:0]
	p.notify()
}

// attachLocked puts the pin on its wire.
func (p *simPin) attachLocked() {
	for _, q := range p.wire.pins {
		if q == p {
			return
		}
	}
	p.wire.pins = append(p.wire.pins, p)
}

func (p *simPin) In(pull periph.Pull, edge periph.Edge) error {
	w := p.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	w.change(func() {
		if w.driver == p {
			w.driver = nil
		}
		if pull != periph.PullNoChange {
			w.pull = pull
		}
	})
	p.attachLocked()
	p.interruptLocked()
	p.input, p.edge, p.halted, p.soft = true, edge, false, nil
	if p.cfg.Debounce > 0 {
		p.soft = newDebouncer(p.cfg.Debounce, edge, w.level() != p.cfg.ActiveLow, func() time.Duration { return time.Since(processStart) })
	}
	return nil
}

func (p *simPin) Out(level periph.Level) error {
	w := p.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.input {
		p.interruptLocked()
	}
	electrical := bool(level) != p.cfg.ActiveLow
	w.change(func() {
		letsGo := p.cfg.Drive == OpenDrain && electrical || p.cfg.Drive == OpenSource && !electrical
		switch {
		case !letsGo:
			w.driver, w.driven = p, electrical
		case w.driver == p:
			w.driver = nil
		}
	})
	p.attachLocked()
	p.input = false
	return nil
}

func (p *simPin) Keep() (periph.Level, error) {
	level := p.Read()
	return level, p.Out(level)
}

func (p *simPin) Read() periph.Level {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	return periph.Level(p.wire.level() != p.cfg.ActiveLow)
}

func (p *simPin) WaitForEdge(timeout time.Duration) bool {
	var deadline time.Time
	if timeout >= 0 {
		deadline = time.Now().Add(timeout)
	}
	var one [1]Event
	n, err := p.WaitEdges(deadline, one[:])
	return err == nil && n > 0
}

func (p *simPin) WaitEdges(deadline time.Time, buf []Event) (int, error) {
	p.wire.mu.Lock()
	gen, soft := p.gen, p.soft
	p.wire.mu.Unlock()
	if soft == nil {
		return p.fetch(gen, deadline, buf)
	}
	fetch := func(deadline time.Time, buf []Event) (int, error) { return p.fetch(gen, deadline, buf) }
	return soft.wait(deadline, buf, fetch, func() (bool, error) { return bool(p.Read()), nil })
}

func (p *simPin) fetch(gen uint64, deadline time.Time, buf []Event) (int, error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	for {
		p.wire.mu.Lock()
		if p.gen != gen || p.halted {
			p.wire.mu.Unlock()
			return 0, ErrInterrupted
		}
		n := copy(buf, p.queue)
		p.queue = append(p.queue[:0], p.queue[n:]...)
		p.wire.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-p.wake:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (p *simPin) Halt() error {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	p.halted = true
	p.interruptLocked()
	return nil
}

// Close takes the pin off its wire.
func (p *simPin) Close() error {
	w := p.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	p.input = false
	p.interruptLocked()
	w.change(func() {
		if w.driver == p {
			w.driver = nil
		}
	})
	for i, q := range w.pins {
		if q == p {
			w.pins = append(w.pins[:i], w.pins[i+1:]...)
			break
		}
	}
	return nil
}

// drive puts a logical level, as this pin sees it, on the wire from outside.
func (p *simPin) drive(level bool) { p.wire.drive(level != p.cfg.ActiveLow) }

func (p *simPin) String() string { return p.name + " (simulated)" }
func (p *simPin) Name() string   { return p.name }

func (p *simPin) Number() int {
	if n, ok := gpioNumber(strings.ToUpper(p.name)); ok {
		return n
	}
	return -1
}

func (p *simPin) Function() string {
	level := p.Read()
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	f := map[[2]bool]string{
		{true, true}: string(periph.IN_HIGH), {true, false}: string(periph.IN_LOW),
		{false, true}: string(periph.OUT_HIGH), {false, false}: string(periph.OUT_LOW),
	}
	return f[[2]bool{p.input, bool(level)}]
}

func (p *simPin) Pull() periph.Pull {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	return p.wire.pull
}

func (p *simPin) DefaultPull() periph.Pull { return periph.PullNoChange }

func (p *simPin) PWM(periph.Duty, physic.Frequency) error {
	return fmt.Errorf("GPIO line %s: no PWM on a plain line: %w", p, errors.ErrUnsupported)
}
