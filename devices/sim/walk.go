package sim

import (
	"math/rand/v2"
	"time"

	"github.com/postern-iot/postern/devices"
)

// WalkParams are the parameters of a sim-walk.
type WalkParams struct {
	Signal `yaml:",inline"`
	Start  float64 `yaml:"start" doc:"the first value"`
	Step   float64 `yaml:"step" min:"0" doc:"the largest change between two values"`
	Min    float64 `yaml:"min" doc:"the lowest value; the walk is reflected there"`
	Max    float64 `yaml:"max" doc:"the highest value; the walk is reflected there"`
	Seed   uint64  `yaml:"seed" doc:"the same seed gives the same walk; 0 gives another one each time"`
}

// Validate implements devices.Validator.
func (p *WalkParams) Validate(report func(path, problem, hint string)) {
	p.Signal.Validate(report)
	if p.Min >= p.Max {
		report("min", "it is not below max", "make min the lowest value of the walk and max the highest")
	} else if p.Start < p.Min || p.Start > p.Max {
		report("start", "it is not between min and max", "")
	}
}

// Walk is the driver of sim-walk.
func Walk() devices.Driver {
	const doc = "where the walk is"
	return devices.Driver{
		Type:    "sim-walk",
		Summary: "A random walk between two limits, such as a tank's level.",
		Doc: "Each value lies at most `step` from the one before, up or down with the same chance.\n" +
			"The reading's name and unit are parameters; the table shows the default.",
		Example: `name: tank
type: sim-walk
reading: level
unit: "%"
start: 60
step: 1.5
min: 0
max: 100
`,
		NewParams: func() any {
			return &WalkParams{Signal: newSignal(), Start: 50, Step: 1, Max: 100}
		},
		Readings: []devices.Reading{{Name: "value", Doc: doc, Type: "float"}},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*WalkParams)
			seed := p.Seed
			if seed == 0 {
				seed = rand.Uint64()
			}
			random := rand.New(rand.NewPCG(seed, 0))
			at, first := p.Start, true
			return &signal{Signal: p.Signal, doc: doc, next: func(time.Duration) float64 {
				if first {
					first = false
					return at
				}
				at += p.Step * (2*random.Float64() - 1)
				if at > p.Max {
					at = 2*p.Max - at
				} else if at < p.Min {
					at = 2*p.Min - at
				}
				at = min(max(at, p.Min), p.Max) // a step may be longer than the walk is wide
				return at
			}}, nil
		},
	}
}
