package serial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

const (
	// maxFailures is how many requests in a row may stay without a good answer
	// before the unit is given up, and tried anew by the host's back-off.
	maxFailures = 3
	// haltWait is how long writing the safe values may take.
	haltWait = 900 * time.Millisecond
)

// Modbus is the driver "modbus-rtu". Its devices share the ports.
func Modbus() devices.Driver {
	ports := newPool(openPort)
	return devices.Driver{
		Type:    "modbus-rtu",
		Summary: "A Modbus RTU unit on a serial line: its coils, inputs and registers as readings and as procedures that write.",
		Doc: "Energy meters, inverters, drives, PLCs, relay boards and remote I/O. **Each unit is a device of its own**, with its own state, readings and rights; " +
			"units on one line name the same port and the same settings of it (with YAML, an anchor says them once). One worker for each port asks them in turn. " +
			"A unit that is silent holds up the others for no longer than its timeout, and after three failures is tried more and more rarely.\n\n" +
			"**Wiring** (RS-485): A to A, B to B, and ground to ground; 120 Ω between A and B at both ends of the cable and nowhere else. Makers do not agree which is A: " +
			"if nothing answers, swap them. A USB adapter switches its direction itself; a transceiver on the board's own port may need `rs485`.\n\n" +
			"**Registers** are read in groups: neighbours, and those not further apart than `max_gap`, with one request. Addresses are those of the request, from 0: a manual's 40001 is " +
			"address 0 of `holding`. The procedure `set_<name>` writes one whose `access` is `read-write` or `write`, between `min` and `max`; with `verify` it reads it back. " +
			"What has a `safe` value gets it at start, when the gateway stops, and when `control` says that nobody commands it any more. " +
			"What the unit refuses is `postern.error.modbus_exception` with the keywords `code`, `function` and `unit`; of a reading it makes a fault.\n\n" +
			"Answers carry no number, so one that comes too late could be taken for that to another request to the same unit: after one without an answer the unit is not read for another `timeout`. " +
			"Choose it longer than the unit ever takes.\n\n" + simDoc + " Its units hold the registers that the configuration names, and keep what is written.",
		Example: "name: meter\ntype: modbus-rtu\nport: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0\nbaud: 19200\nparity: even\nunit: 1\ninterval: 1s\nregisters:\n" +
			"  - {name: voltage, table: input, address: 0, type: f32, unit: V}\n" +
			"  - {name: energy, table: input, address: 72, type: u32, order: CDAB, scale: 0.01, unit: kW.h, interval: 1m}\n" +
			"  - {name: limit, address: 16, type: i16, scale: 0.1, unit: A, access: read-write, min: 0, max: 32, verify: true}\n" +
			"  - {name: contactor, table: coil, address: 3, access: read-write, safe: 0}\n",
		NewParams:  func() any { return newModbusParams() },
		Procedures: []devices.Procedure{readProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			m := params.(*ModbusParams)
			if m.Port == simPort { // each has a line of its own
				sim := newSlave()
				sim.attach(m)
				return newUnit(m, newPool(func(l *Line) (port, error) { return l.open(sim.serve) })), nil
			}
			return newUnit(m, ports), nil
		},
	}
}

var readProcedure = devices.Procedure{
	Name: "read", Doc: "Reads coils, inputs or registers as they are, for setting up.",
	Args: []devices.Arg{
		{Name: "table", Type: "string", Doc: "coil, discrete, holding or input"},
		{Name: "address", Type: "int", Doc: "the first address, from 0"},
		{Name: "count", Type: "int", Doc: "how many, at most 125; 1 by default", Optional: true},
	},
	Returns: "dict with values: a list of numbers, 0 or 1 for coils and discrete inputs",
}

// modbus is a device of type "modbus-rtu".
type modbus struct {
	params *ModbusParams
	pool   *pool

	mu     sync.Mutex
	conn   *conn // nil while Run does not serve
	out    devices.Outlet
	budget budget
}

func newModbus(p *ModbusParams, pool *pool) *modbus {
	return &modbus{params: p, pool: pool, budget: budget{rate: p.WriteRate}}
}

// actuator is a unit with safe values.
type actuator struct{ *modbus }

// Release implements devices.Releaser. A command that is on its way meanwhile
// is undone by the host.
func (a actuator) Release() error { return a.Halt() }

