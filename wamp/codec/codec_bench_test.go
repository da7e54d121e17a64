package codec_test

import (
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// benchMessages are the frequent messages with a sensor reading as payload.
func benchMessages(tb testing.TB, c codec.Codec) []wamp.Message {
	tb.Helper()
	p, err := wamp.NewPayload(c, wamp.List{21.375}, wamp.Dict{"unit": "degC", "time": "2024-05-01T10:00:00.25Z", "seq": int64(40213), "quality": "good"})
	if err != nil {
		tb.Fatal(err)
	}
	return []wamp.Message{
		&wamp.Call{Request: 4711, Procedure: "com.example.relay1.set", Payload: p},
		&wamp.Result{Request: 4711, Payload: p},
		&wamp.Invocation{Request: 815, Registration: 1293722, Payload: p},
		&wamp.Yield{Request: 815, Payload: p},
		&wamp.Publish{Request: 12, Options: wamp.PublishOptions{Acknowledge: true}, Topic: "com.example.boiler.temperature", Payload: p},
		&wamp.Event{Subscription: 5512315355, Publication: 4429313566, Details: wamp.EventDetails{Topic: "com.example.boiler.temperature"}, Payload: p},
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range codec.All() {
		for _, m := range benchMessages(b, c) {
			b.Run(c.Name()+"/"+m.Kind().String(), func(b *testing.B) {
				b.ReportAllocs()
				var buf []byte
				for b.Loop() {
					var err error
					if buf, err = c.Append(buf[:0], m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range codec.All() {
		for _, m := range benchMessages(b, c) {
			b.Run(c.Name()+"/"+m.Kind().String(), func(b *testing.B) {
				b.ReportAllocs()
				raw, err := c.Append(nil, m)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := c.Decode(raw, codec.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkTranscode(b *testing.B) {
	for _, from := range codec.All() {
		for _, to := range codec.All() {
			if from == to {
				continue
			}
			b.Run(from.Name()+"-"+to.Name(), func(b *testing.B) {
				b.ReportAllocs()
				m := benchMessages(b, from)[5]
				var buf []byte
				for b.Loop() {
					var err error
					if buf, err = to.Append(buf[:0], m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecodeValue(b *testing.B) {
	for _, c := range codec.All() {
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			raw := benchMessages(b, c)[0].(*wamp.Call).KwArgs
			for b.Loop() {
				if _, err := c.DecodeValue(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendValue(b *testing.B) {
	v := wamp.Dict{"unit": "degC", "time": "2024-05-01T10:00:00.25Z", "seq": int64(40213), "quality": "good"}
	for _, c := range codec.All() {
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = c.AppendValue(buf[:0], v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLarge carries 64 KiB of arguments.
func BenchmarkLarge(b *testing.B) {
	numbers := make(wamp.List, 4000)
	for i := range numbers {
		numbers[i] = float64(i) * 1.5
	}
	text := make([]byte, 64<<10)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	for name, args := range map[string]wamp.List{"text": {string(text)}, "binary": {text}, "numbers": numbers} {
		for _, c := range codec.All() {
			p, err := wamp.NewPayload(c, args, nil)
			if err != nil {
				b.Fatal(err)
			}
			raw, err := c.Append(nil, &wamp.Yield{Request: 1, Payload: p})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(c.Name()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(raw)))
				for b.Loop() {
					if _, err := c.Decode(raw, codec.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLibraries decodes what BenchmarkDecodeValue does with the
// serializations' libraries, without the scan that they need beforehand.
func BenchmarkLibraries(b *testing.B) {
	for c, decode := range map[codec.Codec]func([]byte, any) error{
		codec.JSON: json.Unmarshal, codec.MessagePack: msgpack.Unmarshal, codec.CBOR: cbor.Unmarshal,
	} {
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			raw := benchMessages(b, c)[0].(*wamp.Call).KwArgs
			for b.Loop() {
				var v map[string]any
				if err := decode(raw, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
