package i2c

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	periphgpio "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
	"github.com/postern-iot/postern/devices/gpio"
)

// References are to Microchip's data sheet DS20001952, MCP23017.

// MCP23017Params are the parameters of a "mcp23017".
type MCP23017Params struct {
	Common        `yaml:",inline"`
	Interrupt     string `yaml:"interrupt" doc:"the GPIO line of the machine that the chip's INTA or INTB is wired to, such as GPIO22; empty for none: then a change is seen at the next interval only"`
	InterruptChip string `yaml:"interrupt_chip" doc:"the chip of that line, where its name does not say it"`
}

// Validate implements devices.Validator.
func (p *MCP23017Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x20, 0x27)
	if p.Interrupt == "" {
		return
	}
	line := p.interruptLine()
	line.Validate(func(path, problem, hint string) {
		if path == "pin" {
			report("interrupt", problem, hint)
		}
	})
}

func (p *MCP23017Params) interruptLine() *gpio.InputParams {
	return &gpio.InputParams{Pin: p.Interrupt, Chip: p.InterruptChip}
}

// Claims implements devices.Claimer.
func (p *MCP23017Params) Claims() []string {
	all := p.Common.Claims()
	if p.Interrupt != "" {
		all = append(all, p.interruptLine().Claims()...)
	}
	return all
}

// Simulate implements devices.Simulator: without a chip nobody drives the
// interrupt's line.
func (p *MCP23017Params) Simulate() {
	p.Common.Simulate()
	p.Interrupt = ""
}

func mcp23017Driver(p *pool, sim *simulation, chips *gpio.Chips) devices.Driver {
	return devices.Driver{
		Type:    "mcp23017",
		Summary: "A Microchip MCP23017: sixteen further GPIO lines.",
		Doc: "VDD to 3.3 V (pin 1), VSS to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5), RESET to 3.3 V. The pins A0 to A2 add 1, 2 and 4 to the address 0x20.\n\n" +
			"Its lines are used by the gpio types: `chip` is the name of this device, `pin` is GPA0 to GPA7 or GPB0 to GPB7. GPA7 and GPB7 are outputs only on newer chips. " +
			"Inputs can have a pull-up, no pull-down; outputs can be push-pull or open-drain. Debouncing is the gateway's work.\n\n" +
			"Wire INTA (or INTB, the device joins them) to a line of the Raspberry Pi and name it in `interrupt`: changes are then seen at once, with the kernel's timestamp, " +
			"and a pulse that is over before it was read is seen too. Without, they are seen every `interval`, and shorter ones not at all; counters want the interrupt.\n\n" +
			"A chip that does not answer, or lost its supply, has failed, and with it the devices on its lines. Its lines are let go until these drive them again: " +
			"an output comes back in its safe state, then starts as it is configured to.",
		Example: "name: expander\ntype: mcp23017\naddress: 0x20\ninterval: 50ms\ninterrupt: GPIO22\n",
		NewParams: func() any {
			c := newCommon(0x20)
			c.Interval = 50 * time.Millisecond
			return &MCP23017Params{Common: c}
		},
		Open: func(env devices.Env, params any) (devices.Device, error) {
			m := params.(*MCP23017Params)
			if m.Bus == simBus {
				if sim == nil {
					return nil, errors.New("there is no simulation of this chip")
				}
				sim.attach(m.Address, newMCP23017Model())
			}
			e := &expander{params: *m, pool: p, chips: chips, name: env.Name, broken: make(chan struct{})}
			chips.Add(env.Name, e.line)
			return e, nil
		},
	}
}

// Registers with IOCON.BANK = 0, table "Control register summary"; those of
// port B follow those of port A.
const (
	mcpIODIR   = 0x00
	mcpGPINTEN = 0x04
	mcpIOCON   = 0x0A
	mcpGPPU    = 0x0C
	mcpINTF    = 0x0E
	mcpINTCAP  = 0x10
	mcpGPIO    = 0x12
	mcpOLAT    = 0x14
	mcpCount   = 0x16

	mcpMirror = 0x40 // IOCON: INTA and INTB are one; INTPOL = 0: active low
)

