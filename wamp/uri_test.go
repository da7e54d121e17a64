package wamp_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

func TestValidURI(t *testing.T) {
	long := strings.Repeat("a", wamp.MaxURI)
	for _, test := range []struct {
		uri           string
		loose, strict bool
	}{
		{"com.example.topic1", true, true},
		{"a", true, true},
		{"0.1_2", true, true},
		{long, true, true},
		{long + "a", false, false},
		{"", false, false},
		{".", false, false},
		{".a", false, false},
		{"a.", false, false},
		{"a..b", false, false},
		{"Com.Example", true, false},
		{"com.exämple", true, false},
		{"com.example.temp-1", true, false},
		{"com.example/topic+", true, false},
		{"com.\U0001F600", true, false},
		{"com.a b", false, false},
		{"com.a\tb", false, false},
		{"com.a\nb", false, false},
		{"com.a\x1fb", false, false},
		{"com.a\x00b", false, false},
		{"com.a#b", false, false},
		{"com.a\u00a0b", false, false},
		{"com.a\u0085b", false, false},
		{"com.a\u2003b", false, false},
		{"com.a\u2028b", false, false},
		{"com.a\u3000b", false, false},
		{"com.a\xffb", false, false},
		{"com.a\xc3", false, false},
		{"com.a\uFFFDb", false, false},
	} {
		if have := wamp.LooseURIs.ValidURI(test.uri); have != test.loose {
			t.Errorf("loose %.40q: have %t", test.uri, have)
		}
		if have := wamp.StrictURIs.ValidURI(test.uri); have != test.strict {
			t.Errorf("strict %.40q: have %t", test.uri, have)
		}
	}
}

func TestValidPattern(t *testing.T) {
	for _, test := range []struct {
		uri                     string
		exact, prefix, wildcard bool
	}{
		{"com.example", true, true, true},
		{"com.example.", false, true, true},
		{"com.exam", true, true, true},
		{"", false, true, true},
		{".", false, false, true},
		{"com..b", false, false, true},
		{"..b", false, false, true},
		{"com..", false, false, true},
		{"com.a b.", false, false, false},
		{"com.#", false, false, false},
	} {
		for match, want := range map[wamp.Match]bool{
			"": test.exact, wamp.MatchExact: test.exact, wamp.MatchPrefix: test.prefix, wamp.MatchWildcard: test.wildcard,
			"regex": false, "Exact": false,
		} {
			if have := wamp.LooseURIs.ValidPattern(test.uri, match); have != want {
				t.Errorf("loose %q as %q: have %t", test.uri, match, have)
			}
			if have := wamp.StrictURIs.ValidPattern(test.uri, match); have != want {
				t.Errorf("strict %q as %q: have %t", test.uri, match, have)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		match        wamp.Match
		pattern, uri string
		want         bool
	}{
		{"", "a.b", "a.b", true},
		{wamp.MatchExact, "a.b", "a.b.c", false},
		{wamp.MatchExact, "a.", "a.b", false},
		{wamp.MatchPrefix, "a.b", "a.b", true},
		{wamp.MatchPrefix, "a.b", "a.b.c", true},
		{wamp.MatchPrefix, "a.b", "a.bcd", true}, // a prefix is one of the string
		{wamp.MatchPrefix, "a.b.", "a.b", false},
		{wamp.MatchPrefix, "", "a", true},
		{wamp.MatchPrefix, "b", "a.b", false},
		{wamp.MatchWildcard, "a..c", "a.b.c", true},
		{wamp.MatchWildcard, "a..c", "a.b.d", false},
		{wamp.MatchWildcard, "a..c", "a.b.b.c", false},
		{wamp.MatchWildcard, "a..c", "a.c", false},
		{wamp.MatchWildcard, ".b", "a.b", true},
		{wamp.MatchWildcard, "a.", "a.b", true},
		{wamp.MatchWildcard, "a.", "a", false},
		{wamp.MatchWildcard, "..", "a.b.c", true},
		{wamp.MatchWildcard, "..", "a.b", false},
		{wamp.MatchWildcard, "a.b", "a.b", true},
		{wamp.MatchWildcard, "", "a", true},
		{wamp.MatchWildcard, "", "a.b", false},
		{"regex", ".*", "a", false},
	} {
		if have := test.match.Matches(test.pattern, test.uri); have != test.want {
			t.Errorf("%s %q matches %q: have %t", test.match.Normal(), test.pattern, test.uri, have)
		}
	}
}

func TestReserved(t *testing.T) {
	for uri, want := range map[string]bool{
		"wamp.session.count": true, "wamp.": true, "wamp": true, "wampum.a": false, "com.wamp.a": false, "": false,
	} {
		if have := wamp.Reserved(uri); have != want {
			t.Errorf("%q: have %t", uri, have)
		}
	}
}

// The regular expressions of the basic profile, "URIs".
var (
	loose      = regexp.MustCompile(`^([^\s\.#]+\.)*([^\s\.#]+)$`)
	looseEmpty = regexp.MustCompile(`^(([^\s\.#]+\.)|\.)*([^\s\.#]+)?$`)
	strict     = regexp.MustCompile(`^([0-9a-z_]+\.)*([0-9a-z_]+)$`)
)

// FuzzURI compares with the specification's expressions, within ASCII: there
// the meaning of \s is the same in all languages.
func FuzzURI(f *testing.F) {
	for _, uri := range []string{"com.example.a", "a..b", ".", "", "a.", "wamp.error", "a b", "\x1f", "é"} {
		f.Add(uri, "a")
	}
	f.Fuzz(func(t *testing.T, uri, pattern string) {
		for _, match := range []wamp.Match{wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard} {
			if !match.Matches(uri, uri) {
				t.Errorf("%s %q does not match itself", match, uri)
			}
			if match.Matches(pattern, uri) && match == wamp.MatchExact && pattern != uri {
				t.Errorf("%q matches %q", pattern, uri)
			}
		}
		if wamp.StrictURIs.ValidURI(uri) != (strict.MatchString(uri) && len(uri) <= wamp.MaxURI) {
			t.Errorf("strict %q", uri)
		}
		if !wamp.LooseURIs.ValidURI(uri) && wamp.StrictURIs.ValidURI(uri) {
			t.Errorf("%q is strict and not loose", uri)
		}
		if wamp.LooseURIs.ValidURI(uri) && !utf8.ValidString(uri) {
			t.Errorf("%q is not UTF-8", uri)
		}
		for i := range len(uri) {
			if uri[i] >= 0x80 || uri[i] < ' ' {
				return
			}
		}
		if len(uri) > wamp.MaxURI {
			return
		}
		if have, want := wamp.LooseURIs.ValidURI(uri), loose.MatchString(uri); have != want {
			t.Errorf("loose %q: have %t", uri, have)
		}
		if have, want := wamp.LooseURIs.ValidPattern(uri, wamp.MatchWildcard), looseEmpty.MatchString(uri); have != want {
			t.Errorf("loose wildcard %q: have %t", uri, have)
		}
	})
}
