package homeassistant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Template is the part of Home Assistant's templates that is understood: text
// with {{ value }} and {{ value_json.a['b'][0] }}, and after that filters such as
// | round(2). Everything else is an error when it is parsed.
type Template struct {
	parts []part
}

// part is text, or an expression.
type part struct {
	text string
	expr *expression
}

type expression struct {
	doc     bool  // value_json, not value
	path    []any // string or int
	filters []filter
}

type filter struct {
	name string
	args []any
}

// Bounds of a template.
const (
	maxTemplate = 4096
	maxParts    = 64
	maxPath     = 32
	maxFilters  = 8
)

// ErrAbsent says that a payload does not have what a template asks for: then
// there is no new state.
var ErrAbsent = errors.New("the payload does not have it")

// filters are those that are understood, with the most arguments that they take.
var filters = map[string]int{
	"int": 1, "float": 1, "round": 1, "abs": 0, "lower": 0, "upper": 0, "trim": 0, "string": 0, "default": 1, "d": 1,
	"is_defined": 0, "tojson": 0, "to_json": 0,
}

// ParseTemplate parses a template; an empty one is the value.
func ParseTemplate(s string) (*Template, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("a template of %d bytes; %d are taken", len(s), maxTemplate)
	}
	t := &Template{}
	if s == "" {
		t.parts = []part{{expr: &expression{}}}
		return t, nil
	}
	rest := s
	for rest != "" {
		if len(t.parts) > maxParts {
			return nil, fmt.Errorf("template %q has too many parts", clip(s))
		}
		i := strings.IndexByte(rest, '{')
		for i >= 0 && (i+1 == len(rest) || !strings.ContainsRune("{%#", rune(rest[i+1]))) {
			next := strings.IndexByte(rest[i+1:], '{')
			if next < 0 {
				i = -1
				break
			}
			i += 1 + next
		}
		if i < 0 {
			t.parts = append(t.parts, part{text: rest})
			break
		}
		if rest[i+1] != '{' {
			return nil, fmt.Errorf("template %q has a statement or comment, which is not evaluated here", clip(s))
		}
		if i > 0 {
			t.parts = append(t.parts, part{text: rest[:i]})
		}
		end := strings.Index(rest[i:], "}}")
		if end < 0 {
			return nil, fmt.Errorf("template %q has {{ without }}", clip(s))
		}
		e, err := parseExpression(strings.Trim(rest[i+2:i+end], "- \t\r\n"))
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", clip(s), err)
		}
		t.parts = append(t.parts, part{expr: e})
		rest = rest[i+end+2:]
	}
	return t, nil
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	numberForm = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?`)
)

// scanner reads an expression from its left.
type scanner struct{ rest string }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

func (s *scanner) take(prefix string) bool {
	s.space()
	rest, ok := strings.CutPrefix(s.rest, prefix)
	if ok {
		s.rest = rest
	}
	return ok
}

func (s *scanner) name() string {
	s.space()
	n := nameForm.FindString(s.rest)
	s.rest = s.rest[len(n):]
	return n
}

// constant is a number or a text in quotes.
func (s *scanner) constant() (any, bool) {
	s.space()
	if n := numberForm.FindString(s.rest); n != "" {
		s.rest = s.rest[len(n):]
		return json.Number(n), true
	}
	for _, q := range []string{"'", `"`} {
		if rest, ok := strings.CutPrefix(s.rest, q); ok {
			text, after, closed := strings.Cut(rest, q)
			if !closed || strings.Contains(text, `\`) {
				return nil, false
			}
			s.rest = after
			return text, true
		}
	}
	return nil, false
}

func parseExpression(text string) (*expression, error) {
	s, e := &scanner{text}, &expression{}
	switch s.name() {
	case "value":
	case "value_json":
		e.doc = true
	default:
		return nil, fmt.Errorf("%q is not evaluated here: only value and value_json with filters are", clip(text))
	}
	for {
		if len(e.path) > maxPath || len(e.filters) > maxFilters {
			return nil, fmt.Errorf("%q is too long", clip(text))
		}
		switch {
		case s.take("."):
			n := s.name()
			if n == "" || strings.HasPrefix(s.rest, "(") || !e.doc || len(e.filters) > 0 {
				return nil, fmt.Errorf("%q is not evaluated here", clip(text))
			}
			e.path = append(e.path, n)
		case s.take("["):
			c, ok := s.constant()
			if n, isNumber := c.(json.Number); isNumber {
				i, err := strconv.Atoi(string(n))
				c, ok = i, err == nil && i >= 0
			}
			if !ok || !s.take("]") || !e.doc || len(e.filters) > 0 {
				return nil, fmt.Errorf("%q has an index that is not evaluated here", clip(text))
			}
			e.path = append(e.path, c)
		case s.take("|"):
			f, err := s.filter()
			if err != nil {
				return nil, err
			}
			e.filters = append(e.filters, f)
		default:
			if s.space(); s.rest != "" {
				return nil, fmt.Errorf("%q is not evaluated here, from %q on", clip(text), clip(s.rest))
			}
			return e, nil
		}
	}
}

func (s *scanner) filter() (filter, error) {
	f := filter{name: s.name()}
	most, known := filters[f.name]
	if !known {
		return f, fmt.Errorf("the filter %q is not evaluated here", clip(f.name))
	}
	if s.take("(") && !s.take(")") {
		for {
			c, ok := s.constant()
			if !ok {
				return f, fmt.Errorf("the filter %s has an argument that is no number or text", f.name)
			}
			f.args = append(f.args, c)
			if s.take(")") {
				break
			}
			if !s.take(",") {
				return f, fmt.Errorf("the filter %s has no )", f.name)
			}
		}
	}
	if len(f.args) > most {
		return f, fmt.Errorf("the filter %s has arguments that are not evaluated here", f.name)
	}
	if len(f.args) == 0 && (f.name == "default" || f.name == "d") {
		f.args = []any{""}
	}
	return f, nil
}

// Eval evaluates the template for a payload: a value when it is one expression,
// else a text. Numbers are json.Number.
func (t *Template) Eval(payload []byte) (any, error) {
	scope := &payloadScope{payload: payload}
	if len(t.parts) == 1 && t.parts[0].expr != nil {
		return t.parts[0].expr.eval(scope)
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := p.expr.eval(scope)
		if err != nil {
			return nil, err
		}
		b.WriteString(Text(v))
	}
	return b.String(), nil
}

// payloadScope decodes a payload when an expression asks for it.
type payloadScope struct {
	payload []byte
	doc     any
	err     error
	done    bool
}

func (s *payloadScope) document() (any, error) {
	if !s.done {
		s.done = true
		s.doc, s.err = decode(s.payload)
	}
	return s.doc, s.err
}

func (e *expression) eval(s *payloadScope) (any, error) {
	var v any = string(s.payload)
	absent := false
	if e.doc {
		var err error
		if v, err = s.document(); err != nil {
			return nil, fmt.Errorf("the payload is not JSON: %w", err)
		}
		for _, step := range e.path {
			if v, absent = down(v, step); absent {
				break
			}
		}
	}
	for _, f := range e.filters {
		if f.name == "default" || f.name == "d" {
			if absent {
				v, absent = f.args[0], false
			}
			continue
		}
		if absent {
			break
		}
		var err error
		if v, err = f.apply(v); err != nil {
			return nil, err
		}
	}
	if absent {
		return nil, ErrAbsent
	}
	return v, nil
}

func down(v, step any) (any, bool) {
	switch step := step.(type) {
	case string:
		d, _ := v.(map[string]any)
		found, ok := d[step]
		return found, !ok
	case int:
		l, _ := v.([]any)
		if step < len(l) {
			return l[step], false
		}
	}
	return nil, true
}

func (f filter) apply(v any) (any, error) {
	switch f.name {
	case "lower":
		return strings.ToLower(Text(v)), nil
	case "upper":
		return strings.ToUpper(Text(v)), nil
	case "trim":
		return strings.TrimSpace(Text(v)), nil
	case "string":
		return Text(v), nil
	case "tojson", "to_json":
		b, err := json.Marshal(v)
		return string(b), err
	case "is_defined":
		return v, nil
	}
	x, err := strconv.ParseFloat(strings.TrimSpace(Text(v)), 64)
	if b, ok := v.(bool); ok {
		x, err = 0, nil
		if b {
			x = 1
		}
	}
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		if len(f.args) > 0 && f.name != "round" {
			return f.args[0], nil
		}
		return nil, fmt.Errorf("%q is no number", clip(Text(v)))
	}
	digits := -1
	switch f.name {
	case "int":
		x, digits = math.Trunc(x), 0
	case "abs":
		x = math.Abs(x)
	case "round":
		digits = 0
		if len(f.args) > 0 {
			n, err := strconv.Atoi(Text(f.args[0]))
			if err != nil || n < 0 || n > 15 {
				return nil, errors.New("round takes 0 to 15 digits here")
			}
			digits = n
		}
		scale := math.Pow10(digits)
		x, digits = math.RoundToEven(x*scale)/scale, -1
	}
	return json.Number(strconv.FormatFloat(x, 'f', digits, 64)), nil
}

// Text is a value as Home Assistant's templates write it.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case string:
		return v
	case bool:
		if v {
			return wordTrue
		}
		return wordFalse
	case json.Number:
		return string(v)
	}
	b, _ := json.Marshal(v) // what was decoded from JSON can be written
	return string(b)
}

// maxDepth bounds the nesting of what is decoded.
const maxDepth = 32

// decode reads JSON, with numbers as they are written.
func decode(b []byte) (any, error) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return nil, errors.New("it is nested too deeply")
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more after it")
	}
	return v, nil
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
