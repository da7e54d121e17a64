package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// respond has an MQTT client answer what arrives.
func (w *world) respond(c mqtt.Client, filter string, f func(m mqtt.Message)) {
	w.t.Helper()
	w.done(c.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) { f(m) }))
}

func callOf(direction, procedure, request, reply string, change ...func(*bridge.Call)) bridge.Call {
	c := bridge.Call{Name: direction + procedure, Broker: "a", Direction: direction, Procedure: procedure, Request: request, Reply: reply}
	c.SetDefaults()
	for _, f := range change {
		f(&c)
	}
	return c
}

func uriOf(err error) string {
	var e *wamp.Error
	if errors.As(err, &e) {
		return e.URI
	}
	return fmt.Sprint(err)
}

func (w *world) call(s *client.Session, procedure string, args wamp.List) (string, error) {
	w.t.Helper()
	r, err := s.Call(w.t.Context(), procedure, args, nil)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(r.Args), nil
}

// TestDevicesAnswerCalls: the four ways of telling one answer from another.
func TestDevicesAnswerCalls(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	boolean := func(c *bridge.Codec) { c.Type, c.True, c.False = "bool", "ON", "OFF" }
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)}, Calls: []bridge.Call{
		callOf(bridge.Out, "plc.{fn}", "plc/{fn}/req/{id}", "plc/{fn}/rep/{id}"),
		callOf(bridge.Out, "rpc.{dev}.set", "{dev}/rpc", "postern/{dev}/rpc", func(c *bridge.Call) {
			c.Codec.Template = map[string]any{"id": "$id", "src": "postern/{dev}", "method": "Switch.Set", "params": map[string]any{"on": "$args[0]"}}
			c.ReplyCodec.Field, c.Correlation, c.Error = "$.result", "$.id", "$.error"
		}),
		callOf(bridge.Out, "z2m.{dev}.set", "z2m/{dev}/set", "z2m/{dev}", func(c *bridge.Call) {
			boolean(&c.Codec)
			boolean(&c.ReplyCodec)
			c.Codec.Field, c.ReplyCodec.Field = "$.state", "$.state"
			c.ReplyIf, c.Timeout = "$value == $args[0]", 300*time.Millisecond
			c.Availability.Topic = "z2m/{dev}/availability"
			c.Availability.Codec.Field = "$.state"
		}),
		callOf(bridge.Out, "cmnd.{dev}.power", "cmnd/{dev}/POWER", ""),
	}}
	w.run(cfg, bridge.StateOnline, nil)
	dev := w.device(m.addr)
	w.respond(dev, "plc/+/req/+", func(m mqtt.Message) {
		go dev.Publish(strings.Replace(m.Topic(), "/req/", "/rep/", 1), 1, false, "["+string(m.Payload())+"]")
	})
	w.respond(dev, "+/rpc", func(m mqtt.Message) {
		id := strings.SplitN(strings.Split(string(m.Payload()), `"id":`)[1], ",", 2)[0]
		id = strings.TrimRight(id, "}")
		if strings.Contains(string(m.Payload()), "true") {
			go dev.Publish("postern/sw/rpc", 1, false, `{"id":`+id+`,"result":{"was_on":false}}`)
		} else {
			go dev.Publish("postern/sw/rpc", 1, false, `{"id":`+id+`,"error":{"code":-103,"message":"no such switch"}}`)
		}
	})
	w.respond(dev, "z2m/+/set", func(m mqtt.Message) {
		go dev.Publish("z2m/lamp", 1, false, `{"state":"OFF","brightness":3}`)
		if strings.Contains(m.Topic(), "lamp") {
			go dev.Publish("z2m/lamp", 1, false, `{"brightness":4,"state":"ON"}`)
		}
	})
	powers := w.topics(dev, "cmnd/+/POWER", 1)
	sess := w.join()

	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if got, err := w.call(sess, "plc.read", wamp.List{int64(i)}); err != nil || got != fmt.Sprintf("[[%d]]", i) {
				t.Errorf("call %d: %s, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	if got, err := w.call(sess, "rpc.sw.set", wamp.List{true}); got != "[map[was_on:false]]" {
		t.Errorf("set: %s, %v", got, err)
	}
	if _, err := w.call(sess, "rpc.sw.set", wamp.List{false}); uriOf(err) != bridge.ErrDeviceRefused || !strings.Contains(err.Error(), "no such switch") {
		t.Errorf("a device's error: %v", err)
	}
	if _, err := w.call(sess, "rpc.sw.set", nil); uriOf(err) != wamp.ErrInvalidArgument || !strings.Contains(err.Error(), "$args[0]") {
		t.Errorf("without its argument: %v", err)
	}
	if got, err := w.call(sess, "z2m.lamp.set", wamp.List{true}); got != "[true]" {
		t.Errorf("set: %s, %v", got, err)
	}
	if _, err := w.call(sess, "z2m.other.set", wamp.List{true}); uriOf(err) != wamp.ErrTimeout {
		t.Errorf("a device that does not do it: %v", err)
	}
	if got, err := w.call(sess, "cmnd.tv.power", wamp.List{"TOGGLE"}); err != nil || got != "[]" {
		t.Errorf("without a reply: %s, %v", got, err)
	}
	if _, err := w.call(sess, "cmnd.a%2Fb.power", nil); uriOf(err) != wamp.ErrInvalidArgument {
		t.Errorf("a name that is no topic: %v", err)
	}
	if got := powers.wait(1); got[0].name != "cmnd/tv/POWER" || got[0].value != "TOGGLE" {
		t.Errorf("%v", got)
	}
	w.done(dev.Publish("z2m/lamp/availability", 1, true, `{"state":"offline"}`))
	w.eventually("the lamp is known to be away", func() bool {
		_, err := w.call(sess, "z2m.lamp.set", wamp.List{true})
		return uriOf(err) == bridge.ErrDeviceUnavailable
	})
}

