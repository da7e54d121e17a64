package spi

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Microchip's data sheet DS21295.

// MCP3008Params are the parameters of a "mcp3008".
type MCP3008Params struct {
	Common    `yaml:",inline"`
	Interval  time.Duration    `yaml:"interval" min:"1ms" doc:"time between two measurements"`
	Reference float64          `yaml:"reference" unit:"V" doc:"the voltage at the chip's VREF, which is the largest that it measures"`
	Channels  []MCP3008Channel `yaml:"channels" required:"true" doc:"the inputs that are measured, each a reading"`
}

// MCP3008Channel is one input of the chip.
type MCP3008Channel struct {
	Name   string  `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	Input  string  `yaml:"input" required:"true" doc:"ch0 to ch7 against ground; or a difference of two neighbours, such as ch0-ch1 or ch1-ch0, which is 0 where it would be negative"`
	Scale  float64 `yaml:"scale" doc:"what the voltage is multiplied by, such as 2 behind a divider of two like resistors"`
	Offset float64 `yaml:"offset" doc:"what is then added"`
	Unit   string  `yaml:"unit" doc:"unit of the result, in UCUM"`
	Doc    string  `yaml:"doc" doc:"what the reading is"`
}

// SetDefaults is called before the configuration is read.
func (c *MCP3008Channel) SetDefaults() { *c = MCP3008Channel{Scale: 1, Unit: "V"} }

// mcpInputs are the four control bits (single, D2, D1, D0), "Control Bit
// Selections" of the MCP3008.
var mcpInputs = func() map[string]byte {
	m := map[string]byte{}
	for i := range byte(8) {
		m[fmt.Sprintf("ch%d", i)] = 0x8 | i
		m[fmt.Sprintf("ch%d-ch%d", i, i^1)] = i
	}
	return m
}()

const maxChannels = 16

// Validate implements devices.Validator.
func (p *MCP3008Params) Validate(report func(path, problem, hint string)) {
	p.check(report)
	checkInterval(p.Interval, time.Millisecond, report)
	if !(p.Reference > 0) || p.Reference > 5.5 {
		report("reference", fmt.Sprintf("%g V is out of range", p.Reference), "VREF is usually joined to the chip's supply, 3.3")
	}
	if n := len(p.Channels); n < 1 || n > maxChannels {
		report("channels", fmt.Sprintf("there are %d", n), fmt.Sprintf("list 1 to %d, each with name and input", maxChannels))
	}
	seen := map[string]bool{}
	for i := range p.Channels {
		c := &p.Channels[i]
		at := func(key string) string { return fmt.Sprintf("channels[%d].%s", i, key) }
		switch problem := devices.NameProblem(c.Name); {
		case c.Name == "": // required: reported as missing
		case problem != "":
			report(at("name"), problem, "use a-z, 0-9 and _")
		case c.Name == "status" || seen[c.Name]:
			report(at("name"), fmt.Sprintf("%q is taken", c.Name), "choose another name")
		}
		seen[c.Name] = true
		if _, ok := mcpInputs[c.Input]; !ok && c.Input != "" {
			report(at("input"), fmt.Sprintf("%q is not known", c.Input), "write one of "+strings.Join(slices.Sorted(maps.Keys(mcpInputs)), ", "))
		}
		for key, v := range map[string]float64{"scale": c.Scale, "offset": c.Offset} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				report(at(key), "it is not a finite number", "")
			}
		}
		if c.Scale == 0 {
			report(at("scale"), "it is 0: every value would be the offset", "write 1 for the voltage itself")
		}
	}
}

func mcp3008Driver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "mcp3008",
		Summary: "A Microchip MCP3008: eight analogue inputs of 10 bits.",
		Doc: "VDD and VREF to 3.3 V (pin 1), AGND and DGND to ground (pin 6), CLK to GPIO11 (pin 23), DOUT to GPIO9 (pin 21), DIN to GPIO10 (pin 19), CS to GPIO8 (pin 24, " +
			"`port: /dev/spidev0.0`) or GPIO7 (pin 26, `/dev/spidev0.1`).\n\n" +
			"An input must never be above VDD. At 3.3 V the chip stands a clock of 1.35 MHz. An MCP3004 works as well, with ch0 to ch3. The readings are the channels.",
		Example: "name: soil\ntype: mcp3008\nport: /dev/spidev0.0\ninterval: 10s\nreference: 3.3\nchannels:\n  - name: moisture\n    input: ch0\n    scale: 30.3\n    unit: \"%\"\n" +
			"  - name: bridge\n    input: ch2-ch3\n",
		NewParams: func() any {
			return &MCP3008Params{Common: newCommon(1_000_000), Interval: 10 * time.Second, Reference: 3.3}
		},
		Open: func(env devices.Env, params any) (devices.Device, error) {
			m := params.(*MCP3008Params)
			if m.Port == simPort {
				sim.attach(env.Name, newMCP3008Model())
			}
			var readings []devices.Reading
			for _, c := range m.Channels {
				doc := c.Doc
				if doc == "" {
					doc = "input " + c.Input
				}
				readings = append(readings, devices.Reading{Name: c.Name, Type: "float", Unit: c.Unit, Doc: doc})
			}
			return &sensor{name: env.Name, common: m.Common, interval: m.Interval, pool: p, readings: readings, measure: m.measure}, nil
		},
	}
}

func (p *MCP3008Params) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	values := make([]bus.Value, 0, len(p.Channels))
	for i := range p.Channels {
		ch := &p.Channels[i]
		raw, err := convert(ctx, c, mcpInputs[ch.Input])
		if err != nil {
			return nil, err
		}
		// Equation 4-2, digital output code.
		volts := float64(raw) * p.Reference / 1024
		values = append(values, bus.Value{Reading: ch.Name, V: bus.Round(volts*ch.Scale+ch.Offset, 6)})
	}
	return values, nil
}

// convert measures one input. As in "Using the MCP3004/3008 with
// microcontroller (MCU) SPI ports": a start bit, the control bits, a bit of
// waiting, a zero, then ten bits of value.
func convert(ctx context.Context, c *conn, input byte) (uint16, error) {
	r, err := c.tx(ctx, []byte{0x01, input << 4, 0})
	if err != nil {
		return 0, err
	}
	if r[1]&0x04 != 0 { // where the zero must be
		return 0, c.silent("high")
	}
	return uint16(r[1]&0x03)<<8 | uint16(r[2]), nil
}
