package expr

import (
	"fmt"
	"strconv"
	"strings"
)

// Path is a place in a message: $.ENERGY.Power, $.args[0], $["DS18B20-1"].Id.
// A "?" at its end says that it may be absent, and is null then.
type Path struct {
	text     string
	variable string
	steps    []step
	optional bool
}

// step is a key of a dictionary, or an index of a list.
type step struct {
	key   string
	index int
	list  bool
}

// ParsePath compiles a path. The error is for people.
func ParsePath(text string) (*Path, error) {
	l := lexer{text: text}
	if len(text) > maxText {
		return nil, fmt.Errorf("is longer than %d bytes", maxText)
	}
	p, err := l.path()
	if err == nil && l.at < len(text) {
		err = fmt.Errorf("has %q after the path", text[l.at:])
	}
	return p, err
}

// path reads a path, which begins here.
func (l *lexer) path() (*Path, error) {
	start := l.at
	if !l.take("$") {
		return nil, fmt.Errorf("%q is no path: write it as $.name or $.list[0]", l.text[start:])
	}
	p := &Path{variable: l.word()}
	if _, ok := variables[p.variable]; !ok {
		return nil, fmt.Errorf("$%s is not known; there are %s", p.variable, variableNames)
	}
	for len(p.steps) <= maxDepth {
		switch {
		case l.take("."):
			key := l.word()
			if key == "" {
				return nil, fmt.Errorf(`%q needs a name after the dot: letters, digits and _; others go into $["…"]`, l.text[start:l.at])
			}
			p.steps = append(p.steps, step{key: key})
		case l.take("["):
			s, err := l.index()
			if err != nil {
				return nil, err
			}
			p.steps = append(p.steps, s)
		default:
			p.optional = l.take("?")
			p.text = l.text[start:l.at]
			return p, nil
		}
	}
	return nil, fmt.Errorf("%q is deeper than %d", l.text[start:l.at], maxDepth)
}

func (l *lexer) index() (step, error) {
	if l.at < len(l.text) && (l.text[l.at] == '"' || l.text[l.at] == '\'') {
		key, err := l.quoted()
		if err == nil && !l.take("]") {
			err = fmt.Errorf("a [ is not closed")
		}
		return step{key: key}, err
	}
	digits := l.word()
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || !l.take("]") {
		return step{}, fmt.Errorf(`an index is a number, as in [0], or a text, as in ["a-b"]`)
	}
	return step{index: n, list: true}, nil
}

// String is the path as it was written.
func (p *Path) String() string { return p.text }

// Get returns what is at the path, and whether there is anything.
func (p *Path) Get(s *Scope) (any, bool) {
	v, ok := variables[p.variable](s)
	for _, st := range p.steps {
		if !ok {
			return nil, false
		}
		v, ok = st.get(v)
	}
	return v, ok
}

func (st step) get(v any) (any, bool) {
	if st.list {
		list, _ := v.([]any)
		if st.index >= len(list) {
			return nil, false
		}
		return list[st.index], true
	}
	d, _ := v.(map[string]any)
	v, ok := d[st.key]
	return v, ok
}

// need is Get for those who cannot do without.
func (p *Path) need(s *Scope) (any, error) {
	v, ok := p.Get(s)
	if !ok && !p.optional {
		return nil, fmt.Errorf("there is no %s", p.text)
	}
	return v, nil
}

// Build is a document that has v at the path and nothing else: the reverse of
// Get. It is for paths into $ that have names only; Builds says which.
func (p *Path) Build(v any) any {
	for i := len(p.steps) - 1; i >= 0; i-- {
		v = map[string]any{p.steps[i].key: v}
	}
	return v
}

// Builds reports whether Build can be used.
func (p *Path) Builds() bool {
	for _, s := range p.steps {
		if s.list {
			return false
		}
	}
	return p.variable == ""
}

// IntoDoc reports whether the path begins at the message itself.
func (p *Path) IntoDoc() bool { return p.variable == "" }

// lexer walks through a text.
type lexer struct {
	text string
	at   int
}

func (l *lexer) take(s string) bool {
	if strings.HasPrefix(l.text[l.at:], s) {
		l.at += len(s)
		return true
	}
	return false
}

func (l *lexer) space() {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.at]) >= 0 {
		l.at++
	}
}

// word reads letters, digits and "_", none perhaps.
func (l *lexer) word() string {
	start := l.at
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	return l.text[start:l.at]
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// quoted reads a text in single or double quotes; a backslash takes the next
// character as it is.
func (l *lexer) quoted() (string, error) {
	quote := l.text[l.at]
	var b strings.Builder
	for l.at++; l.at < len(l.text); l.at++ {
		switch c := l.text[l.at]; {
		case c == quote:
			l.at++
			return b.String(), nil
		case c == '\\' && l.at+1 < len(l.text):
			l.at++
			b.WriteByte(l.text[l.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("a text is not closed with %c", quote)
}
