package realm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// History says which events a realm keeps ("Event History"): those that a
// subscription to the URI or pattern would receive. That subscription is there
// from the beginning, without subscribers, and stays.
type History struct {
	URI   string
	Match wamp.Match
	// Events and Bytes bound what is kept; the oldest events go first. Zero
	// means the defaults.
	Events int // 1,000
	Bytes  int // of topics, arguments and roughly what each event costs; 1 MiB
	// Age is how long an event is kept at most; 0 for as long as there is room.
	Age Time
	// Disk wants the events written down for the next start: see TakeChanges.
	Disk bool
}

const (
	historyEvents = 1000
	historyBytes  = 1 << 20
)

// history holds the events of one subscription.
type history struct {
	of     *subscription
	events []*record // a ring, in which the oldest is at first
	first  int
	most   int // events
	bytes  int
	limit  int // bytes
	age    Time
	disk   bool
}

// record is an event that is kept. Several histories may share it.
type record struct {
	publication
	at     Time // by the wall clock
	size   int
	seq    uint64 // on disk
	onDisk int    // histories on disk that have it
}

func (r *Realm) newHistory(c History) error {
	match := c.Match.Normal()
	if !wamp.LooseURIs.ValidPattern(c.URI, match) {
		return fmt.Errorf("realm %q: history of %q is not a valid pattern for match policy %q", r.cfg.Name, c.URI, match)
	}
	if r.subscriptions.get(match, c.URI) != nil {
		return fmt.Errorf("realm %q: history of %q (%s) is there twice", r.cfg.Name, c.URI, match)
	}
	sub := r.newSubscription(match, c.URI)
	sub.history = &history{of: sub, most: c.Events, limit: c.Bytes, age: max(0, c.Age), disk: c.Disk}
	if c.Events <= 0 {
		sub.history.most = historyEvents
	}
	if c.Bytes <= 0 {
		sub.history.limit = historyBytes
	}
	r.histories = append(r.histories, sub.history)
	return nil
}

// record keeps an event in the histories among the subscriptions that matched
// it. Events that were addressed to or kept from sessions, which are not the same
// ones later, are not kept, as the specification has it. That publishers do not
// receive their own events is no such thing: it holds for live events.
func (r *Realm) record(p *publication, matched []*subscription) {
	if len(r.histories) == 0 || p.to.ephemeral() {
		return
	}
	var rec *record
	for _, sub := range matched {
		if sub.history == nil {
			continue
		}
		if rec == nil {
			rec = &record{publication: p.own(), at: r.wall()}
			rec.to.without = 0
			rec.size = p.retainedSize()
			r.lastKept++
			rec.seq = r.lastKept
		}
		r.preserve(sub.history, rec)
	}
	if rec != nil && rec.onDisk > 0 {
		r.changes = append(r.changes, HistoryChange{Kept: rec.kept()})
	}
}

// add appends an event; there is room for it.
func (h *history) add(rec *record) {
	// What is left moves to the front when half of the array is free, so that
	// an event is moved once at most for each that is added.
	if h.first > 0 && h.first >= len(h.events)-h.first {
		n := copy(h.events, h.events[h.first:])
		clear(h.events[n:])
		h.events, h.first = h.events[:n], 0
	}
	h.events = append(h.events, rec)
	h.bytes += rec.size
}

// kept are the events, oldest first.
func (h *history) kept() []*record { return h.events[h.first:] }

// historyFor finds the history that has all events of a subscription: its own,
// or that of a pattern which covers it.
func (r *Realm) historyFor(sub *subscription) *history {
	if sub.history != nil {
		return sub.history
	}
	for _, h := range r.histories {
		if covers(&Permission{URI: h.of.topic, Match: h.of.match}, sub.topic, sub.match) ||
			sub.match == wamp.MatchExact && h.of.match.Matches(h.of.topic, sub.topic) {
			return h
		}
	}
	return nil
}

