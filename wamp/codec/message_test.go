package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func ptr[T any](v T) *T { return &v }

// jsonPayload is a payload whose bytes are given.
func jsonPayload(args, kwargs string) wamp.Payload {
	p := wamp.Payload{Enc: codec.JSON, Args: []byte(args)}
	if kwargs != "" {
		p.KwArgs = []byte(kwargs)
	}
	return p
}

var ppt = wamp.Passthru{Scheme: "x_s", Serializer: "cbor", Cipher: "aes", KeyID: "k1"}

const pptJSON = `"ppt_scheme":"x_s","ppt_serializer":"cbor","ppt_cipher":"aes","ppt_keyid":"k1"`

// messages has every message, and every field of it, with its bytes in JSON.
var messages = []struct {
	json string
	m    wamp.Message
}{
	{`[1,"realm1",{"authid":"joe","roles":{"caller":{"features":{"call_timeout":true}}}}]`, &wamp.Hello{
		Realm: "realm1", Details: wamp.Dict{"authid": "joe", "roles": wamp.Dict{"caller": wamp.Dict{"features": wamp.Dict{"call_timeout": true}}}},
	}},
	{`[2,9007199254740992,{"roles":{"broker":{}}}]`, &wamp.Welcome{Session: 1 << 53, Details: wamp.Dict{"roles": wamp.Dict{"broker": wamp.Dict{}}}}},
	{`[3,{"message":"no such realm"},"wamp.error.no_such_realm"]`, &wamp.Abort{
		Details: wamp.Dict{"message": "no such realm"}, Reason: wamp.ErrNoSuchRealm,
	}},
	{`[3,{},"a.b",[1],{"k":2}]`, &wamp.Abort{Details: wamp.Dict{}, Reason: "a.b", Payload: jsonPayload(`[1]`, `{"k":2}`)}},
	{`[4,"wampcra",{"challenge":"x"}]`, &wamp.Challenge{AuthMethod: "wampcra", Extra: wamp.Dict{"challenge": "x"}}},
	{`[5,"signed+by/me==",{}]`, &wamp.Authenticate{Signature: "signed+by/me==", Extra: wamp.Dict{}}},
	{`[6,{},"wamp.close.normal"]`, &wamp.Goodbye{Details: wamp.Dict{}, Reason: wamp.CloseNormal}},
	{`[8,48,7814135,{},"com.myapp.error"]`, &wamp.ErrorMessage{Type: wamp.KindCall, Request: 7814135, URI: "com.myapp.error"}},
	{`[8,68,1,{` + pptJSON + `,"_why":"x"},"a.b",["gone"],{"code":3}]`, &wamp.ErrorMessage{
		Type: wamp.KindInvocation, Request: 1, URI: "a.b", Details: wamp.ErrorDetails{PPT: ppt, Extra: wamp.Dict{"_why": "x"}},
		Payload: jsonPayload(`["gone"]`, `{"code":3}`),
	}},
	{`[16,239714735,{},"com.myapp.mytopic1"]`, &wamp.Publish{Request: 239714735, Topic: "com.myapp.mytopic1"}},
	{`[16,1,{"acknowledge":true,"exclude_me":false,"disclose_me":true,"exclude":[7,8],"exclude_authid":["a"],"exclude_authrole":["b"],` +
		`"eligible":[],"eligible_authid":["c","d"],"eligible_authrole":[],"retain":true,"rkey":"r",` + pptJSON +
		`,"_secs":1.5,"x_origin":[null,{"a":-1}]},"t.o",[],{}]`, &wamp.Publish{
		Request: 1, Topic: "t.o", Payload: jsonPayload(`[]`, `{}`), Options: wamp.PublishOptions{
			Acknowledge: true, ExcludeMe: ptr(false), DiscloseMe: true, Exclude: []wamp.ID{7, 8},
			ExcludeAuthID: []string{"a"}, ExcludeAuthRole: []string{"b"}, Eligible: []wamp.ID{},
			EligibleAuthID: []string{"c", "d"}, EligibleAuthRole: []string{}, Retain: true, RKey: "r", PPT: ppt,
			Extra: wamp.Dict{"x_origin": wamp.List{nil, wamp.Dict{"a": int64(-1)}}, "_secs": 1.5},
		},
	}},
	{`[17,239714735,4429313566]`, &wamp.Published{Request: 239714735, Publication: 4429313566}},
	{`[32,1,{"match":"prefix","get_retained":true,"nkey":"n"},"a."]`, &wamp.Subscribe{
		Request: 1, Topic: "a.", Options: wamp.SubscribeOptions{Match: wamp.MatchPrefix, GetRetained: true, NKey: "n"},
	}},
	{`[33,713845233,5512315355]`, &wamp.Subscribed{Request: 713845233, Subscription: 5512315355}},
	{`[34,85346237,5512315355]`, &wamp.Unsubscribe{Request: 85346237, Subscription: 5512315355}},
	{`[35,85346237]`, &wamp.Unsubscribed{Request: 85346237}},
	{`[35,0,{"subscription":1293722,"reason":"no longer authorized"}]`, &wamp.Unsubscribed{
		Details: wamp.RevokedDetails{Subscription: 1293722, Reason: "no longer authorized"},
	}},
	{`[36,5512315355,4429313566,{},["Hello"]]`, &wamp.Event{
		Subscription: 5512315355, Publication: 4429313566, Payload: jsonPayload(`["Hello"]`, ""),
	}},
	{`[36,1,2,{"publisher":3,"publisher_authid":"a","publisher_authrole":"b","topic":"t.o","trustlevel":0,"retained":true,` + pptJSON + `}]`, &wamp.Event{
		Subscription: 1, Publication: 2, Details: wamp.EventDetails{
			Publisher: 3, PublisherAuthID: "a", PublisherAuthRole: "b", Topic: "t.o", TrustLevel: ptr(int64(0)), Retained: true, PPT: ppt,
		},
	}},
	{`[48,7814135,{"timeout":250,"receive_progress":true,"progress":true,"disclose_me":true,"runmode":"partition","rkey":"r",` + pptJSON + `},"a.b",[1]]`, &wamp.Call{
		Request: 7814135, Procedure: "a.b", Payload: jsonPayload(`[1]`, ""), Options: wamp.CallOptions{
			Timeout: 250, ReceiveProgress: true, Progress: true, DiscloseMe: true, RunMode: "partition", RKey: "r", PPT: ppt,
		},
	}},
	{`[49,7814135,{"mode":"killnowait"}]`, &wamp.Cancel{Request: 7814135, Options: wamp.CancelOptions{Mode: "killnowait"}}},
	{`[50,7814135,{"progress":true,"callee":9,"callee_authid":"a","callee_authrole":"b",` + pptJSON + `},[],{"x":1}]`, &wamp.Result{
		Request: 7814135, Payload: jsonPayload(`[]`, `{"x":1}`),
		Details: wamp.ResultDetails{Progress: true, Callee: 9, CalleeAuthID: "a", CalleeAuthRole: "b", PPT: ppt},
	}},
	{`[64,1,{"match":"wildcard","invoke":"roundrobin","concurrency":4,"disclose_caller":true,"force_reregister":true,"forward_timeout":true,"nkey":"n"},"a..b"]`, &wamp.Register{
		Request: 1, Procedure: "a..b", Options: wamp.RegisterOptions{
			Match: wamp.MatchWildcard, Invoke: "roundrobin", Concurrency: 4, DiscloseCaller: true, ForceReregister: true, ForwardTimeout: true, NKey: "n",
		},
	}},
	{`[65,25349185,2103333224]`, &wamp.Registered{Request: 25349185, Registration: 2103333224}},
	{`[66,788923562,2103333224]`, &wamp.Unregister{Request: 788923562, Registration: 2103333224}},
	{`[67,788923562]`, &wamp.Unregistered{Request: 788923562}},
	{`[67,0,{"registration":1293722,"reason":"moving"}]`, &wamp.Unregistered{Details: wamp.RevokedDetails{Registration: 1293722, Reason: "moving"}}},
	{`[68,6131533,9823526,{"caller":5,"caller_authid":"a","caller_authrole":"b","procedure":"p.q","trustlevel":-1,"timeout":9,"receive_progress":true,"progress":true,"rkey":"r",` + pptJSON + `},[true]]`, &wamp.Invocation{
		Request: 6131533, Registration: 9823526, Payload: jsonPayload(`[true]`, ""), Details: wamp.InvocationDetails{
			Caller: 5, CallerAuthID: "a", CallerAuthRole: "b", Procedure: "p.q", TrustLevel: ptr(int64(-1)), Timeout: 9,
			ReceiveProgress: true, Progress: true, RKey: "r", PPT: ppt,
		},
	}},
	{`[69,6131533,{"mode":"kill","reason":"wamp.error.timeout"}]`, &wamp.Interrupt{Request: 6131533, Options: wamp.InterruptOptions{Mode: "kill", Reason: wamp.ErrTimeout}}},
	{`[70,6131533,{"progress":true,` + pptJSON + `},[1.0]]`, &wamp.Yield{
		Request: 6131533, Options: wamp.YieldOptions{Progress: true, PPT: ppt}, Payload: jsonPayload(`[1.0]`, ""),
	}},
}

