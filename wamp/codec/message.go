package codec

import (
	"math"
	"strconv"

	"github.com/postern-iot/postern/wamp"
)

// form walks the elements of a message, in their order on the wire, either
// reading or writing them: exactly one of r and w is set. So that a message's
// shape is written down once, all its methods do both.
type form struct {
	r     *reader
	w     *writer
	kind  wamp.Kind // of the message
	ended bool      // reading: the end of the list has been read
	options
}

func readMessage(r *reader) wamp.Message {
	if t := r.next(); t.kind != kindList {
		r.fail(0, t.kind.String()+" where a message must be, want a list")
		return nil
	}
	t := r.next()
	if t.kind == kindEnd {
		r.fail(0, "an empty list where a message must be")
		return nil
	}
	n, ok := r.integer(t)
	if !ok {
		r.fail(r.pos, "the message type is "+t.kind.String()+", want an integer")
		return nil
	}
	if n > math.MaxUint8 {
		r.fail(r.pos, "unknown message type "+strconv.FormatUint(n, 10))
		return nil
	}
	f := form{r: r, kind: wamp.Kind(n)}
	m := newMessage(f.kind)
	if m == nil {
		r.fail(r.pos, "unknown "+f.kind.String())
		return nil
	}
	f.message(m)
	if !f.ended {
		if t = r.next(); t.kind != kindEnd {
			r.fail(r.pos, "more elements than "+f.kind.String()+" has")
		}
	}
	return m
}

func writeMessage(w *writer, m wamp.Message) {
	list := w.open(kindList)
	f := form{w: w, kind: m.Kind()}
	w.uint(uint64(f.kind))
	f.message(m)
	w.close(list)
}

func newMessage(k wamp.Kind) wamp.Message {
	switch k {
	case wamp.KindHello:
		return new(wamp.Hello)
	case wamp.KindWelcome:
		return new(wamp.Welcome)
	case wamp.KindAbort:
		return new(wamp.Abort)
	case wamp.KindChallenge:
		return new(wamp.Challenge)
	case wamp.KindAuthenticate:
		return new(wamp.Authenticate)
	case wamp.KindGoodbye:
		return new(wamp.Goodbye)
	case wamp.KindError:
		return new(wamp.ErrorMessage)
	case wamp.KindPublish:
		return new(wamp.Publish)
	case wamp.KindPublished:
		return new(wamp.Published)
	case wamp.KindSubscribe:
		return new(wamp.Subscribe)
	case wamp.KindSubscribed:
		return new(wamp.Subscribed)
	case wamp.KindUnsubscribe:
		return new(wamp.Unsubscribe)
	case wamp.KindUnsubscribed:
		return new(wamp.Unsubscribed)
	case wamp.KindEvent:
		return new(wamp.Event)
	case wamp.KindCall:
		return new(wamp.Call)
	case wamp.KindCancel:
		return new(wamp.Cancel)
	case wamp.KindResult:
		return new(wamp.Result)
	case wamp.KindRegister:
		return new(wamp.Register)
	case wamp.KindRegistered:
		return new(wamp.Registered)
	case wamp.KindUnregister:
		return new(wamp.Unregister)
	case wamp.KindUnregistered:
		return new(wamp.Unregistered)
	case wamp.KindInvocation:
		return new(wamp.Invocation)
	case wamp.KindInterrupt:
		return new(wamp.Interrupt)
	case wamp.KindYield:
		return new(wamp.Yield)
	}
	return nil
}

