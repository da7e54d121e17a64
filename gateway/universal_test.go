package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// universal is the demo with a port for everything, with TLS.
func universal(t *testing.T) *config.Config {
	cfg := demo(t)
	server, _ := certificate(t, t.TempDir(), "server")
	cfg.Listen.Universal.Addresses = []string{"127.0.0.1:0"}
	cfg.Listen.Universal.TLS.Cert, cfg.Listen.Universal.TLS.Key = server+".crt", server+".key"
	return cfg
}

var anyServer = &tls.Config{InsecureSkipVerify: true} // the server's name is not what is tested

func dialSecure(t *testing.T, url string) (*client.Session, error) {
	t.Helper()
	s, err := client.Dial(t.Context(), url, client.Config{Realm: "realm1", TLS: anyServer})
	if err == nil {
		t.Cleanup(func() { s.Close(context.Background()) })
	}
	return s, err
}

func TestUniversal(t *testing.T) {
	for _, plain := range []bool{false, true} {
		cfg := universal(t)
		cfg.Listen.Universal.Plain, cfg.Listen.Unix.HTTP = plain, true
		u := start(t, cfg)
		at := u.Addresses().Universal[0].String()
		for _, c := range []struct {
			url string
			ok  bool
		}{
			{"wss://" + at + "/ws", true}, {"rss://" + at, true}, {"ws://" + at + "/ws", plain}, {"rs://" + at, plain}, {"unix://" + cfg.Listen.Unix.Path, true},
		} {
			s, err := dialSecure(t, c.url)
			if (err == nil) != c.ok {
				t.Errorf("%s, allow_plain %v: %v", c.url, plain, err)
			}
			if err == nil {
				if r, err := s.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil || r.Args[0] != true {
					t.Errorf("%s: %v, %v", c.url, r, err)
				}
			}
		}
		web := &http.Transport{TLSClientConfig: anyServer, DisableKeepAlives: true}
		local := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", cfg.Listen.Unix.Path)
		}}
		want := map[bool]int{true: http.StatusOK, false: http.StatusBadRequest}[plain]
		for _, c := range []struct {
			by   *http.Transport
			url  string
			want int
		}{{web, "https://" + at, http.StatusOK}, {web, "http://" + at, want}, {local, "http://localhost", http.StatusOK}} {
			resp, err := (&http.Client{Transport: c.by}).Get(c.url + "/healthz")
			if err != nil {
				t.Errorf("%s: %v", c.url, err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s, allow_plain %v: %s", c.url, plain, resp.Status)
			}
		}
		u.stop()
	}
}

// TestUniversalSilence: who says nothing, too little, or what nobody knows is
// hung up on, and others are served meanwhile.
func TestUniversalSilence(t *testing.T) {
	cfg := universal(t)
	cfg.Listen.Universal.Plain = true
	cfg.Router.Limits.HandshakeTimeout = 300 * time.Millisecond
	u := start(t, cfg)
	at := u.Addresses().Universal[0].String()
	var open []net.Conn
	for _, first := range []string{"", "\x7f", "\x7f\xf1\x00", "\x16\x03", "\x00", "\xff", "get / HTTP/1.1\r\n\r\n"} {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	if _, err := dialSecure(t, "wss://"+at+"/ws"); err != nil {
		t.Error(err)
	}
	for i, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
			t.Errorf("connection %d stays", i)
		}
	}
}

// proxiedDial connects as a proxy does, for a client at an address.
func proxiedDial(t *testing.T, at, header string) *bufio.ReadWriter {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, header); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
}

// proxy passes connections on, each with a PROXY header before, as haproxy does.
func proxy(t *testing.T, to, header string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			_, _ = io.WriteString(out, header)
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
	return ln.Addr().String()
}

func TestProxies(t *testing.T) {
	const v1 = "PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x0a\xc0\x00\x02\x01\x15\xb3\x01\xbb"
	cfg := universal(t)
	cfg.Listen.Universal.Plain = true
	cfg.Listen.Universal.Proxies = []string{"127.0.0.1"}
	cfg.Listen.HTTP.Proxies, cfg.Listen.RawSocket.Proxies = []string{"127.0.0.0/8"}, []string{"192.0.2.0/24"}
	cfg.Listen.Remote = true
	cfg.Router.Limits.ConnectionsPerAddress = 2
	u := start(t, cfg)
	a := u.Addresses()
	at := a.Universal[0].String()
	for _, c := range []struct{ scheme, to, header string }{
		{"wss", at, v1}, {"rss", at, v2}, {"ws", at, v2}, {"rs", at, v1}, {"ws", a.HTTP[0].String(), v1}, {"ws", a.HTTP[0].String(), v2},
	} {
		url := c.scheme + "://" + proxy(t, c.to, c.header)
		if strings.HasPrefix(c.scheme, "ws") {
			url += "/ws"
		}
		s, err := dialSecure(t, url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		// A limit is by the client's address, which is the same for three of them.
		if _, err := s.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		s.Close(context.Background())
	}
	for range 2 {
		if _, err := dialSecure(t, "rs://"+proxy(t, at, v1)); err != nil {
			t.Error(err)
		}
	}
	if _, err := dialSecure(t, "rs://"+proxy(t, at, v1)); err == nil {
		t.Error("a third session from one client's address is let in")
	}
	if _, err := dialSecure(t, "rs://"+proxy(t, at, v2)); err != nil {
		t.Errorf("another client of the proxy's: %v", err)
	}
	// Without a header, and from where no proxy is.
	for _, c := range []struct{ to, first string }{{at, "\x7f\xf1\x00\x00"}, {at, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"}, {a.RawSocket[0].String(), v1 + "\x7f\xf1\x00\x00"}} {
		got, err := io.ReadAll(proxiedDial(t, c.to, c.first))
		if os.IsTimeout(err) || len(got) > 0 {
			t.Errorf("%q: %q, %v", c.first, got, err)
		}
	}
	// What a listed proxy asks for itself, as for a health check.
	if got, err := proxiedDial(t, at, "PROXY UNKNOWN\r\nGET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").ReadString('\n'); err != nil || !strings.Contains(got, "200") {
		t.Errorf("a proxy's own request: %q, %v", got, err)
	}
}

// lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// TestProxiedAddress: whose connection it is, is in what the router knows of it.
func TestProxiedAddress(t *testing.T) {
	cfg := universal(t)
	cfg.Listen.Universal.Plain, cfg.Listen.Universal.Proxies, cfg.Listen.Remote = true, []string{"127.0.0.1"}, true
	logs := &lines{}
	u := startWith(t, cfg, Options{Log: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	to := proxy(t, u.Addresses().Universal[0].String(), "PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n")
	for _, url := range []string{"rss://" + to, "wss://" + to + "/ws"} {
		before := logs.count("203.0.113.9:5555")
		c, err := transport.Dial(t.Context(), url, codec.JSON, transport.DialOptions{TLS: anyServer})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write([]byte(`[1,"realm1",{"roles":{"caller":{}}}]`)); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Read(); err != nil || !strings.HasPrefix(string(m), "[2,") {
			t.Fatalf("%s: %s %v", url, m, err)
		}
		c.Close()
		until(t, url+": the log has the client's address", func() bool { return logs.count("203.0.113.9:5555") > before })
	}
}
