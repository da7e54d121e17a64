package homeassistant

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
)

// The messages are those of the documentation named, or as the firmware sends
// them, shortened.
const (
	// https://www.home-assistant.io/integrations/mqtt/#discovery-examples
	motion     = `{"name":null,"device_class":"motion","state_topic":"homeassistant/binary_sensor/garden/state","unique_id":"motion01ad","device":{"identifiers":["01ad"],"name":"Garden"}}`
	bedroom    = `{"device_class":"temperature","state_topic":"homeassistant/sensor/sensorBedroom/state","unit_of_measurement":"°C","value_template":"{{ value_json.temperature}}","unique_id":"temp01ae","device":{"identifiers":["bedroom01ae"],"name":"Bedroom","manufacturer":"Example sensors Ltd.","model":"Example Sensor","serial_number":"12AE3010545"}}`
	irrigation = `{"name":"Irrigation","command_topic":"homeassistant/switch/irrigation/set","state_topic":"homeassistant/switch/irrigation/state","unique_id":"irr01ad","device":{"identifiers":["garden01ad"],"name":"Garden"}}`
	based      = `{"~":"homeassistant/light/kitchen","name":"Kitchen","uniq_id":"kitchen_light","cmd_t":"~/set","stat_t":"~/state","schema":"json","brightness":true}`
	bundle     = `{"dev":{"ids":"ea334450945afc","name":"Kitchen","mf":"Bla electronics","mdl":"xya","sw":"1.0","sn":"ea334450945afc","hw":"1.0rev2"},"o":{"name":"bla2mqtt","sw":"2.1","url":"https://bla2mqtt.example.com/support"},"cmps":{"some_unique_component_id1":{"p":"sensor","device_class":"temperature","unit_of_measurement":"°C","value_template":"{{ value_json.temperature}}","unique_id":"temp01ae_t"},"some_unique_id2":{"p":"sensor","device_class":"humidity","unit_of_measurement":"%","value_template":"{{ value_json.humidity}}","unique_id":"temp01ae_h"},"bla1":{"p":"device_automation"},"gone":{"p":"sensor"}},"state_topic":"sensorBedroom/state","qos":2}`
	z2m        = `{"availability":[{"topic":"zigbee2mqtt/bridge/state","value_template":"{{ value_json.state }}"},{"topic":"zigbee2mqtt/th1/availability","value_template":"{{ value_json.state }}"}],"availability_mode":"all","device":{"identifiers":["zigbee2mqtt_0x00158d0001d8e1d2"],"manufacturer":"Aqara","model":"Temperature sensor (WSDCGQ11LM)","name":"th1"},"device_class":"temperature","state_class":"measurement","state_topic":"zigbee2mqtt/th1","unit_of_measurement":"°C","value_template":"{{ value_json.temperature }}"}`
	esphome    = `{"dev_cla":"shutter","name":"Blind","stat_t":"porch/cover/blind/state","cmd_t":"porch/cover/blind/command","pos_t":"porch/cover/blind/position/state","set_pos_t":"porch/cover/blind/position/command","avty_t":"porch/status","uniq_id":"ESPcoverblind","dev":{"ids":"a0b1c2d3e4f5","name":"porch","sw":"esphome v2024.6","mdl":"esp32dev","mf":"espressif"}}`
	shelly     = `{"name":"Relay 0","cmd_t":"~/relay/0/command","stat_t":"~/relay/0","pl_off":"off","pl_on":"on","avty_t":"~/online","pl_avail":"true","pl_not_avail":"false","~":"shellies/shelly1-B1E31C","dev":{"ids":["e8db84b1e31c"],"mdl":"shelly1","mf":"Allterco"}}`

	tasmotaConfig = `{"ip":"192.168.1.10","dn":"Kitchen","fn":["Lamp","Fan",null,null,null,null,null,null],"hn":"tasmota-B94927-2343","mac":"DC4F22B94927","md":"Sonoff Dual","ty":0,"if":0,"ofln":"Offline","onln":"Online","state":["OFF","ON","TOGGLE","HOLD"],"sw":"12.5.0","t":"tasmota_B94927","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"rl":[1,1,0,0,0,0,0,0],"swc":[-1,-1],"btn":[0,0],"so":{"4":0},"lk":0,"lt_st":0,"sho":[0,0,0,0],"ver":1}`
	tasmotaSensor = `{"sn":{"Time":"2023-05-01T12:00:00","AM2301":{"Temperature":21.5,"Humidity":40.1,"DewPoint":7.4},"ENERGY":{"Power":[12,13]},"TempUnit":"C"},"ver":1}`
)

