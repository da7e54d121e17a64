package realm

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// passthru is where a session can take and send payloads that the router does
// not look into ("Payload Passthru Mode"): as what it announced that.
type passthru struct{ caller, callee, publisher bool }

func (s *Session) announcedPassthru() passthru {
	const feature = "payload_passthru_mode"
	return passthru{
		caller: s.Feature("caller", feature), callee: s.Feature("callee", feature),
		publisher: s.Feature("publisher", feature),
	}
}

// passes reports whether a payload is in passthru mode: by its scheme, without
// which the other attributes mean nothing.
func passes(p *wamp.Passthru) bool { return p.Scheme != "" }

func passthruSize(p *wamp.Passthru) int {
	return len(p.Scheme) + len(p.Serializer) + len(p.Cipher) + len(p.KeyID)
}

// mayPass ends a session that sends a payload in passthru mode and did not
// announce that it would, as the text wants it; false when it did.
func (r *Realm) mayPass(s *Session, m wamp.Message) bool {
	var fault bool
	switch m := m.(type) {
	case *wamp.Call:
		fault = passes(&m.Options.PPT) && !s.passthru.caller
	case *wamp.Publish:
		fault = passes(&m.Options.PPT) && !s.passthru.publisher
	case *wamp.Yield:
		fault = passes(&m.Options.PPT) && !s.passthru.callee
	}
	if fault {
		r.violate(s, fmt.Sprintf("%s with a ppt_scheme from a session that did not announce payload_passthru_mode", m.Kind()))
	}
	return !fault
}

// checkPassed answers a result that its caller cannot take, or whose attributes
// are a payload themselves: the caller gets an error. The text would have the callee
// get one as well, but there is no ERROR for YIELD, and a callee that gets one
// anyhow takes that for a breach of the protocol. True when the result is fine.
func (r *Realm) checkPassed(inv *invocation, m *wamp.Yield) bool {
	var fault *wamp.Error
	n := passthruSize(&m.Options.PPT)
	switch {
	case n > wamp.MaxURI:
		fault = wamp.Errorf(wamp.ErrInvalidArgument, "the ppt options have %d bytes, which is more than %d", n, wamp.MaxURI)
	case passes(&m.Options.PPT) && inv.caller != nil && !inv.caller.passthru.caller:
		fault = wamp.Errorf(wamp.ErrFeatureNotSupported, "the caller did not announce payload_passthru_mode")
	default:
		return true
	}
	if inv.caller != nil {
		r.refuse(inv.caller, wamp.KindCall, inv.call, fault)
	}
	switch {
	case !m.Options.Progress:
		r.finish(inv)
	case inv.caller != nil:
		r.abandon(inv, "killnowait")
	}
	return false
}
