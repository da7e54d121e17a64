package expr

import (
	"fmt"
	"strconv"
	"strings"
)

// Template builds a value. Numbers, booleans and null stand for themselves,
// lists and dictionaries for what their elements build. A text that begins with
// "$" is a path and builds what is there, whatever its type; in any other text
// {capture} and {$.path} are replaced, "{{" is a brace, and "$$" at the
// beginning a dollar sign.
type Template struct{ root builder }

// builder is a part of a template.
type builder interface {
	build(*Scope) (any, error)
}

// ParseTemplate compiles a template. captures are the names that braces may
// have. The error is for people.
func ParseTemplate(v any, captures func(name string) bool) (*Template, error) {
	nodes := 0
	root, err := parseBuilder(v, captures, &nodes, 0)
	if err != nil {
		return nil, err
	}
	return &Template{root}, nil
}

// Build builds the value. The error says what the scope lacks.
func (t *Template) Build(s *Scope) (any, error) { return t.root.build(s) }

type (
	fixed      struct{ v any }
	reference  struct{ *Path }
	list       []builder
	dictionary map[string]builder
	text       []builder
)

func parseBuilder(v any, captures func(string) bool, nodes *int, depth int) (builder, error) {
	if *nodes++; *nodes > maxNodes || depth > maxDepth {
		return nil, fmt.Errorf("has more than %d parts, or is nested deeper than %d", maxNodes, maxDepth)
	}
	switch v := v.(type) {
	case nil, bool, int64, uint64, float64:
		return fixed{v}, nil
	case int:
		return fixed{int64(v)}, nil
	case string:
		return parseText(v, captures, nodes)
	case []any:
		out := make(list, len(v))
		for i := range v {
			b, err := parseBuilder(v[i], captures, nodes, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = b
		}
		return out, nil
	case map[string]any:
		out := make(dictionary, len(v))
		for k, e := range v {
			b, err := parseBuilder(e, captures, nodes, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			out[k] = b
		}
		return out, nil
	}
	return nil, fmt.Errorf("has a %T, which no message can hold", v)
}

func parseText(s string, captures func(string) bool, nodes *int) (builder, error) {
	switch {
	case len(s) > maxText:
		return nil, fmt.Errorf("has a text longer than %d bytes", maxText)
	case strings.HasPrefix(s, "$$"):
		s = s[1:]
	case strings.HasPrefix(s, "$"):
		p, err := ParsePath(s)
		return reference{p}, err
	}
	var out text
	l := lexer{text: s}
	for l.at < len(s) {
		rest := s[l.at:]
		i := strings.IndexByte(rest, '{')
		switch {
		case i < 0:
			i = len(rest)
			fallthrough
		case i > 0:
			out = append(out, fixed{rest[:i]})
			l.at += i
			continue
		case l.take("{{"):
			out = append(out, fixed{"{"})
			continue
		}
		if *nodes++; *nodes > maxNodes {
			return nil, fmt.Errorf("has more than %d parts", maxNodes)
		}
		l.at++
		b, err := l.placeholder(captures)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (l *lexer) placeholder(captures func(string) bool) (builder, error) {
	if l.at < len(l.text) && l.text[l.at] == '$' {
		p, err := l.path()
		if err == nil && !l.take("}") {
			err = fmt.Errorf("{%s is not closed", p)
		}
		return reference{p}, err
	}
	name := l.word()
	if !l.take("}") || !captures(name) {
		return nil, fmt.Errorf("{%s} is no capture of the map; a brace is written {{", name)
	}
	return captureNode(name), nil
}

func (f fixed) build(*Scope) (any, error) { return f.v, nil }

func (r reference) build(s *Scope) (any, error) { return r.need(s) }

func (n captureNode) build(s *Scope) (any, error) {
	v := n.eval(s)
	if v == nil {
		return nil, fmt.Errorf("there is no {%s}", string(n))
	}
	return v, nil
}

func (l list) build(s *Scope) (any, error) {
	out := make([]any, len(l))
	for i := range l {
		v, err := l[i].build(s)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (d dictionary) build(s *Scope) (any, error) {
	out := make(map[string]any, len(d))
	for k, b := range d {
		v, err := b.build(s)
		if err != nil {
			return nil, err
		}
		out[k] = v
	}
	return out, nil
}

// build joins the parts. Null is nothing in a text; a list or a dictionary has
// no place there.
func (t text) build(s *Scope) (any, error) {
	var b strings.Builder
	for _, part := range t {
		v, err := part.build(s)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case nil:
		case string:
			b.WriteString(v)
		case bool:
			b.WriteString(strconv.FormatBool(v))
		case int64:
			b.WriteString(strconv.FormatInt(v, 10))
		case uint64:
			b.WriteString(strconv.FormatUint(v, 10))
		case float64:
			b.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
		default:
			return nil, fmt.Errorf("a %T cannot be part of a text", v)
		}
	}
	return b.String(), nil
}
