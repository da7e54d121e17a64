package realm

import (
	"fmt"
	"slices"

	"github.com/postern-iot/postern/wamp"
)

func (r *Realm) call(s *Session, m *wamp.Call) {
	if wamp.Reserved(m.Procedure) {
		if waits := r.callMeta(s, m); m.Options.Progress && !waits {
			s.cutOff(m.Request)
		}
		return
	}
	c, disclose, fault := r.route(s, m)
	if fault == errWait {
		return
	}
	if fault != nil {
		r.refuse(s, wamp.KindCall, m.Request, fault)
		if m.Options.Progress {
			s.cutOff(m.Request)
		}
		return
	}
	inv := &invocation{
		caller: s, call: m.Request,
		progress: m.Options.ReceiveProgress, disclose: disclose,
		pinned: m.Options.RunMode == runModePartition,
	}
	if s.calls == nil {
		s.calls = map[wamp.ID]*invocation{}
	}
	s.calls[inv.call] = inv
	r.stats.Calls++
	r.stats.PendingCalls++

	out := &wamp.Invocation{Payload: m.Payload}
	// The specification would withhold receive_progress from callees that
	// announce no progressive results, or announce them without call canceling.
	// Real ones (autobahn-js, wampy) announce too little and support it; others
	// are to ignore it; and what arrives after the caller has left is dropped
	// here, which is what canceling is to prevent.
	out.Details.ReceiveProgress = m.Options.ReceiveProgress
	out.Details.PPT = m.Options.PPT
	out.Details.Progress = m.Options.Progress
	out.Details.RKey = m.Options.RKey
	out.Details.TrustLevel = s.role.trustLevel
	if c.of.match != wamp.MatchExact {
		out.Details.Procedure = m.Procedure
	}
	if after := r.cfg.Timeouts.of(m.Options.Timeout); after > 0 {
		r.watch(inv, c, out, after)
	}
	r.invoke(inv, c, out)
	r.keep(inv, out)
	if m.Options.Progress {
		inv.freeze(m.Procedure, out)
	}
}

// route finds the callee that a call goes to, and whether it is told who calls,
// or the error that answers the call.
func (r *Realm) route(s *Session, m *wamp.Call) (c *callee, disclose bool, fault *wamp.Error) {
	if fault := r.checkURI(m.Procedure, wamp.MatchExact); fault != nil {
		return nil, false, fault
	}
	g, fault := r.authorize(s, actionCall, m.Procedure, wamp.MatchExact)
	if fault == nil {
		disclose, fault = r.discloses(s, m.Options.DiscloseMe, g)
	}
	if fault != nil {
		return nil, false, fault
	}
	if len(s.calls) >= r.cfg.Limits.PendingCalls {
		return nil, false, r.overLimit("the session has %d pending calls, which is the limit", len(s.calls))
	}
	if fault := checkCall(&m.Options); fault != nil {
		return nil, false, fault
	}
	r.matchedRegs = r.registrations.appendMatches(r.matchedRegs[:0], m.Procedure)
	defer clear(r.matchedRegs)
	for _, reg := range r.matchedRegs {
		if c, fault := r.choose(reg, m); c != nil || fault != nil {
			return c, disclose, fault
		}
	}
	return nil, false, wamp.Errorf(wamp.ErrNoSuchProcedure, "no callee is registered for %q", clip(m.Procedure))
}

// choose finds the callee of one registration that a call goes to. Neither it
// nor an error means that the registration does not count for the call.
func (r *Realm) choose(reg *registration, m *wamp.Call) (*callee, *wamp.Error) {
	want := wanted{procedure: m.Procedure, parts: m.Options.Progress, passes: passes(&m.Options.PPT)}
	var c *callee
	if m.Options.RunMode == runModePartition {
		if c = reg.shard(m.Options.RKey, want.permits); c != nil && !want.suits(c) {
			c = nil
		}
	} else {
		c = r.pick(reg, want.suits)
	}
	switch {
	case c != nil || !want.permitted:
		return c, nil
	case !want.able:
		return nil, wamp.Errorf(wamp.ErrFeatureNotSupported, "no callee of %q announced %s", clip(m.Procedure), want.features())
	}
	return nil, wamp.Errorf(wamp.ErrNoAvailableCallee,
		"whoever could answer %q has as many calls as it takes at the same time", clip(m.Procedure))
}

