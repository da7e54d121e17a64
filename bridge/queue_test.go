package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.Unix(1_000_000, 0)

func numbered(i int, qos byte) Message { return Message{Topic: fmt.Sprint(i), QoS: qos} }

// with adds to the default configuration.
func with(change func(*QueueConfig)) QueueConfig {
	c := DefaultQueue()
	change(&c)
	return c
}

// count is how many messages were lost, and the reason of the first.
func (ls losses) count() (n int, why Reason) {
	for _, l := range ls {
		n += l.count
	}
	if len(ls) > 0 {
		why = ls[0].why
	}
	return n, why
}

func takeOne(q *queue, gen int) (sent, bool) {
	s, _, ok, _ := q.take(gen, epoch)
	return s, ok
}

// drainTopics takes and acknowledges all that there is.
func drainTopics(q *queue, gen int) (topics []string) {
	for {
		m, ok := takeOne(q, gen)
		if !ok {
			return topics
		}
		topics = append(topics, m.Topic)
		q.ack(gen, []sent{m})
	}
}

func TestQueueSendsAgainFromTheHead(t *testing.T) {
	q := newQueue(DefaultQueue())
	for i := range 5 {
		q.push(numbered(i, 1), nil, epoch)
	}
	first := q.begin(nil)
	head, _ := takeOne(q, first)
	takeOne(q, first)
	takeOne(q, first)
	q.ack(first, []sent{head})
	q.end(epoch)
	if q.ack(first, []sent{head}) {
		t.Error("an acknowledgement of a past connection was taken")
	}
	second := q.begin([]Message{{Topic: "retained", QoS: 1}})
	if _, ok := takeOne(q, first); ok {
		t.Error("a past connection was given a message")
	}
	if got, want := drainTopics(q, second), []string{"retained", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if d := q.depth(); d.messages != 0 || d.bytes != 0 || q.memory != 0 {
		t.Errorf("%+v left, %d bytes in memory", d, q.memory)
	}
}

func TestQueueOfflineKeepsNoQoS0(t *testing.T) {
	q := newQueue(DefaultQueue())
	if n, why := q.push(numbered(0, 0), nil, epoch).count(); n != 1 || why != Offline {
		t.Errorf("push while offline: %d, %v", n, why)
	}
	q.begin(nil)
	q.push(numbered(1, 0), nil, epoch)
	q.push(numbered(2, 1), nil, epoch)
	if n, _ := q.end(epoch).count(); n != 1 {
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
		q := newQueue(with(func(c *QueueConfig) { c.MaxMessages, c.WhenFull = 4, policy }))
		gen := q.begin(nil)
		dropped := 0
		for i := range 6 {
			n, why := q.push(numbered(i, 1), nil, epoch).count()
			if n > 0 && why != QueueFull {
				t.Errorf("dropped for %v", why)
			}
			dropped += n
			if i < 2 {
				takeOne(q, gen)
			}
		}
		if got := drainTopics(q, q.begin(nil)); !slices.Equal(got, want) || dropped != 2 {
			t.Errorf("%s: holds %v, %d dropped, want %v, 2 dropped", policy, got, dropped, want)
		}
	}
	q := newQueue(with(func(c *QueueConfig) { c.MaxBytes = 100 }))
	q.push(numbered(1, 1), nil, epoch)
	if n, _ := q.push(Message{Topic: "big", Payload: make([]byte, 1000), QoS: 1}, nil, epoch).count(); n != 1 {
		t.Errorf("a message beyond all bounds dropped %d, want only itself", n)
	}
}

func named(name string, change ...func(*Map)) *Map {
	m := &Map{Name: name}
	m.SetDefaults()
	for _, f := range change {
		f(m)
	}
	return m
}

// TestWhoGivesWay: of the maps with the lowest priority the one with most
// waiting; and no map takes more than its share.
func TestWhoGivesWay(t *testing.T) {
	q := newQueue(with(func(c *QueueConfig) { c.MaxMessages = 10 }))
	alarm := named("alarm", func(m *Map) { m.Priority = 5 })
	flood, quiet := named("flood"), named("quiet", func(m *Map) { m.Share = 0.2 })
	lost := map[string]int{}
	push := func(m *Map, n int) {
		for i := range n {
			for _, l := range q.push(Message{Topic: fmt.Sprintf("%s/%d", m.Name, i), QoS: 1}, m, epoch) {
				lost[l.lane] += l.count
			}
		}
	}
	push(alarm, 3)
	push(quiet, 5)
	push(flood, 20)
	push(alarm, 2)
	if want := map[string]int{"quiet": 3, "flood": 17}; !maps.Equal(lost, want) {
		t.Errorf("lost %v, want %v", lost, want)
	}
	push(alarm, 7)
	if lost["alarm"] != 2 {
		t.Errorf("lost %v: a map of high priority fills the queue, and then gives way itself", lost)
	}
	if n, _ := q.push(Message{Topic: "late", QoS: 1}, flood, epoch).count(); n != 1 {
		t.Errorf("%d dropped for a map of low priority, want its own message", n)
	}
}

func TestLanesTakeTurns(t *testing.T) {
	q := newQueue(DefaultQueue())
	a, b := named("a"), named("b")
	gen := q.begin(nil)
	for i := range 4 {
		q.push(Message{Topic: fmt.Sprint("a", i), QoS: 1}, a, epoch)
	}
	q.push(Message{Topic: "b0", QoS: 1}, b, epoch)
	if got, want := drainTopics(q, gen), []string{"a0", "b0", "a1", "a2", "a3"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestRates(t *testing.T) {
	for over, want := range map[string][]string{
		OverWait:       {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
		OverDropNewest: {"0", "1", "2"},
		OverDropOldest: {"7", "8", "9"},
	} {
		q := newQueue(DefaultQueue())
		m := named("m", func(m *Map) { m.Rate = RateConfig{PerSecond: 10, Burst: 3, Over: over} })
		gen := q.begin(nil)
		for i := range 10 {
			q.push(numbered(i, 1), m, epoch)
		}
		now := epoch
		var got []string
		for range 100 {
			s, wait, ok, _ := q.take(gen, now)
			if !ok && wait == 0 {
				break
			}
			now = now.Add(wait)
			if ok {
				got = append(got, s.Topic)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: sent %v, want %v", over, got, want)
		}
		if took := now.Sub(epoch); over == OverWait && (took < 690*time.Millisecond || took > 720*time.Millisecond) {
			t.Errorf("ten at ten a second, three of them at once, took %v", took)
		}
	}
}

// TestBacklogIsPaced, and what is new in other maps is not.
func TestBacklogIsPaced(t *testing.T) {
	q := newQueue(with(func(c *QueueConfig) { c.DrainPerSecond = 10 }))
	old, live := named("old"), named("live")
	for i := range 5 {
		q.push(Message{Topic: fmt.Sprint("old", i), QoS: 1}, old, epoch)
	}
	gen := q.begin(nil)
	for i := range 3 {
		q.push(Message{Topic: fmt.Sprint("live", i), QoS: 1}, live, epoch)
	}
	if got, want := drainTopics(q, gen), []string{"old0", "live0", "live1", "live2"}; !slices.Equal(got, want) {
		t.Errorf("at once %v, want %v", got, want)
	}
	if _, wait, ok, _ := q.take(gen, epoch); ok || wait != 100*time.Millisecond {
		t.Errorf("the next after %v, want 100ms", wait)
	}
}

func TestMaxAge(t *testing.T) {
	q := newQueue(with(func(c *QueueConfig) { c.MaxAge = time.Minute }))
	q.push(numbered(0, 1), nil, epoch)
	q.push(numbered(1, 1), nil, epoch.Add(30*time.Second))
	gen := q.begin(nil)
	s, _, _, lost := q.take(gen, epoch.Add(61*time.Second))
	if n, why := lost.count(); s.Topic != "1" || n != 1 || why != Expired {
		t.Errorf("took %q, lost %v", s.Topic, lost)
	}
}

func TestPurge(t *testing.T) {
	q := newQueue(DefaultQueue())
	gen := q.begin(nil)
	a, b := named("a"), named("b")
	for i := range 3 {
		q.push(numbered(i, 1), a, epoch)
		q.push(numbered(i+10, 1), b, epoch)
	}
	one, _ := takeOne(q, gen)
	if n := q.purge("a", false); n != 2 {
		t.Errorf("%d of a purged, want the two that are not on their way", n)
	}
	q.ack(gen, []sent{one})
	if got, want := drainTopics(q, gen), []string{"10", "11", "12"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestQueueModel compares the queue with a plain list, over random calls, with
// and without a disk, and with one that fails now and then.
func TestQueueModel(t *testing.T) {
	for name, fs := range map[string]*flakyFS{"memory": nil, "disk": {}, "disk that fails": {every: 7}} {
		rng := rand.New(rand.NewPCG(1, 2))
		q := newQueue(with(func(c *QueueConfig) { c.MaxMessages, c.MaxBytes = 8, 64<<10 }))
		if fs != nil {
			fs.dir = diskAt(t, t.TempDir())
			if err := q.load(fs, nil, epoch); err != nil {
				t.Fatal(err)
			}
		}
		m := named("m", func(m *Map) { m.Durable = true })
		gen := q.begin(nil)
		var model []string
		var flying []sent
		for i := range 20_000 {
			switch rng.IntN(6) {
			case 0, 1, 2:
				if len(model) == 8 && len(flying) < 8 {
					model = slices.Delete(model, len(flying), len(flying)+1)
				}
				if len(model) < 8 {
					model = append(model, fmt.Sprint(i))
				}
				q.push(numbered(i, 1), m, epoch)
			case 3:
				s, ok := takeOne(q, gen)
				if ok != (len(flying) < len(model)) || ok && s.Topic != model[len(flying)] {
					t.Fatalf("%s, step %d: took %q, %v from %v after %d", name, i, s.Topic, ok, model, len(flying))
				}
				if ok {
					flying = append(flying, s)
				}
			case 4:
				if n := rng.IntN(3); n <= len(flying) {
					q.ack(gen, flying[:n])
					flying, model = flying[n:], model[n:]
				}
			case 5:
				if rng.IntN(10) == 0 {
					q.end(epoch)
					gen, flying = q.begin(nil), nil
				}
			}
			if d := q.depth(); d.messages != len(model) {
				t.Fatalf("%s, step %d: depth %d, want %d", name, i, d.messages, len(model))
			}
		}
		if fs != nil {
			fs.every = 0
		}
		if err := q.closeStore(epoch); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueueDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(DefaultQueue())
		q.push(numbered(1, 1), nil, epoch)
		gen := q.begin(nil)
		go func() {
			<-time.After(time.Second)
			drainTopics(q, gen)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		q.drained(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("drained after %v, want 1s", took)
		}
		q.push(numbered(2, 1), nil, epoch)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.drained(short)
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
