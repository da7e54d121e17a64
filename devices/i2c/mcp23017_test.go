package i2c

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	periphgpio "periph.io/x/conn/v3/gpio"
	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/wamp"
)

// board is an expander with the gpio drivers upon it.
type board struct {
	bench
	sim   *simulation
	chips *gpio.Chips
	m     *mcp23017Model
}

func newBoard(t *testing.T) *board {
	b := &board{sim: newSimulation(), chips: gpio.NewChips(), m: newMCP23017Model()}
	b.sim.attach(0x20, b.m)
	p := newPool(func(string) (periph.BusCloser, error) { return b.sim, nil })
	b.bench = bench{t, append(gpio.Drivers(b.chips), mcp23017Driver(p, nil, b.chips))}
	return b
}

// with does something with the model.
func (b *board) with(f func(m *mcp23017Model)) {
	b.sim.mu.Lock()
	defer b.sim.mu.Unlock()
	f(b.m)
}

func (b *board) high(line int) (v bool) {
	b.with(func(m *mcp23017Model) { v = m.levels()>>line&1 == 1 })
	return v
}

func (b *board) input(pin string, change func(*gpio.InputParams)) devices.Device {
	return b.open("gpio-input", func(p any) {
		i := p.(*gpio.InputParams)
		i.Pin, i.Chip, i.Pull, i.ActiveLow = pin, "test", "up", true
		change(i)
	})
}

// The gpio drivers work on the expander's lines: levels, edges, a safe state
// before and after the expander runs.
func TestMCP23017Lines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		dev := b.open("mcp23017", func(p any) { p.(*MCP23017Params).Interval = 20 * time.Millisecond })
		pump := b.open("gpio-output", func(p any) {
			o := p.(*gpio.OutputParams)
			o.Pin, o.Chip, o.ActiveLow, o.Safe = "GPB3", "test", true, "off"
		})
		button := b.input("GPA2", func(*gpio.InputParams) {})
		if err := pump.Halt(); err != nil { // the host's first
			t.Fatal(err)
		}
		b.with(func(m *mcp23017Model) {
			if m.get(mcpIODIR) != 0xFFFF&^(1<<11) {
				t.Errorf("directions %#04x", m.get(mcpIODIR))
			}
		})
		if !b.high(11) {
			t.Error("the relay is on at start")
		}
		e, in, out := start(t, dev), start(t, button), start(t, pump)
		time.Sleep(100 * time.Millisecond)
		e.expect("ready")
		in.expect("ready level=false")
		out.expect("ready on=false")
		set := pump.Procedures()[0].Call
		for _, on := range []bool{true, false, true} {
			if v, err := set(t.Context(), wamp.List{on}, nil); err != nil || v != on || b.high(11) == on {
				t.Errorf("set %v: %v, %v, the line is high: %v", on, v, err, b.high(11))
			}
		}
		out.take()
		for _, pressed := range []bool{true, false} {
			b.with(func(m *mcp23017Model) { m.drive(2, !pressed) })
			time.Sleep(50 * time.Millisecond)
			in.expect(map[bool]string{true: "level=true", false: "level=false"}[pressed])
		}
		// A pulse that is over before it is read was captured by the chip.
		b.with(func(m *mcp23017Model) { m.drive(2, false); m.drive(2, true) })
		time.Sleep(50 * time.Millisecond)
		in.expect("level=true level=false")

		// A dip of the supply: all lines are inputs, until the chip is set up anew.
		b.with(func(m *mcp23017Model) { *m = *newMCP23017Model() })
		if err := <-e.result; err == nil || !strings.Contains(err.Error(), "lost its settings") {
			t.Errorf("have %v", err)
		}
		if err := <-in.result; err == nil || !strings.Contains(err.Error(), "device test:") {
			t.Errorf("the input: %v", err)
		}
		// The output fails with it. Nobody drives the line until the device's halt
		// does, which also finds the chip again.
		if err := <-out.result; err == nil || !strings.Contains(err.Error(), "GPB3 has failed") {
			t.Errorf("the output: %v", err)
		}
		b.with(func(m *mcp23017Model) {
			if m.get(mcpIODIR)&(1<<11) == 0 {
				t.Error("a chip that has failed drives the relay")
			}
		})
		if err := pump.Halt(); err != nil || !b.high(11) {
			t.Errorf("halted: %v, the relay is off: %v", err, b.high(11))
		}
		e = start(t, dev)
		e.expect("ready")
		if !b.high(11) {
			t.Error("the relay is on again")
		}
		out = start(t, pump)
		time.Sleep(50 * time.Millisecond)
		out.expect("ready on=false")
		in = start(t, button)
		time.Sleep(50 * time.Millisecond)
		in.expect("ready level=false")
		for _, r := range []*running{in, out, e} {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
		if err := pump.Halt(); err != nil || !b.high(11) {
			t.Errorf("halted: %v, the line is high: %v", err, b.high(11))
		}
	})
}

