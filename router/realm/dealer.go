package realm

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// registration is one procedure or pattern of procedures and who provides it.
type registration struct {
	id             wamp.ID
	procedure      string
	match          wamp.Match
	callee         *Session
	discloseCaller bool
}

// invocation is a call that a callee has not answered yet.
type invocation struct {
	caller   *Session // nil when nobody waits for the answer any more
	call     wamp.ID  // the caller's request ID
	callee   *Session
	id       wamp.ID // the callee's request ID
	progress bool    // the caller asked for progressive results
	killed   bool    // the callee was asked to break it off, and the caller waits
}

// maxOrphans is how many invocations without a caller a session may leave
// unanswered before the realm forgets the oldest.
const maxOrphans = 1024

func (r *Realm) register(s *Session, m *wamp.Register) {
	match := m.Options.Match.Normal()
	fault := r.checkURI(m.Procedure, match)
	if fault == nil && wamp.Reserved(m.Procedure) {
		fault = wamp.Errorf(wamp.ErrInvalidURI, "%q is reserved for the router", clip(m.Procedure))
	}
	if fault == nil {
		fault = r.authorize(s, actionRegister, m.Procedure, match)
	}
	if fault == nil && r.registrations.get(match, m.Procedure) != nil {
		fault = wamp.Errorf(wamp.ErrProcedureAlreadyExists, "%q (%s) is already registered", clip(m.Procedure), match)
	}
	if fault == nil && len(s.registrations) >= r.cfg.Limits.Registrations {
		fault = wamp.Errorf(ErrLimitExceeded, "the session has %d registrations, which is the limit", len(s.registrations))
	}
	if fault != nil {
		r.refuse(s, wamp.KindRegister, m.Request, fault)
		return
	}
	r.lastRegistration++
	reg := &registration{
		id: r.lastRegistration, procedure: m.Procedure, match: match,
		callee: s, discloseCaller: m.Options.DiscloseCaller,
	}
	r.registrations.put(match, m.Procedure, reg)
	if s.registrations == nil {
		s.registrations = map[wamp.ID]*registration{}
	}
	s.registrations[reg.id] = reg
	r.stats.Registrations++
	r.send(s, &wamp.Registered{Request: m.Request, Registration: reg.id})
}

func (r *Realm) unregister(s *Session, m *wamp.Unregister) {
	reg := s.registrations[m.Registration]
	if reg == nil {
		r.refuse(s, wamp.KindUnregister, m.Request,
			wamp.Errorf(wamp.ErrNoSuchRegistration, "the session has no registration %d", m.Registration))
		return
	}
	// Invocations under way stay: the callee still answers them.
	r.dropRegistration(reg)
	r.send(s, &wamp.Unregistered{Request: m.Request})
}

func (r *Realm) dropRegistration(reg *registration) {
	delete(reg.callee.registrations, reg.id)
	r.registrations.remove(reg.match, reg.procedure)
	r.stats.Registrations--
}

func (r *Realm) call(s *Session, m *wamp.Call) {
	if s.calls[m.Request] != nil {
		r.violate(s, fmt.Sprintf("CALL with request ID %d, which is still pending", m.Request))
		return
	}
	reg, fault := r.route(s, m)
	if fault != nil {
		r.refuse(s, wamp.KindCall, m.Request, fault)
		return
	}
	callee := reg.callee
	callee.lastInvocation++
	if callee.lastInvocation > wamp.MaxID {
		callee.lastInvocation = 1
	}
	inv := &invocation{
		caller: s, call: m.Request, callee: callee, id: callee.lastInvocation,
		progress: m.Options.ReceiveProgress,
	}
	if s.calls == nil {
		s.calls = map[wamp.ID]*invocation{}
	}
	if callee.invocations == nil {
		callee.invocations = map[wamp.ID]*invocation{}
	}
	s.calls[inv.call] = inv
	callee.invocations[inv.id] = inv
	r.stats.Calls++
	r.stats.PendingCalls++

	out := &wamp.Invocation{Request: inv.id, Registration: reg.id, Payload: m.Payload}
	// The specification would withhold receive_progress from callees that
	// announce no progressive results, or announce them without call canceling.
	// Real ones (autobahn-js, wampy) announce too little and support it; others
	// are to ignore it; and what arrives after the caller has left is dropped
	// here, which is what canceling is to prevent.
	out.Details.ReceiveProgress = m.Options.ReceiveProgress
	out.Details.PPT = m.Options.PPT
	if reg.match != wamp.MatchExact {
		out.Details.Procedure = m.Procedure
	}
	if m.Options.DiscloseMe || reg.discloseCaller {
		out.Details.Caller = s.ID
		out.Details.CallerAuthID = s.Identity.AuthID
		out.Details.CallerAuthRole = s.Identity.AuthRole
	}
	r.send(callee, out)
}

