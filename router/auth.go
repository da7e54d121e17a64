package router

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/transport"
)

// Authenticator is one way to find out who a client is, in one realm.
type Authenticator interface {
	// Method is its name in HELLO.Details.authmethods: "anonymous", "ticket".
	Method() string
	// Authenticate returns who the client is. It runs on the session's own
	// goroutine and may challenge the client as often as it needs to. A
	// *wamp.Error is the ABORT that the client gets; for any other error that is
	// wamp.error.authentication_failed, without its text.
	Authenticate(ctx context.Context, c *Candidate) (realm.Identity, error)
}

// Candidate is a client that wants to join.
type Candidate struct {
	Realm string
	// AuthID is what the client calls itself, "" for nothing; it is a claim.
	AuthID string
	// Details are HELLO's.
	Details wamp.Dict
	// Conn describes the connection: its TLS state, its HTTP header.
	Conn *transport.Info
	// Challenge sends CHALLENGE and returns the answer. An error is final and
	// is to be returned as it is.
	Challenge func(method string, extra wamp.Dict) (*wamp.Authenticate, error)
}

// anonymous lets everybody in, with a name of its own making.
type anonymous struct{ role string }

// Method implements Authenticator.
func (anonymous) Method() string { return "anonymous" }

// Authenticate implements Authenticator.
func (a anonymous) Authenticate(context.Context, *Candidate) (realm.Identity, error) {
	return realm.Identity{
		AuthID:   "anonymous-" + rand.Text()[:12],
		AuthRole: a.role, AuthMethod: "anonymous", AuthProvider: "static",
	}, nil
}

// authenticator chooses the first of the client's methods that the realm
// offers. A client that names none means anonymous.
func (h *hall) authenticator(details wamp.Dict) (Authenticator, *wamp.Error) {
	var methods []string
	for _, m := range wamp.AsList(details, "authmethods") {
		if name, ok := m.(string); ok {
			methods = append(methods, name)
		}
	}
	named := len(methods) > 0
	if !named {
		methods = []string{"anonymous"}
	}
	for _, m := range methods {
		if i := slices.IndexFunc(h.authenticators, func(a Authenticator) bool { return a.Method() == m }); i >= 0 {
			return h.authenticators[i], nil
		}
	}
	if !named {
		return nil, wamp.Errorf(wamp.ErrAuthenticationRequired, "realm %q wants clients to authenticate: name authmethods in HELLO", h.cfg.Name)
	}
	offered := make([]string, len(h.authenticators))
	for i, a := range h.authenticators {
		offered[i] = a.Method()
	}
	return nil, wamp.Errorf(wamp.ErrNoMatchingAuthMethod, "realm %q offers %s", h.cfg.Name, fmt.Sprintf("%q", offered))
}