func TestMCP23017Debounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		e := start(t, b.open("mcp23017", func(p any) { p.(*MCP23017Params).Interval = 2 * time.Millisecond }))
		in := start(t, b.input("GPA0", func(p *gpio.InputParams) { p.Debounce = 20 * time.Millisecond }))
		time.Sleep(10 * time.Millisecond)
		in.expect("ready level=false")
		for i := range 11 {
			b.with(func(m *mcp23017Model) { m.drive(0, i%2 == 1) })
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond)
		in.expect("")
		time.Sleep(50 * time.Millisecond)
		in.expect("level=true")
		for _, r := range []*running{in, e} {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// With the interrupt's line a change is told at once, though the interval is
// long.
func TestMCP23017Interrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		low := make(chan bool, 16)
		b.m.irq = func(v bool) { low <- v }
		inta, err := b.chips.Open("GPIO22", "sim", gpio.LineConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := inta.Out(periphgpio.High); err != nil {
			t.Fatal(err)
		}
		driving := make(chan struct{})
		go func() {
			defer close(driving)
			for v := range low {
				inta.Out(periphgpio.Level(!v))
			}
		}()
		e := start(t, b.open("mcp23017", func(p any) {
			m := p.(*MCP23017Params)
			m.Interval, m.Interrupt, m.InterruptChip = time.Minute, "GPIO22", "sim"
		}))
		in := start(t, b.input("GPB7", func(*gpio.InputParams) {}))
		time.Sleep(time.Second)
		in.expect("ready level=false")
		for i, want := range []string{"level=true", "level=false", "level=true"} {
			b.with(func(m *mcp23017Model) { m.drive(15, i%2 == 1) })
			time.Sleep(time.Millisecond)
			in.expect(want)
		}
		for _, r := range []*running{in, e} {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
		b.with(func(m *mcp23017Model) { m.irq = nil })
		close(low)
		<-driving
	})
}

// What a line cannot do is said, and nothing is touched.
func TestMCP23017Refused(t *testing.T) {
	b := newBoard(t)
	b.open("mcp23017", func(any) {})
	for _, name := range []string{"", "0", "GPA8", "GPC1", "gpa1", "GPIO3", "GPA10"} {
		if _, err := b.chips.Open(name, "test", gpio.LineConfig{}); err == nil {
			t.Errorf("there is a line %q", name)
		}
	}
	if _, err := b.chips.Open("GPA1", "test", gpio.LineConfig{Drive: gpio.OpenSource}); err == nil {
		t.Error("open-source")
	}
	l, err := b.chips.Open("GPA1", "test", gpio.LineConfig{Drive: gpio.OpenDrain})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.In(periphgpio.PullDown, periphgpio.NoEdge); err == nil {
		t.Error("a pull-down")
	}
	if err := l.PWM(periphgpio.DutyHalf, 50); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("PWM: %v", err)
	}
	b.with(func(m *mcp23017Model) {
		if m.mem != newMCP23017Model().mem {
			t.Error("the chip was touched")
		}
	})
	// Open-drain drives low, and lets go for high.
	for _, level := range []periphgpio.Level{periphgpio.Low, periphgpio.High} {
		if err := l.Out(level); err != nil {
			t.Fatal(err)
		}
		b.with(func(m *mcp23017Model) {
			if input := m.get(mcpIODIR)&2 != 0; input != bool(level) || m.get(mcpOLAT) != 0 {
				t.Errorf("%v: directions %#04x, latch %#04x", level, m.get(mcpIODIR), m.get(mcpOLAT))
			}
		})
	}
}

