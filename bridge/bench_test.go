package bridge_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/wamp"
)

// BenchmarkMosquitto measures messages of 100 bytes through a bridge to
// Debian's mosquitto, from one end to the other: the realm, the bridge, the
// broker's process and the client at the far end share the machine.
func BenchmarkMosquitto(b *testing.B) {
	m := newMosquitto(b, open)
	for qos := range 2 {
		cfg := bridge.Config{
			Brokers: []bridge.BrokerConfig{brokerAt("a", m.addr)},
			Maps: []bridge.Map{
				mapOf(bridge.Out, "o/{x}", "com.o.{x}", func(m *bridge.Map) { m.QoS = qos }),
				mapOf(bridge.In, "i/{x}", "com.i.{x}", func(m *bridge.Map) { m.QoS = qos }),
			},
		}
		cfg.Brokers[0].Queue.MaxMessages, cfg.Brokers[0].Queue.MaxBytes = 1<<20, 1<<30
		b.Run(fmt.Sprintf("out QoS %d", qos), func(b *testing.B) { benchOut(b, cfg, nil, m.addr) })
		b.Run(fmt.Sprintf("in QoS %d", qos), func(b *testing.B) { benchIn(b, cfg, nil, m.addr) })
	}
}

// BenchmarkEmbedded measures the same through the embedded broker.
func BenchmarkEmbedded(b *testing.B) {
	for qos := range 2 {
		cfg := bridge.Config{Maps: []bridge.Map{
			mapOf(bridge.Out, "o/{x}", "com.o.{x}", func(m *bridge.Map) { m.QoS = qos }),
			mapOf(bridge.In, "i/{x}", "com.i.{x}", func(m *bridge.Map) { m.QoS = qos }),
		}}
		own := newWorld(b).embedded(func(c *broker.Config) { c.MaxPending, c.MaxInFlight = 65535, 65535 })
		b.Run(fmt.Sprintf("out QoS %d", qos), func(b *testing.B) { benchOut(b, cfg, own, addrOf(own)) })
		b.Run(fmt.Sprintf("in QoS %d", qos), func(b *testing.B) { benchIn(b, cfg, own, addrOf(own)) })
	}
}

var filling = strings.Repeat("x", 100)

// ahead is how many messages a benchmark is ahead of what has arrived, so that
// no queue drops.
const ahead = 500

func benchOut(b *testing.B, cfg bridge.Config, own *broker.Broker, addr string) {
	w := newWorld(b)
	w.run(cfg, bridge.StateOnline, own)
	var arrived atomic.Int64
	w.done(w.device(addr).Subscribe("o/#", 1, func(mqtt.Client, mqtt.Message) { arrived.Add(1) }))
	sess := w.join()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if err := sess.Publish(b.Context(), "com.o.x", wamp.List{filling}, nil); err != nil {
			b.Fatal(err)
		}
		keepUp(w, &arrived, int64(i-ahead))
	}
	keepUp(w, &arrived, int64(b.N))
}

func benchIn(b *testing.B, cfg bridge.Config, own *broker.Broker, addr string) {
	w := newWorld(b)
	r := w.run(cfg, bridge.StateOnline, own)
	dev, qos := w.device(addr), byte(cfg.Maps[1].QoS)
	in := func() int64 { return int64(r.Status()[0].In) }
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		dev.Publish("i/x", qos, false, filling)
		for i%64 == 0 && in() < int64(i-ahead) {
			<-time.After(50 * time.Microsecond)
		}
	}
	w.eventually("all", func() bool { return in() >= int64(b.N) })
}

func keepUp(w *world, arrived *atomic.Int64, n int64) {
	deadline := time.Now().Add(patience)
	for arrived.Load() < n {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of %d arrived", arrived.Load(), n)
		}
		<-time.After(50 * time.Microsecond)
	}
}
