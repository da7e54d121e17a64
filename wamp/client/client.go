// Package client is a WAMP client: it joins a realm over any transport, calls
// and registers procedures, publishes and subscribes, and, when asked to,
// reconnects and puts its registrations and subscriptions back in place.
package client

import (
	"context"
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
	// Codec to speak; nil means codec.CBOR. A pipe brings its own.
	Codec codec.Codec
	// Reconnect, when not nil, makes the session survive the loss of its
	// connection.
	Reconnect *Backoff
	// HandshakeTimeout bounds dialling and joining; default 10 s.
	HandshakeTimeout time.Duration
	// MaxMessage bounds a received message, in bytes; default 16 MiB.
	MaxMessage int
	// OnUp and OnDown are called, in order and one at a time, when the session
	// has joined (registrations and subscriptions in place) and when it has
	// lost its connection, with the reason. They must not block.
	OnUp   func()
	OnDown func(error)
	// Log receives what happens outside of any call; nil means slog.Default.
	Log *slog.Logger
}

// Backoff is how long to wait between attempts to reconnect: Min, doubled
// each time up to Max, each with a random part of Jitter (0 to 1) of it.
type Backoff struct {
	Min, Max time.Duration
	Jitter   float64
}

// Dialer opens a connection; Dial makes one from a URL.
type Dialer func(ctx context.Context) (transport.Conn, error)

// Args is the positional arguments of a call or publication.
type Args = wamp.List

// KwArgs is its keyword arguments.
type KwArgs = wamp.Dict

// Values are decoded arguments: of a result, an event, an invocation.
type Values struct {
	Args   wamp.List
	KwArgs wamp.Dict
}

// Event is one publication that a subscription received.
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
}

// Result is what a call returned, or what a procedure returns.
type Result struct {
	Values
	Details wamp.ResultDetails
}

// EventHandler receives events, in order, one at a time per session; it must
// not block for long, and must not call back into Unsubscribe or Close.
type EventHandler func(*Event)

// Procedure answers invocations, each in a goroutine of its own. ctx ends when
// the caller cancels or the session ends. A *wamp.Error reaches the caller as
// it is; any other error becomes wamp.error.runtime_error without its text,
// and is logged.
type Procedure func(ctx context.Context, inv *Invocation) (*Result, error)