func newUnit(p *ModbusParams, pool *pool) devices.Device {
	m := newModbus(p, pool)
	if len(m.safe()) > 0 {
		return actuator{m}
	}
	return m
}

// safe are the registers with a safe value.
func (m *modbus) safe() []*ModbusRegister {
	var all []*ModbusRegister
	for i := range m.params.Registers {
		if r := &m.params.Registers[i]; r.Safe != nil && r.writes() {
			all = append(all, r)
		}
	}
	return all
}

// Readings implements devices.Device.
func (m *modbus) Readings() []devices.Reading {
	var all []devices.Reading
	for i := range m.params.Registers {
		r := &m.params.Registers[i]
		if !r.reads() {
			continue
		}
		doc := r.Doc
		if doc == "" {
			doc = fmt.Sprintf("%s %d of unit %d", r.Table, r.Address, m.params.Unit)
		}
		all = append(all, devices.Reading{Name: r.Name, Type: r.kind(), Unit: r.Unit, Doc: doc})
	}
	return all
}

// Procedures implements devices.Device.
func (m *modbus) Procedures() []devices.Procedure {
	read := readProcedure
	read.Call = m.read
	all := []devices.Procedure{read}
	for i := range m.params.Registers {
		r := &m.params.Registers[i]
		if !r.writes() {
			continue
		}
		doc := r.Doc
		if doc == "" {
			doc = fmt.Sprintf("%s %d of unit %d", r.Table, r.Address, m.params.Unit)
		}
		all = append(all, devices.Procedure{
			Name: "set_" + r.Name, Doc: "Writes " + doc + ".",
			Args:    []devices.Arg{{Name: "value", Type: r.kind(), Doc: r.limits()}},
			Returns: "the value as the unit has it",
			Call: func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
				return m.set(ctx, r, args[0])
			},
		})
	}
	return all
}

// limits says what can be written.
func (r *ModbusRegister) limits() string {
	doc := ""
	if r.Unit != "" {
		doc = "in " + r.Unit
	}
	if r.Min != nil {
		doc += fmt.Sprintf(" from %v", *r.Min)
	}
	if r.Max != nil {
		doc += fmt.Sprintf(" to %v", *r.Max)
	}
	return doc
}

