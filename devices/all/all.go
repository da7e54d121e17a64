// Package all is the table of all drivers that a gateway has, and nothing
// else.
package all

import (
	"slices"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/i2c"
	"github.com/postern-iot/postern/devices/onewire"
	"github.com/postern-iot/postern/devices/pwm"
	"github.com/postern-iot/postern/devices/serial"
	"github.com/postern-iot/postern/devices/sim"
	"github.com/postern-iot/postern/devices/spi"
	"github.com/postern-iot/postern/devices/system"
)

// Table returns the table. A malformed row is an error in this program, found
// by the package's test: it panics.
func Table() *devices.Table {
	chips := gpio.NewChips()
	t, err := devices.NewTable(slices.Concat(
		gpio.Drivers(chips),
		pwm.Drivers(),
		i2c.Drivers(chips),
		spi.Drivers(),
		onewire.Drivers(),
		[]devices.Driver{
			serial.Lines(),
			serial.Frames(),
			serial.NMEA(),
			serial.Modbus(),
			system.Driver(),
			sim.Sine(),
			sim.Walk(),
			sim.Square(),
			sim.Playback(),
			sim.Relay(),
		},
	)...)
	if err != nil {
		panic(err)
	}
	return t
}
