package expr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Condition is a compiled expression. Its grammar, loosest first:
//
//	a || b        or
//	a && b        and
//	== != < <= > >=
//	+ -
//	* / %
//	!a  -a
//	(a)  12.5  "text"  true  false  null  {capture}  $.path  abs(a)
//
// Evaluation never fails: what is absent is null, arithmetic with what is no
// number gives null, and things of different kinds are neither equal nor in
// any order.
type Condition struct {
	text string
	root node
}

// node is a part of an expression.
type node interface{ eval(*Scope) any }

// ParseCondition compiles an expression. captures are the names that braces may
// have. The error is for people.
func ParseCondition(text string, captures func(name string) bool) (*Condition, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("is longer than %d bytes", maxText)
	}
	p := &parser{lexer: lexer{text: text}, captures: captures}
	root, err := p.binary(0, 0)
	if err == nil {
		if p.space(); p.at < len(text) {
			err = fmt.Errorf("%q makes no sense there", text[p.at:])
		}
	}
	if err != nil {
		return nil, err
	}
	return &Condition{text, root}, nil
}

// String is the expression as it was written.
func (c *Condition) String() string { return c.text }

// Holds reports whether the expression is true; anything else is not.
func (c *Condition) Holds(s *Scope) bool { return c.root.eval(s) == true }

type parser struct {
	lexer
	captures func(string) bool
	nodes    int
}

// operators by how tightly they bind; longer ones come before their prefixes.
var operators = [][]string{{"||"}, {"&&"}, {"==", "!=", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) binary(level, depth int) (node, error) {
	if level == len(operators) {
		return p.unary(depth)
	}
	left, err := p.binary(level+1, depth)
	for err == nil {
		p.space()
		op := ""
		for _, o := range operators[level] {
			if p.take(o) {
				op = o
				break
			}
		}
		if op == "" {
			return left, nil
		}
		if p.nodes++; p.nodes > maxNodes {
			return nil, fmt.Errorf("has too many parts")
		}
		var right node
		if right, err = p.binary(level+1, depth); err == nil {
			left = binaryNode{op, left, right}
		}
	}
	return nil, err
}

func (p *parser) unary(depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	if p.nodes++; p.nodes > maxNodes {
		return nil, fmt.Errorf("has too many parts")
	}
	p.space()
	for _, op := range []string{"!", "-"} {
		if p.take(op) {
			a, err := p.unary(depth + 1)
			return unaryNode{op, a}, err
		}
	}
	if p.take("(") {
		return p.closing(depth)
	}
	return p.operand(depth)
}

func (p *parser) closing(depth int) (node, error) {
	a, err := p.binary(0, depth+1)
	if err != nil {
		return nil, err
	}
	if p.space(); !p.take(")") {
		return nil, fmt.Errorf("a ( is not closed")
	}
	return a, nil
}

func (p *parser) operand(depth int) (node, error) {
	if p.at == len(p.text) {
		return nil, fmt.Errorf("ends where a value is missing")
	}
	switch c := p.text[p.at]; {
	case c == '$':
		path, err := p.path()
		return pathNode{path}, err
	case c == '"' || c == '\'':
		s, err := p.quoted()
		return constant{s}, err
	case c == '{':
		p.at++
		name := p.word()
		if !p.take("}") || !p.captures(name) {
			return nil, fmt.Errorf("{%s} is no capture of the map", name)
		}
		return captureNode(name), nil
	case c >= '0' && c <= '9' || c == '.':
		return p.number()
	}
	switch w := p.word(); w {
	case "true", "false":
		return constant{w == "true"}, nil
	case "null":
		return constant{nil}, nil
	case "abs":
		if p.space(); p.take("(") {
			a, err := p.closing(depth)
			return unaryNode{"abs", a}, err
		}
		return nil, fmt.Errorf("abs needs its argument: abs($value)")
	case "":
		return nil, fmt.Errorf("%q makes no sense there", p.text[p.at:])
	default:
		return nil, fmt.Errorf("%q is not known; texts go into quotes, and what the message holds begins with $", w)
	}
}

func (p *parser) number() (node, error) {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		sign := (c == '-' || c == '+') && p.at > start && p.text[p.at-1]|0x20 == 'e'
		if !isWord(c) && c != '.' && !sign {
			break
		}
		p.at++
	}
	text := p.text[start:p.at]
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return constant{n}, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xXpP_iInN") {
		return nil, fmt.Errorf("%q is no number", text)
	}
	return constant{f}, nil
}

type (
	constant    struct{ v any }
	pathNode    struct{ *Path }
	captureNode string
	unaryNode   struct {
		op string
		a  node
	}
	binaryNode struct {
		op   string
		a, b node
	}
)

func (c constant) eval(*Scope) any { return c.v }

func (n pathNode) eval(s *Scope) any {
	v, _ := n.Get(s)
	return v
}

func (n captureNode) eval(s *Scope) any {
	if s.Capture != nil {
		if text, ok := s.Capture(string(n)); ok {
			return text
		}
	}
	return nil
}

func (n unaryNode) eval(s *Scope) any {
	v := n.a.eval(s)
	if n.op == "!" {
		return v != true
	}
	f, ok := number(v)
	switch {
	case !ok:
		return nil
	case n.op == "-":
		return -f
	}
	return math.Abs(f)
}

func (n binaryNode) eval(s *Scope) any {
	a := n.a.eval(s)
	switch n.op {
	case "&&":
		return a == true && n.b.eval(s) == true
	case "||":
		return a == true || n.b.eval(s) == true
	}
	b := n.b.eval(s)
	switch n.op {
	case "==":
		return Equal(a, b)
	case "!=":
		return !Equal(a, b)
	case "<", "<=", ">", ">=":
		c, ok := compare(a, b)
		return ok && (n.op[0] == '<' && c < 0 || n.op[0] == '>' && c > 0 || len(n.op) == 2 && c == 0)
	}
	x, okX := number(a)
	y, okY := number(b)
	if !okX || !okY {
		return nil
	}
	return arithmetic(n.op, x, y)
}

func arithmetic(op string, x, y float64) any {
	r := 0.0
	switch op {
	case "+":
		r = x + y
	case "-":
		r = x - y
	case "*":
		r = x * y
	case "/":
		r = x / y
	case "%":
		r = math.Mod(x, y)
	}
	if math.IsNaN(r) || math.IsInf(r, 0) {
		return nil
	}
	return r
}

// number is v as a number.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v)
	}
	return 0, false
}

// compare orders two numbers or two texts.
func compare(a, b any) (int, bool) {
	if i, ok := a.(int64); ok {
		if j, ok := b.(int64); ok { // exactly, beyond 2^53, too
			return order(i, j), true
		}
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return order(x, y), ok
	}
	x, okX := a.(string)
	y, okY := b.(string)
	return strings.Compare(x, y), okX && okY
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Equal reports whether two values of a message are the same; 1 and 1.0 are.
func Equal(a, b any) bool {
	if c, ok := compare(a, b); ok {
		return c == 0
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool:
		return a == b
	case []byte:
		b, ok := b.([]byte)
		return ok && string(a) == string(b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !Equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, ok := b[k]; !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	}
	return false
}
