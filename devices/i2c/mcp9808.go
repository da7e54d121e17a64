package i2c

import (
	"context"
	"fmt"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Microchip's data sheet DS25095.

// MCP9808Params are the parameters of a "mcp9808".
type MCP9808Params struct {
	Common `yaml:",inline"`
}

// Validate implements devices.Validator.
func (p *MCP9808Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x18, 0x1F)
}

func mcp9808Driver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{{Name: "temperature", Type: "float", Unit: "Cel", Doc: "temperature of the chip, in steps of 0.0625"}}
	return devices.Driver{
		Type:    "mcp9808",
		Summary: "A Microchip MCP9808: a thermometer of 0.25 °C accuracy.",
		Doc: "VDD to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). " +
			"The pins A0 to A2 add 1, 2 and 4 to the address 0x18. The chip measures four times a second.",
		Example:   "name: cold_store\ntype: mcp9808\naddress: 0x18\ninterval: 5s\n",
		NewParams: func() any { return &MCP9808Params{newCommon(0x18)} },
		Readings:  readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return open(p, sim, params.(*MCP9808Params).Common, readings, mcp9808{}, newMCP9808Model)
		},
	}
}

const (
	mcpConfig       = 0x01
	mcpAmbient      = 0x05
	mcpManufacturer = 0x06
	mcpDevice       = 0x07
	mcpResolution   = 0x08
)

type mcp9808 struct{}

func (mcp9808) start(ctx context.Context, c *conn) error {
	maker, err := c.word(ctx, mcpManufacturer)
	if err != nil {
		return err
	}
	device, err := c.word(ctx, mcpDevice)
	if err != nil {
		return err
	}
	if maker != 0x0054 || device>>8 != 0x04 { // registers 5-5 and 5-6
		return fmt.Errorf("the chip at address %v of I2C bus %s is not an MCP9808: it has the ids %#04x and %#04x", c.addr, c.bus.Name(), maker, device)
	}
	if err := c.setWord(ctx, mcpConfig, 0); err != nil { // measures all the time, no alert
		return err
	}
	if err := c.write(ctx, mcpResolution, 3); err != nil {
		return err
	}
	return bus.Pause(ctx, 300*time.Millisecond) // a conversion takes 250 ms at the finest resolution
}

func (mcp9808) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	raw, err := c.word(ctx, mcpAmbient)
	if err != nil {
		return nil, err
	}
	return []bus.Value{bus.Within("temperature", mcpCelsius(raw), -40, 125)}, nil
}

// mcpCelsius is register 5-4: 13 bits in two's complement, the upper three are
// alerts.
func mcpCelsius(raw uint16) float64 { return float64(int16(raw<<3)>>3) / 16 }
