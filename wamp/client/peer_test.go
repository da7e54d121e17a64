package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// peer is the router's end of a connection, played by the test: it expects and
// sends messages in JSON.
type peer struct {
	t    *testing.T
	conn transport.Conn
}

// welcome is a WELCOME of a router that can cancel calls.
const welcome = `[2,1234,{"roles":{"broker":{},"dealer":{"features":{"call_canceling":true}}}}]`

// expect reads one message, which must be want.
func (p *peer) expect(want string) {
	p.t.Helper()
	if got := p.read(); got != want {
		p.t.Fatalf("client sent\n  %s\nwant\n  %s", got, want)
	}
}

func (p *peer) read() string {
	p.t.Helper()
	b, err := p.conn.Read()
	if err != nil {
		p.t.Fatalf("read from the client: %v", err)
	}
	return string(b)
}

// send sends messages to the client.
func (p *peer) send(messages ...string) {
	p.t.Helper()
	for _, m := range messages {
		if err := p.conn.Write([]byte(m)); err != nil {
			p.t.Fatalf("send %s: %v", m, err)
		}
	}
}

// hello expects HELLO and answers it.
func (p *peer) hello(answer string) {
	p.t.Helper()
	if got := p.read(); !strings.HasPrefix(got, `[1,"realm1",`) {
		p.t.Fatalf("client sent %s instead of HELLO", got)
	}
	p.send(answer)
}

// goodbye expects GOODBYE and answers it.
func (p *peer) goodbye() {
	p.t.Helper()
	p.expect(`[6,{},"wamp.close.close_realm"]`)
	p.send(`[6,{},"wamp.close.goodbye_and_out"]`)
}

// gone expects that the client has closed the connection.
func (p *peer) gone() {
	p.t.Helper()
	if b, err := p.conn.Read(); err == nil {
		p.t.Fatalf("client sent %s instead of closing the connection", b)
	}
}

// network makes connections to peers.
type network struct {
	t     *testing.T
	peers chan *peer

	mu   sync.Mutex
	down error // what dialling says while set
	log  bytes.Buffer
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, peers: make(chan *peer, 16)}
}

// dial is a client.Dialer.
func (n *network) dial(context.Context) (transport.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down != nil {
		return nil, n.down
	}
	ours, theirs := transport.Pipe(codec.JSON)
	n.peers <- &peer{n.t, theirs}
	return ours, nil
}

func (n *network) setDown(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = err
}

// Write collects the session's log.
func (n *network) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

// logged reports whether text is in the log.
func (n *network) logged(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(n.log.String(), text)
}

func (n *network) wantLogged(text string) {
	n.t.Helper()
	if !n.logged(text) {
		n.t.Errorf("log has no %q:\n%s", text, n.log.String())
	}
}

func (n *network) config() client.Config {
	return client.Config{Realm: "realm1", Log: slog.New(slog.NewTextHandler(n, nil))}
}

// join joins through a peer that says answer to HELLO.
func (n *network) join(cfg client.Config, answer string) (*client.Session, *peer) {
	n.t.Helper()
	p := make(chan *peer, 1)
	go func() {
		first := <-n.peers
		first.hello(answer)
		p <- first
	}()
	s, err := client.Join(context.Background(), n.dial, cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return s, <-p
}

// joined runs f with a joined session and its peer, in a bubble with its own
// clock, in which a deadlock is an error; then it leaves the realm in order.
func joined(t *testing.T, f func(t *testing.T, s *client.Session, p *peer, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		f(t, s, p, n)
		closeBoth(t, s, p)
	})
}

// closeBoth leaves in order, and fails when that is not possible.
func closeBoth(t *testing.T, s *client.Session, p *peer) {
	t.Helper()
	closed := async(func() error { return s.Close(context.Background()) })
	p.goodbye()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
	p.gone()
}

// async runs f in a goroutine; its result comes from the channel.
func async[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// outcome is what a call came to.
type outcome struct {
	r   *client.Result
	err error
}

func call(s *client.Session, procedure string, args client.Args, opts ...client.CallOption) <-chan outcome {
	return async(func() outcome {
		r, err := s.Call(context.Background(), procedure, args, nil, opts...)
		return outcome{r, err}
	})
}

// wantURI checks that err wraps a *wamp.Error with that URI.
func wantURI(t *testing.T, err error, uri string) {
	t.Helper()
	var e *wamp.Error
	if !errors.As(err, &e) || e.URI != uri {
		t.Errorf("error is %v, want one with %s", err, uri)
	}
}

// wantText checks that err says text.
func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want one that says %q", err, text)
	}
}
