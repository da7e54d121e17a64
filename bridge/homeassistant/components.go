package homeassistant

import (
	"fmt"
	"strconv"
	"strings"
)

// components are those that are understood.
var components = map[string]func(*reader){
	"sensor":        func(r *reader) { r.state("auto", "value_template") },
	"binary_sensor": func(r *reader) { r.onOffState("value_template") },
	"switch":        func(r *reader) { r.onOffState("value_template"); r.onOff("command_template") },
	"fan":           func(r *reader) { r.onOffState("state_value_template"); r.onOff("command_template") },
	"light":         (*reader).light,
	"number": func(r *reader) {
		r.state("number", "value_template")
		c := r.command("set", "value", "float")
		c.min, c.max = r.number("min", 1), r.number("max", 100)
		r.add(c, "command_template")
	},
	"select": func(r *reader) {
		r.state("text", "value_template")
		c := r.command("set", "value", "string")
		c.options = r.texts("options")
		r.add(c, "command_template")
	},
	"text": func(r *reader) {
		r.state("text", "value_template")
		r.add(r.command("set", "value", "string"), "command_template")
	},
	"button": func(r *reader) {
		c := r.command("press", "", "")
		c.fixed = r.word("payload_press", "PRESS")
		r.add(c, "command_template")
	},
	"lock": func(r *reader) {
		r.state("bool", "value_template")
		r.words(r.word("state_locked", "LOCKED"), r.word("state_unlocked", "UNLOCKED"))
		c := r.command("set", "value", "bool")
		c.words = map[string]string{wordTrue: r.word("payload_lock", "LOCK"), wordFalse: r.word("payload_unlock", "UNLOCK")}
		r.add(c, "command_template")
	},
	"climate": func(*reader) {},
	"cover": func(r *reader) {
		r.state("text", "value_template")
		for _, w := range [][2]string{{"open", "OPEN"}, {"close", "CLOSE"}, {"stop", "STOP"}} {
			c := r.command(w[0], "", "")
			c.fixed = r.word("payload_"+w[0], w[1])
			r.add(c, "command_template")
		}
	},
}

// reader reads one config into its entity.
type reader struct {
	d map[string]any
	e *Entity
}

func (r *reader) problem(format string, a ...any) {
	r.e.Problems = append(r.e.Problems, fmt.Sprintf(format, a...))
}

// word is a key's text, as Home Assistant's checks make one of it.
func (r *reader) word(key, otherwise string) string {
	if v, ok := r.d[key]; ok && v != nil {
		return Text(v)
	}
	return otherwise
}

func (r *reader) number(key string, otherwise float64) float64 {
	if v, ok := r.d[key]; ok {
		if x, err := strconv.ParseFloat(Text(v), 64); err == nil {
			return x
		}
	}
	return otherwise
}

func (r *reader) qos() byte {
	if r.word("qos", "0") == "0" {
		return 0
	}
	return 1
}

func (r *reader) topic(key string) string {
	s := text(r.d, key)
	if s == "" {
		return ""
	}
	if len(s) > 1024 || strings.ContainsAny(s, "+#\x00") || s[0] == '$' {
		r.problem("%s %q is no topic", key, clip(s))
		return ""
	}
	return s
}

func (r *reader) template(key string) *Template {
	t, err := ParseTemplate(text(r.d, key))
	if err != nil {
		r.problem("%s: %v", key, err)
		return nil
	}
	return t
}

func (r *reader) state(kind, template string) { r.stateAt("state_topic", kind, template) }

func (r *reader) stateAt(key, kind, template string) {
	topic := r.topic(key)
	if topic == "" {
		return
	}
	if kind == "auto" && (r.e.Unit != "" || text(r.d, "state_class") != "") {
		kind = "number"
	}
	if t := r.template(template); t != nil {
		r.e.States = append(r.e.States, State{Topic: topic, QoS: r.qos(), kind: kind, value: t})
	}
}

