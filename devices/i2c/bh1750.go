package i2c

import (
	"context"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Rohm's technical note of the BH1750FVI.

// BH1750Params are the parameters of a "bh1750".
type BH1750Params struct {
	Common `yaml:",inline"`
}

// Validate implements devices.Validator.
func (p *BH1750Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x23, 0x5C)
	if p.Address > 0x23 && p.Address < 0x5C {
		report("address", p.Address.String()+" is not possible", "the chip's address is 0x23 or 0x5c")
	}
}

func bh1750Driver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{{Name: "illuminance", Type: "float", Unit: "lx", Doc: "brightness, at most 54612 lx"}}
	return devices.Driver{
		Type:    "bh1750",
		Summary: "A Rohm BH1750: brightness.",
		Doc: "VCC to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). " +
			"ADDR open or to ground gives the address 0x23, to 3.3 V 0x5c. A measurement takes 180 ms.",
		Example:   "name: window\ntype: bh1750\naddress: 0x23\ninterval: 10s\n",
		NewParams: func() any { return &BH1750Params{newCommon(0x23)} },
		Readings:  readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return open(p, sim, params.(*BH1750Params).Common, readings, bh1750{}, func() model { return &bh1750Model{raw: 0x0180} })
		},
	}
}

type bh1750 struct{}

func (bh1750) start(ctx context.Context, c *conn) error {
	return c.write(ctx, 0x01) // power on, "Instruction set architecture"
}

func (bh1750) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	if err := c.write(ctx, 0x20); err != nil { // once, H-resolution mode (1 lx)
		return nil, err
	}
	if err := bus.Pause(ctx, 180*time.Millisecond); err != nil { // the longest, "Electrical characteristics"
		return nil, err
	}
	b, err := c.tx(ctx, nil, 2)
	if err != nil {
		return nil, err
	}
	raw := uint16(b[0])<<8 | uint16(b[1])
	if raw == 0xFFFF {
		return []bus.Value{bus.Within("illuminance", 65535/1.2, 0, 54612)}, nil
	}
	return []bus.Value{bus.Within("illuminance", bus.Round(float64(raw)/1.2, 1), 0, 54612)}, nil // "Read format"
}
