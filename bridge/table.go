package bridge

import (
	"errors"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
)

// Reason says why something did not cross. The zero Reason is that it did.
type Reason uint8

// The reasons, each a counter.
const (
	Mapped      Reason = iota
	NoMap              // no map matches
	BadTopic           // not a topic, or no URI can be made of it
	BadURI             // not a URI, or no topic can be made of it
	BadPayload         // cannot be read or written as the map says
	Offline            // QoS 0 while the broker is away
	QueueFull          // gave way in the queue, or did not fit
	Backlog            // arrived faster than the realm takes, at QoS 0
	Refused            // the realm did not take it
	Echo               // the bridge's own, come back
	Unchanged          // a retained message that was passed on before
	Stale              // a retained event that the map does not keep
	Overrun            // events that came faster than they could be queued
	Filtered           // held back by the map's filter
	Repeated           // a command whose id came before
	Expired            // waited for longer than the queue keeps it
	OverRate           // more than the map's rate allows
	Unreadable         // damaged on disk
	Looped             // went around in a circle that somebody else closes
	Purged             // dropped because somebody asked for it
	reasonCount = iota
)

var reasonNames = [reasonCount]string{
	"mapped", "no_map", "bad_topic", "bad_uri", "bad_payload", "offline", "queue_full",
	"backlog", "refused", "echo", "unchanged", "stale", "overrun", "filtered", "repeated", "expired", "over_rate", "unreadable", "looped", "purged",
}

// String is the reason's name in counters.
func (r Reason) String() string { return reasonNames[r] }

// Decision is what a table says of one message.
type Decision struct {
	Reason Reason
	// Map that matched, nil for NoMap and for names that are no names.
	Map *Map
	// Err says more, for BadTopic, BadURI and BadPayload.
	Err error
}

// Event is one WAMP publication to be made.
type Event struct {
	Topic   string
	Payload wamp.Payload
	Retain  bool
}

// Subscription is one WAMP subscription that a table needs.
type Subscription struct {
	Pattern string
	Match   wamp.Match
}

// Table is the mapping for one broker. Its only state is what the filters of its
// maps remember; it may be used by several goroutines.
type Table struct {
	rule    wamp.URIRule
	enc     wamp.Encoding
	in, out []*route
}

// maxLevels is how many levels fit on the stack; more are allocated.
const maxLevels = 24

// NewTable makes the table of one broker from those of maps that name it.
// Payloads of events are encoded with enc. The table is usable only when no
// problem is Fatal; all others are for people to read.
func NewTable(broker string, maps []Map, uris wamp.URIRule, enc wamp.Encoding) (*Table, []Problem) {
	t := &Table{rule: uris, enc: enc}
	var problems []Problem
	for i, m := range maps {
		if !m.isFor(broker) {
			continue
		}
		r, ps := compile(i, m, uris)
		problems = append(problems, ps...)
		if r == nil {
			continue
		}
		if m.Direction != Out {
			t.in = append(t.in, r)
		}
		if m.Direction != In {
			t.out = append(t.out, r)
		}
	}
	return t, append(problems, t.overlaps(broker)...)
}

// ToMQTT says what an event becomes. An event without arguments becomes an
// empty payload; retained, that clears. retained is the event's own flag.
func (t *Table) ToMQTT(uri string, p wamp.Payload, retained bool, now time.Time) (Message, Decision) {
	if wamp.Reserved(uri) {
		return Message{}, Decision{Reason: NoMap}
	}
	if !t.rule.ValidURI(uri) {
		return Message{}, Decision{Reason: BadURI, Err: errNoURI}
	}
	var cut [maxLevels]string
	var caps [maxCaptures]span
	components := appendCut(cut[:0], uri, '.')
	for _, r := range t.out {
		if !r.wamp.match(components, &caps) || r.excepts(components) {
			continue
		}
		topic, ok := t.topic(r, components, &caps)
		if !ok {
			return Message{}, Decision{Reason: BadURI, Map: &r.Map, Err: errNoTopicOfURI}
		}
		m := Message{Topic: topic, QoS: byte(r.QoS), Retain: r.retain(retained)}
		d := t.encode(r, &m, uri, p, now)
		return m, d
	}
	return Message{}, Decision{Reason: NoMap}
}

// encode fills in the payload, and asks the filter.
func (t *Table) encode(r *route, m *Message, uri string, p wamp.Payload, now time.Time) Decision {
	scope := expr.Scope{URI: uri, Topic: m.Topic, Now: now}
	if r.scoped {
		// The topic has the levels unescaped.
		scope.Capture = r.capturesOf(m.Topic, uri, alphabetOf(t.rule))
	}
	var err error
	if m.Payload, err = r.codec.encode(p, &scope); err != nil {
		return Decision{Reason: BadPayload, Map: &r.Map, Err: err}
	}
	if r.filter != nil {
		scope.Doc = map[string]any{"args": scope.Args, "kwargs": scope.KwArgs}
		if !r.filter.passes(uri, len(m.Payload) == 0, &scope) {
			return Decision{Reason: Filtered, Map: &r.Map}
		}
	}
	return Decision{Map: &r.Map}
}

