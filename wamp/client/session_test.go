package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

func TestHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.AuthID = "joe"
		joining := async(func() *client.Session {
			s, err := client.Join(context.Background(), n.dial, cfg)
			if err != nil {
				t.Error(err)
			}
			return s
		})
		p := <-n.peers
		b, err := p.conn.Read()
		if err != nil {
			t.Fatal(err)
		}
		m, err := codec.JSON.Decode(b, codec.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		h := m.(*wamp.Hello)
		if h.Realm != "realm1" || h.Details["authid"] != "joe" || fmt.Sprint(h.Details["authmethods"]) != "[anonymous]" {
			t.Errorf("HELLO is %s", b)
		}
		// Announcing more than works breaks other people's calls.
		want := map[string]string{
			"caller":     "call_canceling call_timeout caller_identification progressive_call_results",
			"callee":     "call_canceling call_reroute call_timeout call_trustlevels caller_identification pattern_based_registration progressive_call_results registration_revocation shared_registration",
			"publisher":  "publisher_exclusion publisher_identification subscriber_blackwhite_listing",
			"subscriber": "pattern_based_subscription publication_trustlevels publisher_identification subscription_revocation",
		}
		roles := wamp.AsDict(h.Details, "roles")
		if len(roles) != len(want) {
			t.Errorf("roles are %v", roles)
		}
		for role, names := range want {
			features := wamp.AsDict(wamp.AsDict(roles, role), "features")
			if len(features) != len(strings.Fields(names)) {
				t.Errorf("%s announces %v", role, features)
			}
			for _, name := range strings.Fields(names) {
				if features[name] != true {
					t.Errorf("%s does not announce %s", role, name)
				}
			}
		}
		p.send(`[2,9007199254740992,{"roles":{},"authid":"joe"}]`)
		s := <-joining
		if s.ID() != wamp.MaxID || s.Details()["authid"] != "joe" {
			t.Errorf("ID %d, details %v", s.ID(), s.Details())
		}
		closeBoth(t, s, p)
		if s.ID() != 0 || s.Details() != nil {
			t.Errorf("after Close: ID %d, details %v", s.ID(), s.Details())
		}
	})
}

func TestJoinRefused(t *testing.T) {
	cases := []struct{ name, answer, text, uri string }{
		{
			"ABORT with a message", `[3,{"message":"no realm of that name"},"wamp.error.no_such_realm"]`,
			`join realm "realm1": wamp.error.no_such_realm: no realm of that name`, wamp.ErrNoSuchRealm,
		},
		{"ABORT with arguments", `[3,{},"wamp.error.not_authorized",["go away"]]`, "wamp.error.not_authorized: go away", wamp.ErrNotAuthorized},
		{"bare ABORT", `[3,{},"com.why"]`, `join realm "realm1": com.why`, "com.why"},
		{"challenge that was not offered", `[4,"ticket",{}]`, `asks for "ticket", which was not offered`, ""},
		{"message out of state", `[36,1,2,{}]`, "EVENT instead of WELCOME", ""},
		{"bad session ID", `[2,0,{"roles":{}}]`, "WELCOME", ""},
		{"not a message", `{"error":"bad gateway"}`, "json", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				joining := async(func() error { _, err := client.Join(context.Background(), n.dial, n.config()); return err })
				p := <-n.peers
				p.hello(c.answer)
				err := <-joining
				wantText(t, err, c.text)
				if c.uri != "" {
					wantURI(t, err, c.uri)
				} else if got := p.read(); !strings.HasPrefix(got, `[3,{},"wamp.error.`) {
					t.Errorf("client sent %s instead of ABORT", got)
				}
				p.gone()
			})
		})
	}
}

func TestJoinBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.HandshakeTimeout = 3 * time.Second
		began := time.Now()
		_, err := client.Join(context.Background(), n.dial, cfg)
		wantText(t, err, "not joined within 3s")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if _, err := client.Join(ctx, n.dial, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		n.setDown(errors.New("no route to host"))
		_, err = client.Join(context.Background(), n.dial, cfg)
		wantText(t, err, `join realm "realm1": no route to host`)
	})
}

