package bridge_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func (w *world) publish(s *client.Session, uri string, args wamp.List, opts ...client.PublishOption) {
	w.t.Helper()
	if err := s.Publish(w.t.Context(), uri, args, nil, append(opts, client.Acknowledge())...); err != nil {
		w.t.Fatal(err)
	}
}

func protocols(t *testing.T, f func(t *testing.T, change func(*bridge.BrokerConfig))) {
	for _, p := range []string{"bridge", "3.1.1"} {
		t.Run(p, func(t *testing.T) { f(t, func(c *bridge.BrokerConfig) { c.Protocol = p }) })
	}
}

func TestEveryQoSBothWays(t *testing.T) {
	m := newMosquitto(t, open)
	protocols(t, func(t *testing.T, change func(*bridge.BrokerConfig)) {
		for qos := range 3 {
			t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
				w := newWorld(t)
				cfg := bridge.Config{
					Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
					Maps:    []bridge.Map{mapOf(bridge.Both, "s/{x...}", "com.s.{x...}", func(m *bridge.Map) { m.QoS = qos })},
				}
				change(&cfg.Brokers[0])
				r := w.run(cfg, bridge.StateOnline, nil)
				if s := r.Status()[0]; s.Protocol != cfg.Brokers[0].Protocol || s.URL != "tcp://"+m.addr {
					t.Errorf("status %+v", s)
				}
				events, dev := w.events("com.s."), w.device(m.addr)
				topics := w.topics(dev, "s/#", 2)
				sess := w.join()
				for i := range 100 {
					dev.Publish("s/in/x.y", byte(qos), false, strconv.Itoa(i)).Wait()
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
	})
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}

func TestRetainedBothWaysAndClear(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	dev := w.device(m.addr)
	w.done(dev.Publish("s/before", 1, true, "old"))
	cfg := bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
		Maps: []bridge.Map{
			mapOf(bridge.In, "s/{x}", "com.s.{x}"),
			mapOf(bridge.Out, "o/{x}", "com.o.{x}", func(m *bridge.Map) { m.Retain = bridge.RetainAlways }),
		},
	}
	r := w.run(cfg, bridge.StateOnline, nil)
	retained := func(o *wamp.SubscribeOptions) { o.GetRetained = true }

	// MQTT to WAMP: what was there, what comes, what is cleared.
	w.eventually("the retained message in the realm", func() bool { return r.Status()[0].In >= 1 })
	if held := w.events("com.s.", retained).wait(1); held[0] != (got{"com.s.before", "old", true}) {
		t.Errorf("the realm holds %v", held)
	}
	w.done(dev.Publish("s/live", 1, true, "new"))
	w.done(dev.Publish("s/before", 1, true, ""))
	w.eventually("both", func() bool { return r.Status()[0].In >= 3 })
	late := w.events("com.s.", retained)
	w.publish(w.join(), "com.s.end", nil)
	if held := late.wait(2); !slices.ContainsFunc(held, func(g got) bool { return g == got{"com.s.live", "new", true} }) ||
		slices.ContainsFunc(held, func(g got) bool { return g.name == "com.s.before" && g.value != "" }) {
		t.Errorf("after the clear the realm holds %v", held)
	}

	// WAMP to MQTT.
	sess := w.join()
	w.publish(sess, "com.o.a", wamp.List{"1"})
	w.publish(sess, "com.o.b", wamp.List{"2"})
	w.publish(sess, "com.o.a", nil)
	w.eventually("all sent", func() bool { return r.Status()[0].Out >= 3 })
	kept := w.topics(w.device(m.addr), "o/#", 1)
	if held := kept.wait(1); len(held) != 1 || held[0] != (got{"o/b", "2", true}) {
		t.Errorf("the broker holds %v", held)
	}
}

func TestNoEcho(t *testing.T) {
	m := newMosquitto(t, open)
	protocols(t, func(t *testing.T, change func(*bridge.BrokerConfig)) {
		w := newWorld(t)
		cfg := bridge.Config{
			Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
			Maps:    []bridge.Map{mapOf(bridge.Both, "s/{x...}", "com.s.{x...}")},
		}
		change(&cfg.Brokers[0])
		r := w.run(cfg, bridge.StateOnline, nil)
		noEcho(t, w, r, m.addr)
	})
}

// noEcho sends 5,000 messages each way and expects each exactly once on either
// side.
func noEcho(t *testing.T, w *world, r *running, addr string) {
	t.Helper()
	const n = 5000
	events, dev := w.events("com.s."), w.device(addr)
	topics := w.topics(dev, "s/#", 1)
	sess := w.join()
	before := r.Status()[0]
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range n {
			dev.Publish("s/in", 1, false, strconv.Itoa(i%10)).Wait()
		}
	}()
	for i := range n {
		w.publish(sess, "com.s.out", wamp.List{int64(i % 10)})
	}
	<-sent
	w.eventually("all carried", func() bool {
		s := r.Status()[0]
		return s.In-before.In >= n && s.Out-before.Out >= n && s.Queued == 0
	})
	// A last message each way, behind whatever an echo would be.
	dev.Publish("s/end", 1, false, "x").Wait()
	w.publish(sess, "com.s.fin", wamp.List{"x"})
	events.wait(2*n + 2)
	topics.wait(2*n + 2)
	w.eventually("all carried", func() bool { return r.Status()[0].Out-before.Out >= n+1 })
	for name, all := range map[string][]got{"events": events.list(), "topics": topics.list()} {
		if len(all) != 2*n+2 {
			t.Errorf("%d %s, want %d", len(all), name, 2*n+2)
		}
	}
	s := r.Status()[0]
	if s.In-before.In != n+1 || s.Out-before.Out != n+1 {
		t.Errorf("%d in, %d out, want %d each: %v", s.In-before.In, s.Out-before.Out, n+1, s.Dropped)
	}
}

