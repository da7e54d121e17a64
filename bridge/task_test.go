package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// fakeSession is a realm that answers as it is told.
type fakeSession struct {
	mu        sync.Mutex
	published []string
	answers   []error // for the next publications; none is success
	done      chan struct{}
}

func newFakeSession() *fakeSession { return &fakeSession{done: make(chan struct{})} }

func (s *fakeSession) PublishPayload(_ context.Context, topic string, p wamp.Payload, opts ...client.PublishOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		err := s.answers[0]
		s.answers = s.answers[1:]
		if err != nil {
			return err
		}
	}
	var o wamp.PublishOptions
	for _, opt := range opts {
		opt(&o)
	}
	args, _, err := p.Values()
	s.published = append(s.published, fmt.Sprintf("%s %v ack=%v retain=%v", topic, args, o.Acknowledge, o.Retain))
	return err
}

func (s *fakeSession) Subscribe(context.Context, string, client.EventHandler, ...client.SubscribeOption) (*client.Subscription, error) {
	return nil, nil
}

func (s *fakeSession) Register(context.Context, string, client.Procedure, ...client.RegisterOption) (*client.Registration, error) {
	return nil, nil
}

func (s *fakeSession) Call(context.Context, string, client.Args, client.KwArgs, ...client.CallOption) (*client.Result, error) {
	return &client.Result{}, nil
}

func (s *fakeSession) DroppedEvents() uint64       { return 0 }
func (s *fakeSession) Done() <-chan struct{}       { return s.done }
func (s *fakeSession) Close(context.Context) error { return nil }

func (s *fakeSession) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

// fakeConn is a broker that acknowledges what it is told to.
type fakeConn struct {
	info  ConnInfo
	lost  chan error
	limit int // publications acknowledged; the rest never is

	mu        sync.Mutex
	published []Message
	closed    bool
}

type fakeToken struct {
	done chan struct{}
	err  error
}

func (t fakeToken) Done() <-chan struct{} { return t.done }
func (t fakeToken) Error() error          { return t.err }

func (*fakeConn) Unsubscribe(context.Context, []string) error { return nil }

func (c *fakeConn) Subscribe(context.Context, []Filter) error { return nil }
func (c *fakeConn) Lost() <-chan error                        { return c.lost }
func (c *fakeConn) Info() ConnInfo                            { return c.info }

func (c *fakeConn) Publish(m Message) Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published = append(c.published, m)
	t := fakeToken{done: make(chan struct{})}
	if len(c.published) <= c.limit {
		close(t.done)
	}
	return t
}

func (c *fakeConn) Close(context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *fakeConn) topics() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.published {
		out = append(out, m.Topic)
	}
	return out
}

// fakeBroker hands out connections, and fails when there are no more.
type fakeBroker struct {
	mu    sync.Mutex
	conns []*fakeConn
	tries []time.Time
	panic bool
}

func (b *fakeBroker) Connect(context.Context, func(Received) error) (Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries = append(b.tries, time.Now())
	if b.panic {
		b.panic = false
		panic("an adapter that panics")
	}
	if len(b.conns) == 0 {
		return nil, errors.New("nobody there")
	}
	c := b.conns[0]
	b.conns = b.conns[1:]
	return c, nil
}

func taskOf(t *testing.T, b Broker, s *fakeSession, maps ...Map) *Task {
	t.Helper()
	cfg := broker("a", "tcp://h")
	cfg.Reconnect.Jitter = 0
	task := newTask("a", cfg, b, tableOf(t, maps...), slog.New(slog.NewTextHandler(io.Discard, nil)))
	task.join = func(context.Context, string) (session, error) { return s, nil }
	return task
}

func event(t *testing.T, uri string, args wamp.List, details wamp.EventDetails) *client.Event {
	t.Helper()
	return &client.Event{Topic: uri, Details: details, Payload: payload(t, args, nil)}
}

func TestRetainedEvents(t *testing.T) {
	task := taskOf(t, nil, nil,
		mapOf(Out, "k/{x}", "com.k.{x}"),
		mapOf(Out, "d/{x}", "com.d.{x}", func(m *Map) { m.Retain = RetainDrop }),
	)
	live := wamp.EventDetails{Extra: wamp.Dict{RetainedLive: true}}
	replay := wamp.EventDetails{Retained: true}
	task.event(event(t, "com.k.1", wamp.List{"v"}, wamp.EventDetails{}))
	task.event(event(t, "com.k.2", wamp.List{"v"}, live))
	task.event(event(t, "com.k.2", wamp.List{"v"}, replay)) // known
	task.event(event(t, "com.k.3", wamp.List{"v"}, replay))
	task.event(event(t, "com.k.2", nil, live))
	task.event(event(t, "com.d.1", wamp.List{"v"}, replay)) // old news
	gen := task.queue.begin(nil)
	var got []string
	for m, ok := takeOne(task.queue, gen); ok; m, ok = takeOne(task.queue, gen) {
		got = append(got, fmt.Sprintf("%s %q %v", m.Topic, m.Payload, m.Retain))
	}
	if want := []string{`k/1 "v" false`, `k/2 "v" true`, `k/3 "v" true`, `k/2 "" true`}; !slices.Equal(got, want) {
		t.Errorf("queued %q, want %q", got, want)
	}
	if d := task.Status().Dropped; d["stale"] != 1 || d["unchanged"] != 1 {
		t.Errorf("dropped %v", d)
	}
	if kept := task.outputs.all(func(Message) bool { return true }); len(kept) != 1 || kept[0].Topic != "k/3" {
		t.Errorf("to be sent again: %v", kept)
	}
}

