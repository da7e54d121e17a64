package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func FuzzJSON(f *testing.F)        { fuzz(f, codec.JSON, jsonLibrary) }
func FuzzMessagePack(f *testing.F) { fuzz(f, codec.MessagePack, msgpackLibrary) }
func FuzzCBOR(f *testing.F)        { fuzz(f, codec.CBOR, cborLibrary) }

// fuzz checks a codec against itself, against the others and against the
// library of its serialization.
func fuzz(f *testing.F, c codec.Codec, library func([]byte) error) {
	for _, test := range messages {
		raw, err := c.Append(nil, test.m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	values := wamp.List{}
	for _, v := range nasty() {
		if raw, err := c.AppendValue(nil, v); err == nil && len(raw) < 300 {
			values = append(values, v)
			f.Add(raw)
		}
	}
	all, err := c.AppendValue(nil, wamp.List{48, 1, wamp.Dict{"x_all": values}, "a", values})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	for _, s := range []string{"[[[[[[", `{"a":`, `"\ud83d\ude00"`, "\xdd\x7f\xff\xff\xff\xc0", "\x91\x91\x91", "\x9f\x9f\xbf", "\x7f\x61a\xff", "\xd6\xff\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzzMessage(t, c, raw)
		fuzzValue(t, c, raw, library)
	})
}

// fuzzMessage: a decoded message is encoded, decoded and encoded again to the
// same bytes; and in the other serializations too, unless they cannot express
// its payload.
func fuzzMessage(t *testing.T, c codec.Codec, raw []byte) {
	m, err := c.Decode(bytes.Clone(raw), codec.Limits{})
	if err != nil {
		var bad *codec.Error
		if !errors.As(err, &bad) || m != nil || bad.Offset > len(raw) {
			t.Fatalf("have %v, %#v", m, err)
		}
		return
	}
	for _, to := range codec.All() {
		first, err := to.Append(nil, m)
		if err != nil {
			if to == c {
				t.Fatalf("encode again: %v", err)
			}
			continue
		}
		again, err := to.Decode(first, codec.Limits{})
		if err != nil {
			t.Fatalf("decode again as %s: %v: %q", to.Name(), err, first)
		}
		if again.Kind() != m.Kind() || to == c && !reflect.DeepEqual(again, m) && !hasNaN(raw) {
			t.Fatalf("have %+v\nwant %+v", again, m)
		}
		second, err := to.Append(nil, again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s: have %q, %v\nwant %q", to.Name(), second, err, first)
		}
	}
}

// hasNaN reports whether raw may contain a NaN, which equals nothing.
func hasNaN(raw []byte) bool { return hasByte(raw, 0xca, 0xcb, 0xf9, 0xfa, 0xfb) }

func hasByte(raw []byte, list ...byte) bool {
	for _, b := range list {
		if bytes.IndexByte(raw, b) >= 0 {
			return true
		}
	}
	return false
}

// fuzzValue: what is decoded, the library decodes as well; it is encoded to
// what is decoded to the same; and transcoded it means the same.
func fuzzValue(t *testing.T, c codec.Codec, raw []byte, library func([]byte) error) {
	v, err := c.DecodeValue(raw)
	if err != nil {
		return
	}
	if err := library(raw); err != nil {
		t.Fatalf("%q is accepted, but not by the library: %v", raw, err)
	}
	first, err := c.AppendValue(nil, v)
	if err != nil {
		// Text that begins with NUL can be read from JSON but not written.
		if c == codec.JSON && bytes.Contains(raw, []byte(`\u0000`)) {
			return
		}
		t.Fatal(err)
	}
	again, err := c.DecodeValue(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.AppendValue(nil, again)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("have %q, %v\nwant %q", second, err, first)
	}
	for _, to := range codec.All() {
		p, err := codec.Transcode(wamp.Payload{Enc: c, Args: raw}, to)
		if err != nil || to == c {
			continue
		}
		there, err := to.DecodeValue(p.Args)
		if err != nil {
			t.Fatalf("to %s: %v: %q", to.Name(), err, p.Args)
		}
		have, err := c.AppendValue(nil, there)
		if err != nil || !bytes.Equal(have, first) {
			t.Fatalf("through %s: have %q, %v\nwant %q", to.Name(), have, err, first)
		}
	}
}

func jsonLibrary(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	return d.Decode(&v)
}

func msgpackLibrary(raw []byte) error {
	d := msgpack.NewDecoder(bytes.NewReader(raw))
	_, err := d.DecodeInterface()
	// The library knows no extension type but the timestamp, and none as a key.
	if err != nil && hasByte(raw, 0xc7, 0xd4, 0xd6, 0xd7) {
		return nil
	}
	return err
}

var cborAny = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: 65535, TimeTag: cbor.DecTagIgnored}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func cborLibrary(raw []byte) error { return cborAny.Wellformed(raw) }

// TestLibraries: for what others encode, decoding agrees with the libraries.
func TestLibraries(t *testing.T) {
	v := wamp.Dict{
		"bin": []byte{0, 255}, "text": "\u00e9\"\n", "null": nil, "list": wamp.List{true, false, "x", wamp.Dict{}},
		"float": 1.5, "max": uint64(1<<64 - 1), "min": int64(-1 << 63), "int": int64(5), "half": 0.5,
	}
	raw, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := codec.MessagePack.DecodeValue(raw); err != nil || !reflect.DeepEqual(have, v) {
		t.Errorf("msgpack: have %#v, %v", have, err)
	}
	for _, o := range []cbor.EncOptions{{}, cbor.CTAP2EncOptions(), {ShortestFloat: cbor.ShortestFloat16}, {BigIntConvert: cbor.BigIntConvertNone}} {
		mode, err := o.EncMode()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = mode.Marshal(v); err != nil {
			t.Fatal(err)
		}
		if have, err := codec.CBOR.DecodeValue(raw); err != nil || !reflect.DeepEqual(have, v) {
			t.Errorf("cbor: have %#v, %v", have, err)
		}
	}
	// And what the codecs encode, the libraries decode to the same values.
	for _, c := range codec.All() {
		if raw, err = c.AppendValue(nil, v); err != nil {
			t.Fatal(err)
		}
		var have map[string]any
		switch c {
		case codec.JSON:
			err = json.Unmarshal(raw, &have)
			v["bin"] = "\x00AP8="
		case codec.MessagePack:
			err = msgpack.Unmarshal(raw, &have)
		case codec.CBOR:
			err = cbor.Unmarshal(raw, &have)
		}
		if err != nil || len(have) != len(v) || have["text"] != v["text"] || have["float"] != v["float"] || !reflect.DeepEqual(have["bin"], v["bin"]) {
			t.Errorf("%s: have %#v, %v", c.Name(), have, err)
		}
		v["bin"] = []byte{0, 255}
	}
}
