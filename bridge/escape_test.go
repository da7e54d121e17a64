package bridge

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

func TestEscaping(t *testing.T) {
	for _, c := range []struct{ level, loose, strict string }{
		{"temp", "temp", "temp"},
		{"", "%", "_"},
		{"%", "%25", "_25"},
		{"a.b", "a%2Eb", "a_2eb"},
		{"a b", "a%20b", "a_20b"},
		{"snake_case", "snake_case", "snake_5fcase"},
		{"Größe", "Größe", "_47r_c3_b6_c3_9fe"},
		{"\u00a0", "%C2%A0", "_c2_a0"},
		{"\u2028x", "%E2%80%A8x", "_e2_80_a8x"},
		{"tab\tx", "tab%09x", "tab_09x"},
		{"\ufffd", "%EF%BF%BD", "_ef_bf_bd"},
		{"{x}", "{x}", "_7bx_7d"},
		{"$state", "$state", "_24state"},
	} {
		for _, a := range []struct {
			alphabet *alphabet
			rule     wamp.URIRule
			want     string
		}{{&loose, wamp.LooseURIs, c.loose}, {&strict, wamp.StrictURIs, c.strict}} {
			got := string(a.alphabet.appendComponent(nil, c.level))
			if got != a.want {
				t.Errorf("%q is written %q, want %q", c.level, got, a.want)
			}
			if !a.rule.ValidURI(got) {
				t.Errorf("%q is written %q, which is no URI component", c.level, got)
			}
			if back, ok := a.alphabet.appendLevel(nil, got); !ok || string(back) != c.level {
				t.Errorf("%q reads back as %q, %v", got, back, ok)
			}
		}
	}
}

func TestComponentsOutsideTheImage(t *testing.T) {
	for _, c := range []string{
		"", "a/b", "a+b", "%4", "%zz", "a%", "%41", "%2e", "%2F", "%2B", "%23", "%00", "%FF", "%C3", "a b", "%%", "%25%",
		"\u00a0", "x\ufffd",
	} {
		if got, ok := loose.appendLevel(nil, c); ok {
			t.Errorf("%q reads as %q, want it refused", c, got)
		}
	}
	for _, c := range []string{"", "A", "a-b", "_2E", "_61", "_2", "_2f"} {
		if got, ok := strict.appendLevel(nil, c); ok {
			t.Errorf("strict: %q reads as %q, want it refused", c, got)
		}
	}
}

// FuzzEscape checks both directions: a level survives the way there and back,
// and a component that is accepted is the only one for its level.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "a.b%c d", "%", "%25", "%2e", "_5f", "Größe", "\u2028", "\xff", "a/b", "{x...}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for rule, a := range map[wamp.URIRule]*alphabet{wamp.LooseURIs: &loose, wamp.StrictURIs: &strict} {
			if utf8.ValidString(s) && !strings.ContainsAny(s, "/+#\x00") && len(s) < 200 {
				c := string(a.appendComponent(nil, s))
				if !rule.ValidURI(c) || strings.Contains(c, ".") {
					t.Fatalf("%q is written %q, which is no component", s, c)
				}
				if back, ok := a.appendLevel(nil, c); !ok || string(back) != s {
					t.Fatalf("%q is written %q, which reads %q, %v", s, c, back, ok)
				}
			}
			if level, ok := a.appendLevel(nil, s); ok {
				if c := string(a.appendComponent(nil, string(level))); c != s {
					t.Fatalf("%q reads %q, which is written %q", s, level, c)
				}
			}
		}
	})
}
