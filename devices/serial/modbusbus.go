package serial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// slice is how long the worker listens without looking whether it is still
// wanted, and how long a line must be quiet for an answer to have ended: USB
// adapters hand over what they receive every 16 ms.
const slice = 50 * time.Millisecond

// pool holds the ports in use by Modbus devices.
type pool struct {
	open func(*Line) (port, error)

	mu    sync.Mutex
	ports map[string]*bus
}

func newPool(open func(*Line) (port, error)) *pool {
	return &pool{open: open, ports: map[string]*bus{}}
}

// bus is one port and its worker.
type bus struct {
	line  Line
	open  func(*Line) (port, error)
	users int // guarded by the pool's mutex
	jobs  chan *job
	ended chan struct{}

	// The worker's own.
	port  port      // nil until opened, and after a failure
	quiet time.Time // since when the line is
	buf   [1024]byte
	frame []byte
}

// job is one request to one unit.
type job struct {
	ctx     context.Context
	unit    byte
	pdu     []byte
	timeout time.Duration
	gap     time.Duration
	echo    bool
	result  chan outcome
}

type outcome struct {
	data []byte
	err  error
}

// conn is a device's way to its unit. Its requests go one at a time.
type conn struct {
	bus    *bus
	params *ModbusParams
	turn   chan struct{}
	// settle is until when an answer to an earlier request may still come
	// that cannot be told from one to the next. The holder of the turn has it.
	settle time.Time
}

// connect gives a device its place on the port; release takes it back, and
// closes the port after the last one.
func (p *pool) connect(params *ModbusParams) (_ *conn, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := canonicalPort(params.Port)
	b := p.ports[name]
	if b == nil {
		b = &bus{line: params.Line, open: p.open, jobs: make(chan *job), ended: make(chan struct{})}
		p.ports[name] = b
		go b.work()
	}
	b.users++
	return &conn{bus: b, params: params, turn: make(chan struct{}, 1)}, func() { p.release(name, b) }
}

func (p *pool) release(name string, b *bus) {
	p.mu.Lock()
	b.users--
	last := b.users == 0
	if last {
		delete(p.ports, name)
		close(b.jobs)
	}
	p.mu.Unlock()
	if last {
		<-b.ended
	}
}

// ask sends a request, again as often as the configuration has it, and returns
// the data of the answer. Between two attempts other units get their turn.
func (c *conn) ask(ctx context.Context, pdu []byte) ([]byte, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// A write's answer says what it answers; a read's does not.
	if pdu[0] <= fcReadInput {
		if err := pause(ctx, time.Until(c.settle)); err != nil {
			return nil, err
		}
	}
	for attempt := 0; ; attempt++ {
		data, err := c.once(ctx, pdu)
		if refused := (*exception)(nil); attempt > 0 || err != nil && !errors.As(err, &refused) {
			c.settle = time.Now().Add(c.params.Timeout)
		}
		retry := errors.Is(err, errSilent) || errors.Is(err, errGarbled)
		if !retry || attempt >= c.params.Retries || ctx.Err() != nil {
			return data, err
		}
	}
}

func (c *conn) once(ctx context.Context, pdu []byte) ([]byte, error) {
	p := c.params
	j := &job{ctx: ctx, unit: byte(p.Unit), pdu: pdu, timeout: p.Timeout, gap: p.gap(), echo: p.Echo, result: make(chan outcome, 1)}
	select {
	case c.bus.jobs <- j:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r := <-j.result // the worker keeps the deadline, and looks at the context
	return r.data, r.err
}

// pause waits for d, which may be negative.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work is the worker of the port.
func (b *bus) work() {
	defer close(b.ended)
	for j := range b.jobs {
		data, err := b.do(j)
		if errors.Is(err, errPort) {
			b.drop()
		}
		j.result <- outcome{data, err}
	}
	b.drop()
}

// drop closes the port, to be opened again when it is needed.
func (b *bus) drop() {
	if b.port != nil {
		b.port.Close()
		b.port = nil
	}
}

func (b *bus) do(j *job) ([]byte, error) {
	if b.port == nil {
		p, err := b.open(&b.line)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPort, err)
		}
		b.port, b.quiet = p, time.Now()
	}
	if err := pause(j.ctx, time.Until(b.quiet.Add(j.gap))); err != nil {
		return nil, err
	}
	if d, ok := b.port.(interface{ discard() }); ok {
		d.discard() // what comes unasked is no answer
	}
	b.frame = appendRTU(b.frame[:0], j.unit, j.pdu)
	sending := b.line.onLine(len(b.frame))
	b.port.SetWriteDeadline(time.Now().Add(sending + writeGrace))
	if _, err := b.port.Write(b.frame); err != nil {
		return nil, b.gone(err)
	}
	defer func() { b.quiet = time.Now() }()
	return b.listen(j, time.Now().Add(sending+j.timeout))
}

// listen waits for the answer until the deadline.
func (b *bus) listen(j *job, deadline time.Time) ([]byte, error) {
	got, other := b.buf[:0], byte(0)
	echo := 0 // bytes of the request to come back first
	if j.echo {
		echo = len(b.frame)
	}
	for {
		if err := j.ctx.Err(); err != nil {
			return nil, err
		}
		now := time.Now()
		if !now.Before(deadline) {
			return nil, b.silent(j, got, other)
		}
		if len(got) == cap(got) {
			return nil, fmt.Errorf("unit %d: %w: the line is never quiet", j.unit, errGarbled)
		}
		until := now.Add(slice)
		if until.After(deadline) {
			until = deadline
		}
		b.port.SetReadDeadline(until)
		n, err := b.port.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		if echo > 0 && len(got) >= echo {
			got = got[:copy(got, got[echo:])]
			echo = 0
		}
		if n > 0 && echo == 0 {
			data, _, exc := findAnswer(got, j.unit, j.pdu)
			if data != nil || exc != nil {
				return append([]byte(nil), data...), exc
			}
		}
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, b.gone(err)
		case n > 0 || len(got) == 0 || err == nil || echo > 0:
		case sound(got): // somebody's, or an earlier request's
			other = got[0]
			got = got[:0]
		default:
			return nil, b.garbled(j, got)
		}
	}
}

func (b *bus) gone(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %s takes no bytes: is its flow control holding the line?", errPort, b.line.Port)
	}
	return fmt.Errorf("%w: serial port %s is gone: %w: was it unplugged?", errPort, b.line.Port, err)
}

func (b *bus) silent(j *job, got []byte, other byte) error {
	switch {
	case len(got) > 0:
		return b.garbled(j, got)
	case other == j.unit:
		return fmt.Errorf("unit %d on %s: %w within %v but one to another request: is the timeout too short?", j.unit, b.line.Port, errSilent, j.timeout)
	case other != 0:
		return fmt.Errorf("unit %d on %s: %w within %v, but unit %d spoke: is there another master, or a timeout too short?", j.unit, b.line.Port, errSilent, j.timeout, other)
	}
	return fmt.Errorf("unit %d on %s: %w within %v: check the unit's number, the speed and parity, and whether A and B are swapped", j.unit, b.line.Port, errSilent, j.timeout)
}

func (b *bus) garbled(j *job, got []byte) error {
	reason := "it ends early"
	if _, whole, _ := findAnswer(got, j.unit, j.pdu); whole {
		reason = "its checksum is wrong"
	} else if got[0] != j.unit {
		reason = "it is noise"
	}
	return fmt.Errorf("unit %d on %s: %w: %s (%d bytes): check speed and parity, termination and ground", j.unit, b.line.Port, errGarbled, reason, len(got))
}
