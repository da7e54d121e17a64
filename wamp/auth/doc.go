// Package auth has both ends of WAMP's authentication methods, one file each:
// what a client does to prove its identity, and what a router stores, asks and
// checks. It decides nothing about who may join where, and knows no users.
//
// The client ends are used with package client, as elements of its
// Config.Auth; each belongs to one session. The router's ends are plain
// functions and values: the stored forms (TicketHash, CRAKey, ScramKeys) have a
// text form for files, and hold no password.
//
// Every comparison with something secret takes constant time. The package has
// no goroutines, does no I/O and does not log.
package auth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// The methods' names, as in HELLO.Details.authmethods.
const (
	MethodAnonymous  = "anonymous"
	MethodTicket     = "ticket"
	MethodCRA        = "wampcra"
	MethodScram      = "wamp-scram" // as the specification has it
	MethodScramOld   = "scram"      // autobahn's dialect of it
	MethodCryptosign = "cryptosign"
	MethodTLS        = "tls"
	MethodCookie     = "cookie"
)

// saltSize is the size of the random salts that this package makes, in bytes.
const saltSize = 16

// errMalformed is the error of a stored form that is none. It does not show
// the text, which is a secret.
var errMalformed = errors.New("not a stored credential of this method")

// b64 is the base64 of all methods: the standard alphabet, padded, canonical.
var b64 = base64.StdEncoding.Strict()

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// fields joins the parts of a stored form.
func fields(parts ...any) []byte {
	text := make([]string, len(parts))
	for i, p := range parts {
		if b, ok := p.([]byte); ok {
			p = b64.EncodeToString(b)
		}
		text[i] = fmt.Sprint(p)
	}
	return []byte(strings.Join(text, "$"))
}

// reader takes the parts of a stored form apart again; failed says that one of
// them was not what it had to be.
type reader struct {
	parts  []string
	failed bool
}

func readFields(text []byte) *reader { return &reader{parts: strings.Split(string(text), "$")} }

func (r *reader) text() string {
	if len(r.parts) == 0 {
		r.failed = true
		return ""
	}
	p := r.parts[0]
	r.parts = r.parts[1:]
	return p
}

func (r *reader) number(least, most int) int {
	n, err := strconv.Atoi(r.text())
	if err != nil || n < least || n > most {
		r.failed = true
	}
	return n
}

func (r *reader) bytes(least, most int) []byte {
	b, err := b64.DecodeString(r.text())
	if err != nil || len(b) < least || len(b) > most {
		r.failed = true
	}
	return b
}

func (r *reader) done() error {
	if r.failed || len(r.parts) > 0 {
		return errMalformed
	}
	return nil
}

// decodeHex decodes exactly n bytes.
func decodeHex(s string, n int) ([]byte, error) {
	if len(s) != 2*n {
		return nil, fmt.Errorf("%d hexadecimal digits expected, not %d", 2*n, len(s))
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("not hexadecimal")
	}
	return b, nil
}

// plain is the client's end of a method without a challenge.
type plain string

// AuthMethod returns the method's name.
func (p plain) AuthMethod() string { return string(p) }

// AuthExtra returns nil: there is nothing to say beforehand.
func (plain) AuthExtra() wamp.Dict { return nil }

// Challenge refuses: the method has none.
func (p plain) Challenge(*wamp.Challenge) (*wamp.Authenticate, error) {
	return nil, fmt.Errorf("%s has no challenge", string(p))
}

// Client is the client's end of a method; it is what package client calls an
// Authenticator.
type Client interface {
	AuthMethod() string
	AuthExtra() wamp.Dict
	Challenge(*wamp.Challenge) (*wamp.Authenticate, error)
}
