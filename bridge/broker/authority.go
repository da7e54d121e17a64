package broker

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
)

// Authority knows users and what they may do: the realm does.
type Authority interface {
	// Admit counts a connection; false when there are too many, in all or from
	// its address. release counts it out.
	Admit(remote net.Addr) (release func(), ok bool)
	// Authenticate says who a client is. It may wait, when too many have failed.
	Authenticate(ctx context.Context, c Claim) (authid, role string, err error)
	// Publishes and Subscribes report whether a role may do that with every URI
	// that a pattern matches.
	Publishes(role, pattern string, match wamp.Match) bool
	Subscribes(role, pattern string, match wamp.Match) bool
}

// Claim is what a client says of itself, and shows for it.
type Claim struct {
	Name, Password string
	Remote         net.Addr
	TLS            *tls.ConnectionState // nil for a connection without
	// Check says whether the password is right, for the broker's own users, whose
	// attempts are counted and slowed down like others; nil for the realm's.
	Check func() bool
}

// Names says under which URIs topics and filters are judged; bridge.Naming does.
type Names interface {
	Names(filter string) []bridge.Subscription
}

// Host is what the broker gets from the gateway; the zero Host is for tests
// without a realm.
type Host struct {
	// Authority and Names are the realm's; without them only the broker's own
	// users are known, and a role may do nothing.
	Authority Authority
	Names     Names
	// Open opens an address; net.Listen does without it.
	Open func(address string) (net.Listener, error)
}

// may reports whether a role may publish or subscribe to what filter matches.
// The empty role may do everything.
func (h *Host) may(role, filter string, publish bool) bool {
	if role == everything {
		return true
	}
	if h.Authority == nil || h.Names == nil {
		return false
	}
	names := h.Names.Names(filter)
	for _, n := range names {
		allowed := h.Authority.Subscribes
		if publish {
			allowed = h.Authority.Publishes
		}
		if !allowed(role, n.Pattern, n.Match) {
			return false
		}
	}
	return len(names) > 0
}

// everything is the role of clients whom the configuration gives all rights.
const everything = ""
