package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// The channel bindings of cryptosign ("TLS Channel Binding").
const (
	BindingUnique   = "tls-unique"   // RFC 5929, TLS 1.2
	BindingExporter = "tls-exporter" // RFC 9266, TLS 1.3
)

const challengeSize = 32

// ChannelID is the 32 bytes that stand for a TLS connection. That of
// tls-unique is the SHA-256 of the Finished message, which alone has fewer.
func ChannelID(binding string, state *tls.ConnectionState) ([]byte, error) {
	if state == nil {
		return nil, fmt.Errorf("channel binding %q: the connection has no TLS", binding)
	}
	switch binding {
	case BindingUnique:
		if len(state.TLSUnique) == 0 {
			return nil, errors.New("channel binding tls-unique: not with TLS 1.3, and not when a TLS session was resumed")
		}
		sum := sha256.Sum256(state.TLSUnique)
		return sum[:], nil
	case BindingExporter:
		id, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, challengeSize)
		if err != nil {
			return nil, fmt.Errorf("channel binding tls-exporter: %w", err)
		}
		return id, nil
	}
	return nil, fmt.Errorf("channel binding %q is not known", binding)
}

// NewCryptosignKey makes a key pair, each half as 64 hexadecimal digits, the
// form in which files and configurations have them.
func NewCryptosignKey() (private, public string) {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	key := ed25519.NewKeyFromSeed(seed)
	return hex.EncodeToString(seed), hex.EncodeToString(key.Public().(ed25519.PublicKey))
}

// ParsePrivateKey reads the private half of a pair.
func ParsePrivateKey(text string) (ed25519.PrivateKey, error) {
	seed, err := decodeHex(text, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("cryptosign private key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParsePublicKey reads the public half of a pair.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	key, err := decodeHex(text, ed25519.PublicKeySize)
	if err != nil {
		return nil, fmt.Errorf("cryptosign public key: %w", err)
	}
	return key, nil
}

// xor is a XOR b; b may be nil.
func xor(a, b []byte) []byte {
	out := append([]byte(nil), a...)
	if b != nil {
		subtle.XORBytes(out, a, b)
	}
	return out
}

// signCryptosign signs challenge XOR id: the signature and what was signed, 96
// bytes, in hexadecimal ("Computing the Signature").
func signCryptosign(key ed25519.PrivateKey, challenge, id []byte) string {
	message := xor(challenge, id)
	return hex.EncodeToString(append(ed25519.Sign(key, message), message...))
}

func verifyCryptosign(key ed25519.PublicKey, challenge, id []byte, signature string) bool {
	b, err := decodeHex(signature, ed25519.SignatureSize+challengeSize)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return false
	}
	message := xor(challenge, id)
	return subtle.ConstantTimeCompare(b[ed25519.SignatureSize:], message) == 1 &&
		ed25519.Verify(key, message, b[:ed25519.SignatureSize])
}

// CryptosignClient is the client's end of cryptosign.
type CryptosignClient struct {
	plain
	key ed25519.PrivateKey
	// Binding asks for a channel binding, when it is not empty; the router must
	// then use it.
	Binding string
	// Router, when it is not nil, is the key that the router has to prove that
	// it has ("Router Authentication").
	Router ed25519.PublicKey

	tls       *tls.ConnectionState
	challenge []byte // for the router
}

// Cryptosign is the client's end of cryptosign with a private key.
func Cryptosign(key ed25519.PrivateKey) *CryptosignClient {
	return &CryptosignClient{plain: MethodCryptosign, key: key}
}

// Connection is told of the connection's TLS state, nil without one.
func (c *CryptosignClient) Connection(state *tls.ConnectionState) { c.tls = state }

// AuthExtra says which key it has, and what the router is asked for.
func (c *CryptosignClient) AuthExtra() wamp.Dict {
	extra := wamp.Dict{"pubkey": hex.EncodeToString(c.key.Public().(ed25519.PublicKey))}
	if c.Binding != "" {
		extra["channel_binding"] = c.Binding
	}
	if c.Router != nil {
		c.challenge = randomBytes(challengeSize)
		extra["challenge"] = hex.EncodeToString(c.challenge)
	}
	return extra
}

// Challenge checks the router's signature, if it was asked for one, and signs
// its challenge.
func (c *CryptosignClient) Challenge(m *wamp.Challenge) (*wamp.Authenticate, error) {
	challenge, err := decodeHex(wamp.AsString(m.Extra, "challenge"), challengeSize)
	if err != nil {
		return nil, fmt.Errorf("the challenge is not one: %w", err)
	}
	if got := wamp.AsString(m.Extra, "channel_binding"); got != c.Binding {
		return nil, fmt.Errorf("the router uses the channel binding %q instead of %q", got, c.Binding)
	}
	var id []byte
	if c.Binding != "" {
		if id, err = ChannelID(c.Binding, c.tls); err != nil {
			return nil, err
		}
	}
	if c.Router != nil {
		if !verifyCryptosign(c.Router, c.challenge, id, wamp.AsString(m.Extra, "signature")) {
			return nil, errors.New("the router has not proved that it has its key")
		}
	}
	return &wamp.Authenticate{Signature: signCryptosign(c.key, challenge, id), Extra: wamp.Dict{}}, nil
}

// CryptosignChallenge is a challenge that has been sent.
type CryptosignChallenge struct {
	pubkey        ed25519.PublicKey
	challenge, id []byte
}

// ChallengeCryptosign makes a challenge for the key in a HELLO's authextra,
// and the CHALLENGE.Extra for it. router is the router's own key, nil when it
// has none: then a client that asks for the router's signature gets none. A
// channel binding that the connection does not have is left out, for the client
// to decide.
func ChallengeCryptosign(authextra wamp.Dict, state *tls.ConnectionState, router ed25519.PrivateKey) (*CryptosignChallenge, wamp.Dict, error) {
	pubkey, err := ParsePublicKey(wamp.AsString(authextra, "pubkey"))
	if err != nil {
		return nil, nil, err
	}
	c := &CryptosignChallenge{pubkey: pubkey, challenge: randomBytes(challengeSize)}
	extra := wamp.Dict{"challenge": hex.EncodeToString(c.challenge)}
	if binding := wamp.AsString(authextra, "channel_binding"); binding != "" {
		if c.id, err = ChannelID(binding, state); err == nil {
			extra["channel_binding"] = binding
		}
	}
	if theirs, err := decodeHex(wamp.AsString(authextra, "challenge"), challengeSize); err == nil && router != nil {
		extra["pubkey"] = hex.EncodeToString(router.Public().(ed25519.PublicKey))
		extra["signature"] = signCryptosign(router, theirs, c.id)
	}
	return c, extra, nil
}

// Signed reports whether the answer is the signature of the key in HELLO.
func (c *CryptosignChallenge) Signed(m *wamp.Authenticate) bool {
	return verifyCryptosign(c.pubkey, c.challenge, c.id, m.Signature)
}
