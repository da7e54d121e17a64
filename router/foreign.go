package router

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/transport"
)

// Foreign is a client that speaks another protocol and wants to be one of a
// realm's users.
type Foreign struct {
	Realm    string
	Protocol string // for the log
	// Name and Password are what the client sent; without a password it can
	// only be whom its certificate names.
	Name, Password string
	Remote         net.Addr
	TLS            *tls.ConnectionState
	// Check, when it is set, says whether the password is right: Name is a user
	// of the other protocol's own then, and the realm's are not asked.
	Check func() bool
}

// passwordMethods are those that a password is enough for.
var passwordMethods = []string{auth.MethodTicket, auth.MethodCRA, auth.MethodScram, auth.MethodScramOld}

// Identify finds out who a client of another protocol is, with what the realm's
// methods know of users: the password is tried as a WAMP client would that has
// it, so throttling and the log are the same. An error is for the log.
func (r *Router) Identify(ctx context.Context, f Foreign) (realm.Identity, error) {
	h := r.hall(f.Realm)
	if h == nil {
		return realm.Identity{}, fmt.Errorf("there is no realm %q", f.Realm)
	}
	if f.Check != nil {
		return r.attempt(ctx, checked{f}, r.candidate(h, f, auth.MethodTicket))
	}
	d := h.door.Load()
	methods := []string{auth.MethodTLS}
	if f.Password != "" {
		methods = append([]string{}, passwordMethods...)
		if e := d.users.user(f.Name); e != nil { // whose credentials may be of one kind only
			slices.SortStableFunc(methods, func(a, b string) int { return boolToInt(e.has(b)) - boolToInt(e.has(a)) })
		}
	}
	for _, m := range methods {
		c := r.candidate(h, f, m)
		if _, fault := d.authenticator(c); fault != nil {
			continue
		}
		identity, err := r.authenticate(ctx, d, c)
		if err != nil {
			return realm.Identity{}, err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.core.HasRole(identity.AuthRole) {
			return realm.Identity{}, fmt.Errorf("realm %q has no role %q", f.Realm, identity.AuthRole)
		}
		return identity, nil
	}
	return realm.Identity{}, errDenied
}

// checked is the method of users of another protocol's own.
type checked struct{ Foreign }

// Method implements Authenticator.
func (a checked) Method() string { return a.Protocol }

// Authenticate implements Authenticator.
func (a checked) Authenticate(context.Context, *Candidate) (realm.Identity, error) {
	if !a.Check() {
		return realm.Identity{}, errDenied
	}
	return realm.Identity{AuthID: a.Name, AuthMethod: a.Protocol}, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// candidate is a WAMP client that does by one method what f can.
func (r *Router) candidate(h *hall, f Foreign, method string) *Candidate {
	c := &Candidate{
		Realm: f.Realm, AuthID: f.Name, Session: h.newID(), Details: wamp.Dict{"authid": f.Name, "authmethods": wamp.List{method}},
		Conn: &transport.Info{Transport: f.Protocol, Remote: f.Remote, TLS: f.TLS},
	}
	var end auth.Client
	switch method {
	case auth.MethodTicket:
		end = auth.Ticket(f.Password)
	case auth.MethodCRA:
		end = auth.CRA(f.Password)
	case auth.MethodScram, auth.MethodScramOld:
		end = auth.Scram(method, f.Name, f.Password)
	default:
		end = auth.TLS()
	}
	if extra := end.AuthExtra(); extra != nil {
		c.Details["authextra"] = extra
	}
	c.Challenge = func(method string, extra wamp.Dict) (*wamp.Authenticate, error) {
		if method != auth.MethodTicket { // else the router hashes, and counts it
			r.kdf <- struct{}{}
			defer func() { <-r.kdf }()
		}
		m, err := end.Challenge(&wamp.Challenge{AuthMethod: method, Extra: extra})
		if err != nil {
			return nil, errDenied
		}
		return m, nil
	}
	return c
}

// Admit counts a connection of another protocol among the router's; false when
// there are too many, in all or from its address. release counts it out.
func (r *Router) Admit(remote net.Addr) (release func(), ok bool) { return r.admit(remote) }

// MayPublish reports whether a role of a realm may publish to every URI that a
// pattern matches, by the role's permissions alone.
func (r *Router) MayPublish(realmName, role, pattern string, match wamp.Match) bool {
	return r.ask(realmName, func(core *realm.Realm) bool { return core.MayPublish(role, pattern, match) })
}

// MaySubscribe is to subscribing what MayPublish is to publishing.
func (r *Router) MaySubscribe(realmName, role, pattern string, match wamp.Match) bool {
	return r.ask(realmName, func(core *realm.Realm) bool { return core.MaySubscribe(role, pattern, match) })
}

func (r *Router) ask(realmName string, question func(*realm.Realm) bool) bool {
	h := r.hall(realmName)
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return question(h.core)
}
