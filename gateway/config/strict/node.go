package strict

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parse returns the root of the only document in text, nil when it is empty.
func parse(src *source, text []byte) (body ast.Node, problem *Problem) {
	fail := func(line, column int, message, hint string) (ast.Node, *Problem) {
		p := src.at(line, column, message, hint)
		return nil, &p
	}
	if len(text) > MaxSize {
		return fail(1, 1, fmt.Sprintf("the file has %d bytes; at most %d are read", len(text), MaxSize), "is this the right file?")
	}
	if len(src.lines) > MaxLines {
		return fail(MaxLines+1, 1, fmt.Sprintf("the file has more than %d lines", MaxLines), "is this the right file?")
	}
	for i, l := range src.lines {
		if !utf8.ValidString(l) {
			return fail(i+1, len([]rune(l[:invalidAt(l)]))+1, "not UTF-8 text", "save the file as UTF-8; is this the right file?")
		}
		if j := strings.IndexFunc(l, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); j >= 0 {
			return fail(i+1, len([]rune(l[:j]))+1, fmt.Sprintf("control character %q", l[j]), "is this the right file?")
		}
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if j := strings.IndexByte(indent, '\t'); j >= 0 && len(indent) < len(l) && l[len(indent)] != '#' {
			return fail(i+1, j+1, "a tab in the indentation", "YAML is indented with spaces: replace the tab by spaces")
		}
	}
	// The parser is not ours, and a broken file must not take the gateway with
	// it: what it may panic on becomes a problem like any other.
	defer func() {
		if r := recover(); r != nil {
			p := src.at(1, 1, "the file cannot be read as YAML", "look for unusual indentation, tags, or quotes that do not close")
			body, problem = nil, &p
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if len(tokens) > maxTokens {
		t := tokens[maxTokens]
		return fail(t.Position.Line, t.Position.Column, fmt.Sprintf("the file has more than %d words and signs", maxTokens), "is this the right file?")
	}
	if t := tooDeep(tokens); t != nil {
		return fail(t.Position.Line, t.Position.Column, fmt.Sprintf("nested deeper than %d levels", maxDepth), "flatten this part of the file")
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return syntax(src, err)
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || isNull(doc.Body) {
			continue
		}
		if body != nil {
			line, column := place(doc.Body)
			return fail(line, column, "a second YAML document", "one file holds one config: remove the line --- above, or move this part to a file of its own")
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			line, column := place(doc.Body)
			return fail(line, column, "YAML directives (%) are not used here", "remove the line")
		}
		body = doc.Body
	}
	return body, nil
}

func invalidAt(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return 0
}

// syntax renders the parser's error as a problem.
func syntax(src *source, err error) (ast.Node, *Problem) {
	line, column, message := 1, 1, err.Error()
	var located interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &located) {
		message = located.GetMessage()
		if t := located.GetToken(); t != nil && t.Position != nil {
			line, column = t.Position.Line, t.Position.Column
		}
	}
	hint := "check the indentation: keys that belong together start in the same column"
	switch {
	case strings.Contains(message, "reserved"), strings.Contains(message, "cannot start any token"):
		hint = "a text that starts with one of @ ` % & * ! | > needs quotes"
	case strings.Contains(message, "quot"):
		hint = "close the quote that was opened"
	case strings.Contains(message, "tab"):
		hint = "YAML is indented with spaces: replace the tab by spaces"
	case strings.ContainsAny(message, "[]{}"):
		hint = "close what was opened: every [ needs its ], every { its }"
	}
	p := src.at(line, column, "syntax: "+message, hint)
	return nil, &p
}

// tooDeep returns the token at which nesting goes past the bound, before a
// recursive parser sees it.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, marks := 0, 0
	var columns []int // of the block collections that are open
	push := func(c int) {
		for len(columns) > 0 && columns[len(columns)-1] >= c {
			columns = columns[:len(columns)-1]
		}
		columns = append(columns, c)
	}
	for i, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType:
			push(t.Position.Column)
		case token.MappingValueType:
			if i > 0 && flow == 0 {
				push(tokens[i-1].Position.Column)
			}
		case token.AnchorType, token.TagType:
			// Not nesting, but each makes the parser call itself.
			marks++
		}
		if flow+len(columns) > maxDepth || marks > 1000 {
			return t
		}
	}
	return nil
}

