package homeassistant

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
)

// required are the keys that each component's page says it must have, and
// allowed those of its other keys that are used here.
// https://www.home-assistant.io/integrations/sensor.mqtt/ and so on.
var required = map[string][]string{
	"sensor":        {"state_topic"},
	"binary_sensor": {"state_topic"},
	"switch":        {"command_topic"},
	"number":        {"command_topic"},
	"button":        {"command_topic"},
}

var allowed = map[string][]string{
	"":              {"availability", "availability_mode", "device", "name", "origin", "unique_id"},
	"sensor":        {"device_class", "state_class", "state_topic", "unit_of_measurement", "value_template"},
	"binary_sensor": {"device_class", "payload_off", "payload_on", "state_topic", "value_template"},
	"switch":        {"command_topic", "device_class", "payload_off", "payload_on", "state_off", "state_on", "state_topic", "value_template"},
	"number":        {"command_template", "command_topic", "device_class", "max", "min", "mode", "state_topic", "step", "unit_of_measurement", "value_template"},
	"button":        {"command_topic", "device_class", "payload_press"},
}

// allowedUnits are those of https://www.home-assistant.io/integrations/sensor/#device-class
// for the classes that are used here.
var allowedUnits = map[string]string{
	"apparent_power": "VA mVA kVA", "battery": "%", "carbon_dioxide": "ppm", "current": "A mA µA", "data_size": "B kB MB GB",
	"distance": "km m cm mm", "duration": "d h min s ms µs", "energy": "J kJ MJ Wh kWh MWh", "frequency": "Hz kHz MHz GHz",
	"humidity": "%", "illuminance": "lx", "moisture": "%", "power": "mW W kW MW", "power_factor": "%", "pressure": "mPa Pa hPa kPa bar mbar",
	"signal_strength": "dB dBm", "speed": "m/s km/h mm/s", "temperature": "°C °F K", "voltage": "V mV µV kV",
	"volume_flow_rate": "m³/h m³/min m³/s L/min L/h L/s", "weight": "kg g mg µg",
}

func described(name string, readings, procedures []any) wamp.Dict {
	return wamp.Dict{"name": name, "type": "t", "readings": readings, "procedures": procedures}
}

func reading(name, kind, unit string) any {
	return wamp.Dict{"name": name, "type": kind, "unit": unit}
}

func procedure(name string, args ...any) any {
	return wamp.Dict{"name": name, "args": args}
}

func arg(name, kind string, optional bool) any {
	return wamp.Dict{"name": name, "type": kind, "optional": optional}
}

var gatewayUnderTest = Gateway{
	Prefix: "homeassistant", Node: "gw", Version: "1", Base: "postern/gw", Commands: true,
	Status: "postern/gw/status", Online: "online", Offline: "offline",
}

