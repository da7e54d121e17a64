package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func TestHandshakeRefusals(t *testing.T) {
	cfg := openConfig()
	closed := OpenRealm("closed")
	closed.Anonymous = ""
	cfg.Realms = append(cfg.Realms, closed)
	roles := hello("realm1").Details
	with := func(key string, value any) wamp.Dict {
		return wamp.Dict{"roles": roles["roles"], key: value}
	}
	for name, c := range map[string]struct {
		first  wamp.Message
		reason string
	}{
		"no such realm":        {&wamp.Hello{Realm: "realm2", Details: roles}, wamp.ErrNoSuchRealm},
		"invalid realm":        {&wamp.Hello{Realm: "two words", Details: roles}, wamp.ErrInvalidURI},
		"no roles":             {&wamp.Hello{Realm: "realm1"}, wamp.ErrProtocolViolation},
		"empty roles":          {&wamp.Hello{Realm: "realm1", Details: wamp.Dict{"roles": wamp.Dict{}}}, wamp.ErrProtocolViolation},
		"unknown roles":        {&wamp.Hello{Realm: "realm1", Details: wamp.Dict{"roles": wamp.Dict{"broker": wamp.Dict{}}}}, wamp.ErrProtocolViolation},
		"roles are no dict":    {&wamp.Hello{Realm: "realm1", Details: wamp.Dict{"roles": wamp.List{"caller"}}}, wamp.ErrProtocolViolation},
		"role is no dict":      {&wamp.Hello{Realm: "realm1", Details: wamp.Dict{"roles": wamp.Dict{"caller": true}}}, wamp.ErrProtocolViolation},
		"goodbye first":        {&wamp.Goodbye{Reason: wamp.CloseRealm}, wamp.ErrProtocolViolation},
		"call first":           {&wamp.Call{Request: 1, Procedure: "com.a"}, wamp.ErrProtocolViolation},
		"error first":          {&wamp.ErrorMessage{Type: wamp.KindInvocation, Request: 1, URI: "com.a"}, wamp.ErrProtocolViolation},
		"authenticate first":   {&wamp.Authenticate{Signature: "x"}, wamp.ErrProtocolViolation},
		"welcome first":        {&wamp.Welcome{Session: 1}, wamp.ErrProtocolViolation},
		"needs authentication": {&wamp.Hello{Realm: "closed", Details: roles}, wamp.ErrAuthenticationRequired},
		"anonymous not wanted": {&wamp.Hello{Realm: "closed", Details: with("authmethods", wamp.List{"anonymous"})}, wamp.ErrNoMatchingAuthMethod},
		"unknown method":       {&wamp.Hello{Realm: "realm1", Details: with("authmethods", wamp.List{"ticket", int64(7)})}, wamp.ErrNoMatchingAuthMethod},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := start(t, cfg)
			p := pipe(t, r, codec.JSON)
			p.send(c.first)
			if m := p.aborted(c.reason); wamp.AsString(m.Details, "message") == "" {
				t.Error("ABORT has no message for people")
			}
			if st := r.Stats(); st.Realms["realm1"].Joined != 0 {
				t.Errorf("afterwards: %+v", st)
			}
		})
	}
}

func TestAbortInHandshakeIsNotAnswered(t *testing.T) {
	r, _ := start(t, openConfig())
	p := pipe(t, r, codec.JSON)
	p.send(&wamp.Abort{Reason: "com.example.changed_my_mind"})
	p.ended()
}

