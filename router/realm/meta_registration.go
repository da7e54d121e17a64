package realm

import "github.com/postern-iot/postern/wamp"

func (reg *registration) details() wamp.Dict {
	return wamp.Dict{
		"id": reg.id, "created": reg.created.iso8601(), "uri": reg.procedure,
		"match": string(reg.match), "invoke": reg.invoke,
	}
}

// announceCallee says that a session has been added to a registration, and
// perhaps that this is new ("Registration Meta API").
func (r *Realm) announceCallee(c *callee) {
	if len(c.of.callees) == 1 && r.heard(metaOnRegCreate) {
		r.announce(metaOnRegCreate, c.session.ID, c.of.details())
	}
	if r.heard(metaOnRegister) {
		r.announce(metaOnRegister, c.session.ID, c.of.id)
	}
}

// announceNoCallee says that a session has been removed from a registration.
func (r *Realm) announceNoCallee(c *callee) {
	if r.heard(metaOnUnregister) {
		r.announce(metaOnUnregister, c.session.ID, c.of.id)
	}
	if len(c.of.callees) == 0 && r.heard(metaOnRegDelete) {
		r.announce(metaOnRegDelete, c.session.ID, c.of.id)
	}
}

func (r *Realm) registrationList(*metaCall) (wamp.List, *wamp.Error) {
	return wamp.List{byMatch(r.registrationByID, func(reg *registration) wamp.Match { return reg.match })}, nil
}

func (r *Realm) registrationLookup(c *metaCall) (wamp.List, *wamp.Error) {
	procedure, fault := c.text(0, "procedure")
	if fault != nil {
		return nil, fault
	}
	match, fault := c.match(1)
	if fault != nil {
		return nil, fault
	}
	if reg := r.registrations.get(match, procedure); reg != nil {
		return wamp.List{reg.id}, nil
	}
	return wamp.List{nil}, nil
}

func (r *Realm) registrationMatch(c *metaCall) (wamp.List, *wamp.Error) {
	procedure, fault := c.text(0, "procedure")
	if fault != nil {
		return nil, fault
	}
	if best := r.registrations.appendMatches(nil, procedure); len(best) > 0 && !wamp.Reserved(procedure) {
		return wamp.List{best[0].id}, nil
	}
	return wamp.List{nil}, nil
}

// registrationOf returns the registration that the first argument names.
func (r *Realm) registrationOf(c *metaCall) (*registration, *wamp.Error) {
	id, fault := c.id(0)
	if fault != nil {
		return nil, fault
	}
	if reg := r.registrationByID[id]; reg != nil {
		return reg, nil
	}
	return nil, wamp.Errorf(wamp.ErrNoSuchRegistration, "there is no registration %d", id)
}

func (r *Realm) registrationGet(c *metaCall) (wamp.List, *wamp.Error) {
	reg, fault := r.registrationOf(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{reg.details()}, nil
}

func (r *Realm) registrationListCallees(c *metaCall) (wamp.List, *wamp.Error) {
	reg, fault := r.registrationOf(c)
	if fault != nil {
		return nil, fault
	}
	ids := make(wamp.List, 0, len(reg.callees))
	for _, member := range reg.callees {
		ids = append(ids, member.session.ID)
	}
	return wamp.List{ids}, nil
}

func (r *Realm) registrationCountCallees(c *metaCall) (wamp.List, *wamp.Error) {
	reg, fault := r.registrationOf(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{len(reg.callees)}, nil
}
