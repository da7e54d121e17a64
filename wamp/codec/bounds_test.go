package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestBombs gives small or nested inputs that claim to be huge, as a whole
// message, as details, as an extra option and as a payload. All are refused
// without memory by what they claim.
func TestBombs(t *testing.T) {
	const mega = 1 << 20
	repeat := func(s string, n int) string { return strings.Repeat(s, n) }
	for _, test := range []struct {
		c    codec.Codec
		name string
		raw  string
	}{
		{codec.MessagePack, "array32", "\xdd\x7f\xff\xff\xff\xc0"},
		{codec.MessagePack, "array32 -1", "\xdd\xff\xff\xff\xff\xc0"},
		{codec.MessagePack, "map32", "\xdf\x7f\xff\xff\xff"},
		{codec.MessagePack, "map32 with one entry", "\xdf\x7f\xff\xff\xff\xa1a\xc0"},
		{codec.MessagePack, "bin32", "\xc6\x7f\xff\xff\xff"},
		{codec.MessagePack, "str32", "\xdb\xff\xff\xff\xffabc"},
		{codec.MessagePack, "ext32", "\xc9\xff\xff\xff\xff\x01"},
		{codec.MessagePack, "array16 in array16", repeat("\xdc\xff\xff", mega/3)},
		{codec.MessagePack, "array16 in array16, filled", repeat("\xdc\xff\xff", 60) + repeat("\xc0", mega)},
		{codec.MessagePack, "nested", repeat("\x91", mega)},
		{codec.MessagePack, "nested maps", repeat("\x81\xa0", mega/2)},
		{codec.MessagePack, "too many", "\xdd\x00\x0f\x42\x40" + repeat("\xc0", 1_000_000)},
		{codec.MessagePack, "too many in all", "\xdc\x03\xe8" + repeat("\xdc\x03\xe8"+repeat("\x00", 1000), 1000)},
		{codec.CBOR, "array of 2^31", "\x9a\x7f\xff\xff\xff\xf6"},
		{codec.CBOR, "array of 2^64-1", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{codec.CBOR, "array of 2^64-2", "\x9b\xff\xff\xff\xff\xff\xff\xff\xfe"},
		{codec.CBOR, "map of 2^63", "\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x00"},
		{codec.CBOR, "bytes of 2^63", "\x5b\x80\x00\x00\x00\x00\x00\x00\x00"},
		{codec.CBOR, "text of 2^31", "\x7a\x7f\xff\xff\xffabc"},
		{codec.CBOR, "array in array", repeat("\x99\xff\xff", mega/3)},
		{codec.CBOR, "nested", repeat("\x81", mega)},
		{codec.CBOR, "nested, indefinite", repeat("\x9f", mega)},
		{codec.CBOR, "nested maps, indefinite", repeat("\xbf\x60", mega/2)},
		{codec.CBOR, "tags", repeat("\xc6", mega)},
		{codec.CBOR, "strings in strings", repeat("\x7f", mega)},
		{codec.CBOR, "too many", "\x9f" + repeat("\xf6", mega) + "\xff"},
		{codec.JSON, "nested", repeat("[", mega)},
		{codec.JSON, "nested and closed", repeat("[", mega/2) + repeat("]", mega/2)},
		{codec.JSON, "nested objects", repeat(`{"":`, mega/4)},
		{codec.JSON, "too many", "[" + repeat("0,", mega/2) + "0]"},
		{codec.JSON, "too many entries", "{" + repeat(`"":0,`, mega/4) + `"":0}`},
	} {
		t.Run(test.c.Name()+" "+test.name, func(t *testing.T) {
			for where, raw := range inMessages(t, test.c, []byte(test.raw)) {
				var m wamp.Message
				var err error
				n := allocated(func() { m, err = test.c.Decode(raw, codec.Limits{}) })
				var bad *codec.Error
				if !errors.As(err, &bad) {
					t.Fatalf("as %s: have %v, %v", where, m, err)
				}
				// What was well formed up to the bound may have been built, if
				// it is no payload: a budget of 100,000 interfaces and maps.
				if limit := uint64(16 << 20); n > limit || len(raw) < 1000 && n > 16<<10 || where == "payload" && n > 16<<10 {
					t.Errorf("as %s: allocates %d bytes", where, n)
				}
			}
			n := allocated(func() {
				if v, err := test.c.DecodeValue([]byte(test.raw)); err == nil {
					t.Errorf("have %T", v)
				}
			})
			if n > 16<<20 {
				t.Errorf("as a value: allocates %d bytes", n)
			}
			// Transcoding allocates its output and nothing by claim.
			n = allocated(func() {
				p := wamp.Payload{Enc: test.c, Args: []byte(test.raw)}
				_, _ = codec.Transcode(p, codec.MessagePack)
				_, _ = codec.Transcode(p, codec.JSON)
			})
			if n > 32<<20 {
				t.Errorf("transcoding allocates %d bytes", n)
			}
		})
	}
}

// inMessages puts raw where a message has room for any value.
func inMessages(t *testing.T, c codec.Codec, raw []byte) map[string][]byte {
	t.Helper()
	const hole = "a hole to fill"
	str, err := c.AppendValue(nil, hole)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"message": raw}
	for where, v := range map[string]wamp.List{
		"details": {1, "realm1", wamp.Dict{"a": hole}},
		"extra":   {48, 1, wamp.Dict{"x_a": hole}, "a"},
		"unknown": {48, 1, wamp.Dict{"other": hole}, "a"},
		"field":   {16, 1, wamp.Dict{"eligible": hole}, "a"},
		"payload": {48, 1, wamp.Dict{}, "a", wamp.List{hole}},
	} {
		b, err := c.AppendValue(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		out[where] = bytes.Replace(b, str, raw, 1)
	}
	return out
}

// TestLimits goes to each bound and one past it.
func TestLimits(t *testing.T) {
	nest := func(n int) any {
		var v any = wamp.List{}
		for range n - 1 {
			v = wamp.List{v}
		}
		return v
	}
	for _, c := range codec.All() {
		for _, test := range []struct {
			lim  codec.Limits
			args any
			ok   bool
		}{
			{codec.Limits{}, nest(63), true}, // the message's list is one more
			{codec.Limits{}, nest(64), false},
			{codec.Limits{Depth: 3}, nest(2), true},
			{codec.Limits{Depth: 3}, nest(3), false},
			{codec.Limits{Depth: 200}, nest(199), true},
			{codec.Limits{Depth: 200}, nest(200), false},
			{codec.Limits{Depth: 1 << 30}, nest(999), true},
			{codec.Limits{Depth: 1 << 30}, nest(1000), false},
			// The message itself is five values: type, request, options, URI, arguments.
			{codec.Limits{}, make(wamp.List, 100_000-5), true},
			{codec.Limits{}, make(wamp.List, 100_000-4), false},
			{codec.Limits{Elements: 9}, wamp.List{1, wamp.Dict{"a": 1, "b": 2}}, true},
			{codec.Limits{Elements: 9}, wamp.List{1, wamp.Dict{"a": 1, "b": 2, "c": 3}}, false},
			{codec.Limits{Elements: 1 << 40}, make(wamp.List, 200_000), true},
		} {
			args, err := c.AppendValue(nil, test.args)
			if err != nil {
				t.Fatal(err)
			}
			m := &wamp.Call{Request: 1, Procedure: "a", Payload: wamp.Payload{Enc: c, Args: args}}
			raw, err := c.Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			back, err := c.Decode(raw, test.lim)
			if (err == nil) != test.ok {
				t.Errorf("%s %+v with %.40s…: %v", c.Name(), test.lim, fmt.Sprint(test.args), err)
			}
			if err != nil {
				continue
			}
			// Whatever was let in can be transcoded.
			if _, err := other(c).Append(nil, back); err != nil {
				t.Errorf("%s %+v: %v", c.Name(), test.lim, err)
			}
		}
	}
}

// TestCutOff cuts and damages messages at every byte.
func TestCutOff(t *testing.T) {
	for _, c := range codec.All() {
		for _, test := range messages {
			raw, err := c.Append(nil, test.m)
			if err != nil {
				t.Fatal(err)
			}
			for i := range raw {
				if m, err := c.Decode(raw[:i:i], codec.Limits{}); err == nil {
					t.Errorf("%s: %q cut to %d bytes reads as %+v", c.Name(), raw, i, m)
				}
			}
			if m, err := c.Decode(append(raw[:len(raw):len(raw)], '0'), codec.Limits{}); err == nil {
				t.Errorf("%s: %q with a byte more reads as %+v", c.Name(), raw, m)
			}
			for i := range raw {
				for _, flip := range []byte{1, 0x20, 0x80, 0xff} {
					bad := bytes.Clone(raw)
					bad[i] ^= flip
					if m, err := c.Decode(bad, codec.Limits{}); (m == nil) == (err == nil) {
						t.Errorf("%s %q: have %v, %v", c.Name(), bad, m, err)
					}
				}
			}
		}
	}
}
