package realm_test

import (
	"fmt"
	"testing"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

var args = wamp.Payload{Enc: codec.JSON, Args: []byte(`[42,"on"]`)}

func BenchmarkCallYield(b *testing.B) { benchmarkCall(b, wamp.CallOptions{}, 0) }

// BenchmarkCallTimeout calls with a timeout while others wait for theirs.
func BenchmarkCallTimeout(b *testing.B) {
	for _, waiting := range []int{0, 9000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			benchmarkCall(b, wamp.CallOptions{Timeout: 30_000}, waiting)
		})
	}
}

func benchmarkCall(b *testing.B, options wamp.CallOptions, waiting int) {
	r := newRealm(b)
	callee, caller := join(r), join(r)
	r.Step(callee, &wamp.Register{Request: 1, Procedure: "com.example.relay.set"}, 0)
	call := &wamp.Call{Procedure: "com.example.relay.set", Options: options, Payload: args}
	yield := &wamp.Yield{Payload: args}
	for range waiting {
		call.Request++
		yield.Request++
		r.Step(caller, call, 0)
	}
	b.ReportAllocs()
	for b.Loop() {
		call.Request++
		yield.Request++
		r.Step(caller, call, 0)
		if len(r.Step(callee, yield, 0)) != 1 {
			b.Fatal("no result")
		}
	}
}

// BenchmarkCallShared calls a procedure that many callees share.
func BenchmarkCallShared(b *testing.B) {
	const n = 100
	for _, invoke := range []string{"first", "last", "roundrobin", "random"} {
		b.Run(invoke, func(b *testing.B) {
			r := newRealm(b)
			for range n {
				r.Step(join(r), &wamp.Register{Request: 1, Procedure: "com.a", Options: wamp.RegisterOptions{Invoke: invoke}}, 0)
			}
			caller := join(r)
			call := &wamp.Call{Procedure: "com.a", Payload: args}
			b.ReportAllocs()
			for b.Loop() {
				call.Request++
				effects := r.Step(caller, call, 0)
				yield := &wamp.Yield{Request: effects[0].Msg.(*wamp.Invocation).Request}
				r.Step(effects[0].To, yield, 0)
			}
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("to=%d", n), func(b *testing.B) {
			r := newRealm(b)
			for range n {
				r.Step(join(r), &wamp.Subscribe{Request: 1, Topic: "com.example.temperature"}, 0)
			}
			publish(b, r, n)
		})
	}
}

func publish(b *testing.B, r *realm.Realm, n int) {
	s := join(r)
	m := &wamp.Publish{Topic: "com.example.temperature", Payload: args}
	b.ReportAllocs()
	for b.Loop() {
		m.Request++
		if len(r.Step(s, m, 0)) != n {
			b.Fatal("wrong number of events")
		}
	}
}

// BenchmarkPublishPast publishes to one subscriber past subscriptions that do
// not match: the time must not grow with them.
func BenchmarkPublishPast(b *testing.B) {
	for _, match := range []wamp.Match{wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard} {
		for _, n := range []int{0, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s=%d", match, n), func(b *testing.B) {
				cfg := testConfig()
				cfg.Limits.Subscriptions = n + 1
				r, err := realm.New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				s := join(r)
				r.Step(s, &wamp.Subscribe{Request: 1, Topic: "com.example.temperature"}, 0)
				for i := range n {
					topic := fmt.Sprintf("com.example.device%d.temperature", i)
					if match == wamp.MatchWildcard {
						topic = fmt.Sprintf("com..device%d", i)
					}
					r.Step(s, &wamp.Subscribe{Request: wamp.ID(i + 2), Topic: topic, Options: wamp.SubscribeOptions{Match: match}}, 0)
				}
				if got := r.Stats().Subscriptions; got != n+1 {
					b.Fatalf("%d subscriptions", got)
				}
				publish(b, r, 1)
			})
		}
	}
}
