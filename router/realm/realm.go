// Package realm is a WAMP realm as a pure state machine: broker, dealer,
// matching and permissions. Messages go in through Step, and what must be sent
// comes out as effects, in order; nothing is done here. The package has no
// goroutine, clock, lock, random source or I/O: times and IDs come in as
// arguments, and the caller (package router) serialises all calls with one
// mutex per realm. See docs/architecture.md.
package realm

import "github.com/postern-iot/postern/wamp"

// Time is a moment in nanoseconds since the Unix epoch.
type Time int64

// Effect is something that the caller of a Realm must do.
type Effect struct {
	// To is the session that it concerns.
	To *Session
	// Msg is what to send it; nil for nothing. Effects that follow each other
	// and carry the same pointer are one message to many sessions, so that the
	// caller can encode it once.
	Msg wamp.Message
	// End says that the session is no longer a member: after what has been sent
	// to it is flushed, its connection is to be closed.
	End bool
}

// Identity is who a session is; only an authenticator makes one.
type Identity struct {
	AuthID       string
	AuthRole     string
	AuthMethod   string
	AuthProvider string
}

// Realm is the state of one realm.
type Realm struct{}

// Session is a member of a realm, or about to be one.
type Session struct {
	ID       wamp.ID
	Identity Identity
	// Roles are the roles and features that the peer announced in HELLO.
	Roles wamp.Dict
	// Tag belongs to the caller: its own handle for this session.
	Tag any
}

// Config is what a realm needs to know.
type Config struct {
	Name string
	// Encoding encodes the payloads that the realm itself makes.
	Encoding wamp.Encoding
	// NewID draws a random ID in [1, 2^53], for sessions and publications.
	NewID func() wamp.ID
	URIs  wamp.URIRule
	Roles []Role
}

// Role is a set of permissions that sessions have by their AuthRole.
type Role struct {
	Name        string
	Permissions []Permission
}

// Permission allows actions on the URIs that a pattern matches; the most
// specific pattern that matches a URI decides (exact before prefix before
// wildcard, longest first).
type Permission struct {
	URI   string
	Match wamp.Match
	Allow Actions
}

// Actions are the four things a session can do with a URI.
type Actions struct{ Call, Register, Publish, Subscribe bool }

// New makes an empty realm.
func New(cfg Config) (*Realm, error) { panic("contract") }

// Join makes s a member; the first effect is its WELCOME. s.Identity and
// s.Roles must be set; Join sets s.ID.
func (r *Realm) Join(s *Session, now Time) []Effect { panic("contract") }

// Leave removes s, whose connection is gone; its callers get errors.
func (r *Realm) Leave(s *Session, now Time) []Effect { panic("contract") }

// Step handles one message of s. The effects are valid until the next call.
func (r *Realm) Step(s *Session, m wamp.Message, now Time) []Effect { panic("contract") }

// Undeliverable reports that m could not be sent to s (its payload cannot be
// expressed in s's serialization, or is larger than s accepts), so that whoever
// waits for an answer gets an error.
func (r *Realm) Undeliverable(s *Session, m wamp.Message, reason string, now Time) []Effect {
	panic("contract")
}

// Close says GOODBYE to every session, with reason.
func (r *Realm) Close(reason string, now Time) []Effect { panic("contract") }
