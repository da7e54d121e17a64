package router

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

// dynamic authenticates by what a procedure in the realm says. The arguments
// and the answer are those of Crossbar's dynamic authenticators: the
// specification leaves them open.
type dynamic struct {
	exchange
	cfg    DynamicConfig
	oracle *oracle
}

// able implements selective.
func (a *dynamic) able(c *Candidate) bool {
	return a.exchange.able(c) || a.method == auth.MethodTicket && c.AuthID == ""
}

// Authenticate implements Authenticator. Whatever goes wrong, nobody joins.
func (a *dynamic) Authenticate(ctx context.Context, c *Candidate) (realm.Identity, error) {
	ticket := ""
	if a.method == auth.MethodTicket {
		m, err := c.Challenge(a.method, wamp.Dict{})
		if err != nil {
			return realm.Identity{}, err
		}
		if ticket = m.Signature; ticket == "" || len(ticket) > auth.MaxTicket {
			return realm.Identity{}, errDenied
		}
	}
	e, err := a.ask(ctx, c, ticket)
	if err != nil {
		return realm.Identity{}, err
	}
	if a.method == auth.MethodTicket || a.method == auth.MethodTLS {
		return a.identity(e, nil), nil
	}
	extra, ok, err := a.prove(ctx, c, e)
	switch {
	case err != nil:
		return realm.Identity{}, err
	case !ok:
		return realm.Identity{}, errDenied
	}
	return a.identity(e, extra), nil
}

// ask calls the procedure.
func (a *dynamic) ask(ctx context.Context, c *Candidate, ticket string) (*entry, error) {
	details := wamp.Dict{
		"authmethod": a.method, "authextra": c.extra(), "session": uint64(c.Session),
		"transport": describe(c.Conn),
	}
	if ticket != "" {
		details["ticket"] = ticket
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	s, err := a.oracle.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("dynamic authenticator: %w", err)
	}
	result, err := s.Call(ctx, a.cfg.Procedure, wamp.List{c.Realm, c.AuthID, details}, nil, client.Timeout(a.cfg.Timeout))
	var refused *wamp.Error
	switch {
	case errors.As(err, &refused) && denies(refused.URI):
		return nil, errDenied
	case err != nil:
		return nil, fmt.Errorf("dynamic authenticator %s: %v", a.cfg.Procedure, err) // not for the client
	}
	e, err := a.read(c, result.Args)
	if err != nil {
		return nil, fmt.Errorf("dynamic authenticator %s: %w", a.cfg.Procedure, err)
	}
	return e, nil
}

// denies reports whether an error is the procedure's "no", rather than what
// happens when it is not there.
func denies(uri string) bool {
	return uri == wamp.ErrAuthenticationDenied || uri == wamp.ErrNoSuchPrincipal || !strings.HasPrefix(uri, "wamp.error.")
}

// describe is what a procedure learns about the connection.
func describe(info *transport.Info) wamp.Dict {
	d := wamp.Dict{"type": info.Transport, "peer": remoteText(info)}
	if info.TLS != nil && len(info.TLS.PeerCertificates) > 0 {
		leaf := info.TLS.PeerCertificates[0]
		d["peer_cert"] = wamp.Dict{
			"sha256": auth.Fingerprint(leaf), "subject": leaf.Subject.String(), "cn": leaf.Subject.CommonName,
			"verified": len(info.TLS.VerifiedChains) > 0,
		}
	}
	return d
}

// read makes a user of the answer: a role, or a dictionary with one.
func (a *dynamic) read(c *Candidate, args wamp.List) (*entry, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("it answers %d values instead of one", len(args))
	}
	answer, ok := args[0].(map[string]any)
	if role, isText := args[0].(string); isText {
		answer, ok = wamp.Dict{"role": role}, true
	}
	if !ok || wamp.AsString(answer, "role") == "" {
		return nil, errors.New("it answers no role")
	}
	if in, given := answer["realm"]; given && in != c.Realm {
		return nil, errors.New("it answers another realm")
	}
	e := &entry{
		User:     User{AuthID: c.AuthID, Role: wamp.AsString(answer, "role")},
		provider: "dynamic", extra: wamp.AsDict(answer, "extra"),
	}
	if name, given := answer["authid"]; given {
		e.AuthID, _ = name.(string)
	} else if e.AuthID == "" && a.method == auth.MethodCryptosign {
		e.AuthID = strings.ToLower(wamp.AsString(c.extra(), "pubkey"))
	}
	if !validAuthID(e.AuthID) {
		return nil, errors.New("it answers no valid authid, and the client has given none")
	}
	return e, a.credential(c, e, answer)
}

