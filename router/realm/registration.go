package realm

import (
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// The invocation policies (advanced profile, "Shared Registration").
const (
	invokeSingle     = "single"
	invokeFirst      = "first"
	invokeLast       = "last"
	invokeRoundRobin = "roundrobin"
	invokeRandom     = "random"
)

// registration is one procedure or pattern of procedures and who provides it:
// one callee, or several that share it and its ID.
type registration struct {
	id        wamp.ID
	procedure string
	match     wamp.Match
	invoke    string    // the policy, on which all callees agree
	callees   []*callee // in the order of their registration, never empty
	turn      int       // roundrobin: whose turn it is
	created   Time
}

// callee is a session's part in a registration, with the options that it gave.
type callee struct {
	session        *Session
	of             *registration
	order          uint64 // of its registration
	discloseCaller bool
	forwardTimeout bool   // it times calls out itself
	node           string // "nkey": the name of its shard
	// concurrency is how many calls it takes at the same time, 0 for any
	// number; running is how many it has now.
	concurrency, running uint64
}

// free reports whether it takes one more call.
func (c *callee) free() bool { return c.concurrency == 0 || c.running < c.concurrency }

func (r *Realm) register(s *Session, m *wamp.Register) {
	match := m.Options.Match.Normal()
	reg := r.registrations.get(match, m.Procedure)
	if fault := r.mayRegister(s, m, reg); fault == errWait {
		return
	} else if fault != nil {
		r.refuse(s, wamp.KindRegister, m.Request, fault)
		return
	}
	if reg != nil && m.Options.ForceReregister {
		for len(reg.callees) > 0 {
			r.revoke(reg.callees[0], "another session has taken the procedure over")
		}
		reg = nil
	}
	if reg == nil {
		r.lastRegistration++
		reg = &registration{id: r.lastRegistration, procedure: m.Procedure, match: match, invoke: policy(m), created: r.wall()}
		r.registrations.put(match, m.Procedure, reg)
		r.registrationByID[reg.id] = reg
		r.stats.Registrations++
	}
	r.forgetVerdicts(m.Procedure)
	c := s.registrations[reg.id]
	added := c == nil
	if added {
		r.lastCallee++
		c = &callee{session: s, of: reg, order: r.lastCallee}
		reg.callees = append(reg.callees, c)
		if s.registrations == nil {
			s.registrations = map[wamp.ID]*callee{}
		}
		s.registrations[reg.id] = c
	}
	// Who registers a shared procedure again changes its own options.
	c.discloseCaller, c.forwardTimeout = m.Options.DiscloseCaller, m.Options.ForwardTimeout
	c.concurrency, c.node = m.Options.Concurrency, m.Options.NKey
	r.send(s, &wamp.Registered{Request: m.Request, Registration: reg.id})
	if added {
		r.announceCallee(c)
	}
}

func policy(m *wamp.Register) string {
	if m.Options.Invoke == "" {
		return invokeSingle
	}
	return m.Options.Invoke
}

// mayRegister says why a session may not register; reg is what there is.
func (r *Realm) mayRegister(s *Session, m *wamp.Register, reg *registration) *wamp.Error {
	match, invoke := m.Options.Match.Normal(), policy(m)
	if fault := r.checkURI(m.Procedure, match); fault != nil {
		return fault
	}
	if wamp.Reserved(m.Procedure) {
		return wamp.Errorf(wamp.ErrInvalidURI, "%q is reserved for the router", clip(m.Procedure))
	}
	switch invoke {
	case invokeSingle, invokeFirst, invokeLast, invokeRoundRobin, invokeRandom:
	default:
		return wamp.Errorf(wamp.ErrInvalidArgument, "invoke %q is none of single, first, last, roundrobin, random", clip(invoke))
	}
	if n := len(m.Options.NKey); n > wamp.MaxURI {
		return wamp.Errorf(wamp.ErrInvalidArgument, "nkey has %d bytes, which is more than %d", n, wamp.MaxURI)
	}
	if _, fault := r.authorize(s, actionRegister, m.Procedure, match); fault != nil {
		return fault
	}
	switch {
	case reg == nil:
	case m.Options.ForceReregister:
		if !s.role.takeover {
			r.stats.Denied++
			return wamp.Errorf(wamp.ErrNotAuthorized, "role %q may not take %q over from the session that has it",
				clip(s.Identity.AuthRole), clip(m.Procedure))
		}
	case reg.invoke == invokeSingle:
		return wamp.Errorf(wamp.ErrProcedureAlreadyExists, "%q (%s) is already registered", clip(m.Procedure), match)
	case reg.invoke != invoke:
		return wamp.Errorf(wamp.ErrProcedureAlreadyExists, "%q (%s) is already registered, to be shared by invoke %q, and not %q",
			clip(m.Procedure), match, reg.invoke, invoke)
	case s.registrations[reg.id] != nil:
		return nil
	}
	if len(s.registrations) >= r.cfg.Limits.Registrations {
		return r.overLimit("the session has %d registrations, which is the limit", len(s.registrations))
	}
	return nil
}

func (r *Realm) unregister(s *Session, m *wamp.Unregister) {
	c := s.registrations[m.Registration]
	if c == nil {
		r.refuse(s, wamp.KindUnregister, m.Request,
			wamp.Errorf(wamp.ErrNoSuchRegistration, "the session has no registration %d", m.Registration))
		return
	}
	r.send(s, &wamp.Unregistered{Request: m.Request})
	r.dropCallee(c)
}

// dropCallee takes a callee out of its registration, which ends with the last
// one. Invocations under way stay: the callee still answers them.
func (r *Realm) dropCallee(c *callee) {
	reg := c.of
	delete(c.session.registrations, reg.id)
	at := slices.Index(reg.callees, c)
	reg.callees = slices.Delete(reg.callees, at, at+1)
	if at < reg.turn {
		reg.turn--
	}
	if len(reg.callees) == 0 {
		r.registrations.remove(reg.match, reg.procedure)
		delete(r.registrationByID, reg.id)
		r.stats.Registrations--
	}
	r.announceNoCallee(c)
}

// revoke takes a registration away from a callee, which is told so if it
// announced that it understands ("Registration Revocation").
func (r *Realm) revoke(c *callee, reason string) {
	r.stats.Revoked++
	r.dropCallee(c)
	if c.session.state == joined && c.session.hearsUnregistered {
		r.send(c.session, &wamp.Unregistered{Details: wamp.RevokedDetails{Registration: c.of.id, Reason: reason}})
	}
}

// pick chooses a callee by the registration's policy, among those that suit.
func (r *Realm) pick(reg *registration, suits func(*callee) bool) *callee {
	n := len(reg.callees)
	switch reg.invoke {
	case invokeLast:
		for i := n - 1; i >= 0; i-- {
			if c := reg.callees[i]; suits(c) {
				return c
			}
		}
		return nil
	case invokeRoundRobin:
		for i := range n {
			at := (reg.turn + i) % n
			if c := reg.callees[at]; suits(c) {
				reg.turn = at + 1
				return c
			}
		}
		return nil
	case invokeRandom:
		return r.draw(reg.callees, suits)
	}
	for _, c := range reg.callees {
		if suits(c) {
			return c
		}
	}
	return nil
}

// draw chooses one of the callees that suit, each with the same probability.
func (r *Realm) draw(callees []*callee, suits func(*callee) bool) *callee {
	if len(callees) == 0 {
		return nil
	}
	if c := callees[r.random(len(callees))]; suits(c) {
		return c
	}
	fit := 0
	for _, c := range callees {
		if suits(c) {
			fit++
		}
	}
	if fit == 0 {
		return nil
	}
	nth := r.random(fit)
	for _, c := range callees {
		if !suits(c) {
			continue
		}
		if nth == 0 {
			return c
		}
		nth--
	}
	return nil
}

// random draws a number in [0, n). The source of IDs is uniform over a range
// so large that the remainder is, too.
func (r *Realm) random(n int) int { return int(r.cfg.NewID() % wamp.ID(n)) }

// shard chooses the callee that has a resource: the one whose node key gives
// the highest hash together with the resource key. So a resource stays with its
// callee as long as that is there, whoever else comes and goes, and the
// resources of one that has left are spread over all others. Callees that gave
// no node key are told apart by their session; of those that gave the same, the
// one that registered first is chosen.
func (reg *registration) shard(resource string, suits func(*callee) bool) *callee {
	var best *callee
	var most uint64
	for _, c := range reg.callees {
		if !suits(c) {
			continue
		}
		if h := c.weight(resource); best == nil || h > most {
			best, most = c, h
		}
	}
	return best
}

// weight is the weight of the callee's node key, or of its session.
func (c *callee) weight(resource string) uint64 {
	h := newWeight(resource).add(c.node)
	if c.node == "" {
		h = h.mix(uint64(c.session.ID))
	}
	return h.sum()
}
