package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
)

// maxFailures is how many measurements in a row may fail before the device is
// given up and opened anew.
const maxFailures = 3

// chip is the protocol of one type of sensor.
type chip interface {
	// start identifies the chip and sets it up.
	start(ctx context.Context, c *conn) error
	// measure takes all readings.
	measure(ctx context.Context, c *conn) ([]value, error)
}

// value is what was measured of one reading, or why there is nothing.
type value struct {
	reading string
	v       any
	err     error
}

// within is a measured value that the chip can have only from lo to hi.
func within(reading string, v, lo, hi float64) value {
	if math.IsNaN(v) || v < lo || v > hi {
		return value{reading: reading, err: fmt.Errorf("%.6g is out of the chip's range, %g to %g", v, lo, hi)}
	}
	return value{reading: reading, v: v}
}

// round rounds to a step that is no coarser than what the chip resolves.
func round(v float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(v*scale) / scale
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
	c, release := s.pool.connect(&s.common)
	defer release()
	if err := s.chip.start(ctx, c); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	running, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	ready, failures := false, 0
	devices.Every(running, s.common.Interval, func(time.Time) {
		if running.Err() != nil {
			return
		}
		values, err := s.chip.measure(running, c)
		switch {
		case running.Err() != nil:
			return
		case err == nil:
			if !ready || failures > 0 {
				ready, failures = true, 0
				out.Ready()
			}
			publish(out, values)
			return
		}
		if failures++; !ready || failures >= maxFailures {
			giveUp(err)
			return
		}
		out.Degraded(err)
		for _, r := range s.readings {
			out.Fault(r.Name, err)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

func publish(out devices.Outlet, values []value) {
	now := time.Now()
	for _, v := range values {
		if v.err != nil {
			out.Fault(v.reading, v.err)
		} else {
			out.Emit(v.reading, v.v, devices.Sample{Time: now})
		}
	}
}

// Drivers returns the drivers of this package. Their devices share the busses.
func Drivers() []devices.Driver {
	sim := newSimulation()
	return drivers(newPool(func(name string) (periph.BusCloser, error) {
		if name == simBus {
			return sim, nil
		}
		return openBus(name)
	}), sim)
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
