package bridge_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/wamp"
)

// embedded runs a broker of the gateway's own.
func (w *world) embedded(change ...func(*broker.Config)) *broker.Broker {
	w.t.Helper()
	cfg := broker.DefaultConfig()
	cfg.Listen = []string{"127.0.0.1:0"}
	for _, f := range change {
		f(&cfg)
	}
	b, err := broker.New(cfg, broker.Host{}, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			w.t.Errorf("broker: %v", err)
		}
	}()
	w.t.Cleanup(sync.OnceFunc(func() { cancel(); <-done }))
	<-b.Ready()
	return b
}

func addrOf(b *broker.Broker) string { return b.Addrs()[0].String() }

func TestEmbeddedEveryQoSBothWays(t *testing.T) {
	for qos := range 3 {
		for _, version := range []uint{3, 4} {
			t.Run(fmt.Sprintf("QoS %d, protocol level %d", qos, version), func(t *testing.T) {
				w := newWorld(t)
				b := w.embedded()
				cfg := bridge.Config{Maps: []bridge.Map{mapOf(bridge.Both, "s/{x...}", "com.s.{x...}", func(m *bridge.Map) { m.QoS = qos })}}
				w.run(cfg, bridge.StateOnline, b)
				events := w.events("com.s.")
				dev := w.device(addrOf(b), func(o *mqtt.ClientOptions) { o.SetProtocolVersion(version) })
				topics, sess := w.topics(dev, "s/#", 2), w.join()
				for i := range 100 {
					w.done(dev.Publish("s/in/x.y", byte(qos), false, strconv.Itoa(i)))
					w.publish(sess, "com.s.out.a%2Eb", wamp.List{int64(i)})
				}
				var in, out []string
				for _, g := range events.wait(200) {
					if g.name == "com.s.in.x%2Ey" {
						in = append(in, g.value)
					}
				}
				for _, g := range topics.wait(200) {
					if g.name == "s/out/a.b" {
						out = append(out, g.value)
					}
				}
				if want := numbers(100); !slices.Equal(in, want) || !slices.Equal(out, want) {
					t.Errorf("in %v, out %v", in, out)
				}
			})
		}
	}
}

func TestEmbeddedNoEcho(t *testing.T) {
	w := newWorld(t)
	b := w.embedded(func(c *broker.Config) { c.MaxPending, c.MaxInFlight = 65535, 65535 })
	r := w.run(bridge.Config{Maps: []bridge.Map{mapOf(bridge.Both, "s/{x...}", "com.s.{x...}")}}, bridge.StateOnline, b)
	noEcho(t, w, r, addrOf(b))
	if s := b.Stats(); s.Dropped > 0 {
		t.Errorf("the broker dropped: %+v", s)
	}
}

