package bus

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
)

// MaxFailures is how many measurements in a row may fail before a device is
// given up and opened anew.
const MaxFailures = 3

// Value is what was measured of one reading, or why there is nothing.
type Value struct {
	Reading string
	V       any
	Err     error
}

// Within is a measured value that the chip can have only from lo to hi.
func Within(reading string, v, lo, hi float64) Value {
	if math.IsNaN(v) || v < lo || v > hi {
		return Value{Reading: reading, Err: fmt.Errorf("%.6g is out of the chip's range, %g to %g", v, lo, hi)}
	}
	return Value{Reading: reading, V: v}
}

// Round rounds to a step that is no coarser than what the chip resolves.
func Round(v float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(v*scale) / scale
}

// Poll is the life of a sensor: it measures in intervals and publishes, until
// ctx ends (and then returns nil), the first measurement fails, or MaxFailures
// in a row do. A single failure makes the device degraded, and each of its
// readings a fault.
func Poll(ctx context.Context, out devices.Outlet, interval time.Duration, readings []devices.Reading, measure func(context.Context) ([]Value, error)) error {
	running, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	ready, failures := false, 0
	devices.Every(running, interval, func(time.Time) {
		if running.Err() != nil {
			return
		}
		values, err := measure(running)
		switch {
		case running.Err() != nil:
			return
		case err == nil:
			if !ready || failures > 0 {
				ready, failures = true, 0
				out.Ready()
			}
			Publish(out, values)
			return
		}
		if failures++; !ready || failures >= MaxFailures {
			giveUp(err)
			return
		}
		out.Degraded(err)
		for _, r := range readings {
			out.Fault(r.Name, err)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// Publish publishes what was measured just now.
func Publish(out devices.Outlet, values []Value) {
	now := time.Now()
	for _, v := range values {
		if v.Err != nil {
			out.Fault(v.Reading, v.Err)
		} else {
			out.Emit(v.Reading, v.V, devices.Sample{Time: now})
		}
	}
}
