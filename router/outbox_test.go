package router

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func newOutbox(messages, bytes int) *outbox {
	o := &outbox{}
	o.init(outboxLimits{messages: messages, bytes: bytes})
	return o
}

func (o *outbox) put(m wamp.Message, at realm.Time) verdict {
	c, size := weigh(m)
	v := o.push(item{msg: m, size: size, at: at}, c)
	if v == claimed { // which TestOutboxClaim is about
		return pushed
	}
	return v
}

var (
	anEvent  = &wamp.Event{}
	aReply   = &wamp.Result{}
	aRequest = &wamp.Invocation{}
)

func TestOutboxBounds(t *testing.T) {
	_, size := weigh(anEvent)
	for name, o := range map[string]*outbox{
		"messages": newOutbox(8, 1<<20),
		"bytes":    newOutbox(1<<20, 8*size),
	} {
		t.Run(name, func(t *testing.T) {
			// Events leave a quarter to what must not be dropped.
			for i := range 8 {
				if got, want := o.put(anEvent, 1), i < 6; (got == pushed) != want {
					t.Fatalf("event %d: %d", i, got)
				}
			}
			if o.put(aReply, 2) != pushed || o.put(aRequest, 2) != pushed {
				t.Fatal("there is no room for reply and request")
			}
			if o.put(aReply, 3) != full || o.put(aRequest, 3) != full || o.put(&wamp.Abort{}, 3) != pushed {
				t.Fatal("the bound does not hold, or ABORT does not pass it")
			}
			if at, waiting := o.waitingSince(); at != 1 || !waiting {
				t.Errorf("waiting since %d, %v", at, waiting)
			}
			batch := o.take()
			if len(batch) != 9 {
				t.Fatalf("%d items", len(batch))
			}
			// What is being written still counts.
			if o.put(anEvent, 4) != full {
				t.Error("there is room before anything was written")
			}
			o.wrote(batch[:7], batch[7:], batch)
			if at, waiting := o.waitingSince(); at != 2 || !waiting {
				t.Errorf("waiting since %d, %v", at, waiting)
			}
			if o.put(anEvent, 5) != pushed {
				t.Error("there is no room after most was written")
			}
			o.wrote(batch[7:], nil, batch)
			if at, waiting := o.waitingSince(); at != 5 || !waiting {
				t.Errorf("waiting since %d, %v", at, waiting)
			}
			batch = o.take()
			o.wrote(batch, nil, batch)
			if _, waiting := o.waitingSince(); waiting || o.bytes != 0 || o.messages != 0 || o.replies != 0 || o.replied != 0 {
				t.Errorf("afterwards: %+v", o)
			}
		})
	}
	// One message larger than the bound passes, alone.
	o := newOutbox(10, 100)
	if o.put(aReply, 1) != pushed || o.put(aReply, 1) != full {
		t.Error("a large message does not pass alone")
	}
}

func TestOutboxEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(10, 1<<20)
		o.put(aReply, 1)
		o.end()
		if o.put(aReply, 1) != ignored || !o.closed() || o.isDead() {
			t.Error("it takes more after its end")
		}
		if len(o.take()) != 1 || o.take() != nil {
			t.Error("what was there is not written")
		}
		o = newOutbox(10, 1<<20)
		o.put(aReply, 1)
		var waiting sync.WaitGroup
		waiting.Go(o.awaitReleased)
		synctest.Wait()
		o.kill()
		if o.take() != nil {
			t.Error("it gives something away after its death")
		}
		o.release()
		waiting.Wait()
		if o.put(aReply, 1) != ignored || !o.closed() || !o.isDead() {
			t.Error("it takes more after its death")
		}
	})
}

// TestEncodedOnce: a message to many sessions is encoded once for each codec.
func TestEncodedOnce(t *testing.T) {
	r, _ := start(t, openConfig())
	publisher := pipe(t, r, codec.JSON).joins()
	count := map[string]*countingCodec{}
	var subscribers []*peer
	for _, c := range codecs {
		counting := &countingCodec{Codec: c}
		count[c.Name()] = counting
		for range 10 {
			p := pipe(t, r, counting)
			p.codec = c
			p.joins().subscribe(1, "com.a")
			subscribers = append(subscribers, p)
		}
	}
	publisher.send(&wamp.Publish{Request: 1, Topic: "com.a", Payload: publisher.payload("x", 1)})
	for _, p := range subscribers {
		expect[*wamp.Event](p)
	}
	for name, c := range count {
		if n := c.events.Load(); n != 1 {
			t.Errorf("%s: encoded %d times for 10 sessions", name, n)
		}
	}
}

type countingCodec struct {
	codec.Codec
	events atomic.Int64
}

func (c *countingCodec) Append(dst []byte, m wamp.Message) ([]byte, error) {
	if m.Kind() == wamp.KindEvent {
		c.events.Add(1)
	}
	return c.Codec.Append(dst, m)
}
