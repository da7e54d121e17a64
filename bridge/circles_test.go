package bridge_test

import (
	"strconv"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/bridge"
)

// TestThirdPartyClosesACircle: somebody carries messages from one broker back
// to the other. What goes around is stopped; what is new passes.
func TestThirdPartyClosesACircle(t *testing.T) {
	ma, mb := newMosquitto(t, open), newMosquitto(t, open)
	w := newWorld(t)
	a, b := brokerAt("a", ma.addr), brokerAt("b", mb.addr)
	r := w.run(bridge.Config{
		Brokers: []bridge.BrokerConfig{a, b},
		Maps:    []bridge.Map{mapOf(bridge.Both, "s/{x}", "com.s.{x}")},
	}, bridge.StateOnline, nil)
	da, db := w.device(ma.addr), w.device(mb.addr)
	w.done(db.Subscribe("s/#", 1, func(_ mqtt.Client, m mqtt.Message) { da.Publish(m.Topic(), 1, false, m.Payload()) }))
	events := w.events("com.s.")
	w.done(da.Publish("s/x", 1, false, "again"))
	w.eventually("the circle to be cut", func() bool { return r.Status()[0].Dropped["looped"] > 0 })
	around := r.Status()[0].In
	for i := range 20 {
		w.done(da.Publish("s/y", 1, false, strconv.Itoa(i)))
	}
	w.eventually("what is new to come", func() bool {
		n := 0
		for _, g := range events.list() {
			if g.name == "com.s.y" && g.value == "19" {
				n++
			}
		}
		return n > 0
	})
	if around > 500 {
		t.Errorf("%d messages went around before it was cut", around)
	}
	w.done(db.Unsubscribe("s/#"))
	<-time.After(1100 * time.Millisecond)
	before := len(events.list())
	w.done(da.Publish("s/x", 1, false, "again"))
	events.wait(before + 1)
}