// message gives the shape of every message (basic profile, "Message
// Definitions"). The frequent ones stand first.
func (f *form) message(m wamp.Message) {
	switch m := m.(type) {
	case *wamp.Call:
		f.id("request", &m.Request)
		f.callOptions(&m.Options)
		f.string("procedure", &m.Procedure)
		f.payload(&m.Payload)
	case *wamp.Invocation:
		f.id("request", &m.Request)
		f.id("registration", &m.Registration)
		f.invocationDetails(&m.Details)
		f.payload(&m.Payload)
	case *wamp.Yield:
		f.id("request", &m.Request)
		f.yieldOptions(&m.Options)
		f.payload(&m.Payload)
	case *wamp.Result:
		f.id("request", &m.Request)
		f.resultDetails(&m.Details)
		f.payload(&m.Payload)
	case *wamp.Publish:
		f.id("request", &m.Request)
		f.publishOptions(&m.Options)
		f.string("topic", &m.Topic)
		f.payload(&m.Payload)
	case *wamp.Event:
		f.id("subscription", &m.Subscription)
		f.id("publication", &m.Publication)
		f.eventDetails(&m.Details)
		f.payload(&m.Payload)
	case *wamp.ErrorMessage:
		f.requestKind(&m.Type)
		f.id("request", &m.Request)
		f.errorDetails(&m.Details)
		f.string("error", &m.URI)
		f.payload(&m.Payload)
	default:
		f.request(m)
	}
}

// request gives the shape of the requests without payload and their answers.
func (f *form) request(m wamp.Message) {
	switch m := m.(type) {
	case *wamp.Subscribe:
		f.id("request", &m.Request)
		f.subscribeOptions(&m.Options)
		f.string("topic", &m.Topic)
	case *wamp.Register:
		f.id("request", &m.Request)
		f.registerOptions(&m.Options)
		f.string("procedure", &m.Procedure)
	case *wamp.Unsubscribe:
		f.id("request", &m.Request)
		f.id("subscription", &m.Subscription)
	case *wamp.Unregister:
		f.id("request", &m.Request)
		f.id("registration", &m.Registration)
	case *wamp.Published:
		f.id("request", &m.Request)
		f.id("publication", &m.Publication)
	case *wamp.Subscribed:
		f.id("request", &m.Request)
		f.id("subscription", &m.Subscription)
	case *wamp.Registered:
		f.id("request", &m.Request)
		f.id("registration", &m.Registration)
	case *wamp.Unsubscribed:
		f.revocation(&m.Request, &m.Details)
	case *wamp.Unregistered:
		f.revocation(&m.Request, &m.Details)
	case *wamp.Cancel:
		f.id("request", &m.Request)
		f.cancelOptions(&m.Options)
	case *wamp.Interrupt:
		f.id("request", &m.Request)
		f.interruptOptions(&m.Options)
	default:
		f.session(m)
	}
}

// session gives the shape of the messages that open and close a session.
func (f *form) session(m wamp.Message) {
	switch m := m.(type) {
	case *wamp.Hello:
		f.string("realm", &m.Realm)
		f.dict("details", &m.Details)
	case *wamp.Welcome:
		f.id("session", &m.Session)
		f.dict("details", &m.Details)
	case *wamp.Abort:
		f.dict("details", &m.Details)
		f.string("reason", &m.Reason)
		f.payload(&m.Payload)
	case *wamp.Challenge:
		f.string("authmethod", &m.AuthMethod)
		f.dict("extra", &m.Extra)
	case *wamp.Authenticate:
		f.string("signature", &m.Signature)
		f.dict("extra", &m.Extra)
	case *wamp.Goodbye:
		f.dict("details", &m.Details)
		f.string("reason", &m.Reason)
	default:
		f.w.fail("%T is not a message of this protocol", m)
	}
}

// element reads the next element of the message, which must be there.
func (f *form) element(name string) token {
	t := f.r.next()
	if t.kind == kindEnd {
		f.ended = true
		f.r.fail(f.r.pos, f.kind.String()+" ends before its "+name)
	}
	return t
}

func (f *form) wrong(name string, t token, want string) {
	f.r.fail(f.r.pos, f.kind.String()+": "+name+" is "+t.kind.String()+", want "+want)
}

const wantID = "an integer from 1 to 2^53"

