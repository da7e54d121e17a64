package router

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var codecs = []codec.Codec{codec.JSON, codec.MessagePack, codec.CBOR}

// peer is the other end of a session: raw messages over a connection.
type peer struct {
	tb    testing.TB
	conn  transport.Conn
	codec codec.Codec
}

func newPeer(tb testing.TB, conn transport.Conn) *peer {
	tb.Cleanup(func() { _ = conn.Close() })
	return &peer{tb: tb, conn: conn, codec: conn.Info().Codec}
}

func (p *peer) send(messages ...wamp.Message) {
	p.tb.Helper()
	var frames [][]byte
	for _, m := range messages {
		b, err := p.codec.Append(nil, m)
		if err != nil {
			p.tb.Fatalf("encode %v: %v", m.Kind(), err)
		}
		frames = append(frames, b)
	}
	if err := p.conn.Write(frames...); err != nil {
		p.tb.Fatalf("write: %v", err)
	}
}

func (p *peer) receive() wamp.Message {
	p.tb.Helper()
	b, err := p.conn.Read()
	if err != nil {
		p.tb.Fatalf("read: %v", err)
	}
	m, err := p.codec.Decode(b, codec.Limits{})
	if err != nil {
		p.tb.Fatalf("decode %q: %v", b, err)
	}
	return m
}

// expect receives a message of one type.
func expect[M wamp.Message](p *peer) M {
	p.tb.Helper()
	got := p.receive()
	m, ok := got.(M)
	if !ok {
		p.tb.Fatalf("received %s, want %T", text(p.tb, got), m)
	}
	return m
}

// ended expects the connection's end. A WebSocket may say why it ends.
func (p *peer) ended() {
	p.tb.Helper()
	b, err := p.conn.Read()
	if err != io.EOF && (err == nil || !strings.Contains(err.Error(), "closed the WebSocket with code")) {
		p.tb.Fatalf("read %q, %v; want the end", b, err)
	}
}

// aborted expects an ABORT with a reason, and then the end.
func (p *peer) aborted(reason string) *wamp.Abort {
	p.tb.Helper()
	m := expect[*wamp.Abort](p)
	if m.Reason != reason {
		p.tb.Errorf("ABORT %s %v, want %s", m.Reason, m.Details, reason)
	}
	p.ended()
	return m
}

func (p *peer) failed(kind wamp.Kind, request wamp.ID, uri string) {
	p.tb.Helper()
	m := expect[*wamp.ErrorMessage](p)
	if m.Type != kind || m.Request != request || m.URI != uri {
		p.tb.Fatalf("received %s, want ERROR %s for %v %d", text(p.tb, m), uri, kind, request)
	}
}

func hello(realmName string) *wamp.Hello {
	return &wamp.Hello{Realm: realmName, Details: wamp.Dict{"roles": wamp.Dict{
		"caller": wamp.Dict{}, "callee": wamp.Dict{}, "publisher": wamp.Dict{}, "subscriber": wamp.Dict{},
	}}}
}

// joins sends HELLO and returns the session.
func (p *peer) joins() *peer {
	p.tb.Helper()
	p.send(hello("realm1"))
	expect[*wamp.Welcome](p)
	return p
}

func (p *peer) subscribe(request wamp.ID, topic string) {
	p.tb.Helper()
	p.send(&wamp.Subscribe{Request: request, Topic: topic})
	expect[*wamp.Subscribed](p)
}

func (p *peer) register(request wamp.ID, procedure string) {
	p.tb.Helper()
	p.send(&wamp.Register{Request: request, Procedure: procedure})
	expect[*wamp.Registered](p)
}

func (p *peer) payload(args ...any) wamp.Payload {
	p.tb.Helper()
	enc, err := wamp.NewPayload(p.codec, args, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	return enc
}

// text shows a message as JSON.
func text(tb testing.TB, m wamp.Message) string {
	tb.Helper()
	b, err := codec.JSON.Append(nil, m)
	if err != nil {
		tb.Fatalf("encode %v as JSON: %v", m.Kind(), err)
	}
	return string(b)
}

// logs collects what a router logs.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) has(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), what)
}

