package router

import (
	"context"
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// newDoor makes the authenticators that a realm's configuration asks for. Those
// that the program has added go before them.
func (h *hall) newDoor(r *Router, c *RealmConfig) (*door, error) {
	users, err := newDirectory(c, r.log)
	if err != nil {
		return nil, err
	}
	d := &door{users: users, local: c.Local}
	if c.Anonymous != "" {
		d.authenticators = append(d.authenticators, anonymous{role: c.Anonymous})
	}
	d.authenticators = append(d.authenticators, h.added...)
	wanted := func(m string) bool { return len(c.Auth.Methods) == 0 || slices.Contains(c.Auth.Methods, m) }
	if h.oracle == nil {
		h.oracle = &oracle{router: r, realm: c.Name, seed: users.seed}
	}
	for _, m := range staticMethods {
		x := exchange{router: r, method: m, key: c.Auth.key()}
		i := slices.IndexFunc(c.Auth.Dynamic, func(d DynamicConfig) bool { return d.Method == m })
		switch {
		case !wanted(m):
		case i >= 0:
			d.authenticators = append(d.authenticators, &dynamic{exchange: x, cfg: c.Auth.Dynamic[i], oracle: h.oracle})
		case len(c.Auth.Users) > 0 || c.Auth.UsersFile != "":
			d.authenticators = append(d.authenticators, &static{exchange: x, users: users})
		}
	}
	if wanted(auth.MethodCookie) && r.cookies.cfg.Lifetime > 0 && len(d.authenticators) > 0 {
		d.authenticators = append(d.authenticators, &byCookie{jar: r.cookies})
	}
	return d, nil
}

// key is the router's own key, nil for none; it has been validated.
func (c *AuthConfig) key() ed25519.PrivateKey {
	key, err := auth.ParsePrivateKey(c.Key)
	if err != nil {
		return nil
	}
	return key
}

// errDenied is what everybody gets who has not proved who they are, whether
// the user exists or not.
var errDenied = wamp.Errorf(wamp.ErrAuthenticationDenied, "who you say you are, and what you show for it, do not match")

// exchange is the part of a method that is the same wherever users are known.
type exchange struct {
	router *Router
	method string
	key    ed25519.PrivateKey // the router's, for cryptosign
}

// Method implements Authenticator.
func (x *exchange) Method() string { return x.method }

// hashing holds a place for something that takes the processor for long.
func (x *exchange) hashing(ctx context.Context) (release func(), err error) {
	select {
	case x.router.kdf <- struct{}{}:
		return func() { <-x.router.kdf }, nil
	case <-ctx.Done():
		return nil, errGone
	}
}

// identity is that of a user who has proved to be it.
func (x *exchange) identity(e *entry, extra wamp.Dict) realm.Identity {
	if extra == nil {
		extra = e.extra
	} else {
		for k, v := range e.extra {
			if _, ours := extra[k]; !ours {
				extra[k] = v
			}
		}
	}
	return realm.Identity{
		AuthID: e.AuthID, AuthRole: e.Role, AuthMethod: x.method, AuthProvider: e.provider, AuthExtra: extra,
	}
}

// prove challenges the client with what is known of e, and reports whether it
// answers as e would.
func (x *exchange) prove(ctx context.Context, c *Candidate, e *entry) (extra wamp.Dict, ok bool, err error) {
	switch x.method {
	case auth.MethodTicket:
		return x.proveTicket(ctx, c, e)
	case auth.MethodCRA:
		return x.proveCRA(ctx, c, e)
	case auth.MethodScram, auth.MethodScramOld:
		return x.proveScram(ctx, c, e)
	}
	return x.proveKey(c)
}

func (x *exchange) proveTicket(ctx context.Context, c *Candidate, e *entry) (wamp.Dict, bool, error) {
	m, err := c.Challenge(x.method, wamp.Dict{})
	if err != nil {
		return nil, false, err
	}
	release, err := x.hashing(ctx)
	if err != nil {
		return nil, false, err
	}
	defer release()
	return nil, e.ticket().Matches(m.Signature), nil
}

func (x *exchange) proveCRA(ctx context.Context, c *Candidate, e *entry) (wamp.Dict, bool, error) {
	release, err := x.hashing(ctx)
	if err != nil {
		return nil, false, err
	}
	key := e.cra()
	release()
	challenge, extra, err := key.Challenge(wamp.Dict{
		"authid": e.AuthID, "authrole": e.Role, "authprovider": e.provider, "session": uint64(c.Session),
	}, time.Now())
	if err != nil {
		return nil, false, err
	}
	m, err := c.Challenge(x.method, extra)
	if err != nil {
		return nil, false, err
	}
	return nil, challenge.Signed(m), nil
}

func (x *exchange) proveScram(ctx context.Context, c *Candidate, e *entry) (wamp.Dict, bool, error) {
	release, err := x.hashing(ctx)
	if err != nil {
		return nil, false, err
	}
	keys, err := e.scram()
	release()
	if err != nil {
		return nil, false, err
	}
	challenge, extra, err := keys.Challenge(x.method, c.AuthID, c.extra(), c.Conn.TLS)
	if err != nil {
		return nil, false, wamp.Errorf(wamp.ErrAuthenticationFailed, "%s: %v", x.method, err)
	}
	m, err := c.Challenge(x.method, extra)
	if err != nil {
		return nil, false, err
	}
	welcome, ok := challenge.Signed(m)
	return welcome, ok, nil
}

// proveKey has the client show that it has the private half of the key in its
// HELLO; whose that is, is another matter.
func (x *exchange) proveKey(c *Candidate) (wamp.Dict, bool, error) {
	challenge, extra, err := auth.ChallengeCryptosign(c.extra(), c.Conn.TLS, x.key)
	if err != nil {
		return nil, false, wamp.Errorf(wamp.ErrAuthenticationFailed, "%v", err)
	}
	m, err := c.Challenge(x.method, extra)
	if err != nil {
		return nil, false, err
	}
	return nil, challenge.Signed(m), nil
}

// able reports whether the client has said what the method begins with.
func (x *exchange) able(c *Candidate) bool {
	switch x.method {
	case auth.MethodCryptosign:
		return wamp.AsString(c.extra(), "pubkey") != "" && (c.AuthID == "" || validAuthID(c.AuthID))
	case auth.MethodScram, auth.MethodScramOld:
		return validAuthID(c.AuthID) && wamp.AsString(c.extra(), "nonce") != ""
	case auth.MethodTLS:
		return c.Conn.TLS != nil && len(c.Conn.TLS.PeerCertificates) > 0
	}
	return validAuthID(c.AuthID)
}

// static authenticates the users of a directory.
type static struct {
	exchange
	users *directory
}

// able implements selective. It does not depend on whether the user exists, or
// which methods it has; but a certificate that is nobody's is no secret.
func (a *static) able(c *Candidate) bool {
	if !a.exchange.able(c) {
		return false
	}
	if a.method == auth.MethodTLS {
		return a.users.byCertificate(c.AuthID, c.Conn.TLS) != nil
	}
	return a.users.offers(a.method)
}

// Authenticate implements Authenticator.
func (a *static) Authenticate(ctx context.Context, c *Candidate) (realm.Identity, error) {
	var e *entry
	known := false
	switch a.method {
	case auth.MethodTLS:
		if e = a.users.byCertificate(c.AuthID, c.Conn.TLS); e == nil {
			return realm.Identity{}, errDenied
		}
		return a.identity(e, nil), nil
	case auth.MethodCryptosign:
		e = a.users.byKey(c.AuthID, wamp.AsString(c.extra(), "pubkey"))
		known = e != nil
	default:
		e, known = a.users.find(c, a.method)
	}
	extra, ok, err := a.prove(ctx, c, e)
	switch {
	case err != nil:
		return realm.Identity{}, err
	case !ok || !known:
		return realm.Identity{}, errDenied
	}
	return a.identity(e, extra), nil
}
