package bridge_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/sparkplug"
	"github.com/postern-iot/postern/wamp"
)

// hostApp is a Sparkplug host application that checks the order of what it hears.
type hostApp struct {
	w      *world
	client mqtt.Client

	mu      sync.Mutex
	heard   []string // verbs with devices
	bdSeq   any
	seq     uint64
	born    bool
	devices map[string]map[string]sparkplug.Metric // values by name, while born
	aliases map[uint64][2]string
	faults  []string
}

func (w *world) hostApp(addr string) *hostApp {
	w.t.Helper()
	h := &hostApp{w: w, client: w.device(addr)}
	w.done(h.client.Subscribe("spBv1.0/plant1/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.hear(m)
	}))
	return h
}

func (h *hostApp) fault(format string, a ...any) {
	h.faults = append(h.faults, fmt.Sprintf(format, a...))
}

// hear checks what the specification asks of every message, and keeps the
// values.
func (h *hostApp) hear(m mqtt.Message) {
	levels := strings.Split(m.Topic(), "/")
	verb, device := levels[2], strings.Join(levels[4:], "/")
	if strings.HasSuffix(verb, "CMD") {
		return
	}
	p, err := sparkplug.Decode(m.Payload())
	if err != nil || p.Timestamp == 0 {
		h.fault("%s: %v %+v", m.Topic(), err, p)
		return
	}
	h.heard = append(h.heard, strings.TrimSuffix(verb+" "+device, " "))
	qos := byte(0) // tck-id-topics-nbirth-mqtt and its like
	if verb == "NDEATH" {
		qos = 1 // tck-id-payloads-ndeath-will-message-qos
	}
	if m.Retained() || m.Qos() != qos {
		h.fault("%s has QoS %d, retained %v", verb, m.Qos(), m.Retained())
	}
	switch {
	case verb == "NDEATH" && h.bdSeq == nil:
		return
	case verb == "NDEATH":
		if p.HasSeq || len(p.Metrics) != 1 || p.Metrics[0].Value != h.bdSeq {
			h.fault("NDEATH %+v after the birth of %v", p, h.bdSeq)
		}
		h.born = false
		return
	case verb == "NBIRTH":
		h.bdSeq, h.devices, h.aliases = p.Metrics[0].Value, map[string]map[string]sparkplug.Metric{}, map[uint64][2]string{}
		if p.Metrics[0].Name != "bdSeq" || p.Seq != 0 || !p.HasSeq {
			h.fault("NBIRTH %+v", p)
		}
		h.born, h.seq = true, 0
		return
	case h.bdSeq == nil:
		return // the birth was before this host
	case !h.born || !p.HasSeq || p.Seq != (h.seq+1)%256:
		h.fault("%s %s has seq %d after %d, born %v", verb, device, p.Seq, h.seq, h.born)
	}
	h.seq = p.Seq
	switch verb {
	case "DDEATH":
		delete(h.devices, device)
	case "DBIRTH":
		h.devices[device] = map[string]sparkplug.Metric{}
		for _, one := range p.Metrics {
			if of, taken := h.aliases[one.Alias]; !one.HasAlias || one.Name == "" || taken && of != [2]string{device, one.Name} {
				h.fault("metric %+v", one)
			}
			h.aliases[one.Alias] = [2]string{device, one.Name}
			h.devices[device][one.Name] = one
		}
	case "DDATA":
		for _, one := range p.Metrics {
			of, known := h.aliases[one.Alias]
			if !known || of[0] != device || one.Name != "" || h.devices[device] == nil {
				h.fault("data %+v of %s", one, device)
				continue
			}
			h.devices[device][of[1]] = one
		}
	}
}

// sees waits until f holds of what the host knows.
func (h *hostApp) sees(what string, f func() bool) {
	h.w.t.Helper()
	h.w.eventually(what, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return f()
	})
}

func (h *hostApp) value(device, name string) any { return h.devices[device][name].Value }

func (h *hostApp) write(topic string, m ...sparkplug.Metric) {
	h.w.t.Helper()
	p := sparkplug.Payload{Timestamp: 1, Metrics: m}
	h.w.done(h.client.Publish(topic, 0, false, p.Append(nil)))
}

func (h *hostApp) check() {
	h.w.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.faults {
		h.w.t.Error(f)
	}
}

