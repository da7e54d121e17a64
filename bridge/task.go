package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// session is what a task needs of a *client.Session.
type session interface {
	PublishPayload(ctx context.Context, topic string, p wamp.Payload, opts ...client.PublishOption) error
	Subscribe(ctx context.Context, topic string, h client.EventHandler, opts ...client.SubscribeOption) (*client.Subscription, error)
	Register(ctx context.Context, procedure string, p client.Procedure, opts ...client.RegisterOption) (*client.Registration, error)
	Call(ctx context.Context, procedure string, args client.Args, kwargs client.KwArgs, opts ...client.CallOption) (*client.Result, error)
	DroppedEvents() uint64
	Done() <-chan struct{}
	Close(ctx context.Context) error
}

// The bounds of what a task waits for.
const (
	subscribeTimeout = 10 * time.Second // the broker's answer to SUBSCRIBE
	takenTimeout     = 10 * time.Second // the realm's PUBLISHED
	retryTaking      = 100 * time.Millisecond
	maxTakings       = 10                     // attempts that failed for another reason than a session that is away
	drainTimeout     = 2 * time.Second        // at the end, for what is queued
	farewellTimeout  = 500 * time.Millisecond // for the status message, and again for DISCONNECT
	senderTimeout    = time.Second            // at the end, for senders that the network blocks
)

// Task carries messages between one broker and the realm.
type Task struct {
	name   string
	cfg    BrokerConfig
	broker Broker
	table  *Table
	maps   map[string]*Map // those of the table, by their names
	dir    string          // of the queue, "" for none
	log    *slog.Logger
	join   func(ctx context.Context, name string) (session, error)

	gauge   *gauge
	queue   *queue
	inbox   *inbox
	recall  recall
	outputs outputs
	echoes  echoes
	calls   *calls
	// announcer tells Home Assistant of the devices; nil where it is not wanted.
	announcer *announcer
	// finder makes devices of discovery messages; nil where it is not wanted.
	finder *finder
	// callAs joins the realm for the calls of one entry.
	callAs func(ctx context.Context, c Call) (caller, error)

	circles *circles            // of all tasks; nil when there is only one
	inRates map[string]*limiter // by map; for the goroutine that publishes what arrived

	// noLocal and conn describe the present connection, for the goroutine that
	// publishes what arrived.
	noLocal atomic.Bool
	conn    atomic.Int64

	paused  atomic.Bool
	toggled chan struct{} // holds a token when paused has changed

	ready     chan struct{}
	readyOnce sync.Once
}

