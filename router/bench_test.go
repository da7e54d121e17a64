package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// A raw peer's own cost is in these figures: it shares the process.

var benchArgs = strings.Repeat("x", 80)

// answer lets a callee answer until its connection ends.
func answer(callee *peer) {
	var buf []byte
	for {
		b, err := callee.conn.Read()
		if err != nil {
			return
		}
		m, err := callee.codec.Decode(b, codec.Limits{})
		if err != nil {
			callee.tb.Error(err)
			return
		}
		inv := m.(*wamp.Invocation)
		if buf, err = callee.codec.Append(buf[:0], &wamp.Yield{Request: inv.Request, Payload: inv.Payload}); err != nil {
			callee.tb.Error(err)
			return
		}
		if callee.conn.Write(buf) != nil {
			return
		}
	}
}

func benchmarkEach(b *testing.B, run func(b *testing.B, dial func() *peer)) {
	r, _ := start(b, openConfig(), WithLog(discard))
	for _, d := range network(b, r) {
		for _, c := range []codec.Codec{codec.JSON, codec.CBOR} {
			b.Run(d.name+"/"+c.Name(), func(b *testing.B) {
				run(b, func() *peer { b.Helper(); return d.dial(b, c) })
			})
		}
	}
}

func BenchmarkCall(b *testing.B) {
	for _, window := range []int{1, 16} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			benchmarkEach(b, func(b *testing.B, dial func() *peer) {
				callee, caller := dial().joins(), dial().joins()
				callee.register(1, "com.example.bench")
				done := make(chan struct{})
				go func() { defer close(done); answer(callee) }()
				payload := caller.payload(benchArgs)
				id := wamp.ID(0)
				call := func() {
					id++
					caller.send(&wamp.Call{Request: id, Procedure: "com.example.bench", Payload: payload})
				}
				for range window - 1 {
					call()
				}
				b.ReportAllocs()
				for b.Loop() {
					call()
					expect[*wamp.Result](caller)
				}
				b.StopTimer()
				_ = callee.conn.Close()
				_ = caller.conn.Close()
				<-done
			})
		})
	}
}

func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("to=%d", n), func(b *testing.B) {
			benchmarkEach(b, func(b *testing.B, dial func() *peer) {
				publisher, last := dial().joins(), (*peer)(nil)
				done := make(chan struct{}, n)
				for i := range n {
					p := dial().joins()
					p.subscribe(1, "com.example.bench")
					if i == n-1 {
						last = p
						break
					}
					go func() { drain(p.conn); done <- struct{}{} }()
					defer func() { _ = p.conn.Close(); <-done }()
				}
				payload := publisher.payload(benchArgs)
				id := wamp.ID(0)
				publish := func() {
					id++
					publisher.send(&wamp.Publish{Request: id, Topic: "com.example.bench", Payload: payload})
				}
				for range 15 {
					publish()
				}
				b.ReportAllocs()
				for b.Loop() {
					publish()
					if _, err := last.conn.Read(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
				b.StopTimer()
				_ = publisher.conn.Close()
				_ = last.conn.Close()
			})
		})
	}
}

func drain(c transport.Conn) {
	for {
		if _, err := c.Read(); err != nil {
			return
		}
	}
}
