package bridge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func discoveryAt(addr string, change ...func(*bridge.Discovery)) bridge.Config {
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", addr)}}
	d := bridge.Discovery{Broker: "a"}
	d.SetDefaults()
	for _, f := range change {
		f(&d)
	}
	cfg.Discovery = []bridge.Discovery{d}
	return cfg
}

// found asks for the devices, by their names.
func (w *world) found(sess *client.Session) map[string]wamp.Dict {
	w.t.Helper()
	r, err := sess.Call(w.t.Context(), "found.list", nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]wamp.Dict{}
	for _, d := range r.Args[0].([]any) {
		d := d.(map[string]any)
		all[d["name"].(string)] = d
	}
	return all
}

const (
	lampConfig = `{"~":"shellies/lamp","name":"Lamp","cmd_t":"~/relay/0/command","stat_t":"~/relay/0","pl_on":"on","pl_off":"off","avty_t":"~/online","pl_avail":"true","pl_not_avail":"false","dev":{"ids":["lamp01"],"name":"Lamp","mf":"Allterco","mdl":"shelly1"}}`
	roomConfig = `{"stat_t":"zigbee2mqtt/room","val_tpl":"{{ value_json.temperature }}","unit_of_meas":"°C","dev_cla":"temperature","dev":{"ids":["room01"],"name":"Room"}}`
	tasConfig  = `{"dn":"Kitchen","fn":["Fan"],"hn":"tas","mac":"DC4F22B94927","md":"Sonoff","ofln":"Offline","onln":"Online","state":["OFF","ON","TOGGLE","HOLD"],"sw":"12.5","t":"tas1","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"rl":[1,0],"lt_st":0,"ver":1}`
	tasSensors = `{"sn":{"Time":"2023-05-01T12:00:00","AM2301":{"Temperature":21.5},"TempUnit":"C"},"ver":1}`
	lampTopic  = "homeassistant/switch/lamp/relay/config"
	roomTopic  = "homeassistant/sensor/room/temperature/config"
)