// TestWelcome checks what clients read from WELCOME.
func TestWelcome(t *testing.T) {
	r, _ := start(t, openConfig(), WithAgent("postern/test"))
	p := pipe(t, r, codec.JSON)
	h := hello("realm1")
	h.Details["authid"] = "admin" // a claim that nobody has checked
	h.Details["authrole"] = RoleTrusted
	h.Details["authmethods"] = wamp.List{"wampcra", "anonymous"}
	p.send(h)
	w := expect[*wamp.Welcome](p)
	if !w.Session.Valid() {
		t.Errorf("session %d", w.Session)
	}
	for key, want := range map[string]string{
		"realm": "realm1", "agent": "postern/test", "authrole": "anonymous", "authmethod": "anonymous", "authprovider": "static",
	} {
		if got := wamp.AsString(w.Details, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if id := wamp.AsString(w.Details, "authid"); !strings.HasPrefix(id, "anonymous-") {
		t.Errorf("authid is %q", id)
	}
	for role, feature := range map[string]string{"broker": "pattern_based_subscription", "dealer": "call_canceling"} {
		if !wamp.AsBool(wamp.AsDict(wamp.AsDict(wamp.AsDict(w.Details, "roles"), role), "features"), feature) {
			t.Errorf("%s does not announce %s: %v", role, feature, w.Details)
		}
	}
}

func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		silent := pipe(t, r, codec.CBOR)
		began := time.Now()
		silent.aborted(wamp.ErrProtocolViolation)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		// Who has joined may be silent.
		joined := pipe(t, r, codec.CBOR).joins()
		time.Sleep(time.Hour)
		joined.send(&wamp.Subscribe{Request: 1, Topic: "com.a"})
		expect[*wamp.Subscribed](joined)
	})
}

// TestLimitBeforeWelcome: 16 KiB until it has joined, 1 MiB from then on.
func TestLimitBeforeWelcome(t *testing.T) {
	everywhere(t, openConfig(), func(t *testing.T, _ *Router, dial func() *peer) {
		p := dial()
		h := hello("realm1")
		h.Details["padding"] = strings.Repeat("x", 17<<10)
		p.send(h)
		if p.conn.Info().Transport == "pipe" {
			p.ended() // it is cut by the pipe itself
		} else {
			p.aborted(wamp.ErrPayloadSizeExceeded)
		}
		p = dial().joins()
		p.send(&wamp.Publish{Request: 1, Topic: "com.a", Options: wamp.PublishOptions{Acknowledge: true}, Payload: p.payload(strings.Repeat("x", 1<<20-200))})
		expect[*wamp.Published](p)
	})
}

// twoSteps asks for two things in a row, as a second factor would.
type twoSteps struct{ t *testing.T }

func (twoSteps) Method() string { return "twosteps" }

func (a twoSteps) Authenticate(_ context.Context, c *Candidate) (realm.Identity, error) {
	if c.Realm != "realm1" || c.AuthID != "alice" || c.Conn.Transport != "pipe" || c.Details["x"] != "y" {
		a.t.Errorf("candidate %+v", c)
	}
	for i, want := range []string{"first", "second"} {
		answer, err := c.Challenge("twosteps", wamp.Dict{"step": int64(i)})
		if err != nil {
			return realm.Identity{}, err
		}
		switch answer.Signature {
		case want:
		case "broken":
			return realm.Identity{}, errors.New("the database is on fire")
		case "panic":
			panic("the authenticator is broken")
		default:
			return realm.Identity{}, wamp.Errorf(wamp.ErrAuthenticationDenied, "that is not it")
		}
	}
	if c.Details["role"] == "none" {
		return realm.Identity{AuthRole: "nobody"}, nil
	}
	return realm.Identity{AuthID: "alice", AuthRole: "anonymous", AuthMethod: "twosteps", AuthProvider: "test"}, nil
}

