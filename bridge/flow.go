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
func (t *Task) event(e *client.Event) {
	defer func() {
		if v := recover(); v != nil {
			t.gauge.drop(BadPayload, 1, nil, e.Topic, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	m, d := t.table.ToMQTT(e.Topic, e.Payload, e.Details.Retained || wamp.AsBool(e.Details.Extra, RetainedLive), time.Now())
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
	t.enqueue(m, d.Map)
}

func (t *Task) enqueue(m Message, by *Map) {
	n, why := t.queue.push(m)
	t.gauge.drop(why, n, by, m.Topic, nil)
}

// maxQoS2 bounds the messages of QoS 2 on their way: brokers end a connection
// with more than they allow, mosquitto with more than 20.
const maxQoS2 = 10

// flight is a message on its way to the broker.
type flight struct {
	token Token
	echo  *echo
	qos2  bool
}

// send takes from the queue and keeps the window full until ctx ends or the
// connection does not work.
func (t *Task) send(ctx context.Context, conn Conn, gen int) error {
	noLocal := conn.Info().NoLocal
	var window []flight
	qos2 := 0
	defer func() {
		for _, f := range window {
			t.echoes.acknowledged(f.echo, time.Now())
		}
	}()
	for {
		for len(window) < t.cfg.InFlight && qos2 < maxQoS2 && ctx.Err() == nil {
			m, ok := t.queue.take(gen)
			if !ok {
				break
			}
			f := flight{qos2: m.QoS == 2}
			if f.qos2 {
				qos2++
			}
			if !noLocal && t.table.takes(m.Topic) {
				f.echo = t.echoes.sent(m)
			}
			f.token = conn.Publish(m)
			window = append(window, f)
		}
		var head <-chan struct{}
		if len(window) > 0 {
			head = window[0].token.Done()
		}
		select {
		case <-head:
			if err := window[0].token.Error(); err != nil {
				return fmt.Errorf("publish at the broker: %w", err)
			}
			t.echoes.acknowledged(window[0].echo, time.Now())
			if !t.queue.ack(gen) {
				return nil
			}
			t.gauge.out.Add(1)
			if window[0].qos2 {
				qos2--
			}
			window = window[1:]
		case <-t.queue.wake:
		case <-ctx.Done():
			return nil
		}
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
	events, d := t.table.ToWAMP(nil, r.Topic, r.Payload, r.Retained, time.Now())
	if d.Reason != Mapped {
		t.gauge.drop(d.Reason, 1, d.Map, r.Topic, d.Err)
		if d.Reason == BadPayload {
			t.reject(r, d.Map, d.Err)
		}
		return true
	}
	// A retained message that waits for this broker is newer than what the
	// broker still holds.
	if r.Retained && (t.recall.repeated(r.Topic, r.Payload, int(t.conn.Load())) || t.queue.holdsRetained(r.Topic)) {
		t.gauge.drop(Unchanged, 1, d.Map, r.Topic, nil)
		return true
	}
	for _, e := range events {
		err := t.publish(ctx, sess, e, r.QoS > 0)
		if err == nil {
			t.gauge.in.Add(1)
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
	b, err := json.Marshal(d)
	if err != nil || t.cfg.DeadLetter == "" {
		return // counted already; strings always marshal
	}
	t.enqueue(Message{Topic: t.cfg.DeadLetter, Payload: b, QoS: 1}, nil)
}
