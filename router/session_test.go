package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// TestEverywhere does all of the basic profile over each transport and codec.
func TestEverywhere(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, _ *Router, dial func() *peer) {
		a, b := dial().joins(), dial().joins()
		name := strings.ReplaceAll(t.Name(), "/", ".")
		a.register(1, name)
		b.subscribe(1, name)
		b.send(&wamp.Call{Request: 2, Procedure: name, Payload: b.payload("in", int64(1<<53), 2.5, nil, true)})
		inv := expect[*wamp.Invocation](a)
		if inv.Request != 1 {
			t.Errorf("the first invocation has request ID %d", inv.Request)
		}
		a.send(&wamp.Yield{Request: inv.Request, Payload: inv.Payload})
		if args, _, err := expect[*wamp.Result](b).Values(); err != nil || fmt.Sprint(args) != "[in 9007199254740992 2.5 <nil> true]" {
			t.Errorf("result %v, %v", args, err)
		}
		a.send(&wamp.Publish{Request: 2, Topic: name, Options: wamp.PublishOptions{Acknowledge: true}, Payload: a.payload("event")})
		expect[*wamp.Published](a)
		if args, _, err := expect[*wamp.Event](b).Values(); err != nil || fmt.Sprint(args) != "[event]" {
			t.Errorf("event %v, %v", args, err)
		}
		for _, p := range []*peer{a, b} {
			p.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
			if g := expect[*wamp.Goodbye](p); g.Reason != wamp.CloseGoodbyeAndOut {
				t.Errorf("reason %s", g.Reason)
			}
			p.ended()
		}
	})
}

// TestMixedCodecs: events and calls between each pair of codecs.
func TestMixedCodecs(t *testing.T) {
	r, _ := start(t, openConfig())
	binary := []byte{0, 1, 254, 255}
	for _, from := range codecs {
		sender := pipe(t, r, from).joins()
		topic := "com.example." + from.Name()
		var receivers []*peer
		for _, to := range codecs {
			for range 2 {
				p := pipe(t, r, to).joins()
				p.subscribe(1, topic)
				receivers = append(receivers, p)
			}
		}
		sender.send(&wamp.Publish{Request: 1, Topic: topic, Payload: sender.payload("text", binary, int64(-5))})
		for _, p := range receivers {
			args, _, err := expect[*wamp.Event](p).Values()
			if err != nil || fmt.Sprint(args) != fmt.Sprint([]any{"text", binary, int64(-5)}) {
				t.Errorf("%s to %s: %v, %v", from.Name(), p.codec.Name(), args, err)
			}
		}
	}
}

// TestHostileBytes: whatever arrives is answered with ABORT, and others notice
// nothing.
func TestHostileBytes(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, r *Router, dial func() *peer) {
		other := dial().joins()
		junk := map[string][]byte{
			"nothing":   {},
			"text":      []byte("GET / HTTP/1.1\r\n\r\n"),
			"zero":      {0},
			"bomb":      {0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0},
			"map":       {0xdf, 0x7f, 0xff, 0xff, 0xff, 0xc0},
			"nested":    []byte(strings.Repeat("\x91", 10_000)),
			"brackets":  []byte(strings.Repeat("[", 10_000)),
			"no type":   mustEncode(t, other.codec, []any{}),
			"type 999":  mustEncode(t, other.codec, []any{999, 1, map[string]any{}}),
			"type text": mustEncode(t, other.codec, []any{"48", 1, map[string]any{}, "com.a"}),
			"no topic":  mustEncode(t, other.codec, []any{32, 1, map[string]any{}}),
			"bad topic": mustEncode(t, other.codec, []any{32, 1, map[string]any{}, 7}),
			"bad id":    mustEncode(t, other.codec, []any{32, -1, map[string]any{}, "com.a"}),
			"huge id":   mustEncode(t, other.codec, []any{32, 1e300, map[string]any{}, "com.a"}),
			"bad dict":  mustEncode(t, other.codec, []any{32, 1, []any{}, "com.a"}),
			"error 48":  mustEncode(t, other.codec, []any{8, 48, 1, map[string]any{}, "com.a"}),
		}
		for name, b := range junk {
			for _, joined := range []bool{false, true} {
				p := dial()
				if joined {
					p.joins()
				}
				if err := p.conn.Write(b); err != nil {
					t.Fatal(err)
				}
				if got := expect[*wamp.Abort](p); got.Reason != wamp.ErrProtocolViolation {
					t.Errorf("%s, joined %v: ABORT %s %v", name, joined, got.Reason, got.Details)
				}
				p.ended()
			}
		}
		other.subscribe(1, "com.example.still.there")
	})
}

