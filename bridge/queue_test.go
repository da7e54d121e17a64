package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func numbered(i int, qos byte) Message { return Message{Topic: fmt.Sprint(i), QoS: qos} }

// drainTopics takes and acknowledges all that there is.
func drainTopics(q *queue, gen int) (topics []string) {
	for {
		m, ok := q.take(gen)
		if !ok {
			return topics
		}
		topics = append(topics, m.Topic)
		q.ack(gen)
	}
}

func TestQueueSendsAgainFromTheHead(t *testing.T) {
	q := newQueue(DefaultQueue())
	for i := range 5 {
		q.push(numbered(i, 1))
	}
	first := q.begin(nil)
	for range 3 {
		q.take(first)
	}
	q.ack(first)
	q.end()
	if q.ack(first) {
		t.Error("an acknowledgement of a past connection was taken")
	}
	second := q.begin([]Message{{Topic: "retained", QoS: 1}})
	if _, ok := q.take(first); ok {
		t.Error("a past connection was given a message")
	}
	if got, want := drainTopics(q, second), []string{"retained", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if n, bytes := q.depth(); n != 0 || bytes != 0 {
		t.Errorf("%d messages, %d bytes left", n, bytes)
	}
}

func TestQueueOfflineKeepsNoQoS0(t *testing.T) {
	q := newQueue(DefaultQueue())
	if n, why := q.push(numbered(0, 0)); n != 1 || why != Offline {
		t.Errorf("push while offline: %d, %v", n, why)
	}
	q.begin(nil)
	q.push(numbered(1, 0))
	q.push(numbered(2, 1))
	if n := q.end(); n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	if got := drainTopics(q, q.begin(nil)); !slices.Equal(got, []string{"2"}) {
		t.Errorf("sent %v, want 2", got)
	}
}

func TestQueueWhenFull(t *testing.T) {
	for policy, want := range map[string][]string{
		DropOldest: {"0", "1", "4", "5"}, // 0 and 1 are on their way
		DropNewest: {"0", "1", "2", "3"},
	} {
		q := newQueue(QueueConfig{MaxMessages: 4, MaxBytes: 1 << 20, WhenFull: policy})
		gen := q.begin(nil)
		dropped := 0
		for i := range 6 {
			n, why := q.push(numbered(i, 1))
			if n > 0 && why != QueueFull {
				t.Errorf("dropped for %v", why)
			}
			dropped += n
			if i < 2 {
				q.take(gen)
			}
		}
		if got := drainTopics(q, q.begin(nil)); !slices.Equal(got, want) || dropped != 2 {
			t.Errorf("%s: holds %v, %d dropped, want %v, 2 dropped", policy, got, dropped, want)
		}
	}
	q := newQueue(QueueConfig{MaxMessages: 4, MaxBytes: 100, WhenFull: DropOldest})
	q.push(numbered(1, 1))
	if n, _ := q.push(Message{Topic: "big", Payload: make([]byte, 1000), QoS: 1}); n != 1 {
		t.Errorf("a message beyond all bounds dropped %d, want only itself", n)
	}
}

// TestQueueModel compares the queue with a plain list, over random calls.
func TestQueueModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := newQueue(QueueConfig{MaxMessages: 8, MaxBytes: 1 << 20, WhenFull: DropOldest})
	gen, sent := q.begin(nil), 0
	var model []string
	for i := range 20_000 {
		switch rng.IntN(6) {
		case 0, 1, 2:
			if len(model) == 8 && sent < 8 {
				model = slices.Delete(model, sent, sent+1)
			}
			if len(model) < 8 {
				model = append(model, fmt.Sprint(i))
			}
			q.push(numbered(i, 1))
		case 3:
			if m, ok := q.take(gen); ok != (sent < len(model)) || ok && m.Topic != model[sent] {
				t.Fatalf("step %d: took %q, %v from %v after %d", i, m.Topic, ok, model, sent)
			} else if ok {
				sent++
			}
		case 4:
			if ok := q.ack(gen); ok != (sent > 0) {
				t.Fatalf("step %d: ack %v with %d sent", i, ok, sent)
			} else if ok {
				model, sent = model[1:], sent-1
			}
		case 5:
			if rng.IntN(10) == 0 {
				q.end()
				gen, sent = q.begin(nil), 0
			}
		}
		if n, _ := q.depth(); n != len(model) {
			t.Fatalf("step %d: depth %d, want %d", i, n, len(model))
		}
	}
}

func TestQueueDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(DefaultQueue())
		q.push(numbered(1, 1))
		gen := q.begin(nil)
		go func() {
			<-time.After(time.Second)
			drainTopics(q, gen)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		q.drain(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("drained after %v, want 1s", took)
		}
		q.push(numbered(2, 1))
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.drain(short)
		if short.Err() == nil {
			t.Error("drained a queue that nobody empties")
		}
	})
}

func TestInboxBounds(t *testing.T) {
	b := newInbox()
	for i := range inboxSoftCount {
		if err := b.push(Received{QoS: byte(i % 2)}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := b.push(Received{}); !errors.Is(err, ErrBacklog) {
		t.Errorf("QoS 0 beyond the soft bound: %v", err)
	}
	for i := inboxSoftCount; i < inboxHardCount; i++ {
		if err := b.push(Received{QoS: 1}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := b.push(Received{QoS: 1}); !errors.Is(err, ErrBacklog) {
		t.Errorf("QoS 1 beyond the hard bound: %v", err)
	}
	if n := len(b.takeAll(nil)); n != inboxHardCount {
		t.Errorf("took %d", n)
	}
	if err := b.push(Received{}); err != nil {
		t.Errorf("after it was emptied: %v", err)
	}
}

func TestEchoes(t *testing.T) {
	var e echoes
	now := time.Unix(0, 0)
	m := Message{Topic: "a", Payload: []byte("1")}
	first, second := e.sent(m), e.sent(m)
	if !e.swallow("a", []byte("1"), now) {
		t.Error("an echo passed")
	}
	if e.swallow("a", []byte("2"), now) || e.swallow("b", []byte("1"), now) {
		t.Error("somebody else's message was swallowed")
	}
	e.acknowledged(first, now)
	e.acknowledged(second, now)
	if !e.swallow("a", []byte("1"), now.Add(echoLife)) {
		t.Error("the second echo passed")
	}
	if e.swallow("a", []byte("1"), now.Add(echoLife)) {
		t.Error("more was swallowed than sent")
	}
	third := e.sent(m)
	e.acknowledged(third, now)
	if e.swallow("a", []byte("1"), now.Add(echoLife+1)) {
		t.Error("a message was swallowed after the echo's time")
	}
	if e.count != 0 || len(e.open) != 0 {
		t.Errorf("%d remembered, %v", e.count, e.open)
	}
}

func TestRecall(t *testing.T) {
	var r recall
	if r.repeated("a", []byte("1"), 1) {
		t.Error("the first is no repetition")
	}
	if r.repeated("a", []byte("1"), 1) {
		t.Error("on one connection it is a live message")
	}
	if !r.repeated("a", []byte("1"), 2) {
		t.Error("the replay on the next connection passed")
	}
	if r.repeated("a", []byte("1"), 2) {
		t.Error("after the replay it is a live message")
	}
	if r.repeated("a", []byte("2"), 3) {
		t.Error("a new value was taken for a replay")
	}
	r.note("b", []byte("1"), 3)
	if !r.repeated("b", []byte("1"), 4) {
		t.Error("the replay of an own message passed")
	}
	for i := range maxRemembered + 10 {
		r.note(fmt.Sprint(i), nil, 1)
	}
	if len(r.last) > maxRemembered {
		t.Errorf("%d topics remembered", len(r.last))
	}
}

func TestOutputs(t *testing.T) {
	var o outputs
	m := Message{Topic: "a", Payload: []byte("1"), Retain: true}
	if o.set(m) || !o.set(m) {
		t.Error("the second is the same as the first, the first is not")
	}
	if got := o.all(func(Message) bool { return true }); len(got) != 1 {
		t.Errorf("kept %v", got)
	}
	o.set(Message{Topic: "a", Retain: true})
	if got := o.all(func(Message) bool { return true }); len(got) != 0 || o.bytes != 0 {
		t.Errorf("after it was cleared: %v, %d bytes", got, o.bytes)
	}
}
