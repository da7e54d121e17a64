package router

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// hasten publishes n events, and returns how long it took until all were
// acknowledged.
func hasten(p *peer, n int, payload string) time.Duration {
	p.tb.Helper()
	begun := time.Now()
	var all []wamp.Message
	for i := range n {
		m := &wamp.Publish{Request: wamp.ID(i + 1), Topic: "com.a", Options: wamp.PublishOptions{Acknowledge: true}}
		if payload != "" {
			m.Payload, _ = wamp.NewPayload(codec.CBOR, wamp.List{payload}, nil)
		}
		all = append(all, m)
	}
	go p.send(all...)
	for range n {
		expect[*wamp.Published](p)
	}
	return time.Since(begun)
}

// TestRateWaits: who sends more than a second allows is not read from until
// its time has come. Nothing is lost, and others do not notice.
func TestRateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Realms[0].Rates.Session = RateConfig{Messages: 10}
		r, log := start(t, cfg)
		fast, other := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		if took := hasten(fast, 10, ""); took != 0 {
			t.Errorf("a second's worth took %v", took)
		}
		if took := hasten(fast, 30, ""); took != 3*time.Second {
			t.Errorf("30 messages more took %v", took)
		}
		if took := hasten(other, 10, ""); took != 0 {
			t.Errorf("another session waited for %v", took)
		}
		if st := r.Stats().Realms["realm1"]; st.Slowed != 30 || st.RateEnded != 0 {
			t.Errorf("%d messages were slowed, %d sessions ended", st.Slowed, st.RateEnded)
		}
		// It is in the log, once in a while.
		time.Sleep(3 * time.Second)
		hasten(fast, 30, "")
		time.Sleep(10 * time.Second)
		if n := log.count("limits were reached"); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		time.Sleep(pressureSpacing)
		if n := log.count("limits were reached"); n != 2 {
			t.Errorf("%d lines in the log", n)
		}
	})
}

// TestRateBytes: bytes count as messages do, and one that is larger than what a
// second allows passes when it is paid for.
func TestRateBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Limits.MessageBytes = 64 << 10
		cfg.Realms[0].Rates.Session = RateConfig{Bytes: 10_000}
		r, _ := start(t, cfg)
		p := pipe(t, r, codec.CBOR).joins()
		if took := hasten(p, 1, strings.Repeat("x", 20_000)); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("twice what a second allows took %v", took)
		}
	})
}

// TestRateEnds: by policy a session ends that sends too much, and is told why.
func TestRateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Realms[0].Rates = RatesConfig{Session: RateConfig{Messages: 5}, Excess: "end"}
		r, log := start(t, cfg)
		p := pipe(t, r, codec.CBOR).joins()
		hasten(p, 5, "")
		p.send(&wamp.Publish{Request: 6, Topic: "com.a"})
		p.aborted(realm.ErrLimitExceeded)
		synctest.Wait()
		if st := r.Stats().Realms["realm1"]; st.RateEnded != 1 || st.Sessions != 0 || !log.has("more in a second than the session may") {
			t.Errorf("%+v", st)
		}
	})
}

// TestRateShutdown: a session that waits for its time keeps nobody from ending.
func TestRateShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Realms[0].Rates.Session = RateConfig{Messages: 1}
		r, _ := start(t, cfg)
		p := pipe(t, r, codec.CBOR).joins()
		go p.send(&wamp.Publish{Request: 1, Topic: "com.a"}, &wamp.Publish{Request: 2, Topic: "com.a"}, &wamp.Publish{Request: 3, Topic: "com.a"},
			&wamp.Publish{Request: 4, Topic: "com.a"}, &wamp.Publish{Request: 5, Topic: "com.a"})
		synctest.Wait()
		begun := time.Now()
		go func() { expect[*wamp.Goodbye](p) }()
		if err := r.Shutdown(t.Context()); err != nil || time.Since(begun) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// TestRateIdentity: sessions of one user share what it may send, also one that
