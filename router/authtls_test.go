package router

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// certificate makes one that is signed by its own key.
func certificate(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestAuthenticationOverTLS(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	server, pump, valve, other := certificate(t, "server", soon), certificate(t, "pump", soon), certificate(t, "valve", soon), certificate(t, "pump", soon)
	old := certificate(t, "old", time.Now().Add(-time.Hour))
	cfg, bobsKey := guardedConfig(t)
	cfg.Realms[0].Auth.Users = append(
		cfg.Realms[0].Auth.Users,
		UserConfig{AuthID: "pump", Role: "anonymous", Certificates: []string{"sha256:" + auth.Fingerprint(pump.Leaf)}},
		UserConfig{AuthID: "valve", Role: "anonymous", Certificates: []string{"subject:CN=valve"}},
		UserConfig{AuthID: "old", Role: "anonymous", Certificates: []string{"sha256:" + auth.Fingerprint(old.Leaf)}},
	)
	r, _ := start(t, cfg)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Leaf)
	serve := func(ask tls.ClientAuthType) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		authorities := x509.NewCertPool()
		authorities.AddCert(valve.Leaf)
		ln = transport.ListenTLS(ln, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: ask, ClientCAs: authorities})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.Serve(ctx, ln, transport.NewRawSocket()) }()
		t.Cleanup(func() { cancel(); <-done })
		return "rss://" + ln.Addr().String()
	}
	requested, verified := serve(tls.RequestClientCert), serve(tls.VerifyClientCertIfGiven)
	join := func(url, authid string, version uint16, cert *tls.Certificate, method client.Authenticator) error {
		t.Helper()
		config := &tls.Config{RootCAs: trusted, ServerName: "localhost", MaxVersion: version}
		if cert != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		s, err := client.Join(t.Context(), func(ctx context.Context) (transport.Conn, error) {
			return transport.Dial(ctx, url, codec.CBOR, transport.DialOptions{TLS: config})
		}, client.Config{Realm: "realm1", AuthID: authid, Auth: []client.Authenticator{method}, Log: discard})
		if err == nil {
			_ = s.Close(context.Background())
		}
		return err
	}
	for name, c := range map[string]struct {
		url, authid string
		cert        *tls.Certificate
		ok          bool
	}{
		"by fingerprint":                     {requested, "", &pump, true},
		"by fingerprint and name":            {requested, "pump", &pump, true},
		"by another's name":                  {requested, "valve", &pump, false},
		"another of that subject":            {requested, "", &other, false},
		"by subject":                         {verified, "", &valve, true},
		"by subject that nobody vouches for": {requested, "", &valve, false},
		"expired":                            {requested, "", &old, false},
		"none":                               {requested, "", nil, false},
	} {
		err := join(c.url, c.authid, tls.VersionTLS13, c.cert, auth.TLS())
		if c.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !c.ok {
			wantError(t, err, wamp.ErrNoMatchingAuthMethod)
		}
	}
	for _, c := range []struct {
		version uint16
		binding string
		ok      bool
	}{
		{tls.VersionTLS13, auth.BindingExporter, true},
		{tls.VersionTLS12, auth.BindingUnique, true},
		{tls.VersionTLS13, auth.BindingUnique, false},
		{tls.VersionTLS13, "tls-magic", false},
	} {
		method := cryptosign(t, bobsKey)
		method.Binding = c.binding
		if err := join(requested, "bob", c.version, nil, method); (err == nil) != c.ok {
			t.Errorf("cryptosign, %s: %v", c.binding, err)
		}
		scram := auth.Scram(auth.MethodScram, "bob", "bobs")
		scram.Binding = c.binding
		if err := join(requested, "bob", c.version, nil, scram); (err == nil) != (c.ok && c.binding == auth.BindingUnique) {
			t.Errorf("SCRAM, %s: %v", c.binding, err)
		}
	}
}
