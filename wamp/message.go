package wamp

import "fmt"

// Kind is a message's type code, the first element of its list on the wire.
type Kind uint8

// The message type codes of WAMP v2 (basic profile, "Message Codes").
const (
	KindHello        Kind = 1
	KindWelcome      Kind = 2
	KindAbort        Kind = 3
	KindChallenge    Kind = 4
	KindAuthenticate Kind = 5
	KindGoodbye      Kind = 6
	KindError        Kind = 8
	KindPublish      Kind = 16
	KindPublished    Kind = 17
	KindSubscribe    Kind = 32
	KindSubscribed   Kind = 33
	KindUnsubscribe  Kind = 34
	KindUnsubscribed Kind = 35
	KindEvent        Kind = 36
	KindCall         Kind = 48
	KindCancel       Kind = 49
	KindResult       Kind = 50
	KindRegister     Kind = 64
	KindRegistered   Kind = 65
	KindUnregister   Kind = 66
	KindUnregistered Kind = 67
	KindInvocation   Kind = 68
	KindInterrupt    Kind = 69
	KindYield        Kind = 70
)

var kindNames = map[Kind]string{
	KindHello: "HELLO", KindWelcome: "WELCOME", KindAbort: "ABORT", KindChallenge: "CHALLENGE",
	KindAuthenticate: "AUTHENTICATE", KindGoodbye: "GOODBYE", KindError: "ERROR", KindPublish: "PUBLISH",
	KindPublished: "PUBLISHED", KindSubscribe: "SUBSCRIBE", KindSubscribed: "SUBSCRIBED",
	KindUnsubscribe: "UNSUBSCRIBE", KindUnsubscribed: "UNSUBSCRIBED", KindEvent: "EVENT", KindCall: "CALL",
	KindCancel: "CANCEL", KindResult: "RESULT", KindRegister: "REGISTER", KindRegistered: "REGISTERED",
	KindUnregister: "UNREGISTER", KindUnregistered: "UNREGISTERED", KindInvocation: "INVOCATION",
	KindInterrupt: "INTERRUPT", KindYield: "YIELD",
}

// String is the message's name in the specification, such as "HELLO".
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("message type %d", uint8(k))
}

// Message is one WAMP message: a pointer to one of the structs below. A
// message may be shared between goroutines once it has been sent or received
// and must not be changed from then on.
type Message interface {
	Kind() Kind
}

