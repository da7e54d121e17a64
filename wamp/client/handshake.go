package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// maxChallenges bounds the rounds of an authentication; every known method
// needs one.
const maxChallenges = 4

// roles are the roles and features announced in HELLO: what this package does
// something for, and nothing else.
func roles() wamp.Dict {
	features := func(names ...string) wamp.Dict {
		f := wamp.Dict{}
		for _, name := range names {
			f[name] = true
		}
		return wamp.Dict{"features": f}
	}
	return wamp.Dict{
		"caller": features("call_canceling", "call_timeout", "caller_identification", "progressive_call_results"),
		"callee": features("call_canceling", "call_timeout", "caller_identification", "call_trustlevels",
			"call_reroute", "pattern_based_registration", "progressive_call_results", "registration_revocation",
			"shared_registration"),
		"publisher": features("publisher_exclusion", "publisher_identification", "subscriber_blackwhite_listing"),
		"subscriber": features("pattern_based_subscription", "publication_trustlevels", "publisher_identification",
			"subscription_revocation"),
	}
}

func (cfg *Config) hello(info *transport.Info) *wamp.Hello {
	methods, extra := wamp.List{}, wamp.Dict{}
	for _, a := range cfg.Auth {
		if b, ok := a.(ConnectionBinder); ok {
			b.Connection(info.TLS)
		}
		methods = append(methods, a.AuthMethod())
		for k, v := range a.AuthExtra() {
			extra[k] = v
		}
	}
	if len(methods) == 0 {
		methods = append(methods, "anonymous")
	}
	d := wamp.Dict{"agent": "postern", "roles": roles(), "authmethods": methods}
	if cfg.AuthID != "" {
		d["authid"] = cfg.AuthID
	}
	if len(extra) > 0 {
		d["authextra"] = extra
	}
	return &wamp.Hello{Realm: cfg.Realm, Details: d}
}

// connect dials and joins once.
func (s *Session) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.HandshakeTimeout,
		fmt.Errorf("not joined within %v: %w", s.cfg.HandshakeTimeout, context.DeadlineExceeded))
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("join realm %q: %w", s.cfg.Realm, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	conn.SetReadLimit(s.cfg.MaxMessage)
	w, err := s.cfg.join(conn)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("join realm %q: %w", s.cfg.Realm, err)
	}
	return newLink(s, conn, w), nil
}

// join says HELLO and answers what it is asked until it is welcome.
func (cfg *Config) join(conn transport.Conn) (*wamp.Welcome, error) {
	if err := say(conn, cfg.hello(conn.Info())); err != nil {
		return nil, err
	}
	for challenges := 0; ; {
		b, err := conn.Read()
		if err != nil {
			return nil, fmt.Errorf("connection lost: %w", err)
		}
		m, err := conn.Info().Codec.Decode(b, codec.Limits{})
		if err != nil {
			return nil, quit(conn, wamp.ErrProtocolViolation, err)
		}
		switch m := m.(type) {
		case *wamp.Welcome:
			if !m.Session.Valid() {
				return nil, quit(conn, wamp.ErrProtocolViolation, fmt.Errorf("WELCOME with session ID %d", m.Session))
			}
			if err := cfg.welcome(m); err != nil {
				return nil, quit(conn, wamp.ErrAuthenticationFailed, err)
			}
			return m, nil
		case *wamp.Abort:
			return nil, abortError(m)
		case *wamp.Challenge:
			if challenges++; challenges > maxChallenges {
				return nil, quit(conn, wamp.ErrProtocolViolation, fmt.Errorf("more than %d challenges", maxChallenges))
			}
			reply, err := cfg.authenticate(m)
			if err != nil {
				return nil, quit(conn, wamp.ErrAuthenticationFailed, err)
			}
			if err := say(conn, reply); err != nil {
				return nil, err
			}
		default:
			return nil, quit(conn, wamp.ErrProtocolViolation, fmt.Errorf("%v instead of WELCOME", m.Kind()))
		}
	}
}

func (cfg *Config) authenticate(c *wamp.Challenge) (*wamp.Authenticate, error) {
	for _, a := range cfg.Auth {
		if a.AuthMethod() != c.AuthMethod {
			continue
		}
		reply, err := a.Challenge(c)
		if err != nil {
			return nil, fmt.Errorf("answer a %q challenge: %w", c.AuthMethod, err)
		}
		return reply, nil
	}
	return nil, fmt.Errorf("router asks for %q, which was not offered", c.AuthMethod)
}

// welcome lets the method that the router says to have used check WELCOME. A
// router cannot get around the check by naming one that was not offered.
func (cfg *Config) welcome(w *wamp.Welcome) error {
	method := wamp.AsString(w.Details, "authmethod")
	offered := slices.ContainsFunc(cfg.Auth, func(a Authenticator) bool { return a.AuthMethod() == method })
	for _, a := range cfg.Auth {
		c, checks := a.(WelcomeChecker)
		if !checks || offered && a.AuthMethod() != method {
			continue
		}
		if err := c.Welcome(w); err != nil {
			return fmt.Errorf("%s: %w", a.AuthMethod(), err)
		}
	}
	return nil
}

func say(conn transport.Conn, m wamp.Message) error {
	b, err := conn.Info().Codec.Append(nil, m)
	if err != nil {
		return fmt.Errorf("encode %v: %w", m.Kind(), err)
	}
	if err := conn.Write(b); err != nil {
		return fmt.Errorf("send %v: %w", m.Kind(), err)
	}
	return nil
}

// quit breaks off the handshake. The router need not know the details.
func quit(conn transport.Conn, reason string, why error) error {
	_ = say(conn, &wamp.Abort{Details: wamp.Dict{}, Reason: reason})
	return why
}

// abortError is the *wamp.Error that an ABORT stands for.
func abortError(m *wamp.Abort) *wamp.Error {
	e := wireError(m.Reason, m.Payload)
	if len(e.Args) == 0 {
		e.Args = detailError(m.Reason, m.Details).Args
	}
	return e
}

// detailError is the *wamp.Error for a reason with a "message" in its details.
func detailError(reason string, details wamp.Dict) *wamp.Error {
	e := &wamp.Error{URI: reason}
	if text := wamp.AsString(details, "message"); text != "" {
		e.Args = wamp.List{text}
	}
	return e
}

// final reports whether joining again at once is pointless: the router has
// understood, and said no.
func final(err error) bool {
	var e *wamp.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.URI {
	case wamp.ErrNoSuchRealm, wamp.ErrNoSuchRole, wamp.ErrNoSuchPrincipal, wamp.ErrInvalidURI,
		wamp.ErrAuthenticationFailed, wamp.ErrAuthenticationDenied, wamp.ErrAuthenticationRequired,
		wamp.ErrNoMatchingAuthMethod, wamp.ErrNotAuthorized, wamp.ErrAuthorizationDenied,
		wamp.ErrAuthorizationFailed, wamp.ErrProtocolViolation:
		return true
	}
	return false
}
