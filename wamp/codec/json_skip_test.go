package codec

import (
	"slices"
	"strings"
	"testing"
)

var skipSeeds = []string{
	`[]`, `{}`, `[1,2.5e3,"a\"b",null,true,false,-0]`, `{"a":{"b":[[],{}]},"c":""}`, ` [ 1 , { "a" : [ ] } ] x`,
	`[1,]`, `[,1]`, `{"a"}`, `{"a":1,}`, `{1:2}`, `[1}`, `{"a":1]`, `[`, `{`, `["`, `[01]`, `{"a":1,"b"`, `{"a"::1}`, `[1 2]`, `{,}`,
	`["\u0000QQ=="]`, `{"\u0000QQ==":1}`, "[\"\x00\"]", "[\"\xff\"]", `[[[[[[[[]]]]]]]]`, `{"a":{"a":{"a":{"a":{}}}}}`,
	strings.Repeat("[", 70) + strings.Repeat("]", 70), strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
}

// skipBoth compares the quick way with the reader's, token by token.
func skipBoth(t *testing.T, b []byte, depth, elements int) {
	t.Helper()
	depth, elements = 1+depth%100, 1+elements%1000
	if len(b) == 0 || b[0] != '[' && b[0] != '{' {
		return
	}
	var r reader
	r.init(jsonCodec, b, Limits{Depth: depth, Elements: elements})
	r.next()
	before := r.elements
	for r.depth > 0 && r.err == nil {
		r.next()
	}
	end, used, ok := skipJSON(b, 0, depth, before)
	switch {
	case ok && (r.err != nil || end != r.pos || used != before-r.elements):
		t.Fatalf("%q, depth %d, elements %d: skipped to %d with %d elements; the reader is at %d with %d, %v",
			b, depth, elements, end, used, r.pos, before-r.elements, r.err)
	case !ok && r.err == nil && depth <= 64:
		t.Fatalf("%q, depth %d, elements %d: not skipped, and the reader finds nothing wrong", b, depth, elements)
	}
}

func TestSkipJSON(t *testing.T) {
	for _, s := range skipSeeds {
		for _, depth := range []int{0, 1, 2, 3, 4, 7, 63, 98} {
			for _, elements := range []int{0, 1, 2, 3, 5, 998} {
				skipBoth(t, []byte(s), depth, elements)
				for cut := range len(s) {
					skipBoth(t, []byte(s[:cut]), depth, elements)
					skipBoth(t, slices.Concat([]byte(s[:cut]), []byte{'x'}, []byte(s[cut:])), depth, elements)
				}
			}
		}
	}
}

func FuzzSkipJSON(f *testing.F) {
	for _, s := range skipSeeds {
		f.Add([]byte(s), 63, 998)
	}
	f.Fuzz(func(t *testing.T, b []byte, depth, elements int) {
		if depth >= 0 && elements >= 0 {
			skipBoth(t, b, depth, elements)
		}
	})
}
