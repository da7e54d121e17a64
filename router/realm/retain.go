package realm

import (
	"github.com/postern-iot/postern/wamp"
)

// retainedEvents holds the last event of each topic that was published with
// retain ("Event Retention"), bounded in number and bytes.
type retainedEvents struct {
	byTopic radix[publication]
	count   int
	bytes   int
}

// retainedOverhead is what one retained event costs beside its topic and
// payload, roughly.
const retainedOverhead = 512

func (p *publication) retainedSize() int {
	return retainedOverhead + len(p.topic) + p.payload.Size()
}

// retain keeps an event in place of the topic's last one. Two kinds of events
// are declined, as the specification allows: those beyond the limits, which
// also take the older event with them because it is no longer true, and those
// for listed receivers only, which leave the older one for everybody else. An
// event without arguments has nothing to keep: it clears the topic's entry, for
// which the specification has no other way.
func (r *Realm) retain(p *publication) {
	if p.to.lists != nil {
		r.stats.RetainDeclined++
		return
	}
	kept := &r.retained
	if n := kept.byTopic.find(p.topic); n != nil && n.entry != nil {
		kept.count--
		kept.bytes -= n.entry.retainedSize()
		kept.byTopic.remove(p.topic)
	}
	if empty(p.payload) {
		return
	}
	if kept.count >= r.cfg.Limits.Retained || kept.bytes+p.retainedSize() > r.cfg.Limits.RetainedBytes {
		r.stats.RetainDeclined++
		return
	}
	own := p.own()
	own.details.Retained = true
	kept.count++
	kept.bytes += own.retainedSize()
	kept.byTopic.put(own.topic, &own)
}

// empty reports whether a payload has no arguments: none at all, or a list and a
// dictionary without elements, as some clients send them.
func empty(p wamp.Payload) bool {
	const most = 16 // bytes: no codec needs as many for nothing
	if p.Size() == 0 || p.Size() > most {
		return p.Size() == 0
	}
	args, kwargs, err := p.Values()
	return err == nil && len(args) == 0 && len(kwargs) == 0
}

// sendRetained sends a new subscriber the retained events that it would have
// received had it been subscribed when they were published.
func (r *Realm) sendRetained(s *Session, sub *subscription) {
	start := sub.topic
	if sub.match == wamp.MatchWildcard {
		start = literalStart(sub.topic)
	}
	for _, p := range r.retained.byTopic.appendUnder(nil, start) {
		if !sub.match.Matches(sub.topic, p.topic) || !p.to.includes(s) || !s.role.allows(actionSubscribe, p.topic) {
			continue
		}
		r.send(s, p.event(sub))
		r.stats.Events++
	}
}
