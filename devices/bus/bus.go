// Package bus keeps the busses that several devices share: I2C, SPI, 1-wire. It
// knows nothing of their protocols.
//
// The devices on one bus share its worker, which does their transactions one
// after the other, each with a deadline: what one that hangs costs its
// neighbours is its deadline, and no more.
//
// Goroutines: a worker for each bus in use, which ends when the last device on
// it stops, and one for each transaction. The latter cannot be ended while the
// kernel holds it: after the deadline it is left to itself, with its
// descriptors, and the bus is opened anew; when several of a bus are held, no
// more are begun until one has come back.
package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// MaxStuck is how many transactions of a bus the kernel may hold for longer
// than their deadlines before no more are begun.
const MaxStuck = 4

// ErrDeadline is the failure of a transaction that the kernel did not end.
var ErrDeadline = errors.New("the transaction did not end in time")

// Pool holds the busses in use. L is an opened bus; it is used by one goroutine
// at a time.
type Pool[L io.Closer] struct {
	open func(name string) (L, error)
	keep func(error) bool

	mu     sync.Mutex
	busses map[string]*worker[L]
}

// NewPool has busses opened by open, with the name that Connect was given. A
// bus stays open after a failure that keep approves of, such as a chip that is
// not there; after any other one it is opened anew.
func NewPool[L io.Closer](open func(name string) (L, error), keep func(error) bool) *Pool[L] {
	return &Pool[L]{open: open, keep: keep, busses: map[string]*worker[L]{}}
}

type worker[L io.Closer] struct {
	pool  *Pool[L]
	name  string
	users int // guarded by the pool's mutex
	jobs  chan *job[L]
	ended chan struct{}
	stuck atomic.Int32

	// The worker's own.
	line   L
	opened bool
}

type job[L io.Closer] struct {
	op      func(L) ([]byte, error)
	timeout time.Duration
	result  chan result
}

type result struct {
	r   []byte
	err error
}

// Conn is a device's place on a bus.
type Conn[L io.Closer] struct{ w *worker[L] }

// Connect gives a device its place on a bus; release takes it back, and closes
// the bus after the last one. Nothing is opened before the first transaction.
func (p *Pool[L]) Connect(name string) (_ *Conn[L], release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.busses[name]
	if w == nil {
		w = &worker[L]{pool: p, name: name, jobs: make(chan *job[L]), ended: make(chan struct{})}
		p.busses[name] = w
		go w.work()
	}
	w.users++
	return &Conn[L]{w}, func() { p.release(w) }
}

func (p *Pool[L]) release(w *worker[L]) {
	p.mu.Lock()
	w.users--
	last := w.users == 0
	if last {
		delete(p.busses, w.name)
		close(w.jobs)
	}
	p.mu.Unlock()
	if last {
		<-w.ended
	}
}

// Name of the bus.
func (c *Conn[L]) Name() string { return c.w.name }

// Do has the worker call op with the opened bus, and returns what op did, or
// ErrDeadline after timeout. op may be left running then: it must not touch
// what its caller uses afterwards. Waiting for the neighbours' transactions is
// not part of timeout; ctx ends that wait only.
func (c *Conn[L]) Do(ctx context.Context, timeout time.Duration, op func(L) ([]byte, error)) ([]byte, error) {
	j := &job[L]{op: op, timeout: timeout, result: make(chan result, 1)}
	select {
	case c.w.jobs <- j:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	res := <-j.result // the worker keeps the deadline
	return res.r, res.err
}

func (w *worker[L]) work() {
	defer close(w.ended)
	for j := range w.jobs {
		r, err := w.do(j)
		j.result <- result{r, err}
	}
	w.drop()
}

// drop closes the bus, to be opened again when it is needed.
func (w *worker[L]) drop() {
	if w.opened {
		w.line.Close()
		w.forget()
	}
}

func (w *worker[L]) forget() {
	var none L
	w.line, w.opened = none, false
}

func (w *worker[L]) do(j *job[L]) ([]byte, error) {
	if n := w.stuck.Load(); n >= MaxStuck {
		return nil, fmt.Errorf("%d transactions are held by the kernel: %w", n, ErrDeadline)
	}
	if !w.opened {
		line, err := w.pool.open(w.name)
		if err != nil {
			return nil, err
		}
		w.line, w.opened = line, true
	}
	line, done := w.line, make(chan result, 1)
	go func() {
		deepen()
		r, err := j.op(line)
		done <- result{r, err}
	}()
	timer := time.NewTimer(j.timeout)
	defer timer.Stop()
	select {
	case res := <-done:
		if res.err != nil && !w.pool.keep(res.err) {
			w.drop() // an adapter that was plugged out and in has a new device
		}
		return res.r, res.err
	case <-timer.C:
	}
	w.forget()
	w.stuck.Add(1)
	go func() {
		<-done
		line.Close()
		w.stuck.Add(-1)
	}()
	return nil, fmt.Errorf("%w (%v)", ErrDeadline, j.timeout)
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

// Pause waits for a chip, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