// said is a description in a few words.
func said(all []*Entity) []string {
	var out []string
	for _, e := range all {
		line := fmt.Sprintf("%s.%s %s %s %s", e.Device, e.Name, e.Component, e.Type(), e.Unit)
		for _, s := range e.States {
			line += " <" + s.Topic
		}
		for _, c := range e.Commands {
			line += fmt.Sprintf(" >%s:%s", c.Name, c.Topic)
		}
		for _, a := range e.Availability {
			line += " ?" + a.Topic
		}
		if len(e.Problems) > 0 {
			line += " !" + strings.Join(e.Problems, "; ")
		}
		out = append(out, line)
	}
	return out
}

func TestDiscover(t *testing.T) {
	for _, c := range []struct {
		topic, payload string
		want           []string
	}{
		{"homeassistant/binary_sensor/garden/config", motion, []string{"01ad.garden binary_sensor bool  <homeassistant/binary_sensor/garden/state"}},
		{"homeassistant/sensor/sensorBedroomT/config", bedroom, []string{"bedroom01ae.sensorbedroomt sensor float Cel <homeassistant/sensor/sensorBedroom/state"}},
		{"homeassistant/switch/irrigation/config", irrigation, []string{"garden01ad.irrigation switch bool  <homeassistant/switch/irrigation/state >set:homeassistant/switch/irrigation/set"}},
		{"homeassistant/light/kitchen/config", based, []string{
			"kitchen.kitchen light bool  <homeassistant/light/kitchen/state >set:homeassistant/light/kitchen/set",
			"kitchen.kitchen_brightness light float  <homeassistant/light/kitchen/state >set:homeassistant/light/kitchen/set",
		}},
		{"homeassistant/device/0AFFD2/bla/config", bundle, []string{
			"ea334450945afc.some_unique_component_id1 sensor float Cel <sensorBedroom/state",
			"ea334450945afc.some_unique_id2 sensor float % <sensorBedroom/state",
		}},
		{"homeassistant/sensor/0x00158d0001d8e1d2/temperature/config", z2m, []string{
			"zigbee2mqtt_0x00158d0001d8e1d2.temperature sensor float Cel <zigbee2mqtt/th1 ?zigbee2mqtt/bridge/state ?zigbee2mqtt/th1/availability",
		}},
		{"homeassistant/cover/porch/blind/config", esphome, []string{
			"a0b1c2d3e4f5.blind cover string  <porch/cover/blind/state >open:porch/cover/blind/command >close:porch/cover/blind/command >stop:porch/cover/blind/command ?porch/status",
			"a0b1c2d3e4f5.blind_position cover float  <porch/cover/blind/position/state >set:porch/cover/blind/position/command ?porch/status",
		}},
		{"homeassistant/switch/shelly1-B1E31C/relay-0/config", shelly, []string{
			"e8db84b1e31c.relay_0 switch bool  <shellies/shelly1-B1E31C/relay/0 >set:shellies/shelly1-B1E31C/relay/0/command ?shellies/shelly1-B1E31C/online",
		}},
		{"homeassistant/sensor/x/config", `{"state_topic":"a","value_template":"{{ now() }}"}`, []string{
			`x.x sensor   !value_template: template "{{ now() }}": "now()" is not evaluated here: only value and value_json with filters are`,
		}},
		{"homeassistant/vacuum/x/config", `{"command_topic":"a"}`, []string{`x.x vacuum   !component "vacuum" is not understood`}},
		{"homeassistant/switch/x/config", `{"command_topic":"a/#"}`, []string{`x.x switch   !command_topic "a/#" is no topic`}},
		{"homeassistant/fan/x/config", `{"cmd_t":"f/c","stat_t":"f/s","pct_cmd_t":"f/p/c","pct_stat_t":"f/p/s","osc_cmd_t":"f/o/c"}`, []string{
			"x.x fan bool  <f/s >set:f/c", "x.x_percentage fan float  <f/p/s >set:f/p/c", "x.x_oscillation fan   >set:f/o/c",
		}},
		{"homeassistant/climate/x/config", `{"curr_temp_t":"c/now","temp_cmd_t":"c/set","temp_stat_t":"c/is","mode_cmd_t":"c/mode","modes":["off","heat"]}`, []string{
			"x.x_current_temperature climate float  <c/now", "x.x_temperature climate float  <c/is >set:c/set", "x.x_mode climate   >set:c/mode",
		}},
	} {
		all, ok, err := Discover("homeassistant", c.topic, []byte(c.payload))
		got := said(all)
		if c.topic == "homeassistant/device/0AFFD2/bla/config" {
			got = got[len(got)-2:] // the others are gone, or of no use
		}
		if !ok || err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v %v\n%s\nwant\n%s", c.topic, ok, err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestWhatIsNoDescription(t *testing.T) {
	for topic, payload := range map[string]string{
		"homeassistant/sensor/a/config": "{", "homeassistant/sensor/b/config": `[1]`, "homeassistant/device/c/config": `{}`,
		"homeassistant/sensor/d/config": strings.Repeat("[", 40),
	} {
		if all, ok, err := Discover("homeassistant", topic, []byte(payload)); !ok || err == nil {
			t.Errorf("%s: %v %v %v", topic, all, ok, err)
		}
	}
	for _, topic := range []string{"homeassistant/sensor/a/state", "homeassistant/config", "other/sensor/a/config", "homeassistant/a/b/c/d/config"} {
		if _, ok, _ := Discover("homeassistant", topic, []byte("{}")); ok {
			t.Errorf("%s passes for a config", topic)
		}
	}
	if all, ok, err := Discover("homeassistant", "homeassistant/sensor/a/config", nil); !ok || err != nil || all != nil {
		t.Error("an empty payload describes something", all, ok, err)
	}
}

func TestTasmota(t *testing.T) {
	all, err := Tasmota([]byte(tasmotaConfig), []byte(tasmotaSensor))
	if err != nil {
		t.Fatal(err)
	}
	const lwt = " ?tele/tasmota_B94927/LWT"
	const results = " <stat/tasmota_B94927/RESULT <tele/tasmota_B94927/STATE"
	want := []string{
		"dc4f22b94927.power1 switch bool " + results + results + " >set:cmnd/tasmota_B94927/POWER1" + lwt,
		"dc4f22b94927.power2 switch bool " + results + " >set:cmnd/tasmota_B94927/POWER2" + lwt,
		"dc4f22b94927.am2301_dewpoint sensor  Cel <tele/tasmota_B94927/SENSOR" + lwt,
		"dc4f22b94927.am2301_humidity sensor  % <tele/tasmota_B94927/SENSOR" + lwt,
		"dc4f22b94927.am2301_temperature sensor  Cel <tele/tasmota_B94927/SENSOR" + lwt,
		"dc4f22b94927.energy_power_0 sensor  W <tele/tasmota_B94927/SENSOR" + lwt,
		"dc4f22b94927.energy_power_1 sensor  W <tele/tasmota_B94927/SENSOR" + lwt,
	}
	if got := said(all); !reflect.DeepEqual(got, want) {
		t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if v, err := all[1].States[0].Value([]byte(`{"POWER2":"ON"}`)); v != true || err != nil {
		t.Error("POWER2 is", v, err)
	}
	if _, err := all[1].States[0].Value([]byte(`{"POWER1":"ON"}`)); !errors.Is(err, ErrAbsent) {
		t.Error("POWER2 of a result that is of another relay:", err)
	}
	if v, err := all[6].States[0].Value([]byte(`{"ENERGY":{"Power":[1,2.5]}}`)); v != 2.5 || err != nil {
		t.Error("the second power is", v, err)
	}
	for _, bad := range []string{"", "{}", `{"mac":"a","t":"b","tp":["c","s","t"],"ft":"%prefix%/#/"}`} {
		if _, err := Tasmota([]byte(bad), nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ template, payload, want string }{
		{"", "21.5", "21.5"},
		{"{{ value }}", "x", "x"},
		{"{{ value_json.a.b }}", `{"a":{"b":1}}`, "1"},
		{"{{ value_json['a']['b c'][1] }}", `{"a":{"b c":[1,2]}}`, "2"},
		{"{{ value_json.t | float | round(1) }}", `{"t":"21.449"}`, "21.4"},
		{"{{ value_json.on }}", `{"on":true}`, "True"},
		{"{{ value_json.x | default('none') }}", `{}`, "none"},
		{"{{ value_json.x | int(0) }}", `{"x":"?"}`, "0"},
		{`{"state":"{{ value }}"}`, "ON", `{"state":"ON"}`},
		{"{{ value | upper }}", "on", "ON"},
		{"{{- value_json.a -}}", `{"a":null}`, "None"},
	} {
		p, err := ParseTemplate(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if v, err := p.Eval([]byte(c.payload)); err != nil || Text(v) != c.want {
			t.Errorf("%s of %s is %v %v, want %s", c.template, c.payload, v, err, c.want)
		}
	}
	for _, bad := range []string{
		"{% if value %}a{% endif %}", "{{ value", "{{ states('a') }}", "{{ value_json.a if value else 1 }}", "{{ value_json.a + 1 }}",
		"{{ value_json.a() }}", "{{ value | regex_replace('a') }}", "{{ value_json[-1] }}", "{# note #}", strings.Repeat("{{ value }}", 100),
		"{{ value_json" + strings.Repeat(".a", 100) + " }}", strings.Repeat("a", 5000),
	} {
		if _, err := ParseTemplate(bad); err == nil {
			t.Errorf("%.40s is taken", bad)
		}
	}
}

func TestPayloads(t *testing.T) {
	all, _, err := Discover("homeassistant", "homeassistant/number/x/config", []byte(`{"cmd_t":"a","cmd_tpl":"{\"t\":{{ value }}}","min":5,"max":30,"ret":true}`))
	if err != nil {
		t.Fatal(err)
	}
	c := all[0].Commands[0]
	if b, err := c.Payload(wamp.List{21.5}, nil); string(b) != `{"t":21.5}` || err != nil || !c.Retain {
		t.Errorf("%s %v", b, err)
	}
	if b, err := c.Payload(nil, wamp.Dict{"value": int64(7)}); string(b) != `{"t":7}` || err != nil {
		t.Errorf("%s %v", b, err)
	}
	for _, args := range []wamp.List{{}, {4.0}, {31.0}, {"x"}, {true}, {1.0, 2.0}} {
		var refused *wamp.Error
		if b, err := c.Payload(args, nil); !errors.As(err, &refused) || refused.URI != wamp.ErrInvalidArgument {
			t.Errorf("%v: %s %v", args, b, err)
		}
	}
}

// FuzzDiscover: nothing that arrives makes it panic, and what it describes can
// be used.
func FuzzDiscover(f *testing.F) {
	for _, s := range []string{motion, bedroom, irrigation, based, bundle, z2m, esphome, shelly, tasmotaConfig, tasmotaSensor} {
		f.Add([]byte(s), []byte(`{"state":"ON","temperature":1}`))
	}
	f.Fuzz(func(t *testing.T, config, state []byte) {
		var all []*Entity
		for _, topic := range []string{"h/sensor/a/config", "h/light/a/b/config", "h/device/a/config", "h/cover/a/config", "h/climate/a/config"} {
			some, _, _ := Discover("h", topic, config)
			all = append(all, some...)
		}
		some, _ := Tasmota(config, state)
		all = append(all, some...)
		for _, e := range all {
			if e.Name != Slug(e.Name) || e.Device != Slug(e.Device) {
				t.Errorf("%q.%q cannot be in a URI", e.Device, e.Name)
			}
			for _, s := range e.States {
				_, _ = s.Value(state)
			}
			for _, a := range e.Availability {
				a.Here(state)
			}
			for _, c := range e.Commands {
				_, _ = c.Payload(wamp.List{true}, nil)
				_, _ = c.Payload(wamp.List{string(state)}, nil)
			}
		}
	})
}