// place is where a node begins.
func place(n ast.Node) (line, column int) {
	switch t := n.(type) {
	case *ast.MappingNode:
		if len(t.Values) > 0 && !t.IsFlowStyle {
			return place(t.Values[0])
		}
	case *ast.MappingValueNode:
		return place(t.Key)
	}
	if n == nil {
		return 1, 1
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return t.Position.Line, t.Position.Column
}

// mark remembers where a path is.
func (d *decoder) mark(path string, key, value ast.Node) {
	var m mark
	m.line, m.column = place(key)
	m.valueLine, m.valueColumn = place(value)
	switch t := value.(type) {
	case *ast.MappingNode:
		if !t.IsFlowStyle {
			m.valueLine, m.valueColumn = m.line, m.column
		}
	case *ast.MappingValueNode:
		m.valueLine, m.valueColumn = m.line, m.column
	case *ast.SequenceNode:
		if !t.IsFlowStyle {
			m.valueLine, m.valueColumn = m.line, m.column
		}
	}
	d.marks[path] = m
}

// find is where a path is, or the nearest thing above it that the file has.
func (d *decoder) find(path string) (line, column int) {
	for p := path; ; p = parent(p) {
		if m, ok := d.marks[p]; ok {
			if p == path && m.valueLine > 0 {
				return m.valueLine, m.valueColumn
			}
			return m.line, m.column
		}
	}
}

// where is find in words.
func (d *decoder) where(path string) string {
	line, _ := d.find(path)
	return fmt.Sprintf("line %d", line)
}

// isBad reports whether the path, or something above it, has a problem already:
// what else is wrong with it may follow from that.
func (d *decoder) isBad(path string) bool {
	for _, b := range d.bad {
		if b == path || b != "" && below(path, b) {
			return true
		}
	}
	return false
}

// below reports whether a lies below b.
func below(a, b string) bool {
	return len(a) > len(b) && strings.HasPrefix(a, b) && (b == "" || a[len(b)] == '.' || a[len(b)] == '[')
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case key == "":
		return path
	case key[0] == '[':
		return path + key
	}
	return path + "." + key
}

func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

func lastKey(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

// entry is one key with its value.
type entry struct {
	key         string
	node, value ast.Node
}

// mappingOf returns a mapping's entries as the parser has them.
func mappingOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch t := n.(type) {
	case *ast.MappingNode:
		return t.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{t}, true
	}
	return nil, false
}

// entries lists a mapping's keys: merges (<<) followed, own keys before
// merged ones, duplicates reported. seen receives the keys.
func (d *decoder) entries(values []*ast.MappingValueNode, path string, depth int, seen map[string]ast.Node) []entry {
	var out []entry
	var merges []*ast.MappingValueNode
	for _, mv := range values {
		if mv.Key != nil && mv.Key.IsMergeKey() {
			merges = append(merges, mv)
			continue
		}
		key, ok := d.key(mv.Key, path)
		if !ok {
			continue
		}
		if first := seen[key]; first != nil {
			line, _ := place(first)
			d.fail(mv.Key, join(path, key), fmt.Sprintf("the key %q is given twice", key), fmt.Sprintf("it is already given in line %d; keep one of them", line))
			continue
		}
		seen[key] = mv.Key
		out = append(out, entry{key, mv.Key, mv.Value})
	}
	for _, mv := range merges {
		out = append(out, d.merge(mv.Value, path, depth, seen)...)
	}
	return out
}

func (d *decoder) merge(n ast.Node, path string, depth int, seen map[string]ast.Node) []entry {
	if !d.enter(n, path, depth) {
		return nil
	}
	orig := n
	n, _, done, ok := d.resolve(n, path)
	defer done()
	if !ok {
		return nil
	}
	if seq, ok := n.(*ast.SequenceNode); ok {
		var out []entry
		for _, e := range seq.Values {
			out = append(out, d.merge(e, path, depth+1, seen)...)
		}
		return out
	}
	values, ok := mappingOf(n)
	if !ok {
		d.fail(orig, path, "<< merges "+kindOf(n), "expected an alias of keys and values, such as <<: *name")
		return nil
	}
	inner := map[string]ast.Node{}
	var out []entry
	for _, e := range d.entries(values, path, depth+1, inner) {
		if d.values++; seen[e.key] == nil {
			seen[e.key] = e.node
			out = append(out, e)
		}
	}
	return out
}

// key returns a key's text.
func (d *decoder) key(n ast.MapKeyNode, path string) (string, bool) {
	if n == nil {
		return "", false
	}
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	d.fail(n, path, "a key that is no plain text", "write key: value; a key with special characters needs quotes")
	return "", false
}

// findAnchors collects the anchors of the whole file.
func (d *decoder) findAnchors(n ast.Node, depth int) {
	if depth > 4*maxDepth {
		return
	}
	switch t := n.(type) {
	case *ast.AnchorNode:
		name := nameOf(t.Name)
		if first := d.anchors[name]; first != nil {
			line, _ := place(first)
			d.fail(t, "", fmt.Sprintf("the anchor &%s is given twice", name), fmt.Sprintf("it is already given in line %d; choose another name", line))
		} else {
			d.anchors[name] = t
		}
		d.findAnchors(t.Value, depth+1)
	case *ast.TagNode:
		d.findAnchors(t.Value, depth+1)
	case *ast.MappingNode:
		for _, mv := range t.Values {
			d.findAnchors(mv.Value, depth+1)
		}
	case *ast.MappingValueNode:
		d.findAnchors(t.Value, depth+1)
	case *ast.SequenceNode:
		for _, e := range t.Values {
			d.findAnchors(e, depth+1)
		}
	}
}

func nameOf(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	_, ok := n.(*ast.NullNode)
	return ok
}

// isStandardTag reports whether a tag only states what the value is anyway.
func isStandardTag(t *ast.TagNode) bool {
	return strings.HasPrefix(t.Start.Value, "!!")
}

// kindOf says in words what a node is.
func kindOf(n ast.Node) string {
	switch t := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "true or false (" + t.GetToken().Value + ")"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.NullNode, nil:
		return "empty"
	}
	return "text"
}