// TestMessages writes and reads every message in every serialization, with the
// payload in the same one and in another.
func TestMessages(t *testing.T) {
	seen := map[wamp.Kind]bool{}
	for _, test := range messages {
		seen[test.m.Kind()] = true
		b, err := codec.JSON.Append([]byte("before"), test.m)
		if err != nil || string(b) != "before"+test.json {
			t.Errorf("Append %s:\nhave %s, %v\nwant %s", test.m.Kind(), b, err, test.json)
		}
		m, err := codec.JSON.Decode([]byte(test.json), codec.Limits{})
		if err != nil || !reflect.DeepEqual(m, test.m) {
			t.Errorf("Decode %s:\nhave %+v, %v\nwant %+v", test.json, m, err, test.m)
		}
		for _, c := range codec.All() {
			b, err := c.Append(nil, test.m)
			if err != nil {
				t.Errorf("%s: %v", c.Name(), err)
				continue
			}
			m, err := c.Decode(b, codec.Limits{})
			if err != nil {
				t.Errorf("%s: %x: %v", c.Name(), b, err)
				continue
			}
			if b, err = codec.JSON.Append(nil, m); err != nil || string(b) != test.json {
				t.Errorf("through %s:\nhave %s, %v\nwant %s", c.Name(), b, err, test.json)
			}
		}
	}
	for k := range 256 {
		if name := wamp.Kind(k).String(); !seen[wamp.Kind(k)] && !strings.HasPrefix(name, "message type") {
			t.Errorf("%s is not tested", name)
		}
	}
}

