package spi

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Maxim's data sheet 19-5793.

// MAX31855Params are the parameters of a "max31855".
type MAX31855Params struct {
	Common   `yaml:",inline"`
	Interval time.Duration `yaml:"interval" min:"100ms" doc:"time between two measurements; the chip takes up to 100 ms for one"`
}

// Validate implements devices.Validator.
func (p *MAX31855Params) Validate(report func(path, problem, hint string)) {
	p.check(report)
	checkInterval(p.Interval, 100*time.Millisecond, report)
}

func max31855Driver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{
		{Name: "temperature", Type: "float", Unit: "Cel", Doc: "temperature of the thermocouple, in steps of 0.25"},
		{Name: "cold_junction", Type: "float", Unit: "Cel", Doc: "temperature of the chip, where the thermocouple's wires end, in steps of 0.0625"},
	}
	return devices.Driver{
		Type:    "max31855",
		Summary: "A Maxim MAX31855: a thermocouple, up to 1800 °C.",
		Doc: "VCC to 3.3 V (pin 1), GND to ground (pin 6), SCK to GPIO11 (pin 23), SO to GPIO9 (pin 21), CS to GPIO8 (pin 24, `port: /dev/spidev0.0`) " +
			"or GPIO7 (pin 26, `/dev/spidev0.1`). Neither wire of the thermocouple may touch ground.\n\n" +
			"There is a chip for each type of thermocouple (MAX31855K, J, N, T, S, R, E): the values are right for that type only. " +
			"A broken thermocouple, or one shorted to ground or to the supply, is a fault of `temperature`, not a number; `cold_junction` goes on.",
		Example:   "name: kiln\ntype: max31855\nport: /dev/spidev0.0\ninterval: 1s\n",
		NewParams: func() any { return &MAX31855Params{Common: newCommon(1_000_000), Interval: 10 * time.Second} },
		Readings:  readings,
		Open: func(env devices.Env, params any) (devices.Device, error) {
			m := params.(*MAX31855Params)
			if m.Port == simPort {
				sim.attach(env.Name, max31855Model(100.75, 25, 0))
			}
			return &sensor{name: env.Name, common: m.Common, interval: m.Interval, pool: p, readings: readings, measure: measureMAX31855}, nil
		},
	}
}

// Bits of table 3, "Memory Map, Descriptions".
const (
	maxFault    = 1 << 16
	maxShortVCC = 1 << 2
	maxShortGND = 1 << 1
	maxOpen     = 1 << 0
	maxReserved = 1<<17 | 1<<3 // always read 0
)

func measureMAX31855(ctx context.Context, c *conn) ([]bus.Value, error) {
	r, err := c.tx(ctx, make([]byte, 4))
	if err != nil {
		return nil, err
	}
	word := binary.BigEndian.Uint32(r)
	switch {
	case word&maxReserved != 0:
		return nil, c.silent("high")
	case word == 0: // exactly zero twice: more likely a line that nobody drives
		return nil, c.silent("low")
	}
	couple, junction := max31855Celsius(word)
	// The ranges are those of the data sheet's first page and of table 5.
	values := []bus.Value{bus.Within("temperature", couple, -270, 1800), bus.Within("cold_junction", junction, -55, 127)}
	if err := max31855Fault(word); err != nil {
		values[0] = bus.Value{Reading: "temperature", Err: err}
	}
	return values, nil
}

// max31855Celsius are the temperatures of tables 4 and 5: D31 to D18 in steps
// of 0.25, D15 to D4 in steps of 0.0625.
func max31855Celsius(word uint32) (couple, junction float64) {
	return float64(int32(word)>>18) / 4, float64(int16(word)>>4) / 16
}

func max31855Fault(word uint32) error {
	switch {
	case word&maxOpen != 0:
		return errors.New("the thermocouple is not connected or broken")
	case word&maxShortGND != 0:
		return errors.New("the thermocouple has a short circuit to ground")
	case word&maxShortVCC != 0:
		return errors.New("the thermocouple has a short circuit to the supply")
	case word&maxFault != 0:
		return errors.New("the chip reports a fault of the thermocouple, but not which")
	}
	return nil
}