func sparkplugAt(addr string, change ...func(*bridge.Sparkplug)) bridge.Config {
	cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", addr)}}
	s := bridge.Sparkplug{Broker: "a", Group: "plant1", Node: "gw", Role: "trusted"}
	s.SetDefaults()
	for _, f := range change {
		f(&s)
	}
	cfg.Sparkplug = []bridge.Sparkplug{s}
	return cfg
}

// TestSparkplug has a host application see the devices born, change, die and be
// reborn, command one, and hear of the node's end, orderly and not.
func TestSparkplug(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	d := w.devices()
	h := w.hostApp(m.addr)
	r := w.run(sparkplugAt(m.addr), bridge.StateOnline, nil)
	h.sees("pump and thermometer born", func() bool {
		return h.value("pump", "on") == false && h.devices["air"] != nil
	})
	h.write("spBv1.0/plant1/DCMD/gw/pump", sparkplug.Metric{Name: "on", Type: sparkplug.Boolean, Value: true})
	h.sees("the pump is on", func() bool { return h.value("pump", "on") == true })
	if d.sets.Load() != 1 {
		t.Errorf("the pump was set %d times", d.sets.Load())
	}
	for i := range 600 { // twice through all sequence numbers
		d.says("device.air.temperature", float64(i))
	}
	h.sees("the last temperature", func() bool { return h.value("air", "temperature") == 599.0 })
	d.says("device.air.temperature", nil)
	h.sees("none", func() bool { return h.value("air", "temperature") == nil })

	// A rebirth.
	births := func() (n int) {
		for _, what := range h.heard {
			if what == "NBIRTH" {
				n++
			}
		}
		return n
	}
	h.write("spBv1.0/plant1/NCMD/gw", sparkplug.Metric{Name: "Node Control/Rebirth", Type: sparkplug.Boolean, Value: true})
	h.sees("a rebirth", func() bool { return births() == 2 && h.value("pump", "on") == true && h.bdSeq == int64(0) })

	// A device goes.
	d.thermometer.Store(false)
	d.status("air", "stopped")
	h.sees("the thermometer's death", func() bool { return h.devices["air"] == nil })

	// The broker ends; the node comes back with the next number.
	m.kill()
	r.await("a", bridge.StateOffline)
	m.start()
	h.check()
	h = w.hostApp(m.addr)
	// It may have come too late for the birth.
	h.write("spBv1.0/plant1/NCMD/gw", sparkplug.Metric{Name: "Node Control/Rebirth", Type: sparkplug.Boolean, Value: true})
	h.sees("another birth", func() bool { return h.born && h.value("pump", "on") == true })
	h.mu.Lock()
	if h.bdSeq == int64(0) {
		t.Error("the number of a new connection is the old one")
	}
	h.mu.Unlock()

	// The node's status; and its end, in order.
	sess := w.join()
	status, err := sess.Call(t.Context(), "postern.bridge.sparkplug", nil, nil)
	if err != nil || !strings.Contains(fmt.Sprint(status.Args), "state:born") {
		t.Errorf("postern.bridge.sparkplug: %v %v", status, err)
	}
	r.stop()
	h.sees("the node's death", func() bool { return !h.born })
	h.check()
}

// TestSparkplugWill: a node that is cut off dies by its last will, with the
// number of its birth.
func TestSparkplugWill(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	w.devices()
	h := w.hostApp(m.addr)
	g := newGate(t, m.addr)
	w.run(sparkplugAt(g.addr()), bridge.StateOnline, nil)
	h.sees("a birth", func() bool { return h.devices["pump"] != nil })
	g.set(gateShut)
	h.sees("the last will", func() bool { return !h.born })
	g.set(gateOpen)
	h.sees("another birth", func() bool { return h.devices["pump"] != nil && h.born && h.bdSeq != int64(0) })
	h.check()
}

