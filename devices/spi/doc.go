// Package spi has the drivers of chips on an SPI bus, a file each, over
// periph's spi.Port.
//
// Devices on one bus, whatever their chip selects, share its worker (package
// bus), which keeps the deadline of each transfer. The package starts no
// goroutines of its own, and touches no bus before Run or Halt of a device.
//
// With "port: sim" the same drivers talk to models of their chips, bit for bit,
// inside the process; each such device has a bus of its own.
package spi
