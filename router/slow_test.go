package router

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// smallQueues makes outboxes that a test can fill.
func smallQueues() Config {
	cfg := openConfig()
	cfg.Limits.QueueMessages = 64
	return cfg
}

// flood publishes more events than fit into a pipe and an outbox together.
func flood(p *peer, topic string) (n uint64) {
	for i := range wamp.ID(5000) {
		p.send(&wamp.Publish{Request: i + 1, Topic: topic, Options: wamp.PublishOptions{Acknowledge: true}})
		expect[*wamp.Published](p)
		n++
	}
	return n
}

// TestSlowConsumerDrops: events for a session that does not read are dropped
// and counted, and it is told what others wait for all the same.
func TestSlowConsumerDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, smallQueues())
		slow, pub := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		slow.subscribe(1, "com.a")
		n := flood(pub, "com.a")
		dropped := r.Stats().Realms["realm1"].EventsDropped
		if dropped == 0 {
			t.Fatal("no event was dropped")
		}
		slow.send(&wamp.Unsubscribe{Request: 2, Subscription: 1})
		for got := uint64(0); ; got++ {
			if _, ok := slow.receive().(*wamp.Unsubscribed); ok {
				if got+dropped != n {
					t.Errorf("%d events received, %d dropped, of %d", got, dropped, n)
				}
				return
			}
		}
	})
}

func TestSlowConsumerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := smallQueues()
		cfg.Limits.SlowConsumers = "end"
		r, log := start(t, cfg)
		slow, pub := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		slow.subscribe(1, "com.a")
		slow.register(2, "com.p")
		pub.send(&wamp.Call{Request: 9999, Procedure: "com.p"})
		var canceled bool
		for i := range wamp.ID(5000) {
			pub.send(&wamp.Publish{Request: i + 1, Topic: "com.a", Options: wamp.PublishOptions{Acknowledge: true}})
			if m, ok := pub.receive().(*wamp.ErrorMessage); ok {
				canceled = m.Request == 9999 && m.URI == wamp.ErrCanceled
				pub.receive()
			}
		}
		synctest.Wait()
		if st := r.Stats().Realms["realm1"]; st.SlowEnded != 1 || st.Sessions != 1 || !canceled || !log.has("slow consumer") {
			t.Errorf("%+v, its caller was told: %v", st, canceled)
		}
	})
}

// TestSlowConsumerAge: who does not read at all is ended after a while, even
// when little waits.
func TestSlowConsumerAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := start(t, smallQueues())
		slow, pub := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		slow.subscribe(1, "com.a")
		flood(pub, "com.a")
		time.Sleep(9 * time.Second)
		if st := r.Stats(); st.Sessions != 2 {
			t.Errorf("too early: %+v", st)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if st := r.Stats(); st.Sessions != 1 || !log.has("waited for longer") {
			t.Errorf("afterwards: %+v", st)
		}
	})
}

// TestFloodedCallee: a callee that does not keep up is not ended for it; who
// calls more than it takes is told.
func TestFloodedCallee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, smallQueues())
		callee, caller := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		callee.register(1, "com.p")
		const n = 5000
		refused := 0
		for i := range wamp.ID(n) {
			caller.send(&wamp.Call{Request: i + 1, Procedure: "com.p"})
			if synctest.Wait(); int(r.Stats().Realms["realm1"].CallsRefused) > refused {
				caller.failed(wamp.KindCall, i+1, wamp.ErrUnavailable)
				refused++
			}
		}
		if refused == 0 {
			t.Fatal("no call was refused")
		}
		for range n - refused {
			callee.send(&wamp.Yield{Request: expect[*wamp.Invocation](callee).Request})
			expect[*wamp.Result](caller)
		}
	})
}

// TestFloodedCalleeShares: what a callee has no room for goes to another one that
// shares the procedure, and nobody is told.
func TestFloodedCalleeShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, smallQueues())
		stuck, callee, caller := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		for _, p := range []*peer{stuck, callee} {
			p.send(&wamp.Register{Request: 1, Procedure: "com.p", Options: wamp.RegisterOptions{Invoke: "first"}})
			expect[*wamp.Registered](p)
		}
		passedOn := uint64(0)
		for i := range wamp.ID(5000) {
			caller.send(&wamp.Call{Request: i + 1, Procedure: "com.p"})
			synctest.Wait()
			if refused := r.Stats().Realms["realm1"].CallsRefused; refused > passedOn {
				passedOn = refused
				callee.send(&wamp.Yield{Request: expect[*wamp.Invocation](callee).Request})
				if m := expect[*wamp.Result](caller); m.Request != i+1 {
					t.Fatalf("result of call %d, want %d", m.Request, i+1)
				}
			}
		}
		if passedOn == 0 {
			t.Fatal("no call was passed on")
		}
	})
}

// TestBackPressure: a client that asks and does not read the answers is read no
// further, and loses nothing.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Limits.QueueBytes, cfg.Limits.MessageBytes = 1<<20, 1<<20
		r, _ := start(t, cfg)
		p := pipe(t, r, codec.JSON).joins()
		const n = 100_000
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range wamp.ID(n) {
				p.send(&wamp.Call{Request: i + 1, Procedure: "com.example.nobody.provides.this"})
			}
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("everything was read")
		default:
		}
		for i := range wamp.ID(n) {
			p.failed(wamp.KindCall, i+1, wamp.ErrNoSuchProcedure)
		}
		<-done
		if st := r.Stats().Realms["realm1"]; st.SlowEnded != 0 || st.Sessions != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestReplyThatDoesNotFit ends the session whose own answers overflow: here
// results of many calls that it sent before it stopped reading.
func TestReplyThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		caller, callee := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		callee.register(1, "com.p")
		const n = 10
		for i := range wamp.ID(n) {
			caller.send(&wamp.Call{Request: i + 1, Procedure: "com.p"})
		}
		big := callee.payload(strings.Repeat("x", 1<<20-100))
		for range n {
			callee.send(&wamp.Yield{Request: expect[*wamp.Invocation](callee).Request, Payload: big})
		}
		synctest.Wait()
		if st := r.Stats().Realms["realm1"]; st.SlowEnded != 1 || st.Sessions != 1 || st.PendingCalls != 0 {
			t.Errorf("%+v", st)
		}
		callee.subscribe(2, "com.still.there")
	})
}
