package i2c

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Bosch's data sheets BST-BME280-DS002 and BST-BMP280-DS001;
// the chips' registers are the same where both have them.

// BME280Params are the parameters of a "bme280" and of a "bmp280".
type BME280Params struct {
	Common       `yaml:",inline"`
	Oversampling int `yaml:"oversampling" doc:"measurements that one value is the mean of: 1, 2, 4, 8 or 16"`
}

var (
	temperatureReading = devices.Reading{Name: "temperature", Type: "float", Unit: "Cel", Doc: "temperature of the chip, a little above that of the air"}
	pressureReading    = devices.Reading{Name: "pressure", Type: "float", Unit: "Pa", Doc: "pressure of the air where the chip is, not reduced to sea level"}
	humidityReading    = devices.Reading{Name: "humidity", Type: "float", Unit: "%", Doc: "relative humidity"}
)

// Validate implements devices.Validator.
func (p *BME280Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x76, 0x77)
	if !slices.Contains(oversamplings, p.Oversampling) {
		report("oversampling", fmt.Sprintf("%d is not possible", p.Oversampling), "write 1, 2, 4, 8 or 16")
	}
}

var oversamplings = []int{1, 2, 4, 8, 16} // register values 1 to 5

const boschWiring = "VCC to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). " +
	"SDO to ground gives the address 0x76, to 3.3 V 0x77. `i2cdetect -y 1` shows it.\n\n" +
	"The chip sleeps between measurements, so that it does not warm itself."

func bme280Driver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{temperatureReading, pressureReading, humidityReading}
	d := boschDriver(p, sim, readings)
	d.Type = "bme280"
	d.Summary = "A Bosch BME280: temperature, pressure and humidity of the air."
	d.Doc = boschWiring + " Boards sold as BME280 sometimes bear a BMP280, which has no humidity: the reading's fault says so."
	d.Example = "name: air\ntype: bme280\naddress: 0x76\ninterval: 30s\n"
	return d
}

func bmp280Driver(p *pool, sim *simulation) devices.Driver {
	d := boschDriver(p, sim, []devices.Reading{temperatureReading, pressureReading})
	d.Type = "bmp280"
	d.Summary = "A Bosch BMP280: temperature and pressure of the air."
	d.Doc = boschWiring + " A BME280 works as well; its humidity is left out."
	d.Example = "name: barometer\ntype: bmp280\naddress: 0x77\noversampling: 4\n"
	return d
}

func boschDriver(p *pool, sim *simulation, readings []devices.Reading) devices.Driver {
	return devices.Driver{
		NewParams: func() any { return &BME280Params{Common: newCommon(0x76), Oversampling: 1} },
		Readings:  readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			b := params.(*BME280Params)
			humid := len(readings) == 3
			chip := &bme280{oversampling: b.Oversampling, humidity: humid}
			return open(p, sim, b.Common, readings, chip, func() model { return newBoschModel(humid) })
		},
	}
}

// bme280 is the protocol of both chips.
type bme280 struct {
	oversampling int
	humidity     bool // the device has the reading

	humid bool // the chip has it
	cal   boschCalibration
}

const (
	boschID       = 0xD0
	boschReset    = 0xE0
	boschCtrlHum  = 0xF2
	boschStatus   = 0xF3
	boschCtrlMeas = 0xF4
	boschConfig   = 0xF5
	boschData     = 0xF7

	idBME280 = 0x60
	idBMP280 = 0x58
)

func (b *bme280) start(ctx context.Context, c *conn) error {
	id, err := c.read(ctx, boschID, 1)
	if err != nil {
		return err
	}
	switch id[0] {
	case idBME280:
		b.humid = true
	case idBMP280, 0x56, 0x57: // the latter two are samples
		b.humid = false
	default:
		return fmt.Errorf("the chip at address %v of I2C bus %s has the id %#02x, not that of a BME280 (0x60) or BMP280 (0x58)", c.addr, c.bus.Name(), id[0])
	}
	if err := c.write(ctx, boschReset, 0xB6); err != nil {
		return err
	}
	// 2 ms to start; bit 0 of status while calibration is copied.
	if err := awaitClear(ctx, c, boschStatus, 0x01, 2*time.Millisecond); err != nil {
		return err
	}
	tp, err := c.read(ctx, 0x88, 26) // 0x88…0xA1, DS002 "Trimming parameter readout"
	if err != nil {
		return err
	}
	var h []byte
	if b.humid {
		if h, err = c.read(ctx, 0xE1, 7); err != nil {
			return err
		}
	}
	b.cal = parseBosch(tp, h)
	if b.cal.t1 == 0 || b.cal.p1 == 0 {
		return errors.New("the chip's calibration is empty: it is broken or not a Bosch")
	}
	return c.write(ctx, boschConfig, 0) // no filter
}

// awaitClear waits, then polls until the bits of a register are zero.
func awaitClear(ctx context.Context, c *conn, reg, bits byte, wait time.Duration) error {
	for range 20 {
		if err := bus.Pause(ctx, wait); err != nil {
			return err
		}
		b, err := c.read(ctx, reg, 1)
		if err != nil {
			return err
		}
		if b[0]&bits == 0 {
			return nil
		}
		wait = 2 * time.Millisecond
	}
	return fmt.Errorf("the chip at address %v of I2C bus %s stays busy", c.addr, c.bus.Name())
}