// TestCallsWhileTheBrokerIsAway fail at once, and what waits for an answer does.
func TestCallsWhileTheBrokerIsAway(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)}, Calls: []bridge.Call{
		callOf(bridge.Out, "plc.{fn}", "plc/{fn}/req/{id}", "plc/{fn}/rep/{id}", func(c *bridge.Call) { c.MaxOpen = 1; c.Timeout = patience }),
	}}
	r := w.run(cfg, bridge.StateOnline, nil)
	sess, asked := w.join(), w.topics(w.device(m.addr), "plc/#", 1)
	failed := make(chan error, 1)
	go func() {
		_, err := w.call(sess, "plc.read", nil)
		failed <- err
	}()
	asked.wait(1)
	if _, err := w.call(sess, "plc.read", nil); uriOf(err) != bridge.ErrDeviceUnavailable || !strings.Contains(err.Error(), "1 calls") {
		t.Errorf("one too many: %v", err)
	}
	m.kill()
	if err := <-failed; uriOf(err) != bridge.ErrDeviceUnavailable || !strings.Contains(err.Error(), "lost") {
		t.Errorf("a call under way: %v", err)
	}
	r.await("a", bridge.StateOffline)
	if _, err := w.call(sess, "plc.read", nil); uriOf(err) != bridge.ErrDeviceUnavailable {
		t.Errorf("a call without a broker: %v", err)
	}
	m.start()
	r.await("a", bridge.StateOnline)
	again := w.topics(w.device(m.addr), "plc/#", 1)
	go func() { _, _ = w.call(sess, "plc.again", nil) }()
	if got := again.wait(1); !strings.HasPrefix(got[0].name, "plc/again/") {
		t.Errorf("an old request was sent: %v", got)
	}
	m.kill()
}

