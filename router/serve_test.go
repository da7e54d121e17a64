package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// listener accepts what a test gives it, errors included.
type listener struct {
	accepts chan accepted
	closed  chan struct{}
	once    sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

func newListener() *listener {
	return &listener{accepts: make(chan accepted), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepts:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// rawHandshake is the client's part of the RawSocket handshake: JSON, 16 MB.
var rawHandshake = []byte{0x7f, 0xf1, 0, 0}

// TestServeSurvives: errors of Accept that pass, and others that do not.
func TestServeSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := start(t, openConfig())
		ln := newListener()
		result := make(chan error, 1)
		go func() { result <- r.Serve(t.Context(), ln, transport.NewRawSocket()) }()
		for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, os.ErrDeadlineExceeded} {
			for range 20 {
				ln.accepts <- accepted{err: &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", e)}}
			}
		}
		theirs, ours := net.Pipe()
		ln.accepts <- accepted{conn: ours}
		if _, err := theirs.Write(rawHandshake); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4)
		if _, err := theirs.Read(answer); err != nil || answer[0] != 0x7f || answer[1] != 0xb1 {
			t.Errorf("answer %x, %v", answer, err)
		}
		_ = theirs.Close()
		if st := r.Stats(); st.AcceptErrors != 80 || !log.has("cannot accept connections") {
			t.Errorf("%+v", st)
		}
		broken := errors.New("the network card has left")
		ln.accepts <- accepted{err: broken}
		if err := <-result; !errors.Is(err, broken) {
			t.Errorf("Serve returned %v", err)
		}
		select {
		case <-ln.closed:
		default:
			t.Error("the listener is still open")
		}
	})
}

// TestServeOutOfDescriptors: with none left, clients are turned away rather
// than left waiting, and served again when there are some.
func TestSpareDescriptor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	spare := openSpare()
	defer spare.close()
	spare.shed(ln)
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the client is not turned away")
	}
	if spare.f == nil {
		t.Error("the reserve is not there again")
	}
	spare.shed(ln) // nobody waits: it does not block
}

func TestServeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- r.Serve(ctx, newListener(), transport.NewRawSocket()) }()
		synctest.Wait()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("cancelled: %v", err)
		}
		go func() { result <- r.Serve(t.Context(), newListener(), transport.NewRawSocket()) }()
		synctest.Wait()
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-result; err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := r.Serve(t.Context(), newListener(), transport.NewRawSocket()); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := r.Local(t.Context(), user, "realm1"); !errors.Is(err, ErrClosed) {
			t.Errorf("Local afterwards: %v", err)
		}
		_, ours := transport.Pipe(codec.JSON)
		if err := r.Attach(t.Context(), ours); !errors.Is(err, ErrClosed) {
			t.Errorf("Attach afterwards: %v", err)
		}
		w := httptest.NewRecorder()
		r.Handler(transport.NewWebSocket()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ws", nil))
		if w.Code < 400 {
			t.Errorf("Handler afterwards: %d", w.Code)
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	cfg := openConfig()
	cfg.Limits.Connections = 2
	r, _ := start(t, cfg)
	dialers := network(t, r)
	raw, ws := dialers[1], dialers[3]
	first := raw.dial(t, codec.JSON).joins()
	second := ws.dial(t, codec.JSON).joins()
	refused := func() {
		t.Helper()
		if st := r.Stats(); st.Connections != 2 {
			t.Errorf("%+v", st)
		}
	}
	func() {
		ft := &fatalCatcher{TB: t}
		defer ft.expect(t, "as many connections as it allows")
		raw.dial(ft, codec.JSON)
	}()
	refused()
	func() {
		ft := &fatalCatcher{TB: t}
		defer ft.expect(t, "503")
		ws.dial(ft, codec.JSON)
	}()
	refused()
	for _, p := range []*peer{first, second} {
		p.send(&wamp.Goodbye{Reason: wamp.CloseRealm})
		expect[*wamp.Goodbye](p)
		p.ended()
		_ = p.conn.Close()
	}
	for r.Stats().Connections > 0 {
		runtime.Gosched()
	}
	ws.dial(t, codec.JSON).joins()
	if st := r.Stats(); st.Refused != 2 || st.Accepted != 3 {
		t.Errorf("%+v", st)
	}
}

// fatalCatcher takes what a failing dialer says.
type fatalCatcher struct {
	testing.TB
	said string
}

type caught struct{}

func (f *fatalCatcher) Fatal(args ...any) {
	f.said = fmt.Sprint(args...)
	panic(caught{})
}

func (f *fatalCatcher) expect(t *testing.T, want string) {
	t.Helper()
	if v := recover(); v == nil || !strings.Contains(f.said, want) {
		t.Errorf("dialing said %q, want %q", f.said, want)
	}
}

func TestAddresses(t *testing.T) {
	cfg := openConfig()
	cfg.Limits.ConnectionsPerAddress = 1
	r, _ := start(t, cfg)
	tcp := func(s string) net.Addr { return remoteAddr(s) }
	release, ok := r.admit(tcp("192.0.2.1:1"))
	if !ok {
		t.Fatal("the first is refused")
	}
	if _, ok := r.admit(tcp("192.0.2.1:2")); ok {
		t.Error("the second from one address is accepted")
	}
	if _, ok := r.admit(tcp("[::ffff:192.0.2.1]:2")); ok {
		t.Error("the second from the same address in IPv6 is accepted")
	}
	if _, ok := r.admit(tcp("192.0.2.2:1")); !ok {
		t.Error("another address is refused")
	}
	release()
	if _, ok := r.admit(tcp("192.0.2.1:3")); !ok {
		t.Error("it is refused after the first has gone")
	}
	for range 3 {
		for _, own := range []net.Addr{tcp("127.0.0.1:1"), tcp("[::1]:1"), &net.UnixAddr{Name: "@"}, nil} {
			if _, ok := r.admit(own); !ok {
				t.Errorf("%v is refused", own)
			}
		}
	}
	for a, want := range map[string]string{
		"[2001:db8::1]:9":         "2001:db8::/64",
		"[2001:db8::ffff:2]:9":    "2001:db8::/64",
		"[fe80::1%eth0]:9":        "fe80::/64",
		"[2001:db8:0:1::1%0]:443": "2001:db8:0:1::/64",
		"192.0.2.7:1":             "192.0.2.7",
		"nonsense":                "",
	} {
		if got := addressKey(tcp(a)); got != want {
			t.Errorf("%s counts for %q, want %q", a, got, want)
		}
	}
}

// TestSilentConnections: however many connect and say nothing, others are
// served, and the silent ones go.
func TestSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		ln := newListener()
		result := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { result <- r.Serve(ctx, ln, transport.NewRawSocket()) }()
		var silent []net.Conn
		for range 500 {
			theirs, ours := net.Pipe()
			ln.accepts <- accepted{conn: ours}
			silent = append(silent, theirs)
		}
		pipe(t, r, codec.JSON).joins().subscribe(1, "com.a")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := r.Stats(); st.Connections != 0 || st.HandshakesFailed != 500 || st.Sessions != 1 {
			t.Errorf("%+v", st)
		}
		for _, c := range silent {
			_ = c.Close()
		}
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		polite, deaf, handshaking := pipe(t, r, codec.JSON).joins(), pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.JSON)
		local, err := r.Local(t.Context(), user, "realm1")
		if err != nil {
			t.Fatal(err)
		}
		device := newPeer(t, local).joins()
		deaf.register(1, "com.p")
		polite.send(&wamp.Call{Request: 1, Procedure: "com.p"})
		expect[*wamp.Invocation](deaf)
		synctest.Wait() // handshaking is there
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- r.Shutdown(t.Context()) }()
		for _, p := range []*peer{polite, device, deaf} {
			if m := expect[*wamp.Goodbye](p); m.Reason != wamp.CloseSystemShutdown {
				t.Errorf("GOODBYE %s", m.Reason)
			}
		}
		if m := expect[*wamp.Abort](handshaking); m.Reason != wamp.CloseSystemShutdown {
			t.Errorf("ABORT %s", m.Reason)
		}
		polite.send(&wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOut})
		polite.ended()
		device.send(&wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOutAutobahn})
		device.ended()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v for those who answer", took)
		}
		deaf.ended()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if st := r.Stats(); st.Sessions != 0 || st.Realms["realm1"].Sessions != 0 {
			t.Errorf("afterwards: %+v", st)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

// TestShutdownAtOnce: a context that has ended cuts the farewell short.
func TestShutdownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, openConfig())
		p := pipe(t, r, codec.JSON).joins()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		for {
			if _, err := p.conn.Read(); err != nil {
				break
			}
		}
	})
}

// TestShutdownWithStuckSession: one that takes nothing does not hold it up.
func TestShutdownWithStuckSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := start(t, smallQueues())
		stuck, pub := pipe(t, r, codec.CBOR).joins(), pipe(t, r, codec.CBOR).joins()
		stuck.subscribe(1, "com.a")
		flood(pub, "com.a")
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestShutdownEverywhere: GOODBYE arrives, and is flushed before the close.
func TestShutdownEverywhere(t *testing.T) {
	r, _ := start(t, openConfig())
	var peers []*peer
	for _, d := range network(t, r) {
		peers = append(peers, d.dial(t, codec.MessagePack).joins())
	}
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(t.Context()) }()
	for _, p := range peers {
		if m := expect[*wamp.Goodbye](p); m.Reason != wamp.CloseSystemShutdown {
			t.Errorf("GOODBYE %s", m.Reason)
		}
		p.send(&wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOut})
		p.ended()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestHandlerRefuses: what is no WebSocket handshake gets an HTTP answer and
// leaves no connection counted.
func TestHandlerRefuses(t *testing.T) {
	r, _ := start(t, openConfig())
	http := httptest.NewServer(r.Handler(transport.NewWebSocket()))
	defer http.Close()
	res, err := http.Client().Get(http.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if st := r.Stats(); res.StatusCode < 400 || st.Connections != 0 || st.HandshakesFailed != 1 {
		t.Errorf("%s, %+v", res.Status, st)
	}
}
