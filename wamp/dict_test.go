package wamp_test

import (
	"errors"
	"math"
	"testing"

	"github.com/postern-iot/postern/wamp"
)

func TestToInt(t *testing.T) {
	for _, test := range []struct {
		v    any
		want int64
		ok   bool
	}{
		{int64(-5), -5, true},
		{5, 5, true},
		{uint64(5), 5, true},
		{wamp.ID(5), 5, true},
		{uint(5), 5, true},
		{int32(-5), -5, true},
		{uint32(5), 5, true},
		{int16(-5), -5, true},
		{uint16(5), 5, true},
		{int8(-5), -5, true},
		{uint8(5), 5, true},
		{5.0, 5, true},
		{math.Copysign(0, -1), 0, true},
		{float64(1 << 53), 1 << 53, true},
		{float64(math.MinInt64), math.MinInt64, true},
		{uint64(math.MaxInt64), math.MaxInt64, true},
		{uint64(math.MaxInt64) + 1, 0, false},
		{wamp.ID(math.MaxUint64), 0, false},
		{5.5, 0, false},
		{1e300, 0, false},
		{float64(1 << 63), 0, false},
		{math.NaN(), 0, false},
		{math.Inf(1), 0, false},
		{nil, 0, false},
		{"5", 0, false},
		{true, 0, false},
		{wamp.List{int64(5)}, 0, false},
	} {
		if have, ok := wamp.ToInt(test.v); ok != test.ok || ok && have != test.want {
			t.Errorf("%T(%v): have %d, %t", test.v, test.v, have, ok)
		}
	}
}

func TestToFloat(t *testing.T) {
	for _, test := range []struct {
		v    any
		want float64
		ok   bool
	}{
		{1.5, 1.5, true},
		{float32(0.5), 0.5, true},
		{int64(-3), -3, true},
		{uint64(math.MaxUint64), math.MaxUint64, true},
		{7, 7, true},
		{uint16(7), 7, true},
		{nil, 0, false},
		{"1.5", 0, false},
		{false, 0, false},
	} {
		if have, ok := wamp.ToFloat(test.v); have != test.want || ok != test.ok {
			t.Errorf("%T(%v): have %v, %t", test.v, test.v, have, ok)
		}
	}
}

func TestLookups(t *testing.T) {
	d := wamp.Dict{"s": "text", "b": true, "n": 3.0, "l": wamp.List{1}, "d": wamp.Dict{"in": "side"}}
	if wamp.AsString(d, "s") != "text" || wamp.AsString(d, "b") != "" || wamp.AsString(nil, "s") != "" {
		t.Error("AsString")
	}
	if !wamp.AsBool(d, "b") || wamp.AsBool(d, "n") || wamp.AsBool(d, "gone") {
		t.Error("AsBool")
	}
	if n, ok := wamp.AsInt(d, "n"); n != 3 || !ok {
		t.Error("AsInt")
	}
	if len(wamp.AsList(d, "l")) != 1 || wamp.AsList(d, "d") != nil {
		t.Error("AsList")
	}
	if wamp.AsString(wamp.AsDict(d, "d"), "in") != "side" || wamp.AsString(wamp.AsDict(d, "gone"), "in") != "" {
		t.Error("AsDict")
	}
}

func TestNames(t *testing.T) {
	if wamp.KindHello.String() != "HELLO" || wamp.Kind(7).String() != "message type 7" {
		t.Error("Kind.String")
	}
	if wamp.ID(0).Valid() || !wamp.ID(1).Valid() || !wamp.MaxID.Valid() || (wamp.MaxID + 1).Valid() {
		t.Error("ID.Valid")
	}
	if wamp.Match("").Normal() != wamp.MatchExact || wamp.MatchPrefix.Normal() != wamp.MatchPrefix {
		t.Error("Match.Normal")
	}
}

func TestError(t *testing.T) {
	for want, err := range map[string]*wamp.Error{
		"a.b":           {URI: "a.b"},
		"a.b: 5":        wamp.Errorf("a.b", "%d", 5),
		"a.b: x, <nil>": {URI: "a.b", Args: wamp.List{"x", nil}},
	} {
		var as *wamp.Error
		if err.Error() != want || !errors.As(error(err), &as) {
			t.Errorf("have %q, want %q", err, want)
		}
	}
}
