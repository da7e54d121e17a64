package homeassistant

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Gateway is who announces.
type Gateway struct {
	Prefix  string // of discovery's topics: "homeassistant"
	Node    string // node_id in them, and the beginning of every unique_id
	Version string
	// Base is where states and commands are: <base>/<device>/<reading> carries
	// {"value": …}, <base>/<device>/status the same with the device's state, and
	// <base>/<device>/<procedure>/call takes a list of arguments.
	Base string
	// Commands says that somebody listens to commands.
	Commands bool
	// Status is the topic of the gateway's birth and last will, "" for none.
	Status, Online, Offline string
}

// Bounds of what is announced.
const (
	maxDevices  = 500
	maxEntities = 64 // of a device
)

var (
	component = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	notNodeID = regexp.MustCompile(`[^A-Za-z0-9_-]`)
)

// NodeID is s as discovery's topics can carry it: [a-zA-Z0-9_-].
func NodeID(s string) string { return notNodeID.ReplaceAllString(s, "_") }

// OwnConfigs is the filter for the configs that the gateway has announced.
func (g *Gateway) OwnConfigs() string { return g.Prefix + "/+/" + g.Node + "/+/config" }

// Announce makes the retained config messages, by their topics, of devices as
// the procedures list and describe return them. What cannot be announced is left
// out and named.
func (g *Gateway) Announce(devices wamp.List) (configs map[string][]byte, leftOut []string) {
	configs = map[string][]byte{}
	for i, one := range devices {
		d, _ := one.(map[string]any)
		name := text(d, "name")
		switch {
		case i >= maxDevices:
			return configs, append(leftOut, fmt.Sprintf("%d devices, only the first %d are announced", len(devices), maxDevices))
		case !component.MatchString(name):
			leftOut = append(leftOut, fmt.Sprintf("device %q: the name cannot be in a discovery topic", name))
			continue
		}
		entities := g.entities(name, d)
		if len(entities) > maxEntities {
			leftOut = append(leftOut, fmt.Sprintf("device %s: %d entities, only the first %d are announced", name, len(entities), maxEntities))
			entities = entities[:maxEntities]
		}
		for _, e := range entities {
			b, err := json.Marshal(e.config)
			if err != nil {
				leftOut = append(leftOut, fmt.Sprintf("device %s, %s: %v", name, e.object, err))
				continue
			}
			configs[strings.Join([]string{g.Prefix, e.component, g.Node, name + "-" + e.object, "config"}, "/")] = b
		}
	}
	return configs, leftOut
}

// entity is one config.
type entity struct {
	component, object string
	config            map[string]any
}

const (
	// A value that is null becomes None, which is an unknown state to every
	// component.
	valueTemplate = "{{ value_json.value }}"
	upTemplate    = "{{ 'online' if value_json.value in ['ready', 'degraded'] else 'offline' }}"
	// What Home Assistant's templates make of true and false.
	wordTrue, wordFalse = "True", "False"
)

func (g *Gateway) entities(name string, d map[string]any) []entity {
	readings, procedures := dicts(d, "readings"), dicts(d, "procedures")
	if !g.Commands {
		procedures = nil
	}
	var all []entity
	shown := map[string]bool{} // readings that are an actuator's state
	add := func(comp, object, title string, config map[string]any) {
		config["name"], config["unique_id"] = title, g.Node+"-"+name+"-"+object
		config["device"], config["origin"] = g.device(name, d), map[string]any{"name": "Postern", "sw_version": g.Version}
		config["availability"], config["availability_mode"] = g.availability(name), "all"
		all = append(all, entity{comp, object, config})
	}
	for _, p := range procedures {
		g.control(name, p, readings, shown, add)
	}
	for _, r := range readings {
		if shown[text(r, "name")] {
			continue
		}
		if comp, config := sensor(r); comp != "" {
			config["state_topic"], config["value_template"] = g.topic(name, text(r, "name")), valueTemplate
			add(comp, text(r, "name"), title(text(r, "name")), config)
		}
	}
	return all
}

