package codec_test

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// A payload stays in the bytes it arrived in, until it is sent to a peer of
// another serialization.
func Example() {
	m, err := codec.JSON.Decode([]byte(`[16,1,{"acknowledge":true},"com.example.door",[true]]`), codec.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	publish := m.(*wamp.Publish)
	fmt.Printf("%s, acknowledge %t, arguments %s\n", publish.Topic, publish.Options.Acknowledge, publish.Args)

	event := &wamp.Event{Subscription: 7, Publication: 8, Payload: publish.Payload}
	b, err := codec.CBOR.Append(nil, event)
	fmt.Printf("%x %v\n", b, err)
	// Output:
	// com.example.door, acknowledge true, arguments [true]
	// 8518240708a081f5 <nil>
}

func ExampleTranscode() {
	p, _ := wamp.NewPayload(codec.MessagePack, wamp.List{[]byte{1, 2, 3}, 1.0, 1 << 60}, nil)
	p, err := codec.Transcode(p, codec.JSON)
	fmt.Printf("%s %v\n", p.Args, err)

	p = wamp.Payload{Enc: codec.MessagePack, Args: []byte{0x91, 0x81, 0x01, 0x02}} // [{1: 2}]
	_, err = codec.Transcode(p, codec.JSON)
	fmt.Println(err)
	// Output:
	// ["\u0000AQID",1.0,1152921504606846976] <nil>
	// payload in msgpack cannot be expressed in json: an integer as the key of a dictionary
}

func ExampleError() {
	_, err := codec.MessagePack.Decode([]byte{0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0}, codec.Limits{})
	fmt.Println(err)
	_, err = codec.JSON.Decode([]byte(`[48,1,{"timeout":"soon"},"com.example.relay"]`), codec.Limits{})
	fmt.Println(err)
	// Output:
	// msgpack at byte 0: declared length exceeds the bytes that are left
	// json at byte 23: CALL: options timeout is a string, want a non-negative integer
}