// TestSparkplugPrimaryHost: nothing is published before it is online; when it
// goes the node dies, and a STATE that is too old counts for nothing.
func TestSparkplugPrimaryHost(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	d := w.devices()
	h := w.hostApp(m.addr)
	state := func(text string) { t.Helper(); w.done(h.client.Publish("spBv1.0/STATE/scada", 1, true, text)) }
	state(`{"online":false,"timestamp":100}`)
	w.run(sparkplugAt(m.addr, func(s *bridge.Sparkplug) { s.PrimaryHost = "scada" }), bridge.StateOnline, nil)
	sess := w.join()
	is := func(want string) {
		t.Helper()
		w.eventually("the node is "+want, func() bool {
			r, err := sess.Call(t.Context(), "postern.bridge.sparkplug", wamp.List{}, nil)
			return err == nil && strings.Contains(fmt.Sprint(r.Args), "state:"+want)
		})
	}
	is("waiting")
	h.mu.Lock()
	if len(h.heard) > 0 {
		t.Errorf("without its host the node says %q", h.heard)
	}
	h.mu.Unlock()
	state(`{"online":true,"timestamp":200}`)
	is("born")
	h.sees("a birth", func() bool { return h.devices["pump"] != nil })
	state(`{"online":false,"timestamp":150}`) // older than the last
	d.says("device.pump.on", true)
	h.sees("data all the same", func() bool { return h.value("pump", "on") == true })
	state(`{"online":false,"timestamp":300}`)
	h.sees("the node's death", func() bool { return !h.born })
	is("waiting")
	state(`{"online":true,"timestamp":400}`)
	h.sees("another birth", func() bool { return h.born && h.bdSeq == int64(1) })
	h.check()
}

// TestSparkplugMayOnlyLook: without a role there are no commands, and a retained
// one is never carried out.
func TestSparkplugMayOnlyLook(t *testing.T) {
	m := newMosquitto(t, open)
	w := newWorld(t)
	d := w.devices()
	h := w.hostApp(m.addr)
	p := sparkplug.Payload{Metrics: []sparkplug.Metric{{Name: "on", Type: sparkplug.Boolean, Value: true}}}
	w.done(h.client.Publish("spBv1.0/plant1/DCMD/gw/pump", 1, true, p.Append(nil)))
	w.done(h.client.Publish("spBv1.0/plant1/DCMD/other/pump", 1, true, p.Append(nil)))
	cfg := sparkplugAt(m.addr)
	cfg.Sparkplug = append(cfg.Sparkplug, bridge.Sparkplug{Broker: "a", Group: "plant1", Node: "other", ClientID: "looks-only"})
	w.run(cfg, bridge.StateOnline, nil)
	sess := w.join()
	w.eventually("both are born, and one has left a command out", func() bool {
		r, err := sess.Call(t.Context(), "postern.bridge.sparkplug", nil, nil)
		text := fmt.Sprint(r, err)
		return err == nil && strings.Count(text, "state:born") == 2 && strings.Contains(text, "dropped:1")
	})
	h.write("spBv1.0/plant1/DCMD/other/pump", sparkplug.Metric{Name: "on", Type: sparkplug.Boolean, Value: true})
	births := func() (n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, what := range h.heard {
			if what == "NBIRTH" {
				n++
			}
		}
		return n
	}
	before := births()
	h.write("spBv1.0/plant1/NCMD/other", sparkplug.Metric{Name: "Node Control/Rebirth", Type: sparkplug.Boolean, Value: true})
	w.eventually("a rebirth", func() bool { return births() > before })
	if n := d.sets.Load(); n != 0 {
		t.Errorf("the pump was set %d times", n)
	}
}

// TestSparkplugThatIsRefusedAtLoad says what is wrong.
func TestSparkplugThatIsRefusedAtLoad(t *testing.T) {
	for want, s := range map[string]bridge.Sparkplug{
		"there is no broker":   {Broker: "z", Group: "g", Node: "n"},
		"cannot be used here":  {Broker: bridge.Embedded, Group: "g", Node: "n"},
		"one level of a topic": {Broker: "a", Group: "g/h", Node: "n"},
		"is the broker's own":  {Broker: "a", Group: "g", Node: "n", ClientID: "same"},
		"host applications'":   {Broker: "a", Group: "STATE", Node: "n"},
	} {
		cfg := bridge.Config{Brokers: []bridge.BrokerConfig{brokerAt("a", "h:1")}, Sparkplug: []bridge.Sparkplug{s}}
		cfg.Brokers[0].ClientID = "same"
		var said []string
		cfg.Validate(func(path, problem, _ string) { said = append(said, path+" "+problem) })
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q, want one with %q", said, want)
		}
	}
}
