package i2c

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

// References are to Texas Instruments' data sheet SBAS444.

// ADS1115Params are the parameters of an "ads1115".
type ADS1115Params struct {
	Common   `yaml:",inline"`
	Channels []ADS1115Channel `yaml:"channels" required:"true" doc:"the inputs that are measured, each a reading"`
}

// ADS1115Channel is one input of the chip.
type ADS1115Channel struct {
	Name   string  `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	Input  string  `yaml:"input" required:"true" doc:"a0, a1, a2 or a3 against ground; or a difference: a0-a1, a0-a3, a1-a3 or a2-a3"`
	Range  float64 `yaml:"range" doc:"the largest voltage, from minus to plus: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256; an input must never be above the chip's supply, whatever the range"`
	Scale  float64 `yaml:"scale" doc:"what the voltage is multiplied by, such as 2 behind a divider of two like resistors"`
	Offset float64 `yaml:"offset" doc:"what is then added"`
	Unit   string  `yaml:"unit" doc:"unit of the result, in UCUM"`
	Doc    string  `yaml:"doc" doc:"what the reading is"`
}

// SetDefaults is called before the configuration is read.
func (c *ADS1115Channel) SetDefaults() { *c = ADS1115Channel{Range: 4.096, Scale: 1, Unit: "V"} }

var (
	// MUX and PGA, bits 14 to 12 and 11 to 9 of the config register.
	adsInputs = map[string]uint16{"a0-a1": 0, "a0-a3": 1, "a1-a3": 2, "a2-a3": 3, "a0": 4, "a1": 5, "a2": 6, "a3": 7}
	adsRanges = []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}
)

const maxChannels = 8

// Validate implements devices.Validator.
func (p *ADS1115Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x48, 0x4B)
	if n := len(p.Channels); n < 1 || n > maxChannels {
		report("channels", fmt.Sprintf("there are %d", n), fmt.Sprintf("list 1 to %d, each with name and input", maxChannels))
	}
	seen := map[string]bool{}
	for i := range p.Channels {
		c := &p.Channels[i]
		at := func(key string) string { return fmt.Sprintf("channels[%d].%s", i, key) }
		readingName(at("name"), c.Name, seen, report)
		if _, ok := adsInputs[c.Input]; !ok && c.Input != "" {
			report(at("input"), fmt.Sprintf("%q is not known", c.Input), "write one of "+strings.Join(slices.Sorted(maps.Keys(adsInputs)), ", "))
		}
		if !slices.Contains(adsRanges, c.Range) {
			report(at("range"), fmt.Sprintf("%g is not one of the chip's", c.Range), "write 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256")
		}
		finite(at("scale"), c.Scale, report)
		finite(at("offset"), c.Offset, report)
		if c.Scale == 0 {
			report(at("scale"), "it is 0: every value would be the offset", "write 1 for the voltage itself")
		}
	}
}

// readingName checks the name of a reading that the configuration declares.
func readingName(path, name string, seen map[string]bool, report report) {
	switch problem := devices.NameProblem(name); {
	case name == "": // required: reported as missing
	case problem != "":
		report(path, problem, "use a-z, 0-9 and _")
	case name == "status":
		report(path, `"status" is the host's own`, "choose another name")
	case seen[name]:
		report(path, fmt.Sprintf("%q is there already", name), "")
	}
	seen[name] = true
}

func ads1115Driver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "ads1115",
		Summary: "A Texas Instruments ADS1115: four analogue inputs of 16 bits.",
		Doc: "VDD to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). " +
			"ADDR to ground gives the address 0x48, to VDD 0x49, to SDA 0x4a, to SCL 0x4b.\n\n" +
			"An input beyond its range is a fault, not a number. Channels are measured one after the other, 9 ms each. The readings are the channels.",
		Example: "name: tank\ntype: ads1115\naddress: 0x48\ninterval: 1s\nchannels:\n  - name: level\n    input: a0\n    range: 4.096\n    scale: 50\n    unit: \"%\"\n" +
			"  - name: bridge\n    input: a2-a3\n    range: 0.256\n",
		NewParams: func() any { return &ADS1115Params{Common: newCommon(0x48)} },
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			a := params.(*ADS1115Params)
			var readings []devices.Reading
			for _, c := range a.Channels {
				doc := c.Doc
				if doc == "" {
					doc = "input " + c.Input
				}
				readings = append(readings, devices.Reading{Name: c.Name, Type: "float", Unit: c.Unit, Doc: doc})
			}
			return open(p, sim, a.Common, readings, &ads1115{a.Channels}, newADS1115Model)
		},
	}
}

const (
	adsConversion = 0x00
	adsConfig     = 0x01

	adsStart    = 0x8000 // to write: begin; to read: not busy
	adsOnce     = 0x0100
	adsRate128  = 0x0080
	adsNoAlert  = 0x0003
	adsWait     = 9 * time.Millisecond // 1/128 s, and 10 % as the rate is that exact
	adsPolls    = 10
	adsFullHigh = math.MaxInt16
	adsFullLow  = math.MinInt16
)

type ads1115 struct{ channels []ADS1115Channel }

func (a *ads1115) start(ctx context.Context, c *conn) error {
	_, err := c.word(ctx, adsConfig) // the chip has no id
	return err
}

func (a *ads1115) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	values := make([]bus.Value, 0, len(a.channels))
	for i := range a.channels {
		ch := &a.channels[i]
		raw, err := a.convert(ctx, c, ch)
		if err != nil {
			return nil, err
		}
		if raw == adsFullHigh || raw == adsFullLow {
			values = append(values, bus.Value{Reading: ch.Name, Err: fmt.Errorf("input %s is beyond its range of %g V", ch.Input, ch.Range)})
			continue
		}
		// "Data format": full scale is 2^15.
		volts := float64(raw) * ch.Range / 32768
		values = append(values, bus.Value{Reading: ch.Name, V: volts*ch.Scale + ch.Offset})
	}
	return values, nil
}

func (a *ads1115) convert(ctx context.Context, c *conn, ch *ADS1115Channel) (int16, error) {
	config := adsStart | adsInputs[ch.Input]<<12 | uint16(slices.Index(adsRanges, ch.Range))<<9 | adsOnce | adsRate128 | adsNoAlert
	if err := c.setWord(ctx, adsConfig, config); err != nil {
		return 0, err
	}
	for wait, polls := adsWait, 0; polls < adsPolls; wait, polls = time.Millisecond, polls+1 {
		if err := bus.Pause(ctx, wait); err != nil {
			return 0, err
		}
		status, err := c.word(ctx, adsConfig)
		if err != nil {
			return 0, err
		}
		if status&^adsStart != config&^adsStart {
			return 0, fmt.Errorf("the chip at address %v of I2C bus %s has lost its setting: does another program use it?", c.addr, c.bus.Name())
		}
		if status&adsStart != 0 {
			raw, err := c.word(ctx, adsConversion)
			return int16(raw), err
		}
	}
	return 0, fmt.Errorf("the chip at address %v of I2C bus %s does not end its conversion", c.addr, c.bus.Name())
}