// ticket authenticates with a secret; it stands for those of wamp/auth.
type ticket struct {
	secret string
	err    error
}

func (ticket) AuthMethod() string   { return "ticket" }
func (ticket) AuthExtra() wamp.Dict { return wamp.Dict{"device": "d1"} }
func (a ticket) Challenge(c *wamp.Challenge) (*wamp.Authenticate, error) {
	return &wamp.Authenticate{Signature: a.secret + wamp.AsString(c.Extra, "salt"), Extra: wamp.Dict{}}, a.err
}

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.Auth = []client.Authenticator{ticket{secret: "s3cret"}}
		go func() {
			p := <-n.peers
			hello := p.read()
			for _, want := range []string{`"authmethods":["ticket"]`, `"authextra":{"device":"d1"}`} {
				if !strings.Contains(hello, want) {
					t.Errorf("HELLO is %s", hello)
				}
			}
			p.send(`[4,"ticket",{"salt":"+salt"}]`)
			p.expect(`[5,"s3cret+salt",{}]`)
			p.send(welcome)
			n.peers <- p
		}()
		s, err := client.Join(context.Background(), n.dial, cfg)
		if err != nil {
			t.Fatal(err)
		}
		closeBoth(t, s, <-n.peers)

		cfg.Auth = []client.Authenticator{ticket{err: errors.New("no key in the slot")}}
		joining := async(func() error { _, err := client.Join(context.Background(), n.dial, cfg); return err })
		p := <-n.peers
		p.hello(`[4,"ticket",{}]`)
		p.expect(`[3,{},"wamp.error.authentication_failed"]`)
		wantText(t, <-joining, `answer a "ticket" challenge: no key in the slot`)

		cfg.Auth = []client.Authenticator{ticket{secret: "x"}}
		joining = async(func() error { _, err := client.Join(context.Background(), n.dial, cfg); return err })
		p = <-n.peers
		p.hello(`[4,"ticket",{}]`)
		for range 3 {
			p.expect(`[5,"x",{}]`)
			p.send(`[4,"ticket",{}]`)
		}
		p.expect(`[5,"x",{}]`)
		p.send(`[4,"ticket",{}]`)
		wantText(t, <-joining, "more than 4 challenges")
	})
}

func TestRouterEndsTheSession(t *testing.T) {
	cases := []struct{ name, message, answer, text string }{
		{
			"GOODBYE", `[6,{"message":"bye"},"wamp.close.system_shutdown"]`, `[6,{},"wamp.close.goodbye_and_out"]`,
			"router closed the session: wamp.close.system_shutdown: bye",
		},
		{"ABORT", `[3,{"message":"what?"},"wamp.error.protocol_violation"]`, "", "router aborted the session: wamp.error.protocol_violation: what?"},
		{"not a message", `nonsense`, `[3,{"message":`, "router broke the protocol: json"},
		{"message out of state", `[1,"realm1",{}]`, `[3,{"message":"unexpected HELLO`, "unexpected HELLO"},
		{"answer to nothing", `[50,5,{}]`, `[3,{"message":"RESULT answers request 5, which was never made"},"wamp.error.protocol_violation"]`, "never made"},
		{"wrong answer", `[33,1,5]`, `[3,{"message":"SUBSCRIBED for a SUBSCRIBE answers request 1, a CALL"},"wamp.error.protocol_violation"]`, "a CALL"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				s, p := n.join(n.config(), welcome)
				pending := call(s, "com.f", nil)
				p.expect(`[48,1,{},"com.f"]`)
				p.send(c.message)
				if c.answer != "" {
					if got := p.read(); !strings.HasPrefix(got, c.answer) {
						t.Errorf("client sent %s, want %s", got, c.answer)
					}
				}
				p.gone()
				wantURI(t, (<-pending).err, wamp.ErrNetworkFailure)
				<-s.Done()
				wantText(t, s.Err(), c.text)
				if err := s.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCloseFailsPendingCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		c := call(s, "com.f", nil)
		p.expect(`[48,1,{},"com.f"]`)
		closeBoth(t, s, p)
		if o := <-c; !errors.Is(o.err, client.ErrClosed) {
			t.Errorf("have %v", o.err)
		}
		if err := s.Publish(context.Background(), "com.t", nil, nil); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Publish after Close: %v", err)
		}
	})
}

func TestCloseWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		err := s.Close(ctx)
		wantText(t, err, "no answer to GOODBYE")
		if d := time.Since(began); d != time.Second || s.Err() == nil {
			t.Errorf("after %v, Err %v", d, s.Err())
		}
		p.expect(`[6,{},"wamp.close.close_realm"]`)
		p.gone()

		// Without a deadline of its own it ends too.
		s, _ = n.join(n.config(), welcome)
		began = time.Now()
		if err := s.Close(context.Background()); err == nil || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestCloseCrossesGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		closed := async(func() error { return s.Close(context.Background()) })
		synctest.Wait()
		p.send(`[6,{},"wamp.close.system_shutdown"]`)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// Close waits for handlers, whose contexts it has ended, but not forever: those
// that call it must not hang.
func TestCloseFromHandlers(t *testing.T) {
	t.Run("event handler", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			s, p := n.join(n.config(), welcome)
			result := make(chan error, 1)
			subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) { result <- s.Close(context.Background()) })
			p.send(`[36,5,70,{}]`, `[36,5,71,{}]`)
			p.goodbye()
			wantText(t, <-result, "1 handlers are still running")
			if err := s.Close(context.Background()); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	})
	t.Run("procedure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			s, p := n.join(n.config(), welcome)
			result := make(chan error, 1)
			register(t, s, p, 1, "com.f", 5, func(ctx context.Context, _ *client.Invocation) (*client.Result, error) {
				result <- s.Close(ctx)
				return nil, nil
			})
			p.send(`[68,1,5,{}]`)
			p.expect(`[6,{},"wamp.close.close_realm"]`)
			if err := <-result; err == nil {
				t.Error("no error")
			}
			if err := s.Close(context.Background()); err == nil {
				t.Error("the router has not answered, and Close says nothing")
			}
		})
	})
	t.Run("another waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			s, p := n.join(n.config(), welcome)
			ended := false
			register(t, s, p, 1, "com.f", 5, func(ctx context.Context, _ *client.Invocation) (*client.Result, error) {
				<-ctx.Done()
				time.Sleep(time.Second) // cleaning up
				ended = true
				return nil, nil
			})
			p.send(`[68,1,5,{}]`)
			synctest.Wait()
			closeBoth(t, s, p)
			if !ended {
				t.Error("Close did not wait for the procedure")
			}
		})
	})
}

// narrow is a connection whose peer accepts small messages only.
type narrow struct{ transport.Conn }

func (narrow) Info() *transport.Info {
	return &transport.Info{Transport: "pipe", Codec: codec.JSON, MaxWrite: 1000}
}

func TestMessagesTooLargeForTheRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		dial := n.dial
		joining := async(func() *client.Session {
			s, err := client.Join(context.Background(), func(ctx context.Context) (transport.Conn, error) {
				c, err := dial(ctx)
				return narrow{c}, err
			}, n.config())
			if err != nil {
				t.Error(err)
			}
			return s
		})
		p := <-n.peers
		p.hello(welcome)
		s := <-joining
		big := strings.Repeat("x", 1000)
		_, err := s.Call(context.Background(), "com.f", client.Args{big}, nil)
		wantURI(t, err, wamp.ErrPayloadSizeExceeded)
		register(t, s, p, 1, "com.big", 77, func(context.Context, *client.Invocation) (*client.Result, error) {
			return client.Return(big), nil
		})
		p.send(`[68,1,77,{}]`)
		p.expect(`[8,68,1,{},"wamp.error.payload_size_exceeded",["YIELD has 1014 bytes, the router accepts 1000"]]`)
		closeBoth(t, s, p)
	})
}
