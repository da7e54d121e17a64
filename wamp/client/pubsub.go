package client

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// eventOverhead is what an event without arguments counts against
// Config.EventBuffer, in bytes.
const eventOverhead = 256

// Publish publishes an event. Without Acknowledge it returns once the event is
// on its way; with it, when the router has taken it.
func (s *Session) Publish(ctx context.Context, topic string, args Args, kwargs KwArgs, opts ...PublishOption) error {
	l, err := s.current()
	if err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	p, err := wamp.NewPayload(l.codec, args, kwargs)
	if err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return l.publish(ctx, topic, p, opts)
}

// PublishPayload publishes arguments that are encoded already. In another
// serialization than the session's they are transcoded; when that cannot be,
// the error wraps a *codec.TranscodeError.
func (s *Session) PublishPayload(ctx context.Context, topic string, p wamp.Payload, opts ...PublishOption) error {
	l, err := s.current()
	if err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return l.publish(ctx, topic, p, opts)
}

func (l *link) publish(ctx context.Context, topic string, p wamp.Payload, opts []PublishOption) error {
	m := &wamp.Publish{Topic: topic, Payload: p}
	for _, opt := range opts {
		opt(&m.Options)
	}
	var err error
	if m.Options.Acknowledge {
		_, err = l.request(ctx, m, &m.Request, newPending(wamp.KindPublish))
	} else if err = l.lock(ctx); err == nil {
		err = l.push(m, &m.Request)
		l.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return nil
}

// Subscription is a subscription that Subscribe made; it survives reconnects.
// When the router revokes it, it is gone for good, and that is logged.
type Subscription struct {
	s       *Session
	key     topicKey
	options wamp.SubscribeOptions
	handler EventHandler

	// Guarded by the session's mutex.
	link   *link   // where it is in place, nil while it is nowhere
	id     wamp.ID // there
	kept   bool    // among those to be put back
	closed bool
}

// topicKey is what the router knows a subscription by: the same key means the
// same subscription.
type topicKey struct {
	topic string
	match wamp.Match
}

// Subscribe asks for the events of a topic, or of a pattern of topics. Its
// handler may be called before Subscribe returns. Several subscriptions to the
// same topic each get every event.
func (s *Session) Subscribe(ctx context.Context, topic string, h EventHandler, opts ...SubscribeOption) (*Subscription, error) {
	l, err := s.current()
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	sub := &Subscription{s: s, handler: h}
	for _, opt := range opts {
		opt(&sub.options)
	}
	sub.key = topicKey{topic, sub.options.Match.Normal()}
	m, id, p := sub.request(l)
	if _, err := l.request(ctx, m, id, p); err != nil {
		s.mu.Lock()
		sub.drop()
		s.mu.Unlock()
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	return sub, nil
}

// request implements standing.
func (sub *Subscription) request(l *link) (wamp.Message, *wamp.ID, *pending) {
	m := &wamp.Subscribe{Options: sub.options, Topic: sub.key.topic}
	p := newPending(wamp.KindSubscribe)
	p.topic = sub.key
	p.apply = func(m wamp.Message) {
		if m, ok := m.(*wamp.Subscribed); ok {
			sub.place(l, m.Subscription)
		}
	}
	return m, &m.Request, p
}

// place puts the subscription into l, or takes it back from the router when it
// has been dropped meanwhile.
func (sub *Subscription) place(l *link, id wamp.ID) {
	if sub.closed {
		l.unsubscribe(id, sub.key, nil)
		return
	}
	// The slice may be in the hands of the dispatcher: never change it.
	l.subs[id] = append(slices.Clip(l.subs[id]), sub)
	sub.link, sub.id = l, id
	if !sub.kept {
		sub.kept = true
		sub.s.subs = append(sub.s.subs, sub)
	}
}

// drop takes the subscription out of the session, and gives back a pending
// UNSUBSCRIBE when the router has to be told. The mutex must be held.
func (sub *Subscription) drop() (*link, *pending) {
	sub.closed = true
	sub.s.subs = remove(sub.s.subs, sub)
	l := sub.link
	if sub.link = nil; l == nil {
		return nil, nil
	}
	rest := remove(slices.Clone(l.subs[sub.id]), sub)
	if len(rest) > 0 {
		l.subs[sub.id] = rest
		return nil, nil
	}
	delete(l.subs, sub.id)
	p := newPending(wamp.KindUnsubscribe)
	if !l.unsubscribe(sub.id, sub.key, p) {
		return nil, nil
	}
	return l, p
}

// unsubscribe tells the router that nobody here wants the subscription, unless
// somebody does or is just asking for the same. The mutex must be held.
func (l *link) unsubscribe(id wamp.ID, key topicKey, p *pending) bool {
	if len(l.subs[id]) > 0 {
		return false
	}
	for _, other := range l.pending {
		if other.kind == wamp.KindSubscribe && other.topic == key {
			return false
		}
	}
	if p == nil {
		p = &pending{kind: wamp.KindUnsubscribe}
	}
	m := &wamp.Unsubscribe{Subscription: id}
	return l.ask(m, &m.Request, p) == nil
}

// Unsubscribe ends it. Events that came before are not handed out any more.
// Without a connection there is nothing to wait for: it is just not put back.
func (sub *Subscription) Unsubscribe(ctx context.Context) error {
	sub.s.mu.Lock()
	l, p := sub.drop()
	sub.s.mu.Unlock()
	if p == nil {
		return nil
	}
	if err := l.settleEnd(ctx, p); err != nil {
		return fmt.Errorf("unsubscribe from %q: %w", sub.key.topic, err)
	}
	return nil
}

// settleEnd waits for the answer to an UNSUBSCRIBE or UNREGISTER. The loss of
// the connection is as good an answer.
func (l *link) settleEnd(ctx context.Context, p *pending) error {
	_, err := l.await(ctx, p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.farewell {
		return nil
	}
	return err
}

// dead implements standing.
func (sub *Subscription) dead() bool { return sub.closed }

// name implements standing.
func (sub *Subscription) name() (kind, uri string) { return "subscription", sub.key.topic }

// revokedSubscription forgets what the router took away.
func (l *link) revokedSubscription(d wamp.RevokedDetails) {
	l.mu.Lock()
	subs := l.subs[d.Subscription]
	delete(l.subs, d.Subscription)
	for _, sub := range subs {
		sub.closed, sub.link = true, nil
		l.s.subs = remove(l.s.subs, sub)
	}
	l.mu.Unlock()
	for _, sub := range subs {
		l.s.cfg.Log.Warn("router revoked a subscription", "topic", sub.key.topic, "reason", d.Reason)
	}
}

// delivery is an event on its way to its handlers.
type delivery struct {
	event *wamp.Event
	to    []*Subscription
}

func (d *delivery) size() int { return d.event.Size() + eventOverhead }

// event queues an event for its handlers. One for an unknown subscription was
// under way when that was ended.
func (l *link) event(m *wamp.Event) {
	s := l.s
	l.mu.Lock()
	to := l.subs[m.Subscription]
	if len(to) == 0 {
		l.mu.Unlock()
		return
	}
	d := delivery{event: m, to: to}
	// One event alone always fits.
	if s.events.len() > 0 && s.buffered+d.size() > s.cfg.EventBuffer {
		s.dropped++
		s.dropping++
		first := s.dropping == 1
		l.mu.Unlock()
		if first {
			s.cfg.Log.Warn("events are dropped: their handler is too slow", "topic", to[0].key.topic, "waiting_bytes", s.cfg.EventBuffer)
		}
		return
	}
	s.buffered += d.size()
	s.events.push(d)
	s.arrived.Signal()
	l.mu.Unlock()
}

// deliverEvents is the goroutine that calls the event handlers. When the
// session ends by itself, what has come is still delivered.
func (s *Session) deliverEvents() {
	defer s.exit()
	for {
		s.mu.Lock()
		for s.events.len() == 0 && !s.ended && !s.discarded {
			s.arrived.Wait()
		}
		d, ok := s.events.pop()
		if !ok || s.discarded {
			s.events.drop()
			for !s.ended {
				s.arrived.Wait()
			}
			s.mu.Unlock()
			return
		}
		s.buffered -= d.size()
		var lost uint64
		if s.dropping > 0 && s.buffered <= s.cfg.EventBuffer/2 {
			lost, s.dropping = s.dropping, 0
		}
		s.mu.Unlock()
		if lost > 0 {
			s.cfg.Log.Warn("events were dropped", "count", lost)
		}
		s.deliver(d)
	}
}

// deliver hands one event to its handlers.
func (s *Session) deliver(d delivery) {
	args, kwargs, err := d.event.Values()
	if err != nil {
		s.cfg.Log.Warn("event does not decode", "topic", d.to[0].key.topic, "reason", err)
		return
	}
	e := &Event{
		Values: Values{args, kwargs}, Topic: d.event.Details.Topic, Publication: d.event.Publication,
		Details: d.event.Details, Payload: d.event.Payload,
	}
	if e.Topic == "" {
		e.Topic = d.to[0].key.topic
	}
	for _, sub := range d.to {
		s.mu.Lock()
		wanted := !sub.closed && !s.discarded
		s.mu.Unlock()
		if wanted {
			s.handleEvent(sub, e)
		}
	}
}

// handleEvent survives a handler that panics.
func (s *Session) handleEvent(sub *Subscription, e *Event) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("event handler panicked", "topic", e.Topic, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	sub.handler(e)
}