func TestAuthenticator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Realms[0].Anonymous = ""
		r, log := start(t, cfg, WithAuthenticator("realm1", twoSteps{t}))
		begin := func(more ...string) *peer {
			p := pipe(t, r, codec.MessagePack)
			h := hello("realm1")
			h.Details["authid"], h.Details["x"] = "alice", "y"
			h.Details["authmethods"] = wamp.List{"other", "twosteps"}
			for i := 0; i < len(more); i += 2 {
				h.Details[more[i]] = more[i+1]
			}
			p.send(h)
			return p
		}
		answer := func(p *peer, step int64, signature string) {
			t.Helper()
			if c := expect[*wamp.Challenge](p); c.AuthMethod != "twosteps" || c.Extra["step"] != step {
				t.Errorf("CHALLENGE %+v", c)
			}
			p.send(&wamp.Authenticate{Signature: signature})
		}
		p := begin()
		answer(p, 0, "first")
		answer(p, 1, "second")
		if w := expect[*wamp.Welcome](p); w.Details["authid"] != "alice" || w.Details["authmethod"] != "twosteps" {
			t.Errorf("WELCOME %+v", w)
		}
		p = begin()
		answer(p, 0, "wrong")
		p.aborted(wamp.ErrAuthenticationDenied)

		p = begin()
		answer(p, 0, "broken")
		if m := p.aborted(wamp.ErrAuthenticationFailed); strings.Contains(fmt.Sprint(m.Details), "fire") {
			t.Errorf("internals leaked: %v", m.Details)
		}
		if synctest.Wait(); !log.has("on fire") {
			t.Error("the log does not say why it failed")
		}

		p = begin("role", "none")
		answer(p, 0, "first")
		answer(p, 1, "second")
		p.aborted(wamp.ErrNoSuchRole)

		p = begin()
		expect[*wamp.Challenge](p)
		p.send(hello("realm1"))
		p.aborted(wamp.ErrProtocolViolation)

		p = begin()
		expect[*wamp.Challenge](p)
		began := time.Now()
		p.aborted(wamp.ErrProtocolViolation)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("AUTHENTICATE was awaited for %v", took)
		}

		p = begin()
		answer(p, 0, "panic")
		p.ended()
		if synctest.Wait(); r.Stats().Panics != 1 || !log.has("the authenticator is broken") {
			t.Errorf("the panic is not to be seen: %+v", r.Stats())
		}
	})
	if _, err := New(openConfig(), WithAuthenticator("nowhere", twoSteps{t})); err == nil {
		t.Error("an authenticator for no realm is accepted")
	}
}

func TestLocal(t *testing.T) {
	cfg := openConfig()
	cfg.Realms = append(cfg.Realms, OpenRealm("realm2"))
	r, _ := start(t, cfg)
	local := func(ctx context.Context) *peer {
		conn, err := r.Local(ctx, user, "realm1")
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, conn)
	}
	p := local(t.Context())
	h := hello("realm1")
	h.Details["authid"], h.Details["authmethods"] = "somebody.else", wamp.List{"ticket"}
	p.send(h)
	if w := expect[*wamp.Welcome](p); w.Details["authid"] != "user" || w.Details["authrole"] != RoleTrusted || w.Details["authmethod"] != "local" {
		t.Errorf("WELCOME %+v", w.Details)
	}
	p = local(t.Context())
	p.send(hello("realm2"))
	p.aborted(wamp.ErrNoSuchRealm)

	ctx, cancel := context.WithCancel(t.Context())
	p = local(ctx).joins()
	cancel()
	p.ended()

	if _, err := r.Local(t.Context(), user, "nowhere"); err == nil {
		t.Error("a realm that is not there")
	}
	if _, err := r.Local(t.Context(), realm.Identity{AuthRole: "nobody"}, "realm1"); err == nil {
		t.Error("a role that is not there")
	}
}

func TestSessionsPerRealm(t *testing.T) {
	cfg := openConfig()
	cfg.Realms[0].Limits.Sessions = 1
	r, _ := start(t, cfg)
	first := pipe(t, r, codec.JSON).joins()
	second := pipe(t, r, codec.JSON)
	second.send(hello("realm1"))
	second.aborted(realm.ErrLimitExceeded)
	first.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
	expect[*wamp.Goodbye](first)
	first.ended()
	pipe(t, r, codec.JSON).joins()
}
