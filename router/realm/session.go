package realm

import (
	"github.com/postern-iot/postern/wamp"
)

// Session is a member of a realm, or about to be one.
type Session struct {
	ID       wamp.ID
	Identity Identity
	// Wanted is the ID that it gets if that is free, because the session has
	// been told of it before; 0 for a new one.
	Wanted wamp.ID
	// Roles are the roles and features that the peer announced in HELLO.
	Roles wamp.Dict
	// Tag belongs to the caller: its own handle for this session.
	Tag any

	state      state
	role       *role // nil when the realm does not know it: nothing is allowed
	canCancel  bool  // as a callee it announced call_canceling
	canStream  bool  // and progressive_call_invocations as well
	canReroute bool  // and call_reroute
	// That it announced to understand that something was revoked.
	hearsUnregistered, hearsUnsubscribed bool
	passthru                             passthru
	lastRequest                          wamp.ID
	testaments                           testaments

	described      []described // see meta_reflection.go
	describedBytes int

	waits  *waiting           // for an authorizer
	told   map[question]grant // by one, for the message that waits
	again  bool               // that is handled once more
	parked []wamp.Message     // what came after it
	weight int                // bytes of those

	subscriptions map[wamp.ID]*member
	registrations map[wamp.ID]*callee

	// calls are those that this session waits for, by CALL.Request;
	// invocations those that it has to answer, by INVOCATION.Request.
	calls          map[wamp.ID]*invocation
	cut            []wamp.ID // calls that ended before their last part, oldest first
	invocations    map[wamp.ID]*invocation
	lastInvocation wamp.ID
	// orphans are invocations whose answer nobody waits for any more, oldest
	// first. Those up to forgotten may be gone from invocations; an answer to
	// one of them is dropped like the others.
	orphans   []wamp.ID
	forgotten wamp.ID
}

type state uint8

const (
	outside state = iota
	joined
	closing // GOODBYE sent, its answer not yet received
)

// Feature reports whether the peer announced a feature for one of its roles.
func (s *Session) Feature(role, feature string) bool {
	return wamp.AsBool(wamp.AsDict(wamp.AsDict(s.Roles, role), "features"), feature)
}

// Join makes s a member; the first effect is its WELCOME. s.Identity and
// s.Roles must be set; Join sets s.ID, and takes s.Roles away.
func (r *Realm) Join(s *Session, now Time) []Effect {
	r.begin(now)
	if s.state != outside {
		return r.out
	}
	s.ID = s.Wanted
	if s.ID == 0 {
		s.ID = r.cfg.NewID()
	}
	for r.sessions[s.ID] != nil {
		s.ID = r.cfg.NewID()
	}
	s.state = joined
	s.role = r.roles[s.Identity.AuthRole]
	// One section of the text spells it with two l's.
	s.canCancel = s.Feature("callee", "call_canceling") || s.Feature("callee", "call_cancelling")
	s.canStream = s.canCancel && s.Feature("callee", "progressive_call_invocations")
	s.canReroute = s.Feature("callee", "call_reroute")
	s.passthru = s.announcedPassthru()
	s.hearsUnregistered = s.Feature("callee", "registration_revocation")
	s.hearsUnsubscribed = s.Feature("subscriber", "subscription_revocation")
	s.Roles = nil // many sessions, and as many dictionaries
	r.sessions[s.ID] = s
	r.stats.Joined++
	details := wamp.Dict{
		"realm":        r.cfg.Name,
		"authid":       s.Identity.AuthID,
		"authrole":     s.Identity.AuthRole,
		"authmethod":   s.Identity.AuthMethod,
		"authprovider": s.Identity.AuthProvider,
		"roles":        r.features,
	}
	if r.cfg.Agent != "" {
		details["agent"] = r.cfg.Agent
	}
	if len(s.Identity.AuthExtra) > 0 {
		details["authextra"] = s.Identity.AuthExtra
	}
	r.send(s, &wamp.Welcome{Session: s.ID, Details: details})
	if r.heard(metaOnJoin) {
		r.announce(metaOnJoin, s.details())
	}
	return r.done()
}

