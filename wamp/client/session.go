package client

import (
	"context"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/transport"
)

// Session is a joined session. Its methods are safe for concurrent use.
type Session struct{}

// Dial connects to a router and joins a realm. The URL's scheme chooses the
// transport: ws, wss (WebSocket, ws://host:8080/ws), rs, rss (RawSocket over
// TCP or TLS, rs://host:8081), unix (RawSocket, unix:///run/postern.sock).
func Dial(ctx context.Context, url string, cfg Config) (*Session, error) { panic("contract") }

// Join joins over connections that dial opens: again and again with
// cfg.Reconnect, else once.
func Join(ctx context.Context, dial Dialer, cfg Config) (*Session, error) { panic("contract") }

// ID is the session's ID, 0 while it is not joined.
func (s *Session) ID() wamp.ID { panic("contract") }

// Done is closed when the session has ended for good; Err then says why.
func (s *Session) Done() <-chan struct{} { panic("contract") }

// Err is nil while the session lives, and after an orderly Close.
func (s *Session) Err() error { panic("contract") }

// Call calls a procedure. The error is a *wamp.Error when the router or the
// callee answered with one. When ctx ends first, the call is cancelled.
func (s *Session) Call(ctx context.Context, procedure string, args Args, kwargs KwArgs, opts ...CallOption) (*Result, error) {
	panic("contract")
}

// Publish publishes an event. Without Acknowledge it returns once the event is
// on its way; with it, when the router has taken it.
func (s *Session) Publish(ctx context.Context, topic string, args Args, kwargs KwArgs, opts ...PublishOption) error {
	panic("contract")
}

// PublishPayload publishes arguments that are encoded already.
func (s *Session) PublishPayload(ctx context.Context, topic string, p wamp.Payload, opts ...PublishOption) error {
	panic("contract")
}

// Subscribe asks for the events of a topic, or of a pattern of topics.
func (s *Session) Subscribe(ctx context.Context, topic string, h EventHandler, opts ...SubscribeOption) (*Subscription, error) {
	panic("contract")
}

// Register offers a procedure, or a pattern of procedures.
func (s *Session) Register(ctx context.Context, procedure string, p Procedure, opts ...RegisterOption) (*Registration, error) {
	panic("contract")
}

// Close leaves the realm with GOODBYE, waits for the answer as long as ctx
// lets it, and closes the connection.
func (s *Session) Close(ctx context.Context) error { panic("contract") }

// Subscription is a subscription that Subscribe made; it survives reconnects.
type Subscription struct{}

// Unsubscribe ends it.
func (s *Subscription) Unsubscribe(ctx context.Context) error { panic("contract") }

// Registration is a registration that Register made; it survives reconnects.
type Registration struct{}

// Unregister ends it.
func (r *Registration) Unregister(ctx context.Context) error { panic("contract") }

// The options of the four requests change the message before it is sent.
type (
	CallOption      func(*wamp.CallOptions)
	PublishOption   func(*wamp.PublishOptions)
	SubscribeOption func(*wamp.SubscribeOptions)
	RegisterOption  func(*wamp.RegisterOptions)
)

// Acknowledge makes Publish wait for the router's acknowledgement.
func Acknowledge() PublishOption { return func(o *wamp.PublishOptions) { o.Acknowledge = true } }

// Retain asks the router to keep the event for later subscribers.
func Retain() PublishOption { return func(o *wamp.PublishOptions) { o.Retain = true } }

// Pattern subscribes to a pattern.
func Pattern(m wamp.Match) SubscribeOption { return func(o *wamp.SubscribeOptions) { o.Match = m } }

var _ transport.Conn // the transports are wamp/transport's
