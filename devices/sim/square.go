package sim

import (
	"context"
	"time"

	"github.com/postern-iot/postern/devices"
)

// SquareParams are the parameters of a sim-square.
type SquareParams struct {
	Reading string        `yaml:"reading" doc:"name of the reading: a-z, 0-9 and _"`
	Unit    string        `yaml:"unit" doc:"unit of the reading, in UCUM"`
	Low     float64       `yaml:"low" doc:"the lower value, with which it begins"`
	High    float64       `yaml:"high" doc:"the higher value"`
	Period  time.Duration `yaml:"period" min:"2ms" doc:"time from one rise to the next"`
	Duty    float64       `yaml:"duty" doc:"the part of the period for which the value is high, above 0 and below 1"`
	Boolean bool          `yaml:"boolean" doc:"publish true and false instead of high and low, like a contact"`
}

// Validate implements devices.Validator.
func (p *SquareParams) Validate(report func(path, problem, hint string)) {
	validateReading("reading", p.Reading, report)
	if !(p.Duty > 0 && p.Duty < 1) {
		report("duty", "it is not between 0 and 1", "write 0.5 for as long high as low")
	}
}

// Simulate implements devices.Simulator: it is simulated already.
func (p *SquareParams) Simulate() {}

// Square is the driver of sim-square.
func Square() devices.Driver {
	return devices.Driver{
		Type:    "sim-square",
		Summary: "A square wave, such as a door contact or a pump that switches on and off.",
		Doc: "A value is published when the device starts and at every edge, not in between.\n" +
			"The reading's name, unit and type are parameters; the table shows the default.",
		Example: `name: door
type: sim-square
reading: open
boolean: true
period: 12s
duty: 0.25
`,
		NewParams: func() any {
			return &SquareParams{Reading: "value", High: 1, Period: 10 * time.Second, Duty: 0.5}
		},
		Readings: []devices.Reading{{Name: "value", Doc: "the level since the last edge", Type: "float"}},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return &square{*params.(*SquareParams)}, nil
		},
	}
}

type square struct{ SquareParams }

func (s *square) Readings() []devices.Reading {
	r := devices.Reading{Name: s.Reading, Doc: "the level since the last edge", Unit: s.Unit, Type: "float"}
	if s.Boolean {
		r.Type = "bool"
	}
	return []devices.Reading{r}
}

func (s *square) Procedures() []devices.Procedure { return nil }

func (s *square) Run(ctx context.Context, out devices.Outlet) error {
	out.Ready()
	up := time.Duration(float64(s.Period) * s.Duty)
	// Each edge is timed from the first, so that late timers do not add up.
	edge := time.Now()
	high := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		s.emit(out, high)
		wait := up
		if !high {
			wait = s.Period - up
		}
		edge = edge.Add(wait)
		timer.Reset(time.Until(edge))
		select {
		case <-timer.C:
			high = !high
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *square) emit(out devices.Outlet, high bool) {
	switch {
	case s.Boolean:
		out.Emit(s.Reading, high, devices.Sample{})
	case high:
		out.Emit(s.Reading, s.High, devices.Sample{})
	default:
		out.Emit(s.Reading, s.Low, devices.Sample{})
	}
}

func (s *square) Halt() error { return nil }
