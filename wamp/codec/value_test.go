package codec_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// nasty are canonical values that must survive every way through the codecs.
func nasty() wamp.List {
	long := strings.Repeat("0123456789", 7000)
	many, wide := make(wamp.List, 70_000), wamp.Dict{}
	for i := range many {
		many[i] = int64(i)
	}
	for i := range 300 {
		wide[strings.Repeat("k", i)] = wamp.List{}
	}
	var deep any = "bottom"
	for range 30 {
		deep = wamp.Dict{"in": wamp.List{deep}}
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	l := wamp.List{
		nil, true, false, "", "a", long[:31], long[:32], long[:255], long[:256], long[:65535], long[:65536],
		"quote \" slash / \\ \b\f\n\r\t \x01\x1f \x7f", "\u00e9\u2028\U0001F600 \uFFFD \uFEFF", "a\x00b", "\ud7ff\ue000",
		[]byte{},
		[]byte{0},
		[]byte("text"), all, all[:255], bytes.Repeat(all, 256), bytes.Repeat(all, 300),
		0.0, math.Copysign(0, -1), 1.0, -1.0, 0.1, 1e6, 1e20, 1e21, 1e-7, 5e9, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi,
		float64(1 << 53), float64(1 << 63), float64(math.MaxUint32),
		uint64(1 << 63), uint64(math.MaxUint64),
		wamp.List{},
		wamp.Dict{},
		wamp.List{wamp.List{wamp.List{}}},
		wamp.Dict{"": wamp.Dict{"": nil}},
		many, wide, deep,
		wamp.Dict{"a\"b": int64(1), "\u00e9": "x", "\x00aGk=": "key, not binary"},
	}
	for _, n := range []int64{
		0, 1, 23, 24, 127, 128, 255, 256, 65535, 65536, math.MaxInt32, math.MaxUint32, math.MaxUint32 + 1,
		1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64,
	} {
		l = append(l, n, -n, -n-1)
	}
	for i := range 40 {
		l = append(l, make(wamp.List, i), wamp.Dict{long[:i]: int64(i)})
	}
	return l
}

// same is reflect.DeepEqual that tells 0 from -0.
func same(a, b any) bool {
	x, ok := a.(float64)
	y, ok2 := b.(float64)
	if ok && ok2 {
		return math.Float64bits(x) == math.Float64bits(y)
	}
	return reflect.DeepEqual(a, b)
}

// TestEveryPair takes each value through every pair of serializations and back.
func TestEveryPair(t *testing.T) {
	for _, v := range nasty() {
		for _, from := range codec.All() {
			raw, err := from.AppendValue(nil, v)
			if err != nil {
				t.Fatalf("%s: %v", from.Name(), err)
			}
			if have, err := from.DecodeValue(raw); err != nil || !same(have, v) {
				t.Errorf("%s: have %.200v (%T), %v\nwant %.200v (%T)", from.Name(), have, have, err, v, v)
			}
			args, _ := from.AppendValue(nil, wamp.List{v})
			for _, to := range codec.All() {
				p, err := codec.Transcode(wamp.Payload{Enc: from, Args: args}, to)
				if err != nil {
					t.Errorf("%s to %s: %.200v: %v", from.Name(), to.Name(), v, err)
					continue
				}
				have, _, err := p.Values()
				if err != nil || p.Enc != wamp.Encoding(to) || !same(have[0], v) {
					t.Errorf("%s to %s: have %.200v (%T), %v\nwant %.200v (%T)", from.Name(), to.Name(), have, have, err, v, v)
				}
				back, err := codec.Transcode(p, from)
				if err != nil || !bytes.Equal(back.Args, args) {
					t.Errorf("%s to %s and back: have %.200q, %v\nwant %.200q", from.Name(), to.Name(), back.Args, err, args)
				}
			}
		}
	}
}

// TestDecodeValue has forms that the codecs read and do not write.
func TestDecodeValue(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		c    codec.Codec
		raw  string // hexadecimal for the binary ones
		want any
	}{
		{codec.JSON, ` 1 `, int64(1)},
		{codec.JSON, `-0`, int64(0)},
		{codec.JSON, `-9223372036854775808`, int64(math.MinInt64)},
		{codec.JSON, `-9223372036854775809`, -9223372036854775809.0},
		{codec.JSON, `18446744073709551616`, 18446744073709551616.0},
		{codec.JSON, `1E2`, 100.0},
		{codec.JSON, `1e-400`, 0.0},
		{codec.JSON, `"\u00e9\uD83D\ude00\/\b"`, "\u00e9\U0001F600/\b"},
		{codec.JSON, `"\ud83d"`, "\uFFFD"},
		{codec.JSON, `"\ude00\ud83dx\ud83d\u0041"`, "\uFFFD\uFFFDx\uFFFDA"},
		{codec.JSON, `"\u0000EOP/kFMHXFJvX8BtT+N82w=="`, unhex(t, "10e3ff9053075c526f5fc06d4fe37cdb")},
		{codec.JSON, `"\u0000EOP\/kFMHXFJvX8BtT+N82w=="`, unhex(t, "10e3ff9053075c526f5fc06d4fe37cdb")},
		{codec.JSON, `"\u0000"`, []byte{}},
		{codec.JSON, `"\u0000not base64!"`, "\x00not base64!"},
		{codec.JSON, `"\u0000AA"`, "\x00AA"}, // no padding
		{codec.JSON, `{"\u0000AAAA":1}`, wamp.Dict{"\x00AAAA": int64(1)}},
		{codec.JSON, `{"a":1,"a":2}`, wamp.Dict{"a": int64(2)}},
		{codec.MessagePack, "ca3f800000", 1.0},
		{codec.MessagePack, "cb7ff8000000000000", nan},
		{codec.MessagePack, "d0ff", int64(-1)},
		{codec.MessagePack, "d37fffffffffffffff", int64(math.MaxInt64)},
		{codec.MessagePack, "c600000000", []byte{}},
		{codec.MessagePack, "d40000", nil}, // undefined, as msgpack5 and msgpackr write it
		{codec.MessagePack, "d6ff00000000", "1970-01-01T00:00:00Z"},
		{codec.MessagePack, "d7ff3b9ac9fc00000001", "1970-01-01T00:00:01.249999999Z"},
		{codec.MessagePack, "c70cff00000000fffffffffffffff6", "1969-12-31T23:59:50Z"},
		{codec.CBOR, "f97e00", nan},
		{codec.CBOR, "f93c00", 1.0},
		{codec.CBOR, "f90001", 0x1p-24},
		{codec.CBOR, "f9fbff", -65504.0},
		{codec.CBOR, "f9fc00", math.Inf(-1)},
		{codec.CBOR, "fa3f800000", 1.0},
		{codec.CBOR, "f7", nil},
		{codec.CBOR, "3b7fffffffffffffff", int64(math.MinInt64)},
		{codec.CBOR, "c249000000000000000101", int64(257)},
		{codec.CBOR, "c249008000000000000000", uint64(1 << 63)},
		{codec.CBOR, "c240", int64(0)},
		{codec.CBOR, "c3420100", int64(-257)},
		{codec.CBOR, "c074323032342d30352d30315431303a30303a30305a", "2024-05-01T10:00:00Z"},
		{codec.CBOR, "c11a66321ea0", int64(1714560672)},
		{codec.CBOR, "d8404401020304", []byte{1, 2, 3, 4}}, // a typed array, as cbor-x writes Uint8Array
		{codec.CBOR, "5f420102420304ff", []byte{1, 2, 3, 4}},
		{codec.CBOR, "7f61616162ff", "ab"},
		{codec.CBOR, "bf6161019f0102ffff", nil},
		{codec.CBOR, "bf61619f0102ffff", wamp.Dict{"a": wamp.List{int64(1), int64(2)}}},
	} {
		raw := []byte(test.raw)
		if test.c.Binary() {
			raw = unhex(t, test.raw)
		}
		have, err := test.c.DecodeValue(raw)
		if f, ok := test.want.(float64); ok && math.IsNaN(f) {
			if f, ok = have.(float64); !ok || !math.IsNaN(f) {
				t.Errorf("%s %s: have %v, %v", test.c.Name(), test.raw, have, err)
			}
			continue
		}
		if test.raw == "bf6161019f0102ffff" { // a list as a key
			if err == nil {
				t.Errorf("%s %s: accepted", test.c.Name(), test.raw)
			}
			continue
		}
		if err != nil || !same(have, test.want) {
			t.Errorf("%s %s: have %#v, %v, want %#v", test.c.Name(), test.raw, have, err, test.want)
		}
	}
}