// A line keeps the level that another process has given it.
func TestMCP23017Keep(t *testing.T) {
	b := newBoard(t)
	b.with(func(m *mcp23017Model) { m.put(mcpIODIR, 0xFFFE); m.put(mcpOLAT, 1) })
	b.open("mcp23017", func(any) {})
	l, err := b.chips.Open("GPA0", "test", gpio.LineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := l.(interface {
		Keep() (periphgpio.Level, error)
	}).Keep()
	if err != nil || v != periphgpio.High || !b.high(0) {
		t.Errorf("have %v, %v", v, err)
	}
}

// A chip that is gone when its outputs are halted comes back with them in their
// safe state, and never in the one that they had.
func TestMCP23017ComesBackSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		dev := b.open("mcp23017", func(p any) { p.(*MCP23017Params).Interval = 20 * time.Millisecond })
		open := func(pin string) devices.Device {
			return b.open("gpio-output", func(p any) { o := p.(*gpio.OutputParams); o.Pin, o.Chip = pin, "test" })
		}
		pump, heater := open("GPA0"), open("GPA1")
		e, first, second := start(t, dev), start(t, pump), start(t, heater)
		time.Sleep(50 * time.Millisecond)
		for _, d := range []devices.Device{pump, heater} {
			if v, err := d.Procedures()[0].Call(t.Context(), wamp.List{true}, nil); err != nil || v != true {
				t.Fatalf("on: %v, %v", v, err)
			}
		}
		b.sim.attach(0x20, nil) // the plug of the bus
		for what, r := range map[string]*running{"expander": e, "pump": first, "heater": second} {
			if err := <-r.result; err == nil {
				t.Errorf("the %s does not notice it", what)
			}
		}
		if err := pump.Halt(); err == nil {
			t.Error("halted without the chip")
		}
		if !b.high(0) || !b.high(1) {
			t.Error("a chip that kept its supply has let go by itself")
		}
		b.sim.attach(0x20, b.m)
		e = start(t, dev)
		time.Sleep(50 * time.Millisecond)
		b.with(func(m *mcp23017Model) {
			// The pump was told what is safe, the heater has not been yet.
			if dir, latch := m.get(mcpIODIR), m.get(mcpOLAT); dir&0b11 != 0b10 || latch&1 != 0 {
				t.Errorf("directions %#04x, latch %#04x", dir, latch)
			}
		})
		if err := heater.Halt(); err != nil || b.high(0) || b.high(1) {
			t.Errorf("halted: %v, levels %v %v", err, b.high(0), b.high(1))
		}
		if err := e.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestMCP23017Claims(t *testing.T) {
	p := &MCP23017Params{Common: newCommon(0x20), Interrupt: "P1-15"}
	other := &gpio.InputParams{Pin: "GPIO22"}
	if found := devices.CheckClaims([]devices.Entry{{Params: p}, {Params: other}}); len(found) != 1 || found[0].Claim != "gpio:GPIO22" {
		t.Errorf("have %+v", found)
	}
	var said []string
	(&MCP23017Params{Common: newCommon(0x28), Interrupt: "P1-1"}).Validate(func(path, _, _ string) { said = append(said, path) })
	if strings.Join(said, " ") != "address interrupt" {
		t.Errorf("have %v", said)
	}
	if _, err := newBoard(t).chips.Open("GPA0", "nobody", gpio.LineConfig{}); err == nil {
		t.Error("a chip that is not there")
	}
}
