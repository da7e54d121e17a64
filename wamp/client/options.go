package client

import (
	"time"

	"github.com/postern-iot/postern/wamp"
)

// The options of the four requests change the message before it is sent.
type (
	CallOption      func(*wamp.CallOptions)
	PublishOption   func(*wamp.PublishOptions)
	SubscribeOption func(*wamp.SubscribeOptions)
	RegisterOption  func(*wamp.RegisterOptions)
)

// Timeout asks the router to give the call up after d, rounded up to
// milliseconds, with wamp.error.timeout. Unlike the context's deadline it also
// ends the call for a callee behind a router without call cancelling.
func Timeout(d time.Duration) CallOption {
	return func(o *wamp.CallOptions) {
		if d > 0 {
			o.Timeout = uint64((d + time.Millisecond - 1) / time.Millisecond)
		}
	}
}

// DiscloseMe asks the router to tell the callee who calls.
func DiscloseMe() CallOption { return func(o *wamp.CallOptions) { o.DiscloseMe = true } }

// Shard has the call go to the registration that key falls to, of those with a
// key of their own (RegisterShard): calls with the same key go to the same one.
func Shard(key string) CallOption {
	return func(o *wamp.CallOptions) { o.RunMode, o.RKey = "partition", key }
}

// Acknowledge makes Publish wait for the router's acknowledgement.
func Acknowledge() PublishOption { return func(o *wamp.PublishOptions) { o.Acknowledge = true } }

// Retain asks the router to keep the event for later subscribers.
func Retain() PublishOption { return func(o *wamp.PublishOptions) { o.Retain = true } }

// DisclosePublisher asks the router to tell the subscribers who publishes.
func DisclosePublisher() PublishOption { return func(o *wamp.PublishOptions) { o.DiscloseMe = true } }

// ExcludeMe(false) lets the publisher's own subscriptions receive the event,
// which they do not otherwise.
func ExcludeMe(exclude bool) PublishOption {
	return func(o *wamp.PublishOptions) { o.ExcludeMe = &exclude }
}

// Exclude keeps the event from these sessions.
func Exclude(sessions ...wamp.ID) PublishOption {
	return func(o *wamp.PublishOptions) { o.Exclude = append([]wamp.ID{}, sessions...) }
}

// ExcludeAuthID keeps the event from sessions with these identities.
func ExcludeAuthID(ids ...string) PublishOption {
	return func(o *wamp.PublishOptions) { o.ExcludeAuthID = append([]string{}, ids...) }
}

// ExcludeAuthRole keeps the event from sessions with these roles.
func ExcludeAuthRole(roles ...string) PublishOption {
	return func(o *wamp.PublishOptions) { o.ExcludeAuthRole = append([]string{}, roles...) }
}

// Eligible sends the event to these sessions only; to none when it is empty.
func Eligible(sessions ...wamp.ID) PublishOption {
	return func(o *wamp.PublishOptions) { o.Eligible = append([]wamp.ID{}, sessions...) }
}

// EligibleAuthID sends the event only to sessions with these identities.
func EligibleAuthID(ids ...string) PublishOption {
	return func(o *wamp.PublishOptions) { o.EligibleAuthID = append([]string{}, ids...) }
}

// EligibleAuthRole sends the event only to sessions with these roles.
func EligibleAuthRole(roles ...string) PublishOption {
	return func(o *wamp.PublishOptions) { o.EligibleAuthRole = append([]string{}, roles...) }
}

// PublishShard has the event go to one subscription only of those with a key of
// their own (SubscribeShard): events with the same key go to the same one.
func PublishShard(key string) PublishOption { return func(o *wamp.PublishOptions) { o.RKey = key } }

// Pattern subscribes to a pattern.
func Pattern(m wamp.Match) SubscribeOption { return func(o *wamp.SubscribeOptions) { o.Match = m } }

// GetRetained asks for the event that the router keeps for the topic, if any.
func GetRetained() SubscribeOption { return func(o *wamp.SubscribeOptions) { o.GetRetained = true } }

// SubscribeShard gives the subscription a key of its own; see PublishShard.
func SubscribeShard(key string) SubscribeOption {
	return func(o *wamp.SubscribeOptions) { o.NKey = key }
}

// RegisterPattern registers a pattern.
func RegisterPattern(m wamp.Match) RegisterOption {
	return func(o *wamp.RegisterOptions) { o.Match = m }
}

// Invoke shares the procedure between callees by the given policy: "single",
// "roundrobin", "random", "first" or "last".
func Invoke(policy string) RegisterOption { return func(o *wamp.RegisterOptions) { o.Invoke = policy } }

// Concurrency asks the router to send at most n invocations at the same time.
func Concurrency(n uint64) RegisterOption {
	return func(o *wamp.RegisterOptions) { o.Concurrency = n }
}

// DiscloseCaller asks the router to tell who calls.
func DiscloseCaller() RegisterOption {
	return func(o *wamp.RegisterOptions) { o.DiscloseCaller = true }
}

// RegisterShard gives the registration a key of its own; see Shard.
func RegisterShard(key string) RegisterOption {
	return func(o *wamp.RegisterOptions) { o.NKey = key }
}

// ForceReregister takes the procedure over from the session that has it.
func ForceReregister() RegisterOption {
	return func(o *wamp.RegisterOptions) { o.ForceReregister = true }
}

// ForwardTimeout asks the router to leave the timeouts of calls to this
// session, which ends the invocation's context and answers wamp.error.timeout.
func ForwardTimeout() RegisterOption {
	return func(o *wamp.RegisterOptions) { o.ForwardTimeout = true }
}
