package router

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// TestOutboxClaim: of all who push, one has to see that it is sent, until all is.
func TestOutboxClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(100, 1<<20)
		push := func() verdict { return o.push(item{msg: aReply}, classReply) }
		if push() != claimed || push() != pushed {
			t.Fatal("not exactly the first one has claimed it")
		}
		batch := o.take()
		if len(batch) != 2 || push() != pushed {
			t.Fatal("while a batch is sent, another one has claimed it")
		}
		if !o.wrote(batch[:1], batch[1:], batch) || !o.wrote(batch[1:], nil, batch) {
			t.Fatal("the claim is gone while there is something to send")
		}
		batch = o.take()
		if o.wrote(batch, nil, batch) {
			t.Fatal("the claim is still there")
		}
		o.awaitReleased() // nobody to wait for
		if push() != claimed {
			t.Fatal("nobody has claimed it afterwards")
		}
		// The end is somebody's as well: here of who sends already.
		if o.end() {
			t.Fatal("two have claimed it")
		}
		batch = o.take()
		if !o.wrote(batch, nil, batch) || o.take() != nil {
			t.Fatal("the claim is gone before the connection is closed")
		}
		ended := false
		var waiting sync.WaitGroup
		waiting.Go(func() { o.awaitReleased(); ended = true })
		if synctest.Wait(); ended {
			t.Error("it was not waited for the claim")
		}
		o.release()
		waiting.Wait()
		if idle := newOutbox(1, 1); !idle.end() || idle.end() {
			t.Error("not exactly the first one to end it has claimed it")
		}
	})
}

// TestOutboxKeepsLittle: what a burst took is not kept for ever.
func TestOutboxKeepsLittle(t *testing.T) {
	o := newOutbox(1<<20, 1<<30)
	for range 10 * keepIdle {
		o.push(item{msg: aReply}, classReply)
	}
	batch := o.take()
	o.wrote(batch, nil, batch)
	if n := cap(o.queue) + cap(o.spare); n > keepIdle {
		t.Errorf("an idle outbox keeps room for %d messages", n)
	}
	o.push(item{msg: aReply}, classReply)
	batch = o.take()
	if o.wrote(batch, nil, batch); cap(o.queue) == 0 {
		t.Error("it keeps nothing")
	}
}

// TestOrderOverTheNetwork: events of each publisher come in order, whoever sends
// them, at every subscriber; and calls are answered among them.
func TestOrderOverTheNetwork(t *testing.T) {
	r, _ := start(t, openConfig())
	const publishers, events = 4, 300
	big := strings.Repeat("x", 40_000) // so that sockets are full at times
	for _, d := range network(t, r) {
		t.Run(d.name, func(t *testing.T) {
			var subscribers []*peer
			for range 3 {
				p := d.dial(t, codec.JSON).joins()
				p.subscribe(1, "com.order")
				subscribers = append(subscribers, p)
			}
			var from sync.WaitGroup
			for n := range publishers {
				p := d.dial(t, codec.JSON).joins()
				from.Go(func() {
					for i := range events {
						args := []any{n, i}
						if i%50 == n {
							args = append(args, big)
						}
						payload, err := wamp.NewPayload(p.codec, args, nil)
						if err != nil {
							t.Error(err)
							return
						}
						b, err := p.codec.Append(nil, &wamp.Publish{
							Request: wamp.ID(i + 1), Topic: "com.order", Payload: payload,
							Options: wamp.PublishOptions{Acknowledge: true},
						})
						if err == nil {
							err = p.conn.Write(b)
						}
						if err == nil {
							b, err = p.conn.Read()
						}
						if err != nil || !bytes.HasPrefix(b, []byte("[17,")) {
							t.Errorf("publisher %d: %.100q, %v", n, b, err)
							return
						}
					}
				})
			}
			var to sync.WaitGroup
			for _, p := range subscribers {
				to.Go(func() {
					next := [publishers]int64{}
					for range publishers * events {
						b, err := p.conn.Read()
						if err != nil {
							t.Error(err)
							return
						}
						m, err := p.codec.Decode(b, codec.Limits{})
						if err != nil {
							t.Error(err)
							return
						}
						args, _, err := m.(*wamp.Event).Payload.Values()
						if err != nil {
							t.Error(err)
							return
						}
						n, i := args[0].(int64), args[1].(int64)
						if i != next[n] {
							t.Errorf("event %d of publisher %d, want %d", i, n, next[n])
							return
						}
						next[n]++
					}
				})
			}
			from.Wait()
			to.Wait()
		})
	}
}

