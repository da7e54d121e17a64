// Package onewire has the driver of DS18B20 thermometers on a 1-wire bus, over
// the files of the kernel's driver w1_therm (Documentation/w1/slaves/w1_therm.rst).
//
// The devices on one bus share its worker (package bus), which keeps the
// deadline of each access: the kernel holds a reader for as long as a
// conversion takes. All sensors of a device convert at the same time, where the
// kernel can have them do so (therm_bulk_read, since Linux 5.10). The package
// starts no goroutines of its own.
//
// With "bus: sim" the same driver reads models of the sensors, with the
// scratchpad of a real one, inside the process.
package onewire