// control announces a procedure: one that takes a boolean is a switch, one that
// takes a number is a number, and one that takes nothing is a button. Others
// need arguments that Home Assistant has no entity for.
func (g *Gateway) control(device string, p map[string]any, readings []map[string]any, shown map[string]bool, add func(comp, object, title string, config map[string]any)) {
	name := text(p, "name")
	if !component.MatchString(name) {
		return
	}
	var needed []map[string]any
	for _, a := range dicts(p, "args") {
		if optional, _ := a["optional"].(bool); !optional {
			needed = append(needed, a)
		}
	}
	config := map[string]any{"command_topic": g.topic(device, name) + "/call"}
	if len(needed) == 0 {
		config["payload_press"] = "[]"
		add("button", name, title(name), config)
		return
	}
	if len(needed) > 1 {
		return
	}
	arg := text(needed[0], "name")
	label := title(arg)
	if rest, ok := strings.CutPrefix(name, "set_"); ok {
		label = title(rest)
	} else if name != "set" {
		label = title(name)
	}
	state := slices.IndexFunc(readings, func(r map[string]any) bool {
		n := text(r, "name")
		return (n == arg || "set_"+n == name) && sameKind(text(r, "type"), text(needed[0], "type"))
	})
	if state >= 0 {
		r := readings[state]
		config["state_topic"], config["value_template"] = g.topic(device, text(r, "name")), valueTemplate
	}
	switch text(needed[0], "type") {
	case "bool":
		config["payload_on"], config["payload_off"] = "[true]", "[false]"
		config["state_on"], config["state_off"] = wordTrue, wordFalse
		add("switch", name, label, config)
	case "int", "float":
		// describe tells no bounds: the device itself refuses what is beyond its own.
		config["command_template"], config["mode"] = "[{{ value }}]", "box"
		config["min"], config["max"], config["step"] = -1e6, 1e6, 0.001
		if text(needed[0], "type") == "int" {
			config["command_template"], config["step"] = "[{{ value | int }}]", 1
		}
		if state >= 0 {
			if u, known := units[text(readings[state], "unit")]; known && u.unit != "" {
				config["unit_of_measurement"] = u.unit
			}
		}
		add("number", name, label, config)
	default:
		return
	}
	if state >= 0 {
		shown[text(readings[state], "name")] = true
	}
}

func sameKind(reading, arg string) bool {
	number := func(t string) bool { return t == "int" || t == "float" }
	return reading == arg || number(reading) && number(arg)
}

// sensor is the component of a reading, "" when it is for no person's eyes.
func sensor(r map[string]any) (comp string, config map[string]any) {
	config = map[string]any{}
	switch text(r, "type") {
	case "bool":
		config["payload_on"], config["payload_off"] = wordTrue, wordFalse
		return "binary_sensor", config
	case "string":
		return "sensor", config
	case "int", "float":
	default: // bytes, dict
		return "", nil
	}
	name := text(r, "name")
	u, known := units[text(r, "unit")]
	if !known && text(r, "unit") != "" {
		u.unit = text(r, "unit")
	}
	if u.unit != "" {
		config["unit_of_measurement"] = u.unit
	}
	class := u.class
	if by, ok := classByName[name]; ok && by.unit == u.unit {
		class = by.class
	}
	if class != "" {
		config["device_class"] = class
	}
	config["state_class"] = "measurement"
	if class == "energy" || name == "total" {
		config["state_class"] = "total_increasing"
	}
	return "sensor", config
}

func (g *Gateway) topic(levels ...string) string {
	return g.Base + "/" + strings.Join(levels, "/")
}

func (g *Gateway) device(name string, d map[string]any) map[string]any {
	return map[string]any{
		"identifiers": []string{g.Node + "-" + name}, "name": title(name),
		"manufacturer": "Postern", "model": text(d, "type"), "sw_version": g.Version,
	}
}

func (g *Gateway) availability(name string) []map[string]any {
	all := []map[string]any{{"topic": g.topic(name, "status"), "value_template": upTemplate}}
	if g.Status != "" {
		all = append(all, map[string]any{"topic": g.Status, "payload_available": g.Online, "payload_not_available": g.Offline})
	}
	return all
}

// title is a name for people: "fuel_level" is "Fuel level".
func title(name string) string {
	s := strings.ReplaceAll(name, "_", " ")
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func text(d map[string]any, key string) string {
	s, _ := d[key].(string)
	return s
}

func dicts(d map[string]any, key string) []map[string]any {
	list, _ := d[key].([]any)
	var out []map[string]any
	for _, v := range list {
		if one, ok := v.(map[string]any); ok {
			out = append(out, one)
		}
	}
	return out
}
