// Package realm is a WAMP realm as a pure state machine: broker, dealer,
// matching and permissions. Messages go in through Step, and what must be sent
// comes out as effects, in order; nothing is done here. The package has no
// goroutine, clock, lock, random source or I/O: times and IDs come in as
// arguments, and the caller (package router) serialises all calls with one
// mutex per realm. See docs/architecture.md.
//
// session.go holds who is a member and how sessions begin and end, broker.go
// publish and subscribe, testament.go what sessions leave, retain.go retained events, history.go those that can be
// asked for, history_kept.go what of them is on disk, shard.go who of several has a resource, registration.go who provides which procedure, dealer.go the way of
// a call to its callee and back, invocation.go what a callee has to answer,
// passthru.go payloads that are carried unseen,
// timeout.go until when, stream.go calls that come in parts, reroute.go those
// that a callee passes on, permission.go what roles may do,
// authorizer.go what others decide about that, revoke.go what they
// may no longer, meta.go and its neighbours the router's own procedures and
// events, match.go the index of topics and patterns
// that all of them share. What happens is specified by the transcripts in
// testdata. The package is larger than most because these parts share the
// sessions' state, and taking them apart would only export it.
//
// Where the text is a sketch ("Sharded Registration"), it is read like this. The
// callees of a shared registration are its shards, each with the node key that it
// gave as REGISTER.Options.nkey. A call with runmode "partition" goes to the one
// shard that has CALL.Options.rkey, whatever the invocation policy; which one
// that is follows from the keys alone (see registration.shard). If that shard is
// busy or unavailable, the call fails: the others do not have the resource.
// runmode "all", of which the text says "Write me", is not supported.
// "Sharded Subscription" is read in the same way: of the subscribers that gave a
// node key (SUBSCRIBE.Options.nkey), an event with PUBLISH.Options.rkey goes only
// to those with the one key that has the resource, so that several sessions of one
// node all get it; subscribers without a node key get every event. It is announced
// as sharded_subscription, and as the text spells it.
package realm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Time is a moment in nanoseconds since the Unix epoch, by a clock that does not
// jump, or a span between two.
type Time int64

// Effect is something that the caller of a Realm must do.
type Effect struct {
	// To is the session that it concerns.
	To *Session
	// Msg is what to send it; nil for nothing. Effects that follow each other
	// and carry the same pointer are one message to many sessions, so that the
	// caller can encode it once.
	Msg wamp.Message
	// End says that the session is no longer a member: after what has been sent
	// to it is flushed, its connection is to be closed.
	End bool
}

// Identity is who a session is; only an authenticator makes one.
type Identity struct {
	AuthID       string
	AuthRole     string
	AuthMethod   string
	AuthProvider string
	// AuthExtra is WELCOME's authextra, and told to nobody else.
	AuthExtra wamp.Dict
}

// Config is what a realm needs to know.
type Config struct {
	Name string
	// Agent names the router in WELCOME; empty leaves it out.
	Agent string
	// Encoding encodes the payloads that the realm itself makes.
	Encoding wamp.Encoding
	// NewID draws a random ID in [1, 2^53], for sessions and publications.
	NewID func() wamp.ID
	// Wall says what people's clocks show at a time that a realm is told, for
	// timestamps; nil where that is the same. The times themselves are of a clock
	// that nobody sets.
	Wall       func(now Time) Time
	URIs       wamp.URIRule
	RequestIDs RequestIDs
	Roles      []Role
	Limits     Limits
	History    []History
	Timeouts   Timeouts
}

// RequestIDs says which request IDs a session may use in SUBSCRIBE,
// UNSUBSCRIBE, PUBLISH, REGISTER, UNREGISTER and CALL. A request that breaks
// the rule is a protocol violation.
type RequestIDs uint8

