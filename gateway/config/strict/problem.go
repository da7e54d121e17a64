package strict

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one thing wrong with a file.
type Problem struct {
	// File, Line and Column say where; lines and columns count from 1, columns
	// in characters.
	File         string
	Line, Column int
	// Message says what is wrong, Hint what to do about it ("" for nothing to
	// add).
	Message, Hint string
	// Source is the offending line, with secrets blanked out.
	Source string
}

// Error is the problem on one line, without its source.
func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Problems is the error of a file with one or more problems, in the file's
// order.
type Problems []Problem

// maxShown bounds how many problems Error shows: the rest of a thousand does
// not help anybody.
const maxShown = 50

// Error shows every problem with its line, a caret under the place, and the
// hint.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i == maxShown {
			fmt.Fprintf(&b, "… and %d more\n", len(ps)-i)
			break
		}
		p.render(&b)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (p Problem) render(b *strings.Builder) {
	fmt.Fprintln(b, p.Error())
	line, column := clip(p.Source, p.Column)
	number := fmt.Sprintf("%5d", p.Line)
	fmt.Fprintf(b, "%s | %s\n", number, line)
	// The caret's line repeats the tabs of the line above it, so that it
	// stands under the place however wide a tab is shown.
	pad := make([]rune, 0, column)
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		pad = append(pad, r)
	}
	fmt.Fprintf(b, "%s | %s^\n", strings.Repeat(" ", len(number)), string(pad))
	if p.Hint != "" {
		for i, l := range strings.Split(p.Hint, "\n") {
			lead := "  hint: "
			if i > 0 {
				lead = "        "
			}
			fmt.Fprintf(b, "%s%s\n", lead, l)
		}
	}
}

// clip shortens a long line around the column that matters, and makes what a
// terminal would act on visible.
func clip(line string, column int) (string, int) {
	const width = 100
	runes := []rune(line)
	for i, r := range runes {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			runes[i] = '�'
		}
	}
	column = max(1, min(column, len(runes)+1))
	if len(runes) <= width {
		return string(runes), column
	}
	start := max(0, min(column-1-width/2, len(runes)-width))
	end := start + width
	out := string(runes[start:end])
	if start > 0 {
		out, column = "…"+out, column+1
	}
	if end < len(runes) {
		out += "…"
	}
	return out, column - start
}

// source is the text of a file, by line.
type source struct {
	name    string
	lines   []string
	secrets *regexp.Regexp // matches "key:" of a secret; nil for none
}

func newSource(name string, text []byte) *source {
	s := &source{name: name, lines: strings.Split(string(text), "\n")}
	for i, l := range s.lines {
		s.lines[i] = strings.TrimSuffix(l, "\r")
	}
	return s
}

// hide has the values of the keys left out of what problems show.
func (s *source) hide(keys []string) {
	if len(keys) == 0 {
		return
	}
	for i, k := range keys {
		keys[i] = regexp.QuoteMeta(k)
	}
	s.secrets = regexp.MustCompile(`(?:^|[\s{,"'-])(?:` + strings.Join(keys, "|") + `)["']?\s*:(\s*)(\S.*)$`)
}

// at makes a problem at a place, which it moves into the file when it lies
// outside.
func (s *source) at(line, column int, message, hint string) Problem {
	line = max(1, min(line, len(s.lines)))
	text := s.lines[line-1]
	column = max(1, min(column, utf8.RuneCountInString(text)+1))
	if s.secrets != nil {
		if m := s.secrets.FindStringSubmatchIndex(text); m != nil && !strings.HasPrefix(text[m[4]:], "!file") {
			text = text[:m[4]] + "***"
		}
	}
	return Problem{File: s.name, Line: line, Column: column, Message: message, Hint: hint, Source: text}
}

// sorted orders problems by place and leaves out those said twice.
func sorted(ps []Problem) Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

// Nearest returns the key that word was probably meant to be, or "".
func Nearest(word string, keys []string) string {
	best, bestDistance := "", 1+(len(word)-1)/4
	for _, k := range keys {
		if d := distance(strings.ToLower(word), k, bestDistance+1); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the number of single characters to insert, remove, replace or
// swap with their neighbour to make b of a; more than limit is limit+1.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 100 {
		return limit + 1
	}
	before, last, row := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
