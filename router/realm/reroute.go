package realm

import (
	"github.com/postern-iot/postern/wamp"
)

// reroute is what a call to a shared registration keeps, as long as it may have
// to go to another callee ("Call Re-Routing"). Only callees that announced
// call_reroute are asked to say wamp.error.unavailable when they mean that; from
// others it is an error like any other.
type reroute struct {
	msg   *wamp.Invocation // as the last callee got it
	size  int
	tried []*callee // they are unavailable
}

const (
	// maxKept bounds the payloads that are kept for rerouting, in bytes. Calls
	// beyond it fail where they would be rerouted.
	maxKept = 16 << 20
	// keptOverhead is what a kept message costs besides its payload, at most
	// about: its options are bounded.
	keptOverhead = 2048
	// maxReroutes is how many callees may refuse one call.
	maxReroutes = 64
)

// keep remembers an invocation whose callee may refuse it.
func (r *Realm) keep(inv *invocation, out *wamp.Invocation) {
	if inv.via.session.canReroute {
		r.remember(inv, out)
	}
}

func (r *Realm) remember(inv *invocation, out *wamp.Invocation) {
	if inv.pinned || len(inv.via.of.callees) <= 1 {
		return
	}
	size := keptOverhead + out.Size()
	if r.kept+size > maxKept {
		return
	}
	r.kept += size
	inv.again = &reroute{msg: out, size: size}
}

// unkeep forgets it.
func (r *Realm) unkeep(inv *invocation) {
	if inv.again != nil {
		r.kept -= inv.again.size
		inv.again = nil
	}
}

// unavailable handles a callee's refusal to take a call: another one that
// shares the registration gets it, by the same policy. When there is none, the
// caller is told that no callee is available, and what the last one said.
func (r *Realm) unavailable(inv *invocation, m *wamp.ErrorMessage) {
	if inv.again != nil && r.passOn(inv) {
		return
	}
	r.finish(inv)
	if m.Size() == 0 {
		r.refuse(inv.caller, wamp.KindCall, inv.call, wamp.Errorf(wamp.ErrNoAvailableCallee,
			"no callee of %q is available", clip(inv.via.of.procedure)))
		return
	}
	r.send(inv.caller, &wamp.ErrorMessage{
		Type: wamp.KindCall, Request: inv.call, URI: wamp.ErrNoAvailableCallee,
		Details: wamp.ErrorDetails{PPT: m.Details.PPT}, Payload: m.Payload,
	})
}

// passOn sends a call that is kept to another callee; false when there is none.
func (r *Realm) passOn(inv *invocation) bool {
	kept, was := inv.again, inv.via
	if len(kept.tried) == maxReroutes {
		return false
	}
	kept.tried = append(kept.tried, was)
	want := wanted{procedure: kept.msg.Details.Procedure, parts: inv.stream != nil, passes: passes(&kept.msg.Details.PPT), not: kept.tried}
	c := r.pick(was.of, want.suits)
	if c == nil {
		return false
	}
	r.stats.Rerouted++
	inv.release()
	delete(was.session.invocations, inv.id)
	out := &wamp.Invocation{Details: kept.msg.Details, Payload: kept.msg.Payload}
	out.Details.Caller, out.Details.CallerAuthID, out.Details.CallerAuthRole = 0, "", ""
	if ms := out.Details.Timeout; ms > 0 && !c.forwardTimeout {
		out.Details.Timeout = 0
		r.watch(inv, c, out, Time(ms)*millisecond)
	}
	r.invoke(inv, c, out)
	kept.msg = out
	if inv.stream != nil {
		inv.stream.details = out.Details
	}
	return true
}

// undelivered handles an INVOCATION that did not reach its callee. One with too
// much waiting is like one that refuses the call.
func (r *Realm) undelivered(inv *invocation, m *wamp.Invocation, cause *wamp.Error) {
	switch {
	case inv.caller == nil:
		r.finish(inv)
	case inv.stream != nil && inv.stream.parts > 1:
		// The callee has other parts, and waits for this one.
		r.refuse(inv.caller, wamp.KindCall, inv.call, cause)
		r.abandon(inv, "killnowait")
	default:
		if cause.URI == wamp.ErrUnavailable {
			if inv.again == nil {
				r.remember(inv, m)
			}
			if inv.again != nil && r.passOn(inv) {
				return
			}
		}
		r.finish(inv)
		r.refuse(inv.caller, wamp.KindCall, inv.call, cause)
	}
}