type (
	// Hello opens a session: [HELLO, Realm|uri, Details|dict].
	Hello struct {
		Realm   string
		Details Dict
	}
	// Welcome accepts it: [WELCOME, Session|id, Details|dict].
	Welcome struct {
		Session ID
		Details Dict
	}
	// Abort refuses or breaks off a session: [ABORT, Details|dict, Reason|uri]
	// and, as some peers send, Arguments|list, ArgumentsKw|dict.
	Abort struct {
		Details Dict
		Reason  string
		Payload
	}
	// Challenge asks for a proof: [CHALLENGE, AuthMethod|string, Extra|dict].
	Challenge struct {
		AuthMethod string
		Extra      Dict
	}
	// Authenticate gives it: [AUTHENTICATE, Signature|string, Extra|dict].
	Authenticate struct {
		Signature string
		Extra     Dict
	}
	// Goodbye closes a session: [GOODBYE, Details|dict, Reason|uri].
	Goodbye struct {
		Details Dict
		Reason  string
	}
	// ErrorMessage answers a request: [ERROR, REQUEST.Type|int, REQUEST.Request|id,
	// Details|dict, Error|uri, Arguments|list, ArgumentsKw|dict].
	ErrorMessage struct {
		Request ID
		Type    Kind // of the request
		Details ErrorDetails
		URI     string
		Payload
	}
	// Publish is [PUBLISH, Request|id, Options|dict, Topic|uri, Arguments|list,
	// ArgumentsKw|dict].
	Publish struct {
		Request ID
		Options PublishOptions
		Topic   string
		Payload
	}
	// Published is [PUBLISHED, PUBLISH.Request|id, Publication|id].
	Published struct {
		Request     ID
		Publication ID
	}
	// Subscribe is [SUBSCRIBE, Request|id, Options|dict, Topic|uri].
	Subscribe struct {
		Request ID
		Options SubscribeOptions
		Topic   string
	}
	// Subscribed is [SUBSCRIBED, SUBSCRIBE.Request|id, Subscription|id].
	Subscribed struct {
		Request      ID
		Subscription ID
	}
	// Unsubscribe is [UNSUBSCRIBE, Request|id, SUBSCRIBED.Subscription|id].
	Unsubscribe struct {
		Request      ID
		Subscription ID
	}
	// Unsubscribed is [UNSUBSCRIBED, UNSUBSCRIBE.Request|id] or, when the router
	// revoked the subscription, [UNSUBSCRIBED, 0, Details|dict].
	Unsubscribed struct {
		Request ID
		Details RevokedDetails
	}
	// Event is [EVENT, SUBSCRIBED.Subscription|id, PUBLISHED.Publication|id,
	// Details|dict, PUBLISH.Arguments|list, PUBLISH.ArgumentsKw|dict].
	Event struct {
		Subscription ID
		Publication  ID
		Details      EventDetails
		Payload
	}
	// Call is [CALL, Request|id, Options|dict, Procedure|uri, Arguments|list,
	// ArgumentsKw|dict].
	Call struct {
		Request   ID
		Options   CallOptions
		Procedure string
		Payload
	}
	// Cancel is [CANCEL, CALL.Request|id, Options|dict].
	Cancel struct {
		Request ID
		Options CancelOptions
	}
	// Result is [RESULT, CALL.Request|id, Details|dict, YIELD.Arguments|list,
	// YIELD.ArgumentsKw|dict].
	Result struct {
		Request ID
		Details ResultDetails
		Payload
	}
	// Register is [REGISTER, Request|id, Options|dict, Procedure|uri].
	Register struct {
		Request   ID
		Options   RegisterOptions
		Procedure string
	}
	// Registered is [REGISTERED, REGISTER.Request|id, Registration|id].
	Registered struct {
		Request      ID
		Registration ID
	}
	// Unregister is [UNREGISTER, Request|id, REGISTERED.Registration|id].
	Unregister struct {
		Request      ID
		Registration ID
	}
	// Unregistered is [UNREGISTERED, UNREGISTER.Request|id] or, when the router
	// revoked the registration, [UNREGISTERED, 0, Details|dict].
	Unregistered struct {
		Request ID
		Details RevokedDetails
	}
	// Invocation is [INVOCATION, Request|id, REGISTERED.Registration|id,
	// Details|dict, CALL.Arguments|list, CALL.ArgumentsKw|dict].
	Invocation struct {
		Request      ID
		Registration ID
		Details      InvocationDetails
		Payload
	}
	// Interrupt is [INTERRUPT, INVOCATION.Request|id, Options|dict].
	Interrupt struct {
		Request ID
		Options InterruptOptions
	}
	// Yield is [YIELD, INVOCATION.Request|id, Options|dict, Arguments|list,
	// ArgumentsKw|dict].
	Yield struct {
		Request ID
		Options YieldOptions
		Payload
	}
)

// Kind returns KindHello.
func (*Hello) Kind() Kind { return KindHello }

// Kind returns KindWelcome.
func (*Welcome) Kind() Kind { return KindWelcome }

// Kind returns KindAbort.
func (*Abort) Kind() Kind { return KindAbort }

// Kind returns KindChallenge.
func (*Challenge) Kind() Kind { return KindChallenge }

// Kind returns KindAuthenticate.
func (*Authenticate) Kind() Kind { return KindAuthenticate }

// Kind returns KindGoodbye.
func (*Goodbye) Kind() Kind { return KindGoodbye }

// Kind returns KindPublish.
func (*Publish) Kind() Kind { return KindPublish }

// Kind returns KindPublished.
func (*Published) Kind() Kind { return KindPublished }

// Kind returns KindSubscribe.
func (*Subscribe) Kind() Kind { return KindSubscribe }

// Kind returns KindSubscribed.
func (*Subscribed) Kind() Kind { return KindSubscribed }

// Kind returns KindUnsubscribe.
func (*Unsubscribe) Kind() Kind { return KindUnsubscribe }

// Kind returns KindUnsubscribed.
func (*Unsubscribed) Kind() Kind { return KindUnsubscribed }

// Kind returns KindEvent.
func (*Event) Kind() Kind { return KindEvent }

// Kind returns KindCall.
func (*Call) Kind() Kind { return KindCall }

// Kind returns KindCancel.
func (*Cancel) Kind() Kind { return KindCancel }

// Kind returns KindResult.
func (*Result) Kind() Kind { return KindResult }

// Kind returns KindRegister.
func (*Register) Kind() Kind { return KindRegister }

// Kind returns KindRegistered.
func (*Registered) Kind() Kind { return KindRegistered }

// Kind returns KindUnregister.
func (*Unregister) Kind() Kind { return KindUnregister }

// Kind returns KindUnregistered.
func (*Unregistered) Kind() Kind { return KindUnregistered }

// Kind returns KindInvocation.
func (*Invocation) Kind() Kind { return KindInvocation }

// Kind returns KindInterrupt.
func (*Interrupt) Kind() Kind { return KindInterrupt }

// Kind returns KindYield.
func (*Yield) Kind() Kind { return KindYield }

// Kind returns KindError.
func (*ErrorMessage) Kind() Kind { return KindError }
