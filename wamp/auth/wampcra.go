package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// Bounds of what a peer may ask the other to compute.
const (
	maxIterations = 10_000_000
	// maxAskedIterations is the most that a client computes for a router, about
	// a second's worth.
	maxAskedIterations = 2_000_000
)

// CRAIterations is what a client computes to join, and what guessing a
// password from the stored key costs. Browsers' libraries are slow at it.
const CRAIterations = 10_000

// CRA is the client's end of WAMP-CRA.
func CRA(secret string) Client { return craClient{plain(MethodCRA), secret} }

type craClient struct {
	plain
	secret string
}

// Challenge signs the challenge, with a key derived from the secret when there
// is a salt.
func (c craClient) Challenge(m *wamp.Challenge) (*wamp.Authenticate, error) {
	challenge, ok := m.Extra["challenge"].(string)
	if !ok {
		return nil, errors.New("there is no challenge in it")
	}
	key := []byte(c.secret)
	if salt, salted := m.Extra["salt"].(string); salted {
		iterations, keylen := int64(1000), int64(32) // as autobahn has it
		if n, ok := wamp.AsInt(m.Extra, "iterations"); ok {
			iterations = n
		}
		if n, ok := wamp.AsInt(m.Extra, "keylen"); ok {
			keylen = n
		}
		if iterations < 1 || iterations > maxAskedIterations || keylen < 16 || keylen > 64 {
			return nil, fmt.Errorf("%d iterations for a key of %d bytes are not acceptable", iterations, keylen)
		}
		key = deriveCRA(c.secret, salt, int(iterations), int(keylen))
	}
	return &wamp.Authenticate{Signature: signCRA(key, challenge), Extra: wamp.Dict{}}, nil
}

// deriveCRA is the key of a salted secret. What the HMAC is made with is the
// key's base64, not its bytes: that is how all implementations do it.
func deriveCRA(secret, salt string, iterations, keylen int) []byte {
	b, _ := pbkdf2.Key(sha256.New, secret, []byte(salt), iterations, keylen)
	return []byte(b64.EncodeToString(b))
}

func signCRA(key []byte, challenge string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(challenge))
	return b64.EncodeToString(mac.Sum(nil))
}

// CRAKey is what a router keeps of a secret. Whoever has it can join with it,
// though not find the password in it.
type CRAKey struct {
	// Salt, Iterations and KeyLen say how the key was derived; without a Salt
	// the key is the secret itself.
	Salt               string
	Iterations, KeyLen int
	Key                []byte
}

// NewCRAKey derives a key from a secret, with a random salt unless one is
// given.
func NewCRAKey(secret string, salt []byte) *CRAKey {
	if salt == nil {
		salt = randomBytes(saltSize)
	}
	k := &CRAKey{Salt: TextSalt(salt), Iterations: CRAIterations, KeyLen: sha256.Size}
	k.Key = deriveCRA(secret, k.Salt, k.Iterations, k.KeyLen)
	return k
}

// TextSalt is a salt as CRAKey has it.
func TextSalt(salt []byte) string { return b64.EncodeToString(salt) }

// PlainCRAKey is a secret without salt.
func PlainCRAKey(secret string) *CRAKey { return &CRAKey{Key: []byte(secret)} }

// CRAChallenge is a challenge that has been sent.
type CRAChallenge struct {
	key  []byte
	text string
}

// Challenge makes a challenge and the CHALLENGE.Extra for it. who are the
// members that the specification wants beside the nonce and the time: authid,
// authrole, authprovider and session.
func (k *CRAKey) Challenge(who wamp.Dict, now time.Time) (*CRAChallenge, wamp.Dict, error) {
	members := wamp.Dict{
		"authmethod": MethodCRA,
		"nonce":      b64.EncodeToString(randomBytes(saltSize)),
		"timestamp":  now.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	for key, v := range who {
		members[key] = v
	}
	text, err := json.Marshal(members)
	if err != nil {
		return nil, nil, fmt.Errorf("write the challenge: %w", err)
	}
	extra := wamp.Dict{"challenge": string(text)}
	if k.Salt != "" {
		extra["salt"], extra["iterations"], extra["keylen"] = k.Salt, int64(k.Iterations), int64(k.KeyLen)
	}
	return &CRAChallenge{key: k.Key, text: string(text)}, extra, nil
}

// Signed reports whether the answer is right.
func (c *CRAChallenge) Signed(m *wamp.Authenticate) bool {
	return len(c.key) > 0 && hmac.Equal([]byte(m.Signature), []byte(signCRA(c.key, c.text)))
}

// MarshalText writes the stored form.
func (k *CRAKey) MarshalText() ([]byte, error) {
	return fields("pbkdf2", k.Iterations, k.KeyLen, []byte(k.Salt), k.Key), nil
}

// UnmarshalText reads it.
func (k *CRAKey) UnmarshalText(text []byte) error {
	r := readFields(text)
	kdf := r.text()
	*k = CRAKey{
		Iterations: r.number(0, maxIterations), KeyLen: r.number(0, 64),
		Salt: string(r.bytes(0, 128)), Key: r.bytes(1, 256),
	}
	r.failed = r.failed || kdf != "pbkdf2"
	return r.done()
}