// ToWAMP appends to dst the events that an MQTT message becomes: one, unless
// its map splits it, or the filter holds it back. An empty payload becomes an
// event without arguments; retained, that clears.
func (t *Table) ToWAMP(dst []Event, topic string, payload []byte, retained bool, now time.Time) ([]Event, Decision) {
	var caps [maxCaptures]span
	r, uri, d := t.findTopic(topic, &caps)
	if d.Reason != Mapped {
		return dst, d
	}
	scope := expr.Scope{Topic: topic, URI: uri, Now: now}
	if r.scoped {
		scope.Capture = r.capturesOf(topic, uri, alphabetOf(t.rule))
	}
	e := Event{Topic: uri, Retain: r.retain(retained)}
	if len(payload) == 0 {
		if r.Split != "" {
			return dst, d // what it would clear is not known
		}
		if r.filter != nil {
			r.filter.passes(uri, true, &scope)
		}
		return append(dst, e), d
	}
	args, kwargs, err := r.codec.read(payload, &scope)
	if err != nil {
		return dst, Decision{Reason: BadPayload, Map: &r.Map, Err: err}
	}
	if r.Split != "" {
		return t.split(dst, r, topic, &caps, args[0], e.Retain, &scope)
	}
	return t.append(dst, r, e, args, kwargs, &scope)
}

// append appends the event unless the filter holds it back.
func (t *Table) append(dst []Event, r *route, e Event, args wamp.List, kwargs wamp.Dict, scope *expr.Scope) ([]Event, Decision) {
	if r.filter != nil {
		scope.Value, scope.Args, scope.KwArgs = nil, args, kwargs
		if len(args) > 0 {
			scope.Value = args[0]
		}
		if !r.filter.passes(e.Topic, false, scope) {
			return dst, Decision{Reason: Filtered, Map: &r.Map}
		}
	}
	var err error
	if e.Payload, err = wamp.NewPayload(t.enc, args, kwargs); err != nil {
		return dst, Decision{Reason: BadPayload, Map: &r.Map, Err: err}
	}
	return append(dst, e), Decision{Map: &r.Map}
}

// takes reports whether a message on topic would cross to WAMP.
func (t *Table) takes(topic string) bool {
	if len(t.in) == 0 {
		return false
	}
	var caps [maxCaptures]span
	_, _, d := t.findTopic(topic, &caps)
	return d.Reason == Mapped
}

// findTopic finds the map that takes a topic, and the URI that it makes of it:
// none where it splits.
func (t *Table) findTopic(topic string, caps *[maxCaptures]span) (*route, string, Decision) {
	if !validTopic(topic) {
		return nil, "", Decision{Reason: BadTopic, Err: errNoTopic}
	}
	if len(topic) > wamp.MaxURI { // escaping never shortens
		return nil, "", Decision{Reason: BadTopic, Err: errLongTopic}
	}
	var cut, cutURI [maxLevels]string
	levels := appendCut(cut[:0], topic, '/')
	for _, r := range t.in {
		if !r.matchTopic(levels, caps) {
			continue
		}
		if r.Split != "" {
			return r, "", Decision{Map: &r.Map}
		}
		uri := t.uri(r, levels, caps)
		if !t.rule.ValidURI(uri) || wamp.Reserved(uri) {
			return nil, "", Decision{Reason: BadTopic, Map: &r.Map, Err: errNoURIOfTopic}
		}
		if len(r.except) > 0 && r.excepts(appendCut(cutURI[:0], uri, '.')) {
			continue
		}
		return r, uri, Decision{Map: &r.Map}
	}
	return nil, "", Decision{Reason: NoMap}
}

var (
	errNoURI        = errors.New("not a valid URI")
	errNoTopic      = errors.New("not a valid topic")
	errLongTopic    = errors.New("the topic is longer than a URI may be")
	errNoTopicOfURI = errors.New("no MQTT topic is written as this URI")
	errNoURIOfTopic = errors.New("no URI that may be published to can be made of this topic")
)

// topic builds the topic that the route makes of a URI's components.
func (t *Table) topic(r *route, components []string, caps *[maxCaptures]span) (string, bool) {
	a := alphabetOf(t.rule)
	var buf [256]byte
	b, ok := buf[:0], true
	for i, s := range r.mqtt.segs {
		if s.kind == literal {
			b = append(appendSep(b, i, '/'), s.text...)
			continue
		}
		for j := caps[s.slot].from; j < caps[s.slot].to; j++ {
			if b, ok = a.appendLevel(appendSep(b, i+j-caps[s.slot].from, '/'), components[j]); !ok {
				return "", false
			}
		}
	}
	topic := string(b)
	// A capture must not reach what only a spelled "$" does (MQTT 3.1.1, 4.7.2).
	if !validTopic(topic) || topic[0] == '$' && !spelledDollar(r.mqtt.segs[0]) {
		return "", false
	}
	return topic, true
}

// uri builds the URI that the route makes of a topic's levels.
func (t *Table) uri(r *route, levels []string, caps *[maxCaptures]span) string {
	a := alphabetOf(t.rule)
	var buf [256]byte
	b := buf[:0]
	for i, s := range r.wamp.segs {
		if s.kind == literal {
			b = append(appendSep(b, i, '.'), s.text...)
			continue
		}
		for j := caps[s.slot].from; j < caps[s.slot].to; j++ {
			b = a.appendComponent(appendSep(b, i+j-caps[s.slot].from, '.'), levels[j])
		}
	}
	return string(b)
}

func appendSep(b []byte, i int, sep byte) []byte {
	if i > 0 {
		b = append(b, sep)
	}
	return b
}
