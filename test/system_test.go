//go:build system

package test

import (
	"encoding/base64"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

// site is the configuration of one real site: a serial weather station, a
// pump and a door on (simulated) GPIO, a relay, and an MQTT fleet.
const site = `
listen:
  http: 127.0.0.1:{{http}}
  rawsocket: 127.0.0.1:{{raw}}
  unix: {{unix}}
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: pump, type: gpio-output, chip: sim, pin: GPIO17, safe: off}
    - {name: door, type: gpio-input, chip: sim, pin: GPIO27}
    - {name: relay, type: sim-relay}
    - {name: sun, type: sim-sine, interval: 50ms}
    - {name: host, type: system, interval: 1s}
    - name: weather
      type: serial-lines
      port: %[1]s
      baud: 9600
      format: regexp
      pattern: 'T=(?P<temperature>-?[0-9.]+) H=(?P<humidity>[0-9.]+)'
      fields:
        - {name: temperature, unit: Cel}
        - {name: humidity, unit: "%%"}
    - {name: lost, type: serial-lines, port: /dev/serial/by-id/nobody, format: text}
bridge:
  brokers:
    - {name: plant, urls: "tcp://127.0.0.1:%[2]d"}
  maps:
    - {name: telemetry, brokers: [plant], direction: in, mqtt: "tele/{dev}/SENSOR", wamp: "site.{dev}.sensor", qos: 1}
    - {name: state, brokers: [plant], direction: both, mqtt: "state/{k}", wamp: "site.state.{k}", qos: 1, codec: json, retain: keep}
    - {name: readings, brokers: [plant], direction: out, mqtt: "gw/{d}/{r}", wamp: "device.{d}.{r}", qos: 1}
    - {name: local, brokers: [embedded], direction: both, mqtt: "{t...}", wamp: "mqtt.{t...}"}
mqtt:
  listen: 127.0.0.1:{{mqtt}}
`

// nasty are the arguments that have to survive every pair of codecs.
var nasty = []any{
	"ünï — \u0001 \U0001F33B", nil, true, -1, 1 << 31, 1<<53 - 1, 0.1, -1e300, "",
	[]any{},
	map[string]any{},
	[]any{[]any{nil, map[string]any{"a": []any{1, "b", false}}}},
	map[string]any{"$bin": base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 254, 255})},
}

// TestClients runs one scenario with every third-party client, codec and
// transport against the same running gateway.
func TestClients(t *testing.T) {
	mqtt, station := startFleet(t), plugSensor(t)
	g := run(t, fmt.Sprintf(site, station.path, mqtt.port))
	downstream := mqtt.subscribe("#")

	partner := start(t, "autobahn.js") // speaks JSON, so that most others need transcoding
	partner.connect(g.url("ws"), "json")
	partner.must("register", map[string]any{"uri": "com.example.partner"})

	n := 0
	for _, kind := range kinds {
		for _, transport := range kind.transports {
			for _, codec := range kind.codecs {
				n++
				t.Run(fmt.Sprintf("%s/%s/%s", kind.name, transport, codec), func(t *testing.T) {
					c := start(t, kind.program)
					c.connect(g.url(transport), codec)
					s := scenario{t: t, n: n, c: c, partner: partner, fleet: mqtt, station: station, downstream: downstream}
					for _, step := range steps {
						step.run(&s)
					}
					c.do("close", nil)
				})
			}
		}
	}
	if t.Failed() {
		return
	}
	if lost := partner.call("device.lost.status"); !strings.Contains(fmt.Sprint(lost.Args, lost.KwArgs), "/dev/serial/by-id/nobody") {
		t.Errorf("the status of a device without its port does not name the port: %v %v", lost.Args, lost.KwArgs)
	}
	g.shutdown(t, partner, downstream)
}

// scenario is what every client does.
type scenario struct {
	t          *testing.T
	n          int // tells the runs apart
	c, partner *client
	fleet      *fleet
	station    *sensor
	downstream <-chan string
}

// actuator: switching the relay and the pump changes their readings.
func (s *scenario) actuator() {
	for _, device := range []string{"relay", "pump"} {
		s.c.call("device."+device+".set", false) // no event if it was off
		s.c.subscribe("device."+device+".on", "exact")
		for _, on := range []bool{true, false, true} {
			s.c.call("device."+device+".set", on)
			e := s.c.wait(fmt.Sprintf("%s %v", device, on), func(e event) bool {
				return e.Topic == "device."+device+".on" && reflect.DeepEqual(e.Args, []any{on})
			})
			if e.KwArgs["quality"] != "good" || e.KwArgs["time"] == nil || e.KwArgs["seq"] == nil {
				s.t.Errorf("%s: the event lacks its quality, time or number: %v", device, e.KwArgs)
			}
		}
		want := fmt.Sprintf("gw/%s/on", device)
		receive(s.t, s.downstream, want+" on MQTT", func(m string) bool { return strings.HasPrefix(m, want+" ") })
	}
}

// serial: what the station says on its line arrives as numbers.
func (s *scenario) serial() {
	s.c.subscribe("device.weather", "prefix") // wampy accepts no dot at the end
	temperature, humidity := -10.25+float64(s.n), 40.5+float64(s.n)
	s.station.says(s.t, fmt.Sprintf("T=%.2f H=%.1f", temperature, humidity))
	for topic, want := range map[string]float64{
		"device.weather.temperature": temperature, "device.weather.humidity": humidity,
	} {
		e := s.c.wait(topic, func(e event) bool { return e.Topic == topic && reflect.DeepEqual(e.Args, []any{want}) })
		if e.KwArgs["unit"] == "" {
			s.t.Errorf("%s has no unit: %v", topic, e.KwArgs)
		}
		// The two may come in either order for wait's purpose: start over.
		s.station.says(s.t, fmt.Sprintf("T=%.2f H=%.1f", temperature, humidity))
	}
}

