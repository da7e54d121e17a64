// Package sim has devices without hardware: signals, a playback of recorded
// values, and a relay, one file each. They make the demonstration, and stand
// in for sensors while something is being built.
//
// World puts a whole configuration on simulated hardware. Its devices have
// goroutines while they run, which their Run waits for; the rest of the package
// starts none. No clock is read but through timers, so that all of it runs in a
// testing/synctest bubble.
package sim

import (
	"context"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
)

// Signal holds the parameters that all signals have.
type Signal struct {
	Reading  string        `yaml:"reading" doc:"name of the reading: a-z, 0-9 and _"`
	Unit     string        `yaml:"unit" doc:"unit of the reading, in UCUM: Cel, %, V"`
	Interval time.Duration `yaml:"interval" min:"1ms" doc:"time between two values"`
	Decimals int           `yaml:"decimals" min:"0" max:"15" doc:"digits after the decimal point"`
}

func newSignal() Signal {
	return Signal{Reading: "value", Interval: time.Second, Decimals: 2}
}

// Validate implements devices.Validator.
func (s *Signal) Validate(report func(path, problem, hint string)) {
	validateReading("reading", s.Reading, report)
}

// Simulate implements devices.Simulator: it is simulated already.
func (s *Signal) Simulate() {}

func validateReading(path, name string, report func(path, problem, hint string)) {
	if problem := devices.NameProblem(name); problem != "" {
		report(path, problem, "use a-z, 0-9 and _")
	}
}

// signal is a device with one reading that is a function of time.
type signal struct {
	Signal
	doc string
	// next returns the value at a time since the first run began.
	next  func(elapsed time.Duration) float64
	begun time.Time
}

// Readings implements devices.Device.
func (s *signal) Readings() []devices.Reading {
	return []devices.Reading{{Name: s.Reading, Doc: s.doc, Unit: s.Unit, Type: "float"}}
}

// Procedures implements devices.Device.
func (s *signal) Procedures() []devices.Procedure { return nil }

// Run implements devices.Device.
func (s *signal) Run(ctx context.Context, out devices.Outlet) error {
	if s.begun.IsZero() {
		s.begun = time.Now()
	}
	out.Ready()
	devices.Every(ctx, s.Interval, func(now time.Time) {
		out.Emit(s.Reading, round(s.next(now.Sub(s.begun)), s.Decimals), devices.Sample{Time: now})
	})
	return nil
}

// Halt implements devices.Device: a sensor has no safe state.
func (s *signal) Halt() error { return nil }

// round rounds v to so many decimals.
func round(v float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	if r := math.Round(v*scale) / scale; !math.IsInf(r, 0) {
		return r
	}
	return v
}