// TestBrokerKilled kills the broker with -9 while events flow out at QoS 1.
func TestBrokerKilled(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	cfg := bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())},
		Maps:    []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}")},
	}
	r := w.run(cfg, bridge.StateOnline, nil)
	// QoS 0, so that what the broker has acknowledged is on its way to the device
	// when it dies.
	first := w.topics(w.device(m.addr), "o/#", 0)
	sess := w.join()
	const n = 6000
	var second *trap
	for i := range n {
		if err := sess.Publish(t.Context(), "com.o.x", wamp.List{int64(i)}, nil); err != nil {
			t.Fatal(err)
		}
		switch i {
		case n / 3:
			first.wait(100)
			m.kill()
			g.set(gateShut)
			r.await("a", bridge.StateOffline)
		case 2 * n / 3:
			m.start()
			second = w.topics(w.device(m.addr), "o/#", 0) // before the bridge is back
			g.set(gateOpen)
		}
	}
	r.await("a", bridge.StateOnline)
	w.eventually("all sent", func() bool { s := r.Status()[0]; return s.Queued == 0 })
	second.wait(n - len(first.list()))
	checkOrder(t, n, cfg.Brokers[0].InFlight, first.list(), second.list())
	if d := r.Status()[0].Dropped; len(d) > 0 {
		t.Errorf("dropped %v", d)
	}
}

// checkOrder expects every number once and in order, but for one replay at the
// beginning of each run that is no longer than the window.
func checkOrder(t *testing.T, n, window int, runs ...[]got) {
	t.Helper()
	next := 0
	for k, run := range runs {
		for i, g := range run {
			v, err := strconv.Atoi(g.value)
			if err != nil {
				t.Fatalf("%q is not one of the messages", g.value)
			}
			if i == 0 && k > 0 && v < next && next-v <= window {
				next = v
			}
			if v != next {
				t.Fatalf("run %d, message %d: %d, want %d", k, i, v, next)
			}
			next++
		}
	}
	if next != n {
		t.Errorf("%d messages arrived, want %d", next, n)
	}
}

