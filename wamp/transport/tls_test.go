package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string // its file
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	a.cert = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, a.key)
	a.pem = a.write(name+".crt", "CERTIFICATE", a.cert.Raw, 0o644)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	c.SerialNumber, c.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *authority) write(file, kind string, der []byte, mode os.FileMode) string {
	a.t.Helper()
	path := filepath.Join(a.dir, file)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// pair makes a certificate for 127.0.0.1 and its key, as files.
func (a *authority) pair(name string) (cert, key string) {
	a.t.Helper()
	k := newKey(a.t)
	c := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", c.Raw, 0o644), a.write(name+".key", "PRIVATE KEY", der, 0o600)
}

// server is a listener's section with a certificate of the authority's.
func (a *authority) server(name string) TLS {
	t := NewTLS()
	t.Cert, t.Key = a.pair(name)
	return t
}

// client trusts the authority, and shows a certificate where name is not "".
func (a *authority) client(name string, signer *authority) *tls.Config {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(signer.pair(name))
		if err != nil {
			a.t.Fatal(err)
		}
		// Whatever the server asks for, this is shown.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

// secureListener listens with TLS.
func secureListener(t *testing.T, section TLS, protocols ...string) net.Listener {
	t.Helper()
	config, err := section.Listen(slog.New(slog.DiscardHandler), protocols...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln = ListenTLS(ln, config)
	t.Cleanup(func() { ln.Close() })
	return ln
}

type accept struct {
	conn Conn
	err  error
}

// acceptOne accepts one connection of either transport.
func acceptOne(t *testing.T, ln net.Listener, webSocket bool) <-chan accept {
	out := make(chan accept, 1)
	if !webSocket {
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				out <- accept{err: err}
				return
			}
			c, err := AcceptRawSocket(nc, NewRawSocket())
			out <- accept{c, err}
		}()
		return out
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws := NewWebSocket()
		c, err := ws.Upgrade(w, r)
		out <- accept{c, err}
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	ended := make(chan struct{})
	go func() { defer close(ended); srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-ended })
	return out
}

func TestTLSConnections(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	mutual := func(how string) TLS {
		s := ours.server("server")
		s.ClientCA, s.ClientAuth = ours.pem, how
		return s
	}
	strict := ours.server("strict")
	strict.MinVersion = "1.3"
	old := ours.client("", nil)
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	twelve := ours.client("", nil)
	twelve.MaxVersion = tls.VersionTLS12
	weak := ours.client("", nil)
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	for _, tt := range []struct {
		name   string
		server TLS
		client *tls.Config
		shown  string // the name on the client's certificate
		ok     bool
	}{
		{"1.3", ours.server("server"), ours.client("", nil), "", true},
		{"1.2", ours.server("server"), twelve, "", true},
		{"1.1", ours.server("server"), old, "", false},
		{"a suite without authenticated encryption", ours.server("server"), weak, "", false},
		{"1.2 where 1.3 is the oldest", strict, twelve, "", false},
		{"a server of another authority", theirs.server("server"), ours.client("", nil), "", false},
		{"required, not shown", mutual("require"), ours.client("", nil), "", false},
		{"required, shown", mutual("require"), ours.client("alice", ours), "alice", true},
		{"required, of another authority", mutual("require"), ours.client("mallory", theirs), "", false},
		{"optional, not shown", mutual("optional"), ours.client("", nil), "", true},
		{"optional, shown", mutual("optional"), ours.client("alice", ours), "alice", true},
		{"optional, of another authority", mutual("optional"), ours.client("mallory", theirs), "", false},
		{"not asked for", ours.server("server"), ours.client("alice", ours), "", true},
	} {
		for _, scheme := range []string{"rss", "wss"} {
			t.Run(tt.name+"/"+scheme, func(t *testing.T) {
				ln := secureListener(t, tt.server)
				accepted := acceptOne(t, ln, scheme == "wss")
				c, err := Dial(context.Background(), scheme+"://"+ln.Addr().String(), codec.CBOR, DialOptions{TLS: tt.client.Clone()})
				if tt.ok != (err == nil) {
					t.Fatalf("dialled: %v, want success %v", err, tt.ok)
				}
				if err != nil {
					if scheme == "rss" {
						if a := <-accepted; a.err == nil {
							t.Error("the server accepted the connection")
						}
					}
					return
				}
				defer c.Close()
				a := <-accepted
				if a.err != nil {
					t.Fatal(a.err)
				}
				closed := make(chan error, 1)
				defer func() { c.Close(); <-closed }()
				go func() {
					m, err := a.conn.Read()
					if err == nil {
						err = a.conn.Write(m)
					}
					a.conn.Read()
					a.conn.Close()
					closed <- err
				}()
				if err := c.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if m, err := c.Read(); string(m) != "hello" {
					t.Fatalf("read %q, %v", m, err)
				}
				state := a.conn.Info().TLS
				if state == nil {
					t.Fatal("the server's Info has no TLS state")
				}
				shown := ""
				if len(state.VerifiedChains) > 0 {
					shown = state.VerifiedChains[0][0].Subject.CommonName
				}
				if shown != tt.shown {
					t.Errorf("a verified certificate of %q, want %q", shown, tt.shown)
				}
			})
		}
	}
}

func TestTLSFilesThatAreNoGood(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	for _, tt := range []struct {
		name   string
		change func(s *TLS)
		want   string
	}{
		{"no certificate", func(s *TLS) { s.Cert += ".not" }, "no such file"},
		{"no key", func(s *TLS) { s.Key += ".not" }, "no such file"},
		{"a folder", func(s *TLS) { s.Cert = filepath.Dir(s.Cert) }, "is not a file"},
		{"empty", func(s *TLS) { os.WriteFile(s.Cert, []byte("\n"), 0o600) }, "is empty"},
		{"huge", func(s *TLS) { os.WriteFile(s.Cert, make([]byte, maxPEM+1), 0o600) }, "larger than"},
		{"not PEM", func(s *TLS) { os.WriteFile(s.Cert, []byte("hello"), 0o600) }, "the TLS certificate"},
		{"another's key", func(s *TLS) { _, s.Key = b.pair("x") }, "does not match"},
		{"a key for all to read", func(s *TLS) { os.Chmod(s.Key, 0o644) }, "chmod"},
		{"authorities without a certificate", func(s *TLS) { s.ClientCA = s.Key }, "no certificate in"},
		{"no authorities", func(s *TLS) { s.ClientCA = s.Key + ".not" }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.dir = t.TempDir()
			s := a.server("server")
			tt.change(&s)
			if _, err := s.Listen(nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestTLSSection(t *testing.T) {
	for _, tt := range []struct {
		section TLS
		want    string
	}{
		{TLS{}, ""},
		{TLS{Cert: "c", Key: "k", ClientCA: "a"}, ""},
		{TLS{Cert: "c"}, "key"},
		{TLS{Key: "k"}, "cert"},
		{TLS{ClientCA: "a"}, "cert"},
	} {
		got := ""
		tt.section.Validate(func(path, _, _ string) { got += path })
		if got != tt.want || tt.section.Enabled() != (tt.section != TLS{}) {
			t.Errorf("%+v: problems at %q, want %q; enabled %v", tt.section, got, tt.want, tt.section.Enabled())
		}
	}
}

// TestTLSFilesThatChange: they are read again, and the old stay while the new
// are no good.
func TestTLSFilesThatChange(t *testing.T) {
	a := newAuthority(t, "a")
	s := a.server("server")
	copyOver := func(from, to string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		config, err := s.Listen(slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		step := 0
		look := func(want, logged string) {
			t.Helper()
			<-time.After(fileCheck)
			// Within the test's clock files do not get older by themselves.
			step++
			log.Reset()
			for range 3 {
				now, err := config.GetConfigForClient(nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := now.Certificates[0].Leaf.Subject.CommonName; got != want {
					t.Errorf("step %d: the certificate of %q, want %q", step, got, want)
				}
				<-time.After(fileCheck)
			}
			if n := strings.Count(log.String(), "msg="); logged == "" && n != 0 || logged != "" && (n != 1 || !strings.Contains(log.String(), logged)) {
				t.Errorf("step %d: logged %q, want %q once", step, log.String(), logged)
			}
		}
		look("server", "")
		cert, key := a.pair("second-server")
		copyOver(cert, s.Cert) // whose key is still the old one
		look("server", "going on with the old")
		copyOver(key, s.Key)
		look("second-server", "are in use")
		if err := os.Remove(s.Key); err != nil {
			t.Fatal(err)
		}
		look("second-server", "going on with the old")
		cert, key = a.pair("the-third-server")
		copyOver(cert, s.Cert)
		copyOver(key, s.Key)
		look("the-third-server", "are in use")
	})
}

// TestTLSSilence: a client that does not finish its handshake does not stay.
func TestTLSSilence(t *testing.T) {
	config, err := newAuthority(t, "a").server("server").Listen(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, sent, want string }{
		{"nothing", "", "no TLS handshake within 50ms"},
		{"half a record", "\x16\x03\x01\x01\x00", "no TLS handshake within 50ms"},
		{"no TLS", "\x7f\xf1\x00\x00\x00", "TLS: tls: first record does not look like a TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := loopback(t)
			client.Write([]byte(tt.sent))
			opts := NewRawSocket()
			opts.HandshakeTimeout = 50 * time.Millisecond
			if _, err := AcceptRawSocket(tls.Server(server, config), opts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
