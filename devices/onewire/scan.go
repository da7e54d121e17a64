package onewire

import (
	"path/filepath"
	"regexp"
	"slices"
)

// Bus is a 1-wire bus and what is on it.
type Bus struct {
	Name string `json:"name"` // "w1_bus_master1"
	// Sensors are the DS18B20, by their numbers; Others are what has no driver
	// here.
	Sensors []string `json:"sensors,omitempty"`
	Others  []string `json:"others,omitempty"`
}

// slaveID is what the kernel names everything on a bus.
var slaveID = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{12}$`)

// Busses are those that the kernel has, with what it has found on them. root is
// /, or the folder that stands for it.
func Busses(root string) []Bus {
	dirs, _ := filepath.Glob(filepath.Join(root, "sys/bus/w1/devices/w1_bus_master*"))
	slices.Sort(dirs)
	var all []Bus
	for _, dir := range dirs {
		b := Bus{Name: filepath.Base(dir)}
		entries, _ := filepath.Glob(filepath.Join(dir, "*-*"))
		slices.Sort(entries)
		for _, path := range entries {
			switch id := filepath.Base(path); {
			case sensorID.MatchString(id):
				b.Sensors = append(b.Sensors, id)
			case slaveID.MatchString(id):
				b.Others = append(b.Others, id)
			}
		}
		all = append(all, b)
	}
	return all
}
