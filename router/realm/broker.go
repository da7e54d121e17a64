package realm

import (
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// ErrLimitExceeded answers a request that would take a session or the realm
// over one of its Limits. The specification has no URI for that.
const ErrLimitExceeded = "postern.error.limit_exceeded"

// subscription is one topic or pattern with everybody who subscribed to it:
// they share its ID, and the EVENTs.
type subscription struct {
	id      wamp.ID
	topic   string
	match   wamp.Match
	created Time
	members []*member
	nodes   int      // members that gave a node key
	history *history // nil when none is kept
}

// member is a session in a subscription; at is its place in members.
type member struct {
	session *Session
	of      *subscription
	at      int
	node    string // its node key, see shard.go
}

func (r *Realm) subscribe(s *Session, m *wamp.Subscribe) {
	match := m.Options.Match.Normal()
	fault := r.checkURI(m.Topic, match)
	if fault == nil {
		_, fault = r.authorize(s, actionSubscribe, m.Topic, match)
	}
	if fault == errWait {
		return
	}
	sub := r.subscriptions.get(match, m.Topic)
	already := sub != nil && s.subscriptions[sub.id] != nil
	if fault == nil && !already && len(s.subscriptions) >= r.cfg.Limits.Subscriptions {
		fault = r.overLimit("the session has %d subscriptions, which is the limit", len(s.subscriptions))
	}
	if fault != nil {
		r.refuse(s, wamp.KindSubscribe, m.Request, fault)
		return
	}
	if sub == nil {
		sub = r.newSubscription(match, m.Topic)
	}
	mem := s.subscriptions[sub.id]
	if mem == nil {
		mem = &member{session: s, of: sub, at: len(sub.members)}
		sub.members = append(sub.members, mem)
		if s.subscriptions == nil {
			s.subscriptions = map[wamp.ID]*member{}
		}
		s.subscriptions[sub.id] = mem
	}
	mem.setNode(m.Options.NKey) // who subscribes again changes it
	r.send(s, &wamp.Subscribed{Request: m.Request, Subscription: sub.id})
	if m.Options.GetRetained {
		r.sendRetained(s, sub)
	}
	if !already {
		r.announceMember(s.subscriptions[sub.id])
	}
}

func (r *Realm) newSubscription(match wamp.Match, topic string) *subscription {
	r.lastSubscription++
	sub := &subscription{id: r.lastSubscription, topic: topic, match: match, created: r.wall()}
	r.subscriptions.put(match, topic, sub)
	r.subscriptionByID[sub.id] = sub
	r.stats.Subscriptions++
	return sub
}

func (r *Realm) unsubscribe(s *Session, m *wamp.Unsubscribe) {
	mem := s.subscriptions[m.Subscription]
	if mem == nil {
		r.refuse(s, wamp.KindUnsubscribe, m.Request,
			wamp.Errorf(wamp.ErrNoSuchSubscription, "the session has no subscription %d", m.Subscription))
		return
	}
	r.send(s, &wamp.Unsubscribed{Request: m.Request})
	r.dropMember(mem)
}

func (r *Realm) dropMember(mem *member) {
	sub := mem.of
	delete(mem.session.subscriptions, sub.id)
	mem.setNode("")
	last := len(sub.members) - 1
	moved := sub.members[last]
	sub.members[mem.at], moved.at = moved, mem.at
	sub.members[last] = nil
	sub.members = sub.members[:last]
	if last == 0 && sub.history == nil {
		r.subscriptions.remove(sub.match, sub.topic)
		delete(r.subscriptionByID, sub.id)
		r.stats.Subscriptions--
	}
	r.announceNoMember(mem)
}

// mayPublish says why a session may not publish, and whether subscribers learn
// who it is.
func (r *Realm) mayPublish(s *Session, m *wamp.Publish) (disclose bool, fault *wamp.Error) {
	if fault := r.checkURI(m.Topic, wamp.MatchExact); fault != nil {
		return false, fault
	}
	if wamp.Reserved(m.Topic) {
		return false, wamp.Errorf(wamp.ErrInvalidURI, "%q is reserved for the router", clip(m.Topic))
	}
	if n := len(m.Options.RKey) + passthruSize(&m.Options.PPT); n > wamp.MaxURI {
		return false, wamp.Errorf(wamp.ErrInvalidArgument, "rkey and the ppt options have %d bytes, which is more than %d", n, wamp.MaxURI)
	}
	g, fault := r.authorize(s, actionPublish, m.Topic, wamp.MatchExact)
	if fault != nil {
		return false, fault
	}
	return r.discloses(s, m.Options.DiscloseMe, g)
}

func (r *Realm) publish(s *Session, m *wamp.Publish) {
	disclose, fault := r.mayPublish(s, m)
	if fault != nil {
		if m.Options.Acknowledge && fault != errWait {
			r.refuse(s, wamp.KindPublish, m.Request, fault)
		}
		return
	}
	p := publication{
		id: r.cfg.NewID(), topic: m.Topic, payload: m.Payload,
		details: wamp.EventDetails{PPT: m.Options.PPT, TrustLevel: s.role.trustLevel},
		to:      newAudience(s, &m.Options),
		rkey:    m.Options.RKey,
	}
	if disclose {
		p.details.Publisher = s.ID
		p.details.PublisherAuthID = s.Identity.AuthID
		p.details.PublisherAuthRole = s.Identity.AuthRole
	}
	if m.Options.Retain {
		p.details.Extra = retainedLive
	}
	r.stats.Publications++
	if m.Options.Acknowledge {
		r.send(s, &wamp.Published{Request: m.Request, Publication: p.id})
	}
	r.matchedSubs = r.subscriptions.appendMatches(r.matchedSubs[:0], m.Topic)
	for _, sub := range r.matchedSubs {
		r.dispatch(&p, sub)
	}
	r.record(&p, r.matchedSubs)
	clear(r.matchedSubs)
	if m.Options.Retain {
		r.retain(&p)
	}
}

// retainedLive tells who receives an event at once that it is also retained.
// The specification tells only those who come later (details.retained); a
// bridge to a protocol whose messages carry the flag has to know it now.
var retainedLive = wamp.Dict{"x_retain": true}

// publication is one event on its way to its subscribers.
type publication struct {
	id      wamp.ID
	topic   string
	payload wamp.Payload
	details wamp.EventDetails // but for what differs between subscriptions
	to      audience
	rkey    string // its resource, see shard.go
}

// event makes the EVENT of one subscription.
func (p *publication) event(sub *subscription) *wamp.Event {
	e := &wamp.Event{Subscription: sub.id, Publication: p.id, Details: p.details, Payload: p.payload}
	if sub.match != wamp.MatchExact {
		e.Details.Topic = p.topic
	}
	return e
}

// dispatch sends one EVENT, the same for all, to the members of a subscription.
// Who subscribed to a pattern may have no right to each topic in it, so that is
// asked here, once for each run of members with the same role.
func (r *Realm) dispatch(p *publication, sub *subscription) {
	var event *wamp.Event
	var asked *role
	known := false
	granted := sub.match == wamp.MatchExact
	node := sub.shard(p.rkey)
	for _, mem := range sub.members {
		to := mem.session
		if node != "" && mem.node != "" && mem.node != node {
			continue
		}
		if sub.match != wamp.MatchExact && (!known || to.role != asked) {
			asked, known = to.role, true
			granted = asked.allows(actionSubscribe, p.topic)
		}
		if !granted || to.state != joined || !p.to.includes(to) {
			continue
		}
		if event == nil {
			event = p.event(sub)
		}
		r.send(to, event)
		r.stats.Events++
	}
}

// audience is who may receive an event.
type audience struct {
	// without is the publisher's session, 0 when it wants its own event
	// ("Publisher Exclusion").
	without wamp.ID
	// lists are nil when the publisher gave none.
	lists *lists
}

func (a *audience) includes(s *Session) bool {
	return s.ID != a.without && (a.lists == nil || a.lists.include(s))
}

func newAudience(publisher *Session, o *wamp.PublishOptions) audience {
	var a audience
	if o.ExcludeMe == nil || *o.ExcludeMe {
		a.without = publisher.ID
	}
	if o.Eligible != nil || o.EligibleAuthID != nil || o.EligibleAuthRole != nil ||
		len(o.Exclude) > 0 || len(o.ExcludeAuthID) > 0 || len(o.ExcludeAuthRole) > 0 {
		a.lists = &lists{
			eligible:         newList(o.Eligible),
			eligibleAuthID:   newList(o.EligibleAuthID),
			eligibleAuthRole: newList(o.EligibleAuthRole),
			exclude:          newList(o.Exclude),
			excludeAuthID:    newList(o.ExcludeAuthID),
			excludeAuthRole:  newList(o.ExcludeAuthRole),
		}
	}
	return a
}

// lists are the six of "Subscriber Black- and Whitelisting": a receiver is on
// each eligible list that was given, the empty one included, and on no exclude
// list.
type lists struct {
	eligible, exclude                 list[wamp.ID]
	eligibleAuthID, excludeAuthID     list[string]
	eligibleAuthRole, excludeAuthRole list[string]
}

func (l *lists) include(s *Session) bool {
	return (!l.eligible.given || l.eligible.has(s.ID)) &&
		(!l.eligibleAuthID.given || l.eligibleAuthID.has(s.Identity.AuthID)) &&
		(!l.eligibleAuthRole.given || l.eligibleAuthRole.has(s.Identity.AuthRole)) &&
		!l.exclude.has(s.ID) && !l.excludeAuthID.has(s.Identity.AuthID) && !l.excludeAuthRole.has(s.Identity.AuthRole)
}

// list is a list that a peer sent, as a set when it is long: every subscriber
// is looked up in it.
type list[T comparable] struct {
	given bool
	few   []T
	many  map[T]struct{}
}

func newList[T comparable](values []T) list[T] {
	l := list[T]{given: values != nil, few: values}
	if len(values) > 16 {
		l.many = make(map[T]struct{}, len(values))
		for _, v := range values {
			l.many[v] = struct{}{}
		}
	}
	return l
}

func (l *list[T]) has(v T) bool {
	if l.many != nil {
		_, there := l.many[v]
		return there
	}
	return slices.Contains(l.few, v)
}
