package devices

import (
	"fmt"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices/pipeline"
	"github.com/postern-iot/postern/wamp"
)

// Config is the section "devices" of the gateway's configuration.
type Config struct {
	Prefix  string  `yaml:"prefix" doc:"URI that every device's topics and procedures begin with: <prefix>.<device>.<reading>; {hostname} stands for the machine's name"`
	Queue   int     `yaml:"queue" doc:"values of one device that may wait to be published; when there are more, the oldest are dropped and counted"`
	Restart Restart `yaml:"restart" doc:"how a device that failed is started again"`
	List    []Entry `yaml:"list" doc:"the devices"`
	// StateDir is the gateway's, for Env.
	StateDir string `yaml:"-"`
}

// Restart says how long to wait before a failed device is opened again.
type Restart struct {
	Min         time.Duration `yaml:"min" doc:"the first wait; it doubles with every failure"`
	Max         time.Duration `yaml:"max" doc:"the longest wait"`
	StableAfter time.Duration `yaml:"stable_after" doc:"a device that worked for this long starts again with the first wait"`
}

// Entry is one device of the configuration: a mapping with the keys name and
// type, and next to them those of the driver's parameters.
type Entry struct {
	Name string `yaml:"name" required:"true" doc:"the device's name, part of its URIs: a-z, 0-9 and _"`
	Type string `yaml:"type" required:"true" doc:"the driver, one of those that 'postern drivers' lists"`
	// Control is for actuators.
	Control Control `yaml:"control" doc:"for actuators: who must be there for them to stay as they were commanded"`
	// Readings says what becomes of the values before they are published.
	Readings map[string]pipeline.Config `yaml:"readings" doc:"what becomes of a reading's values before they are published, by the reading's name: calibration, range, smoothing, alarms, deadband, periods. See readings.md"`
	// Sim is for --sim.
	Sim Simulation `yaml:"sim" doc:"what the device measures and what happens to it with simulated hardware (postern run --sim); of no meaning otherwise. See simulation.md"`
	// Params is what the driver's NewParams returned, filled in from the rest
	// of the mapping; nil stands for the defaults.
	Params any `yaml:",inline"`
}

// hostnameVar in a prefix stands for the machine's name; gateway/config
// replaces it.
const hostnameVar = "{hostname}"

const (
	maxName  = 64
	maxQueue = 1 << 16
)

// DefaultConfig has no devices.
func DefaultConfig() Config {
	return Config{
		Prefix:  "device",
		Queue:   1024,
		Restart: Restart{Min: time.Second, Max: 30 * time.Second, StableAfter: 30 * time.Second},
	}
}

// Validate reports what types cannot say; it does not look at the entries'
// types and parameters, which need a driver table.
func (c *Config) Validate(report func(path, problem, hint string)) {
	prefix := strings.ReplaceAll(c.Prefix, hostnameVar, "host")
	switch {
	case strings.ContainsAny(prefix, "{}"):
		report("prefix", fmt.Sprintf("%q has an unknown variable", c.Prefix), "the only one is "+hostnameVar)
	case !wamp.LooseURIs.ValidURI(prefix):
		report("prefix", fmt.Sprintf("%q is not a URI", c.Prefix), "write components joined by dots, such as com.example.site1")
	case wamp.Reserved(prefix):
		report("prefix", fmt.Sprintf("%q is reserved for the router", c.Prefix), `choose one that does not begin with "wamp."`)
	}
	if c.Queue < 1 || c.Queue > maxQueue {
		report("queue", fmt.Sprintf("%d is out of range", c.Queue), fmt.Sprintf("write a number from 1 to %d", maxQueue))
	}
	if c.Restart.Min < 10*time.Millisecond {
		report("restart.min", fmt.Sprintf("%v is too short", c.Restart.Min), "write 10ms or more")
	}
	if c.Restart.Max < c.Restart.Min {
		report("restart.max", fmt.Sprintf("%v is shorter than min, %v", c.Restart.Max, c.Restart.Min), "")
	}
	if c.Restart.StableAfter < 0 {
		report("restart.stable_after", "it is negative", "write 0s or more")
	}
	first := make(map[string]int)
	for i, e := range c.List {
		path := fmt.Sprintf("list[%d].name", i)
		if problem := NameProblem(e.Name); problem != "" {
			report(path, problem, "use a-z, 0-9 and _, at most 64 of them")
		} else if j, ok := first[e.Name]; ok {
			report(path, fmt.Sprintf("%q is also the name of list[%d]", e.Name, j), "give every device a name of its own")
		} else {
			first[e.Name] = i
		}
		if problem := e.Control.problem(); problem != "" {
			report(fmt.Sprintf("list[%d].control.lease", i), problem, fmt.Sprintf("write 0s, or %v to %v", minLease, maxLease))
		}
	}
}

// NameProblem says why name cannot be a component of a URI, "" when it can.
// The alphabet is that of strict URIs, so that a device's URIs are valid in
// every realm and need no escaping as an MQTT topic. It is for the names of
// devices, readings and procedures.
func NameProblem(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxName:
		return "it is too long"
	case !wamp.StrictURIs.ValidURI(name) || strings.Contains(name, "."):
		return fmt.Sprintf("%q has a character that is not allowed", name)
	}
	return ""
}

// Grouper is implemented by parameter structs of devices that belong together
// with others of the same group.
type Grouper interface {
	// Group returns the key of the parameter and the group's name, "" for none.
	Group() (key, name string)
}

// Lonely is a device that is alone in its group.
type Lonely struct {
	Index     int // into the entries
	Key, Name string
}

// CheckGroups finds the devices that are alone in their group: most likely its
// name is misspelt, and something is not protected that should be.
func CheckGroups(entries []Entry) []Lonely {
	type group struct{ key, name string }
	of := func(e Entry) (g group) {
		if p, ok := e.Params.(Grouper); ok {
			g.key, g.name = p.Group()
		}
		return g
	}
	members := map[group]int{}
	for _, e := range entries {
		members[of(e)]++
	}
	var found []Lonely
	for i, e := range entries {
		if g := of(e); g.name != "" && members[g] == 1 {
			found = append(found, Lonely{Index: i, Key: g.key, Name: g.name})
		}
	}
	return found
}
