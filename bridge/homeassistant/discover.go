package homeassistant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Entity is one entity of a fleet's device, as its config describes it.
type Entity struct {
	// Device and Name are URI components: a-z, 0-9 and _.
	Device, Name string
	Component    string
	// Title, Unit, Class, and what is known of the device, are for people.
	Title, Unit, Class string
	About              map[string]any

	States       []State // where its value comes from
	Commands     []Command
	Availability []Availability
	Mode         string // of Availability: all, any, latest
	// Problems say what of the config is not understood.
	Problems []string
}

// State says how a value is read that arrives at a topic.
type State struct {
	Topic string
	QoS   byte
	kind  string // "bool", "number", "text" or "auto"
	value *Template
	on    string
	off   string
}

// Command is one procedure of an entity.
type Command struct {
	Name, Arg, Type string // Arg is "" when it takes none; Type "bool", "float" or "string"
	Topic           string
	QoS             byte
	Retain          bool

	words    map[string]string // payloads of a boolean, by True and False
	fixed    string            // payload of a command without argument
	template *Template
	min, max float64
	options  []string
}

// Availability is one topic that says whether an entity is there.
type Availability struct {
	Topic   string
	value   *Template
	here    string
	notHere string
}

const maxComponents = 256 // of one device config

// ConfigFilters are the subscriptions for all configs under a prefix.
func ConfigFilters(prefix string) []string {
	return []string{prefix + "/+/+/config", prefix + "/+/+/+/config"}
}

// Discover reads the config at a topic under prefix. ok is false when the topic
// is that of no config. A config that is understood in parts has Problems; one
// that is not understood at all is an error. An empty payload is no entity.
func Discover(prefix, topic string, payload []byte) (all []*Entity, ok bool, err error) {
	rest, under := strings.CutPrefix(topic, prefix+"/")
	levels := strings.Split(rest, "/")
	if !under || len(levels) < 3 || len(levels) > 4 || levels[len(levels)-1] != "config" {
		return nil, false, nil
	}
	if len(payload) == 0 {
		return nil, true, nil
	}
	v, err := decode(payload)
	if err != nil {
		return nil, true, fmt.Errorf("the config is not JSON: %w", err)
	}
	raw, isDict := v.(map[string]any)
	if !isDict {
		return nil, true, fmt.Errorf("the config is no object")
	}
	comp, object, node := levels[0], levels[len(levels)-2], ""
	if len(levels) == 4 {
		node = levels[1]
	}
	d := spellOut(raw, long)
	base, _ := d["~"].(string)
	if comp != "device" {
		all, err = entitiesOf(comp, node, object, d, base)
		return all, true, err
	}
	components, _ := d["components"].(map[string]any)
	if len(components) == 0 || len(components) > maxComponents {
		return nil, true, fmt.Errorf("the device has %d components; 1 to %d are taken", len(components), maxComponents)
	}
	delete(d, "components")
	for _, key := range slices.Sorted(maps.Keys(components)) {
		c, _ := components[key].(map[string]any)
		merged := maps.Clone(d)
		maps.Copy(merged, spellOut(c, long))
		platform := text(merged, "platform")
		if len(c) == 1 && platform != "" {
			continue // how a component of a device is removed
		}
		some, err := entitiesOf(platform, orElse(node, object), key, merged, base)
		if err != nil {
			return nil, true, fmt.Errorf("component %s: %w", clip(key), err)
		}
		all = append(all, some...)
	}
	return all, true, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// entitiesOf are the entities of one component: itself, and one for each of its
// values beside the first.
func entitiesOf(comp, node, object string, d map[string]any, base string) ([]*Entity, error) {
	withBase(d, base)
	device, _ := d["device"].(map[string]any)
	device = spellOut(device, longDevice)
	e := &Entity{
		Component: comp, Name: Slug(object), Device: Slug(orElse(identifier(device), orElse(node, object))),
		Title: clip(text(d, "name")), Unit: ucum(clip(text(d, "unit_of_measurement"))), Class: clip(text(d, "device_class")), About: map[string]any{},
	}
	if e.Name == "" || e.Device == "" {
		return nil, fmt.Errorf("it has no name")
	}
	for _, key := range []string{"name", "manufacturer", "model", "sw_version"} {
		if s := text(device, key); s != "" {
			e.About[key] = clip(s)
		}
	}
	r := &reader{d: d, e: e}
	r.availability()
	kind, known := components[comp]
	if !known {
		r.problem("component %q is not understood", clip(comp))
		return []*Entity{e}, nil
	}
	kind(r)
	all := r.aspects(aspects[comp])
	switch {
	case len(e.States)+len(e.Commands)+len(e.Problems) > 0:
		all = append([]*Entity{e}, all...)
	case len(all) == 0:
		r.problem("it has neither a topic of its state nor one for commands")
		all = []*Entity{e}
	}
	return all, nil
}

// identifier is what tells a device from others: identifiers is a text or a list.
func identifier(device map[string]any) string {
	if s := text(device, "identifiers"); s != "" {
		return s
	}
	if l, _ := device["identifiers"].([]any); len(l) > 0 {
		s, _ := l[0].(string)
		return s
	}
	if l, _ := device["connections"].([]any); len(l) > 0 {
		if pair, _ := l[0].([]any); len(pair) == 2 {
			s, _ := pair[1].(string)
			return s
		}
	}
	return ""
}
