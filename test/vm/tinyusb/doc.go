// Package tinyusb is an I2C bus of models in the machine of test/vm: see its
// other file, which has the tag vm.
package tinyusb
