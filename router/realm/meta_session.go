package realm

import (
	"github.com/postern-iot/postern/wamp"
)

// details are what others may know of a session ("Session Meta API"): never
// what it proved itself with, nor what its authentication brought along.
func (s *Session) details() wamp.Dict {
	return wamp.Dict{
		"session":      s.ID,
		"authid":       s.Identity.AuthID,
		"authrole":     s.Identity.AuthRole,
		"authmethod":   s.Identity.AuthMethod,
		"authprovider": s.Identity.AuthProvider,
	}
}

// sessionsWith returns the members that suit, in the order of their IDs.
func (r *Realm) sessionsWith(suits func(*Session) bool) []*Session {
	var all []*Session
	for _, id := range sortedKeys(r.sessions) {
		if s := r.sessions[id]; s.state == joined && suits(s) {
			all = append(all, s)
		}
	}
	return all
}

func idsOf(sessions []*Session) wamp.List {
	ids := make(wamp.List, 0, len(sessions))
	for _, s := range sessions {
		ids = append(ids, s.ID)
	}
	return ids
}

// ofRoles returns the members with one of the roles in the first argument, a
// list; all when there is none.
func (r *Realm) ofRoles(c *metaCall) ([]*Session, *wamp.Error) {
	if c.arg(0) == nil {
		return r.sessionsWith(func(*Session) bool { return true }), nil
	}
	list, ok := c.arg(0).([]any)
	roles := map[string]bool{}
	for _, v := range list {
		role, isText := v.(string)
		ok = ok && isText
		roles[role] = true
	}
	if !ok {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "argument 1 must be a list of roles")
	}
	return r.sessionsWith(func(s *Session) bool { return roles[s.Identity.AuthRole] }), nil
}

func (r *Realm) sessionCount(c *metaCall) (wamp.List, *wamp.Error) {
	sessions, fault := r.ofRoles(c)
	return wamp.List{len(sessions)}, fault
}

func (r *Realm) sessionList(c *metaCall) (wamp.List, *wamp.Error) {
	sessions, fault := r.ofRoles(c)
	return wamp.List{idsOf(sessions)}, fault
}

// named returns the member that the first argument names.
func (r *Realm) named(c *metaCall) (*Session, *wamp.Error) {
	id, fault := c.id(0)
	if fault != nil {
		return nil, fault
	}
	s := r.sessions[id]
	if s == nil || s.state != joined {
		return nil, wamp.Errorf(wamp.ErrNoSuchSession, "there is no session %d", id)
	}
	return s, nil
}

func (r *Realm) sessionGet(c *metaCall) (wamp.List, *wamp.Error) {
	s, fault := r.named(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{s.details()}, nil
}

// goodbye is what a session that is killed hears, as the caller wants it.
func (r *Realm) goodbye(c *metaCall) (*wamp.Goodbye, *wamp.Error) {
	g := &wamp.Goodbye{Reason: wamp.CloseKilled}
	if v := c.kwargs["reason"]; v != nil {
		reason, ok := v.(string)
		if !ok || !r.cfg.URIs.ValidURI(reason) {
			return nil, wamp.Errorf(wamp.ErrInvalidURI, "reason is not a valid URI")
		}
		g.Reason = reason
	}
	if v := c.kwargs["message"]; v != nil {
		message, ok := v.(string)
		if !ok {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "message must be a string")
		}
		g.Details = wamp.Dict{"message": message}
	}
	return g, nil
}

func (r *Realm) sessionKill(c *metaCall) (wamp.List, *wamp.Error) {
	goodbye, fault := r.goodbye(c)
	if fault != nil {
		return nil, fault
	}
	s, fault := r.named(c)
	if fault != nil {
		return nil, fault
	}
	if s == c.caller {
		return nil, wamp.Errorf(wamp.ErrNoSuchSession, "there is no other session %d", s.ID)
	}
	r.kill(s, goodbye)
	return nil, nil
}

// killWith kills those that suit, but for the caller.
func (r *Realm) killWith(c *metaCall, suits func(*Session) bool) ([]*Session, *wamp.Error) {
	goodbye, fault := r.goodbye(c)
	if fault != nil {
		return nil, fault
	}
	all := r.sessionsWith(func(s *Session) bool { return s != c.caller && suits(s) })
	for _, s := range all {
		r.kill(s, goodbye)
	}
	return all, nil
}

func (r *Realm) sessionKillByAuthID(c *metaCall) (wamp.List, *wamp.Error) {
	authID, fault := c.text(0, "authid")
	if fault != nil {
		return nil, fault
	}
	killed, fault := r.killWith(c, func(s *Session) bool { return s.Identity.AuthID == authID })
	return wamp.List{idsOf(killed)}, fault
}

func (r *Realm) sessionKillByAuthRole(c *metaCall) (wamp.List, *wamp.Error) {
	role, fault := c.text(0, "authrole")
	if fault != nil {
		return nil, fault
	}
	killed, fault := r.killWith(c, func(s *Session) bool { return s.Identity.AuthRole == role })
	return wamp.List{len(killed)}, fault
}

func (r *Realm) sessionKillAll(c *metaCall) (wamp.List, *wamp.Error) {
	goodbye, fault := r.goodbye(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{r.killAll(c.caller, goodbye)}, nil
}
