package realm

import (
	"fmt"
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// stream is the part of an invocation whose call comes in several CALLs, which
// become as many INVOCATIONs ("Progressive Call Invocations"). All go to the
// callee that had the first, which must have announced the feature and call
// canceling: one that does not know it takes each part for a call of its own,
// as autobahn and wampy do, which announce neither. The caller need not have
// announced it, though the text would end its session: wampy's progressiveCall
// works without, and what such a CALL means is clear.
type stream struct {
	procedure    string
	registration wamp.ID
	details      wamp.InvocationDetails // the first part's: options are frozen
	parts        int                    // sent to the callee
	more         bool                   // the last part is still to come
}

// maxCut is how many calls a session may have that ended before their last part
// came, and whose late parts are known as such.
const maxCut = 256

// continues handles a CALL that is part of a call that there is, or was; false
// for one that is new.
func (r *Realm) continues(s *Session, m *wamp.Call) bool {
	inv := s.calls[m.Request]
	if inv == nil {
		return len(s.cut) > 0 && s.late(m)
	}
	st := inv.stream
	switch {
	case st == nil:
		r.violate(s, fmt.Sprintf("CALL with request ID %d, which is still pending", m.Request))
		return true
	case !st.more:
		r.violate(s, fmt.Sprintf("CALL with request ID %d after the last part of that call", m.Request))
		return true
	case m.Procedure != st.procedure:
		r.violate(s, fmt.Sprintf("CALL with request ID %d goes on with a call of another procedure", m.Request))
		return true
	}
	r.unkeep(inv) // the callee has what no other would get
	st.parts++
	st.more = m.Options.Progress
	out := &wamp.Invocation{Request: inv.id, Registration: st.registration, Details: st.details, Payload: m.Payload}
	out.Details.Progress = st.more
	r.send(inv.via.session, out)
	return true
}

// freeze notes what all parts of a call have in common, once its first part is
// on its way.
func (inv *invocation) freeze(procedure string, out *wamp.Invocation) {
	inv.stream = &stream{
		procedure: procedure, registration: out.Registration,
		details: out.Details, parts: 1, more: true,
	}
}

// cutOff notes that a call ended before its last part: parts may be under way
// that the caller sent before it knew, and are dropped ("Continuations on
// Completed Calls").
func (s *Session) cutOff(call wamp.ID) {
	if len(s.cut) == maxCut {
		s.cut = slices.Delete(s.cut, 0, 1)
	}
	s.cut = append(s.cut, call)
}

// late reports whether m is part of a call that is over.
func (s *Session) late(m *wamp.Call) bool {
	at := slices.Index(s.cut, m.Request)
	if at >= 0 && !m.Options.Progress {
		s.cut = slices.Delete(s.cut, at, at+1)
	}
	return at >= 0
}
