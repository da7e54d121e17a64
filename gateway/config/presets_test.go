package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/configs/bridges"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

const presetHead = "realms: [{name: realm1, anonymous: full}]\nbridge:\n  brokers: [{name: plant, urls: [\"tcp://h:1\"]}]\n  presets:\n"

func TestPresetsAreSound(t *testing.T) {
	names := bridges.Names()
	if !slices.Equal(names, []string{"esphome", "generic", "shelly", "tasmota", "zigbee2mqtt"}) {
		t.Errorf("presets %v", names)
	}
	for _, name := range names {
		cfg, err := Parse("x.yaml", []byte(presetHead+"    - {use: "+name+", broker: plant, prefix: a.b, base: x/y, name: n}\n    - "+name+"\n"), "", all.Table())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(cfg.Bridge.Calls) == 0 || !strings.HasPrefix(cfg.Bridge.Maps[0].Name, "n.") || cfg.Bridge.Maps[len(cfg.Bridge.Maps)-1].Name != "readings" {
			t.Errorf("%s: %v", name, cfg.Bridge)
		}
		for _, p := range cfg.Bridge.Check(wamp.LooseURIs) {
			if strings.Contains(p.Message, "never reached") {
				t.Errorf("%s: %s", name, p)
			}
		}
	}
}

func TestPresetsMisused(t *testing.T) {
	for use, want := range map[string]string{
		"{use: tasmotta}":                                 `there is no preset "tasmotta"`,
		"{use: ../reference}":                             "there is no preset",
		"{use: tasmota, prefix: 'a {x}'}":                 "cannot be used in a preset",
		"{use: shelly, base: 'a/+'}":                      "cannot be used in a preset",
		"{use: tasmota, broker: nowhere}":                 `there is no broker "nowhere"`,
		"{use: tasmota}\n    - {use: tasmota, prefix: b}": "is taken",
	} {
		if _, err := Parse("x.yaml", []byte(presetHead+"    - "+use+"\n"), "", all.Table()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", use, err, want)
		}
	}
}

// TestPresetsRead what the projects' documentation says that devices send.
func TestPresetsRead(t *testing.T) {
	for _, c := range []struct{ use, topic, payload, want string }{
		{
			"tasmota", "tele/kitchen/SENSOR", `{"Time":"2024-02-24T22:20:38","AM2301":{"Temperature":21.5,"Humidity":40.1},"TempUnit":"C"}`,
			"tasmota.kitchen.sensor.AM2301.Humidity 40.1, tasmota.kitchen.sensor.AM2301.Temperature 21.5, tasmota.kitchen.sensor.TempUnit C",
		},
		{"tasmota", "tele/kitchen/LWT", "Online", "tasmota.kitchen.available true"},
		{"tasmota", "stat/kitchen/POWER2", "OFF", "tasmota.kitchen.POWER2 false"},
		{"zigbee2mqtt", "zigbee2mqtt/th1", `{"temperature":27.34,"humidity":44.72}`, "zigbee.th1.humidity 44.72, zigbee.th1.temperature 27.34"},
		{"zigbee2mqtt", "zigbee2mqtt/th1/availability", `{"state":"offline"}`, "zigbee.th1.available false"},
		{"zigbee2mqtt", "zigbee2mqtt/bridge/state", `{"state":"online"}`, ""},
		{"shelly", "shellies/shelly1-A/relay/0", "on", "shelly.shelly1-A.relay.0 true"},
		{"shelly", "shellies/shelly1-A/relay/0/power", "42.5", "shelly.shelly1-A.relay.0.power 42.5"},
		{"shelly", "shellies/shelly1-A/relay/0/command", "on", ""},
		{"shelly", "shellies/shelly1-A/online", "true", "shelly.shelly1-A.available true"},
		{"shelly", "shellyplus1-B/online", "false", "shelly.shellyplus1-B.available false"},
		{
			"shelly", "shellyplus1-B/status/switch:0", `{"output":true,"temperature":{"tC":40.5}}`,
			"shelly.shellyplus1-B.status.switch:0.output true, shelly.shellyplus1-B.status.switch:0.temperature.tC 40.5",
		},
		{"esphome", "porch/sensor/temperature/state", "21.5", "esphome.porch.sensor.temperature 21.5"},
		{"esphome", "porch/switch/pump/state", "ON", "esphome.porch.switch.pump true"},
		{"esphome", "porch/status", "offline", "esphome.porch.available false"},
		{"esphome", "porch/cover/blind/state", "open", "esphome.porch.cover.blind open"},
		{"esphome", "porch/cover/blind/position/state", "40", "esphome.porch.cover.blind.position 40"},
		{"esphome", "porch/fan/vent/state", "ON", "esphome.porch.fan.vent true"},
		{"esphome", "porch/fan/vent/speed_level/state", "3", "esphome.porch.fan.vent.speed_level 3"},
		{"esphome", "porch/fan/vent/oscillation/state", "oscillate_off", "esphome.porch.fan.vent.oscillation false"},
		{"esphome", "porch/fan/vent/direction/state", "reverse", "esphome.porch.fan.vent.direction reverse"},
		{"tasmota", "stat/kitchen/POWER8", "ON", "tasmota.kitchen.POWER8 true"},
		{"zigbee2mqtt", "zigbee2mqtt/hall/lamp", `{"state":"ON","brightness":100}`, "zigbee.hall.lamp.brightness 100, zigbee.hall.lamp.state ON"},
		{"zigbee2mqtt", "zigbee2mqtt/hall/lamp/availability", `{"state":"online"}`, "zigbee.hall.lamp.available true"},
		{"zigbee2mqtt", "zigbee2mqtt/lamp/set", `{"state":"ON"}`, ""},
		{"zigbee2mqtt", "zigbee2mqtt/lamp/get", `{"state":""}`, ""},
		{"zigbee2mqtt", "zigbee2mqtt/hall/lamp/set", `{"state":"ON"}`, ""},
		{"zigbee2mqtt", "zigbee2mqtt/bridge/info", `{"version":"2"}`, ""},
		{"generic", "fleet/a/b", "1", "fleet.a.b 1"},
	} {
		cfg, err := Parse("x.yaml", []byte(presetHead+"    - {use: "+c.use+", broker: plant}\n"), "", all.Table())
		if err != nil {
			t.Fatal(err)
		}
		table, _ := bridge.NewTable("plant", cfg.Bridge.Maps, wamp.LooseURIs, codec.CBOR)
		events, _ := table.ToWAMP(nil, c.topic, []byte(c.payload), false, time.Time{})
		var got []string
		for _, e := range events {
			args, _, err := e.Payload.Values()
			if err != nil || len(args) != 1 {
				t.Errorf("%s: %v %v", c.topic, args, err)
				continue
			}
			got = append(got, fmt.Sprintf("%s %v", e.Topic, args[0]))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %s is %v, want %s", c.use, c.topic, got, c.want)
		}
	}
}
