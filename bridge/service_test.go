package bridge_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/wamp"
)

func TestStatusTopicAndShutdown(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	c := brokerAt("a", m.addr)
	c.Status.Topic = "gw/status"
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{c}, Maps: []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}")}}, bridge.StateOnline, nil)
	dev := w.device(m.addr)
	status, topics := w.topics(dev, "gw/status", 1), w.topics(dev, "o/#", 1)
	status.wait(1)
	sess := w.join()
	const n = 2000
	for i := range n {
		w.publish(sess, "com.o.x", wamp.List{int64(i)})
	}
	r.stop()
	checkOrder(t, n, 0, topics.wait(n))
	if got := status.wait(2); got[0].value != "online" || got[1].value != "offline" {
		t.Errorf("status %v", got)
	}
	if s := r.Status()[0]; s.State != bridge.StateStopped || s.Queued != 0 {
		t.Errorf("after the end: %+v", s)
	}
}

func TestStatusInTheRealm(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	states := w.events("postern.bridge.")
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)}, Maps: []bridge.Map{mapOf(bridge.In, "a", "b")}}, bridge.StateOnline, nil)
	<-r.Ready()
	w.eventually("online in the realm", func() bool {
		return slices.ContainsFunc(states.list(), func(g got) bool { return g.name == "postern.bridge.a.status" && g.value == bridge.StateOnline })
	})
	sess := w.join()
	list, err := sess.Call(t.Context(), "postern.bridge.list", nil, nil)
	if err != nil || fmt.Sprint(list.Args) != "[[a]]" {
		t.Errorf("list: %v, %v", list, err)
	}
	one, err := sess.Call(t.Context(), "postern.bridge.status", wamp.List{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := one.Args[0].(wamp.Dict); d["state"] != bridge.StateOnline || d["protocol"] != "bridge" {
		t.Errorf("status %v", d)
	}
	if _, err := sess.Call(t.Context(), "postern.bridge.status", wamp.List{"b"}, nil); err == nil || !strings.Contains(err.Error(), `no broker "b"`) {
		t.Errorf("status of a broker that is not there: %v", err)
	}
}

// TestPauseAndDeadLetters uses the procedures as an operator would.
func TestPauseAndDeadLetters(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	number := func(m *bridge.Map) { m.Codec.Type = "number" }
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
		Maps:    []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}"), mapOf(bridge.In, "i/{x}", "com.i.{x}", number)},
	}, bridge.StateOnline, nil)
	<-r.Ready()
	sess, dev := w.join(), w.device(m.addr)
	call := func(name string, args ...any) any {
		t.Helper()
		got, err := sess.Call(t.Context(), "postern.bridge."+name, args, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return got.Args[0]
	}
	topics, events := w.topics(dev, "o/#", 1), w.events("com.i.")
	call("pause", "a")
	r.await("a", bridge.StatePaused)
	w.publish(sess, "com.o.1", wamp.List{"one"})
	w.publish(sess, "com.o.2", wamp.List{"two"})
	w.done(dev.Publish("i/x", 1, false, "7"))
	w.eventually("both to wait", func() bool { return r.Status()[0].Queued == 2 })
	if n := call("purge", "a", "o/{x}|com.o.{x}"); n != int64(2) {
		t.Errorf("%v purged, want 2", n)
	}
	w.publish(sess, "com.o.3", wamp.List{"three"})
	call("resume", "a")
	r.await("a", bridge.StateOnline)
	if got := topics.wait(1); got[0].value != "three" {
		t.Errorf("arrived %v", got)
	}
	if got := events.wait(1); got[0].value != "7" {
		t.Errorf("kept by the broker: %v", got)
	}
	w.done(dev.Publish("i/x", 1, false, "warm"))
	w.eventually("a dead letter", func() bool { return len(call("dead_letters", "a").(wamp.List)) == 1 })
	letter := call("dead_letters", "a").(wamp.List)[0].(wamp.Dict)
	if letter["topic"] != "i/x" || letter["payload"] != "d2FybQ==" {
		t.Errorf("letter %v", letter)
	}
	s := r.Status()[0]
	if s.Dropped["purged"] != 2 || len(s.Maps) < 2 {
		t.Errorf("status %+v", s)
	}
	if _, err := sess.Call(t.Context(), "postern.bridge.purge", wamp.List{"a", "nothing"}, nil); err == nil || !strings.Contains(err.Error(), `no map "nothing"`) {
		t.Errorf("purge of a map that is not there: %v", err)
	}
}

// TestPersistentSession: what is published while the bridge is away arrives.
func TestPersistentSession(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())}, Maps: []bridge.Map{mapOf(bridge.In, "i/{x}", "com.i.{x}")}}, bridge.StateOnline, nil)
	events, dev := w.events("com.i."), w.device(m.addr)
	g.set(gateShut)
	r.await("a", bridge.StateOffline)
	for i := range 100 {
		w.done(dev.Publish("i/x", 1, false, strconv.Itoa(i)))
	}
	g.set(gateOpen)
	checkOrder(t, 100, 0, events.wait(100))
}

// TestEntryForTheEmbeddedBroker is refused before anything runs.
func TestEntryForTheEmbeddedBroker(t *testing.T) {
	own := broker.DefaultConfig()
	own.Listen = []string{"127.0.0.1:21883"}
	b, err := broker.New(own, broker.Host{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", "localhost:21883")},
		Maps:    []bridge.Map{mapOf(bridge.Both, "s/{x}", "s.{x}")},
	}
	if _, err := bridge.New(cfg, bridge.Host{Brokers: map[string]bridge.Broker{bridge.Embedded: b}}); err == nil || !strings.Contains(err.Error(), "loop") {
		t.Errorf("New: %v", err)
	}
}

// TestShutdownWhileTheBrokerIsSilent ends in time, whatever blocks.
func TestShutdownWhileTheBrokerIsSilent(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	c := brokerAt("a", g.addr())
	c.KeepAlive, c.Status.Topic = 15*time.Second, "gw/status"
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{c}, Maps: []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}")}}, bridge.StateOnline, nil)
	g.set(gateHole)
	sess := w.join()
	for i := range 200 {
		w.publish(sess, "com.o.x", wamp.List{int64(i)})
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 4500*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
}

func TestWebSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	m := newMosquitto(t, open+"listener "+port+" 127.0.0.1\nprotocol websockets\n")
	w := newWorld(t)
	c := brokerAt("a")
	c.URLs = []string{"ws://127.0.0.1:" + port}
	w.run(bridge.Config{Brokers: []bridge.BrokerConfig{c}, Maps: []bridge.Map{mapOf(bridge.In, "i/{x}", "com.i.{x}")}}, bridge.StateOnline, nil)
	events := w.events("com.i.")
	w.done(w.device(m.addr).Publish("i/x", 1, false, "1"))
	events.wait(1)
}
