package homeassistant

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// TasmotaPrefix is where Tasmota's own discovery messages are, retained:
// <prefix>/<MAC>/config and <prefix>/<MAC>/sensors.
const TasmotaPrefix = "tasmota/discovery"

// Tasmota reads Tasmota's own discovery of one device: relays, dimmers, and the
// values of its sensors. sensors may be empty. What else there is it says in the
// first entity's Problems.
//
// Source: the messages as Tasmota 9.2 and later send them with SetOption19 0,
// https://tasmota.github.io/docs/Home-Assistant/.
func Tasmota(config, sensors []byte) ([]*Entity, error) {
	v, err := decode(config)
	if err != nil {
		return nil, fmt.Errorf("the config is not JSON: %w", err)
	}
	d, _ := v.(map[string]any)
	t := &tasmota{d: d, about: map[string]any{"manufacturer": "Tasmota"}}
	mac, topic := text(d, "mac"), text(d, "t")
	prefixes, _ := d["tp"].([]any)
	if mac == "" || topic == "" || len(prefixes) != 3 || !strings.Contains(text(d, "ft"), "%prefix%") {
		return nil, fmt.Errorf("the config lacks mac, t, tp or ft")
	}
	for i := range t.topics {
		full := strings.NewReplacer("%prefix%", Text(prefixes[i]), "%topic%", topic, "%hostname%", text(d, "hn"), "%id%", mac[max(0, len(mac)-6):]).Replace(text(d, "ft"))
		t.topics[i] = strings.TrimSuffix(full, "/") + "/"
		if len(full) > 512 || strings.ContainsAny(full, "+#\x00$") {
			return nil, fmt.Errorf("ft %q makes no topic", clip(text(d, "ft")))
		}
	}
	t.name = Slug(mac)
	for key, from := range map[string]string{"name": "dn", "model": "md", "sw_version": "sw"} {
		if s := text(d, from); s != "" {
			t.about[key] = clip(s)
		}
	}
	t.relays()
	if err := t.sensors(sensors); err != nil {
		t.problem("sensors: %v", err)
	}
	if len(t.all) == 0 {
		t.entity("tasmota", "tasmota")
	}
	t.all[0].Problems = t.problems
	return t.all, nil
}

type tasmota struct {
	d        map[string]any
	name     string
	about    map[string]any
	topics   [3]string // cmnd, stat, tele, each with its slash
	all      []*Entity
	problems []string
}

func (t *tasmota) problem(format string, a ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, a...))
}

func (t *tasmota) entity(component, name string) *Entity {
	plain, _ := ParseTemplate("")
	e := &Entity{
		Device: t.name, Name: Slug(name), Component: component, Title: clip(name), About: t.about, Mode: "latest",
		Availability: []Availability{{
			Topic: t.topics[2] + "LWT", value: plain, here: orElse(text(t.d, "onln"), "Online"), notHere: orElse(text(t.d, "ofln"), "Offline"),
		}},
	}
	t.all = append(t.all, e)
	return e
}

// states are where Tasmota tells of a key: at every change, and now and then.
func (t *tasmota) states(e *Entity, kind, key string) {
	for _, topic := range []string{t.topics[1] + "RESULT", t.topics[2] + "STATE"} {
		v, _ := ParseTemplate("{{ value_json." + key + " }}")
		e.States = append(e.States, State{Topic: topic, kind: kind, value: v, on: t.word(1, "ON"), off: t.word(0, "OFF")})
	}
}

// word is how the device writes off (0) and on (1).
func (t *tasmota) word(i int, otherwise string) string {
	words, _ := t.d["state"].([]any)
	if i < len(words) {
		return Text(words[i])
	}
	return otherwise
}

func (t *tasmota) relays() {
	kinds, _ := t.d["rl"].([]any)
	names, _ := t.d["fn"].([]any)
	const none, shutter, most = "0", "3", 32
	count := 0
	for _, k := range kinds {
		if Text(k) != none {
			count++
		}
	}
	for i, k := range kinds[:min(len(kinds), most)] {
		switch Text(k) {
		case none:
			continue
		case shutter:
			t.problem("relay %d belongs to a shutter, which is not understood", i+1)
			continue
		}
		key := "POWER" + strconv.Itoa(i+1)
		name := key
		if count == 1 {
			name = "POWER"
		}
		e := t.entity("switch", name)
		if i < len(names) && names[i] != nil {
			e.Title = clip(Text(names[i]))
		}
		t.states(e, "bool", key)
		if i == 0 {
			t.states(e, "bool", "POWER")
		}
		e.Commands = []Command{{
			Name: "set", Arg: "value", Type: "bool", Topic: t.topics[0] + key,
			words: map[string]string{wordTrue: t.word(1, "ON"), wordFalse: t.word(0, "OFF")},
		}}
	}
	if kind, ok := number(Text(t.d["lt_st"])); ok && kind != int64(0) {
		e := t.entity("number", "Dimmer")
		e.Unit = "%"
		t.states(e, "number", "Dimmer")
		e.Commands = []Command{{Name: "set", Arg: "value", Type: "float", Topic: t.topics[0] + "Dimmer", max: 100}}
	}
}

func (t *tasmota) sensors(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	v, err := decode(payload)
	if err != nil {
		return fmt.Errorf("the message is not JSON: %w", err)
	}
	d, _ := v.(map[string]any)
	sn, _ := d["sn"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(sn)) {
		if of, nested := sn[key].(map[string]any); nested {
			t.leaves(sn, []any{key}, of)
		}
	}
	return nil
}

// leaves makes an entity of each value below path.
func (t *tasmota) leaves(sn map[string]any, path []any, v any) {
	const most, deepest = 128, 6
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if len(path) < deepest {
				t.leaves(sn, append(slices.Clone(path), key), v[key])
			}
		}
	case []any:
		for i := range v {
			if len(path) < deepest {
				t.leaves(sn, append(slices.Clone(path), i), v[i])
			}
		}
	default:
		if len(t.all) >= most {
			return
		}
		parts := make([]string, len(path))
		last := ""
		for i, p := range path {
			parts[i] = fmt.Sprint(p)
			if s, isName := p.(string); isName {
				last = s
			}
		}
		e := t.entity("sensor", strings.Join(parts, "_"))
		e.Unit = ucum(tasmotaUnit(sn, last))
		e.States = []State{{
			Topic: t.topics[2] + "SENSOR", kind: "auto",
			value: &Template{parts: []part{{expr: &expression{doc: true, path: path}}}},
		}}
	}
}

// tasmotaUnit is the unit of a sensor's value, as
// https://tasmota.github.io/docs/JSON-Status-Responses/ and the message itself
// tell; "" when they do not.
func tasmotaUnit(sn map[string]any, key string) string {
	switch key {
	case "Temperature", "DewPoint":
		return map[string]string{"C": "°C", "F": "°F"}[text(sn, "TempUnit")]
	case "Pressure", "SeaPressure":
		return text(sn, "PressureUnit")
	}
	return map[string]string{
		"Humidity": "%", "Illuminance": "lx", "Power": "W", "ApparentPower": "VA", "Voltage": "V", "Current": "A",
		"Frequency": "Hz", "Total": "kWh", "Today": "kWh", "Yesterday": "kWh", "Battery": "%",
	}[key]
}
