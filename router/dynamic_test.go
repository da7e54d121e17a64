package router

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

func TestDynamic(t *testing.T) {
	cfg := openConfig()
	cfg.Realms[0].Anonymous = ""
	for _, m := range []string{"ticket", "wampcra", "scram", "wamp-scram", "cryptosign"} {
		cfg.Realms[0].Auth.Dynamic = append(cfg.Realms[0].Auth.Dynamic, DynamicConfig{Method: m, Procedure: "com.auth", Timeout: 100 * time.Millisecond})
	}
	r, log := start(t, cfg)
	_, err := joinAs(t, r, "alice", auth.Ticket("s3cret"))
	wantError(t, err, wamp.ErrAuthenticationFailed)
	if !log.has("no_such_procedure") {
		t.Error("the log does not say that the procedure is missing")
	}
	callee, err := client.Join(t.Context(), func(ctx context.Context) (transport.Conn, error) {
		return r.Local(context.Background(), user, "realm1")
	}, client.Config{Realm: "realm1", Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	defer callee.Close(context.Background())
	var mu sync.Mutex
	var answer any
	var seen wamp.List
	slow := make(chan struct{})
	if _, err := callee.Register(t.Context(), "com.auth", func(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
		mu.Lock()
		answer := answer
		seen = inv.Args
		mu.Unlock()
		switch a := answer.(type) {
		case error:
			return nil, a
		case chan struct{}:
			<-ctx.Done()
			close(a)
		}
		return client.Return(answer), nil
	}); err != nil {
		t.Fatal(err)
	}
	salted := auth.NewCRAKey("s3cret", nil)
	public := publicOf(t, privateKey)
	for _, c := range []struct {
		name   string
		answer any
		authid string
		method client.Authenticator
		want   string
	}{
		{"ticket, a role", "anonymous", "alice", auth.Ticket("s3cret"), ""},
		{"ticket, a dictionary", wamp.Dict{"role": "anonymous", "authid": "al"}, "", auth.Ticket("s3cret"), ""},
		{"nobody", "anonymous", "", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
		{"denied", &wamp.Error{URI: "com.example.no"}, "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationDenied},
		{"broken", &wamp.Error{URI: wamp.ErrRuntimeError}, "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
		{"no role", wamp.Dict{"authid": "al"}, "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
		{"junk", int64(7), "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
		{"another realm", wamp.Dict{"role": "anonymous", "realm": "realm2"}, "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
		{"unknown role", "king", "alice", auth.Ticket("s3cret"), wamp.ErrNoSuchRole},
		{"wampcra", wamp.Dict{"role": "anonymous", "secret": "s3cret"}, "alice", auth.CRA("s3cret"), ""},
		{"wampcra, salted", wamp.Dict{"role": "anonymous", "secret": string(salted.Key), "salt": salted.Salt, "iterations": int64(salted.Iterations), "keylen": int64(32)}, "alice", auth.CRA("s3cret"), ""},
		{"wampcra, wrong", wamp.Dict{"role": "anonymous", "secret": "s3cret"}, "alice", auth.CRA("wrong"), wamp.ErrAuthenticationDenied},
		{"wampcra, no secret", "anonymous", "alice", auth.CRA("s3cret"), wamp.ErrAuthenticationFailed},
		{"wampcra, too much", wamp.Dict{"role": "anonymous", "secret": "x", "salt": "y", "iterations": int64(1) << 40}, "alice", auth.CRA("s3cret"), wamp.ErrAuthenticationFailed},
		{"scram", wamp.Dict{"role": "anonymous", "secret": "s3cret"}, "alice", auth.Scram("scram", "alice", "s3cret"), ""},
		{"wamp-scram", wamp.Dict{"role": "anonymous", "secret": "s3cret"}, "alice", auth.Scram("wamp-scram", "alice", "s3cret"), ""},
		{"scram, junk", wamp.Dict{"role": "anonymous", "salt": "zz"}, "alice", auth.Scram("scram", "alice", "s3cret"), wamp.ErrAuthenticationFailed},
		{"cryptosign", "anonymous", "", cryptosign(t, privateKey), ""},
		{"cryptosign, the key", wamp.Dict{"role": "anonymous", "pubkey": public}, "alice", cryptosign(t, privateKey), ""},
		{"cryptosign, another key", wamp.Dict{"role": "anonymous", "pubkey": public[2:] + "00"}, "alice", cryptosign(t, privateKey), wamp.ErrAuthenticationDenied},
		{"slow", slow, "alice", auth.Ticket("s3cret"), wamp.ErrAuthenticationFailed},
	} {
		mu.Lock()
		answer = c.answer
		mu.Unlock()
		_, err := joinAs(t, r, c.authid, c.method)
		if c.want != "" {
			if err == nil {
				t.Errorf("%s: joined", c.name)
			}
			wantError(t, err, c.want)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		mu.Lock()
		seen := seen
		mu.Unlock()
		if details, _ := seen[2].(map[string]any); seen[0] != "realm1" || seen[1] != c.authid ||
			details["authmethod"] != c.method.AuthMethod() || (details["ticket"] == "s3cret") != (c.method.AuthMethod() == "ticket") {
			t.Errorf("%s: called with %v", c.name, seen)
		}
	}
	<-slow
	if log.has("s3cret") {
		t.Error("the log has the ticket")
	}
}