// words are those of a boolean state.
func (r *reader) words(on, off string) {
	for i := range r.e.States {
		r.e.States[i].on, r.e.States[i].off = on, off
	}
}

func (r *reader) onOffState(template string) {
	r.state("bool", template)
	r.words(r.word("state_on", r.word("payload_on", "ON")), r.word("state_off", r.word("payload_off", "OFF")))
}

func (r *reader) onOff(template string) {
	c := r.command("set", "value", "bool")
	c.words = map[string]string{wordTrue: r.word("payload_on", "ON"), wordFalse: r.word("payload_off", "OFF")}
	r.add(c, template)
}

func (r *reader) light() {
	switch schema := r.word("schema", "basic"); schema {
	case "basic", "default":
		r.onOffState("state_value_template")
		r.onOff("")
	case "json":
		r.jsonState("bool", "state")
		r.words("ON", "OFF")
		c := r.command("set", "value", "bool")
		c.words = map[string]string{wordTrue: `{"state":"ON"}`, wordFalse: `{"state":"OFF"}`}
		r.add(c, "")
	default:
		r.problem("light schema %q is not understood", clip(schema))
	}
}

// jsonState is a state in a key of the JSON at state_topic.
func (r *reader) jsonState(kind, key string) {
	if topic := r.topic("state_topic"); topic != "" {
		t, _ := ParseTemplate("{{ value_json." + key + " }}")
		r.e.States = append(r.e.States, State{Topic: topic, QoS: r.qos(), kind: kind, value: t})
	}
}

func (r *reader) command(name, arg, kind string) Command {
	return Command{Name: name, Arg: arg, Type: kind, QoS: r.qos(), Retain: r.word("retain", wordFalse) == wordTrue}
}

// add adds a command; template is the key of its template, "" for none.
func (r *reader) add(c Command, template string) { r.addAt("command_topic", c, template) }

func (r *reader) addAt(key string, c Command, template string) {
	if c.Topic = r.topic(key); c.Topic == "" {
		return
	}
	if template != "" {
		if text(r.d, template) != "" {
			if c.template = r.template(template); c.template == nil {
				return
			}
		}
	}
	r.e.Commands = append(r.e.Commands, c)
}

func (r *reader) availability() {
	const maxTopics = 8
	e := r.e
	e.Mode = r.word("availability_mode", "latest")
	add := func(d map[string]any, topic, template string) {
		one := &reader{d: d, e: e}
		a := Availability{Topic: one.topic(topic), here: one.word("payload_available", "online"), notHere: one.word("payload_not_available", "offline")}
		if a.value = one.template(template); a.Topic != "" && a.value != nil && len(e.Availability) < maxTopics {
			e.Availability = append(e.Availability, a)
		}
	}
	if text(r.d, "availability_topic") != "" {
		add(r.d, "availability_topic", "availability_template")
	}
	list, _ := r.d["availability"].([]any)
	if one, ok := r.d["availability"].(map[string]any); ok {
		list = []any{one}
	}
	for _, v := range list {
		if d, ok := v.(map[string]any); ok {
			d = spellOut(d, long)
			base, _ := r.d["~"].(string)
			withBase(d, base)
			add(d, "topic", "value_template")
		}
	}
}

// aspect is a value of a component that has topics of its own beside the first.
type aspect struct {
	name, kind                                     string // kind as State has it
	state, stateTemplate, command, commandTemplate string // keys
	min, max                                       string // keys of a number's bounds
	least, most                                    float64
	options                                        string // key of a text's
}