// TestDefaults is the demonstration without a configuration.
func TestDefaults(t *testing.T) {
	w := newWorld(t)
	b := w.embedded()
	r := w.run(bridge.DefaultConfig(), bridge.StateOnline, b)
	<-r.Ready()
	dev := w.device(addrOf(b))
	topics, events := w.topics(dev, "#", 1), w.events("mqtt.")
	w.done(dev.Publish("tele/sensor/POWER", 1, false, "ON"))
	w.done(dev.Publish("tele/sensor/SENSOR", 1, false, `{"t":21.5}`))
	if got := events.wait(2); got[0] != gotEvent("mqtt.tele.sensor.POWER", "ON") || got[1] != gotEvent("mqtt.tele.sensor.SENSOR", "map[t:21.5]") {
		t.Errorf("events %v", got)
	}
	topics.wait(2)
	sess := w.join()
	if err := sess.Publish(t.Context(), "device.thermo.temperature", wamp.List{21.5}, wamp.Dict{"unit": "Cel"}); err != nil {
		t.Fatal(err)
	}
	if err := sess.Publish(t.Context(), "mqtt.cmnd.sensor.POWER", wamp.List{"OFF"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := topics.wait(4)[2:]; got[0] != gotEvent("device/thermo/temperature", "21.5") || got[1] != gotEvent("cmnd/sensor/POWER", "OFF") {
		t.Errorf("topics %v", got)
	}
}

func gotEvent(name, value string) got { return got{name: name, value: value} }

func TestEmbeddedRetainedAndWill(t *testing.T) {
	w := newWorld(t)
	b := w.embedded()
	r := w.run(bridge.Config{Maps: []bridge.Map{
		mapOf(bridge.In, "s/{x}", "com.s.{x}"),
		mapOf(bridge.Out, "o/{x}", "com.o.{x}", func(m *bridge.Map) { m.Retain = bridge.RetainAlways }),
	}}, bridge.StateOnline, b)
	events := w.events("com.s.")
	// A device that dies: its connection is cut below it.
	g := newGate(t, addrOf(b))
	dying := w.device(g.addr(), func(o *mqtt.ClientOptions) {
		o.SetWill("s/will", "gone", 1, true)
		o.SetConnectionLostHandler(func(mqtt.Client, error) {})
	})
	w.done(dying.Publish("s/x", 1, true, "v"))
	events.wait(1)
	g.set(gateShut)
	events.wait(2)
	retained := func(o *wamp.SubscribeOptions) { o.GetRetained = true }
	held := w.events("com.s.", retained).wait(2)
	for _, want := range []got{{"com.s.x", "v", true}, {"com.s.will", "gone", true}} {
		if !slices.Contains(held, want) {
			t.Errorf("the realm holds %v, not %v", held, want)
		}
	}
	sess := w.join()
	w.publish(sess, "com.o.a", wamp.List{"1"})
	w.publish(sess, "com.o.b", wamp.List{"2"})
	w.publish(sess, "com.o.a", nil)
	w.eventually("all sent", func() bool { return r.Status()[0].Out >= 3 })
	dev := w.device(addrOf(b))
	all := w.topics(dev, "o/#", 1)
	w.publish(sess, "com.o.end", wamp.List{"x"})
	if got := all.wait(2); got[0] != gotRetained("o/b", "2") {
		t.Errorf("the broker holds %v", got)
	}
}

func gotRetained(name, value string) got { return got{name, value, true} }

// TestHub: what comes from one broker's fleet reaches the other's, once.
func TestHub(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	b := w.embedded()
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
		Maps:    []bridge.Map{mapOf(bridge.Both, "s/{x...}", "com.s.{x...}")},
	}, bridge.StateOnline, b)
	one, two := w.device(addrOf(b)), w.device(m.addr)
	atOne, atTwo := w.topics(one, "s/#", 1), w.topics(two, "s/#", 1)
	for i := range 500 {
		w.done(one.Publish("s/1", 1, false, strconv.Itoa(i)))
		w.done(two.Publish("s/2", 1, false, strconv.Itoa(i)))
	}
	for _, tr := range []*trap{atOne, atTwo} {
		tr.wait(1000)
	}
	w.eventually("all carried", func() bool {
		return !slices.ContainsFunc(r.Status(), func(s bridge.Status) bool { return s.In < 500 || s.Out < 500 || s.Queued > 0 })
	})
	for _, s := range r.Status() {
		if s.In != 500 || s.Out != 500 {
			t.Errorf("%s: %d in, %d out, want 500 each", s.Broker, s.In, s.Out)
		}
	}
	if len(atOne.list()) != 1000 || len(atTwo.list()) != 1000 {
		t.Errorf("%d and %d arrived, want 1000 each", len(atOne.list()), len(atTwo.list()))
	}
}

func TestEmbeddedUsers(t *testing.T) {
	w := newWorld(t)
	b := w.embedded(func(c *broker.Config) {
		c.Anonymous = broker.AnonymousNever
		c.Users = []broker.User{{Name: "fleet", Password: "right"}}
	})
	for _, c := range []struct {
		user, password, id string
		ok                 bool
	}{
		{"fleet", "right", "a", true},
		{"fleet", "wrong", "b", false},
		{"fleet", "", "c", false},
		{"nobody", "", "d", false},
		{"", "", "e", false},
		{"fleet", "right", "inline", false}, // the bridge's own identifier
	} {
		o := mqtt.NewClientOptions().AddBroker("tcp://" + addrOf(b)).SetAutoReconnect(false)
		o.SetUsername(c.user).SetPassword(c.password).SetClientID(c.id).SetProtocolVersion(4)
		dev := mqtt.NewClient(o)
		token := dev.Connect()
		token.WaitTimeout(patience)
		if (token.Error() == nil) != c.ok {
			t.Errorf("%q with %q as %q: %v", c.user, c.password, c.id, token.Error())
		}
		dev.Disconnect(100)
	}
	if s := b.Stats(); s.Refused != 5 {
		t.Errorf("%d refused, want 5", s.Refused)
	}
}