// TestCommandsFromMQTT call procedures, once, and never late.
func TestCommandsFromMQTT(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	as := func(c *bridge.Call) { c.Role = "trusted" }
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)}, Calls: []bridge.Call{
		callOf(bridge.In, "site.{dev}.{fn}", "cmd/{dev}/{fn}/req/{id}", "cmd/{dev}/{fn}/rep/{id}", as, func(c *bridge.Call) { c.Args = bridge.ArgsSpread }),
		callOf(bridge.In, "json.{fn}", "json/{fn}", "json/{fn}/reply", as, func(c *bridge.Call) {
			c.Correlation, c.Codec.Field, c.Codec.Type = "$.id", "$.params", "json"
		}),
	}}
	r := w.run(cfg, bridge.StateOnline, nil)
	sess := w.join()
	var ran atomic.Int64
	register := func(uri string, f client.Procedure) {
		t.Helper()
		if _, err := sess.Register(t.Context(), uri, f); err != nil {
			t.Fatal(err)
		}
	}
	register("site.pump.set", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		ran.Add(1)
		return client.Return(int64(len(inv.Args)), inv.Args[0]), nil
	})
	register("json.echo", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		return client.Return(inv.Args...), nil
	})
	dev := w.device(m.addr)
	replies := w.topics(dev, "cmd/+/+/rep/+", 1)
	answers := w.topics(dev, "json/+/reply", 1)
	send := func(topic, payload string, retained bool) { w.done(dev.Publish(topic, 1, retained, payload)) }
	wants := func(tr *trap, n int, name, value string) {
		t.Helper()
		if all := tr.wait(n); !slices.ContainsFunc(all, func(g got) bool { return g.name == name && g.value == value }) {
			t.Errorf("%v, want %s %s", all, name, value)
		}
	}
	send("cmd/pump/set/req/1", `[true, 5]`, false)
	wants(replies, 1, "cmd/pump/set/rep/1", "[2,true]")
	send("cmd/pump/set/req/1", `[true, 5]`, false) // again
	send("cmd/pump/set/req/2", `[false]`, false)
	wants(replies, 2, "cmd/pump/set/rep/2", "[1,false]")
	send("cmd/none/set/req/3", ``, false)
	wants(replies, 3, "cmd/none/set/rep/3", `{"error":"wamp.error.no_such_procedure","message":"no callee is registered for \"site.none.set\""}`)
	if n := ran.Load(); n != 2 {
		t.Errorf("the pump was set %d times, want 2", n)
	}
	send("json/echo", `{"id":"x1","params":{"a":1}}`, false)
	wants(answers, 1, "json/echo/reply", `{"id":"x1","result":{"a":1}}`)
	send("json/echo", `{"id":7}`, false)
	wants(answers, 2, "json/echo/reply", `{"error":"wamp.error.invalid_argument","id":7,"message":"the command cannot be read: there is no $.params"}`)

	// Neither what is retained nor what was sent while the gateway was away.
	send("cmd/pump/set/req/10", `[true]`, true)
	r.stop()
	send("cmd/pump/set/req/11", `[true]`, false)
	w.run(cfg, bridge.StateOnline, nil)
	send("cmd/pump/set/req/12", `[true]`, false)
	wants(replies, 4, "cmd/pump/set/rep/12", "[1,true]")
	if got := len(replies.list()); got != 4 || ran.Load() != 3 {
		t.Errorf("%d replies and %d runs: %v", got, ran.Load(), replies.list())
	}
}

// TestCallsThatAreRefusedAtLoad says what is wrong.
func TestCallsThatAreRefusedAtLoad(t *testing.T) {
	as := func(c *bridge.Call) { c.Role = "trusted" }
	for want, calls := range map[string][]bridge.Call{
		"is missing: it says what":   {callOf(bridge.In, "p.{x}", "c/{x}", "")},
		"only for direction: in":     {callOf(bridge.Out, "p.{x}", "c/{x}", "", as)},
		"does not capture":           {callOf(bridge.Out, "p.{x}", "c/{y}", "")},
		"has {z}":                    {callOf(bridge.In, "p.{x}", "c/{x}", "r/{z}", as)},
		"a loop":                     {callOf(bridge.In, "p.{x}", "c/{x}", "", as), callOf(bridge.Out, "p.a", "c/a", "")},
		"no broker":                  {callOf(bridge.Out, "p", "c", "", func(c *bridge.Call) { c.Broker = "z" })},
		"is not known":               {callOf("up", "p", "c", "")},
		"begins with wamp.":          {callOf(bridge.Out, "wamp.p", "c", "")},
		"0 or 1":                     {callOf(bridge.Out, "p", "c", "", func(c *bridge.Call) { c.QoS = 2 })},
		"looked for in replies":      {callOf(bridge.Out, "p", "c", "", func(c *bridge.Call) { c.ReplyIf = "true" })},
		"reply_if":                   {callOf(bridge.Out, "p", "c", "r", func(c *bridge.Call) { c.ReplyIf = "((" })},
		"would be carried out late":  {callOf(bridge.In, "p", "map/c", "", as)},
		"the name":                   {callOf(bridge.Out, "p", "c", ""), callOf(bridge.Out, "p", "c", "")},
		"has \"#\", which no topic":  {callOf(bridge.Out, "p", "c/#", "")},
		"begins elsewhere than with": {callOf(bridge.Out, "p", "c", "r", func(c *bridge.Call) { c.Correlation = "$id" })},
	} {
		cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", "h:1")}, Calls: calls, Maps: []bridge.Map{mapOf(bridge.In, "map/{x...}", "m.{x...}")}}
		var said []string
		cfg.Validate(func(path, problem, _ string) { said = append(said, path+" "+problem) })
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q, want one with %q", said, want)
		}
	}
}