func newTask(name string, cfg BrokerConfig, broker Broker, table *Table, log *slog.Logger) *Task {
	log = log.With("broker", name)
	t := &Task{
		name: name, cfg: cfg, broker: broker, table: table, log: log,
		queue: newQueue(cfg.Queue), inbox: newInbox(), toggled: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	t.calls = newCalls(name, nil, table.rule)
	t.maps, t.inRates = map[string]*Map{}, map[string]*limiter{}
	for _, r := range table.out {
		t.maps[r.Name] = &r.Map
	}
	for _, r := range table.in {
		t.maps[r.Name] = &r.Map
		if r.Rate.PerSecond > 0 {
			t.inRates[r.Name] = newLimiter(r.Rate)
		}
	}
	t.gauge = &gauge{log: log, changed: func() {}, state: StateStopped, since: time.Now()}
	return t
}

// String is the task's name in logs.
func (t *Task) String() string { return "bridge " + t.name }

// Ready is closed when the task has its subscriptions in the realm. It does
// not wait for the broker.
func (t *Task) Ready() <-chan struct{} { return t.ready }

// Status is what is known of the broker now.
func (t *Task) Status() Status {
	s, _ := t.gauge.status(t.name, t.queue)
	return s
}

// Run serves until ctx ends, then sends what is queued as far as that goes
// within two seconds, and says goodbye to the broker. The error is nil then; it
// is not when the task cannot go on, for a panic say. It may be run again.
func (t *Task) Run(ctx context.Context) (err error) {
	if t.dir != "" {
		if err := t.queue.openStore(t.dir, t.maps, time.Now()); err != nil {
			// A gateway that forgets at a power cut is better than none.
			t.log.Error("the queue is in memory only", "error", err)
			t.gauge.disk.Store(&err)
		}
	}
	defer func() { err = errors.Join(err, t.queue.closeStore(time.Now())) }()
	sess, err := t.attach(ctx)
	if err != nil || sess == nil {
		return err
	}
	// work outlives ctx for the farewell, and ends early when a part of the
	// task fails.
	work, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	serve, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	guard := func(f func()) {
		defer func() {
			if v := recover(); v != nil {
				fail(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
				stop()
			}
		}()
		f()
	}
	t.calls.begin(work, t)
	wg.Go(func() { guard(func() { t.publishArrived(work, sess) }) })
	wg.Go(func() { guard(func() { t.queue.commit(work, t.log) }) })
	if t.announcer != nil {
		wg.Go(func() { guard(func() { t.announcer.run(serve, sess) }) })
	}
	if t.finder != nil {
		wg.Go(func() { guard(func() { t.finder.run(serve, sess) }) })
	}
	wg.Go(func() {
		select {
		case <-sess.Done():
			fail(errors.New("the WAMP session has ended for good"))
			stop()
		case <-work.Done():
		}
	})
	var senders sync.WaitGroup
	guard(func() { t.connectAgain(serve, work, func(f func()) { senders.Go(func() { guard(f) }) }) })
	stop()
	failure := context.Cause(work)
	fail(nil)
	wg.Wait()
	t.calls.end()
	waitFor(&senders, senderTimeout)
	t.gauge.set(StateStopped, ConnInfo{}, failure)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	t.gauge.lost(sess.DroppedEvents())
	_ = sess.Close(bye) // it ends either way
	return failure
}

// waitFor waits for a group, but no longer than for the timeout.
func waitFor(group *sync.WaitGroup, timeout time.Duration) {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}

// attach joins the realm and subscribes. It tries until it succeeds; the
// session is nil when ctx ended first.
func (t *Task) attach(ctx context.Context) (session, error) {
	wait := backoff{ReconnectConfig: ReconnectConfig{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3}}
	for {
		sess, err := t.join(ctx, t.name)
		if err == nil {
			if err = t.subscribe(ctx, sess); err == nil {
				t.gauge.overrun.Store(&overrun{sess.DroppedEvents})
				t.readyOnce.Do(func() { close(t.ready) })
				return sess, nil
			}
			_ = sess.Close(ctx) // the subscriptions' error says what happened
			var refused *wamp.Error
			if errors.As(err, &refused) {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		t.gauge.set(StateOffline, ConnInfo{}, fmt.Errorf("join the realm: %w", err))
		wait.sleep(ctx)
	}
}

func (t *Task) subscribe(ctx context.Context, sess session) error {
	if err := subscribeTable(ctx, sess, t.table, t.event); err != nil {
		return err
	}
	if t.announcer != nil {
		if err := subscribeTable(ctx, sess, t.announcer.table, t.announcer.event); err != nil {
			return err
		}
	}
	if t.finder != nil {
		if err := t.finder.register(ctx, sess); err != nil {
			return err
		}
	}
	return t.calls.register(ctx, sess, func(procedure string, err error) {
		t.log.Error("a procedure of the bridge is not to be had", "procedure", procedure, "error", err)
	})
}

// subscribeTable subscribes to what a table carries to MQTT.
func subscribeTable(ctx context.Context, sess session, table *Table, handle client.EventHandler) error {
	all := table.WAMPPatterns()
	for i, s := range all {
		handler := func(e *client.Event) {
			if Owns(all, i, e.Topic) {
				handle(e)
			}
		}
		retained := func(o *wamp.SubscribeOptions) { o.GetRetained = true }
		if _, err := sess.Subscribe(ctx, s.Pattern, handler, client.Pattern(s.Match), retained); err != nil {
			return fmt.Errorf("subscribe to %q (%s): %w", s.Pattern, s.Match, err)
		}
	}
	return nil
}

// connectAgain connects and serves, again and again, until ctx ends.
func (t *Task) connectAgain(ctx, work context.Context, start func(func())) {
	wait := backoff{ReconnectConfig: t.cfg.Reconnect}
	for ctx.Err() == nil {
		if t.paused.Load() {
			t.gauge.set(StatePaused, ConnInfo{}, nil)
			select {
			case <-t.toggled:
			case <-ctx.Done():
			}
			continue
		}
		t.gauge.set(StateConnecting, ConnInfo{}, nil)
		conn, err := t.broker.Connect(ctx, t.receive)
		if err == nil {
			began := time.Now()
			err = t.serve(ctx, work, conn, start)
			if time.Since(began) >= t.cfg.Reconnect.StableAfter {
				wait.reset()
			}
		}
		if ctx.Err() != nil {
			return
		}
		if t.paused.Load() {
			wait.reset()
			continue
		}
		t.gauge.set(StateOffline, ConnInfo{}, err)
		wait.sleep(ctx)
	}
}

// serve uses one connection until it is lost, and then returns why, or until
// ctx ends.
func (t *Task) serve(ctx, work context.Context, conn Conn, start func(func())) error {
	info := conn.Info()
	t.gauge.connects.Add(1)
	t.noLocal.Store(info.NoLocal)
	gen := t.queue.begin(t.lostOutputs(info))
	t.conn.Store(int64(gen))
	over, cancel := context.WithCancel(work)
	broken := make(chan error, 1)
	defer func() {
		cancel()
		t.lost(t.queue.end(time.Now()), "")
		now, stop := context.WithCancel(work)
		stop()
		conn.Close(now)
	}()

	warning, err := t.greet(ctx, conn)
	if err != nil {
		return err
	}
	t.gauge.set(StateOnline, info, warning)
	t.calls.connected(conn)
	defer t.calls.disconnected()
	if t.finder != nil {
		t.finder.connected(conn, t.filters())
		defer t.finder.disconnected()
	}
	start(func() {
		if err := t.send(over, conn, gen); err != nil {
			broken <- err
		}
	})
	for over := false; !over; {
		select {
		case err := <-conn.Lost():
			return err
		case err := <-broken:
			return err
		case <-t.toggled:
			over = t.paused.Load()
		case <-ctx.Done():
			over = true
		}
	}
	if context.Cause(work) == nil {
		t.farewell(work, conn)
	}
	return nil
}

// Pause disconnects from the broker, or connects again. What is published
// meanwhile waits: here what is for the broker, there what it has for the
// gateway if the session is persistent. It is forgotten at a restart.
func (t *Task) Pause(on bool) {
	if t.paused.Swap(on) != on {
		notify(t.toggled)
	}
}

// lostOutputs are the retained messages to send again, to a broker that may
// have lost them. Those that wait in the queue anyway are not among them.
func (t *Task) lostOutputs(info ConnInfo) []Message {
	if info.SessionPresent {
		return nil
	}
	return t.outputs.all(func(m Message) bool { return !t.queue.holdsRetained(m.Topic) })
}

// filters are the subscriptions that a connection begins with.
func (t *Task) filters() []Filter {
	wanted := append(t.table.MQTTFilters(), t.calls.filters()...)
	if t.announcer != nil {
		wanted = append(wanted, t.announcer.filters()...)
	}
	if t.finder != nil {
		wanted = append(wanted, t.finder.filters()...)
	}
	return widestFilters(wanted)
}

// greet subscribes and says that the gateway is there. What is wrong but does
// not end the connection comes back as a warning.
func (t *Task) greet(ctx context.Context, conn Conn) (warning, err error) {
	if filters := t.filters(); len(filters) > 0 {
		ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
		defer cancel()
		err := conn.Subscribe(ctx, filters)
		var refused *SubscribeError
		switch {
		case errors.As(err, &refused):
			warning = err
		case err != nil:
			return nil, fmt.Errorf("subscribe at the broker: %w", err)
		}
	}
	if s := t.cfg.Status; s.Topic != "" {
		conn.Publish(Message{Topic: s.Topic, Payload: []byte(s.Online), QoS: 1, Retain: true})
	}
	return warning, nil
}

// farewell sends what is queued and says that the gateway has left.
func (t *Task) farewell(work context.Context, conn Conn) {
	t.queue.secure(time.Now()) // the process may not wait for the rest
	ctx, cancel := context.WithTimeout(work, drainTimeout)
	t.queue.drained(ctx)
	cancel()
	if s := t.cfg.Status; s.Topic != "" {
		token := conn.Publish(Message{Topic: s.Topic, Payload: []byte(s.Offline), QoS: 1, Retain: true})
		select {
		case <-token.Done():
		case <-time.After(farewellTimeout):
		}
	}
	ctx, cancel = context.WithTimeout(work, farewellTimeout)
	defer cancel()
	conn.Close(ctx)
}

// SubscribeError says that the broker refused some of the subscriptions.
type SubscribeError struct{ Refused []string }

// Error names them.
func (e *SubscribeError) Error() string {
	return fmt.Sprintf("the broker refused the subscriptions %q; check what its user may read", e.Refused)
}

// backoff is the wait between attempts.
type backoff struct {
	ReconnectConfig
	last time.Duration
}

func (b *backoff) reset() { b.last = 0 }

// next is twice the last wait, within the bounds, with its random part.
func (b *backoff) next() time.Duration {
	b.last = min(max(b.Min, 2*b.last), b.Max)
	random := time.Duration(b.Jitter * rand.Float64() * float64(b.last))
	return b.last - random
}

func (b *backoff) sleep(ctx context.Context) {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
