// Package client is a WAMP client: it joins a realm over any transport, calls
// and registers procedures, publishes and subscribes, and, when asked to,
// reconnects and puts its registrations and subscriptions back in place.
//
// A Session outlives its connections. Each connection is a link, with the
// numbers that the router gave it; the handles (Registration, Subscription)
// belong to the session and are placed on one link after the other.
//
// Goroutines, all of which have ended when Close returns without an error:
//
//   - the session's own, which reads from the current link and reconnects; it
//     never waits for a handler or for the network to take a message, so that
//     answers always come through;
//   - one writer per link, which sends all that is queued in one go; it ends
//     with the link, and the session's goroutine waits for it;
//   - one per link that puts the handles in place and tries those again that
//     the router refuses; it ends with the link or when all are in place;
//   - one that hands events to their handlers, in order; it ends with the
//     session;
//   - up to Config.MaxConcurrent that run procedures; each ends when no
//     invocation waits.
//
// One mutex per session guards all of its state; no callback, I/O or log is
// done under it.
//
// Nothing grows without bound: senders wait while 4 MiB are queued, events
// that wait for a slow handler are dropped and counted above
// Config.EventBuffer, and invocations that can neither run nor wait are
// answered with wamp.error.unavailable.
//
// The package never retries a call, and never publishes anything of its own.
//
// It is larger than a package of this project should be: the four roles share
// the link's state, and apart they would need a wider interface than they have
// code. Each has its file.
package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// Config says how to join a realm. The zero value, with a Realm, joins
// anonymously and does not reconnect.
type Config struct {
	// Realm to join, such as "realm1".
	Realm string
	// AuthID asks for an identity; empty leaves it to the router.
	AuthID string
	// Auth are the ways in which the session can prove its identity, the
	// preferred one first; none means anonymous.
	Auth []Authenticator
	// Codec to speak; nil means codec.CBOR. A pipe brings its own.
	Codec codec.Codec
	// TLS is for Dial, over wss and rss; nil trusts the system's authorities.
	TLS *tls.Config
	// Reconnect, when not nil, makes the session survive the loss of its
	// connection.
	Reconnect *Backoff
	// HandshakeTimeout bounds dialling and joining; default 10 s. Close waits
	// no longer than that either.
	HandshakeTimeout time.Duration
	// MaxMessage bounds a received message, in bytes; default 16 MiB.
	MaxMessage int
	// MaxConcurrent bounds the invocations that run at the same time; default
	// 256. Sixteen times as many (16 MiB of arguments) can wait for their turn;
	// what comes above that is answered with wamp.error.unavailable.
	MaxConcurrent int
	// EventBuffer bounds the events that wait for a slow handler, in bytes;
	// default 8 MiB. Those that come above that are dropped, counted
	// (DroppedEvents) and logged: to stop reading instead would hold up answers
	// and invocations, and make the router drop in our place, or give us up.
	EventBuffer int
	// OnUp and OnDown are called, in order and one at a time, when the session
	// has joined (registrations and subscriptions in place) and when it has
	// lost its connection, with the reason. They must not block. The first OnUp
	// comes before Join returns; Close does not count as a loss.
	OnUp   func()
	OnDown func(error)
	// Log receives what happens outside of any call; nil means slog.Default.
	Log *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = 10 * time.Second
	}
	if cfg.MaxMessage <= 0 {
		cfg.MaxMessage = transport.DefaultReadLimit
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = 256
	}
	if cfg.EventBuffer <= 0 {
		cfg.EventBuffer = 8 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return cfg
}

// Dialer opens a connection; Dial makes one from a URL.
type Dialer func(ctx context.Context) (transport.Conn, error)

// Authenticator proves an identity with one authentication method; those of
// wamp/auth are such.
type Authenticator interface {
	// AuthMethod is the method's name in HELLO.Details.authmethods.
	AuthMethod() string
	// AuthExtra is what goes into HELLO.Details.authextra, asked for anew for
	// every connection; nil for nothing.
	AuthExtra() wamp.Dict
	// Challenge answers the router's challenge.
	Challenge(*wamp.Challenge) (*wamp.Authenticate, error)
}

// WelcomeChecker is an Authenticator for which the router has to prove itself,
// too; its error ends the session before it begins.
type WelcomeChecker interface {
	Welcome(*wamp.Welcome) error
}

// ConnectionBinder is an Authenticator that is told of the TLS connection, nil
// without one, before AuthExtra is asked for.
type ConnectionBinder interface {
	Connection(*tls.ConnectionState)
}

// Args is the positional arguments of a call or publication.
type Args = wamp.List

// KwArgs is its keyword arguments.
type KwArgs = wamp.Dict

// Event is one publication that a subscription received. Several handlers may
// share one, so it must not be changed.
type Event struct {
	Values
	Topic       string // the concrete topic, also for pattern subscriptions
	Publication wamp.ID
	Details     wamp.EventDetails
	Payload     wamp.Payload // as it came, not decoded
}

// Invocation is one call of a procedure that the session registered.
type Invocation struct {
	Values
	Procedure string // the concrete procedure, also for pattern registrations
	Details   wamp.InvocationDetails

	run *invocation // nil in one that did not come from a router
}

// Result is what a call returned, or what a procedure returns.
type Result struct {
	Values
	Details wamp.ResultDetails
}

// Return makes the Result of a procedure from positional arguments.
func Return(args ...any) *Result { return &Result{Values: Values{Args: args}} }

// EventHandler receives events, in order, one at a time per session; it must
// not block for long, and must not call back into Unsubscribe or Close. It may
// call procedures and publish.
type EventHandler func(*Event)

// Procedure answers invocations, each in a goroutine of its own. ctx ends when
// the caller cancels or the session ends. A *wamp.Error reaches the caller as
// it is; any other error becomes wamp.error.runtime_error without its text,
// and is logged. A nil Result stands for one without values.
type Procedure func(ctx context.Context, inv *Invocation) (*Result, error)

// ProgressFunc receives the progressive results of a call, in order, in the
// goroutine that called.
type ProgressFunc func(*Result)
