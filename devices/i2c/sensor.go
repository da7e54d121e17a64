package i2c

import (
	"context"
	"errors"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
	"github.com/postern-iot/postern/devices/gpio"
)

// chip is the protocol of one type of sensor.
type chip interface {
	// start identifies the chip and sets it up.
	start(ctx context.Context, c *conn) error
	// measure takes all readings.
	measure(ctx context.Context, c *conn) ([]bus.Value, error)
}

// sensor is a device that measures in intervals.
type sensor struct {
	common   Common
	pool     *pool
	chip     chip
	readings []devices.Reading
}

// Readings implements devices.Device.
func (s *sensor) Readings() []devices.Reading { return s.readings }

// Procedures implements devices.Device.
func (s *sensor) Procedures() []devices.Procedure { return nil }

// Halt implements devices.Device: a sensor has no safe state.
func (s *sensor) Halt() error { return nil }

// Run implements devices.Device.
func (s *sensor) Run(ctx context.Context, out devices.Outlet) error {
	c, release := connect(s.pool, &s.common)
	defer release()
	if err := s.chip.start(ctx, c); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return bus.Poll(ctx, out, s.common.Interval, s.readings, func(ctx context.Context) ([]bus.Value, error) {
		return s.chip.measure(ctx, c)
	})
}

// Drivers returns the drivers of this package. Their devices share the busses;
// expanders add themselves to chips.
func Drivers(chips *gpio.Chips) []devices.Driver {
	sim := newSimulation()
	p := newPool(func(name string) (periph.BusCloser, error) {
		if name == simBus {
			return sim, nil
		}
		return openBus(name)
	})
	return append(drivers(p, sim), mcp23017Driver(p, sim, chips))
}

func drivers(p *pool, sim *simulation) []devices.Driver {
	return []devices.Driver{
		bme280Driver(p, sim),
		bmp280Driver(p, sim),
		sht3xDriver(p, sim),
		mcp9808Driver(p, sim),
		bh1750Driver(p, sim),
		ads1115Driver(p, sim),
		ina219Driver(p, sim),
		pca9685Driver(p, sim),
		ssd1306Driver(p, sim),
		registersDriver(p, sim),
	}
}

// open makes a sensor, and its model if it is simulated.
func open(p *pool, sim *simulation, common Common, readings []devices.Reading, c chip, m func() model) (devices.Device, error) {
	if common.Bus == simBus {
		if sim == nil || m == nil {
			return nil, errors.New("there is no simulation of this chip")
		}
		sim.attach(common.Address, m())
	}
	return &sensor{common: common, pool: p, chip: c, readings: readings}, nil
}
