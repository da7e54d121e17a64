package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/postern-iot/postern/devices"
)

// SineParams are the parameters of a sim-sine.
type SineParams struct {
	Signal    `yaml:",inline"`
	Offset    float64       `yaml:"offset" doc:"the middle of the wave"`
	Amplitude float64       `yaml:"amplitude" doc:"how far it goes up and down from there"`
	Period    time.Duration `yaml:"period" min:"1ms" doc:"length of a wave"`
	Phase     time.Duration `yaml:"phase" doc:"how far into a wave it begins"`
	Noise     float64       `yaml:"noise" min:"0" doc:"standard deviation of what is added at random"`
}

// Sine is the driver of sim-sine.
func Sine() devices.Driver {
	const doc = "the wave, with its noise"
	return devices.Driver{
		Type:    "sim-sine",
		Summary: "A sine wave with noise, such as a room's temperature over the day.",
		Doc:     "The reading's name and unit are parameters; the table shows the default.",
		Example: `name: thermometer
type: sim-sine
reading: temperature
unit: Cel
offset: 21
amplitude: 4
period: 60s
noise: 0.05
`,
		NewParams: func() any {
			return &SineParams{Signal: newSignal(), Amplitude: 1, Period: time.Minute}
		},
		Readings: []devices.Reading{{Name: "value", Doc: doc, Type: "float"}},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*SineParams)
			return &signal{Signal: p.Signal, doc: doc, next: func(elapsed time.Duration) float64 {
				turn := float64(elapsed+p.Phase) / float64(max(p.Period, 1))
				return p.Offset + p.Amplitude*math.Sin(2*math.Pi*turn) + p.Noise*rand.NormFloat64()
			}}, nil
		},
	}
}