func (l *logs) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

func openConfig() Config {
	c := DefaultConfig()
	c.Realms = []RealmConfig{OpenRealm("realm1")}
	return c
}

// start makes a router that is shut down with the test.
func start(tb testing.TB, cfg Config, opts ...Option) (*Router, *logs) {
	tb.Helper()
	l := &logs{}
	log := slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(cfg, append([]Option{WithLog(log)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return r, l
}

// pipe attaches a session over a pipe and returns its other end.
func pipe(tb testing.TB, r *Router, c codec.Codec) *peer {
	tb.Helper()
	theirs, ours := transport.Pipe(c)
	attach(r, ours)
	return newPeer(tb, theirs)
}

func attach(r *Router, conn transport.Conn) {
	if !r.start(func() { _ = r.Attach(context.Background(), conn) }) {
		_ = conn.Close()
	}
}

// dialer opens a connection of one transport to a router.
type dialer struct {
	name string
	dial func(tb testing.TB, c codec.Codec) *peer
}

// network lets a router listen on loopback, with each transport.
func network(tb testing.TB, r *Router) []dialer {
	tb.Helper()
	http := httptest.NewServer(r.Handler(transport.NewWebSocket()))
	tb.Cleanup(http.Close)
	polls := httptest.NewServer(r.LongPoll(transport.NewLongPoll()))
	tb.Cleanup(polls.Close)
	webSocket := func(batched bool) func(tb testing.TB, c codec.Codec) *peer {
		return func(tb testing.TB, c codec.Codec) *peer {
			tb.Helper()
			conn, err := transport.DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(http.URL, "http"), c, transport.DialOptions{Batched: batched})
			if err != nil {
				tb.Fatal(err)
			}
			return newPeer(tb, conn)
		}
	}
	listeners := map[string]net.Listener{}
	for _, n := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"},
		{"unix", tb.TempDir() + "/s"},
	} {
		ln, err := net.Listen(n.network, n.address)
		if err != nil {
			tb.Fatal(err)
		}
		listeners[n.network] = ln
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { done <- r.Serve(ctx, ln, transport.NewRawSocket()) }()
		tb.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Error(err)
			}
		})
	}
	raw := func(network string) func(tb testing.TB, c codec.Codec) *peer {
		return func(tb testing.TB, c codec.Codec) *peer {
			tb.Helper()
			conn, err := transport.DialRawSocket(context.Background(), network, listeners[network].Addr().String(), c, transport.DialOptions{})
			if err != nil {
				tb.Fatal(err)
			}
			return newPeer(tb, conn)
		}
	}
	return []dialer{
		{"pipe", func(tb testing.TB, c codec.Codec) *peer { tb.Helper(); return pipe(tb, r, c) }},
		{"rawsocket", raw("tcp")},
		{"unix", raw("unix")},
		{"websocket", webSocket(false)},
		{"websocket-batched", webSocket(true)},
		{"longpoll", func(tb testing.TB, c codec.Codec) *peer { tb.Helper(); return newPeer(tb, poll(tb, polls.URL, c)) }},
	}
}

// everywhere runs a test over each transport and codec.
func everywhere(t *testing.T, cfg Config, test func(t *testing.T, r *Router, dial func() *peer)) {
	r, _ := start(t, cfg)
	for _, d := range network(t, r) {
		for _, c := range codecs {
			t.Run(d.name+"/"+c.Name(), func(t *testing.T) {
				test(t, r, func() *peer { t.Helper(); return d.dial(t, c) })
			})
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

var user = realm.Identity{AuthID: "user", AuthRole: RoleTrusted, AuthMethod: "local", AuthProvider: "test"}