func (f *form) id(name string, id *wamp.ID) {
	if f.w != nil {
		if !id.Valid() {
			f.w.fail("%s is %d, want %s", name, *id, wantID)
		}
		f.w.uint(uint64(*id))
		return
	}
	t := f.element(name)
	n, ok := f.r.integer(t)
	if *id = wamp.ID(n); !ok || !id.Valid() {
		f.wrong(name, t, wantID)
	}
}

func (f *form) string(name string, s *string) {
	if f.w != nil {
		f.w.string(*s)
		return
	}
	t := f.element(name)
	var ok bool
	if *s, ok = f.r.text(t); !ok {
		f.wrong(name, t, "a string")
	}
}

// dict is a dictionary that is kept as it is.
func (f *form) dict(name string, d *wamp.Dict) {
	if f.w != nil {
		f.w.value(*d, 0)
		return
	}
	t := f.element(name)
	if t.kind != kindDict {
		f.wrong(name, t, "a dictionary")
		return
	}
	*d = f.r.dict(t)
}

// requestKind is the type of the request that an ERROR answers.
func (f *form) requestKind(k *wamp.Kind) {
	if f.w != nil {
		if !answerable(*k) {
			f.w.fail("request type is %d, which has no ERROR", *k)
		}
		f.w.uint(uint64(*k))
		return
	}
	t := f.element("request type")
	n, ok := f.r.integer(t)
	if *k = wamp.Kind(n); !ok || n > math.MaxUint8 || !answerable(*k) {
		f.wrong("request type", t, "the type of a request that has an ERROR")
	}
}

func answerable(k wamp.Kind) bool {
	switch k {
	case wamp.KindSubscribe, wamp.KindUnsubscribe, wamp.KindPublish, wamp.KindRegister,
		wamp.KindUnregister, wamp.KindCall, wamp.KindInvocation:
		return true
	}
	return false
}

// revocation is the rest of UNSUBSCRIBED and UNREGISTERED: the request, or 0
// and details when the router took the thing away (advanced profile,
// "Subscription Revocation", "Registration Revocation").
func (f *form) revocation(request *wamp.ID, d *wamp.RevokedDetails) {
	if f.w != nil {
		if *request != 0 {
			f.id("request", request)
			return
		}
		f.w.uint(0)
		f.revokedDetails(d)
		return
	}
	t := f.element("request")
	n, ok := f.r.integer(t)
	if *request = wamp.ID(n); !ok || n > uint64(wamp.MaxID) {
		f.wrong("request", t, wantID+", or 0")
	}
	if n == 0 {
		f.revokedDetails(d)
		return
	}
	// Details of an answer to a request say nothing: autobahn accepts them.
	if t = f.r.next(); t.kind == kindEnd {
		f.ended = true
	} else if t.kind == kindDict {
		f.r.rest(t)
	} else {
		f.wrong("details", t, "a dictionary")
	}
}

// payload is a list and a dictionary, both optional, that stay encoded.
func (f *form) payload(p *wamp.Payload) {
	if f.w != nil {
		f.writePayload(p)
		return
	}
	if p.Args = f.raw("arguments", kindList); p.Args == nil {
		return
	}
	p.Enc = f.r.codec
	p.KwArgs = f.raw("keyword arguments", kindDict)
}

func (f *form) raw(name string, want kind) []byte {
	t := f.r.next()
	switch t.kind {
	case want:
		return f.r.rest(t)
	case kindEnd:
		f.ended = true
	default:
		f.wrong(name, t, want.String())
	}
	return nil
}

func (f *form) writePayload(p *wamp.Payload) {
	if p.Args == nil && p.KwArgs == nil {
		return
	}
	if p.Args == nil {
		f.w.close(f.w.open(kindList))
	} else {
		f.writeRaw(p.Enc, p.Args)
	}
	if p.KwArgs != nil {
		f.writeRaw(p.Enc, p.KwArgs)
	}
}

func (f *form) writeRaw(enc wamp.Encoding, b []byte) {
	if c, ok := enc.(*codec); ok && c == f.w.codec {
		f.w.raw(b)
		return
	}
	f.w.foreign(b, enc)
}
