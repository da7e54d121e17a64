package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

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

// selective is an Authenticator that not every client can use: one without a
// certificate, without a user's name. It is passed over then, for the next of
// the client's methods.
type selective interface {
	able(c *Candidate) bool
}

// Candidate is a client that wants to join.
type Candidate struct {
	Realm string
	// AuthID is what the client calls itself, "" for nothing; it is a claim.
	AuthID string
	// Session is the ID that the session will have.
	Session wamp.ID
	// Details are HELLO's.
	Details wamp.Dict
	// Conn describes the connection: its TLS state, its HTTP header.
	Conn *transport.Info
	// Challenge sends CHALLENGE and returns the answer. An error is final and
	// is to be returned as it is.
	Challenge func(method string, extra wamp.Dict) (*wamp.Authenticate, error)
}

// extra is HELLO's authextra.
func (c *Candidate) extra() wamp.Dict { return wamp.AsDict(c.Details, "authextra") }

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

// door is how clients get into a realm.
type door struct {
	authenticators []Authenticator
	users          *directory
	local          string // role of the gateway's own user; empty for none
}

// authenticator chooses the first of the client's methods that the realm
// offers and the client can use. A client that names none means anonymous.
func (d *door) authenticator(c *Candidate) (Authenticator, *wamp.Error) {
	var methods []string
	for _, m := range wamp.AsList(c.Details, "authmethods") {
		if name, ok := m.(string); ok && len(methods) < maxMethods {
			methods = append(methods, name)
		}
	}
	named := len(methods) > 0
	if !named {
		methods = []string{"anonymous"}
	}
	for _, m := range methods {
		i := slices.IndexFunc(d.authenticators, func(a Authenticator) bool { return a.Method() == m })
		if i < 0 {
			continue
		}
		if s, ok := d.authenticators[i].(selective); !ok || s.able(c) {
			return d.authenticators[i], nil
		}
	}
	if !named {
		return nil, wamp.Errorf(wamp.ErrAuthenticationRequired, "realm %q wants clients to authenticate: name authmethods in HELLO", c.Realm)
	}
	offered := make([]string, len(d.authenticators))
	for i, a := range d.authenticators {
		offered[i] = a.Method()
	}
	return nil, wamp.Errorf(wamp.ErrNoMatchingAuthMethod, "realm %q offers %s", c.Realm, fmt.Sprintf("%q", offered))
}

// maxMethods bounds the methods that are looked at in one HELLO.
const maxMethods = 16

// authenticate finds out who a client is.
func (r *Router) authenticate(ctx context.Context, d *door, c *Candidate) (realm.Identity, error) {
	a, fault := d.authenticator(c)
	if fault != nil {
		return realm.Identity{}, fault
	}
	if _, open := a.(anonymous); open {
		return a.Authenticate(ctx, c)
	}
	return r.attempt(ctx, a, c)
}

// attempt lets a client authenticate by one method, slowed down when too many
// have failed, and notes it for those who look into the log afterwards. No secret
// is in there.
func (r *Router) attempt(ctx context.Context, a Authenticator, c *Candidate) (realm.Identity, error) {
	var keys []string
	if c.AuthID != "" { // else it cannot be guessed for: it is a key that names the user
		keys = append(keys, fmt.Sprintf("user %s %.256s", c.Realm, c.AuthID))
	}
	if key := addressKey(c.Conn.Remote); key != "" {
		keys = append(keys, "address "+key)
	}
	audit := r.log.With("realm", c.Realm, "authid", fmt.Sprintf("%.64s", c.AuthID), "method", a.Method(), "remote", remoteText(c.Conn))
	wait, ok := r.throttle.wait(time.Now(), keys...)
	if !ok {
		r.counters.authRefused.Add(1)
		audit.Debug("authentication refused: too many failures")
		return realm.Identity{}, wamp.Errorf(wamp.ErrAuthenticationDenied, "too many failed attempts; try again in a minute")
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return realm.Identity{}, errGone
		}
	}
	identity, err := a.Authenticate(ctx, c)
	var denied *wamp.Error
	switch {
	case err == nil:
		audit.Info("authenticated", "as", identity.AuthID, "role", identity.AuthRole, "session", uint64(c.Session))
	case errors.Is(err, errGone):
	case errors.As(err, &denied) && denied.URI == wamp.ErrAuthenticationDenied:
		r.counters.authFailed.Add(1)
		r.throttle.failed(time.Now(), keys...)
		audit.Warn("authentication denied", "slowed", wait > 0)
	default:
		r.counters.authFailed.Add(1)
		audit.Warn("authentication failed", "reason", err.Error())
	}
	if err != nil {
		return realm.Identity{}, fmt.Errorf("authenticate by %q: %w", a.Method(), err)
	}
	return identity, nil
}

func remoteText(info *transport.Info) string {
	if info.Remote == nil {
		return info.Transport
	}
	return info.Remote.String()
}
