package bridge

import (
	"strings"
	"testing"
)

func mustPattern(t *testing.T, text, sep string) pattern {
	t.Helper()
	p, err := parsePattern(text, sep)
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return p
}

func TestParsePatternErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "empty",
		"a/{b":                                "write a capture",
		"a/x{b}":                              "whole level",
		"a/{}":                                "write a capture",
		"a/{b-c}":                             "write a capture",
		"a/{b}/{b}":                           "twice",
		"a/{b...}/c":                          "after {b...}",
		"{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}": "more than 8",
	} {
		if _, err := parsePattern(text, "/"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parsePattern(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

func TestOverlapsAndCovers(t *testing.T) {
	for _, c := range []struct {
		a, b            string
		overlap, aCover bool
		bCover          bool
	}{
		{"a/b", "a/b", true, true, true},
		{"a/b", "a/c", false, false, false},
		{"a/{x}", "a/b", true, true, false},
		{"a/{x}", "{y}/b", true, false, false},
		{"a/{x...}", "a", true, true, false},
		{"a/{x...}", "a/b/c", true, true, false},
		{"a/{x...}", "b/{x...}", false, false, false},
		{"{x...}", "a/{y}/c", true, true, false},
		{"{x...}", "$SYS/{y...}", false, false, false},
		{"{x}/b", "$SYS/b", false, false, false},
		{"$SYS/{x...}", "$SYS/a", true, true, false},
		{"a/{x}", "a/b/c", false, false, false},
		{"a/{x}/{y...}", "a/{z...}", true, false, true},
	} {
		a, b := mustPattern(t, c.a, "/"), mustPattern(t, c.b, "/")
		if got := a.overlaps(b); got != c.overlap {
			t.Errorf("%q overlaps %q = %v", c.a, c.b, got)
		}
		if got := b.overlaps(a); got != c.overlap {
			t.Errorf("%q overlaps %q = %v", c.b, c.a, got)
		}
		if got := a.covers(b); got != c.aCover {
			t.Errorf("%q covers %q = %v", c.a, c.b, got)
		}
		if got := b.covers(a); got != c.bCover {
			t.Errorf("%q covers %q = %v", c.b, c.a, got)
		}
	}
}

func TestFilterMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/+", "a", false},
		{"a/+", "a/", true},
		{"a/+/c", "a//c", true},
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"+/+", "/a", true},
		{"+", "/a", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
	} {
		if got := (Filter{Topic: c.filter}).Matches(c.topic); got != c.want {
			t.Errorf("%q matches %q = %v", c.filter, c.topic, got)
		}
	}
}
