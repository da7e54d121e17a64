package bridge

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// decode reads a payload into an event's.
func (c *payloadCodec) decode(b []byte) (wamp.Payload, error) {
	if len(b) == 0 {
		return wamp.Payload{}, nil
	}
	args, kwargs, err := c.read(b, &expr.Scope{})
	if err != nil {
		return wamp.Payload{}, err
	}
	return wamp.NewPayload(codec.CBOR, args, kwargs)
}

func codecOf(t testing.TB, typ, into string) *payloadCodec {
	t.Helper()
	c := Codec{Type: typ, True: "ON", False: "OFF"}
	p, err := newPayloadCodec(c, into, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCodecsThereAndBack reads payloads and writes them again.
func TestCodecsThereAndBack(t *testing.T) {
	cborMap := []byte{0xa1, 0x61, 'a', 0xf5}
	for _, c := range []struct {
		typ, into string
		payload   string
		args      wamp.List
		kwargs    wamp.Dict
		written   string // when it differs
	}{
		{"json", IntoArgs, `21.5`, wamp.List{21.5}, nil, ""},
		{"json", IntoArgs, `{"a":[1,null,"x"]}`, wamp.List{wamp.Dict{"a": wamp.List{int64(1), nil, "x"}}}, nil, ""},
		{"json", IntoArgs, `9007199254740993`, wamp.List{int64(9007199254740993)}, nil, ""},
		{"json", IntoKwArgs, `{"value":21.5}`, nil, wamp.Dict{"value": 21.5}, ""},
		{"json", IntoEnvelope, `{"args":[1,2],"kwargs":{"a":true}}`, wamp.List{int64(1), int64(2)}, wamp.Dict{"a": true}, ""},
		{"json", IntoEnvelope, `{"args":[1]}`, wamp.List{int64(1)}, nil, ""},
		{"auto", IntoArgs, `21.5`, wamp.List{21.5}, nil, ""},
		{"auto", IntoArgs, `ON`, wamp.List{"ON"}, nil, ""},
		{"auto", IntoArgs, `not json {`, wamp.List{"not json {"}, nil, ""},
		{"auto", IntoArgs, "\xff\x00\x01", wamp.List{[]byte("\xff\x00\x01")}, nil, ""},
		{"auto", IntoArgs, `"quoted"`, wamp.List{"quoted"}, nil, "quoted"},
		{"auto", IntoKwArgs, `{"a":1}`, nil, wamp.Dict{"a": int64(1)}, ""},
		{"text", IntoArgs, "Größe 5", wamp.List{"Größe 5"}, nil, ""},
		{"raw", IntoArgs, "\x00\xff", wamp.List{[]byte("\x00\xff")}, nil, ""},
		{"base64", IntoArgs, "AP8=", wamp.List{[]byte("\x00\xff")}, nil, ""},
		{"number", IntoArgs, "-12", wamp.List{int64(-12)}, nil, ""},
		{"number", IntoArgs, " 21.50 ", wamp.List{21.5}, nil, "21.5"},
		{"number", IntoArgs, "1e3", wamp.List{1000.0}, nil, "1000"},
		{"number", IntoArgs, "18446744073709551615", wamp.List{uint64(math.MaxUint64)}, nil, ""},
		{"bool", IntoArgs, "on", wamp.List{true}, nil, "ON"},
		{"bool", IntoArgs, "OFF", wamp.List{false}, nil, ""},
		{"cbor", IntoArgs, string(cborMap), wamp.List{wamp.Dict{"a": true}}, nil, ""},
		{"msgpack", IntoArgs, "\x93\x01\x02\x03", wamp.List{wamp.List{int64(1), int64(2), int64(3)}}, nil, ""},
	} {
		pc := codecOf(t, c.typ, c.into)
		p, err := pc.decode([]byte(c.payload))
		if err != nil {
			t.Errorf("%s into %s: decode %q: %v", c.typ, c.into, c.payload, err)
			continue
		}
		args, kwargs, err := p.Values()
		if err != nil || len(args)+len(c.args) > 0 && !reflect.DeepEqual(args, c.args) || len(kwargs)+len(c.kwargs) > 0 && !reflect.DeepEqual(kwargs, c.kwargs) {
			t.Errorf("%s into %s: %q is %v %v (%v), want %v %v", c.typ, c.into, c.payload, args, kwargs, err, c.args, c.kwargs)
		}
		want := c.written
		if want == "" {
			want = c.payload
		}
		if b, err := pc.encode(p, &expr.Scope{}); err != nil || string(b) != want {
			t.Errorf("%s into %s: writes %q (%v), want %q", c.typ, c.into, b, err, want)
		}
	}
}

func TestCodecsEmptyPayload(t *testing.T) {
	for _, typ := range []string{"auto", "json", "msgpack", "cbor", "text", "number", "bool", "base64", "raw"} {
		pc := codecOf(t, typ, IntoArgs)
		if p, err := pc.decode(nil); err != nil || p.Size() != 0 {
			t.Errorf("%s: an empty payload is %v, %v", typ, p, err)
		}
		if b, err := pc.encode(wamp.Payload{}, &expr.Scope{}); err != nil || len(b) != 0 {
			t.Errorf("%s: no arguments are written %q, %v", typ, b, err)
		}
	}
}

// TestReadings writes a device's reading in the forms that people expect.
func TestReadings(t *testing.T) {
	reading := payload(t, wamp.List{21.5}, wamp.Dict{"unit": "Cel", "seq": int64(7)})
	for _, c := range []struct{ typ, into, want string }{
		{"auto", IntoArgs, `21.5`},
		{"number", IntoArgs, `21.5`},
		{"text", IntoArgs, `21.5`},
		{"json", IntoKwArgs, `{"seq":7,"unit":"Cel","value":21.5}`},
		{"json", IntoEnvelope, `{"args":[21.5],"kwargs":{"seq":7,"unit":"Cel"}}`},
	} {
		b, err := codecOf(t, c.typ, c.into).encode(reading, &expr.Scope{})
		got, _ := codec.JSON.DecodeValue(b)
		want, _ := codec.JSON.DecodeValue([]byte(c.want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s into %s: %s (%v), want %s", c.typ, c.into, b, err, c.want)
		}
	}
}

func TestPayloadsThatCannotCross(t *testing.T) {
	for _, c := range []struct{ typ, into, payload, want string }{
		{"json", IntoArgs, `{"a":`, "json"},
		{"json", IntoArgs, `1 2`, "json"},
		{"json", IntoArgs, strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "json"},
		{"json", IntoKwArgs, `[1]`, "not an object"},
		{"json", IntoEnvelope, `{"args":1}`, "args is not a list"},
		{"json", IntoEnvelope, `{"kwargs":[]}`, "kwargs is not an object"},
		{"json", IntoEnvelope, `{"arg":[]}`, `not "arg"`},
		{"text", IntoArgs, "\xff", "UTF-8"},
		{"number", IntoArgs, "NaN", "no number"},
		{"number", IntoArgs, "1e999", "no number"},
		{"number", IntoArgs, "0x10", "no number"},
		{"bool", IntoArgs, "maybe", "neither"},
		{"base64", IntoArgs, "***", "base64"},
		{"msgpack", IntoArgs, "\xdd\x7f\xff\xff\xff\xc0", "msgpack"},
		{"cbor", IntoArgs, "\x9a\x7f\xff\xff\xff", "cbor"},
	} {
		if p, err := codecOf(t, c.typ, c.into).decode([]byte(c.payload)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: decode %q = %v, %v, want an error with %q", c.typ, clip(c.payload), p, err, c.want)
		}
	}
	for _, c := range []struct {
		typ, into string
		args      wamp.List
		kwargs    wamp.Dict
		want      string
	}{
		{"json", IntoArgs, nil, wamp.Dict{"a": true}, "into: kwargs"},
		{"json", IntoKwArgs, wamp.List{1.5}, wamp.Dict{"value": true}, "into: envelope"},
		{"number", IntoArgs, wamp.List{"x"}, nil, "a text is no number"},
		{"number", IntoArgs, wamp.List{int64(1), int64(2)}, nil, "a list is no number"},
		{"number", IntoArgs, wamp.List{math.Inf(1)}, nil, "no number"},
		{"bool", IntoArgs, wamp.List{int64(1)}, nil, "a number is no boolean"},
		{"raw", IntoArgs, wamp.List{true}, nil, "a boolean is no bytes"},
		{"text", IntoArgs, wamp.List{wamp.Dict{}}, nil, "a dictionary is no number"},
	} {
		if b, err := codecOf(t, c.typ, c.into).encode(payload(t, c.args, c.kwargs), &expr.Scope{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s into %s: encode %v %v = %q, %v, want an error with %q", c.typ, c.into, c.args, c.kwargs, b, err, c.want)
		}
	}
}

// FuzzCodecs feeds every codec whatever a device may send.
func FuzzCodecs(f *testing.F) {
	for _, s := range []string{"", "21.5", "ON", `{"args":[1],"kwargs":{}}`, "\xdd\x7f\xff\xff\xff\xc0", "\x9a\x7f\xff\xff\xff", "AP8=", "\x00"} {
		f.Add([]byte(s))
	}
	var codecs []*payloadCodec
	for _, typ := range []string{"auto", "json", "msgpack", "cbor"} {
		for _, into := range []string{IntoArgs, IntoKwArgs, IntoEnvelope} {
			codecs = append(codecs, codecOf(f, typ, into))
		}
	}
	for _, typ := range []string{"text", "number", "bool", "base64", "raw"} {
		codecs = append(codecs, codecOf(f, typ, IntoArgs))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		for _, pc := range codecs {
			p, err := pc.decode(b)
			if err != nil {
				continue
			}
			if _, err := pc.encode(p, &expr.Scope{}); err != nil {
				t.Errorf("%T into %s: %q can be read but not written: %v", pc.format, pc.into, b, err)
			}
		}
		if !bytes.Equal(b, before) {
			t.Error("the payload was written to")
		}
	})
}