// TestConnectionCut cuts the connection again and again; the broker lives on.
func TestConnectionCut(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	cfg := bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())},
		Maps:    []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}"), mapOf(bridge.In, "i/{x}", "com.i.{x}")},
	}
	r := w.run(cfg, bridge.StateOnline, nil)
	dev := w.device(m.addr)
	topics, events := w.topics(dev, "o/#", 1), w.events("com.i.")
	sess := w.join()
	const cuts, each = 10, 200
	for k := range cuts {
		for i := range each {
			w.publish(sess, "com.o.x", wamp.List{int64(k*each + i)})
			dev.Publish("i/x", 1, false, strconv.Itoa(k*each+i)).Wait()
		}
		before := r.Status()[0].Connects
		g.set(gateShut)
		g.set(gateOpen)
		w.eventually("a new connection", func() bool { s := r.Status()[0]; return s.Connects > before && s.State == bridge.StateOnline })
	}
	w.eventually("all sent", func() bool { return r.Status()[0].Queued == 0 })
	for name, tr := range map[string]*trap{"out": topics, "in": events} {
		seen, first := map[string]bool{}, []string(nil)
		w.eventually(name, func() bool {
			clear(seen)
			first = nil
			for _, g := range tr.list() {
				if !seen[g.value] {
					first = append(first, g.value)
				}
				seen[g.value] = true
			}
			return len(seen) == cuts*each
		})
		if !slices.Equal(first, numbers(cuts*each)) {
			t.Errorf("%s: the first appearances are not in order", name)
		}
		if extra := len(tr.list()) - cuts*each; extra > cuts*cfg.Brokers[0].InFlight {
			t.Errorf("%s: %d duplicates", name, extra)
		}
	}
}

func TestBlackHole(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	cfg := bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())},
		Maps:    []bridge.Map{mapOf(bridge.Out, "o/{x}", "com.o.{x}")},
	}
	r := w.run(cfg, bridge.StateOnline, nil)
	topics := w.topics(w.device(m.addr), "o/#", 1)
	sess := w.join()
	w.publish(sess, "com.o.x", wamp.List{int64(0)})
	topics.wait(1)
	g.set(gateHole)
	began := time.Now()
	w.publish(sess, "com.o.x", wamp.List{int64(1)})
	s := r.await("a", bridge.StateOffline)
	if took, limit := time.Since(began), 3*time.Second+500*time.Millisecond; took > limit {
		t.Errorf("noticed after %v, want one and a half times the keep-alive", took)
	}
	if !strings.Contains(s.Error, "nothing heard for 3s") && !strings.Contains(s.Error, "pingresp") {
		t.Errorf("error %q", s.Error)
	}
	g.set(gateShut)
	w.publish(sess, "com.o.x", wamp.List{int64(2)})
	g.set(gateOpen)
	if got := topics.wait(3); got[1].value != "1" || got[2].value != "2" {
		t.Errorf("arrived %v", got)
	}
}

func TestRefusedByBroker(t *testing.T) {
	m := newMosquitto(t, "allow_anonymous false\n")
	w := newWorld(t)
	c := brokerAt("a", m.addr)
	c.Username, c.Password = "gw", "very secret"
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{c}, Maps: []bridge.Map{mapOf(bridge.In, "a", "b")}}, bridge.StateOffline, nil)
	s := r.Status()[0]
	if !strings.Contains(s.Error, `user "gw" is not authorised`) || !strings.Contains(s.Error, "check username") || strings.Contains(s.Error, "secret") {
		t.Errorf("error %q", s.Error)
	}
}

func TestFailover(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	g.set(gateShut)
	c := brokerAt("a", g.addr(), m.addr)
	r := w.run(bridge.Config{Brokers: []bridge.BrokerConfig{c}, Maps: []bridge.Map{mapOf(bridge.In, "a", "b")}}, bridge.StateOnline, nil)
	if s := r.Status()[0]; s.URL != "tcp://"+m.addr {
		t.Errorf("reached %s, want the second", s.URL)
	}
}