func TestEmbeddedRejectsBadInput(t *testing.T) {
	w := newWorld(t)
	b := w.embedded(func(c *broker.Config) { c.MaxPacket = 4 << 10; c.MaxRetained = 2 })
	w.run(bridge.DefaultConfig(), bridge.StateOnline, b)
	raw := func(bytes string) {
		t.Helper()
		c, err := net.Dial("tcp", addrOf(b))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, bytes); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: the connection is not closed: %v", bytes, err)
		}
	}
	connect := "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01z"
	raw("\x10\xff\xff\xff\x7f")              // a CONNECT of 256 MB
	raw("\x30\x05hello")                     // no CONNECT first
	raw("\x10\x00")                          // an empty one
	raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") // another protocol
	raw(connect + "\x30\xff\xff\xff\x7f")    // a huge PUBLISH
	raw(connect + "\xf0\x00")                // a packet type that is none
	raw(connect + connect)                   // twice

	// Topics that are no topics, and those of the broker itself.
	dev, events := w.device(addrOf(b)), w.events("mqtt.")
	for _, topic := range []string{"$SYS/broker/version", "$other", "a/+/b", "a/#"} {
		bad := w.device(addrOf(b))
		bad.Publish(topic, 0, false, "x").WaitTimeout(time.Second)
	}
	for i := range 4 {
		w.done(dev.Publish("keep/"+strconv.Itoa(i), 1, true, "x"))
	}
	events.wait(4)
	if got := events.list(); len(got) != 4 {
		t.Errorf("events %v", got)
	}
	if s := b.Stats(); s.Unkept != 2 {
		t.Errorf("%d not kept, want 2", s.Unkept)
	}
}

// TestEmbeddedAcknowledgesWhatTheRealmTook: a message of QoS 1 is acknowledged
// after its event.
func TestEmbeddedAcknowledgesWhatTheRealmTook(t *testing.T) {
	w := newWorld(t)
	b := w.embedded()
	r := w.run(bridge.DefaultConfig(), bridge.StateOnline, b)
	dev := w.device(addrOf(b))
	for i := range 200 {
		w.done(dev.Publish("x", 1, false, "1"))
		if in := r.Status()[0].In; in < uint64(i) { // counted just after the realm's answer
			t.Fatalf("%d acknowledged, %d taken", i+1, in)
		}
	}
}

func TestEmbeddedPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := broker.DefaultConfig()
	cfg.Listen = []string{ln.Addr().String()}
	b, err := broker.New(cfg, broker.Host{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err == nil || !strings.Contains(err.Error(), "another broker may use the address") {
		t.Errorf("Listen: %v", err)
	}
}

func TestEmbeddedConfig(t *testing.T) {
	for _, c := range []struct {
		change func(*broker.Config)
		want   string
	}{
		{func(c *broker.Config) {}, ""},
		{func(c *broker.Config) { c.Listen = []string{"0.0.0.0:1883"} }, "listen[0]"},
		{func(c *broker.Config) { c.Listen = []string{":1883"} }, "listen[0]"},
		{func(c *broker.Config) { c.Listen, c.Anonymous = []string{":1883"}, broker.AnonymousAlways }, ""},
		{func(c *broker.Config) { c.Anonymous = broker.AnonymousNever }, "listen[0]"},
		{func(c *broker.Config) { c.Anonymous = "maybe" }, "listen[0]"},
		{func(c *broker.Config) { c.Listen = []string{"1883"} }, "listen[0]"},
		{func(c *broker.Config) {
			c.Users = []broker.User{{Name: "a", Password: "x"}, {Name: "a", Password: "y"}}
		}, "users[1].name"},
		{func(c *broker.Config) { c.Users = []broker.User{{Name: "a"}} }, "users[0].password"},
	} {
		cfg := broker.DefaultConfig()
		c.change(&cfg)
		var paths []string
		cfg.Validate(func(path, problem, hint string) { paths = append(paths, path) })
		if got := strings.Join(paths, " "); (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: reported %q, want %q", cfg, got, c.want)
		}
	}
}