// TestBinaryForms holds bytes that other implementations produce (the values
// are those of the specification's test vectors).
func TestBinaryForms(t *testing.T) {
	hello := []byte(`["Hello, event!"]`)
	m := &wamp.Event{Subscription: 9823526, Publication: 112233445566, Payload: wamp.Payload{Enc: codec.JSON, Args: hello}}
	for c, want := range map[codec.Codec]string{
		codec.MessagePack: "9524ce0095e526cf0000001a21a278be8091ad48656c6c6f2c206576656e7421",
		codec.CBOR:        "8518241a0095e5261b0000001a21a278bea0816d48656c6c6f2c206576656e7421",
	} {
		have, err := c.Append(nil, m)
		if err != nil || hex.EncodeToString(have) != want {
			t.Errorf("%s: have %x, %v\nwant %s", c.Name(), have, err, want)
		}
	}
}

// unhex decodes hexadecimal with spaces.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestLenientForms reads what is not the shortest form and yet right.
func TestLenientForms(t *testing.T) {
	call := &wamp.Call{Request: 1 << 33, Procedure: "a"}
	for _, test := range []struct {
		c    codec.Codec
		raw  []byte
		want wamp.Message
	}{
		{codec.JSON, []byte(" [ 48 ,\t8589934592 , { } ,\r\n\"\\u0061\" ] "), call},
		{codec.JSON, []byte(`[48,8589934592.0,{"timeout":null,"nested":{"a":[1,{}]},"\u0074imeout":0},"a"]`), call},
		// Integers above 32 bits as floats, as msgpackr and cbor-x write them.
		{codec.MessagePack, unhex(t, "94 30 cb4200000000000000 80 a161"), call},
		{codec.CBOR, unhex(t, "84 1830 fb4200000000000000 a0 6161"), call},
		{codec.MessagePack, unhex(t, "dd00000004 d230 0000 00 00"), nil},
		{codec.MessagePack, unhex(t, "dd00000004 cf0000000000000030 d30000000200000000 df00000000 db0000000161"), call},
		// Indefinite lengths, tags and a key in pieces.
		{codec.CBOR, unhex(t, "9f 1b0000000000000030 c2450200000000 bf 7f 6174 6869 6d656f7574 60 ff f7 ff d820 7f 60 6161 ff ff"), nil},
		{codec.CBOR, unhex(t, "d9d9f7 9f 1b0000000000000030 c2450200000000 bf 7f 6174 66696d656f7574 60 ff f7 ff d820 7f 60 6161 ff ff"), call},
		{codec.JSON, []byte(`[35,5,{"reason":"x"}]`), &wamp.Unsubscribed{Request: 5}},
	} {
		m, err := test.c.Decode(test.raw, codec.Limits{})
		if test.want == nil {
			if err == nil {
				t.Errorf("%s %x: accepted", test.c.Name(), test.raw)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(m, test.want) {
			t.Errorf("%s %q: have %+v, %v", test.c.Name(), test.raw, m, err)
		}
	}
}

// TestRefused gives wrong messages, each with what the error must say. They
// are written in JSON and tried in every serialization.
func TestRefused(t *testing.T) {
	for _, test := range []struct{ raw, want string }{
		{`{}`, "want a list"},
		{`"x"`, "want a list"},
		{`[]`, "empty list"},
		{`[null]`, "message type is null"},
		{`["48"]`, "message type is a string"},
		{`[-1]`, "message type is a negative integer"},
		{`[1.5]`, "message type is a float"},
		{`[0]`, "unknown message type 0"},
		{`[7,1]`, "unknown message type 7"},
		{`[255,1]`, "unknown message type 255"},
		{`[304,1]`, "unknown message type 304"},
		{`[48]`, "CALL ends before its request"},
		{`[48,1,{}]`, "CALL ends before its procedure"},
		{`[48,0,{},"a"]`, "request is an integer, want an integer from 1 to 2^53"},
		{`[48,-1,{},"a"]`, "CALL: request is a negative integer"},
		{`[48,1.5,{},"a"]`, "CALL: request is a float"},
		{`[48,1e300,{},"a"]`, "CALL: request is a float"},
		{`[48,9007199254740993,{},"a"]`, "CALL: request"},
		{`[48,18446744073709551615,{},"a"]`, "CALL: request"},
		{`[48,"1",{},"a"]`, "CALL: request is a string"},
		{`[48,null,{},"a"]`, "CALL: request is null"},
		{`[48,1,[],"a"]`, "CALL: options is a list, want a dictionary"},
		{`[48,1,null,"a"]`, "CALL: options is null"},
		{`[48,1,{},5]`, "CALL: procedure is an integer, want a string"},
		{`[48,1,{},["a"]]`, "CALL: procedure is a list"},
		{`[48,1,{},"a",{}]`, "CALL: arguments is a dictionary, want a list"},
		{`[48,1,{},"a",null]`, "CALL: arguments is null"},
		{`[48,1,{},"a",[],[]]`, "CALL: keyword arguments is a list, want a dictionary"},
		{`[48,1,{},"a",[],null]`, "CALL: keyword arguments is null"},
		{`[48,1,{},"a",[],{},1]`, "more elements than CALL has"},
		{`[48,1,{"timeout":"soon"},"a"]`, "CALL: options timeout is a string, want a non-negative integer"},
		{`[48,1,{"timeout":-5},"a"]`, "options timeout is a negative integer"},
		{`[48,1,{"timeout":0.5},"a"]`, "options timeout is a float"},
		{`[48,1,{"disclose_me":1},"a"]`, "options disclose_me is an integer, want a boolean"},
		{`[48,1,{"receive_progress":[[]]},"a"]`, "options receive_progress is a list"},
		{`[48,1,{"rkey":{}},"a"]`, "options rkey is a dictionary"},
		{`[48,1,{"ppt_scheme":false},"a"]`, "options ppt_scheme is a boolean"},
		{`[16,1,{"exclude":5},"a"]`, "options exclude is an integer, want a list"},
		{`[16,1,{"exclude":[1,0]},"a"]`, "options exclude is an integer, want an integer from 1"},
		{`[16,1,{"eligible":["a"]},"a"]`, "options eligible is a string"},
		{`[16,1,{"eligible_authid":[1]},"a"]`, "options eligible_authid is an integer, want a string"},
		{`[16,1,{"exclude_me":"no"},"a"]`, "options exclude_me is a string"},
		{`[36,1,2,{"publisher":0}]`, "EVENT: details publisher is an integer, want"},
		{`[36,1,2,{"trustlevel":"high"}]`, "details trustlevel is a string, want an integer"},
		{`[36,1,2,{"trustlevel":9223372036854775808}]`, "details trustlevel is an integer"},
		{`[36,0,2,{}]`, "EVENT: subscription"},
		{`[36,1,0,{}]`, "EVENT: publication"},
		{`[32,1,{"match":1},"a"]`, "options match is an integer"},
		{`[32,1,{},"a",[]]`, "more elements than SUBSCRIBE has"},
		{`[64,1,{"concurrency":-1},"a"]`, "options concurrency"},
		{`[33,1]`, "SUBSCRIBED ends before its subscription"},
		{`[33,0,1]`, "SUBSCRIBED: request"},
		{`[17,1,2,3]`, "more elements than PUBLISHED has"},
		{`[35,0]`, "UNSUBSCRIBED ends before its details"},
		{`[35,-1]`, "UNSUBSCRIBED: request is a negative integer"},
		{`[35,1,5]`, "UNSUBSCRIBED: details is an integer"},
		{`[67,0,{"registration":0}]`, "details registration"},
		{`[67,1,{},1]`, "more elements than UNREGISTERED has"},
		{`[8,48,0,{},"a"]`, "ERROR: request is an integer"},
		{`[8,50,1,{},"a"]`, "ERROR: request type is an integer, want the type of a request"},
		{`[8,304,1,{},"a"]`, "ERROR: request type"},
		{`[8,"48",1,{},"a"]`, "ERROR: request type is a string"},
		{`[1,5,{}]`, "HELLO: realm is an integer"},
		{`[1,"realm1"]`, "HELLO ends before its details"},
		{`[1,"realm1",[]]`, "HELLO: details is a list, want a dictionary"},
		{`[1,"realm1",{},{}]`, "more elements than HELLO has"},
		{`[2,0,{}]`, "WELCOME: session"},
		{`[3,"a",{}]`, "ABORT: details is a string"},
		{`[5,null,{}]`, "AUTHENTICATE: signature is null"},
		{`[6,{},7]`, "GOODBYE: reason is an integer"},
		{`[49,1]`, "CANCEL ends before its options"},
		{`[49,1,{"mode":2}]`, "CANCEL: options mode is an integer"},
		{`[69,1,{"reason":2}]`, "INTERRUPT: options reason is an integer"},
		{`[70,1,{"progress":null},"a"]`, "YIELD: arguments is a string"},
	} {
		v, err := codec.JSON.DecodeValue([]byte(test.raw))
		if err != nil {
			t.Fatal(test.raw, err)
		}
		for _, c := range codec.All() {
			raw, err := c.AppendValue(nil, v)
			if err != nil {
				t.Fatal(test.raw, err)
			}
			_, err = c.Decode(raw, codec.Limits{})
			var bad *codec.Error
			if !errors.As(err, &bad) {
				t.Errorf("%s %s: have %v, want a *codec.Error", c.Name(), test.raw, err)
				continue
			}
			if bad.Codec != c.Name() || !strings.Contains(bad.Error(), test.want) {
				t.Errorf("%s %s: have %q, want %q", c.Name(), test.raw, bad, test.want)
			}
		}
	}
}

// TestUnsendable: what must not reach the wire is an error on this side.
func TestUnsendable(t *testing.T) {
	foreign := wamp.Payload{Enc: fakeEncoding{codec.JSON}, Args: []byte("[]")}
	for _, test := range []struct {
		m    wamp.Message
		want string
	}{
		{&wamp.Call{Procedure: "a"}, "encode CALL as json: request is 0, want an integer from 1"},
		{&wamp.Subscribed{Request: 1, Subscription: 1<<53 + 1}, "subscription is 9007199254740993"},
		{&wamp.ErrorMessage{Type: wamp.KindHello, Request: 1, URI: "a"}, "request type is 1"},
		{&wamp.Call{Request: 1, Procedure: "a", Options: wamp.CallOptions{Extra: wamp.Dict{"timeout": 5}}}, `key "timeout" among the extra options`},
		{&wamp.Call{Request: 1, Procedure: "a", Payload: foreign}, "not one of the serializations"},
		{&wamp.Call{Request: 1, Procedure: "a", Payload: wamp.Payload{Args: []byte("[]")}}, "payload in no serialization"},
		{&wamp.Hello{Realm: "a", Details: wamp.Dict{"x": make(chan int)}}, "chan int"},
		{fakeMessage{}, "is not a message of this protocol"},
	} {
		if _, err := codec.JSON.Append(nil, test.m); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: have %v, want %q", test.m, err, test.want)
		}
	}
}

type fakeEncoding struct{ codec.Codec }

type fakeMessage struct{}

func (fakeMessage) Kind() wamp.Kind { return 99 }

// TestPayloadAliases: payloads of the same serialization are neither copied
// nor changed.
func TestPayloadAliases(t *testing.T) {
	raw := []byte(`[48,1,{},"a",[ 1 , 2.50 ],{ "k" : "\u00e9" }]`)
	m, err := codec.JSON.Decode(raw, codec.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	call := m.(*wamp.Call)
	if &call.Args[0] != &raw[bytes.IndexByte(raw, 'a')+3] || string(call.KwArgs) != `{ "k" : "\u00e9" }` {
		t.Errorf("have %s %s", call.Args, call.KwArgs)
	}
	if cap(call.Args) != len(call.Args) {
		t.Error("appending to the arguments would overwrite the message")
	}
	if b, err := codec.JSON.Append(nil, call); err != nil || !bytes.Equal(b, raw) {
		t.Errorf("have %s, %v", b, err)
	}
}

// TestAllocations: a frequent message costs itself and its URI, encoding and
// transcoding it cost nothing.
func TestAllocations(t *testing.T) {
	for _, c := range codec.All() {
		for _, m := range benchMessages(t, c) {
			raw, err := c.Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			want := 1.0
			switch m.(type) {
			case *wamp.Call, *wamp.Publish, *wamp.Event:
				want = 2 // the URI
			}
			if n := testing.AllocsPerRun(100, func() { _, err = c.Decode(raw, codec.Limits{}) }); n > want || err != nil {
				t.Errorf("%s: decoding %s allocates %v times, want %v (%v)", c.Name(), m.Kind(), n, want, err)
			}
			buf := make([]byte, 0, 1024)
			for _, to := range codec.All() {
				if n := testing.AllocsPerRun(100, func() { _, err = to.Append(buf, m) }); n > 0 || err != nil {
					t.Errorf("%s to %s: encoding %s allocates %v times (%v)", c.Name(), to.Name(), m.Kind(), n, err)
				}
			}
		}
	}
}
