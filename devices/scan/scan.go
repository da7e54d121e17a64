// Package scan finds the hardware that a machine has, and says how it would be
// written in a configuration. It changes nothing: lines are not requested, I2C
// addresses are asked as i2cdetect does, and nothing is sent to SPI, 1-wire,
// serial ports and PWM. It has no goroutines.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/i2c"
	"github.com/postern-iot/postern/devices/onewire"
	"github.com/postern-iot/postern/devices/pwm"
	"github.com/postern-iot/postern/devices/serial"
	"github.com/postern-iot/postern/devices/spi"
)

// Machine is where to look.
type Machine struct {
	// Root is /, or the folder that stands for it.
	Root string
	// Chips reads the GPIO chips, and Probe asks the addresses of the I2C bus
	// with a path. New has those of the kernel.
	Chips func() ([]gpio.Chip, []error)
	Probe func(ctx context.Context, path string) ([]i2c.Answer, error)
}

// New is the machine that this runs on.
func New() Machine {
	return Machine{Root: "/", Chips: func() ([]gpio.Chip, []error) { return gpio.Scan("/dev") }, Probe: i2c.Probe}
}

// Report is what there is. Every YAML is a device to paste under devices, list.
type Report struct {
	GPIO    []GPIO    `json:"gpio"`
	I2C     []I2C     `json:"i2c"`
	SPI     []SPI     `json:"spi"`
	OneWire []OneWire `json:"onewire"`
	Serial  []Serial  `json:"serial"`
	PWM     []PWM     `json:"pwm"`
	// Problems are what could not be looked at, and what to do about it.
	Problems []string `json:"problems,omitempty"`
}

// GPIO is a chip.
type GPIO struct {
	Path  string `json:"path"`
	Label string `json:"label"`
	Lines []Line `json:"lines"`
	YAML  string `json:"yaml,omitempty"`
}

// Line is a line of a chip.
type Line struct {
	Offset    int    `json:"offset"`
	Name      string `json:"name,omitempty"`
	Pin       string `json:"pin,omitempty"` // on the 40-pin header: "P1-11"
	Used      bool   `json:"used"`
	Consumer  string `json:"consumer,omitempty"`
	Direction string `json:"direction"` // "in" or "out"
}

// I2C is a bus. It was not asked when Skipped says why.
type I2C struct {
	Path    string    `json:"path"`
	Adapter string    `json:"adapter"`
	Skipped string    `json:"skipped,omitempty"`
	Found   []Address `json:"found"`
}

// Address is one at which something answers, or that a driver of the kernel
// has.
type Address struct {
	Address string          `json:"address"`
	Kernel  bool            `json:"kernel"`
	MayBe   []i2c.Candidate `json:"may_be"`
	YAML    string          `json:"yaml,omitempty"`
}

// SPI is a port.
type SPI struct {
	Path string `json:"path"`
	YAML string `json:"yaml"`
}

// OneWire is a bus.
type OneWire struct {
	onewire.Bus
	YAML string `json:"yaml,omitempty"`
}

// Serial is a port.
type Serial struct {
	serial.Port
	YAML string `json:"yaml"`
}

// PWM is a chip.
type PWM struct {
	pwm.Chip
	YAML string `json:"yaml,omitempty"`
}

// Options choose what is looked at.
type Options struct {
	// Busses are I2C busses to ask although they look like the machine's own,
	// by their device or a part of their adapter's name.
	Busses []string
	// NoProbe leaves out asking the addresses of any bus.
	NoProbe bool
}

// Scan looks at everything. The error is of options that name no bus.
func (m Machine) Scan(ctx context.Context, o Options) (*Report, error) {
	r := &Report{GPIO: []GPIO{}, I2C: []I2C{}, SPI: []SPI{}, OneWire: []OneWire{}, Serial: []Serial{}, PWM: []PWM{}}
	m.gpio(r)
	if err := m.i2c(ctx, r, o); err != nil {
		return nil, err
	}
	for i, p := range spi.Ports(m.Root) {
		y := fmt.Sprintf("- name: adc%s\n  type: mcp3008\n  port: %s\n  channels:\n    - {name: input_0, input: ch0}\n", again(i), p)
		r.SPI = append(r.SPI, SPI{Path: p, YAML: y})
	}
	for i, b := range onewire.Busses(m.Root) {
		y := ""
		if len(b.Sensors) > 0 {
			y = fmt.Sprintf("- name: thermometers%s\n  type: ds18b20\n  bus: %s\n  sensors:\n", again(i), b.Name)
		}
		for n, id := range b.Sensors {
			y += fmt.Sprintf("    - {name: sensor_%d, id: %s}\n", n+1, id)
		}
		r.OneWire = append(r.OneWire, OneWire{b, y})
	}
	for i, p := range serial.Ports(m.Root) {
		y := fmt.Sprintf("- name: serial_%d\n  type: serial-lines\n  port: %s\n  baud: 9600\n", i+1, strconv.Quote(p.Name()))
		r.Serial = append(r.Serial, Serial{p, y})
	}
	for i, c := range pwm.Chips(m.Root) {
		chip := c.Device
		if chip == "" {
			chip = c.Name
		}
		r.PWM = append(r.PWM, PWM{c, fmt.Sprintf("- name: lamp%s\n  type: pwm\n  chip: %s\n  channel: 0\n", again(i), strconv.Quote(chip))})
	}
	return r, nil
}

