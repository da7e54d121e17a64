package keys

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func TestSelfSigned(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	cert, key, err := SelfSigned([]string{"127.0.0.1", "gateway.lan"}, now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	for host, at := range map[string]time.Time{"gateway.lan": now, "127.0.0.1": now.Add(22 * time.Hour)} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: at}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, _, err := SelfSigned([]string{"a b"}, now, time.Hour); !errors.Is(err, ErrHost) {
		t.Errorf("a host that is none: %v", err)
	}
}
