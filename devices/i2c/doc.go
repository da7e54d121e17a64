// Package i2c has the drivers of chips on an I2C bus, a file each, over
// periph's i2c.Bus.
//
// Devices on one bus share a worker (see pool), which does their transactions
// one after the other, each with a deadline: what one that hangs costs its
// neighbours is its deadline, and no more. A device's work that takes several
// transactions, such as a conversion, leaves the bus to others in between.
//
// Goroutines: a worker for each bus in use, which ends when the last device on
// it stops, and one for each transaction. The latter cannot be ended while the
// kernel holds it: after the deadline it is left to itself, with its
// descriptor, and the bus is opened anew; when several of a bus are held, no
// more are begun until one has come back.
//
// With "bus: sim" the same drivers talk to models of their chips, register for
// register, inside the process. The package is larger than most because it has
// a file for each chip.
package i2c
