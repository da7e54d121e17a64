package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/configs/bridges"
	"github.com/postern-iot/postern/gateway/config/strict"
)

// presetFile is a preset as its file has it.
type presetFile struct {
	Prefix string        `yaml:"prefix"`
	Base   string        `yaml:"base"`
	Maps   []bridge.Map  `yaml:"maps"`
	Calls  []bridge.Call `yaml:"calls"`
}

// What may be put into a preset's text: nothing in it means anything to YAML or
// to patterns.
var (
	presetURI   = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	presetTopic = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
)

// misuse is what is wrong with one key of a preset's use.
type misuse struct{ key, problem, hint string }

func (m *misuse) Error() string { return m.key + " " + m.problem }

// addPresets adds the maps and calls of the presets that the file uses, after
// its own, and before those that every gateway has by default. What cannot be
// added is reported by checkPresets.
func (c *Config) addPresets() {
	own := c.Bridge.Maps
	var defaults []bridge.Map
	if reflect.DeepEqual(own, bridge.DefaultConfig().Maps) {
		own, defaults = nil, own
	}
	for _, p := range c.Bridge.Presets {
		f, err := expandPreset(p)
		if err != nil {
			continue
		}
		own = append(own, f.Maps...)
		c.Bridge.Calls = append(c.Bridge.Calls, f.Calls...)
	}
	c.Bridge.Maps = append(own, defaults...)
}

// checkPresets reports the presets that could not be added.
func (c *Config) checkPresets(report func(path, problem, hint string)) {
	for i, p := range c.Bridge.Presets {
		_, err := expandPreset(p)
		var m *misuse
		if errors.As(err, &m) {
			report(fmt.Sprintf("bridge.presets[%d].%s", i, m.key), m.problem, m.hint)
		} else if err != nil {
			report(fmt.Sprintf("bridge.presets[%d]", i), err.Error(), "")
		}
	}
}

func expandPreset(p bridge.Preset) (*presetFile, error) {
	text := bridges.Text(p.Use)
	if text == "" {
		return nil, &misuse{"use", fmt.Sprintf("there is no preset %q", p.Use), "there are: " + strings.Join(bridges.Names(), ", ")}
	}
	for _, v := range []struct {
		key, value string
		form       *regexp.Regexp
	}{{"prefix", p.Prefix, presetURI}, {"base", p.Base, presetTopic}, {"name", p.Name, presetURI}, {"broker", p.Broker, presetURI}} {
		if v.value != "" && !v.form.MatchString(v.value) {
			return nil, &misuse{v.key, fmt.Sprintf("%q cannot be used in a preset", v.value), "use letters, digits, _ and -, parted as a URI or a topic is"}
		}
	}
	var head presetFile
	if err := strict.Decode(p.Use+".yaml", []byte(text), &head, strict.Options{}); err != nil {
		return nil, err
	}
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	text = strings.NewReplacer("<prefix>", or(p.Prefix, head.Prefix), "<base>", or(p.Base, head.Base), "<broker>", p.Broker, "<name>", or(p.Name, p.Use)).Replace(text)
	var out presetFile
	if err := strict.Decode(p.Use+".yaml", []byte(text), &out, strict.Options{}); err != nil {
		return nil, err
	}
	return &out, nil
}