// expander is a device of type "mcp23017". Its lines belong to other devices,
// which may use them before Run and after it, as their Halt does.
type expander struct {
	params MCP23017Params
	pool   *pool
	chips  *gpio.Chips
	name   string

	mu      sync.Mutex // across the bus's transactions
	known   bool       // what follows is what the chip has
	dir     uint16     // 1 is an input
	pull    uint16
	latch   uint16
	notify  uint16 // lines whose changes are wanted
	levels  uint16 // as read last
	lines   []*expanderLine
	failure error // why the last Run ended, until the next one
	// stale says that the chip failed and has not been set up since: what is
	// wanted of it is only remembered. broken is closed with every failure.
	stale  bool
	broken chan struct{}
}

// Readings implements devices.Device.
func (e *expander) Readings() []devices.Reading { return nil }

// Procedures implements devices.Device.
func (e *expander) Procedures() []devices.Procedure { return nil }

// Halt implements devices.Device: the outputs are the devices' that use them,
// and it is those that know what is safe.
func (e *expander) Halt() error { return nil }

// Run implements devices.Device.
func (e *expander) Run(ctx context.Context, out devices.Outlet) (err error) {
	defer func() {
		if ctx.Err() != nil {
			err = nil
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.fail(err)
	}()
	c, release := connect(e.pool, &e.params.Common)
	defer release()
	e.mu.Lock()
	e.failure = nil
	err = e.setUp(ctx, c)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	waiter, closeLine, err := e.openInterrupt()
	if err != nil {
		return err
	}
	defer closeLine()
	out.Ready()
	return e.serve(ctx, c, waiter)
}

// fail lets go of all lines: nobody knows what the chip drives now, and those
// who drive them know what is safe. The caller has mu.
func (e *expander) fail(err error) {
	e.failure = err
	e.dir, e.stale = 0xFFFF, e.known
	close(e.broken)
	e.broken = make(chan struct{})
	for _, l := range e.lines {
		l.wakeUp()
	}
}

// serve reads the chip after each interrupt, and in intervals.
func (e *expander) serve(ctx context.Context, c *conn, waiter gpio.EdgeWaiter) error {
	var edges [16]gpio.Event
	for at := time.Now(); ; at = time.Now() {
		e.mu.Lock()
		err := e.sample(ctx, c, at)
		e.mu.Unlock()
		if err != nil {
			return err
		}
		next := time.Now().Add(e.params.Interval)
		if waiter == nil {
			if err := bus.Pause(ctx, e.params.Interval); err != nil {
				return err
			}
			continue
		}
		if err := e.await(ctx, waiter, next, edges[:]); err != nil {
			return err
		}
	}
}

// await waits for the interrupt, or for the next interval.
func (e *expander) await(ctx context.Context, waiter gpio.EdgeWaiter, next time.Time, edges []gpio.Event) error {
	const look = 100 * time.Millisecond // not every line can be woken up
	for now := time.Now(); now.Before(next); now = time.Now() {
		n, err := waiter.WaitEdges(min2(next, now.Add(look)), edges)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the interrupt's line: %w", err)
		}
	}
	return nil
}

