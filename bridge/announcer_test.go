package bridge_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// hosted is a realm's devices as a gateway's host offers them: a pump, and a
// thermometer that may be taken away.
type hosted struct {
	w           *world
	sess        *client.Session
	on          atomic.Bool
	sets        atomic.Int64
	thermometer atomic.Bool
}

func (w *world) devices() *hosted {
	w.t.Helper()
	h := &hosted{w: w, sess: w.join()}
	h.thermometer.Store(true)
	offer := func(uri string, f func(inv *client.Invocation) any) {
		if _, err := h.sess.Register(w.t.Context(), uri, func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			return &client.Result{Values: client.Values{Args: wamp.List{f(inv)}}}, nil
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	offer("device.list", func(*client.Invocation) any { return h.list() })
	offer("device.pump.set", func(inv *client.Invocation) any {
		on, _ := inv.Args[0].(bool)
		h.on.Store(on)
		h.sets.Add(1)
		h.says("device.pump.on", on)
		return on
	})
	h.status("pump", "ready")
	return h
}

func (h *hosted) list() wamp.List {
	list := wamp.List{wamp.Dict{
		"name": "pump", "type": "sim-relay", "state": "ready",
		"readings":   wamp.List{wamp.Dict{"name": "on", "type": "bool", "unit": "", "value": h.on.Load(), "time": "2025-06-01T12:00:00.000000Z", "seq": int64(1), "quality": "good"}},
		"procedures": wamp.List{wamp.Dict{"name": "set", "args": wamp.List{wamp.Dict{"name": "on", "type": "bool", "optional": false}}}},
	}}
	if h.thermometer.Load() {
		list = append(list, wamp.Dict{
			"name": "air", "type": "bme280", "state": "ready", "procedures": wamp.List{},
			"readings": wamp.List{wamp.Dict{"name": "temperature", "type": "float", "unit": "Cel", "value": nil, "seq": int64(0), "quality": "bad"}},
		})
	}
	return list
}

func (h *hosted) says(uri string, v any) {
	if err := h.sess.Publish(context.Background(), uri, wamp.List{v}, wamp.Dict{"unit": "", "quality": "good"}); err != nil {
		h.w.t.Error(err)
	}
}

func (h *hosted) status(device, state string) {
	if err := h.sess.Publish(context.Background(), "device."+device+".status", wamp.List{state}, wamp.Dict{"state": state}, client.Retain()); err != nil {
		h.w.t.Error(err)
	}
}

// last is the latest message of each topic in a trap.
func (tr *trap) last() map[string]string {
	all := map[string]string{}
	for _, g := range tr.list() {
		all[g.name] = g.value
	}
	return all
}

func homeAssistantAt(addr string) bridge.Config {
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", addr)}}
	h := bridge.HomeAssistant{Broker: "a", Node: "gw", Base: "postern/gw", Role: "trusted"}
	h.SetDefaults()
	cfg.HomeAssistant = []bridge.HomeAssistant{h}
	cfg.AddDiscovery("device")
	return cfg
}

// TestHomeAssistant has one see the devices come, go and change, command one,
// and learn of them again when it or the broker starts again.
func TestHomeAssistant(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	d := w.devices()
	// A device that was announced by an earlier run, and is no more.
	before := w.device(m.addr)
	const gone, foreign = "homeassistant/sensor/gw/gone-x/config", "homeassistant/sensor/other/x-y/config"
	w.done(before.Publish(gone, 1, true, "{}"))
	w.done(before.Publish(foreign, 1, true, "{}"))
	w.done(before.Publish("postern/gw/pump/set/call", 1, true, "[true]")) // never from a retained message
	r := w.run(homeAssistantAt(m.addr), bridge.StateOnline, nil)

	ha := w.device(m.addr)
	configs, states := w.topics(ha, "homeassistant/#", 1), w.topics(ha, "postern/gw/#", 1)
	const pump, air = "homeassistant/switch/gw/pump-set/config", "homeassistant/sensor/gw/air-temperature/config"
	announced := func(what string, tr *trap) {
		t.Helper()
		w.eventually(what, func() bool {
			l := tr.last()
			return len(l[pump]) > 0 && len(l[air]) > 0 && l[gone] == "" && l[foreign] == "{}"
		})
	}
	announced("the devices are announced", configs)
	var c struct {
		CommandTopic string `json:"command_topic"`
		PayloadOn    string `json:"payload_on"`
		StateTopic   string `json:"state_topic"`
		Availability []struct {
			Topic string
		}
	}
	if err := json.Unmarshal([]byte(configs.last()[pump]), &c); err != nil {
		t.Fatal(err)
	}
	is := func(topic, part string) {
		t.Helper()
		w.eventually(topic+" says "+part, func() bool { return strings.Contains(states.last()[topic], part) })
	}
	is(c.StateTopic, `"value":false`) // known before anybody listened
	is(c.Availability[0].Topic, `"value":"ready"`)
	is(c.Availability[1].Topic, "online")
	if n := d.sets.Load(); n != 0 {
		t.Errorf("a retained command was carried out %d times", n)
	}
	w.done(ha.Publish(c.CommandTopic, 1, false, c.PayloadOn))
	is(c.StateTopic, `"value":true`)
	if !d.on.Load() || d.sets.Load() != 1 {
		t.Errorf("the pump is on: %v, after %d commands", d.on.Load(), d.sets.Load())
	}
	d.says("device.air.temperature", nil)
	is("postern/gw/air/temperature", `"value":null`)

	// Home Assistant has started again.
	n := len(configs.list())
	w.done(ha.Publish("homeassistant/status", 1, false, "online"))
	w.eventually("the devices are announced again", func() bool {
		again := &trap{w: w, all: configs.list()[n:]}
		return len(again.last()[pump]) > 0 && len(again.last()[air]) > 0
	})

	// The broker has, and has forgotten everything.
	m.kill()
	r.await("a", bridge.StateOffline)
	m.start()
	r.await("a", bridge.StateOnline)
	ha = w.device(m.addr)
	configs, states = w.topics(ha, "homeassistant/#", 1), w.topics(ha, "postern/gw/#", 1)
	w.eventually("the new broker has all", func() bool { return len(configs.last()[pump]) > 0 && len(configs.last()[air]) > 0 })
	is(c.StateTopic, `"value":true`)

	// A device is taken away: its config and its states are cleared.
	d.thermometer.Store(false)
	d.status("air", "stopped")
	w.eventually("the thermometer is cleared", func() bool {
		config, ok := configs.last()[air]
		state, known := states.last()["postern/gw/air/temperature"]
		return ok && config == "" && known && state == ""
	})
	r.stop()
	is(c.Availability[1].Topic, "offline")
}

// TestHomeAssistantPermissions: its commands have their role's permissions, and
// without a role there are none.
func TestHomeAssistantMayOnlyLook(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	d := w.devices()
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)}}
	h := bridge.HomeAssistant{Broker: "a", Node: "gw", Base: "postern/gw"}
	h.SetDefaults()
	cfg.HomeAssistant = []bridge.HomeAssistant{h}
	cfg.AddDiscovery("device")
	w.run(cfg, bridge.StateOnline, nil)
	ha := w.device(m.addr)
	configs := w.topics(ha, "homeassistant/#", 1)
	w.eventually("the pump is a sensor", func() bool { return len(configs.last()["homeassistant/binary_sensor/gw/pump-on/config"]) > 0 })
	w.done(ha.Publish("postern/gw/pump/set/call", 1, false, "[true]"))
	probe := w.topics(ha, "postern/gw/probe/x", 1)
	d.says("device.probe.x", 1)
	probe.wait(1)
	if n := d.sets.Load(); n != 0 {
		t.Errorf("%d commands were carried out without a role", n)
	}
}

// TestHomeAssistantThatIsRefusedAtLoad says what is wrong.
func TestHomeAssistantThatIsRefusedAtLoad(t *testing.T) {
	for want, h := range map[string][]bridge.HomeAssistant{
		"there is no broker":   {{Broker: "z"}},
		"has an entry already": {{Broker: "a"}, {Broker: "a"}},
		"is not a topic":       {{Broker: "a", Prefix: "ha/#"}},
	} {
		cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", "h:1")}, HomeAssistant: h}
		for i := range cfg.HomeAssistant {
			cfg.HomeAssistant[i].SetDefaults()
		}
		var said []string
		cfg.Validate(func(path, problem, _ string) { said = append(said, path+" "+problem) })
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q, want one with %q", said, want)
		}
	}
}
