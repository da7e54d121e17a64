package client_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// gateway is a real router that everybody may use.
type gateway struct {
	router *router.Router
	ws, rs string // URLs
	stop   func()
}

func startGateway(log *slog.Logger) (*gateway, error) {
	cfg := router.DefaultConfig()
	cfg.Realms = []router.RealmConfig{router.OpenRealm("realm1")}
	r, err := router.New(cfg, router.WithLog(log))
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	web := httptest.NewServer(r.Handler(transport.NewWebSocket()))
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.Serve(context.Background(), ln, transport.NewRawSocket()) })
	return &gateway{
		router: r,
		ws:     "ws" + strings.TrimPrefix(web.URL, "http") + "/ws",
		rs:     "rs://" + ln.Addr().String(),
		stop: func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = r.Shutdown(ctx)
			serving.Wait()
			web.Close()
		},
	}, nil
}

// silent is a log that nobody reads.
func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// local dials the router within the process.
func (g *gateway) local(ctx context.Context) (transport.Conn, error) {
	return g.router.Local(context.WithoutCancel(ctx), realm.Identity{AuthID: "local", AuthRole: router.RoleTrusted}, "realm1")
}

// everyWay runs f with a function that joins, over every transport and codec.
func everyWay(t *testing.T, f func(t *testing.T, join func(client.Config) *client.Session)) {
	g, err := startGateway(silent())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.stop)
	run := func(name string, dial client.Dialer) {
		t.Run(name, func(t *testing.T) {
			f(t, func(cfg client.Config) *client.Session {
				cfg.Realm, cfg.Log = "realm1", silent()
				s, err := client.Join(t.Context(), dial, cfg)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := s.Close(context.Background()); err != nil {
						t.Error(err)
					}
				})
				return s
			})
		})
	}
	run("pipe", g.local)
	for _, c := range []codec.Codec{codec.JSON, codec.MessagePack, codec.CBOR} {
		for _, url := range []string{g.ws, g.rs} {
			run(url[:2]+" "+c.Name(), func(ctx context.Context) (transport.Conn, error) {
				return transport.Dial(ctx, url, c, transport.DialOptions{})
			})
		}
	}
}

func TestWithRouter(t *testing.T) {
	everyWay(t, func(t *testing.T, join func(client.Config) *client.Session) {
		ctx := t.Context()
		callee, caller := join(client.Config{}), join(client.Config{})
		reg, err := callee.Register(ctx, "com.echo.", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			return &client.Result{Values: client.Values{Args: append(inv.Args, inv.Procedure), KwArgs: inv.KwArgs}}, nil
		}, client.RegisterPattern(wamp.MatchPrefix))
		if err != nil {
			t.Fatal(err)
		}
		r, err := caller.Call(ctx, "com.echo.a", client.Args{int64(1) << 53, 1.5, "ü", []byte{0, 255}, nil, []any{true}}, client.KwArgs{"k": map[string]any{"n": -1}})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(r.Args, r.KwArgs), "[9007199254740992 1.5 ü [0 255] <nil> [true] com.echo.a] map[k:map[n:-1]]"; got != want {
			t.Errorf("have %s, want %s", got, want)
		}
		events := make(chan string, 1000)
		sub, err := callee.Subscribe(ctx, "com..reading", func(e *client.Event) {
			events <- fmt.Sprint(e.Topic, " ", e.Args)
		}, client.Pattern(wamp.MatchWildcard))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			if err := caller.Publish(ctx, "com.a.reading", client.Args{i}, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 500 {
			if got, want := <-events, fmt.Sprintf("com.a.reading [%d]", i); got != want {
				t.Fatalf("event is %q, want %q", got, want)
			}
		}
		if err := caller.Publish(ctx, "wamp.not.ours", nil, nil, client.Acknowledge()); err == nil {
			t.Error("published under wamp.")
		}
		if err := sub.Unsubscribe(ctx); err != nil {
			t.Error(err)
		}
		if err := reg.Unregister(ctx); err != nil {
			t.Error(err)
		}
		_, err = caller.Call(ctx, "com.echo.a", nil, nil)
		wantURI(t, err, wamp.ErrNoSuchProcedure)
	})
}