// aspects are those that are understood, by component.
var aspects = map[string][]aspect{
	"cover": {
		{name: "position", kind: "number", state: "position_topic", stateTemplate: "position_template", command: "set_position_topic", commandTemplate: "set_position_template", min: "position_closed", max: "position_open", most: 100},
		{name: "tilt", kind: "number", state: "tilt_status_topic", stateTemplate: "tilt_status_template", command: "tilt_command_topic", commandTemplate: "tilt_command_template", min: "tilt_min", max: "tilt_max", most: 100},
	},
	"fan": {
		{name: "percentage", kind: "number", state: "percentage_state_topic", stateTemplate: "percentage_value_template", command: "percentage_command_topic", commandTemplate: "percentage_command_template", max: "speed_range_max", most: 100},
		{name: "preset_mode", kind: "text", state: "preset_mode_state_topic", stateTemplate: "preset_mode_value_template", command: "preset_mode_command_topic", commandTemplate: "preset_mode_command_template", options: "preset_modes"},
		{name: "oscillation", kind: "bool", state: "oscillation_state_topic", stateTemplate: "oscillation_value_template", command: "oscillation_command_topic", commandTemplate: "oscillation_command_template"},
	},
	"light": {
		{name: "brightness", kind: "number", state: "brightness_state_topic", stateTemplate: "brightness_value_template", command: "brightness_command_topic", commandTemplate: "brightness_command_template", max: "brightness_scale", most: 255},
		{name: "color_temp", kind: "number", state: "color_temp_state_topic", stateTemplate: "color_temp_value_template", command: "color_temp_command_topic", commandTemplate: "color_temp_command_template", min: "min_mireds", max: "max_mireds", least: 153, most: 500},
	},
	"climate": {
		{name: "current_temperature", kind: "number", state: "current_temperature_topic", stateTemplate: "current_temperature_template"},
		{name: "temperature", kind: "number", state: "temperature_state_topic", stateTemplate: "temperature_state_template", command: "temperature_command_topic", commandTemplate: "temperature_command_template", min: "min_temp", max: "max_temp", least: 7, most: 35},
		{name: "mode", kind: "text", state: "mode_state_topic", stateTemplate: "mode_state_template", command: "mode_command_topic", commandTemplate: "mode_command_template", options: "modes"},
		{name: "fan_mode", kind: "text", state: "fan_mode_state_topic", stateTemplate: "fan_mode_state_template", command: "fan_mode_command_topic", commandTemplate: "fan_mode_command_template", options: "fan_modes"},
		{name: "action", kind: "text", state: "action_topic", stateTemplate: "action_template"},
	},
}

// aspects reads those that the config has.
func (r *reader) aspects(list []aspect) []*Entity {
	var all []*Entity
	for _, a := range list {
		e := *r.e
		e.Name, e.Title, e.Unit, e.Class = e.Name+"_"+a.name, strings.TrimSpace(e.Title+" "+a.name), "", ""
		e.States, e.Commands, e.Problems = nil, nil, nil
		of := &reader{d: r.d, e: &e}
		of.stateAt(a.state, a.kind, a.stateTemplate)
		of.words(of.word("payload_oscillation_on", "oscillate_on"), of.word("payload_oscillation_off", "oscillate_off"))
		if a.command != "" {
			c := of.command("set", "value", map[string]string{"number": "float", "text": "string", "bool": "bool"}[a.kind])
			c.min, c.max = of.number(a.min, a.least), of.number(a.max, a.most)
			c.min, c.max = min(c.min, c.max), max(c.min, c.max) // a cover may count downwards
			c.options = of.texts(a.options)
			c.words = map[string]string{wordTrue: of.word("payload_oscillation_on", "oscillate_on"), wordFalse: of.word("payload_oscillation_off", "oscillate_off")}
			of.addAt(a.command, c, a.commandTemplate)
		}
		if a.name == "brightness" && of.word("schema", "") == "json" && of.word("brightness", wordFalse) == wordTrue {
			of.jsonState("number", "brightness")
			c := of.command("set", "value", "float")
			c.max = of.number("brightness_scale", 255)
			c.template, _ = ParseTemplate(`{"state":"ON","brightness":{{ value | int }}}`)
			of.add(c, "")
		}
		if len(e.States)+len(e.Commands)+len(e.Problems) > 0 {
			all = append(all, &e)
		}
	}
	return all
}

func (r *reader) texts(key string) []string {
	var out []string
	list, _ := r.d[key].([]any)
	for _, o := range list {
		out = append(out, Text(o))
	}
	return out
}