// route finds the registration that a call goes to, or the error that answers
// it.
func (r *Realm) route(s *Session, m *wamp.Call) (*registration, *wamp.Error) {
	if fault := r.checkURI(m.Procedure, wamp.MatchExact); fault != nil {
		return nil, fault
	}
	if fault := r.authorize(s, actionCall, m.Procedure, wamp.MatchExact); fault != nil {
		return nil, fault
	}
	if len(s.calls) >= r.cfg.Limits.PendingCalls {
		return nil, wamp.Errorf(ErrLimitExceeded, "the session has %d pending calls, which is the limit", len(s.calls))
	}
	if reg := r.provider(m.Procedure); reg != nil {
		return reg, nil
	}
	return nil, wamp.Errorf(wamp.ErrNoSuchProcedure, "no callee is registered for %q", clip(m.Procedure))
}

// provider finds the most specific registration for a procedure. A pattern
// gives its callee no more than the callee's role may register itself, and
// nothing that is reserved for the router.
func (r *Realm) provider(procedure string) *registration {
	if wamp.Reserved(procedure) {
		return nil
	}
	r.matchedRegs = r.registrations.appendMatches(r.matchedRegs[:0], procedure)
	defer clear(r.matchedRegs)
	for _, reg := range r.matchedRegs {
		if reg.match == wamp.MatchExact || reg.callee.role.allows(actionRegister, procedure) {
			return reg
		}
	}
	return nil
}

func (r *Realm) yield(s *Session, m *wamp.Yield) {
	inv := r.answered(s, wamp.KindYield, m.Request)
	if inv == nil {
		return
	}
	if m.Options.Progress && !inv.progress {
		return // the caller did not ask for it, and would take it for the result
	}
	if !m.Options.Progress {
		r.finish(inv)
	}
	if inv.caller != nil {
		r.send(inv.caller, &wamp.Result{
			Request: inv.call,
			Details: wamp.ResultDetails{Progress: m.Options.Progress, PPT: m.Options.PPT},
			Payload: m.Payload,
		})
	}
}

// failInvocation handles ERROR, which only a callee sends.
func (r *Realm) failInvocation(s *Session, m *wamp.ErrorMessage) {
	if m.Type != wamp.KindInvocation {
		r.violate(s, fmt.Sprintf("ERROR for request type %d: a client answers only INVOCATION with it", m.Type))
		return
	}
	inv := r.answered(s, wamp.KindError, m.Request)
	if inv == nil {
		return
	}
	r.finish(inv)
	if inv.caller == nil {
		return
	}
	uri := m.URI
	if !wamp.LooseURIs.ValidURI(uri) {
		uri = wamp.ErrInvalidURI
	}
	r.send(inv.caller, &wamp.ErrorMessage{
		Type: wamp.KindCall, Request: inv.call, URI: uri,
		Details: wamp.ErrorDetails{PPT: m.Details.PPT}, Payload: m.Payload,
	})
}

