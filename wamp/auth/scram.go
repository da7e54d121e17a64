package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/postern-iot/postern/wamp"
)

// The key derivation functions of SCRAM, as the specification names them.
// Autobahn writes "argon2id-13".
const (
	KDFArgon2 = "argon2id13"
	KDFPBKDF2 = "pbkdf2"
)

// What a client computes to join, by default; the memory is in KiB.
const (
	argonIterations       = 3
	argonMemory           = 16 << 10
	scramPBKDF2Iterations = 100_000
)

// Bounds of what a router may ask a client to compute.
const (
	maxArgonIterations = 10_000 // autobahn's default is 4096, with 512 KiB
	maxArgonMemory     = 1 << 20
	maxArgonWork       = 8 << 20 // iterations times KiB: some seconds
)

// dialect is how a method's name decides the details in which autobahn's
// prototype and the specification differ.
type dialect struct {
	argon, verifier string
	// text: the salted password of Argon2 is its base64, without padding.
	text bool
	// bare: no channel binding flag in the AuthMessage, no escapes.
	bare bool
}

var dialects = map[string]dialect{
	MethodScram:    {argon: KDFArgon2, verifier: "verifier"},
	MethodScramOld: {argon: "argon2id-13", verifier: "scram_server_signature", text: true, bare: true},
}

// ScramParams say how a password is salted.
type ScramParams struct {
	KDF        string
	Iterations int
	Memory     int // KiB; for Argon2
	Salt       []byte
}

// DefaultScramParams are those for a new password; kdf may be empty.
func DefaultScramParams(kdf string, salt []byte) ScramParams {
	if salt == nil {
		salt = randomBytes(saltSize)
	}
	if kdf == KDFPBKDF2 {
		return ScramParams{KDF: KDFPBKDF2, Iterations: scramPBKDF2Iterations, Salt: salt}
	}
	return ScramParams{KDF: KDFArgon2, Iterations: argonIterations, Memory: argonMemory, Salt: salt}
}

// check bounds the work before it is done.
func (p ScramParams) check() error {
	ok := len(p.Salt) >= 8 && len(p.Salt) <= 64 && p.Iterations >= 1
	switch p.KDF {
	case KDFArgon2:
		ok = ok && p.Iterations <= maxArgonIterations && p.Memory >= 8 && p.Memory <= maxArgonMemory &&
			p.Iterations*p.Memory <= maxArgonWork
	case KDFPBKDF2:
		ok = ok && p.Iterations <= maxAskedIterations
	default:
		return fmt.Errorf("key derivation function %.20q is not known", p.KDF)
	}
	if !ok {
		return fmt.Errorf("%s with %d iterations and %d KiB is out of bounds", p.KDF, p.Iterations, p.Memory)
	}
	return nil
}

func (p ScramParams) salted(password string) []byte {
	if p.KDF == KDFArgon2 {
		return argon2.IDKey([]byte(password), p.Salt, uint32(p.Iterations), uint32(p.Memory), 1, sha256.Size)
	}
	b, _ := pbkdf2.Key(sha256.New, password, p.Salt, p.Iterations, sha256.Size)
	return b
}

// pair is what a router keeps of a password for one dialect.
type pair struct{ stored, server []byte }

