package bridge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// RetainedLive is the key by which an EVENT's details say that the publisher
// asked for retention. WAMP itself tells only those who subscribe later; a
// router that has the key lets maps with retain: keep pass the flag on.
const RetainedLive = "x_retain"

// event handles one event of the realm: it only enqueues.
func (t *Task) event(e *client.Event) { t.eventBy(t.table, e) }

func (t *Task) eventBy(table *Table, e *client.Event) {
	defer func() {
		if v := recover(); v != nil {
			t.gauge.drop(BadPayload, 1, nil, e.Topic, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	m, d := table.ToMQTT(e.Topic, e.Payload, e.Details.Retained || wamp.AsBool(e.Details.Extra, RetainedLive), time.Now())
	switch {
	case d.Reason == NoMap:
		return // a subscription may cover more than the maps
	case d.Reason != Mapped:
		t.gauge.drop(d.Reason, 1, d.Map, e.Topic, d.Err)
		if d.Reason == BadPayload && d.Map.OnBadPayload == BadDeadLetter {
			t.deadLetter(deadLetter{URI: e.Topic, Map: d.Map.Name, Reason: d.Err.Error()})
		}
		return
	case e.Details.Retained && d.Map.Retain == RetainDrop:
		t.gauge.drop(Stale, 1, d.Map, e.Topic, nil)
		return
	}
	if m.Retain {
		// On a topic that devices publish to as well, the broker's value may be
		// newer than the gateway's: that one is not sent again.
		shared := t.table.takes(m.Topic)
		if shared {
			t.recall.note(m.Topic, m.Payload, int(t.conn.Load()))
		} else if t.outputs.set(m) && e.Details.Retained {
			t.gauge.drop(Unchanged, 1, d.Map, e.Topic, nil)
			return
		}
	}
	if t.circles != nil {
		t.circles.sent(t, e.Topic, e.Payload)
	}
	t.enqueue(m, d.Map)
}

var errLooped = errors.New("it has gone around in a circle, through something that carries messages between this broker and another one")

func (t *Task) enqueue(m Message, by *Map) {
	t.lost(t.queue.push(m, by, time.Now()), m.Topic)
}

// lost counts what a queue has dropped. topic is one of those concerned.
func (t *Task) lost(ls losses, topic string) {
	for _, l := range ls {
		t.gauge.drop(l.why, l.count, t.maps[l.lane], topic, l.err)
	}
}

// maxQoS2 bounds the messages of QoS 2 on their way: brokers end a connection
// with more than they allow, mosquitto with more than 20.
const maxQoS2 = 10

// flight is a message on its way to the broker.
type flight struct {
	sent
	token Token
	echo  *echo
}

// sender is the state of one connection's sending.
type sender struct {
	*Task
	conn    Conn
	gen     int
	noLocal bool
	window  []flight
	qos2    int
	done    []sent
}

// send takes from the queue and keeps the window full until ctx ends or the
// connection does not work.
func (t *Task) send(ctx context.Context, conn Conn, gen int) error {
	s := &sender{Task: t, conn: conn, gen: gen, noLocal: conn.Info().NoLocal}
	defer func() {
		for _, f := range s.window {
			t.echoes.acknowledged(f.echo, time.Now())
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := s.fill(ctx)
		var later <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			later = timer.C
		}
		var head <-chan struct{}
		if len(s.window) > 0 {
			head = s.window[0].token.Done()
		}
		select {
		case <-head:
			if past, err := s.acknowledged(); past || err != nil {
				return err
			}
		case <-t.queue.wake:
		case <-later:
		case <-ctx.Done():
			return nil
		}
	}
}

// fill sends until the window is full or nothing waits. It says when there may
// be more to send although nothing signals it; zero for no such time.
func (s *sender) fill(ctx context.Context) time.Duration {
	for len(s.window) < s.cfg.InFlight && s.qos2 < maxQoS2 && ctx.Err() == nil {
		m, wait, ok, lost := s.queue.take(s.gen, time.Now())
		s.lost(lost, m.Topic)
		if !ok {
			return wait
		}
		f := flight{sent: m}
		if m.QoS == 2 {
			s.qos2++
		}
		if !s.noLocal && s.table.takes(m.Topic) {
			f.echo = s.echoes.sent(m.Message)
		}
		f.token = s.conn.Publish(m.Message)
		f.Payload = nil // the client has it
		s.window = append(s.window, f)
	}
	return 0
}

// acknowledged takes everything off the window that the broker has
// acknowledged, with all before it, in one go: what is done is written once for
// all of them, and before anything else is sent, so that the end of the process
// repeats no more than a window.
func (s *sender) acknowledged() (past bool, err error) {
	s.done = s.done[:0]
	n, now := 0, time.Now()
	for n < len(s.window) && finished(s.window[n].token) {
		f := &s.window[n]
		if err = f.token.Error(); err != nil {
			err = fmt.Errorf("publish at the broker: %w", err)
			break
		}
		s.echoes.acknowledged(f.echo, now)
		if f.QoS == 2 {
			s.qos2--
		}
		s.done = append(s.done, f.sent)
		n++
	}
	past = !s.queue.ack(s.gen, s.done)
	if !past {
		s.gauge.out.Add(uint64(len(s.done)))
	}
	clear(s.window[:n])
	s.window = s.window[n:]
	return past, err
}

func finished(t Token) bool {
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}

// receive is called by the adapter: it only enqueues.
func (t *Task) receive(r Received) error {
	if t.calls.arrived(r) {
		if r.Ack == nil {
			return nil
		}
		r.command = true // acknowledged in its turn
	}
	if t.announcer != nil && !r.command && t.announcer.arrived(r) && r.Ack == nil && !t.table.takes(r.Topic) && t.finder == nil {
		return nil
	}
	if err := t.inbox.push(r); err != nil {
		t.gauge.drop(Backlog, 1, nil, r.Topic, err)
		return err
	}
	return nil
}

// publishArrived publishes what arrived, in order, until ctx ends.
func (t *Task) publishArrived(ctx context.Context, sess session) {
	var items []Received
	for {
		select {
		case <-t.inbox.wake:
		case <-ctx.Done():
			return
		}
		items = t.inbox.takeAll(items)
		for i := range items {
			r := &items[i]
			if t.deliver(ctx, sess, r) && r.Ack != nil {
				r.Ack()
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// deliver publishes one message. False means that it must not be acknowledged:
// the realm did not get it, and will when the broker sends it again.
func (t *Task) deliver(ctx context.Context, sess session, r *Received) bool {
	if r.command {
		return true
	}
	if !t.noLocal.Load() && t.echoes.swallow(r.Topic, r.Payload, time.Now()) {
		t.gauge.drop(Echo, 1, nil, r.Topic, nil)
		return true
	}
	found := t.finder != nil && t.finder.take(ctx, sess, r)
	events, d := t.table.ToWAMP(nil, r.Topic, r.Payload, r.Retained, time.Now())
	if d.Reason == NoMap && found {
		return true
	}
	if d.Reason != Mapped {
		t.gauge.drop(d.Reason, 1, d.Map, r.Topic, d.Err)
		if d.Reason == BadPayload {
			t.reject(r, d.Map, d.Err)
		}
		return true
	}
	if l := t.inRates[d.Map.Name]; l != nil && l.take(time.Now()) > 0 {
		t.gauge.drop(OverRate, 1, d.Map, r.Topic, nil)
		return true
	}
	// A retained message that waits for this broker is newer than what the
	// broker still holds.
	if r.Retained && (t.recall.repeated(r.Topic, r.Payload, int(t.conn.Load())) || t.queue.holdsRetained(r.Topic)) {
		t.gauge.drop(Unchanged, 1, d.Map, r.Topic, nil)
		return true
	}
	for _, e := range events {
		if t.circles != nil && t.circles.came(t, e.Topic, e.Payload, time.Now()) {
			t.gauge.drop(Looped, 1, d.Map, r.Topic, errLooped)
			continue
		}
		err := t.publish(ctx, sess, e, r.QoS > 0)
		if err == nil {
			t.gauge.passed(d.Map)
			continue
		}
		if ctx.Err() != nil && r.QoS > 0 {
			return false
		}
		t.gauge.drop(Refused, 1, d.Map, r.Topic, err)
		t.reject(r, d.Map, err)
	}
	return true
}

// publish hands an event to the realm. When it must arrive, a session that is
// away is waited for; an error is then the realm's own, or ctx has ended.
func (t *Task) publish(ctx context.Context, sess session, e Event, must bool) error {
	var opts []client.PublishOption
	if e.Retain {
		opts = append(opts, client.Retain())
	}
	if !must {
		return sess.PublishPayload(ctx, e.Topic, e.Payload, opts...)
	}
	opts = append(opts, client.Acknowledge())
	wait := backoff{ReconnectConfig: ReconnectConfig{Min: retryTaking, Max: takenTimeout}}
	for failures := 0; ; {
		attempt, cancel := context.WithTimeout(ctx, takenTimeout)
		err := sess.PublishPayload(attempt, e.Topic, e.Payload, opts...)
		cancel()
		var refused *wamp.Error
		var inexpressible *codec.TranscodeError
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) || errors.As(err, &inexpressible) {
			return err
		}
		// A message that ends the connection each time must not do so for ever.
		if !errors.Is(err, client.ErrNotConnected) {
			if failures++; failures == maxTakings {
				return err
			}
		}
		t.log.Debug("the realm is away; a message waits", "error", err)
		wait.sleep(ctx)
	}
}

func (t *Task) reject(r *Received, m *Map, err error) {
	if m.OnBadPayload == BadDeadLetter {
		t.deadLetter(deadLetter{
			Topic: r.Topic, Map: m.Name, Reason: err.Error(),
			Payload: base64.StdEncoding.EncodeToString(r.Payload),
		})
	}
}

// deadLetter is what goes to the dead-letter topic, as JSON.
type deadLetter struct {
	Topic   string `json:"topic,omitempty"` // where it came from, or
	URI     string `json:"uri,omitempty"`
	Map     string `json:"map"`
	Reason  string `json:"reason"`
	Payload string `json:"payload,omitempty"` // base64
	Time    string `json:"time"`
}

func (t *Task) deadLetter(d deadLetter) {
	d.Time = time.Now().UTC().Format(time.RFC3339Nano)
	t.gauge.letter(d)
	b, err := json.Marshal(d)
	if err != nil || t.cfg.DeadLetter == "" {
		return // counted already; strings always marshal
	}
	t.enqueue(Message{Topic: t.cfg.DeadLetter, Payload: b, QoS: 1}, nil)
}