// TestMalformed has what no decoder may accept.
func TestMalformed(t *testing.T) {
	for c, list := range map[codec.Codec][]string{
		codec.JSON: {
			``, ` `, `nul`, `nulL`, `truee`, `True`, `NaN`, `Infinity`, `-`, `+1`, `01`, `-01`, `1.`, `.5`, `1e`, `1e+`, `0x1`, `1 2`, `1,`,
			`"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u12G4"`, "\"\n\"", "\"\x00\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"12345678\xc3\"", "\"\xc0\x80\"", `'a'`,
			`[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `[1}`, `{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a" 1}`, `{a:1}`,
			`{1:1}`, `{"a":1]`, `{"a"}`, `{,}`, `{:1}`, `{"a":,}`, `[:1]`, `["a":1]`, `[] []`, "\ufeff1", "1\x00", `//1`, `[1/**/]`, "\v1", "1e999",
		},
		codec.MessagePack: {
			"", "c1", "91", "81", "81a161", "a2 61", "cc", "cd00", "ce000000", "cf00", "ca00", "cb00", "d9", "d902 61", "da00", "db0000", "c4", "c401", "c5 0001", "c6 0000 0001",
			"c7", "c701", "c70105", "c8 0001 05", "c9", "d4", "d400", "d8 00 00", "a1 ff", "a2 c080", "0000", "81 90 00", "81 80 00", "dc", "dc0001", "dd", "de0001", "df00000001 c0",
		},
		codec.CBOR: {
			"", "1c", "1d", "1e", "1f", "18", "19 00", "1a00", "1b00", "3f", "41", "58", "5b ffffffffffffffff", "61", "61ff", "62c080", "5f", "5f 00 ff", "5f 6161 ff", "5f 5f ff ff", "5f 41 ff",
			"7f 4161 ff", "7f 61c3 61a9 ff", "7f 6161", "81", "9f", "9f 00", "ff", "81ff", "a1", "a100", "bf 00", "bf 00 ff", "a1 80 00", "a1 a0 00", "c1", "c1 ff", "df", "9f c1 ff", "f8", "f800", "f81f",
			"f9 00", "fa 00", "fb 00", "fc", "fd", "fe", "0000", "9b ffffffffffffffff", "bb ffffffffffffffff", "c1c1c1c1c1c1c1c1c100",
		},
	} {
		for _, s := range list {
			raw := []byte(s)
			if c.Binary() {
				raw = unhex(t, s)
			}
			v, err := c.DecodeValue(raw)
			var bad *codec.Error
			if !errors.As(err, &bad) {
				t.Errorf("%s %q: have %v, %v, want a *codec.Error", c.Name(), s, v, err)
			} else if bad.Offset > len(raw) {
				t.Errorf("%s %q: offset %d", c.Name(), s, bad.Offset)
			}
			if p, err := codec.Transcode(wamp.Payload{Enc: c, Args: raw}, other(c)); err == nil && raw != nil {
				t.Errorf("%s %q: transcoded to %q", c.Name(), s, p.Args)
			}
		}
	}
}

// other is a codec that is not c.
func other(c codec.Codec) codec.Codec {
	if c == codec.JSON {
		return codec.CBOR
	}
	return codec.JSON
}

// TestLost has what is sound where it comes from and nowhere else: it passes
// to peers of the same serialization, and is an error for others.
func TestLost(t *testing.T) {
	for _, test := range []struct {
		from, to codec.Codec
		raw      string
		want     string
	}{
		{codec.MessagePack, codec.JSON, "cb7ff8000000000000", "NaN"},
		{codec.CBOR, codec.JSON, "f97c00", "+Inf"},
		{codec.CBOR, codec.JSON, "6100", "NUL"},
		{codec.MessagePack, codec.JSON, "a3007878", "NUL"},
		{codec.MessagePack, codec.JSON, "81 01 02", "an integer as the key"},
		{codec.MessagePack, codec.CBOR, "81 c0 02", "null as the key"},
		{codec.MessagePack, codec.CBOR, "81 c40161 02", "binary data as the key"},
		{codec.CBOR, codec.MessagePack, "a1 01 02", "an integer as the key"},
		{codec.MessagePack, codec.CBOR, "d40500", "extension type"},
		{codec.MessagePack, codec.JSON, "d7ffee6b280000000001", "extension type"}, // a timestamp with 10^9 nanoseconds
		{codec.CBOR, codec.MessagePack, "c249010000000000000000", "more than 64 bits"},
		{codec.CBOR, codec.JSON, "3bffffffffffffffff", "below -2^63"},
		{codec.CBOR, codec.JSON, "c348ffffffffffffffff", "below -2^63"},
		{codec.CBOR, codec.JSON, "f8ff", "simple value"},
		{codec.JSON, codec.CBOR, "1e999", "out of range"},
	} {
		raw := []byte(test.raw)
		if test.from.Binary() {
			raw = unhex(t, test.raw)
		}
		list, _ := test.from.AppendValue(nil, wamp.List{nil})
		raw = append(list[:len(list)-len(nullOf(test.from))], raw...)
		if test.from == codec.JSON {
			raw = append(raw, ']')
		}
		m := &wamp.Yield{Request: 1, Payload: wamp.Payload{Enc: test.from, Args: raw}}
		b, err := test.from.Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := test.from.Decode(b, codec.Limits{})
		if err != nil || !bytes.Equal(back.(*wamp.Yield).Args, raw) {
			t.Errorf("%s %s: does not pass: %v", test.from.Name(), test.raw, err)
		}
		_, err = test.to.Append(nil, m)
		var lost *codec.TranscodeError
		if !errors.As(err, &lost) || lost.From != test.from.Name() || lost.To != test.to.Name() || !strings.Contains(lost.Error(), test.want) {
			t.Errorf("%s %s to %s: have %v, want %q", test.from.Name(), test.raw, test.to.Name(), err, test.want)
		}
	}
}

func nullOf(c codec.Codec) []byte {
	if c == codec.JSON {
		return []byte("null]")
	}
	return []byte{0}
}

type reading struct {
	Value   float64   `json:"value"`
	Raw     []byte    `json:"raw"`
	Time    time.Time `json:"time"`
	Note    *string   `json:"note,omitempty"`
	Limits  []int     `json:"limits"`
	private int
}

type colour string

// TestGoValues: Go values beyond the canonical ones mean the same everywhere.
func TestGoValues(t *testing.T) {
	when := time.Date(2024, 5, 1, 10, 0, 0, 250e6, time.UTC)
	r := reading{Value: 1.5, Raw: []byte{1, 2}, Time: when, Limits: []int{-1, 300}, private: 1}
	want := wamp.Dict{"value": 1.5, "raw": []byte{1, 2}, "time": "2024-05-01T10:00:00.25Z", "limits": wamp.List{int64(-1), int64(300)}}
	for _, test := range []struct{ v, want any }{
		{r, want},
		{&r, want},
		{wamp.List{wamp.Dict{"r": []reading{r}}}, wamp.List{wamp.Dict{"r": wamp.List{want}}}},
		{map[string][]byte{"b": {7}}, wamp.Dict{"b": []byte{7}}},
		{[][]byte{{7}, {}}, wamp.List{[]byte{7}, []byte{}}},
		{map[string]int{"b": 2, "a": 1}, wamp.Dict{"a": int64(1), "b": int64(2)}},
		{wamp.List(nil), wamp.List{}},
		{wamp.Dict(nil), wamp.Dict{}},
		{[]byte(nil), []byte{}},
		{[]string(nil), wamp.List{}},
		{(*reading)(nil), nil},
		{(*int64)(nil), nil},
		{(*string)(nil), nil},
		{new(int64), int64(0)},
		{new(string), ""},
		{when, "2024-05-01T10:00:00.25Z"},
		{errors.New("broken"), "broken"},
		{colour("red"), "red"},
		{time.Second, int64(1e9)},
		{wamp.ID(5), int64(5)},
		{[]wamp.ID{6}, wamp.List{int64(6)}},
		{[]string{"a"}, wamp.List{"a"}},
		{map[string]string{"a": "b"}, wamp.Dict{"a": "b"}},
		{[]map[string]any{{"a": 1}}, wamp.List{wamp.Dict{"a": int64(1)}}},
		{[]float64{1, 2.5}, wamp.List{1.0, 2.5}},
		{float32(0.5), 0.5},
		{int8(-1), int64(-1)},
		{int16(-1), int64(-1)},
		{int32(-1), int64(-1)},
		{int(-1), int64(-1)},
		{uint8(1), int64(1)},
		{uint16(1), int64(1)},
		{uint32(1), int64(1)},
		{uint(1), int64(1)},
		{"bad \xff text", "bad \uFFFD text"},
	} {
		for _, c := range codec.All() {
			raw, err := c.AppendValue(nil, test.v)
			if err != nil {
				t.Errorf("%s %#v: %v", c.Name(), test.v, err)
				continue
			}
			if have, err := c.DecodeValue(raw); err != nil || !same(have, test.want) {
				t.Errorf("%s %#v: have %#v, %v, want %#v", c.Name(), test.v, have, err, test.want)
			}
		}
	}
}

func TestUnencodable(t *testing.T) {
	loop := wamp.List{nil}
	loop[0] = loop
	for _, c := range codec.All() {
		for _, v := range []any{make(chan int), wamp.List{func() {}}, wamp.Dict{"a": complex(1, 2)}, loop} {
			if b, err := c.AppendValue(nil, v); err == nil {
				t.Errorf("%s %T: encoded as %q", c.Name(), v, b)
			}
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), "\x00a", []float64{math.NaN()}, big.NewInt(0).Lsh(big.NewInt(1), 70)} {
		if b, err := codec.JSON.AppendValue(nil, v); err == nil {
			t.Errorf("JSON %v: encoded as %q", v, b)
		}
	}
}

func TestFloatsStayFloats(t *testing.T) {
	for v, want := range map[float64]string{
		1: "1.0", 0: "0.0", -3: "-3.0", 0.1: "0.1", 1e20: "100000000000000000000.0", 1e21: "1e+21", 1e-7: "1e-07", 5e9: "5000000000.0",
	} {
		if b, err := codec.JSON.AppendValue(nil, v); err != nil || string(b) != want {
			t.Errorf("have %s, %v, want %s", b, err, want)
		}
	}
}

func TestByName(t *testing.T) {
	for i, name := range []string{"json", "msgpack", "cbor"} {
		c, ok := codec.ByName(name)
		if !ok || c.Name() != name || c != codec.All()[i] || c.Binary() != (name != "json") {
			t.Errorf("%s: have %v, %v", name, c, ok)
		}
	}
	if c, ok := codec.ByName("ubjson"); ok {
		t.Errorf("have %v", c)
	}
}