// answered finds the invocation that a callee's message is about: only its own,
// so that nobody answers for another. An unknown one is a protocol violation
// unless it may be one that was forgotten.
func (r *Realm) answered(s *Session, kind wamp.Kind, id wamp.ID) *invocation {
	inv := s.invocations[id]
	if inv == nil && (id > s.forgotten || id == 0) {
		r.violate(s, fmt.Sprintf("%s for invocation %d, which is not pending", kind, id))
	}
	return inv
}

// finish forgets an invocation that has been answered. Its caller, if it has
// one, is left to the caller of finish.
func (r *Realm) finish(inv *invocation) {
	delete(inv.callee.invocations, inv.id)
	if inv.caller != nil {
		delete(inv.caller.calls, inv.call)
		r.stats.PendingCalls--
	}
}

// abandon ends the wait for an invocation's answer, which will be dropped when
// it comes. Unless mode is "skip", the callee is told when it announced that it
// understands; those that did not may break off at an INTERRUPT.
func (r *Realm) abandon(inv *invocation, mode string) {
	callee := inv.callee
	delete(inv.caller.calls, inv.call)
	r.stats.PendingCalls--
	inv.caller = nil
	callee.orphans = append(callee.orphans, inv.id)
	if len(callee.orphans) > maxOrphans {
		oldest := callee.orphans[0]
		callee.orphans = callee.orphans[1:]
		if callee.invocations[oldest] != nil {
			delete(callee.invocations, oldest)
			callee.forgotten = max(callee.forgotten, oldest)
		}
	}
	if mode != "skip" && callee.canCancel && callee.state == joined {
		r.send(callee, &wamp.Interrupt{Request: inv.id, Options: wamp.InterruptOptions{Mode: mode}})
	}
}

func (r *Realm) cancel(s *Session, m *wamp.Cancel) {
	inv := s.calls[m.Request]
	if inv == nil {
		return // the answer and CANCEL have crossed
	}
	mode := m.Options.Mode
	if mode != "skip" && mode != "kill" {
		mode = "killnowait" // the text names no default; "abort" was an older name
	}
	if !inv.callee.canCancel {
		mode = "skip"
	}
	if mode == "kill" {
		if !inv.killed {
			inv.killed = true
			r.send(inv.callee, &wamp.Interrupt{Request: inv.id, Options: wamp.InterruptOptions{Mode: mode}})
		}
		return
	}
	r.refuse(s, wamp.KindCall, m.Request, wamp.Errorf(wamp.ErrCanceled, "the caller has cancelled the call"))
	r.abandon(inv, mode)
}

// Undeliverable reports that m could not be sent to s (its payload cannot be
// expressed in s's serialization, it is larger than s accepts, or s has too
// much waiting), so that whoever waits for an answer gets cause.
func (r *Realm) Undeliverable(s *Session, m wamp.Message, cause *wamp.Error, _ Time) []Effect {
	r.begin()
	switch m := m.(type) {
	case *wamp.Event: // its publisher waits for nothing
	case *wamp.Interrupt: // a courtesy
	case *wamp.Invocation:
		if inv := s.invocations[m.Request]; inv != nil {
			r.finish(inv)
			if inv.caller != nil {
				r.refuse(inv.caller, wamp.KindCall, inv.call, cause)
			}
		}
	case *wamp.Result:
		if s.state != joined {
			break
		}
		if inv := s.calls[m.Request]; m.Details.Progress && inv != nil {
			r.abandon(inv, "killnowait")
		} else if m.Details.Progress {
			break // the call has failed over an earlier result
		}
		r.refuse(s, wamp.KindCall, m.Request, cause)
	case *wamp.ErrorMessage:
		if s.state != joined {
			break
		}
		if m.Payload.Size() > 0 {
			bare := *m
			bare.Payload = wamp.Payload{}
			r.send(s, &bare)
			break
		}
		r.giveUp(s)
	default:
		r.giveUp(s)
	}
	return r.out
}

// giveUp ends a session that cannot even take what every session must.
func (r *Realm) giveUp(s *Session) {
	switch s.state {
	case joined:
		r.leave(s)
	case closing:
		r.remove(s)
	case outside:
		return
	}
	r.emit(Effect{To: s, End: true})
}