// TestFound has devices of three makes described, heard, commanded, away and
// taken away, and the broker started again.
func TestFound(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	dev := w.device(m.addr)
	say := func(topic, payload string) { t.Helper(); w.done(dev.Publish(topic, 1, true, payload)) }
	describe := func() {
		say(lampTopic, lampConfig)
		say(roomTopic, roomConfig)
		say("tasmota/discovery/DC4F22B94927/sensors", tasSensors)
		say("tasmota/discovery/DC4F22B94927/config", tasConfig)
		say("shellies/lamp/online", "true")
		say("shellies/lamp/relay/0", "off")
	}
	describe()
	commands := w.topics(dev, "shellies/lamp/relay/0/command", 1)
	r := w.run(discoveryAt(m.addr), bridge.StateOnline, nil)
	events := w.events("found.")
	sess := w.join()
	value := func(uri string) string {
		return events.last()[uri]
	}
	state := func(device, want string) {
		t.Helper()
		w.eventually(device+" is "+want, func() bool { return w.found(sess)[device]["state"] == want })
	}
	state("lamp01", "ready")
	state("room01", "ready")
	state("dc4f22b94927", "unknown")
	w.eventually("what was retained is known", func() bool {
		readings, _ := w.found(sess)["lamp01"]["readings"].([]any)
		return len(readings) == 1 && readings[0].(map[string]any)["value"] == false
	})
	// Values, with units.
	w.eventually("the room's temperature", func() bool {
		w.done(dev.Publish("zigbee2mqtt/room", 1, false, `{"temperature":21.5,"battery":90}`))
		return value("found.room01.temperature") == "21.5"
	})
	d, err := sess.Call(t.Context(), "found.room01.get", wamp.List{"temperature"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := d.Args[0].(map[string]any); s["unit"] != "Cel" || s["class"] != "temperature" || s["quality"] != "good" {
		t.Errorf("the temperature is %v", s)
	}
	say("tele/tas1/LWT", "Online")
	state("dc4f22b94927", "ready")
	w.done(dev.Publish("tele/tas1/SENSOR", 1, false, `{"AM2301":{"Temperature":19.5}}`))
	w.done(dev.Publish("stat/tas1/RESULT", 1, false, `{"POWER":"ON"}`))
	w.eventually("Tasmota's values", func() bool {
		return value("found.dc4f22b94927.am2301_temperature") == "19.5" && value("found.dc4f22b94927.power") == "true"
	})
	// Commands.
	if _, err := sess.Call(t.Context(), "found.lamp01.relay.set", wamp.List{true}, nil); err != nil {
		t.Fatal(err)
	}
	if c := commands.wait(1); c[0].value != "on" || c[0].retained {
		t.Errorf("the lamp is told %+v", c)
	}
	refused := func(uri, want string, args ...any) {
		t.Helper()
		var e *wamp.Error
		if _, err := sess.Call(t.Context(), uri, args, nil); !errors.As(err, &e) || e.URI != want {
			t.Errorf("%s%v: %v, want %s", uri, args, err, want)
		}
	}
	refused("found.lamp01.relay.set", wamp.ErrInvalidArgument, "on")
	refused("found.lamp01.relay.toggle", wamp.ErrNoSuchProcedure)
	refused("found.nobody.describe", wamp.ErrNoSuchProcedure)
	say("shellies/lamp/online", "false")
	state("lamp01", "away")
	refused("found.lamp01.relay.set", bridge.ErrDeviceUnavailable, true)
	// A state that is none is told as a fault.
	w.done(dev.Publish("zigbee2mqtt/room", 1, false, `{"temperature":"warm"}`))
	w.eventually("a fault", func() bool { return value("found.room01.temperature") == "<nil>" })

	// The broker forgets everything; the devices describe themselves again, and one is no more.
	m.kill()
	r.await("a", bridge.StateOffline)
	state("room01", "unreachable")
	refused("found.room01.temperature.set", wamp.ErrNoSuchProcedure)
	m.start()
	r.await("a", bridge.StateOnline)
	dev = w.device(m.addr)
	describe()
	state("lamp01", "ready")
	say(roomTopic, "")
	w.eventually("the room is gone", func() bool {
		status, told := events.last()["found.room01.status"]
		return w.found(sess)["room01"] == nil && told && status == ""
	})
	say("tasmota/discovery/DC4F22B94927/config", "")
	w.eventually("Tasmota is gone", func() bool { return len(w.found(sess)) == 1 })
	uris, err := sess.Call(t.Context(), "postern.bridge.found", nil, nil)
	if err != nil || fmt.Sprint(uris.Args) != "[[found]]" {
		t.Errorf("postern.bridge.found: %v %v", uris, err)
	}
}

// TestFoundBesideMaps: a topic that a map carries is followed, too, what was
// retained there before the description included; and the map gets it once.
func TestFoundBesideMaps(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	dev := w.device(m.addr)
	w.done(dev.Publish("zigbee2mqtt/room", 1, true, `{"temperature":1}`))
	cfg := discoveryAt(m.addr)
	cfg.Maps = []bridge.Map{mapOf(bridge.In, "zigbee2mqtt/{d}", "z.{d}")}
	mapped, events := w.events("z."), w.events("found.")
	w.run(cfg, bridge.StateOnline, nil)
	mapped.wait(1)
	w.done(dev.Publish(roomTopic, 1, true, roomConfig))
	w.eventually("the retained value", func() bool { return events.last()["found.room01.temperature"] == "1" })
	w.done(dev.Publish("zigbee2mqtt/room", 1, false, `{"temperature":2}`))
	w.done(dev.Publish("zigbee2mqtt/room", 1, false, `{"temperature":3}`))
	w.eventually("the last value", func() bool { return events.last()["found.room01.temperature"] == "3" })
	if n := len(mapped.wait(3)); n != 3 {
		t.Errorf("the map has carried %d", n)
	}
}

// TestFoundIsBounded: what is beyond the bounds is refused, and what is not
// understood is told.
func TestFoundIsBounded(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	dev := w.device(m.addr)
	r := w.run(discoveryAt(m.addr, func(d *bridge.Discovery) { d.MaxEntities = 10 }), bridge.StateOnline, nil)
	sess := w.join()
	w.done(dev.Publish("homeassistant/sensor/bad/config", 1, true, "{"))
	w.done(dev.Publish("homeassistant/sensor/big/config", 1, true, strings.Repeat(" ", 300<<10)))
	w.done(dev.Publish("homeassistant/sensor/odd/config", 1, true, `{"stat_t":"a","val_tpl":"{{ now() }}"}`))
	for i := range 30 {
		w.done(dev.Publish(fmt.Sprintf("homeassistant/sensor/s%02d/config", i), 1, true, fmt.Sprintf(`{"stat_t":"s/%d"}`, i)))
	}
	w.eventually("21 are refused", func() bool { return r.Status()[0].Dropped["backlog"] == 21 })
	if n := len(w.found(sess)); n != 10 {
		t.Errorf("%d devices", n)
	}
	p, err := sess.Call(t.Context(), "found.problems", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bad/config", "not JSON", "262144 are taken", "now() }}"} {
		if got := fmt.Sprint(p.Args); !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}

// TestDiscoveryThatIsRefusedAtLoad says what is wrong.
func TestDiscoveryThatIsRefusedAtLoad(t *testing.T) {
	for want, list := range map[string][]bridge.Discovery{
		"there is no broker":   {{Broker: "z"}},
		"has an entry already": {{Broker: "a"}, {Broker: "a"}},
		"is another entry's":   {{Broker: "a"}, {}},
		"is no URI":            {{Broker: "a", URI: "a..b"}},
		"is the gateway's own": {{Broker: "a", URI: "wamp.x"}},
		"is not a topic":       {{Broker: "a", Prefix: "ha/#"}},
	} {
		cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", "h:1")}, Discovery: list}
		for i := range cfg.Discovery {
			cfg.Discovery[i].SetDefaults()
		}
		var said []string
		cfg.Validate(func(path, problem, _ string) { said = append(said, path+" "+problem) })
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q, want one with %q", said, want)
		}
	}
}