// comes after another has gone; the gateway's own sessions are free.
func TestRateIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		c := &cfg.Realms[0]
		c.Rates.Identity = RateConfig{Messages: 10}
		c.Auth.Users = []UserConfig{{AuthID: "alice", Role: "anonymous", Secret: "s3cret"}, {AuthID: "bob", Role: "anonymous", Secret: "s3cret"}}
		r, _ := start(t, cfg)
		join := func(name string) *peer {
			p := pipe(t, r, codec.CBOR)
			m := hello("realm1")
			m.Details["authid"], m.Details["authmethods"] = name, wamp.List{"ticket"}
			p.send(m)
			expect[*wamp.Challenge](p)
			p.send(&wamp.Authenticate{Signature: "s3cret"})
			expect[*wamp.Welcome](p)
			return p
		}
		a, b := join("alice"), join("alice")
		if took := hasten(a, 10, ""); took != 0 {
			t.Errorf("a second's worth took %v", took)
		}
		if took := hasten(b, 10, ""); took != time.Second {
			t.Errorf("the same again, in another session: %v", took)
		}
		leave := func(all ...*peer) {
			for _, p := range all {
				p.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
				expect[*wamp.Goodbye](p)
				p.ended()
			}
		}
		leave(a, b)
		c1, c2 := join("alice"), join("bob")
		if took := hasten(c1, 10, ""); took != time.Second {
			t.Errorf("after having joined again: %v", took)
		}
		if took := hasten(c2, 10, ""); took != 0 {
			t.Errorf("another user: %v", took)
		}
		conn, err := r.Local(t.Context(), realm.Identity{AuthID: "alice", AuthRole: "trusted"}, "realm1")
		if err != nil {
			t.Fatal(err)
		}
		if took := hasten(newPeer(t, conn).joins(), 50, ""); took != 0 {
			t.Errorf("the gateway's own: %v", took)
		}
		leave(c1, c2)
		time.Sleep(time.Minute)
		if n := len(r.hall("realm1").meters.of); n != 0 {
			t.Errorf("%d meters are left", n)
		}
	})
}

// farConn is a connection from another machine.
type farConn struct {
	transport.Conn
	info transport.Info
}

// Info implements transport.Conn.
func (c *farConn) Info() *transport.Info { return &c.info }

// TestRateAddress: connections from one address share what it may send.
func TestRateAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := openConfig()
		cfg.Limits.AddressRate = RateConfig{Messages: 10}
		r, _ := start(t, cfg)
		from := func(address string) *peer {
			theirs, ours := transport.Pipe(codec.CBOR)
			c := &farConn{Conn: ours, info: *ours.Info()}
			c.info.Remote = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
			attach(r, c)
			return newPeer(t, theirs).joins()
		}
		if took := hasten(from("[2001:db8::1]:1"), 10, ""); took != 0 {
			t.Errorf("a second's worth took %v", took)
		}
		if took := hasten(from("[2001:db8::2]:1"), 10, ""); took != time.Second {
			t.Errorf("from the same /64: %v", took)
		}
		if took := hasten(from("192.0.2.1:1"), 10, ""); took != 0 {
			t.Errorf("from elsewhere: %v", took)
		}
		if took := hasten(from("127.0.0.1:1"), 50, ""); took != 0 {
			t.Errorf("from here: %v", took)
		}
		// A reload changes it for those who are there.
		p := from("192.0.2.2:1")
		next := again(r)
		next.Limits.AddressRate = RateConfig{}
		r.mustReload(t, next)
		if took := hasten(p, 50, ""); took != 0 {
			t.Errorf("without a limit: %v", took)
		}
	})
}

// TestSessionsPerIdentity: one user does not take all places.
func TestSessionsPerIdentity(t *testing.T) {
	cfg, _ := guardedConfig(t)
	cfg.Realms[0].Limits.PerIdentity = 2
	r, _ := start(t, cfg)
	var joined []*client.Session
	for range 2 {
		s, err := joinAs(t, r, "alice", auth.Ticket("s3cret"))
		if err != nil {
			t.Fatal(err)
		}
		joined = append(joined, s)
	}
	if _, err := joinAs(t, r, "alice", auth.Ticket("s3cret")); err == nil || !strings.Contains(err.Error(), realm.ErrLimitExceeded) {
		t.Errorf("a third session: %v", err)
	}
	if _, err := joinAs(t, r, "bob", auth.Ticket("bobs")); err != nil {
		t.Errorf("another user: %v", err)
	}
	if n := r.Stats().Realms["realm1"].JoinsRefused; n != 1 {
		t.Errorf("%d joins refused", n)
	}
	_ = joined[0].Close(context.Background())
	for { // until the router has seen it leave
		s, err := joinAs(t, r, "alice", auth.Ticket("s3cret"))
		if err == nil {
			_ = s.Close(context.Background())
			return
		}
		if !strings.Contains(err.Error(), realm.ErrLimitExceeded) {
			t.Fatal(err)
		}
	}
}

// TestRateConfig: what could never work is refused.
func TestRateConfig(t *testing.T) {
	cfg := openConfig()
	cfg.Limits.AddressRate.Bytes = 1000
	cfg.Realms[0].Rates.Session.Messages = -1
	cfg.Realms[0].Rates.Excess = "drop"
	var paths []string
	cfg.Validate(func(path, _, _ string) { paths = append(paths, path) })
	slices.Sort(paths)
	if want := []string{"limits.address_rate.bytes", "realms[0].rates.excess", "realms[0].rates.session"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("problems with %q, want %q", paths, want)
	}
}
