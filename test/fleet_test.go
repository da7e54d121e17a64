//go:build system

package test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	wamp "github.com/postern-iot/postern/wamp/client"
)

// plantSite is a gateway at a plant's broker, with the presets of its fleets, a
// pump of its own, and commands for it.
const plantSite = `
listen:
  http: {addresses: ["127.0.0.1:{{http}}"]}
  rawsocket: {addresses: ["127.0.0.1:{{raw}}"]}
realms:
  - name: realm1
    anonymous: full
    roles:
      - {name: operator, permissions: [{uri: device., match: prefix, allow: [call]}]}
      - {name: guest, permissions: [{uri: device.lamp., match: prefix, allow: [call]}]}
`

// fleetConfig is plantSite for a broker's port.
func fleetConfig(port int) string {
	return plantSite + fmt.Sprintf(`
devices:
  list:
    - {name: pump, type: sim-relay}
mqtt: {enabled: false}
bridge:
  brokers:
    - {name: plant, urls: ["tcp://127.0.0.1:%d"]}
  presets:
    - {use: tasmota, broker: plant}
    - {use: zigbee2mqtt, broker: plant}
    - {use: shelly, broker: plant}
    - {use: esphome, broker: plant}
  maps:
    # Devices that Home Assistant's discovery describes: one state topic, with a value for each entity.
    - {name: described, brokers: plant, direction: in, mqtt: "ha/{dev}/state", wamp: "ha.{dev}.{path...}", codec: json, split: path}
  calls:
    - {name: operator, broker: plant, direction: in, request: "cmd/{dev}/{fn}/req/{id}", reply: "cmd/{dev}/{fn}/{id}/reply", procedure: "device.{dev}.{fn}", role: operator}
    - {name: guest, broker: plant, direction: in, request: "guest/{dev}/{fn}/req/{id}", reply: "guest/{dev}/{fn}/{id}/reply", procedure: "device.{dev}.{fn}", role: guest}
`, port)
}

// thing is one simulated device of a third party: what it says in a round, and
// the events that this is to become.
type thing struct {
	name  string
	round func(i int) (topic, payload string, events map[string]string)
}

func tasmota(n int) thing {
	dev := fmt.Sprintf("tas%03d", n)
	return thing{dev, func(i int) (string, string, map[string]string) {
		t, h := fmt.Sprintf("%d.5", n+i), fmt.Sprint(i*7+n)
		return "tele/" + dev + "/SENSOR",
			fmt.Sprintf(`{"Time":"2024-02-24T22:20:3%d","AM2301":{"Temperature":%s,"Humidity":%s},"TempUnit":"C"}`, i, t, h),
			map[string]string{
				"tasmota." + dev + ".sensor.AM2301.Temperature": t, "tasmota." + dev + ".sensor.AM2301.Humidity": h,
				"tasmota." + dev + ".sensor.TempUnit": "C",
			}
	}}
}

func zigbee(n int) thing {
	dev := fmt.Sprintf("0x00158d%03d", n)
	topic := dev
	if n%2 == 1 { // every other has a friendly name with a slash
		topic = fmt.Sprintf("floor%d/%s", n%3, dev)
	}
	return thing{dev, func(i int) (string, string, map[string]string) {
		t, on := fmt.Sprintf("%d.25", n+i), fmt.Sprint((n+i)%2 == 0)
		base := "zigbee." + strings.ReplaceAll(topic, "/", ".")
		return "zigbee2mqtt/" + topic, fmt.Sprintf(`{"temperature":%s,"occupancy":%s}`, t, on),
			map[string]string{base + ".temperature": t, base + ".occupancy": on}
	}}
}

// esphome has a cover and a fan, which take turns.
func esphome(n int) thing {
	dev := fmt.Sprintf("esp%03d", n)
	return thing{dev, func(i int) (string, string, map[string]string) {
		v := fmt.Sprint((n + i) % 101)
		if i%2 == 0 {
			return dev + "/cover/blind/position/state", v, map[string]string{"esphome." + dev + ".cover.blind.position": v}
		}
		return dev + "/fan/vent/speed_level/state", v, map[string]string{"esphome." + dev + ".fan.vent.speed_level": v}
	}}
}

func shelly1(n int) thing {
	dev := fmt.Sprintf("shelly1pm-%03d", n)
	return thing{dev, func(i int) (string, string, map[string]string) {
		if i%2 == 0 {
			on := (n+i/2)%2 == 0
			word := map[bool]string{true: "on", false: "off"}[on]
			return "shellies/" + dev + "/relay/0", word, map[string]string{"shelly." + dev + ".relay.0": fmt.Sprint(on)}
		}
		w := fmt.Sprintf("%d.75", n*i)
		return "shellies/" + dev + "/relay/0/power", w, map[string]string{"shelly." + dev + ".relay.0.power": w}
	}}
}