func mustEncode(t *testing.T, c codec.Codec, v any) []byte {
	t.Helper()
	b, err := c.AppendValue(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTooLarge: a message above the limit is refused with its own reason.
func TestTooLarge(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, _ *Router, dial func() *peer) {
		p := dial().joins()
		b := make([]byte, 1<<20+1)
		if p.conn.Info().Transport == "rawsocket" {
			// Its peer knows our limit and would not even try.
			if err := p.conn.Write(b); !errors.Is(err, transport.ErrTooLarge) {
				t.Errorf("error %v", err)
			}
			return
		}
		err := p.conn.Write(b)
		if p.conn.Info().Transport == "pipe" {
			p.ended()
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p.aborted(wamp.ErrPayloadSizeExceeded)
	})
}

// TestOrder: SUBSCRIBED before the first EVENT, REGISTERED before the first
// INVOCATION, events and calls in the order in which they were sent.
func TestOrder(t *testing.T) {
	r, _ := start(t, openConfig())
	busy := pipe(t, r, codec.CBOR).joins()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := wamp.ID(1); ; i += 2 {
			select {
			case <-stop:
				return
			default:
				busy.send(&wamp.Publish{Request: i, Topic: "com.a", Payload: busy.payload(int64(i))},
					&wamp.Call{Request: i + 1, Procedure: "com.p", Payload: busy.payload(int64(i))})
				busy.receive()
			}
		}
	}()
	for range 20 {
		p := pipe(t, r, codec.JSON).joins()
		p.send(&wamp.Subscribe{Request: 1, Topic: "com.a"})
		expect[*wamp.Subscribed](p)
		p.send(&wamp.Register{Request: 2, Procedure: "com.p"})
		registered := false
		last := map[wamp.Kind]int64{}
		for n := 0; n < 50; {
			switch m := p.receive().(type) {
			case *wamp.Registered:
				registered = true
			case *wamp.Event:
				inOrder(t, last, m.Kind(), m.Payload)
				n++
			case *wamp.Invocation:
				if !registered {
					t.Fatal("INVOCATION before REGISTERED")
				}
				inOrder(t, last, m.Kind(), m.Payload)
				n++
				p.send(&wamp.Yield{Request: m.Request})
			default:
				t.Fatalf("received %s", text(t, m))
			}
		}
		// Its GOODBYE must get through whatever is on its way to it.
		p.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
		for {
			if m, ok := p.receive().(*wamp.Goodbye); ok {
				if m.Reason != wamp.CloseGoodbyeAndOut {
					t.Fatalf("reason %s", m.Reason)
				}
				break
			}
		}
		p.ended()
	}
	close(stop)
	<-done
}

func inOrder(t *testing.T, last map[wamp.Kind]int64, kind wamp.Kind, p wamp.Payload) {
	t.Helper()
	args, _, err := p.Values()
	if err != nil || len(args) != 1 {
		t.Fatalf("payload %v, %v", args, err)
	}
	n, _ := wamp.ToInt(args[0])
	if n <= last[kind] {
		t.Fatalf("%v %d after %d", kind, n, last[kind])
	}
	last[kind] = n
}

// TestPendingCallsWhenCalleeLeaves: 1,000 of them, each answered.
func TestPendingCallsWhenCalleeLeaves(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, _ *Router, dial func() *peer) {
		const n = 1000
		callee, caller := dial().joins(), dial().joins()
		name := strings.ReplaceAll(t.Name(), "/", ".")
		callee.register(1, name)
		for i := range wamp.ID(n) {
			caller.send(&wamp.Call{Request: i + 1, Procedure: name})
		}
		for range n {
			expect[*wamp.Invocation](callee)
		}
		_ = callee.conn.Close()
		for i := range wamp.ID(n) {
			caller.failed(wamp.KindCall, i+1, wamp.ErrCanceled)
		}
	})
}

