package i2c

import (
	"context"
	"time"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices/bus"
)

// pool holds the busses in use.
type pool = bus.Pool[periph.BusCloser]

// newPool keeps a bus open when a chip does not answer.
func newPool(open func(name string) (periph.BusCloser, error)) *pool {
	return bus.NewPool(open, isNACK)
}

// conn is a device's way to its chip.
type conn struct {
	bus     *bus.Conn[periph.BusCloser]
	addr    Address
	timeout time.Duration
}

// connect gives a device its place on the bus; release takes it back.
func connect(p *pool, c *Common) (_ *conn, release func()) {
	b, release := p.Connect(canonicalBus(c.Bus))
	return &conn{bus: b, addr: c.Address, timeout: c.Timeout}, release
}

// tx writes w, then reads n bytes, as one transaction.
func (c *conn) tx(ctx context.Context, w []byte, n int) ([]byte, error) {
	r, err := c.bus.Do(ctx, c.timeout, func(line periph.BusCloser) ([]byte, error) {
		r := make([]byte, n) // its own: it may be filled when nobody waits any more
		err := line.Tx(uint16(c.addr), w, r)
		return r, err
	})
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil && err == ctx.Err():
		return nil, err
	}
	return nil, explain(c.bus.Name(), c.addr, err)
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