// TestComponents says which entity becomes of what.
func TestComponents(t *testing.T) {
	devices := wamp.List{
		described("air", []any{
			reading("temperature", "float", "Cel"), reading("humidity", "float", "%"), reading("load", "float", "%"),
			reading("total", "float", "m3"), reading("energy", "float", "kW.h"), reading("text", "string", ""), reading("raw", "bytes", ""),
			reading("all", "dict", ""), reading("odd", "int", "[furlong]"),
		}, nil),
		described("door", []any{reading("closed", "bool", "")}, nil),
		described("pump", []any{reading("on", "bool", "")}, []any{
			procedure("set", arg("on", "bool", false)), procedure("toggle"), procedure("pulse", arg("ms", "int", false)),
			procedure("blink", arg("a", "int", false), arg("b", "int", false)), procedure("say", arg("s", "string", false)),
		}),
		described("fan", []any{reading("duty", "float", "%")}, []any{procedure("set", arg("duty", "float", false), arg("n", "int", true))}),
	}
	configs, leftOut := gatewayUnderTest.Announce(devices)
	if len(leftOut) > 0 {
		t.Errorf("left out: %q", leftOut)
	}
	want := map[string]string{
		"sensor/gw/air-temperature":    `"device_class":"temperature","state_class":"measurement","unit_of_measurement":"°C"`,
		"sensor/gw/air-humidity":       `"device_class":"humidity"`,
		"sensor/gw/air-load":           `"unit_of_measurement":"%"`,
		"sensor/gw/air-total":          `"state_class":"total_increasing"`,
		"sensor/gw/air-energy":         `"state_class":"total_increasing"`,
		"sensor/gw/air-text":           `"state_topic":"postern/gw/air/text"`,
		"sensor/gw/air-odd":            `"unit_of_measurement":"[furlong]"`,
		"binary_sensor/gw/door-closed": `"payload_off":"False","payload_on":"True"`,
		"switch/gw/pump-set":           `"command_topic":"postern/gw/pump/set/call","payload_off":"[false]","payload_on":"[true]","state_off":"False","state_on":"True","state_topic":"postern/gw/pump/on","value_template":"{{ value_json.value }}"`,
		"button/gw/pump-toggle":        `"payload_press":"[]"`,
		"number/gw/pump-pulse":         `"command_template":"[{{ value | int }}]"`,
		"number/gw/fan-set":            `"state_topic":"postern/gw/fan/duty"`,
	}
	for name, part := range want {
		b, ok := configs["homeassistant/"+name+"/config"]
		if !ok {
			t.Errorf("%s is not announced", name)
			continue
		}
		var c, p map[string]any
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte("{"+part+"}"), &p); err != nil {
			t.Fatal(err)
		}
		for k, v := range p {
			if c[k] != v {
				t.Errorf("%s: %s is %v, want %v", name, k, c[k], v)
			}
		}
	}
	if len(configs) != len(want) {
		t.Errorf("%d configs, want %d", len(configs), len(want))
	}
	for topic, b := range configs {
		checkSchema(t, topic, b)
	}
	readOnly := gatewayUnderTest
	readOnly.Commands = false
	configs, _ = readOnly.Announce(devices)
	for topic := range configs {
		if !strings.Contains(topic, "sensor/") {
			t.Errorf("without commands, %s is announced", topic)
		}
	}
	if len(configs["homeassistant/binary_sensor/gw/pump-on/config"]) == 0 {
		t.Error("without commands, the pump's state is not announced")
	}
}

// checkSchema holds a config against what the components' pages say.
func checkSchema(t *testing.T, topic string, b []byte) {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatalf("%s: %v", topic, err)
	}
	levels := strings.Split(topic, "/")
	comp := levels[1]
	for _, k := range required[comp] {
		if c[k] == nil {
			t.Errorf("%s has no %s", topic, k)
		}
	}
	for k := range c {
		if !slices.Contains(allowed[""], k) && !slices.Contains(allowed[comp], k) {
			t.Errorf("%s has %s, which %s does not take", topic, k, comp)
		}
	}
	if len(levels) != 5 || levels[0] != "homeassistant" || levels[4] != "config" || !component.MatchString(levels[2]) || !component.MatchString(levels[3]) {
		t.Errorf("%s is not <prefix>/<component>/<node_id>/<object_id>/config", topic)
	}
	class, _ := c["device_class"].(string)
	unit, _ := c["unit_of_measurement"].(string)
	if class != "" && !slices.Contains(strings.Fields(allowedUnits[class]), unit) {
		t.Errorf("%s: device class %q does not have the unit %q", topic, class, unit)
	}
	device, _ := c["device"].(map[string]any)
	origin, _ := c["origin"].(map[string]any)
	if device["identifiers"] == nil || device["sw_version"] != "1" || origin["name"] == nil || c["unique_id"] == nil {
		t.Errorf("%s: device %v, origin %v, unique_id %v", topic, device, origin, c["unique_id"])
	}
	if all, _ := c["availability"].([]any); len(all) != 2 || c["availability_mode"] != "all" {
		t.Errorf("%s: availability %v", topic, c["availability"])
	}
}

// TestUnits holds every class in the tables against the units it may have.
func TestUnits(t *testing.T) {
	for _, table := range []map[string]unitClass{units, classByName} {
		for name, u := range table {
			if u.class != "" && !slices.Contains(strings.Fields(allowedUnits[u.class]), u.unit) {
				t.Errorf("%s: class %q does not have the unit %q", name, u.class, u.unit)
			}
		}
	}
}

// TestAnnounceBounds: too much, and what is no device, is named and left out.
func TestAnnounceBounds(t *testing.T) {
	var many []any
	for range maxEntities + 1 {
		many = append(many, reading("r"+strings.Repeat("x", len(many)), "int", ""))
	}
	devices := wamp.List{"nonsense", described("a/b", nil, nil), described("many", many, nil)}
	for len(devices) < maxDevices+1 {
		devices = append(devices, described("d", nil, nil))
	}
	configs, leftOut := gatewayUnderTest.Announce(devices)
	if len(configs) != maxEntities || len(leftOut) != 4 {
		t.Errorf("%d configs, left out %q", len(configs), leftOut)
	}
}
