package i2c

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// References are to Sensirion's data sheet SHT3x-DIS, version 5.

// SHT3xParams are the parameters of a "sht3x".
type SHT3xParams struct {
	Common `yaml:",inline"`
}

// Validate implements devices.Validator.
func (p *SHT3xParams) Validate(report func(path, problem, hint string)) { p.check(report, 0x44, 0x45) }

func sht3xDriver(p *pool, sim *simulation) devices.Driver {
	readings := []devices.Reading{temperatureReading, humidityReading}
	return devices.Driver{
		Type:    "sht3x",
		Summary: "A Sensirion SHT30, SHT31 or SHT35: temperature and humidity of the air.",
		Doc: "VDD to 3.3 V (pin 1), VSS to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). ADDR to ground gives the address 0x44, to 3.3 V 0x45.\n\n" +
			"Every value is checked by its checksum. The chip's heater is switched off at start.",
		Example:   "name: greenhouse\ntype: sht3x\naddress: 0x44\ninterval: 10s\n",
		NewParams: func() any { return &SHT3xParams{newCommon(0x44)} },
		Readings:  readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return open(p, sim, params.(*SHT3xParams).Common, readings, sht3x{}, func() model { return &sht3xModel{t: 0x6666, h: 0x7333} })
		},
	}
}

// Commands, section 4: the single shot, the soft reset, the heater (table 16)
// and the status register (table 17).
const (
	shtMeasure   = 0x2400 // once, high repeatability, no clock stretching
	shtReset     = 0x30A2
	shtHeaterOff = 0x3066
	shtStatus    = 0xF32D
)

type sht3x struct{}

func (sht3x) command(ctx context.Context, c *conn, cmd uint16) error {
	return c.write(ctx, byte(cmd>>8), byte(cmd))
}

func (s sht3x) start(ctx context.Context, c *conn) error {
	if err := s.command(ctx, c, shtReset); err != nil {
		return err
	}
	if err := bus.Pause(ctx, 2*time.Millisecond); err != nil { // at most 1.5 ms
		return err
	}
	if err := s.command(ctx, c, shtHeaterOff); err != nil {
		return err
	}
	if err := bus.Pause(ctx, time.Millisecond); err != nil {
		return err
	}
	b, err := c.tx(ctx, []byte{shtStatus >> 8, shtStatus & 0xFF}, 3)
	if err != nil {
		return err
	}
	status, err := shtWord(b)
	switch {
	case err != nil:
		return err
	case status&0x2000 != 0: // table 18
		return errors.New("the chip's heater does not go off")
	}
	return nil
}

func (s sht3x) measure(ctx context.Context, c *conn) ([]bus.Value, error) {
	if err := s.command(ctx, c, shtMeasure); err != nil {
		return nil, err
	}
	if err := bus.Pause(ctx, 16*time.Millisecond); err != nil { // at most 15.5 ms
		return nil, err
	}
	b, err := c.tx(ctx, nil, 6)
	if err != nil {
		return nil, err
	}
	t, err := shtWord(b)
	if err != nil {
		return nil, fmt.Errorf("temperature: %w", err)
	}
	h, err := shtWord(b[3:])
	if err != nil {
		return nil, fmt.Errorf("humidity: %w", err)
	}
	// Section 4.13, conversion of signal output.
	return []bus.Value{
		bus.Within("temperature", bus.Round(-45+175*float64(t)/65535, 2), -40, 125),
		bus.Within("humidity", bus.Round(100*float64(h)/65535, 2), 0, 100),
	}, nil
}

// shtWord takes a word and checks its checksum.
func shtWord(b []byte) (uint16, error) {
	if have := shtCRC(b[:2]); have != b[2] {
		return 0, fmt.Errorf("the checksum is %#02x, not %#02x: the cable may be too long or the pull-ups too weak", b[2], have)
	}
	return uint16(b[0])<<8 | uint16(b[1]), nil
}

// shtCRC is the checksum of section 4.12: CRC-8, polynomial 0x31, beginning
// with 0xFF.
func shtCRC(b []byte) byte {
	crc := byte(0xFF)
	for _, x := range b {
		crc ^= x
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