// again keeps names apart: nothing for the first, then _2, _3.
func again(i int) string {
	if i == 0 {
		return ""
	}
	return "_" + strconv.Itoa(i+1)
}

func (m Machine) gpio(r *Report) {
	chips, failed := m.Chips()
	for _, err := range failed {
		r.Problems = append(r.Problems, err.Error())
	}
	for i, c := range chips {
		g := GPIO{Path: c.Path, Label: c.Label, Lines: make([]Line, len(c.Lines))}
		for n, l := range c.Lines {
			g.Lines[n] = Line{Offset: n, Name: l.Name, Used: l.Used, Consumer: l.Consumer, Direction: "in"}
			if l.Output {
				g.Lines[n].Direction = "out"
			}
			if c.Header() {
				g.Lines[n].Pin = gpio.HeaderPin("GPIO" + strconv.Itoa(n))
			}
		}
		g.YAML = suggestLine(&c, g.Lines, again(i))
		r.GPIO = append(r.GPIO, g)
	}
}

// suggestLine is an input on a line that is free: one of a header that has no
// second purpose, else the first.
func suggestLine(c *gpio.Chip, lines []Line, again string) string {
	if c.Header() {
		for _, n := range []int{17, 27, 22, 23, 24, 25, 5, 6} {
			if n < len(lines) && !lines[n].Used {
				return fmt.Sprintf("- name: button%s\n  type: gpio-input\n  pin: GPIO%d\n  pull: up\n  active_low: true\n", again, n)
			}
		}
	}
	for _, l := range lines {
		if !l.Used {
			return fmt.Sprintf("- name: button%s\n  type: gpio-input\n  chip: %s\n  pin: %q\n", again, strconv.Quote(c.Label), strconv.Itoa(l.Offset))
		}
	}
	return ""
}

func (m Machine) i2c(ctx context.Context, r *Report, o Options) error {
	asked := map[string]bool{}
	for _, name := range o.Busses {
		b, err := i2c.FindBus(m.Root, name)
		if err != nil {
			return err
		}
		asked[b.Path] = true
	}
	for _, b := range i2c.Busses(m.Root) {
		bus := I2C{Path: b.Path, Adapter: b.Adapter, Found: []Address{}}
		switch {
		case o.NoProbe:
			bus.Skipped = "not asked"
		case b.Foreign() && !asked[b.Path]:
			bus.Skipped = "not asked: it seems to lead to parts of the machine itself; --bus " + b.Path + " asks it all the same"
		default:
			answers, err := m.Probe(ctx, b.Node(m.Root))
			if err != nil {
				bus.Skipped = explain(&b, err)
				r.Problems = append(r.Problems, bus.Skipped)
			}
			for _, a := range answers {
				bus.Found = append(bus.Found, found(&b, a))
			}
		}
		r.I2C = append(r.I2C, bus)
	}
	return nil
}

func found(b *i2c.Bus, a i2c.Answer) Address {
	f := Address{Address: a.Address.String(), Kernel: a.Kernel, MayBe: i2c.Candidates(a.Address)}
	if a.Kernel {
		return f
	}
	for _, c := range f.MayBe {
		if c.Type != "" {
			f.YAML = fmt.Sprintf("- name: %s_%s\n  type: %s\n  bus: %s\n  address: %v\n", c.Type, strings.TrimPrefix(f.Address, "0x"), c.Type, b.Path, f.Address)
			return f
		}
	}
	f.YAML = fmt.Sprintf("- name: chip_%s\n  type: i2c-registers\n  bus: %s\n  address: %v\n  registers:\n    - {name: value, register: 0x00, type: u8}\n",
		strings.TrimPrefix(f.Address, "0x"), b.Path, f.Address)
	return f
}

func explain(b *i2c.Bus, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be opened: put yourself into the group i2c (sudo usermod -aG i2c %s, then log in again), or use sudo", b.Path, "$USER")
	case errors.Is(err, fs.ErrNotExist):
		return b.Path + " is not there although the kernel has the bus: sudo modprobe i2c-dev"
	}
	return fmt.Sprintf("%s: %v", b.Path, err)
}

// Node is the path of a device below the machine's root.
func (m Machine) Node(path string) string { return filepath.Join(m.Root, path) }