func shelly2(n int) thing {
	dev := fmt.Sprintf("shellyplus1-%03d", n)
	return thing{dev, func(i int) (string, string, map[string]string) {
		c, on := fmt.Sprintf("%d.5", 40+i), fmt.Sprint(i%2 == 0)
		base := "shelly." + dev + ".status.switch:0."
		return dev + "/status/switch:0", fmt.Sprintf(`{"id":0,"output":%s,"temperature":{"tC":%s}}`, on, c),
			map[string]string{base + "id": "0", base + "output": on, base + "temperature.tC": c}
	}}
}

func described(n int) thing {
	dev := fmt.Sprintf("dev%03d", n)
	return thing{dev, func(i int) (string, string, map[string]string) {
		v := fmt.Sprint(n*1000 + i)
		return "ha/" + dev + "/state", `{"count":` + v + `}`, map[string]string{"ha." + dev + ".count": v}
	}}
}

// plug connects a simulated device to the broker.
func (f *fleet) plug(id string) paho.Client {
	f.t.Helper()
	o := paho.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", f.port)).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(patience)
	c := paho.NewClient(o)
	f.done(c.Connect())
	f.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (f *fleet) done(token paho.Token) {
	f.t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		f.t.Fatalf("an MQTT device: %v", token.Error())
	}
}