func TestDeadBrokerDelaysNobody(t *testing.T) {
	w := newWorld(t)
	g := newGate(t, "127.0.0.1:1") // nobody listens there
	g.set(gateShut)
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())},
		Maps: []bridge.Map{
			mapOf(bridge.Out, "o/{x}", "com.o.{x}"),
			mapOf(bridge.Out, "z/{x}", "com.z.{x}", func(m *bridge.Map) { m.QoS = 0 }),
		},
	}, bridge.StateOffline, nil)
	select {
	case <-r.Ready():
	case <-time.After(patience):
		t.Fatal("a dead broker keeps the bridge from being ready")
	}
	sess := w.join()
	w.publish(sess, "com.o.x", wamp.List{true})
	w.publish(sess, "com.z.x", wamp.List{true})
	w.eventually("the drop to be counted", func() bool { return r.Status()[0].Dropped["offline"] == 1 })
	if s := r.Status()[0]; s.Queued != 1 {
		t.Errorf("%d queued, want 1", s.Queued)
	}
}

func TestDeadLetter(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	number := func(m *bridge.Map) { m.Codec.Type, m.OnBadPayload = "number", bridge.BadDeadLetter }
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
		Maps:    []bridge.Map{mapOf(bridge.Both, "n/{x}", "com.n.{x}", number)},
	}, bridge.StateOnline, nil)
	dev := w.device(m.addr)
	letters := w.topics(dev, "postern/dead-letter", 1)
	w.done(dev.Publish("n/1", 1, false, "warm"))
	w.publish(w.join(), "com.n.2", wamp.List{"cold"})
	var in, out map[string]string
	for _, g := range letters.wait(2) {
		var letter map[string]string
		if err := json.Unmarshal([]byte(g.value), &letter); err != nil {
			t.Fatalf("%s: %v", g.value, err)
		}
		if letter["topic"] != "" {
			in = letter
		} else {
			out = letter
		}
	}
	if in["topic"] != "n/1" || in["payload"] != "d2FybQ==" || !strings.Contains(in["reason"], `"warm" is no number`) {
		t.Errorf("inwards %v", in)
	}
	if out["uri"] != "com.n.2" || !strings.Contains(out["reason"], "no number") {
		t.Errorf("outwards %v", out)
	}
	if d := r.Status()[0].Dropped; d["bad_payload"] != 2 {
		t.Errorf("counted %v", d)
	}
}

// TestRetainedAfterReconnect: a broker that lost its memory gets the retained
// outputs again; one that has not replays, and nothing happens twice.
func TestRetainedAfterReconnect(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	g := newGate(t, m.addr)
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{brokerAt("a", g.addr())},
		Maps: []bridge.Map{
			mapOf(bridge.Out, "o/{x}", "com.o.{x}", func(m *bridge.Map) { m.Retain = bridge.RetainAlways }),
			mapOf(bridge.In, "i/{x}", "com.i.{x}"),
		},
	}, bridge.StateOnline, nil)
	events, dev := w.events("com.i."), w.device(m.addr)
	w.done(dev.Publish("i/x", 1, true, "kept"))
	events.wait(1)
	w.publish(w.join(), "com.o.x", wamp.List{"state"})
	w.eventually("it to be sent", func() bool { return r.Status()[0].Out == 1 })

	reconnect := func() {
		before := r.Status()[0].Connects
		g.set(gateOpen)
		w.eventually("a new connection", func() bool { s := r.Status()[0]; return s.Connects > before && s.State == bridge.StateOnline })
	}
	g.set(gateShut)
	reconnect()
	w.eventually("the replay", func() bool { return r.Status()[0].Dropped["unchanged"] == 1 })
	if n := len(events.list()); n != 1 {
		t.Errorf("%d events, the replay is one of them", n)
	}

	g.set(gateShut)
	m.kill()
	m.start()
	kept := w.topics(w.device(m.addr), "o/#", 1)
	reconnect()
	if got := kept.wait(1); got[0].name != "o/x" || got[0].value != "state" {
		t.Errorf("the new broker got %v", got)
	}
}
