package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

const privateKey = "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510"

// guardedConfig is a realm with alice, who has everything, in the
// configuration, and bob, who has it in a file.
func guardedConfig(t testing.TB) (cfg Config, bobsKey string) {
	t.Helper()
	cfg = openConfig()
	cfg.Realms[0].Anonymous = ""
	private, public := auth.NewCryptosignKey()
	scram, err := auth.NewScramKeys("bobs", auth.ScramParams{KDF: auth.KDFArgon2, Iterations: 1, Memory: 64, Salt: []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.json")
	users := &Users{Seed: []byte("seed"), Users: []User{
		{AuthID: "bob", Role: "anonymous", Ticket: auth.HashTicket("bobs", nil), CRA: auth.NewCRAKey("bobs", nil), Scram: scram, PublicKeys: []string{public}},
		{AuthID: "nokey", Role: "nowhere", Ticket: auth.HashTicket("x", nil)},
	}}
	if err := users.Write(file); err != nil {
		t.Fatal(err)
	}
	cfg.Realms[0].Auth = AuthConfig{
		UsersFile: file,
		Users:     []UserConfig{{AuthID: "alice", Role: "anonymous", Secret: "s3cret", PublicKeys: []string{publicOf(t, privateKey)}}},
	}
	return cfg, private
}

func publicOf(t testing.TB, private string) string {
	t.Helper()
	key, err := auth.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Cryptosign(key).AuthExtra()["pubkey"].(string)
}

// joinAs joins with the client of the house.
func joinAs(t testing.TB, r *Router, authid string, methods ...client.Authenticator) (*client.Session, error) {
	t.Helper()
	s, err := client.Join(t.Context(), func(context.Context) (transport.Conn, error) {
		theirs, ours := transport.Pipe(codec.JSON)
		go func() { _ = r.Attach(context.Background(), ours) }()
		return theirs, nil
	}, client.Config{Realm: "realm1", AuthID: authid, Auth: methods, Log: discard})
	if err == nil {
		t.Cleanup(func() { _ = s.Close(context.Background()) })
	}
	return s, err
}

func wantError(t testing.TB, err error, uri string) {
	t.Helper()
	var e *wamp.Error
	if !errors.As(err, &e) || e.URI != uri {
		t.Errorf("%v, want %s", err, uri)
	}
}

func cryptosign(t testing.TB, private string) *auth.CryptosignClient {
	t.Helper()
	key, err := auth.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Cryptosign(key)
}

func TestMethods(t *testing.T) {
	cfg, bobsKey := guardedConfig(t)
	r, log := start(t, cfg)
	for _, u := range []struct{ authid, secret, key string }{{"alice", "s3cret", privateKey}, {"bob", "bobs", bobsKey}} {
		for method, ends := range map[string][2]client.Authenticator{
			"ticket":     {auth.Ticket(u.secret), auth.Ticket("wrong-one")},
			"wampcra":    {auth.CRA(u.secret), auth.CRA("wrong-one")},
			"wamp-scram": {auth.Scram("wamp-scram", u.authid, u.secret), auth.Scram("wamp-scram", u.authid, "wrong-one")},
			"scram":      {auth.Scram("scram", u.authid, u.secret), auth.Scram("scram", u.authid, "wrong-one")},
			"cryptosign": {cryptosign(t, u.key), cryptosign(t, strings.Repeat("ab", 32))},
		} {
			if _, err := joinAs(t, r, u.authid, ends[0]); err != nil {
				t.Errorf("%s by %s: %v", u.authid, method, err)
			}
			_, err := joinAs(t, r, u.authid, ends[1])
			wantError(t, err, wamp.ErrAuthenticationDenied)
			_, err = joinAs(t, r, "mallory", ends[1])
			wantError(t, err, wamp.ErrAuthenticationDenied)
			if method != "cryptosign" {
				_, err = joinAs(t, r, "", ends[0])
				wantError(t, err, wamp.ErrNoMatchingAuthMethod)
			}
		}
	}
	if _, err := joinAs(t, r, "", cryptosign(t, bobsKey)); err != nil {
		t.Errorf("by the key alone: %v", err)
	}
	_, err := joinAs(t, r, "alice", cryptosign(t, bobsKey))
	wantError(t, err, wamp.ErrAuthenticationDenied)
	_, err = joinAs(t, r, "nokey", auth.Ticket("x"))
	wantError(t, err, wamp.ErrNoSuchRole)
	_, err = joinAs(t, r, "nokey", auth.CRA("x")) // has a ticket only
	wantError(t, err, wamp.ErrAuthenticationDenied)
	_, err = joinAs(t, r, "alice", auth.TLS())
	wantError(t, err, wamp.ErrNoMatchingAuthMethod)
	_, err = joinAs(t, r, "")
	wantError(t, err, wamp.ErrNoMatchingAuthMethod)
	if st := r.Stats(); st.AuthFailed == 0 {
		t.Errorf("failures are not counted: %+v", st)
	}
	for _, want := range []string{"authenticated", "authentication denied", "authid=mallory", "authid=alice"} {
		if !log.has(want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	for _, secret := range []string{"s3cret", "bobs\"", "wrong-one", privateKey, bobsKey} {
		if log.has(secret) {
			t.Errorf("the log has the secret %q", secret)
		}
	}
}

// The client's order decides, and a method that it cannot use is passed over.
func TestMethodOrder(t *testing.T) {
	cfg, _ := guardedConfig(t)
	cfg.Realms[0].Anonymous = "anonymous"
	r, _ := start(t, cfg)
	for _, c := range []struct {
		authid string
		auth   []client.Authenticator
		want   string
	}{
		{"alice", []client.Authenticator{auth.CRA("s3cret"), auth.Ticket("s3cret")}, "wampcra"},
		{"alice", []client.Authenticator{auth.Ticket("s3cret"), auth.CRA("s3cret")}, "ticket"},
		{"alice", []client.Authenticator{auth.TLS(), auth.Cookie(), auth.Ticket("s3cret")}, "ticket"},
		{"", []client.Authenticator{auth.Ticket("s3cret"), auth.Anonymous()}, "anonymous"},
	} {
		p := pipe(t, r, codec.JSON)
		h := hello("realm1")
		methods := wamp.List{}
		for _, a := range c.auth {
			methods = append(methods, a.AuthMethod())
		}
		h.Details["authmethods"] = methods
		if c.authid != "" {
			h.Details["authid"] = c.authid
		}
		p.send(h)
		if c.want == "anonymous" {
			if w := expect[*wamp.Welcome](p); w.Details["authmethod"] != c.want {
				t.Errorf("%v: %v", methods, w.Details)
			}
		} else if m := expect[*wamp.Challenge](p); m.AuthMethod != c.want {
			t.Errorf("%v: %v", methods, m)
		}
	}
}

// A user who does not exist gets the challenge that one who does would get,
// the same salt each time.
func TestUnknownUserLooksKnown(t *testing.T) {
	cfg, _ := guardedConfig(t)
	r, _ := start(t, cfg)
	challenge := func(authid, method string) wamp.Dict {
		p := pipe(t, r, codec.JSON)
		h := hello("realm1")
		h.Details["authid"], h.Details["authmethods"] = authid, wamp.List{method}
		h.Details["authextra"] = wamp.Dict{"nonce": "bm9uY2Vub25jZQ=="}
		p.send(h)
		return expect[*wamp.Challenge](p).Extra
	}
	for _, method := range []string{"ticket", "wampcra", "wamp-scram", "scram"} {
		known, unknown := challenge("alice", method), challenge("mallory", method)
		for key := range known {
			if _, there := unknown[key]; !there {
				t.Errorf("%s: %v is %v", method, known, unknown)
			}
		}
		if unknown["salt"] != challenge("mallory", method)["salt"] {
			t.Errorf("%s: the salt changes", method)
		}
		if len(known) != len(unknown) || known["salt"] != nil && known["salt"] == unknown["salt"] {
			t.Errorf("%s: %v, %v", method, known, unknown)
		}
	}
	// The challenge of WAMP-CRA names the session that it is for.
	p := pipe(t, r, codec.JSON)
	h := hello("realm1")
	h.Details["authid"], h.Details["authmethods"] = "alice", wamp.List{"wampcra"}
	p.send(h)
	m := expect[*wamp.Challenge](p)
	answer, err := auth.CRA("s3cret").Challenge(m)
	if err != nil {
		t.Fatal(err)
	}
	p.send(answer)
	w := expect[*wamp.Welcome](p)
	if !strings.Contains(m.Extra["challenge"].(string), fmt.Sprintf(`"session":%d,`, w.Session)) {
		t.Errorf("session %v, challenge %v", w.Session, m.Extra["challenge"])
	}
}

func TestThrottle(t *testing.T) {
	wrong := strings.Repeat("ab", 32) // checked in no time
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := guardedConfig(t)
		r, _ := start(t, cfg)
		began := time.Now()
		for range freeFailures {
			_, err := joinAs(t, r, "alice", cryptosign(t, wrong))
			wantError(t, err, wamp.ErrAuthenticationDenied)
		}
		if time.Since(began) > 0 {
			t.Errorf("the first %d took %v", freeFailures, time.Since(began))
		}
		for range 10 {
			_, _ = joinAs(t, r, "alice", cryptosign(t, wrong))
		}
		if took := time.Since(began); took < 10*time.Second {
			t.Errorf("10 more took %v", took)
		}
		began = time.Now()
		if _, err := joinAs(t, r, "alice", cryptosign(t, privateKey)); err != nil {
			t.Errorf("alice herself: %v", err)
		}
		if _, err := joinAs(t, r, "bob", auth.Ticket("bobs")); err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("bob: %v, after %v", err, time.Since(began))
		}
		results := make(chan error, 50)
		for range cap(results) {
			go func() { _, err := joinAs(t, r, "alice", cryptosign(t, wrong)); results <- err }()
		}
		for range cap(results) {
			wantError(t, <-results, wamp.ErrAuthenticationDenied)
		}
		if n := r.Stats().AuthRefused; n < 40 {
			t.Errorf("%d of 50 at the same time were refused", n)
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	th := throttle{keys: map[string]*failures{}}
	now := time.Now()
	for range freeFailures + 1 {
		th.failed(now, "guessed")
	}
	for i := range 3 * throttledKeys {
		th.failed(now, "made up "+time.Duration(i).String())
	}
	if len(th.keys) > throttledKeys {
		t.Errorf("%d keys", len(th.keys))
	}
	if wait, ok := th.wait(now, "guessed"); wait == 0 && ok {
		t.Error("many names free the one that is guessed for")
	}
	if wait, ok := th.wait(now.Add(time.Hour), "guessed"); wait != 0 || !ok {
		t.Errorf("an hour later: %v %v", wait, ok)
	}
}

func TestUsersFileChanges(t *testing.T) {
	cfg, _ := guardedConfig(t)
	file := cfg.Realms[0].Auth.UsersFile
	r, log := start(t, cfg)
	write := func(text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	users, err := ReadUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	users.Users = append(users.Users, User{AuthID: "carol", Role: "anonymous", Ticket: auth.HashTicket("carols", nil)})
	if err := users.Write(file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := joinAs(t, r, "carol", auth.Ticket("carols")); err != nil {
		t.Errorf("a user who has come: %v", err)
	}
	write("{broken", 0o600)
	if _, err := joinAs(t, r, "carol", auth.Ticket("carols")); err != nil || !log.has("keeping the users") {
		t.Errorf("while the file is broken: %v", err)
	}
	write(`{"seed":"c2VlZA==","users":[]}`, 0o644)
	if _, err := joinAs(t, r, "carol", auth.Ticket("carols")); err != nil || !log.has("chmod 0600") {
		t.Errorf("while others may write it: %v", err)
	}
	write(`{"seed":"c2VlZA==","users":[] }`, 0o600)
	_, err = joinAs(t, r, "carol", auth.Ticket("carols"))
	wantError(t, err, wamp.ErrAuthenticationDenied)
	for _, bad := range []string{`{"users":[{"authid":"x"}]}`, `{"users":[{"authid":"","role":"r"}]}`, `{"user":[]}`, `{"users":[{"authid":"x","role":"r","ticket":"x"}]}`, `{"users":[{"authid":"x","role":"r","public_keys":["x"]}]}`} {
		write(bad, 0o600)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