func min2(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// openInterrupt sets the interrupt's line up; the waiter is nil without one.
func (e *expander) openInterrupt() (gpio.EdgeWaiter, func(), error) {
	if e.params.Interrupt == "" {
		return nil, func() {}, nil
	}
	pin, err := e.chips.Open(e.params.Interrupt, e.params.InterruptChip, gpio.LineConfig{Consumer: "postern:" + e.name})
	if err != nil {
		return nil, nil, err
	}
	closeLine := func() {
		if c, ok := pin.(interface{ Close() error }); ok {
			c.Close()
		}
	}
	if err := pin.In(periphgpio.PullUp, periphgpio.FallingEdge); err != nil {
		closeLine()
		return nil, nil, err
	}
	waiter, ok := pin.(gpio.EdgeWaiter)
	if !ok {
		closeLine()
		return nil, nil, fmt.Errorf("the line %s cannot tell of edges", e.params.Interrupt)
	}
	return waiter, closeLine, nil
}

// setUp gives the chip its settings, and its lines what is wanted of them, or
// takes over what the chip has when this process has not used it yet. The
// caller has mu.
func (e *expander) setUp(ctx context.Context, c *conn) error {
	if !e.known {
		r, err := c.read(ctx, 0, mcpCount)
		if err != nil {
			return err
		}
		e.dir, e.pull, e.latch = both(r, mcpIODIR), both(r, mcpGPPU), both(r, mcpOLAT)
	}
	// Interrupts on any change (INTCON 0), levels as they are (IPOL 0). The
	// latch comes before the direction: an output shows its level at once.
	for _, w := range []struct {
		reg byte
		v   uint16
	}{{mcpIOCON, mcpMirror<<8 | mcpMirror}, {0x02, 0}, {0x08, 0}, {mcpGPPU, e.pull}, {mcpOLAT, e.latch}, {mcpIODIR, e.dir}, {mcpGPINTEN, e.notify}} {
		if err := e.put(ctx, c, w.reg, w.v); err != nil {
			return err
		}
	}
	r, err := c.read(ctx, 0, mcpCount)
	if err != nil {
		return err
	}
	if !e.keeps(r) {
		return fmt.Errorf("the chip at address %v of I2C bus %s does not keep its settings: it is not an MCP23017", c.addr, c.bus.Name())
	}
	if !e.known {
		e.levels = both(r, mcpGPIO)
	}
	e.known, e.stale = true, false
	return nil
}

// both is a register of both ports, port A in the low byte.
func both(r []byte, reg int) uint16 { return uint16(r[reg]) | uint16(r[reg+1])<<8 }

func (e *expander) put(ctx context.Context, c *conn, reg byte, v uint16) error {
	return c.write(ctx, reg, byte(v), byte(v>>8))
}

// keeps tells whether the chip has the settings that it should.
func (e *expander) keeps(r []byte) bool {
	return r[mcpIOCON] == mcpMirror && both(r, mcpIODIR) == e.dir && both(r, mcpGPPU) == e.pull && both(r, mcpOLAT) == e.latch && both(r, mcpGPINTEN) == e.notify
}

// sample reads all registers in one transaction, which ends the interrupt, and
// tells the lines what has changed: as it was at the interrupt, and as it is
// now. The caller has mu.
func (e *expander) sample(ctx context.Context, c *conn, at time.Time) error {
	r, err := c.read(ctx, 0, mcpCount)
	if err != nil {
		return err
	}
	if !e.keeps(r) {
		return errors.New("the chip has lost its settings: its supply dips, its RESET is pulled low, or another program uses it")
	}
	flags, captured, now := both(r, mcpINTF), both(r, mcpINTCAP), both(r, mcpGPIO)
	e.change(e.levels&^flags|captured&flags, at)
	e.change(now, at)
	return nil
}

func (e *expander) change(levels uint16, at time.Time) {
	changed := e.levels ^ levels
	e.levels = levels
	for _, l := range e.lines {
		if changed&l.mask != 0 {
			l.take(levels&l.mask != 0, at)
		}
	}
}

// do uses the chip for a line, whether Run serves or not.
func (e *expander) do(f func(ctx context.Context, c *conn) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	defer cancel()
	c, release := connect(e.pool, &e.params.Common)
	defer release()
	if !e.known {
		if err := e.setUp(ctx, c); err != nil {
			return fmt.Errorf("device %s: %w", e.name, err)
		}
	}
	err := f(ctx, c)
	if err == nil && e.stale {
		err = e.setUp(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", e.name, err)
	}
	return nil
}