// keysOf makes the keys of a salted password ("Data Stored on the Server").
func keysOf(salted []byte) (client []byte, p pair) {
	client = mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	return client, pair{stored: stored[:], server: mac(salted, "Server Key")}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// inDialect is the salted password as a dialect uses it.
func (d dialect) inDialect(kdf string, salted []byte) []byte {
	if d.text && kdf == KDFArgon2 {
		return []byte(base64.RawStdEncoding.EncodeToString(salted))
	}
	return salted
}

// ScramKeys is what a router keeps of a password: nobody who has it can join
// with it.
type ScramKeys struct {
	ScramParams
	keys, old pair // of the specification, and of autobahn
}

// NewScramKeys salts a password.
func NewScramKeys(password string, p ScramParams) (*ScramKeys, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	k := &ScramKeys{ScramParams: p}
	salted := p.salted(password)
	_, k.keys = keysOf(salted)
	_, k.old = keysOf(dialects[MethodScramOld].inDialect(p.KDF, salted))
	return k, nil
}

// StoredScramKeys makes ScramKeys of keys that were derived elsewhere, in the
// dialect that method names.
func StoredScramKeys(method string, p ScramParams, stored, server []byte) (*ScramKeys, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if len(stored) != sha256.Size || len(server) != sha256.Size {
		return nil, errMalformed
	}
	k := &ScramKeys{ScramParams: p, keys: pair{stored, server}, old: pair{stored, server}}
	if p.KDF == KDFArgon2 { // in which the dialects differ
		nobody := pair{randomBytes(sha256.Size), randomBytes(sha256.Size)}
		if dialects[method].text {
			k.keys = nobody
		} else {
			k.old = nobody
		}
	}
	return k, nil
}

// MockScramKeys look like those of a user, and are nobody's.
func MockScramKeys(p ScramParams) *ScramKeys {
	nobody := pair{randomBytes(sha256.Size), randomBytes(sha256.Size)}
	return &ScramKeys{ScramParams: p, keys: nobody, old: nobody}
}

// MarshalText writes the stored form.
func (k *ScramKeys) MarshalText() ([]byte, error) {
	return fields(k.KDF, k.Iterations, k.Memory, k.Salt, k.keys.stored, k.keys.server, k.old.stored, k.old.server), nil
}

// UnmarshalText reads it.
func (k *ScramKeys) UnmarshalText(text []byte) error {
	r := readFields(text)
	const size = sha256.Size
	*k = ScramKeys{ScramParams: ScramParams{
		KDF: r.text(), Iterations: r.number(1, maxIterations), Memory: r.number(0, maxArgonMemory), Salt: r.bytes(8, 64),
	}}
	k.keys = pair{r.bytes(size, size), r.bytes(size, size)}
	k.old = pair{r.bytes(size, size), r.bytes(size, size)}
	if err := r.done(); err != nil {
		return err
	}
	return k.check()
}

// authMessage is RFC 5802's, of which both sides compute their proofs.
func (d dialect) authMessage(authid, clientNonce, nonce, salt string, iterations int, binding string, data []byte) string {
	name, c := authid, ""
	if !d.bare {
		name = strings.NewReplacer(",", "=2C", "=", "=3D").Replace(authid)
		flag := "n"
		if binding != "" {
			flag = "p=" + binding
		}
		c = b64.EncodeToString(append([]byte(flag+",,"), data...))
	}
	return fmt.Sprintf("n=%s,r=%s,r=%s,s=%s,i=%d,c=%s,r=%s", name, clientNonce, nonce, salt, iterations, c, nonce)
}

// scramBinding is the data of a channel binding, unhashed.
func scramBinding(binding string, state *tls.ConnectionState) ([]byte, error) {
	if binding == BindingUnique && state != nil && len(state.TLSUnique) > 0 {
		return state.TLSUnique, nil
	}
	return nil, fmt.Errorf("channel binding %.40q is not to be had on this connection", binding)
}

// maxNonce bounds a client's nonce, in characters.
const maxNonce = 256

// ScramChallenge is a challenge that has been sent.
type ScramChallenge struct {
	dialect        dialect
	keys           pair
	nonce, message string
	binding, data  string
}

// Challenge makes a challenge for a client that said authid and authextra in
// HELLO, and the CHALLENGE.Extra for it. An error says what is wrong with them.
func (k *ScramKeys) Challenge(method, authid string, authextra wamp.Dict, state *tls.ConnectionState) (*ScramChallenge, wamp.Dict, error) {
	d := dialects[method]
	clientNonce := wamp.AsString(authextra, "nonce")
	if raw, err := b64.DecodeString(clientNonce); err != nil || len(raw) < 8 || len(clientNonce) > maxNonce {
		return nil, nil, errors.New("authextra.nonce is not the base64 of 8 bytes or more")
	}
	c := &ScramChallenge{dialect: d, keys: k.keys, nonce: clientNonce + b64.EncodeToString(randomBytes(saltSize))}
	if d.bare {
		c.keys = k.old
	}
	var data []byte
	if binding := wamp.AsString(authextra, "channel_binding"); binding != "" {
		var err error
		if data, err = scramBinding(binding, state); err != nil || d.bare {
			return nil, nil, fmt.Errorf("channel binding %.40q is not to be had", binding)
		}
		c.binding, c.data = binding, b64.EncodeToString(data)
	}
	salt := b64.EncodeToString(k.Salt)
	c.message = d.authMessage(authid, clientNonce, c.nonce, salt, k.Iterations, c.binding, data)
	extra := wamp.Dict{"nonce": c.nonce, "salt": salt, "kdf": k.KDF, "iterations": int64(k.Iterations)}
	if k.KDF == KDFArgon2 {
		extra["kdf"], extra["memory"] = d.argon, int64(k.Memory)
	}
	return c, extra, nil
}

// Signed reports whether the answer proves the password. extra is what
// WELCOME.authextra has to prove in turn that the router knows it.
func (c *ScramChallenge) Signed(m *wamp.Authenticate) (extra wamp.Dict, ok bool) {
	proof, err := b64.DecodeString(m.Signature)
	if err != nil || len(proof) != sha256.Size {
		return nil, false
	}
	client := xor(proof, mac(c.keys.stored, c.message))
	stored := sha256.Sum256(client)
	nonce, sent := m.Extra["nonce"].(string)
	ok = subtle.ConstantTimeCompare(stored[:], c.keys.stored) == 1 &&
		(nonce == c.nonce || c.dialect.bare && !sent) &&
		wamp.AsString(m.Extra, "channel_binding") == c.binding &&
		subtle.ConstantTimeCompare([]byte(wamp.AsString(m.Extra, "cbind_data")), []byte(c.data)) == 1
	if !ok {
		return nil, false
	}
	return wamp.Dict{c.dialect.verifier: b64.EncodeToString(mac(c.keys.server, c.message))}, true
}

// ScramClient is the client's end of SCRAM.
type ScramClient struct {
	plain
	authid, password string
	// Binding asks for the channel binding tls-unique.
	Binding string

	tls    *tls.ConnectionState
	nonce  string
	server []byte // the signature that WELCOME has to show
}

// Scram is the client's end of SCRAM, in the dialect that method names:
// MethodScram or MethodScramOld. The password should be printable ASCII; other
// text is taken as it is, without SASLprep.
func Scram(method, authid, password string) *ScramClient {
	return &ScramClient{plain: plain(method), authid: authid, password: password}
}

// Connection is told of the connection's TLS state, nil without one.
func (c *ScramClient) Connection(state *tls.ConnectionState) { c.tls = state }

// AuthExtra is a new nonce.
func (c *ScramClient) AuthExtra() wamp.Dict {
	c.nonce, c.server = b64.EncodeToString(randomBytes(saltSize)), nil
	extra := wamp.Dict{"nonce": c.nonce}
	if c.Binding != "" {
		extra["channel_binding"] = c.Binding
	}
	return extra
}

// Challenge computes the proof.
func (c *ScramClient) Challenge(m *wamp.Challenge) (*wamp.Authenticate, error) {
	d := dialects[string(c.plain)]
	p, nonce := ScramParams{KDF: wamp.AsString(m.Extra, "kdf")}, wamp.AsString(m.Extra, "nonce")
	if p.KDF == dialects[MethodScramOld].argon {
		p.KDF = KDFArgon2
	}
	iterations, _ := wamp.AsInt(m.Extra, "iterations")
	memory, _ := wamp.AsInt(m.Extra, "memory")
	p.Iterations, p.Memory = int(iterations), int(memory)
	salt := wamp.AsString(m.Extra, "salt")
	var err error
	if p.Salt, err = b64.DecodeString(salt); err != nil {
		return nil, errors.New("the salt is not base64")
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if c.nonce == "" || !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) || len(nonce) > 2*maxNonce {
		return nil, errors.New("the router's nonce does not begin with ours")
	}
	extra, data := wamp.Dict{"nonce": nonce}, []byte(nil)
	if c.Binding != "" {
		if data, err = scramBinding(c.Binding, c.tls); err != nil {
			return nil, err
		}
		extra["channel_binding"], extra["cbind_data"] = c.Binding, b64.EncodeToString(data)
	}
	client, keys := keysOf(d.inDialect(p.KDF, p.salted(c.password)))
	message := d.authMessage(c.authid, c.nonce, nonce, salt, p.Iterations, c.Binding, data)
	c.server = mac(keys.server, message)
	return &wamp.Authenticate{Signature: b64.EncodeToString(xor(client, mac(keys.stored, message))), Extra: extra}, nil
}

// Welcome checks that the router knows the password, too. The example of the
// specification has "v=" before the signature; its text has not.
func (c *ScramClient) Welcome(m *wamp.Welcome) error {
	shown := wamp.AsString(wamp.AsDict(m.Details, "authextra"), dialects[string(c.plain)].verifier)
	signature, err := b64.DecodeString(strings.TrimPrefix(shown, "v="))
	if err != nil || c.server == nil || !hmac.Equal(signature, c.server) {
		return errors.New("the router has not proved that it knows the password")
	}
	return nil
}
