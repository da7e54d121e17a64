package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// Cookie is the client's end of joining by the HTTP cookie of an earlier
// session; browsers send it by themselves.
func Cookie() Client { return plain(MethodCookie) }

// NewCookie makes a cookie's value: 130 random bits as text.
func NewCookie() string { return rand.Text() }

// CookieKey is what a router keeps of a cookie: nobody who reads it can make
// the cookie from it. As the cookie is random, it needs no salt.
func CookieKey(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}
