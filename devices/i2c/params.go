package i2c

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
)

// Address is a 7-bit address on the bus, shown as people write it.
type Address uint8

// String is the address as in data sheets: 0x76.
func (a Address) String() string { return fmt.Sprintf("%#02x", uint8(a)) }

// Common are the parameters of every device on a bus.
type Common struct {
	Bus      string        `yaml:"bus" doc:"the bus: its device (/dev/i2c-1), a part of its adapter's name as 'i2cdetect -l' shows it, or sim for a simulated chip inside the gateway"`
	Address  Address       `yaml:"address" doc:"the chip's address on the bus, as 'i2cdetect -y 1' shows it"`
	Timeout  time.Duration `yaml:"timeout" min:"1ms" max:"10s" doc:"the longest that one transaction may hold the bus"`
	Interval time.Duration `yaml:"interval" min:"1ms" doc:"time between two measurements"`
}

const (
	simBus     = "sim"
	defaultBus = "/dev/i2c-1"
	busPrefix  = "/dev/i2c-"
)

func newCommon(address Address) Common {
	return Common{Bus: defaultBus, Address: address, Timeout: 500 * time.Millisecond, Interval: 10 * time.Second}
}

// Claims implements devices.Claimer.
func (c *Common) Claims() []string {
	return []string{fmt.Sprintf("i2c:%s/%v", canonicalBus(c.Bus), c.Address)}
}

// Occupies implements devices.Occupier.
func (c *Common) Occupies() []devices.Occupation { return devices.HeaderLines(canonicalBus(c.Bus)) }

// Simulate implements devices.Simulator.
func (c *Common) Simulate() { c.Bus = simBus }

// canonicalBus is one name for what can be written in several ways: 1, i2c-1,
// I2C1 (as periph writes it) and /dev/i2c-1.
func canonicalBus(bus string) string {
	if bus == simBus {
		return bus
	}
	number := strings.ToLower(bus)
	for _, prefix := range []string{busPrefix, "i2c-", "i2c"} {
		if rest, ok := strings.CutPrefix(number, prefix); ok {
			number = rest
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 16); err == nil {
		return busPrefix + strconv.FormatUint(n, 10)
	}
	return bus
}

// report is how a Validate speaks.
type report = func(path, problem, hint string)

// check validates what all devices have; lo to hi are the addresses that the
// chip can have.
func (c *Common) check(report report, lo, hi Address) {
	if c.Bus == "" {
		report("bus", "it is empty", "write "+defaultBus)
	}
	if c.Address < lo || c.Address > hi {
		where := fmt.Sprintf("the chip's address is one from %v to %v, as its address pins are wired", lo, hi)
		if lo == hi {
			where = fmt.Sprintf("the chip's address is %v", lo)
		}
		report("address", fmt.Sprintf("%v is not possible", c.Address), where)
	}
	if c.Timeout < time.Millisecond || c.Timeout > 10*time.Second {
		report("timeout", fmt.Sprintf("%v is out of range", c.Timeout), "write a duration from 1ms to 10s")
	}
	if c.Interval < time.Millisecond {
		report("interval", fmt.Sprintf("%v is too short", c.Interval), "write 1ms or more")
	}
}

func finite(path string, v float64, report report) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		report(path, "it is not a finite number", "")
	}
}