// TestOldRetainedMessage: what a broker replays while something newer waits for
// it does not overwrite the realm's value.
func TestOldRetainedMessage(t *testing.T) {
	s := newFakeSession()
	task := taskOf(t, nil, s, mapOf(Both, "s/{x}", "com.s.{x}", func(m *Map) { m.Retain = RetainAlways }))
	task.event(event(t, "com.s.1", wamp.List{"new"}, wamp.EventDetails{}))
	task.conn.Store(int64(task.queue.begin(nil)))
	if !task.deliver(t.Context(), s, &Received{Topic: "s/1", Payload: []byte("old"), Retained: true, QoS: 1}) {
		t.Error("not to be acknowledged")
	}
	task.deliver(t.Context(), s, &Received{Topic: "s/2", Payload: []byte("other"), Retained: true, QoS: 1})
	if got, want := s.list(), []string{"com.s.2 [other] ack=true retain=true"}; !slices.Equal(got, want) {
		t.Errorf("published %q, want %q", got, want)
	}
}

func TestRealmAnswers(t *testing.T) {
	away := fmt.Errorf("publish: %w", client.ErrNotConnected)
	denied := wamp.Errorf(wamp.ErrNotAuthorized, "no")
	for name, c := range map[string]struct {
		qos       byte
		answers   []error
		published int
		refused   uint64
	}{
		"taken":                          {1, nil, 1, 0},
		"away for a while":               {1, slices.Repeat([]error{away}, 100), 1, 0},
		"away, at QoS 0":                 {0, []error{away}, 0, 1},
		"denied":                         {2, []error{denied}, 0, 1},
		"broken each time":               {1, slices.Repeat([]error{io.ErrUnexpectedEOF}, 100), 0, 1},
		"cannot be said in the encoding": {1, []error{&codec.TranscodeError{}}, 0, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeSession()
			s.answers = c.answers
			task := taskOf(t, nil, s, mapOf(In, "s/{x}", "com.s.{x}"))
			if !task.deliver(t.Context(), s, &Received{Topic: "s/1", Payload: []byte("v"), QoS: c.qos}) {
				t.Errorf("%s: not to be acknowledged", name)
			}
			if n := len(s.list()); n != c.published || task.Status().Dropped["refused"] != c.refused {
				t.Errorf("%s: published %d, %v", name, n, task.Status().Dropped)
			}
		})
	}
}

// TestUnacknowledgedAtTheEnd: what the realm did not take is left to the broker.
func TestUnacknowledgedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession()
		s.answers = slices.Repeat([]error{client.ErrNotConnected}, 1000)
		task := taskOf(t, nil, s, mapOf(In, "s/{x}", "com.s.{x}"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if task.deliver(ctx, s, &Received{Topic: "s/1", QoS: 1}) {
			t.Error("a message that nobody took is acknowledged")
		}
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &fakeBroker{}, newFakeSession()
		task := taskOf(t, b, s, mapOf(Out, "o/{x}", "com.o.{x}"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := task.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var waits []time.Duration
		for i := range b.tries[1:] {
			waits = append(waits, b.tries[i+1].Sub(b.tries[i]))
		}
		want := []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000}
		for i := range want {
			if waits[i] != want[i]*time.Millisecond {
				t.Fatalf("waited %v, want %v ms", waits, want)
			}
		}
		if st := task.Status(); st.State != StateStopped {
			t.Errorf("state %s", st.State)
		}
	})
}

// TestWindow: no more than the window is on its way, and of QoS 2 no more than
// brokers take; after a loss all is sent again from the head.
func TestWindow(t *testing.T) {
	for qos, window := range map[int]int{1: 50, 2: maxQoS2} {
		synctest.Test(t, func(t *testing.T) {
			first := &fakeConn{lost: make(chan error, 1), limit: 30}
			second := &fakeConn{lost: make(chan error, 1), limit: 1000}
			b, s := &fakeBroker{conns: []*fakeConn{first, second}}, newFakeSession()
			task := taskOf(t, b, s, mapOf(Out, "o/{x}", "com.o.{x}", func(m *Map) { m.QoS = qos }))
			var want []string
			for i := range 100 {
				want = append(want, fmt.Sprintf("o/%d", i))
				task.event(event(t, fmt.Sprintf("com.o.%d", i), wamp.List{int64(i)}, wamp.EventDetails{}))
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- task.Run(ctx) }()
			synctest.Wait()
			if got := first.topics(); !slices.Equal(got, want[:30+window]) {
				t.Errorf("QoS %d: %d sent, want 30 and a window of %d", qos, len(got), window)
			}
			first.lost <- errors.New("cut")
			<-time.After(time.Second)
			synctest.Wait()
			if got := second.topics(); !slices.Equal(got, want[30:]) {
				t.Errorf("QoS %d: sent again %v", qos, got)
			}
			cancel()
			if err := <-done; err != nil || !second.closed {
				t.Errorf("QoS %d: %v, closed %v", qos, err, second.closed)
			}
		})
	}
}

// TestPanicEndsTheTaskOnly: the bridge starts it again.
func TestPanicEndsTheTaskOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &fakeBroker{panic: true}, newFakeSession()
		task := taskOf(t, b, s, mapOf(Out, "o/{x}", "com.o.{x}"))
		if err := task.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "an adapter that panics") {
			t.Fatalf("Run: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- task.Run(ctx) }()
		synctest.Wait()
		if st := task.Status(); st.State != StateOffline || st.Error != "nobody there" {
			t.Errorf("status %+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSessionGoneForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession()
		close(s.done)
		task := taskOf(t, &fakeBroker{}, s, mapOf(Out, "o/{x}", "com.o.{x}"))
		if err := task.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ended for good") {
			t.Errorf("Run: %v", err)
		}
	})
}
