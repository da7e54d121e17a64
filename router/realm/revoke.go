package realm

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// Revoke takes a subscription away from a session, which is told so, with the
// reason, if it announced that it understands ("Subscription Revocation"). It
// has no effect when the session does not have it.
func (r *Realm) Revoke(s *Session, subscription wamp.ID, reason string, now Time) []Effect {
	r.begin(now)
	if mem := s.subscriptions[subscription]; mem != nil {
		r.revokeMember(mem, reason)
	}
	return r.done()
}

func (r *Realm) revokeMember(mem *member, reason string) {
	r.stats.Revoked++
	r.dropMember(mem)
	if s := mem.session; s.state == joined && s.hearsUnsubscribed {
		r.send(s, &wamp.Unsubscribed{Details: wamp.RevokedDetails{Subscription: mem.of.id, Reason: reason}})
	}
}

// Kill ends a member by GOODBYE with a reason and a message for people. It has no
// effect on others.
func (r *Realm) Kill(s *Session, reason, message string, now Time) []Effect {
	r.begin(now)
	if s.state == joined {
		r.kill(s, &wamp.Goodbye{Reason: reason, Details: wamp.Dict{"message": message}})
	}
	return r.done()
}

// SetBounds replaces the limits and timeouts. What the realm holds beyond new
// limits stays; nothing is added to it. Calls under way keep their timeouts.
func (r *Realm) SetBounds(l Limits, t Timeouts) {
	l.fill()
	r.cfg.Limits, r.cfg.Timeouts = l, t
}

// SetRoles replaces what roles may do, for the sessions that are there as well:
// subscriptions and registrations that a session's role does not allow any more
// are revoked. Sessions whose role is gone stay, and may do nothing. When there is
// an error, which says what is wrong with the roles, nothing has changed.
func (r *Realm) SetRoles(roles []Role, now Time) ([]Effect, error) {
	const reason = "no longer authorized"
	compiled, err := newRoles(r.cfg.Name, roles)
	if err != nil {
		return nil, err
	}
	r.roles, r.cfg.Roles = compiled, roles
	r.features = features(&r.cfg)
	r.begin(now)
	clear(r.verdicts)
	all := sortedKeys(r.sessions)
	before := map[*Session]*role{}
	for _, id := range all {
		s := r.sessions[id]
		before[s], s.role = s.role, compiled[s.Identity.AuthRole]
	}
	for _, id := range all {
		s := r.sessions[id]
		for _, id := range sortedKeys(s.subscriptions) {
			if mem := s.subscriptions[id]; !s.role.keeps(before[s], actionSubscribe, mem.of.topic, mem.of.match) {
				r.revokeMember(mem, reason)
			}
		}
		for _, id := range sortedKeys(s.registrations) {
			if c := s.registrations[id]; !s.role.keeps(before[s], actionRegister, c.of.procedure, c.of.match) {
				r.revoke(c, reason)
			}
		}
	}
	return r.done(), nil
}

// keeps reports whether a session keeps what it was granted under another role:
// what the rules allow, or what the same authorizer has allowed.
func (ro *role) keeps(before *role, what action, pattern string, match wamp.Match) bool {
	if ro == nil {
		return false
	}
	if rule := ro.ruleFor(pattern, match); rule != nil {
		return rule.Allow.allow(what)
	}
	return ro.authorizer.Procedure != "" && before != nil && before.authorizer.Procedure == ro.authorizer.Procedure
}

// newRoles compiles roles, by name.
func newRoles(realm string, roles []Role) (map[string]*role, error) {
	compiled := map[string]*role{}
	for _, c := range roles {
		if compiled[c.Name] != nil {
			return nil, fmt.Errorf("realm %q: role %q is there twice", realm, c.Name)
		}
		ro, err := newRole(c)
		if err != nil {
			return nil, fmt.Errorf("realm %q: role %q: %w", realm, c.Name, err)
		}
		compiled[c.Name] = ro
	}
	return compiled, nil
}
