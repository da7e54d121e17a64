package i2c

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	periph "periph.io/x/conn/v3/i2c"
)

// maxStuck is how many transactions of a bus the kernel may hold for longer
// than their deadlines before no more are begun.
const maxStuck = 4

// errDeadline is the failure of a transaction that the kernel did not end.
var errDeadline = errors.New("the transaction did not end in time")

// pool holds the busses in use.
type pool struct {
	open func(name string) (periph.BusCloser, error)

	mu     sync.Mutex
	busses map[string]*bus
}

func newPool(open func(name string) (periph.BusCloser, error)) *pool {
	return &pool{open: open, busses: map[string]*bus{}}
}

// bus is one bus and its worker.
type bus struct {
	name  string
	open  func(name string) (periph.BusCloser, error)
	users int // guarded by the pool's mutex
	jobs  chan *job
	ended chan struct{}
	stuck atomic.Int32

	line periph.BusCloser // the worker's own; nil until opened, and after a failure
}

// job is one transaction: w is written, then n bytes are read.
type job struct {
	addr    uint16
	w       []byte
	n       int
	timeout time.Duration
	result  chan result
}

type result struct {
	r   []byte
	err error
}

// conn is a device's way to its chip.
type conn struct {
	bus     *bus
	addr    Address
	timeout time.Duration
}

// connect gives a device its place on the bus; release takes it back, and
// closes the bus after the last one.
func (p *pool) connect(c *Common) (_ *conn, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := canonicalBus(c.Bus)
	b := p.busses[name]
	if b == nil {
		b = &bus{name: name, open: p.open, jobs: make(chan *job), ended: make(chan struct{})}
		p.busses[name] = b
		go b.work()
	}
	b.users++
	return &conn{bus: b, addr: c.Address, timeout: c.Timeout}, func() { p.release(b) }
}

func (p *pool) release(b *bus) {
	p.mu.Lock()
	b.users--
	last := b.users == 0
	if last {
		delete(p.busses, b.name)
		close(b.jobs)
	}
	p.mu.Unlock()
	if last {
		<-b.ended
	}
}

// work is the worker of the bus.
func (b *bus) work() {
	defer close(b.ended)
	for j := range b.jobs {
		r, err := b.do(j)
		j.result <- result{r, err}
	}
	b.drop()
}

// drop closes the bus, to be opened again when it is needed.
func (b *bus) drop() {
	if b.line != nil {
		b.line.Close()
		b.line = nil
	}
}

func (b *bus) do(j *job) ([]byte, error) {
	if n := b.stuck.Load(); n >= maxStuck {
		return nil, fmt.Errorf("%d transactions are held by the kernel: %w", n, errDeadline)
	}
	if b.line == nil {
		line, err := b.open(b.name)
		if err != nil {
			return nil, err
		}
		b.line = line
	}
	line, done := b.line, make(chan result, 1)
	go func() {
		r := make([]byte, j.n) // its own: it may be filled when nobody waits any more
		deepen()
		err := line.Tx(j.addr, j.w, r)
		done <- result{r, err}
	}()
	timer := time.NewTimer(j.timeout)
	defer timer.Stop()
	select {
	case res := <-done:
		if res.err != nil && !isNACK(res.err) {
			b.drop() // an adapter that was plugged out and in has a new device
		}
		return res.r, res.err
	case <-timer.C:
	}
	b.line = nil
	b.stuck.Add(1)
	go func() {
		<-done
		line.Close()
		b.stuck.Add(-1)
	}()
	return nil, fmt.Errorf("%w (%v)", errDeadline, j.timeout)
}

// deepen makes the goroutine's stack large enough for what follows: periph
// hands the kernel addresses of variables on the stack as integers, which would
// not follow it if it moved for growing.
//
//go:noinline
func deepen() byte {
	var room [16 << 10]byte
	for i := range room {
		room[i] = byte(i)
	}
	return room[len(room)/2]
}

// tx writes w, then reads n bytes, as one transaction.
func (c *conn) tx(ctx context.Context, w []byte, n int) ([]byte, error) {
	j := &job{addr: uint16(c.addr), w: w, n: n, timeout: c.timeout, result: make(chan result, 1)}
	select {
	case c.bus.jobs <- j:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	res := <-j.result // the worker keeps the deadline
	if res.err != nil {
		return nil, explain(c.bus.name, c.addr, res.err)
	}
	return res.r, nil
}

// write writes bytes, the register's address first.
func (c *conn) write(ctx context.Context, w ...byte) error {
	_, err := c.tx(ctx, w, 0)
	return err
}

// read reads n bytes from a register on.
func (c *conn) read(ctx context.Context, reg byte, n int) ([]byte, error) {
	return c.tx(ctx, []byte{reg}, n)
}

// word reads a register of 16 bits, the high byte first.
func (c *conn) word(ctx context.Context, reg byte) (uint16, error) {
	b, err := c.read(ctx, reg, 2)
	if err != nil {
		return 0, err
	}
	return uint16(b[0])<<8 | uint16(b[1]), nil
}

// setWord writes a register of 16 bits.
func (c *conn) setWord(ctx context.Context, reg byte, v uint16) error {
	return c.write(ctx, reg, byte(v>>8), byte(v))
}

// pause waits for a chip.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