// credential takes what the method needs from the answer.
func (a *dynamic) credential(c *Candidate, e *entry, answer wamp.Dict) error {
	secret := wamp.AsString(answer, "secret")
	if len(secret) > auth.MaxTicket {
		return errors.New("the secret is too long")
	}
	iterations, _ := wamp.AsInt(answer, "iterations")
	switch a.method {
	case auth.MethodCRA:
		if secret == "" {
			return errors.New("it answers no secret")
		}
		e.CRA = auth.PlainCRAKey(secret)
		if salt := wamp.AsString(answer, "salt"); salt != "" {
			keylen, given := wamp.AsInt(answer, "keylen")
			if !given {
				keylen = 32
			}
			if iterations < 1 || iterations > 10_000_000 || keylen < 16 || keylen > 64 || len(salt) > 128 {
				return errors.New("its salt, iterations or keylen are out of bounds")
			}
			e.CRA.Salt, e.CRA.Iterations, e.CRA.KeyLen = salt, int(iterations), int(keylen)
		}
	case auth.MethodScram, auth.MethodScramOld:
		if secret != "" {
			e.secret, e.seed = secret, a.oracle.seed
			return nil
		}
		memory, _ := wamp.AsInt(answer, "memory")
		salt, err := hex.DecodeString(wamp.AsString(answer, "salt"))
		stored, err2 := hex.DecodeString(wamp.AsString(answer, "stored-key"))
		server, err3 := hex.DecodeString(wamp.AsString(answer, "server-key"))
		if err := errors.Join(err, err2, err3); err != nil {
			return errors.New("salt, stored-key or server-key are not hexadecimal")
		}
		p := auth.ScramParams{KDF: wamp.AsString(answer, "kdf"), Iterations: int(iterations), Memory: int(memory), Salt: salt}
		p.KDF = strings.Replace(p.KDF, "argon2id-13", auth.KDFArgon2, 1)
		if e.Scram, err = auth.StoredScramKeys(a.method, p, stored, server); err != nil {
			return err
		}
	case auth.MethodCryptosign:
		offered, err := auth.ParsePublicKey(wamp.AsString(c.extra(), "pubkey"))
		if err != nil {
			return errDenied
		}
		if named, given := answer["pubkey"]; given {
			text, _ := named.(string)
			if key, err := auth.ParsePublicKey(text); err != nil || !key.Equal(ed25519.PublicKey(offered)) {
				return errDenied
			}
		}
	}
	return nil
}

// oracle is the session in which a realm's authenticators are called. It
// begins with the first call, and anew when it has ended.
type oracle struct {
	router *Router
	realm  string
	seed   []byte // of the salts

	mu sync.Mutex
	s  *client.Session
}

func (o *oracle) session(ctx context.Context) (*client.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.s != nil {
		select {
		case <-o.s.Done():
		default:
			return o.s, nil
		}
	}
	s, err := client.Join(ctx, func(context.Context) (transport.Conn, error) {
		identity := realm.Identity{AuthID: "postern.authenticator", AuthRole: RoleTrusted, AuthMethod: "local", AuthProvider: "postern"}
		return o.router.Local(context.Background(), identity, o.realm)
	}, client.Config{Realm: o.realm, Log: o.router.log})
	if err != nil {
		return nil, err
	}
	closing := func() {
		select {
		case <-s.Done():
		case <-o.router.halting.Done():
		}
		bound, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(bound) // the router ends it otherwise
	}
	if !o.router.start(closing) {
		_ = s.Close(ctx)
		return nil, ErrClosed
	}
	o.s = s
	return s, nil
}
