// Package i2c has the drivers of chips on an I2C bus, a file each, over
// periph's i2c.Bus.
//
// Devices on one bus share its worker (package bus), which keeps the deadline of
// each transaction. A device's work that takes several transactions, such as a
// conversion, leaves the bus to others in between. The package starts no
// goroutines of its own.
//
// With "bus: sim" the same drivers talk to models of their chips, register for
// register, inside the process. The package is larger than most because it has
// a file for each chip.
package i2c