func (b *bme280) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	over := byte(slices.Index(oversamplings, b.oversampling) + 1)
	quantities := 2
	if b.humid {
		quantities = 3
		if err := c.write(ctx, boschCtrlHum, over); err != nil { // counts from the next write of ctrl_meas on
			return nil, err
		}
	}
	if err := c.write(ctx, boschCtrlMeas, over<<5|over<<2|1); err != nil { // forced mode
		return nil, err
	}
	// The longest, DS002 "Measurement time": 1.25 ms, 2.3 ms a sample, 0.575 ms for each
	// quantity but the temperature.
	longest := 1250*time.Microsecond + time.Duration(quantities*b.oversampling)*2300*time.Microsecond + time.Duration(quantities-1)*575*time.Microsecond
	if err := awaitClear(ctx, c, boschStatus, 0x08, longest); err != nil {
		return nil, err
	}
	size := 6
	if b.humid {
		size = 8
	}
	d, err := c.read(ctx, boschData, size) // in one burst, so that it is of one measurement
	if err != nil {
		return nil, err
	}
	rawP := int32(d[0])<<12 | int32(d[1])<<4 | int32(d[2])>>4
	rawT := int32(d[3])<<12 | int32(d[4])<<4 | int32(d[5])>>4
	// What was not measured reads 0x80000.
	if rawT == 0x80000 {
		return nil, errors.New("the chip has not measured: was its power interrupted?")
	}
	t, fine := b.cal.temperature(rawT)
	// The ranges are the operating ranges of the specification.
	values := []bus.Value{
		bus.Within("temperature", bus.Round(t, 2), -40, 85),
		bus.Within("pressure", bus.Round(b.cal.pressure(rawP, fine), 2), 30_000, 110_000),
	}
	switch {
	case !b.humidity:
	case !b.humid:
		values = append(values, bus.Value{Reading: "humidity", Err: errors.New("the chip is a BMP280, which has no humidity; the type bmp280 is for it")})
	default:
		rawH := int32(d[6])<<8 | int32(d[7])
		if rawH == 0x8000 {
			values = append(values, bus.Value{Reading: "humidity", Err: errors.New("the chip has not measured it")})
		} else {
			values = append(values, bus.Within("humidity", bus.Round(b.cal.humidity(rawH, fine), 2), 0, 100))
		}
	}
	return values, nil
}

// boschCalibration are the chip's own factors.
type boschCalibration struct {
	t1                             uint16
	t2, t3                         int16
	p1                             uint16
	p2, p3, p4, p5, p6, p7, p8, p9 int16
	h1, h3                         uint8
	h2, h4, h5                     int16
	h6                             int8
}

func parseBosch(tp, h []byte) boschCalibration {
	u := func(reg int) uint16 { return binary.LittleEndian.Uint16(tp[reg-0x88:]) }
	s := func(reg int) int16 { return int16(u(reg)) }
	c := boschCalibration{
		t1: u(0x88), t2: s(0x8A), t3: s(0x8C),
		p1: u(0x8E), p2: s(0x90), p3: s(0x92), p4: s(0x94), p5: s(0x96), p6: s(0x98), p7: s(0x9A), p8: s(0x9C), p9: s(0x9E),
	}
	if len(h) == 7 {
		c.h1 = tp[0xA1-0x88]
		c.h2 = int16(binary.LittleEndian.Uint16(h))
		c.h3 = h[2]
		c.h4 = int16(int8(h[3]))<<4 | int16(h[4]&0x0F)
		c.h5 = int16(int8(h[5]))<<4 | int16(h[4]>>4)
		c.h6 = int8(h[6])
	}
	return c
}

// temperature is the formula of DS001 8.1 in double precision. fine is what
// the others need of it.
func (c *boschCalibration) temperature(raw int32) (celsius, fine float64) {
	r := float64(raw)
	x := (r/16384 - float64(c.t1)/1024) * float64(c.t2)
	y := r/131072 - float64(c.t1)/8192
	fine = x + y*y*float64(c.t3) // not cut off to an integer: so has the worked example, DS001 3.12
	return fine / 5120, fine
}

// pressure is the formula of DS001 8.1, in Pa.
func (c *boschCalibration) pressure(raw int32, fine float64) float64 {
	x := fine/2 - 64000
	y := x * x * float64(c.p6) / 32768
	y += x * float64(c.p5) * 2
	y = y/4 + float64(c.p4)*65536
	x = (float64(c.p3)*x*x/524288 + float64(c.p2)*x) / 524288
	x = (1 + x/32768) * float64(c.p1)
	if x == 0 {
		return 0
	}
	p := 1048576 - float64(raw)
	p = (p - y/4096) * 6250 / x
	x = float64(c.p9) * p * p / 2147483648
	y = p * float64(c.p8) / 32768
	return p + (x+y+float64(c.p7))/16
}

// humidity is the formula of DS002 8.1 (appendix A), in %.
func (c *boschCalibration) humidity(raw int32, fine float64) float64 {
	x := fine - 76800
	x = (float64(raw) - (float64(c.h4)*64 + float64(c.h5)/16384*x)) *
		(float64(c.h2) / 65536 * (1 + float64(c.h6)/67108864*x*(1+float64(c.h3)/67108864*x)))
	x *= 1 - float64(c.h1)*x/524288
	return min(max(x, 0), 100)
}
