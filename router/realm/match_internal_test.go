package realm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
)

type entry struct {
	match   wamp.Match
	pattern string
}

func (e *entry) String() string { return fmt.Sprintf("%s %q", e.match, e.pattern) }

// model is what index does, done the slow way.
type model map[entry]*entry

func (m model) matches(uri string) []*entry {
	var found []*entry
	for key, e := range m {
		if key.match.Matches(key.pattern, uri) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *entry) int {
		return compareRules(&Permission{URI: a.pattern, Match: a.match}, &Permission{URI: b.pattern, Match: b.match})
	})
	return found
}

func compareIndex(t *testing.T, x *index[entry], m model, uri string) {
	t.Helper()
	got, want := x.appendMatches(nil, uri), m.matches(uri)
	if !slices.Equal(got, want) {
		t.Fatalf("%q matches %v, want %v", uri, got, want)
	}
}

// TestIndexLikeModel puts, removes and looks up at random, with few names so
// that patterns overlap.
func TestIndexLikeModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	name := func(empty bool) string {
		names := []string{"a", "ab", "abc", "b", "ba", "c"}
		if empty && rng.IntN(3) == 0 {
			return ""
		}
		return names[rng.IntN(len(names))]
	}
	uri := func(empty bool) string {
		parts := make([]string, 1+rng.IntN(4))
		for i := range parts {
			parts[i] = name(empty)
		}
		return strings.Join(parts, ".")
	}
	var x index[entry]
	m := model{}
	for range 5_000 {
		e := entry{match: []wamp.Match{wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard}[rng.IntN(3)]}
		e.pattern = uri(e.match == wamp.MatchWildcard)
		if e.match == wamp.MatchPrefix {
			e.pattern = e.pattern[:rng.IntN(len(e.pattern)+1)]
		}
		switch rng.IntN(5) {
		case 0, 1:
			if m[e] == nil {
				m[e] = &e
				x.put(e.match, e.pattern, &e)
			}
		case 2, 3:
			delete(m, e)
			x.remove(e.match, e.pattern)
		}
		if got := x.get(e.match, e.pattern); got != m[e] {
			t.Fatalf("get(%v) = %v, want %v", &e, got, m[e])
		}
		compareIndex(t, &x, m, uri(false))
	}
	for e := range m {
		x.remove(e.match, e.pattern)
	}
	if len(x.exact) != 0 || x.prefix.entry != nil || len(x.prefix.next) != 0 ||
		x.wildcard.any != nil || len(x.wildcard.literal) != 0 {
		t.Errorf("an index that was emptied holds %+v", x)
	}
}

// FuzzIndex puts the lines of a text in as patterns and looks each up.
func FuzzIndex(f *testing.F) {
	f.Add("com.example.a\ncom..a\ncom.\n.\n", "com.example.a")
	f.Add("a\nab\nabc\n\n..\n", "abc")
	f.Fuzz(func(t *testing.T, patterns, uri string) {
		if !wamp.LooseURIs.ValidURI(uri) {
			return
		}
		var x index[entry]
		m := model{}
		for i, p := range strings.Split(patterns, "\n") {
			e := entry{match: []wamp.Match{wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard}[i%3], pattern: p}
			if m[e] != nil || !wamp.LooseURIs.ValidPattern(p, e.match) {
				continue
			}
			m[e] = &e
			x.put(e.match, p, &e)
			if x.get(e.match, p) != &e {
				t.Fatalf("%v is not found", &e)
			}
		}
		compareIndex(t, &x, m, uri)
		for e := range m {
			x.remove(e.match, e.pattern)
			delete(m, e)
			compareIndex(t, &x, m, uri)
		}
	})
}

func TestRadixUnder(t *testing.T) {
	var tree radix[string]
	keys := []string{"a", "a.b", "a.bc", "a.c", "b"}
	for _, k := range keys {
		tree.put(k, &k)
	}
	for prefix, want := range map[string][]string{
		"":      keys,
		"a":     {"a", "a.b", "a.bc", "a.c"},
		"a.":    {"a.b", "a.bc", "a.c"},
		"a.b":   {"a.b", "a.bc"},
		"a.bcd": nil,
		"a.x":   nil,
		"c":     nil,
	} {
		var got []string
		for _, e := range tree.appendUnder(nil, prefix) {
			got = append(got, *e)
		}
		if !slices.Equal(got, want) {
			t.Errorf("under %q: %q, want %q", prefix, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		rule, pattern entry
		want          bool
	}{
		{entry{"prefix", "com."}, entry{"prefix", "com.a"}, true},
		{entry{"prefix", "com.a"}, entry{"prefix", "com."}, false},
		{entry{"prefix", ""}, entry{"wildcard", "."}, true},
		{entry{"prefix", "com."}, entry{"wildcard", "com..a"}, true},
		{entry{"prefix", "com.x"}, entry{"wildcard", "com..a"}, false},
		{entry{"prefix", "com.a"}, entry{"wildcard", "com.ab"}, true},
		{entry{"wildcard", "com."}, entry{"prefix", "com."}, false},
		{entry{"wildcard", "com."}, entry{"wildcard", "com."}, true},
		{entry{"wildcard", "com..b"}, entry{"wildcard", "com.a.b"}, true},
		{entry{"wildcard", "com.a.b"}, entry{"wildcard", "com..b"}, false},
		{entry{"wildcard", "com."}, entry{"wildcard", "com.."}, false},
		{entry{"exact", "com.a"}, entry{"wildcard", "com.a"}, false},
	} {
		if got := covers(&Permission{URI: c.rule.pattern, Match: c.rule.match}, c.pattern.pattern, c.pattern.match); got != c.want {
			t.Errorf("%v covers %v: %v", &c.rule, &c.pattern, got)
		}
	}
}