// Leave removes s, whose connection is gone; its callers get errors. It has no
// effect on a session that is no member.
func (r *Realm) Leave(s *Session, now Time) []Effect {
	r.begin(now)
	switch s.state {
	case joined:
		r.leave(s)
	case closing:
		r.remove(s)
	}
	return r.done()
}

// Abort ends s for a reason that its caller found: bytes that are no message
// (wamp.ErrProtocolViolation), a message too large
// (wamp.ErrPayloadSizeExceeded). The message is for people.
func (r *Realm) Abort(s *Session, reason, message string, now Time) []Effect {
	r.begin(now)
	if s.state == joined {
		r.abort(s, reason, message)
	} else if s.state == closing {
		r.remove(s)
		r.emit(Effect{To: s, End: true})
	}
	return r.done()
}

// Close says GOODBYE to every session, with reason. Each is over then, but
// for its own GOODBYE, which ends it.
func (r *Realm) Close(reason string, now Time) []Effect {
	r.begin(now)
	r.killAll(nil, &wamp.Goodbye{Reason: reason})
	return r.done()
}

// killAll says goodbye to every session but one, and returns to how many. That
// they leave is told to nobody, as the text has it ("wamp.session.kill_all").
func (r *Realm) killAll(but *Session, goodbye *wamp.Goodbye) int {
	all := make([]*Session, 0, len(r.sessions))
	for _, id := range sortedKeys(r.sessions) {
		if s := r.sessions[id]; s.state == joined && s != but {
			all = append(all, s)
			s.state = closing // so that nothing follows anybody's GOODBYE
		}
	}
	for _, s := range all {
		r.detach(s)
		r.send(s, goodbye)
	}
	return len(all)
}

// violate is the answer to everything that a peer must not send: ABORT, and
// all that the session had goes ("Protocol Errors").
func (r *Realm) violate(s *Session, message string) { r.abort(s, wamp.ErrProtocolViolation, message) }

func (r *Realm) abort(s *Session, reason, message string) {
	r.stats.Aborted++
	r.leave(s)
	r.emit(Effect{To: s, Msg: &wamp.Abort{Details: wamp.Dict{"message": message}, Reason: reason}, End: true})
}

// leave takes s out of everything and makes it a stranger.
func (r *Realm) leave(s *Session) {
	r.remove(s)
	r.detach(s)
	r.depart(s)
}

// kill ends s, which is not the one whose message is being handled, by GOODBYE.
func (r *Realm) kill(s *Session, goodbye *wamp.Goodbye) {
	s.state = closing
	r.detach(s)
	r.depart(s)
	r.send(s, goodbye)
}

// depart tells others that s, which has been taken out of everything, is not
// there any more.
func (r *Realm) depart(s *Session) {
	if r.heard(metaOnLeave) {
		r.announce(metaOnLeave, s.ID, s.Identity.AuthID, s.Identity.AuthRole)
	}
}

func (r *Realm) remove(s *Session) {
	s.state = outside
	delete(r.sessions, s.ID)
}

// detach ends what s is part of, and publishes its testaments. s itself, which is
// not joined any more, is told nothing.
func (r *Realm) detach(s *Session) {
	for _, id := range sortedKeys(s.subscriptions) {
		r.dropMember(s.subscriptions[id])
	}
	for _, id := range sortedKeys(s.registrations) {
		r.dropCallee(s.registrations[id])
	}
	// Its own calls first: it may have called itself.
	for _, id := range sortedKeys(s.calls) {
		r.abandon(s.calls[id], "killnowait")
	}
	for _, id := range sortedKeys(s.invocations) {
		inv := s.invocations[id]
		if inv.caller == nil {
			continue
		}
		r.finish(inv)
		if inv.caller.state == joined { // no ERROR after GOODBYE
			r.refuse(inv.caller, wamp.KindCall, inv.call, wamp.Errorf(wamp.ErrCanceled, "the callee has left"))
		}
	}
	s.invocations, s.orphans = nil, nil
	s.waits, s.told, s.parked, s.weight = nil, nil, nil, 0
	r.undefineAll(s)
	r.bequeath(s)
}
