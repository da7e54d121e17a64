package paho

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/bridge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// script is a broker that plays bytes: one function per connection, in order.
type script struct {
	ln net.Listener
	wg sync.WaitGroup
}

func play(t testing.TB, wrap func(net.Listener) net.Listener, turns ...func(net.Conn)) *script {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		ln = wrap(ln)
	}
	s := &script{ln: ln}
	s.wg.Go(func() {
		for _, turn := range turns {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			turn(c)
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); s.wg.Wait() })
	return s
}

// packet reads one packet and returns its first byte and body.
func packet(c net.Conn) (byte, []byte) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, nil
	}
	body := make([]byte, head[1]) // the tests' packets are short
	_, _ = io.ReadFull(c, body)   // what is missing shows in the body
	return head[0], body
}

func config(url string) bridge.BrokerConfig {
	var c bridge.BrokerConfig
	c.SetDefaults()
	c.Name, c.URLs, c.ClientID, c.KeepAlive = "a", []string{url}, "gw", time.Second
	return c
}

func connect(t testing.TB, c bridge.BrokerConfig) (bridge.Conn, error) {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return b.Connect(ctx, func(bridge.Received) error { return nil })
}

func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until the client closes

const accepted = "\x20\x02\x00\x00"

func TestFallsBackFromTheBridgeBit(t *testing.T) {
	for name, refuse := range map[string]func(net.Conn){
		"return code":    func(c net.Conn) { packet(c); _, _ = io.WriteString(c, "\x20\x02\x00\x01") },
		"just closed it": func(c net.Conn) { packet(c) },
	} {
		var levels []byte
		level := func(c net.Conn) { _, b := packet(c); levels = append(levels, b[6]) }
		s := play(t, nil, refuse,
			func(c net.Conn) { level(c); _, _ = io.WriteString(c, accepted); hang(c) },
			func(c net.Conn) { level(c); _, _ = io.WriteString(c, accepted); hang(c) })
		b, err := New(config("tcp://" + s.ln.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is known
			c, err := b.Connect(t.Context(), func(bridge.Received) error { return nil })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if i := c.Info(); i.Protocol != "3.1.1" || i.NoLocal {
				t.Errorf("%s: %+v", name, i)
			}
			now, cancel := context.WithCancel(t.Context())
			cancel()
			c.Close(now)
		}
		s.wg.Wait()
		if string(levels) != "\x04\x04" {
			t.Errorf("%s: protocol levels % x", name, levels)
		}
	}
}

func TestRefusals(t *testing.T) {
	for code, want := range map[byte]string{
		1: "refuses MQTT 3.1.1", 2: "choose another client_id", 3: "not available",
		4: "bad user name or password", 5: "not authorised",
	} {
		answer := func(c net.Conn) { packet(c); _, _ = c.Write([]byte{0x20, 2, 0, code}) }
		s := play(t, nil, answer)
		cfg := config("tcp://" + s.ln.Addr().String())
		cfg.Protocol, cfg.Username, cfg.Password = "3.1.1", "gw", "secret"
		_, err := connect(t, cfg)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("code %d: %v, want %q", code, err, want)
		}
	}
}

// TestUnknownReturnCode: the library takes it for success.
func TestUnknownReturnCode(t *testing.T) {
	s := play(t, nil, func(c net.Conn) { packet(c); _, _ = io.WriteString(c, "\x20\x02\x00\x63") })
	cfg := config("tcp://" + s.ln.Addr().String())
	cfg.Protocol = "3.1.1"
	c, err := connect(t, cfg)
	if err != nil {
		return
	}
	select {
	case <-c.Lost():
	case <-time.After(patience):
		t.Error("the connection passes for one")
	}
	c.Close(t.Context())
}

