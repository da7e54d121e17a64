package i2c

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// RegistersParams are the parameters of an "i2c-registers".
type RegistersParams struct {
	Bus      string        `yaml:"bus" doc:"the bus: its device (/dev/i2c-1) or a part of its adapter's name as 'i2cdetect -l' shows it"`
	Address  Address       `yaml:"address" required:"true" doc:"the chip's address on the bus, as 'i2cdetect -y 1' shows it"`
	Timeout  time.Duration `yaml:"timeout" min:"1ms" max:"10s" doc:"the longest that one transaction may hold the bus"`
	Interval time.Duration `yaml:"interval" min:"1ms" doc:"time between two measurements"`
	Setup    []Setup       `yaml:"setup" doc:"what is written once when the device starts, in this order"`
	Fields   []Register    `yaml:"registers" required:"true" doc:"the registers that are read, each a reading"`
}

// Setup is one write at the start.
type Setup struct {
	Register uint8         `yaml:"register" required:"true" doc:"the register's address"`
	Bytes    []uint8       `yaml:"bytes" required:"true" doc:"what is written from there on"`
	Wait     time.Duration `yaml:"wait" doc:"how long the chip is then left alone, at most 10s"`
}

// Register is one value of the chip.
type Register struct {
	Name     string  `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	Register uint8   `yaml:"register" required:"true" doc:"the register's address"`
	Type     string  `yaml:"type" doc:"u8, i8, u16, i16, u24, i24, u32, i32 or f32"`
	Endian   string  `yaml:"endian" doc:"big (the high byte first) or little"`
	Mask     uint32  `yaml:"mask" doc:"for u types: the bits that count, moved down to bit 0; 0 for all"`
	Scale    float64 `yaml:"scale" doc:"what the value is multiplied by"`
	Offset   float64 `yaml:"offset" doc:"what is then added"`
	Min      float64 `yaml:"min" doc:"a value below is a fault; without effect when min and max are 0"`
	Max      float64 `yaml:"max" doc:"a value above is a fault"`
	Unit     string  `yaml:"unit" doc:"the unit of the value, in UCUM where it has one"`
	Doc      string  `yaml:"doc" doc:"what the reading is"`
}

// SetDefaults is called before the configuration is read.
func (r *Register) SetDefaults() { *r = Register{Type: "u8", Endian: "big", Scale: 1} }

// registerTypes are the bytes of each.
var registerTypes = map[string]int{"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u24": 3, "i24": 3, "u32": 4, "i32": 4, "f32": 4}

const (
	maxRegisters  = 64
	maxSetupBytes = 32
)

func (p *RegistersParams) common() Common {
	return Common{Bus: p.Bus, Address: p.Address, Timeout: p.Timeout, Interval: p.Interval}
}

// Claims implements devices.Claimer.
func (p *RegistersParams) Claims() []string {
	c := p.common()
	return c.Claims()
}

// Occupies implements devices.Occupier.
func (p *RegistersParams) Occupies() []devices.Occupation {
	c := p.common()
	return c.Occupies()
}

// Simulate implements devices.Simulator.
func (p *RegistersParams) Simulate() { p.Bus = simBus }

// Validate implements devices.Validator.
func (p *RegistersParams) Validate(report func(path, problem, hint string)) {
	c := p.common()
	c.check(report, 0x08, 0x77)
	if len(p.Setup) > maxRegisters {
		report("setup", fmt.Sprintf("there are more than %d", maxRegisters), "")
	}
	for i, s := range p.Setup {
		if len(s.Bytes) < 1 || len(s.Bytes) > maxSetupBytes {
			report(fmt.Sprintf("setup[%d].bytes", i), fmt.Sprintf("there are %d", len(s.Bytes)), fmt.Sprintf("write 1 to %d, such as [0x27]", maxSetupBytes))
		}
		if s.Wait < 0 || s.Wait > 10*time.Second {
			report(fmt.Sprintf("setup[%d].wait", i), fmt.Sprintf("%v is out of range", s.Wait), "write 0s to 10s")
		}
	}
	if n := len(p.Fields); n < 1 || n > maxRegisters {
		report("registers", fmt.Sprintf("there are %d", n), fmt.Sprintf("list 1 to %d", maxRegisters))
	}
	seen := map[string]bool{}
	for i := range p.Fields {
		p.Fields[i].check(fmt.Sprintf("registers[%d]", i), seen, report)
	}
}

func (r *Register) check(path string, seen map[string]bool, report report) {
	readingName(path+".name", r.Name, seen, report)
	if registerTypes[r.Type] == 0 {
		report(path+".type", fmt.Sprintf("%q is not known", r.Type), "write one of "+strings.Join(slices.Sorted(maps.Keys(registerTypes)), ", "))
	} else if r.Mask != 0 && r.Type[0] != 'u' {
		report(path+".mask", "it is for the types u8 to u32 only", "")
	}
	if r.Endian != "big" && r.Endian != "little" {
		report(path+".endian", fmt.Sprintf("%q is not known", r.Endian), "write big or little")
	}
	finite(path+".scale", r.Scale, report)
	finite(path+".offset", r.Offset, report)
	if r.Scale == 0 {
		report(path+".scale", "it is 0: every value would be the offset", "write 1 for the value itself")
	}
	if !(r.Min <= r.Max) {
		report(path+".min", "it is above max", "")
	}
}

func registersDriver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "i2c-registers",
		Summary: "Any chip whose registers hold its values, described in the configuration.",
		Doc: "For sensors that have no driver here: what is written to the chip at start, and which of its registers are read, how they are laid out and what they mean, " +
			"as its data sheet says. Each register is read in a transaction of its own (the register's address, a repeated start, the bytes). " +
			"The readings are the registers.",
		Example: "name: rack\ntype: i2c-registers\naddress: 0x4f              # an LM75 thermometer\ninterval: 5s\nsetup:\n  - {register: 0x01, bytes: [0x00], wait: 100ms}\nregisters:\n" +
			"  - name: temperature\n    register: 0x00\n    type: i16\n    scale: 0.00390625\n    unit: Cel\n    min: -55\n    max: 125\n",
		NewParams: func() any {
			c := newCommon(0)
			return &RegistersParams{Bus: c.Bus, Timeout: c.Timeout, Interval: c.Interval}
		},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			r := params.(*RegistersParams)
			var readings []devices.Reading
			for _, f := range r.Fields {
				doc := f.Doc
				if doc == "" {
					doc = fmt.Sprintf("register %#02x", f.Register)
				}
				readings = append(readings, devices.Reading{Name: f.Name, Type: "float", Unit: f.Unit, Doc: doc})
			}
			return open(p, sim, r.common(), readings, &registers{r.Setup, r.Fields}, newDescribedModel)
		},
	}
}

type registers struct {
	setup  []Setup
	fields []Register
}

func (r *registers) start(ctx context.Context, c *conn) error {
	for _, s := range r.setup {
		if err := c.write(ctx, append([]byte{s.Register}, s.Bytes...)...); err != nil {
			return err
		}
		if err := bus.Pause(ctx, s.Wait); err != nil {
			return err
		}
	}
	return nil
}

func (r *registers) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	values := make([]bus.Value, 0, len(r.fields))
	for i := range r.fields {
		f := &r.fields[i]
		b, err := c.read(ctx, f.Register, registerTypes[f.Type])
		if err != nil {
			return nil, err
		}
		values = append(values, f.value(b))
	}
	return values, nil
}

// value decodes the bytes of the register.
func (r *Register) value(b []byte) bus.Value {
	if r.Endian == "little" {
		slices.Reverse(b)
	}
	var u uint32
	for _, x := range b {
		u = u<<8 | uint32(x)
	}
	var v float64
	switch r.Type[0] {
	case 'f':
		v = float64(math.Float32frombits(u))
	case 'i':
		unused := 32 - 8*len(b)
		v = float64(int32(u<<unused) >> unused)
	default:
		if r.Mask != 0 {
			u &= r.Mask
			for m := r.Mask; m&1 == 0; m >>= 1 {
				u >>= 1
			}
		}
		v = float64(u)
	}
	v = v*r.Scale + r.Offset
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return bus.Value{Reading: r.Name, Err: errors.New("the register holds no finite number")}
	case (r.Min != 0 || r.Max != 0) && (v < r.Min || v > r.Max):
		return bus.Value{Reading: r.Name, Err: fmt.Errorf("%.6g is out of range, %g to %g", v, r.Min, r.Max)}
	}
	return bus.Value{Reading: r.Name, V: v}
}
