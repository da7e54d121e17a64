package sim

import (
	"time"

	"github.com/postern-iot/postern/devices"
)

// Demo returns the devices that a gateway without a configuration has: one of
// each kind, quick enough to be worth watching.
func Demo() []devices.Entry {
	signal := func(reading, unit string, interval time.Duration, decimals int) Signal {
		return Signal{Reading: reading, Unit: unit, Interval: interval, Decimals: decimals}
	}
	return []devices.Entry{
		{Name: "thermometer", Type: "sim-sine", Params: &SineParams{
			Signal: signal("temperature", "Cel", time.Second, 2),
			Offset: 21, Amplitude: 4, Period: time.Minute, Noise: 0.05,
		}},
		{Name: "tank", Type: "sim-walk", Params: &WalkParams{
			Signal: signal("level", "%", time.Second, 1), Start: 60, Step: 1.5, Max: 100,
		}},
		{Name: "door", Type: "sim-square", Params: &SquareParams{
			Reading: "open", High: 1, Period: 12 * time.Second, Duty: 0.25, Boolean: true,
		}},
		{Name: "weather", Type: "sim-playback", Params: &PlaybackParams{
			Sample: "seattle-2012", Interval: time.Second, Speed: 43200, Loop: true,
		}},
		{Name: "relay", Type: "sim-relay", Params: &RelayParams{Initial: stateOff, Safe: stateOff}},
	}
}