const (
	// AnyRequestIDs accepts every valid ID that is not the ID of a call still
	// pending. It is the default: a client that draws an ID and then sends,
	// without a lock around the two, is out of sequence as soon as two goroutines
	// use it (nexus's does that), and older clients draw IDs at random. Both
	// would be cut off, at random moments, by anything stricter. Of autobahn-js
	// 26.3, autobahn-python 22.7 and wampy 8.0, requests made one after the other
	// were seen to keep to the strictest rule; more than that was not tried.
	AnyRequestIDs RequestIDs = iota
	// AscendingRequestIDs wants each ID to be larger than those before.
	AscendingRequestIDs
	// SequentialRequestIDs is the text of the basic profile: from 1, by 1.
	SequentialRequestIDs
)

// Limits bounds what a realm holds. Zero fields mean the defaults.
type Limits struct {
	Subscriptions int // per session; default 20,000
	Registrations int // per session; default 20,000
	PendingCalls  int // per caller; default 10,000
	Retained      int // retained events in all; default 10,000
	RetainedBytes int // their topics and payloads; default 16 MiB

	Testaments     int // per session; default 100
	TestamentBytes int // per session, of topics, payloads and roughly what each costs; default 128 KiB
}

// DefaultLimits are the limits that a zero Limits stands for.
var DefaultLimits = Limits{
	Subscriptions: 20_000, Registrations: 20_000, PendingCalls: 10_000,
	Retained: 10_000, RetainedBytes: 16 << 20, Testaments: 100, TestamentBytes: 128 << 10,
}

// Stats counts what a realm holds, and what it has done since it was made.
type Stats struct {
	Sessions, Subscriptions, Registrations int // now
	PendingCalls, Retained, RetainedBytes  int // now
	HistoryEvents, HistoryBytes            int // now, those in several histories once for each
	Joined                                 uint64
	Aborted                                uint64 // sessions, for protocol violations
	Calls, Publications, Events            uint64 // events are counted per receiver
	TimedOut, Rerouted                     uint64 // calls
	Denied                                 uint64 // requests, by permissions
	OverLimit                              uint64 // requests, by limits
	Revoked                                uint64 // subscriptions and registrations
	RetainDeclined                         uint64 // retained events beyond the limits
}

// Realm is the state of one realm.
type Realm struct {
	cfg      Config
	roles    map[string]*role
	features wamp.Dict // WELCOME's roles
	sessions map[wamp.ID]*Session
	meta     map[string]metaProcedure
	now      Time // of the step under way
	out      []Effect

	subscriptions    index[subscription]
	subscriptionByID map[wamp.ID]*subscription
	lastSubscription wamp.ID
	retained         retainedEvents
	histories        []*history
	lastKept         uint64
	changes          []HistoryChange // of histories on disk

	registrations    index[registration]
	registrationByID map[wamp.ID]*registration
	lastRegistration wamp.ID
	lastCallee       uint64
	deadlines        deadlines
	lastTimer        uint64
	kept             int // bytes, for rerouting
	descriptions     map[described]*description

	// Scratch space of lookups, so that they allocate nothing.
	matchedSubs []*subscription
	matchedRegs []*registration

	// What authorizers are asked, and have said; see authorizer.go.
	judge    *Session // in whose name they are called
	need     *question
	asked    map[wamp.ID]*waiting // by CALL.Request
	answers  []wamp.Message
	verdicts map[question]verdict

	stats Stats
}

// keepEffects is how large a list of effects is kept for the next step.
const keepEffects = 4096