// Halt implements devices.Device: it writes the safe values.
func (m *modbus) Halt() error {
	all := m.safe()
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), haltWait)
	defer cancel()
	c, release := m.pool.connect(m.params)
	defer release()
	var errs []error
	for _, r := range all {
		words, err := r.encode(r.number(*r.Safe))
		if err == nil {
			err = c.write(ctx, r, words)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("safe value of %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Run implements devices.Device.
func (m *modbus) Run(ctx context.Context, out devices.Outlet) error {
	c, release := m.pool.connect(m.params)
	defer release()
	m.serve(c, out)
	defer m.serve(nil, nil)
	p := poller{modbus: m, conn: c, out: out, groups: plan(m.params)}
	if len(p.groups) == 0 { // there is nothing to read: whether it is there nobody asks
		out.Ready()
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		next := slices.MinFunc(p.groups, func(a, b *group) int { return a.due.Compare(b.due) })
		if pause(ctx, time.Until(next.due)) != nil {
			break
		}
		if err := p.poll(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

func (m *modbus) serve(c *conn, out devices.Outlet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn, m.out = c, out
}

// poller is a run's reading of the registers.
type poller struct {
	*modbus
	conn     *conn
	out      devices.Outlet
	groups   []*group
	failures int    // in a row
	said     string // why it is degraded, "" when it is not
	ready    bool
}

// poll reads one group and publishes it. An error ends the run.
func (p *poller) poll(ctx context.Context, g *group) error {
	now := time.Now()
	if g.due = g.due.Add(g.interval); g.due.Before(now) {
		g.due = now.Add(g.interval)
	}
	data, err := p.conn.ask(ctx, readPDU(g.function, g.start, g.count))
	if ctx.Err() != nil {
		return nil
	}
	var refused *exception
	switch {
	case err == nil:
		p.failures = 0
		p.publish(g, data)
	case errors.As(err, &refused):
		p.failures = 0
		// One that is not there makes it refuse its neighbours.
		if len(g.members) > 1 && (refused.code == 2 || refused.code == 3) {
			i := slices.Index(p.groups, g)
			p.groups = slices.Replace(p.groups, i, i+1, g.split()...)
			return nil
		}
		p.fault(g, err)
	case errors.Is(err, errPort):
		return err
	default:
		if p.failures++; !p.ready || p.failures >= maxFailures {
			return err
		}
		p.fault(g, err)
	}
	g.err = err
	p.judge()
	return nil
}

// judge says how the device is, when that has changed.
func (p *poller) judge() {
	said := ""
	for _, g := range p.groups {
		if g.err != nil {
			said = g.err.Error()
			break
		}
	}
	switch {
	case said == "" && (!p.ready || p.said != ""):
		p.out.Ready()
	case said != p.said:
		p.out.Degraded(errors.New(said))
	}
	p.said, p.ready = said, true
}

func (p *poller) fault(g *group, err error) {
	for _, r := range g.members {
		p.out.Fault(r.Name, err)
	}
}

func (p *poller) publish(g *group, data []byte) {
	if !p.ready { // before the first value
		p.out.Ready()
		p.ready = true
	}
	now := time.Now()
	for _, r := range g.members {
		v, err := g.value(r, data)
		if err != nil {
			p.out.Fault(r.Name, err)
			continue
		}
		p.out.Emit(r.Name, v, devices.Sample{Time: now})
	}
}

// write writes words to a register, and reads them back if so configured.
func (c *conn) write(ctx context.Context, r *ModbusRegister, words []uint16) error {
	if _, err := c.ask(ctx, writePDU(r.coil(), r.Address, words, r.Multiple)); err != nil {
		return err
	}
	if !r.Verify {
		return nil
	}
	data, err := c.ask(ctx, readPDU(r.readFunction(), r.Address, r.words()))
	if err != nil {
		return fmt.Errorf("read back after writing: %w", err)
	}
	have := toWords(data)
	if r.coil() {
		have = []uint16{uint16(data[0] & 1)}
	}
	if !slices.Equal(have, words) {
		return wamp.Errorf(wamp.ErrUnavailable, "unit %d has not taken what was written: it has %v instead of %v", c.params.Unit, have, words)
	}
	return nil
}

// serving returns what a procedure needs.
func (m *modbus) serving() (*conn, devices.Outlet, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		return nil, nil, wamp.Errorf(wamp.ErrUnavailable, "the serial port is not open")
	}
	return m.conn, m.out, nil
}

// set writes a value and returns what the unit then has.
func (m *modbus) set(ctx context.Context, r *ModbusRegister, v any) (any, error) {
	words, err := r.encode(v)
	if err != nil {
		return nil, err
	}
	c, out, err := m.serving()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	free := m.budget.take(time.Now())
	m.mu.Unlock()
	if !free {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "more than %d writes in a second", m.params.WriteRate)
	}
	if err := c.write(ctx, r, words); err != nil {
		return nil, wireError(err)
	}
	has, err := r.written(words)
	if err != nil {
		return nil, err
	}
	if r.Verify {
		out.Emit(r.Name, has, devices.Sample{Time: time.Now()})
	}
	return has, nil
}

// written is the value of words that were written.
func (r *ModbusRegister) written(words []uint16) (any, error) {
	if r.coil() {
		return words[0] == 1, nil
	}
	return r.decode(toBytes(words))
}

// read answers the procedure of this name.
func (m *modbus) read(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
	table, _ := args[0].(string)
	address, _ := args[1].(int64)
	count, given := args[2].(int64)
	if !given {
		count = 1
	}
	function := readFunctions[table]
	switch {
	case function == 0:
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "table must be coil, discrete, holding or input")
	case address < 0 || address > 0xFFFF:
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "address must be from 0 to 65535, not %d", address)
	case count < 1 || count > maxReadRegisters || address+count > 1<<16:
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "count must be from 1 to %d, and the last address 65535", maxReadRegisters)
	}
	c, _, err := m.serving()
	if err != nil {
		return nil, err
	}
	data, err := c.ask(ctx, readPDU(function, int(address), int(count)))
	if err != nil {
		return nil, wireError(err)
	}
	values := make(wamp.List, count)
	for i := range values {
		if function <= fcReadDiscreteInputs {
			values[i] = int64(data[i/8] >> (i % 8) & 1)
		} else {
			values[i] = int64(binary.BigEndian.Uint16(data[2*i:]))
		}
	}
	return wamp.Dict{"values": values}, nil
}
