package bridge

import (
	"fmt"
	"strings"
)

// maxCaptures bounds the captures of one pattern.
const maxCaptures = 8

type segmentKind uint8

const (
	literal segmentKind = iota
	single              // {x}: one level or component
	rest                // {x...}: what remains, nothing included
)

type segment struct {
	kind segmentKind
	text string // of a literal, or the capture's name
	slot int    // where a map keeps the capture
}

// pattern is a topic or URI with captures, cut at its separator.
type pattern struct {
	text string
	sep  string // "/" for topics, "." for URIs
	segs []segment
}

// span is the levels that a capture took: levels[from:to].
type span struct{ from, to int }

// parsePattern cuts text at sep. The error is for people.
func parsePattern(text, sep string) (pattern, error) {
	p := pattern{text: text, sep: sep}
	if text == "" {
		return p, fmt.Errorf("is empty")
	}
	seen := map[string]bool{}
	// The dots of "{x...}" must not be taken for separators.
	masked := strings.ReplaceAll(text, "...}", "\x00\x00\x00}")
	for i, part := range strings.Split(masked, sep) {
		part = strings.ReplaceAll(part, "\x00\x00\x00}", "...}")
		s, err := parseSegment(part)
		if err != nil {
			return p, err
		}
		if i > 0 && p.segs[i-1].kind == rest {
			return p, fmt.Errorf("has something after {%s...}, which takes all that remains", p.segs[i-1].text)
		}
		if s.kind != literal {
			if seen[s.text] {
				return p, fmt.Errorf("captures {%s} twice", s.text)
			}
			seen[s.text] = true
			if len(seen) > maxCaptures {
				return p, fmt.Errorf("has more than %d captures", maxCaptures)
			}
		}
		p.segs = append(p.segs, s)
	}
	return p, nil
}

func parseSegment(part string) (segment, error) {
	name, isCapture := strings.CutPrefix(part, "{")
	if !isCapture {
		if strings.ContainsAny(part, "{}") {
			return segment{}, fmt.Errorf("has %q: a capture takes a whole level", part)
		}
		return segment{text: part}, nil
	}
	name, closed := strings.CutSuffix(name, "}")
	name, isRest := strings.CutSuffix(name, "...")
	if !closed || !validName(name) {
		return segment{}, fmt.Errorf("has %q: write a capture as {name} or {name...}, of letters, digits and _", part)
	}
	if isRest {
		return segment{kind: rest, text: name}, nil
	}
	return segment{kind: single, text: name}, nil
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return name != ""
}

// patternOfFilter turns an MQTT filter into a pattern, for comparing.
func patternOfFilter(filter string) pattern {
	p := pattern{text: filter, sep: "/"}
	for _, level := range strings.Split(filter, "/") {
		switch level {
		case "+":
			p.segs = append(p.segs, segment{kind: single})
		case "#":
			p.segs = append(p.segs, segment{kind: rest})
		default:
			p.segs = append(p.segs, segment{text: level})
		}
	}
	return p
}

// match reports whether the levels match, and where each capture's are.
func (p *pattern) match(levels []string, caps *[maxCaptures]span) bool {
	for i := range p.segs {
		s := &p.segs[i]
		if s.kind == rest {
			caps[s.slot] = span{i, len(levels)}
			return true
		}
		if i >= len(levels) {
			return false
		}
		if s.kind == single {
			caps[s.slot] = span{i, i + 1}
		} else if s.text != levels[i] {
			return false
		}
	}
	return len(levels) == len(p.segs)
}

// fixed is the number of segments before a rest capture.
func (p *pattern) fixed() (n int, open bool) {
	if n = len(p.segs); n > 0 && p.segs[n-1].kind == rest {
		return n - 1, true
	}
	return n, false
}

// overlaps reports whether something matches both patterns.
func (p pattern) overlaps(q pattern) bool {
	np, openP := p.fixed()
	nq, openQ := q.fixed()
	if np > nq && !openQ || nq > np && !openP {
		return false
	}
	for i := range min(np, nq) {
		a, b := p.segs[i], q.segs[i]
		if a.kind == literal && b.kind == literal && a.text != b.text {
			return false
		}
		// A wildcard at the head does not match a topic that begins with "$".
		if i == 0 && p.sep == "/" && (spelledDollar(a) && b.kind != literal || spelledDollar(b) && a.kind != literal) {
			return false
		}
	}
	if p.sep == "/" && min(np, nq) == 0 { // one of them is "#"
		return !(np > 0 && spelledDollar(p.segs[0])) && !(nq > 0 && spelledDollar(q.segs[0]))
	}
	return true
}

func spelledDollar(s segment) bool { return s.kind == literal && strings.HasPrefix(s.text, "$") }

// covers reports whether p matches all that q matches.
func (p pattern) covers(q pattern) bool {
	np, openP := p.fixed()
	nq, openQ := q.fixed()
	if !p.overlaps(q) || np > nq || openQ && !openP || nq > np && !openP {
		return false
	}
	for i := range np {
		if p.segs[i].kind == literal && q.segs[i].kind != literal {
			return false
		}
	}
	return true
}

// head is the leading literals, joined, and how many they are.
func (p *pattern) head() (string, int) {
	n := 0
	for n < len(p.segs) && p.segs[n].kind == literal {
		n++
	}
	parts := make([]string, n)
	for i := range parts {
		parts[i] = p.segs[i].text
	}
	return strings.Join(parts, p.sep), n
}

// filter is the MQTT filter that matches what p matches.
func (p *pattern) filter() string {
	parts := make([]string, len(p.segs))
	for i, s := range p.segs {
		switch s.kind {
		case single:
			parts[i] = "+"
		case rest:
			parts[i] = "#"
		default:
			parts[i] = s.text
		}
	}
	return strings.Join(parts, "/")
}

// appendCut appends the pieces of s between seps. It allocates only when there
// are more than cap(dst).
func appendCut(dst []string, s string, sep byte) []string {
	for {
		i := strings.IndexByte(s, sep)
		if i < 0 {
			return append(dst, s)
		}
		dst, s = append(dst, s[:i]), s[i+1:]
	}
}

// captured is what the capture called name takes of levels that match.
func (p *pattern) captured(name string, levels []string) (string, bool) {
	for i, s := range p.segs {
		switch {
		case s.kind == literal || s.text != name || i > len(levels):
		case s.kind == rest:
			return strings.Join(levels[i:], "/"), true
		case i < len(levels):
			return levels[i], true
		}
	}
	return "", false
}
