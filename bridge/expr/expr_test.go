package expr

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func scope() *Scope {
	doc := map[string]any{
		"ENERGY": map[string]any{"Power": 42.5, "Total": []any{int64(1), int64(2)}},
		"a-b":    "dash", "on": true, "big": int64(9007199254740993),
	}
	return &Scope{
		Doc: doc, Value: 21.5, Args: []any{21.5, "x"}, KwArgs: map[string]any{"unit": "Cel"}, Previous: int64(20),
		Topic: "tele/kitchen", URI: "site.kitchen", ID: "7", Now: time.UnixMilli(1_700_000_000_123),
		Capture: func(name string) (string, bool) { return "kitchen", name == "dev" },
	}
}

func isDev(name string) bool { return name == "dev" }

func TestPaths(t *testing.T) {
	for text, want := range map[string]any{
		"$.ENERGY.Power":    42.5,
		"$.ENERGY.Total[1]": int64(2),
		`$["a-b"]`:          "dash",
		`$['a-b']`:          "dash",
		"$value":            21.5,
		"$args[1]":          "x",
		"$kwargs.unit":      "Cel",
		"$id":               int64(7),
		"$topic":            "tele/kitchen",
		"$uri":              "site.kitchen",
		"$now":              "2023-11-14T22:13:20.123Z",
		"$now_ms":           int64(1_700_000_000_123),
		"$.none":            nil,
		"$.ENERGY.Total[2]": nil,
		"$.on.deeper":       nil,
		"$.none?":           nil,
	} {
		p, err := ParsePath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, ok := p.Get(scope()); got != want || ok != (want != nil) {
			t.Errorf("%s is %v, %v, want %v", text, got, ok, want)
		}
	}
	for text, want := range map[string]string{
		"ENERGY": "is no path", "$what": "not known", "$.": "needs a name", "$.a[": "index", "$.a[x]": "index", `$["a`: "not closed", "$.a b": "after the path",
		"$" + strings.Repeat(".a", 40): "deeper", "$." + strings.Repeat("a", 3000): "longer",
	} {
		if _, err := ParsePath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want an error with %q", text, err, want)
		}
	}
	p, _ := ParsePath("$.a.b")
	if got := p.Build(int64(1)); !p.Builds() || !reflect.DeepEqual(got, map[string]any{"a": map[string]any{"b": int64(1)}}) {
		t.Errorf("built %v", got)
	}
}

func TestConditions(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "false": false, "null": false, "1": false, "!null": true,
		"$value > 21": true, "$value >= 21.5 && $value <= 21.5": true, "$value < 21 || {dev} == 'kitchen'": true,
		"1 + 2 * 3 == 7": true, "(1 + 2) * 3 == 9": true, "7 % 4 == 3": true, "10 / 4 == 2.5": true, "-$value < 0": true, "1 - -1 == 2": true,
		"1 / 0 == null": true, "$.none > 1": false, "$.none == null": true, "$.none != 1": true, "$.on": true, "!$.on": false, "!!$.on": true,
		"$kwargs.unit == \"Cel\"": true, "'b' > 'a'": true, "'1' == 1": false, "'a' < 1": false, "1e3 == 1000": true, ".5 == 0.5": true,
		"abs($value - $previous) > 1": true, "abs($value - $previous) > 2": false, "abs('x') == null": true,
		"$.big == 9007199254740993": true, "$.big == 9007199254740992": false,
		"$.ENERGY.Total == $.ENERGY.Total": true, "$ == $": true, "$.ENERGY == $.on": false, `{dev} != "test" && $id == 7`: true,
		"true || $.none": true, "$value>3&&$value<30": true,
	} {
		c, err := ParseCondition(text, isDev)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Holds(scope()); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	for text, want := range map[string]string{
		"": "missing", "1 +": "missing", "(1": "not closed", "1 2": "makes no sense", "value > 1": "begins with $", "{x} == 1": "no capture",
		"$what": "not known", "0x10": "no number", "'a": "not closed", "abs": "needs its argument", "1 = 1": "makes no sense", "inf > 1": "not known",
		strings.Repeat("(", 100): "nested", strings.Repeat("!", 100): "nested", strings.Repeat("1+", 900) + "1": "too many", strings.Repeat(" ", 3000): "longer",
	} {
		if c, err := ParseCondition(text, isDev); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, %v, want an error with %q", text, c, err, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ in, want any }{
		{
			map[string]any{"v": "$args[0]", "ts": "$now_ms", "n": 1, "l": []any{true, nil, "x"}},
			map[string]any{"v": 21.5, "ts": int64(1_700_000_000_123), "n": int64(1), "l": []any{true, nil, "x"}},
		},
		{"{dev} is {$value} {$kwargs.unit}, {$.on}, {$id}", "kitchen is 21.5 Cel, true, 7"},
		{"$$value {{dev}", "$value {dev}"},
		{"$.none?", nil},
		{"<{$.none?}>", "<>"},
		{"$.ENERGY.Total", []any{int64(1), int64(2)}},
	} {
		tm, err := ParseTemplate(c.in, isDev)
		if err != nil {
			t.Errorf("%v: %v", c.in, err)
			continue
		}
		if got, err := tm.Build(scope()); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v builds %v (%v), want %v", c.in, got, err, c.want)
		}
	}
	for in, want := range map[any]string{"$what": "not known", "{x}": "no capture", "{$.a": "not closed", "{dev": "no capture", 1i: "complex128", strings.Repeat("x", 3000): "longer"} {
		if _, err := ParseTemplate(in, isDev); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want an error with %q", in, err, want)
		}
	}
	var deep any = "x"
	for range 50 {
		deep = []any{deep}
	}
	if _, err := ParseTemplate(deep, isDev); err == nil {
		t.Error("a deep template was taken")
	}
	for in, want := range map[string]string{"$.none": "no $.none", "{$.ENERGY}": "part of a text", "x{$.none}": "no $.none"} {
		tm, err := ParseTemplate(in, isDev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tm.Build(scope()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", in, err, want)
		}
	}
}

// FuzzExpr compiles anything, and runs what compiles.
func FuzzExpr(f *testing.F) {
	for _, s := range []string{"$.a[0].b", `$["x"]?`, "$value > 3 && {dev} != 'x'", "abs(-1) % 2 == 1", "a {dev} {$.x?} {{", "((((1", "!!-1", "$now", "1e309 > 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePath(s); err == nil {
			p.Get(scope())
			if q, err := ParsePath(p.String()); err != nil || !reflect.DeepEqual(p, q) {
				t.Errorf("%q reads as %q, which reads otherwise: %v", s, p, err)
			}
		}
		if c, err := ParseCondition(s, isDev); err == nil {
			if once, again := c.Holds(scope()), c.Holds(scope()); once != again {
				t.Errorf("%q holds and does not", s)
			}
		}
		if tm, err := ParseTemplate(s, isDev); err == nil {
			if v, err := tm.Build(scope()); err == nil && s != "" && s[0] != '$' && !strings.Contains(s, "{") && v != s {
				t.Errorf("%q builds %v", s, v)
			}
		}
	})
}