// TestShardsWithRouter: what has the same key goes to the same place.
func TestShardsWithRouter(t *testing.T) {
	everyWay(t, func(t *testing.T, join func(client.Config) *client.Session) {
		ctx := t.Context()
		caller := join(client.Config{})
		events := make(chan string, 100)
		for _, node := range []string{"a", "b"} {
			s := join(client.Config{})
			if _, err := s.Register(ctx, "com.shard", func(context.Context, *client.Invocation) (*client.Result, error) {
				return client.Return(node), nil
			}, client.Invoke("roundrobin"), client.RegisterShard(node)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Subscribe(ctx, "com.shard", func(e *client.Event) {
				events <- fmt.Sprint(node, e.Args)
			}, client.SubscribeShard(node)); err != nil {
				t.Fatal(err)
			}
		}
		called, told := map[string]bool{}, map[string]bool{}
		for i := range 32 {
			key := fmt.Sprint("key", i%8)
			r, err := caller.Call(ctx, "com.shard", nil, nil, client.Shard(key))
			if err != nil {
				t.Fatal(err)
			}
			called[fmt.Sprint(key, r.Args)] = true
			if err := caller.Publish(ctx, "com.shard", client.Args{key}, nil, client.PublishShard(key)); err != nil {
				t.Fatal(err)
			}
			told[<-events] = true
		}
		if len(called) != 8 || len(told) != 8 {
			t.Errorf("eight keys went to %v and %v", called, told)
		}
		if len(events) > 0 {
			t.Errorf("an event came to both: %v", <-events)
		}
	})
}

// A burst of calls that run at the same time all come back, in both
// directions of the same sessions.
func TestManyCallsWithRouter(t *testing.T) {
	everyWay(t, func(t *testing.T, join func(client.Config) *client.Session) {
		s := join(client.Config{MaxConcurrent: 64})
		double := func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			n, err := inv.Int(0)
			return client.Return(2 * n), err
		}
		if _, err := s.Register(t.Context(), "com.double", double); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for i := range 500 {
			calls.Go(func() {
				r, err := s.Call(t.Context(), "com.double", client.Args{i}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := r.Int(0); n != int64(2*i) || err != nil {
					t.Errorf("double %d is %d, %v", i, n, err)
				}
			})
		}
		calls.Wait()
	})
}

// The router goes away and comes back, at another address.
func TestReconnectToRouter(t *testing.T) {
	first, err := startGateway(silent())
	if err != nil {
		t.Fatal(err)
	}
	second, err := startGateway(silent())
	if err != nil {
		t.Fatal(err)
	}
	defer second.stop()
	var mu sync.Mutex
	url := first.ws
	up, down := make(chan struct{}, 8), make(chan error, 8)
	s, err := client.Join(t.Context(), func(ctx context.Context) (transport.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		return transport.Dial(ctx, url, codec.MessagePack, transport.DialOptions{})
	}, client.Config{
		Realm: "realm1", Log: silent(), Reconnect: &client.Backoff{Min: time.Millisecond, Max: time.Millisecond},
		OnUp: func() { up <- struct{}{} }, OnDown: func(err error) { down <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-up
	if _, err := s.Register(t.Context(), "com.hello", func(context.Context, *client.Invocation) (*client.Result, error) {
		return client.Return("hello"), nil
	}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	url = second.ws
	mu.Unlock()
	first.stop()
	wantURI(t, <-down, wamp.CloseSystemShutdown)
	<-up
	caller, err := client.Dial(t.Context(), second.rs, client.Config{Realm: "realm1"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := caller.Call(t.Context(), "com.hello", nil, nil); err != nil || r.Args[0] != "hello" {
		t.Errorf("have %v, %v", r, err)
	}
	for _, s := range []*client.Session{s, caller} {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkCall is a call and its answer through the real router: two
// sessions over the in-process pipe.
func BenchmarkCall(b *testing.B) {
	g, err := startGateway(silent())
	if err != nil {
		b.Fatal(err)
	}
	defer g.stop()
	var sessions [2]*client.Session
	for i := range sessions {
		if sessions[i], err = client.Join(b.Context(), g.local, client.Config{Realm: "realm1", Log: silent()}); err != nil {
			b.Fatal(err)
		}
		defer sessions[i].Close(context.Background())
	}
	if _, err := sessions[0].Register(b.Context(), "com.add", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		return client.Return(inv.Args[0]), nil
	}); err != nil {
		b.Fatal(err)
	}
	call := func(b *testing.B) {
		if _, err := sessions[1].Call(context.Background(), "com.add", client.Args{1}, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("one at a time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			call(b)
		}
	})
	b.Run("16 in flight", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call(b)
			}
		})
	})
}
