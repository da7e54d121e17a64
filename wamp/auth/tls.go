package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
)

// TLS is the client's end of joining by the certificate that it has shown when
// the connection was made.
func TLS() Client { return plain(MethodTLS) }

// Fingerprint is the SHA-256 of a certificate's DER form, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// CertificateName is one way to name a client certificate: "sha256:" and its
// fingerprint, or "subject:" and its subject as RFC 2253 writes it. A subject
// means something only for a certificate that has been verified.
type CertificateName string

// Valid reports whether it is written as it must be.
func (n CertificateName) Valid() bool {
	kind, value, _ := strings.Cut(string(n), ":")
	switch kind {
	case "sha256":
		_, err := decodeHex(n.fingerprint(), sha256.Size)
		return err == nil
	case "subject":
		return value != "" && len(value) <= 1024
	}
	return false
}

// fingerprint is a fingerprint as Fingerprint has it; other tools write it in
// capitals, with colons.
func (n CertificateName) fingerprint() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(n), "sha256:"), ":", ""))
}

// Matches reports whether it names the certificate. verified says that a
// certificate authority which the router trusts vouches for it.
func (n CertificateName) Matches(c *x509.Certificate, verified bool) bool {
	if subject, ok := strings.CutPrefix(string(n), "subject:"); ok {
		return verified && subject == c.Subject.String()
	}
	return strings.HasPrefix(string(n), "sha256:") && n.fingerprint() == Fingerprint(c)
}