// TestBursts: what a client that reads gets at once, it gets all of.
func TestBursts(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, r *Router, dial func() *peer) {
		const events, calls = 5000, 500
		name := strings.ReplaceAll(t.Name(), "/", ".")
		sub, pub := dial().joins(), dial().joins()
		sub.subscribe(1, name)
		sub.register(2, name)
		done := make(chan struct{})
		go func() {
			defer close(done)
			var burst []wamp.Message
			for i := range wamp.ID(events) {
				burst = append(burst, &wamp.Publish{Request: i + 1, Topic: name, Payload: pub.payload(int64(i))})
			}
			for i := range wamp.ID(calls) {
				burst = append(burst, &wamp.Call{Request: events + i + 1, Procedure: name})
			}
			pub.send(burst...)
			for range calls {
				expect[*wamp.Result](pub)
			}
		}()
		for i := range wamp.ID(events) {
			if e := expect[*wamp.Event](sub); i == 0 && e.Publication == 0 {
				t.Errorf("event %+v", e)
			}
		}
		for i := range wamp.ID(calls) {
			if inv := expect[*wamp.Invocation](sub); inv.Request != i+1 {
				t.Fatalf("invocation %d, want %d", inv.Request, i+1)
			}
			sub.send(&wamp.Yield{Request: i + 1})
		}
		<-done
		if st := r.Stats().Realms["realm1"]; st.EventsDropped+st.CallsRefused+st.SlowEnded != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestUndeliverable: what a session cannot take, its size or its codec, comes
// back as an error to whoever waits.
func TestUndeliverable(t *testing.T) {
	t.Run("codec", func(t *testing.T) {
		r, _ := start(t, openConfig())
		js, cb := pipe(t, r, codec.JSON).joins(), pipe(t, r, codec.CBOR).joins()
		js.register(1, "com.json")
		js.subscribe(2, "com.t")
		cb.register(1, "com.cbor")
		nan := cb.payload(math.NaN())
		cb.send(&wamp.Call{Request: 2, Procedure: "com.json", Payload: nan})
		cb.failed(wamp.KindCall, 2, wamp.ErrInvalidArgument)

		js.send(&wamp.Call{Request: 3, Procedure: "com.cbor"})
		cb.send(&wamp.Yield{Request: expect[*wamp.Invocation](cb).Request, Payload: nan})
		js.failed(wamp.KindCall, 3, wamp.ErrInvalidArgument)

		js.send(&wamp.Call{Request: 4, Procedure: "com.cbor"})
		cb.send(&wamp.ErrorMessage{Type: wamp.KindInvocation, Request: expect[*wamp.Invocation](cb).Request, URI: "com.error", Payload: nan})
		js.failed(wamp.KindCall, 4, "com.error")

		cb.send(&wamp.Publish{Request: 3, Topic: "com.t", Payload: nan},
			&wamp.Publish{Request: 4, Topic: "com.t", Payload: cb.payload("fine")})
		if args, _, err := expect[*wamp.Event](js).Values(); err != nil || fmt.Sprint(args) != "[fine]" {
			t.Errorf("event %v, %v", args, err)
		}
		if st := r.Stats().Realms["realm1"]; st.Undeliverable != 4 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("size", func(t *testing.T) {
		r, _ := start(t, openConfig())
		small, big := &limitedConn{limit: 2000}, pipe(t, r, codec.JSON).joins()
		theirs, ours := transport.Pipe(codec.JSON)
		small.Conn = ours
		attach(r, small)
		p := newPeer(t, theirs).joins()
		p.register(1, "com.p")
		big.send(&wamp.Call{Request: 1, Procedure: "com.p", Payload: big.payload(strings.Repeat("x", 2000))})
		big.failed(wamp.KindCall, 1, wamp.ErrPayloadSizeExceeded)
		big.send(&wamp.Call{Request: 2, Procedure: "com.p"})
		expect[*wamp.Invocation](p)
	})
	t.Run("welcome", func(t *testing.T) {
		r, log := start(t, openConfig())
		theirs, ours := transport.Pipe(codec.JSON)
		attach(r, &limitedConn{Conn: ours, limit: 100})
		p := newPeer(t, theirs)
		p.send(hello("realm1"))
		p.ended()
		if err := r.Shutdown(context.Background()); err != nil || !log.has(wamp.ErrPayloadSizeExceeded) {
			t.Errorf("the log does not say why: %v", err)
		}
	})
}

// limitedConn has a peer that accepts little.
type limitedConn struct {
	transport.Conn
	limit int
}

func (c *limitedConn) Info() *transport.Info {
	info := *c.Conn.Info()
	info.MaxWrite = c.limit
	return &info
}

// faultyCodec panics where it is asked to.
type faultyCodec struct {
	codec.Codec
	append, decode wamp.Kind
}

func (c *faultyCodec) Append(dst []byte, m wamp.Message) ([]byte, error) {
	if m.Kind() == c.append {
		panic("cannot append")
	}
	return c.Codec.Append(dst, m)
}

func (c *faultyCodec) Decode(b []byte, lim codec.Limits) (wamp.Message, error) {
	m, err := c.Codec.Decode(b, lim)
	if err == nil && m.Kind() == c.decode {
		panic("cannot decode")
	}
	return m, err
}

// TestPanic: one session's panic, in its reader or writer, is its own affair.
func TestPanic(t *testing.T) {
	for name, c := range map[string]*faultyCodec{
		"reader": {decode: wamp.KindSubscribe},
		"writer": {append: wamp.KindSubscribed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, log := start(t, openConfig())
				other := pipe(t, r, codec.JSON).joins()
				c.Codec = codec.JSON
				theirs, ours := transport.Pipe(c)
				attach(r, ours)
				p := &peer{tb: t, conn: theirs, codec: codec.JSON}
				p.joins()
				p.register(1, "com.p")
				other.send(&wamp.Call{Request: 1, Procedure: "com.p"})
				expect[*wamp.Invocation](p)
				p.send(&wamp.Subscribe{Request: 2, Topic: "com.a"})
				p.ended()
				other.failed(wamp.KindCall, 1, wamp.ErrCanceled)
				synctest.Wait()
				if st := r.Stats(); st.Panics != 1 || st.Sessions != 1 || !log.has("stack") {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestRealmPanic: a panic under the realm's mutex does not leave it locked.
func TestRealmPanic(t *testing.T) {
	cfg := openConfig()
	armed := false
	r, _ := start(t, cfg, func(r *Router) error {
		h := r.realms["realm1"]
		inner := h.cfg.NewID
		h.cfg.NewID = func() wamp.ID {
			if armed {
				armed = false
				panic("out of IDs")
			}
			return inner()
		}
		return nil
	})
	p, other := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
	armed = true
	p.send(&wamp.Publish{Request: 1, Topic: "com.a"})
	p.ended()
	other.subscribe(1, "com.a")
	if st := r.Stats(); st.Panics != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAttachReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		run := func(ctx context.Context, act func(p *peer)) error {
			theirs, ours := transport.Pipe(codec.JSON)
			result := make(chan error, 1)
			go func() { result <- r.Attach(ctx, ours) }()
			act(newPeer(t, theirs).joins())
			return <-result
		}
		if err := run(t.Context(), func(p *peer) { _ = p.conn.Close() }); err != nil {
			t.Errorf("closed: %v", err)
		}
		if err := run(t.Context(), func(p *peer) { p.send(&wamp.Goodbye{Reason: wamp.CloseRealm}) }); err != nil {
			t.Errorf("GOODBYE: %v", err)
		}
		err := run(t.Context(), func(p *peer) { _ = p.conn.Write([]byte("junk")) })
		if e := (*wamp.Error)(nil); !errors.As(err, &e) || e.URI != wamp.ErrProtocolViolation {
			t.Errorf("junk: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no more of this")
		if err := run(ctx, func(*peer) { cancel(why) }); !errors.Is(err, why) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestGoroutinesReturn: connects and disconnects leave nothing behind.
func TestGoroutinesReturn(t *testing.T) {
	r, _ := start(t, openConfig())
	before := runtime.NumGoroutine()
	for _, d := range network(t, r) {
		for i := range 50 {
			p := d.dial(t, codecs[i%3])
			if i%2 == 0 {
				p.joins().subscribe(1, "com.a")
			}
			_ = p.conn.Close()
		}
	}
	for r.Stats().Sessions > 0 {
		runtime.Gosched()
	}
	if st := r.Stats(); st.Realms["realm1"].Subscriptions != 0 {
		t.Errorf("%+v", st)
	}
	if after := runtime.NumGoroutine(); after > before+60 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}