// TestSlowPeerHoldsNobodyUp: who reads nothing does not keep others from what
// the same publisher sends them, and gets what fitted into its queue, in order,
// when it reads again.
func TestSlowPeerHoldsNobodyUp(t *testing.T) {
	cfg := openConfig()
	cfg.Limits.QueueMessages = 256
	r, _ := start(t, cfg)
	for _, d := range network(t, r) {
		if d.name == "longpoll" { // the client's side reads by itself
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			before := r.Stats().Realms["realm1"].EventsDropped
			slow, quick, pub := d.dial(t, codec.JSON).joins(), d.dial(t, codec.JSON).joins(), d.dial(t, codec.JSON).joins()
			slow.subscribe(1, "com.slow")
			quick.subscribe(1, "com.slow")
			filler := strings.Repeat("x", 20_000)
			n := 0
			for r.Stats().Realms["realm1"].EventsDropped == before {
				pub.send(&wamp.Publish{Request: wamp.ID(n + 1), Topic: "com.slow", Payload: pub.payload(n, filler)})
				args, _, err := expect[*wamp.Event](quick).Payload.Values()
				if err != nil || args[0] != int64(n) {
					t.Fatalf("event %v, %v; want %d", args[0], err, n)
				}
				if n++; n > 100_000 {
					t.Fatal("the queue of a session that reads nothing never gets full")
				}
			}
			dropped := int(r.Stats().Realms["realm1"].EventsDropped - before)
			for i := range n - dropped {
				args, _, err := expect[*wamp.Event](slow).Payload.Values()
				if err != nil || args[0] != int64(i) {
					t.Fatalf("event %v, %v; want %d", args[0], err, i)
				}
			}
		})
	}
}

// TestPanicWhileSendingToAnother ends the session that it is about, and not the
// one whose reader was sending.
func TestPanicWhileSendingToAnother(t *testing.T) {
	r, log := start(t, openConfig())
	victim := pipe(t, r, panicsOnEvent{codec.JSON})
	victim.codec = codec.JSON
	victim.joins().subscribe(1, "com.a")
	sound, pub := pipe(t, r, codec.JSON).joins(), pipe(t, r, codec.JSON).joins()
	sound.subscribe(1, "com.a")
	for i := range wamp.ID(3) {
		pub.send(&wamp.Publish{Request: i + 1, Topic: "com.a"})
		expect[*wamp.Event](sound)
	}
	victim.ended()
	if !log.has("session panicked") || r.Stats().Panics != 1 {
		t.Errorf("%+v", r.Stats())
	}
}

type panicsOnEvent struct{ codec.Codec }

func (c panicsOnEvent) Append(dst []byte, m wamp.Message) ([]byte, error) {
	if m.Kind() == wamp.KindEvent {
		panic("it cannot be encoded")
	}
	return c.Codec.Append(dst, m)
}

// TestEndsWhileOthersSend: sessions come and go under what others send them.
func TestEndsWhileOthersSend(t *testing.T) {
	r, _ := start(t, openConfig())
	for _, d := range network(t, r) {
		t.Run(d.name, func(t *testing.T) {
			stop := make(chan struct{})
			var publishing sync.WaitGroup
			for range 2 {
				p := d.dial(t, codec.CBOR).joins()
				payload := p.payload("x")
				publishing.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						b, err := p.codec.Append(nil, &wamp.Publish{
							Request: 1, Topic: "com.a", Payload: payload, Options: wamp.PublishOptions{Acknowledge: true},
						})
						if err == nil {
							err = p.conn.Write(b)
						}
						if err == nil {
							_, err = p.conn.Read()
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for i := range 20 {
				p := d.dial(t, codec.CBOR).joins()
				p.subscribe(1, "com.a")
				expect[*wamp.Event](p)
				if i%2 == 0 {
					_ = p.conn.Close()
					continue
				}
				p.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
				for {
					if _, ok := p.receive().(*wamp.Goodbye); ok {
						break
					}
				}
				p.ended()
			}
			close(stop)
			publishing.Wait()
		})
	}
	if st := r.Stats(); st.Panics != 0 {
		t.Errorf("%+v", st)
	}
}
