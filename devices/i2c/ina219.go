package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Texas Instruments' data sheet SBOS448G.

// INA219Params are the parameters of an "ina219".
type INA219Params struct {
	Common     `yaml:",inline"`
	Shunt      float64 `yaml:"shunt" doc:"resistance of the shunt in ohm"`
	MaxCurrent float64 `yaml:"max_current" doc:"the largest current that is expected, in A: it sets the resolution; shunt times max_current is 0.32 V at most"`
}

const inaMaxShunt = 0.32 // V

// Validate implements devices.Validator.
func (p *INA219Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x40, 0x4F)
	if !(p.Shunt > 0) || p.Shunt > 1000 {
		report("shunt", fmt.Sprintf("%g ohm is out of range", p.Shunt), "the usual boards have 0.1")
		return
	}
	if !(p.MaxCurrent > 0) || p.MaxCurrent > 1000 {
		report("max_current", fmt.Sprintf("%g A is out of range", p.MaxCurrent), "write the largest current that is expected")
		return
	}
	if drop := p.Shunt * p.MaxCurrent; drop > inaMaxShunt*1.0001 {
		report("max_current", fmt.Sprintf("%g A make %.3g V at the shunt, more than the chip's %g V", p.MaxCurrent, drop, inaMaxShunt), fmt.Sprintf("at most %.3g A can be measured", inaMaxShunt/p.Shunt))
	} else if drop < 0.001 {
		report("max_current", fmt.Sprintf("%g A make only %.2g V at the shunt", p.MaxCurrent, drop), "the chip resolves 10 µV: use a larger shunt")
	}
}

func ina219Driver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{
		{Name: "voltage", Type: "float", Unit: "V", Doc: "voltage of the load, at V- against ground, in steps of 4 mV"},
		{Name: "current", Type: "float", Unit: "A", Doc: "current through the shunt, negative from V- to V+"},
		{Name: "power", Type: "float", Unit: "W", Doc: "power of the load"},
		{Name: "shunt_voltage", Type: "float", Unit: "V", Doc: "voltage at the shunt, in steps of 10 µV"},
	}
	return devices.Driver{
		Type:    "ina219",
		Summary: "A Texas Instruments INA219: voltage, current and power of a supply up to 26 V.",
		Doc: "VCC to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5); VIN+ to the supply, VIN- to the load. " +
			"The pins A0 and A1 give the addresses 0x40 to 0x4f. The usual boards have a shunt of 0.1 ohm, which stands 3.2 A.",
		Example:   "name: battery\ntype: ina219\naddress: 0x40\nshunt: 0.1\nmax_current: 2\ninterval: 5s\n",
		NewParams: func() any { return &INA219Params{Common: newCommon(0x40), Shunt: 0.1, MaxCurrent: 3.2} },
		Readings:  readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			i := params.(*INA219Params)
			return open(p, sim, i.Common, readings, newINA219(i.Shunt, i.MaxCurrent), newINA219Model)
		},
	}
}

const (
	inaConfig      = 0x00
	inaShunt       = 0x01
	inaBus         = 0x02
	inaPower       = 0x03
	inaCurrent     = 0x04
	inaCalibration = 0x05

	inaReset = 0x8000
)

type ina219 struct {
	lsb         float64 // A
	calibration uint16
	config      uint16
}

func newINA219(shunt, maxCurrent float64) *ina219 {
	// Section 8.5.1. Bit 0 of the calibration is always 0.
	lsb := maxCurrent / 32768
	cal := min(0.04096/(lsb*shunt), 65534)
	i := &ina219{calibration: uint16(cal) &^ 1}
	i.lsb = 0.04096 / (float64(i.calibration) * shunt) // after rounding
	// 8.6.2.1: 32 V, the smallest shunt range that suffices, 12 bits with 8
	// samples of each, continuously.
	gain := uint16(0)
	for full := 0.04; full*1.0001 < shunt*maxCurrent && gain < 3; full *= 2 {
		gain++
	}
	i.config = 1<<13 | gain<<11 | 0xB<<7 | 0xB<<3 | 7
	return i
}

func (i *ina219) start(ctx context.Context, c *conn) error {
	if err := c.setWord(ctx, inaConfig, inaReset); err != nil {
		return err
	}
	if err := bus.Pause(ctx, time.Millisecond); err != nil {
		return err
	}
	config, err := c.word(ctx, inaConfig)
	if err != nil {
		return err
	}
	if config != 0x399F { // section 8.6.2.1
		return fmt.Errorf("the chip at address %v of I2C bus %s is not an INA219: its setting after a reset is %#04x, not 0x399f", c.addr, c.bus.Name(), config)
	}
	return i.setUp(ctx, c)
}

func (i *ina219) setUp(ctx context.Context, c *conn) error {
	if err := c.setWord(ctx, inaConfig, i.config); err != nil {
		return err
	}
	if err := c.setWord(ctx, inaCalibration, i.calibration); err != nil {
		return err
	}
	return bus.Pause(ctx, 10*time.Millisecond) // twice 4.26 ms, 8.6.2.1
}

func (i *ina219) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	// A dip of the supply resets the chip: without its calibration it would
	// report a current of zero.
	cal, err := c.word(ctx, inaCalibration)
	if err != nil {
		return nil, err
	}
	if cal != i.calibration {
		if err := i.setUp(ctx, c); err != nil {
			return nil, err
		}
		return nil, errors.New("the chip has lost its calibration: its supply dips")
	}
	var raw [5]uint16
	for _, reg := range []byte{inaShunt, inaBus, inaPower, inaCurrent} {
		if raw[reg], err = c.word(ctx, reg); err != nil {
			return nil, err
		}
	}
	v := i.values(raw)
	if raw[inaBus]&1 != 0 { // OVF, section 8.6.3.2
		overflow := errors.New("the current is larger than max_current")
		v[1], v[2] = bus.Value{Reading: "current", Err: overflow}, bus.Value{Reading: "power", Err: overflow}
	}
	return v, nil
}

// values converts the registers, as in 9.2.2.1.
func (i *ina219) values(raw [5]uint16) []bus.Value {
	return []bus.Value{
		bus.Within("voltage", float64(raw[inaBus]>>3)*4/1000, 0, 32),
		{Reading: "current", V: significant(float64(int16(raw[inaCurrent])) * i.lsb)},
		{Reading: "power", V: significant(float64(raw[inaPower]) * 20 * i.lsb)},
		bus.Within("shunt_voltage", bus.Round(float64(int16(raw[inaShunt]))*10e-6, 5), -inaMaxShunt, inaMaxShunt),
	}
}

// significant is v with six digits, so that 9.999999999 is 10.
func significant(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow10(5 - int(math.Floor(math.Log10(math.Abs(v)))))
	return math.Round(v*scale) / scale
}
