package router

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// again is the router's configuration, to be changed.
func again(r *Router) Config {
	cfg := r.cfg
	cfg.Realms = slices.Clone(cfg.Realms)
	for i := range cfg.Realms {
		c := &cfg.Realms[i]
		c.Roles, c.Auth.Users = slices.Clone(c.Roles), slices.Clone(c.Auth.Users)
	}
	return cfg
}

func (r *Router) mustReload(t *testing.T, cfg Config) *Reloaded {
	t.Helper()
	done, err := r.Reload(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestReloadUsers: who could not join again like this is ended, and nobody else.
func TestReloadUsers(t *testing.T) {
	cfg, _ := guardedConfig(t)
	c := &cfg.Realms[0]
	c.Anonymous = "anonymous"
	c.Roles = append(c.Roles, RoleConfig{Name: "other"})
	c.Auth.Users = append(c.Auth.Users,
		UserConfig{AuthID: "carol", Role: "anonymous", Secret: "carols"},
		UserConfig{AuthID: "dave", Role: "anonymous", Secret: "daves"})
	r, _ := start(t, cfg)
	joined := map[string]*client.Session{}
	for authid, secret := range map[string]string{"alice": "s3cret", "carol": "carols", "dave": "daves", "bob": "bobs"} {
		s, err := joinAs(t, r, authid, auth.Ticket(secret))
		if err != nil {
			t.Fatal(err)
		}
		joined[authid] = s
	}
	var err error
	if joined["anonymous"], err = joinAs(t, r, "", auth.Anonymous()); err != nil {
		t.Fatal(err)
	}
	want := func(done *Reloaded, ended ...string) {
		t.Helper()
		if done.Ended != len(ended) {
			t.Errorf("%d sessions ended, want %q", done.Ended, ended)
		}
		for name, s := range joined {
			if slices.Contains(ended, name) {
				<-s.Done()
				delete(joined, name)
				continue
			}
			select {
			case <-s.Done():
				t.Errorf("%s was ended: %v", name, s.Err())
			default:
			}
		}
	}

	// Nothing new: nobody notices.
	if done := r.mustReload(t, again(r)); !reflect.DeepEqual(done, &Reloaded{}) {
		t.Errorf("nothing was changed: %+v", done)
	}
	// Carol is gone, dave has another role.
	next := again(r)
	users := next.Realms[0].Auth.Users
	users[2].Role = "other"
	next.Realms[0].Auth.Users = slices.Delete(users, 1, 2)
	want(r.mustReload(t, next), "carol", "dave")
	if _, err := joinAs(t, r, "carol", auth.Ticket("carols")); err == nil {
		t.Error("carol joined")
	}
	// Another secret ends those who have shown the old one.
	next = again(r)
	next.Realms[0].Auth.Users[0].Secret = "another"
	want(r.mustReload(t, next), "alice")
	if s, err := joinAs(t, r, "alice", auth.Ticket("another")); err != nil {
		t.Error(err)
	} else {
		joined["alice"] = s
	}
	// The users file counts too.
	if err := (&Users{Seed: []byte("seed")}).Write(c.Auth.UsersFile); err != nil {
		t.Fatal(err)
	}
	want(r.mustReload(t, again(r)), "bob")
	// Nobody is anonymous any more.
	next = again(r)
	next.Realms[0].Anonymous = ""
	want(r.mustReload(t, next), "anonymous")
	// A users file that cannot be read changes nothing.
	if err := os.WriteFile(c.Auth.UsersFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	next = again(r)
	next.Realms[0].Auth.Users = nil
	if _, err := r.Reload(next); err == nil || !strings.Contains(err.Error(), "users file") {
		t.Errorf("a broken users file: %v", err)
	}
	if _, err := joinAs(t, r, "alice", auth.Ticket("another")); err != nil {
		t.Error(err)
	}
}

// TestReloadRace: who has come by an old door does not join.
func TestReloadRace(t *testing.T) {
	cfg, _ := guardedConfig(t)
	r, _ := start(t, cfg)
	p := pipe(t, r, codec.JSON)
	h := hello("realm1")
	h.Details["authid"], h.Details["authmethods"] = "alice", []any{"ticket"}
	p.send(h)
	expect[*wamp.Challenge](p)
	next := again(r)
	next.Realms[0].Auth.Users[0].Secret = "another"
	r.mustReload(t, next)
	p.send(&wamp.Authenticate{Signature: "s3cret"})
	p.aborted(wamp.ErrAuthenticationFailed)
}

// TestReloadRealms: they come and go.
func TestReloadRealms(t *testing.T) {
	r, _ := start(t, openConfig())
	stays := pipe(t, r, codec.CBOR).joins()
	next := again(r)
	next.Realms = append(next.Realms, OpenRealm("com.second"))
	if done := r.mustReload(t, next); fmt.Sprint(done.Added, done.Removed, done.Changed) != "[com.second] [] []" {
		t.Errorf("%+v", done)
	}
	p := pipe(t, r, codec.CBOR)
	p.send(hello("com.second"))
	expect[*wamp.Welcome](p)
	if st := r.Stats().Realms["com.second"]; st.Sessions != 1 {
		t.Errorf("%+v", st)
	}
	next.Realms = next.Realms[:1]
	if done := r.mustReload(t, next); fmt.Sprint(done.Added, done.Removed, done.Changed) != "[] [com.second] []" {
		t.Errorf("%+v", done)
	}
	if g := expect[*wamp.Goodbye](p); g.Reason != wamp.CloseRealm {
		t.Errorf("reason %s", g.Reason)
	}
	p.send(&wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOut})
	p.ended()
	p = pipe(t, r, codec.CBOR)
	p.send(hello("com.second"))
	p.aborted(wamp.ErrNoSuchRealm)
	stays.subscribe(1, "com.still.there")
}

// TestReloadLimits: for those who come, and for what a realm holds.
func TestReloadLimits(t *testing.T) {
	r, _ := start(t, openConfig())
	p := pipe(t, r, codec.JSON).joins()
	p.subscribe(1, "com.a")
	next := again(r)
	next.Realms[0].Limits.Subscriptions, next.Realms[0].Limits.Sessions = 1, 1
	next.Limits.MessageBytes, next.Limits.HelloBytes = 1024, 512
	if done := r.mustReload(t, next); fmt.Sprint(done.Changed, done.Pending) != "[realm1] []" {
		t.Errorf("%+v", done)
	}
	p.send(&wamp.Subscribe{Request: 2, Topic: "com.b"})
	p.failed(wamp.KindSubscribe, 2, "postern.error.limit_exceeded")
	q := pipe(t, r, codec.JSON)
	q.send(hello("realm1"))
	q.aborted("postern.error.limit_exceeded")
	next = again(r)
	next.Realms[0].Limits.Sessions = 2
	r.mustReload(t, next)
	q = pipe(t, r, codec.JSON).joins()
	q.send(&wamp.Publish{Request: 1, Topic: "com.a", Payload: q.payload(strings.Repeat("x", 2000))})
	q.ended() // which is all that a pipe says of what is too large
}

// TestReloadPending: what is left as it is, is said.
func TestReloadPending(t *testing.T) {
	r, _ := start(t, openConfig())
	next := again(r)
	c := &next.Realms[0]
	c.URIs, c.RequestIDs, c.History = "strict", "sequential", []HistoryConfig{{URI: "com.a", Match: "exact", Limit: 1, Bytes: 1024}}
	next.Cookies.Lifetime = time.Hour
	const want = "[cookies realms[0].uris realms[0].request_ids realms[0].history]"
	for range 2 { // it is still so the second time
		if done := r.mustReload(t, next); fmt.Sprint(done.Pending) != want || len(done.Changed) > 0 {
			t.Errorf("%+v, want pending %s", done, want)
		}
	}
}

// TestReloadInvalid: a configuration with anything wrong changes nothing.
func TestReloadInvalid(t *testing.T) {
	r, _ := start(t, openConfig())
	before := again(r)
	for name, spoil := range map[string]func(*Config){
		"no realm":   func(c *Config) { c.Realms = nil },
		"twice":      func(c *Config) { c.Realms = append(c.Realms, c.Realms[0]) },
		"limit":      func(c *Config) { c.Limits.QueueAge = -1 },
		"no role":    func(c *Config) { c.Realms[0].Anonymous = "nobody" },
		"permission": func(c *Config) { c.Realms[0].Roles[0].Permissions = []PermissionConfig{{URI: "a..#", Match: "exact"}} },
		"users file": func(c *Config) {
			c.Realms = append(c.Realms, OpenRealm("com.new"))
			c.Realms[1].Auth.UsersFile = "/dev/null"
		},
	} {
		cfg := again(r)
		spoil(&cfg)
		if done, err := r.Reload(cfg); err == nil {
			t.Errorf("%s: it was taken, %+v", name, done)
		}
		if got := again(r); !reflect.DeepEqual(got, before) || len(r.halls()) != 1 {
			t.Errorf("%s: something has changed: %+v", name, got)
		}
	}
}

// TestReloadUnderLoad: a hundred of them, while events flow; none is lost, and
// no session.
func TestReloadUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 2000
		r, _ := start(t, openConfig())
		to, from := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		to.subscribe(1, "com.a")
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range events {
				from.send(&wamp.Publish{Request: wamp.ID(i + 1), Topic: "com.a", Payload: from.payload(i)})
			}
		})
		wg.Go(func() {
			for i := range 100 {
				next := again(r)
				c := &next.Realms[0]
				c.Limits.Subscriptions, next.Limits.QueueAge = 1000+i, time.Duration(10+i)*time.Second
				c.Roles[0].Permissions = append(slices.Clone(c.Roles[0].Permissions[:1]), PermissionConfig{URI: fmt.Sprintf("com.b%d", i), Match: "exact"})
				if i%2 == 0 {
					next.Realms = append(next.Realms[:1], OpenRealm("com.second"))
				} else {
					next.Realms = next.Realms[:1]
				}
				if _, err := r.Reload(next); err != nil {
					t.Error(err)
				}
			}
		})
		for i := range events {
			if args, _, err := expect[*wamp.Event](to).Values(); err != nil || fmt.Sprint(args) != fmt.Sprintf("[%d]", i) {
				t.Fatalf("event %v, %v, want %d", args, err, i)
			}
		}
		wg.Wait()
		if st := r.Stats(); st.Sessions != 2 || st.Realms["realm1"].EventsDropped != 0 {
			t.Errorf("%+v", st)
		}
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := r.Reload(again(r)); err != ErrClosed {
			t.Errorf("after the end: %v", err)
		}
	})
}