// wanted is what a call wants of its callee.
type wanted struct {
	procedure string
	parts     bool      // the call comes in parts
	passes    bool      // its payload is in passthru mode
	not       []*callee // they have refused it

	// Whether there was a callee that might provide the procedure, and one that
	// could take the call, if not now.
	permitted, able bool
}

// permits reports whether a callee may provide the procedure: a pattern gives
// it no more than its role may register itself.
func (w *wanted) permits(c *callee) bool {
	if c.of.match != wamp.MatchExact && !c.session.role.allows(actionRegister, w.procedure) {
		return false
	}
	w.permitted = true
	return true
}

// suits reports whether the call may go to c.
func (w *wanted) suits(c *callee) bool {
	if !w.permits(c) || w.parts && !c.session.canStream || w.passes && !c.session.passthru.callee {
		return false
	}
	w.able = true
	return c.free() && !slices.Contains(w.not, c)
}

// features names what a callee needs for the call.
func (w *wanted) features() string {
	switch {
	case w.parts && w.passes:
		return "progressive_call_invocations and payload_passthru_mode"
	case w.passes:
		return "payload_passthru_mode"
	}
	return "progressive_call_invocations"
}

// runModePartition sends a call to the shard that has a resource.
const runModePartition = "partition"

// checkCall checks the options of a call that the dealer goes by or keeps: how
// it is to be spread over shards ("Sharded Registration", whose text is a
// sketch; see the package's documentation), and that they are no payload.
func checkCall(o *wamp.CallOptions) *wamp.Error {
	if n := len(o.RKey) + passthruSize(&o.PPT); n > wamp.MaxURI {
		return wamp.Errorf(wamp.ErrInvalidArgument, "rkey and the ppt options have %d bytes, which is more than %d", n, wamp.MaxURI)
	}
	switch {
	case o.RunMode == "":
		return nil
	case o.RunMode != runModePartition:
		return wamp.Errorf(wamp.ErrFeatureNotSupported, "runmode %q is not supported, only partition is", clip(o.RunMode))
	case o.RKey == "":
		return wamp.Errorf(wamp.ErrInvalidArgument, "runmode partition needs an rkey")
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
	if !r.checkPassed(inv, m) {
		return
	}
	if m.Options.Progress {
		r.postpone(inv)
		r.unkeep(inv) // the caller has what another callee would send again
	} else {
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
	if m.URI == wamp.ErrUnavailable && s.canReroute && inv.caller != nil && !inv.killed {
		r.unavailable(inv, m)
		return
	}
	r.finish(inv)
	if inv.caller == nil {
		return
	}
	ppt := m.Details.PPT
	if passthruSize(&ppt) > wamp.MaxURI {
		ppt = wamp.Passthru{}
	}
	uri := m.URI
	if !wamp.LooseURIs.ValidURI(uri) {
		uri = wamp.ErrInvalidURI
	}
	r.send(inv.caller, &wamp.ErrorMessage{
		Type: wamp.KindCall, Request: inv.call, URI: uri,
		Details: wamp.ErrorDetails{PPT: ppt}, Payload: m.Payload,
	})
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
	if !inv.via.session.canCancel {
		mode = "skip"
	}
	if mode == "kill" {
		if !inv.killed {
			inv.killed = true
			r.send(inv.via.session, &wamp.Interrupt{Request: inv.id, Options: wamp.InterruptOptions{Mode: mode}})
		}
		return
	}
	r.refuse(s, wamp.KindCall, m.Request, wamp.Errorf(wamp.ErrCanceled, "the caller has cancelled the call"))
	r.abandon(inv, mode)
}