func TestConnectEndsWithItsContext(t *testing.T) {
	s := play(t, nil, hang)
	b, err := New(config("tcp://" + s.ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := b.Connect(ctx, func(bridge.Received) error { return nil }); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// TestHostileBroker: packets that the library would not survive end the
// connection only.
func TestHostileBroker(t *testing.T) {
	for name, bytes := range map[string]string{
		"suback with more codes than asked": "\x90\x06\x00\x01\x01\x01\x01\x01",
		"suback unasked":                    "\x90\x03\x00\x01\x01",
		"publish of 256 MB":                 "\x30\xff\xff\xff\x7f",
		"length of five bytes":              "\x30\xff\xff\xff\xff\x01",
		"reserved type":                     "\xf0\x00",
		"publish without a topic":           "\x30\x01\x00",
		"topic longer than the packet":      "\x30\x04\x00\xffab",
		"connack again":                     "\x20\x00",
	} {
		s := play(t, nil, func(c net.Conn) {
			packet(c)
			_, _ = io.WriteString(c, accepted)
			_, _ = io.WriteString(c, bytes)
			if name != "connack again" {
				hang(c)
			}
		})
		cfg := config("tcp://" + s.ln.Addr().String())
		cfg.Protocol = "3.1.1"
		c, err := connect(t, cfg)
		if err != nil { // it came together with CONNACK
			if !strings.Contains(err.Error(), bridge.ErrPacket.Error()) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		select {
		case <-c.Lost():
		case <-time.After(patience):
			t.Errorf("%s: the connection lives on", name)
		}
		c.Close(t.Context())
	}
}

func TestSubscriptionRefused(t *testing.T) {
	s := play(t, nil, func(c net.Conn) {
		packet(c)
		_, _ = io.WriteString(c, accepted)
		_, body := packet(c)
		answer := []byte{0x90, 4, body[0], body[1], 0x80, 0x80}
		_, _ = c.Write(answer)
		hang(c)
	})
	c, err := connect(t, config("tcp://"+s.ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	var refused *bridge.SubscribeError
	if err := c.Subscribe(t.Context(), []bridge.Filter{{Topic: "a", QoS: 1}, {Topic: "b", QoS: 1}}); !errors.As(err, &refused) || len(refused.Refused) != 2 {
		t.Errorf("Subscribe: %v", err)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	c.Close(now)
}

// TestUnfinishedQoS2IsReleased: what a connection leaves unfinished at QoS 2 is
// released by the next one.
func TestUnfinishedQoS2IsReleased(t *testing.T) {
	var released []byte
	s := play(t, nil,
		func(c net.Conn) {
			packet(c)
			_, _ = io.WriteString(c, accepted)
			packet(c) // a PUBLISH, never answered
		},
		func(c net.Conn) {
			packet(c)
			_, _ = io.WriteString(c, "\x20\x02\x01\x00")
			kind, id := packet(c)
			released = append([]byte{kind}, id...)
			hang(c)
		})
	b, err := New(config("tcp://" + s.ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	first, err := b.Connect(t.Context(), func(bridge.Received) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	first.Publish(bridge.Message{Topic: "t", QoS: 2})
	<-first.Lost()
	first.Close(t.Context())
	second, err := b.Connect(t.Context(), func(bridge.Received) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if !second.Info().SessionPresent {
		t.Error("the session is present, but not said so")
	}
	now, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	second.Close(now)
	s.wg.Wait()
	if string(released) != "\x62\x00\x01" {
		t.Errorf("got % x, want a PUBREL of packet 1", released)
	}
}

// certificates writes a CA's certificate, and one by it for 127.0.0.1, with
// its key.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	make := func(serial int64, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *x509.Certificate, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("test ", serial)}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true, IsCA: parent == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		if parent == nil {
			parent, by = c, k
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der, c, k
	}
	caDER, caCert, caKey := make(1, nil, nil)
	leaf, _, leafKey := make(2, caCert, caKey)
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", leaf), write("key.pem", "EC PRIVATE KEY", keyDER)
}

func TestTLS(t *testing.T) {
	ca, cert, key := certificates(t)
	otherCA, otherCert, otherKey := certificates(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pemCA, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(pemCA)
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"mqtt"}}
	for name, c := range map[string]struct {
		tls bridge.TLSConfig
		ok  bool
	}{
		"mutual":               {bridge.TLSConfig{CA: ca, Cert: cert, Key: key, ALPN: []string{"mqtt"}}, true},
		"no certificate":       {bridge.TLSConfig{CA: ca}, false},
		"a stranger's":         {bridge.TLSConfig{CA: ca, Cert: otherCert, Key: otherKey}, false},
		"untrusted broker":     {bridge.TLSConfig{CA: otherCA, Cert: cert, Key: key}, false},
		"another name":         {bridge.TLSConfig{CA: ca, Cert: cert, Key: key, ServerName: "elsewhere"}, false},
		"another protocol":     {bridge.TLSConfig{CA: ca, Cert: cert, Key: key, ALPN: []string{"h2"}}, false},
		"no file":              {bridge.TLSConfig{CA: ca + "x"}, false},
		"file without content": {bridge.TLSConfig{CA: key}, false},
	} {
		wrap := func(ln net.Listener) net.Listener { return tls.NewListener(ln, server) }
		s := play(t, wrap, func(c net.Conn) {
			if kind, _ := packet(c); kind == 0x10 {
				_, _ = io.WriteString(c, accepted)
				hang(c)
			}
		})
		cfg := config("tls://" + s.ln.Addr().String())
		cfg.TLS, cfg.Protocol = c.tls, "3.1.1"
		conn, err := connect(t, cfg)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			now, cancel := context.WithCancel(t.Context())
			cancel()
			conn.Close(now)
		}
	}
}

// FuzzBroker plays whatever bytes after CONNACK: nothing may end the process.
func FuzzBroker(f *testing.F) {
	for _, s := range []string{
		"\x30\x05\x00\x01ahi", "\x32\x07\x00\x01a\x00\x01hi", "\x34\x05\x00\x01a\x00\x02", "\x62\x02\x00\x02", "\x40\x02\x00\x01",
		"\x50\x02\x00\x01", "\x70\x02\x00\x01", "\x90\x03\x00\x01\x00", "\xb0\x02\x00\x01", "\xd0\x00", "\x10\x00", "\x82\x00", "\xe0\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := play(t, nil, func(c net.Conn) {
			packet(c)
			_, _ = io.WriteString(c, accepted)
			packet(c)
			_, _ = c.Write(b)
		})
		cfg := config("tcp://" + s.ln.Addr().String())
		cfg.Protocol = "3.1.1"
		c, err := connect(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = c.Subscribe(short, []bridge.Filter{{Topic: "#", QoS: 1}}) // whatever comes of it
		select {
		case <-c.Lost():
		case <-time.After(patience):
			t.Error("a closed connection is not lost")
		}
		c.Close(short)
	})
}
