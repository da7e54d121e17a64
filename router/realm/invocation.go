package realm

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// invocation is a call that a callee has not answered yet.
type invocation struct {
	caller   *Session // nil when nobody waits for the answer any more
	call     wamp.ID  // the caller's request ID
	via      *callee  // which has it to answer
	id       wamp.ID  // the callee's request ID
	progress bool     // the caller asked for progressive results
	disclose bool     // the caller is named
	killed   bool     // the callee was asked to break it off, and the caller waits
	pinned   bool     // no other callee has what the call is about
	running  bool     // it counts among via's running ones
	timer    *timer   // nil without a timeout that the dealer watches
	stream   *stream  // nil when the call comes in one part
	again    *reroute // nil when it cannot be rerouted
}

// maxOrphans is how many invocations without a caller a session may leave
// unanswered before the realm forgets the oldest.
const maxOrphans = 1024

// invoke sends an invocation to a callee; what differs between callees is
// filled in.
func (r *Realm) invoke(inv *invocation, c *callee, out *wamp.Invocation) {
	s := c.session
	s.lastInvocation++
	if s.lastInvocation > wamp.MaxID {
		s.lastInvocation = 1
	}
	if s.invocations == nil {
		s.invocations = map[wamp.ID]*invocation{}
	}
	inv.via, inv.id, inv.running = c, s.lastInvocation, true
	c.running++
	s.invocations[inv.id] = inv
	out.Request, out.Registration = inv.id, c.of.id
	if inv.disclose || c.discloseCaller { // "Caller Identification"
		out.Details.Caller = inv.caller.ID
		out.Details.CallerAuthID = inv.caller.Identity.AuthID
		out.Details.CallerAuthRole = inv.caller.Identity.AuthRole
	}
	r.send(s, out)
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
	inv.release()
	delete(inv.via.session.invocations, inv.id)
	if inv.caller != nil {
		r.settle(inv)
	}
}

// settle ends the wait of an invocation's caller.
func (r *Realm) settle(inv *invocation) {
	delete(inv.caller.calls, inv.call)
	r.stats.PendingCalls--
	r.unwatch(inv)
	r.unkeep(inv)
	if inv.stream != nil && inv.stream.more {
		inv.caller.cutOff(inv.call)
	}
}

// release makes room for another call where the callee limits them.
func (inv *invocation) release() {
	if inv.running {
		inv.running = false
		inv.via.running--
	}
}

// abandon ends the wait for an invocation's answer, which will be dropped when
// it comes. Unless mode is "skip", the callee is told when it announced that it
// understands; those that did not may break off at an INTERRUPT.
func (r *Realm) abandon(inv *invocation, mode string) {
	callee := inv.via.session
	r.settle(inv)
	inv.caller = nil
	callee.orphans = append(callee.orphans, inv.id)
	if len(callee.orphans) > maxOrphans {
		oldest := callee.orphans[0]
		callee.orphans = callee.orphans[1:]
		if forgotten := callee.invocations[oldest]; forgotten != nil {
			forgotten.release()
			delete(callee.invocations, oldest)
			callee.forgotten = max(callee.forgotten, oldest)
		}
	}
	if mode != "skip" && callee.canCancel && callee.state == joined {
		inv.release() // it may break off without an answer
		r.send(callee, &wamp.Interrupt{Request: inv.id, Options: wamp.InterruptOptions{Mode: mode}})
	}
}

// Undeliverable reports that m could not be sent to s (its payload cannot be
// expressed in s's serialization, it is larger than s accepts, or s has too
// much waiting), so that whoever waits for an answer gets cause.
func (r *Realm) Undeliverable(s *Session, m wamp.Message, cause *wamp.Error, now Time) []Effect {
	r.begin(now)
	switch m := m.(type) {
	case *wamp.Event: // its publisher waits for nothing
	case *wamp.Interrupt: // a courtesy
	case *wamp.Invocation:
		if inv := s.invocations[m.Request]; inv != nil {
			r.undelivered(inv, m, cause)
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
	return r.done()
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
