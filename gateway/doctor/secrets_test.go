package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// pairOf is a certificate with its key, valid around the day of newPi.
func pairOf(t *testing.T, from, to time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, DNSNames: []string{"gateway.lan"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", bytes)
}

func TestCertificates(t *testing.T) {
	now := newPi(t).now
	day := 24 * time.Hour
	good, goodKey := pairOf(t, now.Add(-day), now.Add(100*day))
	soon, soonKey := pairOf(t, now.Add(-day), now.Add(5*day))
	ended, endedKey := pairOf(t, now.Add(-9*day), now.Add(-2*day))
	early, earlyKey := pairOf(t, now.Add(2*day), now.Add(90*day))
	for _, c := range []struct {
		name, cert, key string
		level           Level // "" for nothing wrong
		what, do        string
	}{
		{"good", good, goodKey, "", "", ""},
		{"soon", soon, soonKey, Warning, "ends on 2026-05-06, in 5 days", "put a new one in its place"},
		{"ended", ended, endedKey, Problem, "has ended on 2026-04-29", "put a new one in its place"},
		{"not yet", early, earlyKey, Problem, "is valid from 2026-05-03", "timedatectl"},
		{"another's key", good, soonKey, Problem, "do not fit", "postern keys tls"},
		{"no certificate", "hello", goodKey, Problem, "there is no certificate in /etc/postern/tls.crt", "PEM"},
		{"open key", good, goodKey, Problem, "others may read or change the key /etc/postern/tls.key (mode 0644)", "chmod 0600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPi(t)
			p.config = strings.Replace(p.config, `http: "127.0.0.1:8080"`, `http: {addresses: ["127.0.0.1:8080"], tls: {cert: tls.crt, key: tls.key}}`, 1)
			p.write("etc/postern/tls.crt", c.cert)
			p.write("etc/postern/tls.key", c.key)
			if c.name != "open key" {
				p.mode("etc/postern/tls.key", 0o640) // the group's: the gateway's user is in it
			}
			var found []Finding
			for _, a := range p.examine() {
				found = append(found, a.Findings...)
				if a.Name == "certificates" && c.level == "" && !strings.Contains(a.Summary, "2026-08-09") {
					t.Errorf("%q", a.Summary)
				}
			}
			if c.level == "" {
				if len(found) > 0 {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) == 0 || found[0].Level != c.level || !strings.Contains(found[0].What, c.what) || !strings.Contains(found[0].Do, c.do) {
				t.Errorf("%+v", found)
			}
		})
	}
}
