package i2c

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Bus is an I2C bus of the machine.
type Bus struct {
	Number  int
	Path    string // "/dev/i2c-1"
	Adapter string // the adapter's name: "bcm2835 (i2c@7e804000)"
}

// Busses are those of the machine, by their numbers. root is /, or the folder
// that stands for it.
func Busses(root string) []Bus {
	var all []Bus
	for n, adapter := range adapters(root) {
		all = append(all, Bus{Number: n, Path: fmt.Sprintf("%s%d", busPrefix, n), Adapter: adapter})
	}
	slices.SortFunc(all, func(a, b Bus) int { return a.Number - b.Number })
	return all
}

// FindBus finds a bus by what a device's parameter bus says.
func FindBus(root, name string) (Bus, error) {
	n, err := busNumber(root, name)
	if err != nil {
		return Bus{}, err
	}
	return Bus{Number: n, Path: fmt.Sprintf("%s%d", busPrefix, n), Adapter: adapters(root)[n]}, nil
}

// Node is the bus's device below a root.
func (b *Bus) Node(root string) string { return filepath.Join(root, b.Path) }

// foreign are parts of the names of adapters which are not for sensors: those
// of memory modules, of displays and of graphics cards.
var foreign = []string{"smbus", "ddc", "hdmi", "fef04500", "fef09500", "i915", "amdgpu", "radeon", "nvidia", "nvkm", "drm", "aux"}

// Foreign says whether the bus is likely to belong to the machine itself, such
// as one that leads to its memory modules or its display: nobody should ask
// around there without being told to.
func (b *Bus) Foreign() bool {
	name := strings.ToLower(b.Adapter)
	return slices.ContainsFunc(foreign, func(part string) bool { return strings.Contains(name, part) })
}

// Answer is an address of a bus at which something is.
type Answer struct {
	Address Address
	// Kernel says that a driver of the kernel has the address: it was not asked.
	Kernel bool
}

// The addresses that are asked: below and above are those that the bus keeps
// for itself.
const (
	firstAddress = 0x08
	lastAddress  = 0x77
)

// readsByte says whether the address is asked by reading a byte, as i2cdetect
// has it: a quick write could do harm to some memories, and a read to chips
// that are only written. Everything else is asked with a quick write.
func readsByte(a Address) bool { return a >= 0x30 && a <= 0x37 || a >= 0x50 && a <= 0x5F }

// known is what may be at an address. typ is the driver's type, "" where there
// is none.
type known struct {
	first, last Address
	typ, name   string
}

// knownChips are by the address pins that their data sheets have.
var knownChips = []known{
	{0x18, 0x1F, "mcp9808", "MCP9808 (temperature)"},
	{0x20, 0x27, "mcp23017", "MCP23017 (16 lines)"},
	{0x20, 0x27, "", "PCF8574 (8 lines, character displays)"},
	{0x23, 0x23, "bh1750", "BH1750 (light)"},
	{0x38, 0x3F, "", "PCF8574A (8 lines)"},
	{0x3C, 0x3D, "ssd1306", "SSD1306 (display)"},
	{0x40, 0x4F, "ina219", "INA219 (current)"},
	{0x40, 0x7F, "pca9685", "PCA9685 (PWM, servos)"},
	{0x44, 0x45, "sht3x", "SHT3x (temperature, humidity)"},
	{0x48, 0x4B, "ads1115", "ADS1115 (voltages)"},
	{0x50, 0x57, "", "24Cxx (memory)"},
	{0x5C, 0x5C, "bh1750", "BH1750 (light)"},
	{0x68, 0x68, "", "DS3231, DS1307 (clock; a driver of the kernel's)"},
	{0x68, 0x69, "", "MPU-6050 (motion)"},
	{0x76, 0x77, "bme280", "BME280 (temperature, pressure, humidity)"},
	{0x76, 0x77, "bmp280", "BMP280 (temperature, pressure)"},
}

// Candidate is a chip that an address may be that of.
type Candidate struct {
	// Type is that of the driver, "" where the generic i2c-registers would have
	// to do.
	Type string `json:"type,omitempty"`
	Name string `json:"name"`
}

// Candidates are the known chips that may be at an address, those that have it
// among few first.
func Candidates(a Address) []Candidate {
	var at []known
	for _, c := range knownChips {
		if a >= c.first && a <= c.last {
			at = append(at, c)
		}
	}
	slices.SortStableFunc(at, func(a, b known) int { return int(a.last-a.first) - int(b.last-b.first) })
	all := make([]Candidate, len(at))
	for i, c := range at {
		all[i] = Candidate{Type: c.typ, Name: c.name}
	}
	return all
}