// TestFleet has 500 devices of five makes, each a client of its own, say five
// things each: every value arrives once, under its name, in its order.
func TestFleet(t *testing.T) {
	const rounds = 5
	mqtt := startFleet(t)
	g := run(t, fleetConfig(mqtt.port))
	var things []thing
	for n := range 84 {
		things = append(things, tasmota(n), zigbee(n), shelly1(n), shelly2(n), described(n), esphome(n))
	}
	want := map[string][]string{}
	total := 0
	for _, th := range things {
		for i := range rounds {
			_, _, events := th.round(i)
			for uri, v := range events {
				want[uri] = append(want[uri], v)
				total++
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sess, err := wamp.Dial(ctx, g.url("rs"), wamp.Config{Realm: "realm1", EventBuffer: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sess.Close(context.Background()) })
	var mu sync.Mutex
	got := map[string][]string{}
	var count atomic.Int64
	for _, prefix := range []string{"tasmota.", "zigbee.", "shelly.", "esphome.", "ha."} {
		if _, err := sess.Subscribe(ctx, prefix, func(e *wamp.Event) {
			mu.Lock()
			defer mu.Unlock()
			got[e.Topic] = append(got[e.Topic], fmt.Sprint(e.Args[0]))
			count.Add(1)
		}, wamp.Pattern("prefix")); err != nil {
			t.Fatal(err)
		}
	}
	clients := make([]paho.Client, len(things))
	for i, th := range things {
		clients[i] = mqtt.plug(th.name)
	}
	for i := range rounds {
		tokens := make([]paho.Token, len(things))
		for j, th := range things {
			topic, payload, _ := th.round(i)
			tokens[j] = clients[j].Publish(topic, 1, false, payload)
		}
		for _, token := range tokens {
			mqtt.done(token)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := exec.Command(posternBinary, "call", "postern.bridge.status", "plant", "--url", g.url("rs")).CombinedOutput()
			t.Logf("%d of %d events; %v %s", count.Load(), total, err, out)
		}
	})
	until(t, fmt.Sprintf("%d events", total), func() bool { return count.Load() >= int64(total) })
	mu.Lock()
	defer mu.Unlock()
	if len(got) != len(want) || count.Load() != int64(total) {
		t.Errorf("%d events of %d names, want %d of %d", count.Load(), len(got), total, len(want))
	}
	for uri, values := range want {
		if !slices.Equal(got[uri], values) {
			t.Errorf("%s: %v, want %v", uri, got[uri], values)
		}
	}
	g.terminate()
}

// TestActuators: a third party's WAMP client switches a fleet's devices, and an
// MQTT client the gateway's own.
func TestActuators(t *testing.T) {
	mqtt := startFleet(t)
	g := run(t, fleetConfig(mqtt.port))
	answer := func(filter string, f func(topic, payload string) (string, string)) {
		t.Helper()
		dev := mqtt.plug("device of " + strings.ReplaceAll(filter, "/", "-"))
		mqtt.done(dev.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) {
			if topic, payload := f(m.Topic(), string(m.Payload())); topic != "" {
				go dev.Publish(topic, 1, false, payload)
			}
		}))
	}
	answer("cmnd/plug/POWER", func(_, payload string) (string, string) { return "stat/plug/POWER", payload })
	answer("cmnd/plug/Dimmer", func(_, payload string) (string, string) { return "stat/plug/RESULT", `{"Dimmer":` + payload + `}` })
	answer("zigbee2mqtt/lamp/set", func(_, payload string) (string, string) { return "zigbee2mqtt/lamp", payload })
	answer("zigbee2mqtt/hall/lamp/set", func(_, payload string) (string, string) { return "zigbee2mqtt/hall/lamp", payload })
	answer("shellyplus1-1/rpc", func(_, payload string) (string, string) {
		id := strings.SplitN(strings.SplitN(payload, `"id":`, 2)[1], ",", 2)[0]
		if !strings.Contains(payload, `"Switch.Set"`) {
			return "shelly/shellyplus1-1/rpc", `{"id":` + id + `,"error":{"code":404,"message":"No handler"}}`
		}
		return "shelly/shellyplus1-1/rpc", `{"id":` + id + `,"result":{"was_on":false}}`
	})
	commands := mqtt.subscribe("shellies/shelly1-1/relay/0/command")
	blinds := mqtt.subscribe("porch/#")
	python := start(t, "autobahn_python.py")
	python.connect(g.url("ws"), "json")
	if a := python.call("tasmota.plug.POWER.set", true); fmt.Sprint(a.Args) != "[true]" {
		t.Errorf("Tasmota: %v", a)
	}
	if a := python.call("tasmota.plug.command.Dimmer", 40); fmt.Sprint(a.Args) != "[map[Dimmer:40]]" {
		t.Errorf("Tasmota's command: %v", a)
	}
	wampy := start(t, "wampy.mjs")
	wampy.connect(g.url("ws"), "cbor")
	if a := wampy.call("zigbee.lamp.state.set", true); fmt.Sprint(a.Args) != "[true]" {
		t.Errorf("Zigbee2MQTT: %v", a)
	}
	if a := wampy.call("zigbee.hall.lamp.state.set", true); fmt.Sprint(a.Args) != "[true]" {
		t.Errorf("Zigbee2MQTT, a name with a slash: %v", a)
	}
	for uri, want := range map[string]string{
		"esphome.porch.cover.blind.open": "porch/cover/blind/command OPEN", "esphome.porch.fan.vent.set": "porch/fan/vent/command ON",
		"esphome.porch.cover.blind.position.set": "porch/cover/blind/position/command 40",
	} {
		args := map[string][]any{"esphome.porch.fan.vent.set": {true}, "esphome.porch.cover.blind.position.set": {40}}[uri]
		wampy.call(uri, args...)
		receive(t, blinds, uri, func(m string) bool { return m == want })
	}
	// wampy's own check of URIs has no hyphens.
	if a := python.call("shelly.shellyplus1-1.switch.set", 0, true); fmt.Sprint(a.Args) != "[map[was_on:false]]" {
		t.Errorf("Shelly: %v", a)
	}
	if a := python.do("call", map[string]any{"uri": "shelly.shellyplus1-1.rpc", "args": []any{"No.Such"}, "kwargs": map[string]any{"id": 0}}); a.OK || a.Error != "postern.error.refused" {
		t.Errorf("an error of Shelly's: %+v", a)
	}
	python.call("shelly.shelly1-1.relay.0.set", true)
	receive(t, commands, "the relay's command", func(m string) bool { return m == "shellies/shelly1-1/relay/0/command on" })
	mqtt.publish("tele/plug/LWT", "Offline", "-r", "-q", "1")
	until(t, "the plug is known to be away", func() bool {
		a := python.do("call", map[string]any{"uri": "tasmota.plug.POWER.set", "args": []any{true}, "kwargs": map[string]any{}})
		return !a.OK && a.Error == "postern.error.device_unavailable"
	})

	// From MQTT, with the permissions of the command's own role.
	replies := mqtt.subscribe("+/pump/set/+/reply")
	mqtt.publish("cmd/pump/set/req/1", "true", "-q", "1")
	receive(t, replies, "the pump's answer", func(m string) bool {
		return strings.HasPrefix(m, "cmd/pump/set/1/reply") && !strings.Contains(m, "error")
	})
	until(t, "the pump runs", func() bool {
		out, err := exec.Command(posternBinary, "call", "device.pump.get", "--url", g.url("rs")).Output()
		return err == nil && strings.Contains(string(out), "true")
	})
	mqtt.publish("guest/pump/set/req/2", "false", "-q", "1")
	receive(t, replies, "the refusal", func(m string) bool {
		return strings.HasPrefix(m, "guest/pump/set/2/reply") && strings.Contains(m, `"error":"wamp.error.not_authorized"`)
	})
	mqtt.publish("cmd/pump/blow/req/3", "", "-q", "1")
	other := mqtt.subscribe("cmd/pump/blow/+/reply")
	mqtt.publish("cmd/pump/blow/req/4", "x", "-q", "1")
	receive(t, other, "no such procedure", func(m string) bool { return strings.Contains(m, "wamp.error.no_such_procedure") })
	g.terminate()
}