// mqtt: a fleet device's message is an event, and an event is a message.
func (s *scenario) mqtt() {
	dev := fmt.Sprintf("tasmota%d", s.n)
	s.c.subscribe("site."+dev+".sensor", "exact")
	s.fleet.publish("tele/"+dev+"/SENSOR", fmt.Sprintf(`{"DS18B20":{"Temperature":%d.5},"TempUnit":"C"}`, s.n), "-q", "1")
	e := s.c.wait("telemetry", func(e event) bool { return e.Topic == "site."+dev+".sensor" })
	want := []any{map[string]any{"DS18B20": map[string]any{"Temperature": float64(s.n) + .5}, "TempUnit": "C"}}
	if !reflect.DeepEqual(e.Args, want) {
		s.t.Errorf("telemetry arrived as %v, want %v", e.Args, want)
	}
	lamp := fmt.Sprintf("lamp%d", s.n)
	s.c.must("publish", map[string]any{"uri": "site.state." + lamp, "args": []any{"bright"}, "kwargs": map[string]any{}})
	m := receive(s.t, s.downstream, "the lamp's state", func(m string) bool { return strings.HasPrefix(m, "state/"+lamp+" ") })
	if want := fmt.Sprintf(`state/%s "bright"`, lamp); m != want {
		s.t.Errorf("on MQTT: %s, want %s", m, want)
	}
}

// arguments: nasty values come back as they were, through a callee of another
// codec, and as an event.
func (s *scenario) arguments() {
	kwargs := map[string]any{"list": nasty, "größe": 1.5}
	echo := s.c.must("call", map[string]any{"uri": "com.example.partner", "args": nasty, "kwargs": kwargs})
	same(s.t, "result's arguments", echo.Args, nasty)
	same(s.t, "result's keyword arguments", echo.KwArgs, kwargs)

	uri := fmt.Sprintf("com.example.echo%d", s.n)
	s.c.must("register", map[string]any{"uri": uri})
	echo = s.partner.must("call", map[string]any{"uri": uri, "args": nasty, "kwargs": kwargs})
	same(s.t, "arguments through the client", echo.Args, nasty)
	same(s.t, "keyword arguments through the client", echo.KwArgs, kwargs)

	topic := fmt.Sprintf("com.example.topic%d", s.n)
	s.c.subscribe(topic, "exact")
	s.partner.must("publish", map[string]any{"uri": topic, "args": nasty, "kwargs": kwargs})
	e := s.c.wait("the event", func(e event) bool { return e.Topic == topic })
	same(s.t, "event's arguments", e.Args, nasty)
	same(s.t, "event's keyword arguments", e.KwArgs, kwargs)
}

func (s *scenario) errors() {
	for _, bad := range []struct{ uri, arg, want string }{
		{"com.example.nobody", "", "wamp.error.no_such_procedure"},
		{"device.relay.set", "banana", "wamp.error.invalid_argument"},
		{"device.lost.write", "x", "postern.error.device_unavailable"},
	} {
		a := s.c.do("call", map[string]any{"uri": bad.uri, "args": []any{bad.arg}, "kwargs": map[string]any{}})
		if a.OK || a.Error != bad.want {
			s.t.Errorf("call %s: %+v, want %s", bad.uri, a, bad.want)
		}
	}
	a := s.c.do("call", map[string]any{"uri": "com.example.partner", "args": []any{}, "kwargs": map[string]any{"fail": true}})
	if a.OK || a.Error != "com.example.failed" || !reflect.DeepEqual(a.Args, []any{"as asked"}) {
		s.t.Errorf("a callee's own error arrived as %+v", a)
	}
}

// same compares decoded JSON, in which all numbers are floats.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := normal(got), normal(want); !reflect.DeepEqual(g, w) {
		t.Errorf("%s changed on the way:\n got %#v\nwant %#v", what, g, w)
	}
}

func normal(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case float64:
		if v == 0 {
			return math.Abs(v)
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = normal(x)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = normal(x)
		}
		return out
	}
	return v
}

// shutdown: SIGTERM puts the actuators into their safe state, which is seen on
// both sides of the gateway before everybody gets GOODBYE.
func (g *gateway) shutdown(t *testing.T, c *client, downstream <-chan string) {
	t.Helper()
	c.subscribe("device.pump.on", "exact")
	c.subscribe("device.relay.on", "exact")
	c.call("device.pump.set", true)
	c.call("device.relay.set", true)
	g.terminate()
	for _, device := range []string{"pump", "relay"} {
		if !strings.Contains(g.output(), device) {
			t.Errorf("the log does not name %s at shutdown", device)
		}
	}
	off := map[string]bool{}
	e := c.wait("GOODBYE", func(e event) bool {
		if e.Event == "event" && e.Args[0] == false {
			off[e.Topic] = true
		}
		return e.Event == "close"
	})
	if !off["device.pump.on"] || !off["device.relay.on"] {
		t.Errorf("before GOODBYE the client saw switched off: %v, want both actuators", off)
	}
	if e.Reason != "wamp.close.system_shutdown" {
		t.Errorf("GOODBYE's reason is %q", e.Reason)
	}
	receive(t, downstream, "the pump's last state on MQTT", func(m string) bool {
		return strings.HasPrefix(m, "gw/pump/on ") && strings.Contains(m, "false")
	})
	if _, err := os.Stat(g.unix); err == nil {
		t.Errorf("%s is still there after the end", g.unix)
	}
}