// New makes an empty realm. The error says what is wrong with cfg.
func New(cfg Config) (*Realm, error) {
	if cfg.Encoding == nil || cfg.NewID == nil {
		return nil, errors.New("realm: Config needs an Encoding and NewID")
	}
	if !cfg.URIs.ValidURI(cfg.Name) {
		return nil, fmt.Errorf("realm %q: the name is not a valid URI", cfg.Name)
	}
	cfg.Limits.fill()
	roles, err := newRoles(cfg.Name, cfg.Roles)
	if err != nil {
		return nil, err
	}
	r := &Realm{
		cfg:      cfg,
		roles:    roles,
		features: features(&cfg),
		sessions: map[wamp.ID]*Session{},
		meta:     metaProcedures(),

		subscriptionByID: map[wamp.ID]*subscription{},
		registrationByID: map[wamp.ID]*registration{},
		descriptions:     map[described]*description{},

		judge:    newJudge(),
		asked:    map[wamp.ID]*waiting{},
		verdicts: map[question]verdict{},
	}
	for _, c := range cfg.History {
		if err := r.newHistory(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (l *Limits) fill() {
	for _, f := range []struct{ field, value *int }{
		{&l.Subscriptions, &DefaultLimits.Subscriptions},
		{&l.Registrations, &DefaultLimits.Registrations},
		{&l.PendingCalls, &DefaultLimits.PendingCalls},
		{&l.Retained, &DefaultLimits.Retained},
		{&l.RetainedBytes, &DefaultLimits.RetainedBytes},
		{&l.Testaments, &DefaultLimits.Testaments},
		{&l.TestamentBytes, &DefaultLimits.TestamentBytes},
	} {
		if *f.field <= 0 {
			*f.field = *f.value
		}
	}
}

// features are the roles of WELCOME. Only what works is announced.
func features(cfg *Config) wamp.Dict {
	announce := func(names ...string) wamp.Dict {
		d := wamp.Dict{}
		for _, n := range names {
			d[n] = true
		}
		return d
	}
	broker := announce("event_retention", "pattern_based_subscription", "payload_passthru_mode", "publisher_exclusion",
		"publisher_identification", "session_meta_api", "sharded_subscription", "shareded_subscriptions",
		"subscriber_blackwhite_listing", "subscription_meta_api", "subscription_revocation")
	if len(cfg.History) > 0 {
		broker["event_history"] = true
	}
	dealer := announce("call_canceling", "call_reroute", "call_timeout", "caller_identification",
		"pattern_based_registration", "payload_passthru_mode", "progressive_call_invocations", "progressive_call_results",
		"registration_meta_api", "registration_revocation", "session_meta_api", "sharded_registration", "shared_registration",
		"testament_meta_api")
	if slices.ContainsFunc(cfg.Roles, func(ro Role) bool { return ro.TrustLevel != nil }) {
		broker["publication_trustlevels"], dealer["call_trustlevels"] = true, true
	}
	// Reflection is announced beside the features ("Interface Reflection").
	return wamp.Dict{
		"broker": wamp.Dict{"features": broker, "reflection": true},
		"dealer": wamp.Dict{"features": dealer, "reflection": true},
	}
}

// SessionsOf counts the members with an authid.
func (r *Realm) SessionsOf(authID string) int {
	n := 0
	for _, s := range r.sessions {
		if s.Identity.AuthID == authID {
			n++
		}
	}
	return n
}

// HasRole reports whether sessions can join under the role.
func (r *Realm) HasRole(name string) bool { return r.roles[name] != nil }

// Stats returns the counters as they are now.
func (r *Realm) Stats() Stats {
	st := r.stats
	st.Sessions = len(r.sessions)
	st.Retained, st.RetainedBytes = r.retained.count, r.retained.bytes
	for _, h := range r.histories {
		st.HistoryEvents += len(h.kept())
		st.HistoryBytes += h.bytes
	}
	return st
}

// Step handles one message of s. The effects are valid until the next call.
// What a session that is no member sends has no effect.
func (r *Realm) Step(s *Session, m wamp.Message, now Time) []Effect {
	r.begin(now)
	switch s.state {
	case joined:
		r.take(s, m)
	case closing:
		// GOODBYE was sent: everything but the answer is ignored ("Sessions",
		// state chart, transition 14).
		switch m.(type) {
		case *wamp.Goodbye, *wamp.Abort:
			r.remove(s)
			r.emit(Effect{To: s, End: true})
		}
	}
	return r.done()
}

func (r *Realm) step(s *Session, m wamp.Message) {
	if !r.mayPass(s, m) {
		return
	}
	switch m := m.(type) {
	case *wamp.Call:
		if !r.continues(s, m) && r.checkRequest(s, m.Request) {
			r.call(s, m)
		}
	case *wamp.Yield:
		r.yield(s, m)
	case *wamp.Publish:
		if r.checkRequest(s, m.Request) {
			r.publish(s, m)
		}
	case *wamp.ErrorMessage:
		r.failInvocation(s, m)
	case *wamp.Cancel:
		r.cancel(s, m)
	case *wamp.Subscribe:
		if r.checkRequest(s, m.Request) {
			r.subscribe(s, m)
		}
	case *wamp.Unsubscribe:
		if r.checkRequest(s, m.Request) {
			r.unsubscribe(s, m)
		}
	case *wamp.Register:
		if r.checkRequest(s, m.Request) {
			r.register(s, m)
		}
	case *wamp.Unregister:
		if r.checkRequest(s, m.Request) {
			r.unregister(s, m)
		}
	case *wamp.Goodbye:
		r.leave(s)
		r.emit(Effect{To: s, Msg: &wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOut}, End: true})
	case *wamp.Abort: // never answered
		r.leave(s)
		r.emit(Effect{To: s, End: true})
	default:
		r.violate(s, fmt.Sprintf("received %s after the session was established", m.Kind()))
	}
}

// checkRequest applies the rule for request IDs; false when the session was
// aborted for it.
func (r *Realm) checkRequest(s *Session, id wamp.ID) bool {
	if s.again {
		return true // it was checked when it came
	}
	next := s.lastRequest + 1
	if s.lastRequest == wamp.MaxID {
		next = 1
	}
	switch {
	case !id.Valid():
		r.violate(s, fmt.Sprintf("request ID %d is outside of [1, 2^53]", id))
		return false
	case r.cfg.RequestIDs == SequentialRequestIDs && id != next:
		r.violate(s, fmt.Sprintf("request ID %d is out of sequence: expected %d", id, next))
		return false
	case r.cfg.RequestIDs == AscendingRequestIDs && id <= s.lastRequest && next != 1:
		r.violate(s, fmt.Sprintf("request ID %d does not ascend: the last one was %d", id, s.lastRequest))
		return false
	}
	s.lastRequest = id
	return true
}

func (r *Realm) begin(now Time) {
	r.now = now
	if cap(r.out) > keepEffects {
		r.out = nil
	}
	clear(r.out)
	r.out = r.out[:0]
}

// wall is what people's clocks show now.
func (r *Realm) wall() Time {
	if r.cfg.Wall == nil {
		return r.now
	}
	return r.cfg.Wall(r.now)
}

func (r *Realm) emit(e Effect) { r.out = append(r.out, e) }

func (r *Realm) send(to *Session, m wamp.Message) {
	if to == r.judge {
		r.answers = append(r.answers, m) // for when this step is over
		return
	}
	r.emit(Effect{To: to, Msg: m})
}

// refuse answers a request with an error and a text for people.
func (r *Realm) refuse(to *Session, kind wamp.Kind, request wamp.ID, e *wamp.Error) {
	r.send(to, &wamp.ErrorMessage{Type: kind, Request: request, URI: e.URI, Payload: r.payload(e)})
}

// overLimit counts a request that a limit refuses, and returns its error.
func (r *Realm) overLimit(format string, args ...any) *wamp.Error {
	r.stats.OverLimit++
	return wamp.Errorf(ErrLimitExceeded, format, args...)
}

// payload encodes the arguments of an error that the realm itself made.
func (r *Realm) payload(e *wamp.Error) wamp.Payload {
	p, err := wamp.NewPayload(r.cfg.Encoding, e.Args, e.KwArgs)
	if err != nil {
		return wamp.Payload{} // the URI says enough
	}
	return p
}

// checkURI says what is wrong with a URI or pattern that a session gave.
func (r *Realm) checkURI(uri string, match wamp.Match) *wamp.Error {
	switch match {
	case "", wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard:
	default:
		return wamp.Errorf(wamp.ErrInvalidArgument, "match %q is none of exact, prefix, wildcard", clip(string(match)))
	}
	if !r.cfg.URIs.ValidPattern(uri, match) {
		return wamp.Errorf(wamp.ErrInvalidURI, "%q is not a valid URI for match policy %q", clip(uri), match.Normal())
	}
	return nil
}

// clip shortens what a peer sent to what fits into a message for people.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// sortedKeys makes what is done for each element of a map deterministic.
func sortedKeys[V any](m map[wamp.ID]V) []wamp.ID { return slices.Sorted(maps.Keys(m)) }