// own is the event without anything of the frame that brought it, which would
// otherwise stay in memory with it.
func (p *publication) own() publication {
	own := *p
	own.topic = strings.Clone(p.topic)
	own.payload.Args, own.payload.KwArgs = bytes.Clone(p.payload.Args), bytes.Clone(p.payload.KwArgs)
	own.details.Extra = nil
	return own
}

// ephemeral reports whether an audience names sessions.
func (a *audience) ephemeral() bool {
	return a.lists != nil && (a.lists.eligible.given || len(a.lists.exclude.few) > 0)
}

// errHistoryUnavailable is Crossbar.io's URI; the specification has none.
const errHistoryUnavailable = "wamp.error.history_unavailable"

// historyAnswer bounds one answer in bytes of what is kept. It carries at least
// one event.
const historyAnswer = 256 << 10

// subscriptionGetEvents is wamp.subscription.get_events. With the rights of now, the caller
// gets what its role may subscribe to, and what its authid and authrole were not
// kept from. The events are the arguments of the result; is_limit_reached among
// its keyword arguments says that there are more.
func (r *Realm) subscriptionGetEvents(c *metaCall) (wamp.List, *wamp.Error) {
	s := c.caller
	sub, fault := r.subscriptionOf(c)
	if fault == nil {
		_, fault = r.authorize(s, actionSubscribe, sub.topic, sub.match)
	}
	if fault != nil {
		return nil, fault
	}
	h := r.historyFor(sub)
	if h == nil {
		return nil, wamp.Errorf(errHistoryUnavailable, "no history is kept for subscription %d", sub.id)
	}
	r.expire(h)
	q, fault := newHistoryQuery(c.kwargs, h.kept())
	if fault != nil {
		return nil, fault
	}
	found := h.kept()[q.from:max(q.from, q.to)]
	if q.reverse {
		found = slices.Clone(found)
		slices.Reverse(found)
	}
	events, size := wamp.List{}, 0
	allowed := map[string]bool{}
	for _, rec := range found {
		may, asked := allowed[rec.topic]
		if !asked {
			may = sub.match.Matches(sub.topic, rec.topic) && s.role.allows(actionSubscribe, rec.topic)
			allowed[rec.topic] = may
		}
		if !may || !q.includes(rec) || !rec.to.includes(s) {
			continue
		}
		if len(events) == q.limit || len(events) > 0 && size+rec.size > historyAnswer {
			c.about = wamp.Dict{"is_limit_reached": true}
			return events, nil
		}
		event, err := rec.dict(sub)
		if err != nil {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "event %d: %v", rec.id, err)
		}
		events, size = append(events, event), size+rec.size
	}
	c.about = wamp.Dict{"is_limit_reached": false}
	return events, nil
}

// dict is the event as the history's answer has it.
func (rec *record) dict(sub *subscription) (wamp.Dict, error) {
	args, kwargs, err := rec.payload.Values()
	if err != nil {
		return nil, err
	}
	d := wamp.Dict{
		"timestamp":    rec.at.iso8601(),
		"subscription": sub.id,
		"publication":  rec.id,
		"details":      rec.detailsDict(sub),
	}
	if args != nil {
		d["args"] = args
	}
	if kwargs != nil {
		d["kwargs"] = kwargs
	}
	return d, nil
}

func (p *publication) detailsDict(sub *subscription) wamp.Dict {
	d := wamp.Dict{}
	e := &p.details
	if sub.match != wamp.MatchExact {
		d["topic"] = p.topic
	}
	if e.Publisher != 0 {
		d["publisher"] = e.Publisher
	}
	if e.TrustLevel != nil {
		d["trustlevel"] = *e.TrustLevel
	}
	for key, v := range map[string]string{
		"publisher_authid": e.PublisherAuthID, "publisher_authrole": e.PublisherAuthRole,
		"ppt_scheme": e.PPT.Scheme, "ppt_serializer": e.PPT.Serializer,
		"ppt_cipher": e.PPT.Cipher, "ppt_keyid": e.PPT.KeyID,
	} {
		if v != "" {
			d[key] = v
		}
	}
	return d
}
