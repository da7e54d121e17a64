package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postern-iot/postern/wamp/codec"
)

// echo sends back what it reads, until the end.
func echo(c Conn) error {
	c.SetReadLimit(DefaultReadLimit)
	for {
		m, err := c.Read()
		if err != nil {
			return errors.Join(err, c.Close())
		}
		if err := c.Write(m); err != nil {
			return errors.Join(err, c.Close())
		}
	}
}

// routers starts an echo on every transport and returns the URLs.
func routers(t *testing.T) (urls []string, config *tls.Config) {
	t.Helper()
	served := make(chan error, 16)
	n := 0
	serve := func(c Conn, err error) {
		if err == nil {
			err = echo(c)
		}
		served <- err
	}
	ws := NewWebSocket()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(ws.Upgrade(w, r)) })
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	overTLS, err := tls.Listen("tcp", "127.0.0.1:0", secure.TLS)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := ListenUnix(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{tcp, overTLS, unix} {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				opts := NewRawSocket()
				opts.MaxMessage = 1 << 24
				go func() { serve(AcceptRawSocket(conn, opts)) }()
			}
		}()
	}
	urls = []string{
		"ws" + strings.TrimPrefix(plain.URL, "http") + "/ws",
		"wss" + strings.TrimPrefix(secure.URL, "https") + "/ws",
		"rs://" + tcp.Addr().String(),
		"rss://" + overTLS.Addr().String(),
		"unix://" + path,
	}
	n = len(urls)
	t.Cleanup(func() {
		for range n {
			if err := <-served; !errors.Is(err, io.EOF) {
				t.Errorf("a server's connection ended with %v", err)
			}
		}
		for _, c := range []io.Closer{tcp, overTLS, unix} {
			c.Close()
		}
		plain.Close()
		secure.Close()
	})
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	return urls, &tls.Config{RootCAs: pool}
}

func TestDialEveryTransport(t *testing.T) {
	urls, config := routers(t)
	for i, url := range urls {
		cd := []codec.Codec{codec.JSON, codec.MessagePack, codec.CBOR}[i%3]
		t.Run(strings.SplitN(url, ":", 2)[0], func(t *testing.T) {
			c, err := Dial(context.Background(), url, cd, DialOptions{TLS: config})
			if err != nil {
				t.Fatal(err)
			}
			info := c.Info()
			if secure := strings.HasPrefix(url, "wss") || strings.HasPrefix(url, "rss"); info.Codec != cd || (info.TLS != nil) != secure || info.Remote == nil {
				t.Errorf("info %+v", info)
			}
			var batch [][]byte
			for _, n := range []int{0, 1, 7, 8, 200, smallBuffer, uncopied, 3 * largeBuffer, 2<<20 + 3} {
				batch = append(batch, bytes.Repeat([]byte("abcdefg"), n/7+1)[:n])
			}
			wrote := make(chan error, 1)
			go func() { wrote <- c.Write(batch...) }()
			for _, want := range batch {
				if got, err := c.Read(); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
				}
			}
			if err := errors.Join(<-wrote, c.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDialSaysWhatToDo(t *testing.T) {
	mux := http.NewServeMux()
	ws := NewWebSocket()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if c, err := ws.Upgrade(w, r); err == nil {
			c.Close()
		}
	})
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) {
		if c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil); err == nil {
			c.Close()
		}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/ws", http.StatusMovedPermanently)
	})
	srv, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	secure.StartTLS()
	defer srv.Close()
	defer secure.Close()
	address, secureAddress := srv.Listener.Addr().String(), secure.Listener.Addr().String()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, tt := range []struct {
		url    string
		header http.Header
		want   string
	}{
		{"ws://" + gone.Addr().String() + "/ws", nil, "is the gateway running"},
		{"rs://" + gone.Addr().String(), nil, "is the gateway running"},
		{"unix://" + filepath.Join(t.TempDir(), "none"), nil, "no such socket: is the gateway running"},
		{"ws://" + address + "/nowhere", nil, "the gateway serves /ws and /"},
		{"ws://" + address + "/moved", nil, "it has moved to /ws"},
		{"ws://" + address + "/other", nil, "did not choose wamp.2.cbor"},
		{"ws://" + address + "/ws", http.Header{"Origin": {"http://evil.example"}}, `it says "origin \"http://evil.example\" is not allowed`},
		{"wss://" + address + "/ws", nil, "does not speak TLS"},
		{"wss://" + secureAddress + "/ws", nil, "certificate is not trusted"},
		{"rs://" + mute.Addr().String(), nil, "did not answer in time"},
		{"ws://" + mute.Addr().String() + "/ws", nil, "did not answer in time"},
		{"rs://localhost", nil, "no port"},
		{"unix://run/x", nil, "three slashes"},
		{"http://localhost", nil, "unknown scheme"},
		{"ws://%zz", nil, "not a URL"},
	} {
		opts := DialOptions{Header: tt.header}
		if strings.Contains(tt.url, mute.Addr().String()) {
			opts.HandshakeTimeout = 100 * time.Millisecond
		}
		c, err := Dial(context.Background(), tt.url, codec.CBOR, opts)
		if err == nil {
			c.Close()
			t.Errorf("%s: connected", tt.url)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v\nwant %q in it", tt.url, err, tt.want)
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, url := range []string{"ws://%s/ws", "rs://%s"} {
		ctx, cancel := context.WithCancelCause(context.Background())
		accepted := make(chan net.Conn, 1)
		go func() {
			conn, _ := mute.Accept()
			accepted <- conn
			cancel(errors.New("changed my mind"))
		}()
		_, err := Dial(ctx, fmt.Sprintf(url, mute.Addr()), codec.JSON, DialOptions{})
		if err == nil || !strings.Contains(err.Error(), "changed my mind") {
			t.Errorf("%s: %v", url, err)
		}
		(<-accepted).Close()
		cancel(nil)
	}
}
