package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// handshake takes a client from HELLO to WELCOME; false when it did not get
// there, and has been told.
func (s *session) handshake() bool {
	s.conn.SetReadLimit(s.router.limits.Load().HelloBytes)
	err := s.join()
	if err == nil {
		s.conn.SetReadLimit(s.router.limits.Load().MessageBytes)
		return true
	}
	var abort *wamp.Error
	switch {
	case errors.Is(err, errGone):
	case errors.As(err, &abort):
		s.refuse(abort.URI, fmt.Sprint(abort.Args...))
	default:
		// Why an authenticator failed is for the log.
		s.fail(slog.LevelWarn, err)
		s.refuse(wamp.ErrAuthenticationFailed, "authentication failed")
	}
	return false
}

// errGone ends a handshake in which there is nobody to answer.
var errGone = errors.New("the client has gone")

func (s *session) join() error {
	m, err := s.await("HELLO")
	if err != nil {
		return err
	}
	hello, ok := m.(*wamp.Hello)
	if !ok {
		return wamp.Errorf(wamp.ErrProtocolViolation, "received %s before the session was established", m.Kind())
	}
	h, fault := s.admit(hello)
	if fault != nil {
		return fault
	}
	if s.imposed != nil {
		s.member.Identity = *s.imposed
	} else if s.member.Identity, err = s.authenticate(h, hello); err != nil {
		return err
	}
	s.member.Roles = wamp.AsDict(hello.Details, "roles")
	s.stamp = s.door.stampOf(&s.member.Identity)
	s.remember(h)   // before WELCOME: the client may use the cookie at once
	s.hall.Store(h) // before it joins, so that Shutdown sees it there
	if fault := h.join(s); fault != nil {
		s.hall.Store(nil)
		return fault
	}
	return nil
}

// admit checks a HELLO and finds its realm.
func (s *session) admit(hello *wamp.Hello) (*hall, *wamp.Error) {
	if !wamp.LooseURIs.ValidURI(hello.Realm) {
		return nil, wamp.Errorf(wamp.ErrInvalidURI, "%.200q is not a valid realm name", hello.Realm)
	}
	h := s.router.hall(hello.Realm)
	if h == nil || s.imposed != nil && s.imposedRealm != hello.Realm {
		return nil, wamp.Errorf(wamp.ErrNoSuchRealm, "there is no realm %.200q", hello.Realm)
	}
	roles := wamp.AsDict(hello.Details, "roles")
	for _, known := range []string{"publisher", "subscriber", "caller", "callee"} {
		if _, announced := roles[known].(map[string]any); announced {
			return h, nil
		}
	}
	return nil, wamp.Errorf(wamp.ErrProtocolViolation, "HELLO announces none of the roles publisher, subscriber, caller, callee")
}

// authenticate asks the client who it is.
func (s *session) authenticate(h *hall, hello *wamp.Hello) (realm.Identity, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(s.router.halting, cancel)
	defer stop()
	s.member.Wanted = h.newID()
	s.door = h.door.Load()
	if s.owner && s.door.local != "" && !namesMethod(hello) {
		return realm.Identity{AuthID: "local", AuthRole: s.door.local, AuthMethod: methodLocal, AuthProvider: "static"}, nil
	}
	return s.router.authenticate(ctx, s.door, &Candidate{
		Realm:   hello.Realm,
		AuthID:  wamp.AsString(hello.Details, "authid"),
		Details: hello.Details,
		Session: s.member.Wanted,
		Conn:    s.conn.Info(),
		Challenge: func(method string, extra wamp.Dict) (*wamp.Authenticate, error) {
			s.push(&wamp.Challenge{AuthMethod: method, Extra: extra})
			m, err := s.await("AUTHENTICATE")
			if err != nil {
				return nil, err
			}
			answer, ok := m.(*wamp.Authenticate)
			if !ok {
				return nil, wamp.Errorf(wamp.ErrProtocolViolation, "received %s for an answer to CHALLENGE", m.Kind())
			}
			return answer, nil
		},
	})
}

// methodLocal is how sessions of the gateway's own user are said to have
// authenticated: the kernel vouches for them.
const methodLocal = "local"

// namesMethod reports whether a client wants to prove who it is.
func namesMethod(hello *wamp.Hello) bool {
	return slices.ContainsFunc(wamp.AsList(hello.Details, "authmethods"), func(m any) bool { return m != auth.MethodAnonymous })
}

// await reads the next message of the handshake, for as long as that may take.
func (s *session) await(what string) (wamp.Message, error) {
	timeout := s.router.limits.Load().HandshakeTimeout
	late := make(chan struct{})
	timer := time.AfterFunc(timeout, func() {
		defer close(late)
		s.refuse(wamp.ErrProtocolViolation, fmt.Sprintf("no %s within %v", what, timeout))
	})
	m, abort, err := s.decode(s.conn.Read())
	if !timer.Stop() {
		<-late
		return nil, errGone
	}
	if err != nil {
		s.readFailed(err)
		return nil, errGone
	}
	if abort != nil {
		return nil, abort
	}
	if _, gaveUp := m.(*wamp.Abort); gaveUp {
		return nil, errGone
	}
	return m, nil
}
