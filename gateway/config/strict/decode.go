package strict

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// The bounds of one file.
const (
	// MaxSize is how large a file may be, in bytes; MaxLines how many lines it
	// may have. The YAML library takes time that grows with the square of both.
	MaxSize  = 256 << 10
	MaxLines = 10_000
	// maxTokens bounds the words and signs of a file, for the same reason.
	maxTokens = 50_000
	// maxDepth bounds nesting, aliases followed.
	maxDepth = 32
	// maxValues bounds the values that a file amounts to, aliases followed.
	maxValues = 100_000
	// maxProblems ends the search for more of them.
	maxProblems = 1000
)

// Validator is implemented by structs with rules beyond their types. Validate
// reports every breach by the field's path below the struct ("fields[2].unit",
// "" for the struct itself), what is wrong, and what to do about it.
type Validator interface {
	Validate(report func(path, problem, hint string))
}

// Defaulter is implemented by structs that are elements of lists or maps and
// have defaults.
type Defaulter interface{ SetDefaults() }

// Options are what a file's meaning depends on beside its text.
type Options struct {
	// Dir is what the paths of secrets are relative to.
	Dir string
	// Expand holds what {name} stands for, in the fields that allow it.
	Expand map[string]string
	// Inline is asked for the struct that takes the further keys of a struct
	// with an interface field tagged ",inline". owner is a pointer to that
	// struct, its own keys decoded. A nil target with a nil error means that
	// there are no further keys.
	Inline func(owner any) (target any, err *Misfit)
	// Complete, when not nil, fills in what follows from what the file says,
	// between decoding and checking.
	Complete func()
	// Done, when not nil, is called when nothing is wrong, with a function that
	// says where in the file a path is, or what above it the file has.
	Done func(place func(path string) (line, column int))
	// Check, when not nil, reports rules that span the whole file, after
	// decoding; it is called with what Validators are called with, and a
	// function that says where in the file a path is ("line 7").
	Check func(report func(path, problem, hint string), where func(path string) string)
}

// Misfit is a problem of one key of a struct.
type Misfit struct{ Key, Problem, Hint string }

// Decode fills the struct that target points to from a YAML text; name is the
// file's, for messages. The error is Problems.
func Decode(name string, text []byte, target any, opts Options) error {
	v := reflect.ValueOf(target).Elem()
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // what some editors put first
	src := newSource(name, text)
	src.hide(secretKeys(v.Type(), map[reflect.Type]bool{}))
	body, problem := parse(src, text)
	if problem != nil {
		return Problems{*problem}
	}
	d := &decoder{src: src, opts: opts, marks: map[string]mark{}, anchors: map[string]*ast.AnchorNode{}}
	d.marks[""] = mark{line: 1, column: 1}
	if body != nil {
		d.findAnchors(body, 0)
		d.value(body, v, field{typ: v.Type()}, "", 0)
	}
	d.expand(v, "", field{typ: v.Type()})
	if opts.Complete != nil {
		opts.Complete()
	}
	d.validate(v, "")
	if opts.Check != nil {
		opts.Check(d.reporter(""), d.where)
	}
	if len(d.problems) > 0 {
		return sorted(d.problems)
	}
	if opts.Done != nil {
		opts.Done(d.find)
	}
	return nil
}

// mark is where in the file a path is: its key, and its value.
type mark struct {
	line, column           int
	valueLine, valueColumn int
}

type decoder struct {
	src      *source
	opts     Options
	problems []Problem
	marks    map[string]mark
	bad      []string // paths with a problem: no rule is checked below them
	anchors  map[string]*ast.AnchorNode
	open     []*ast.AnchorNode // aliases being followed
	values   int
	full     bool // out of budget: said once, then nothing more is decoded
}

// fail records a problem at a node.
func (d *decoder) fail(n ast.Node, path, message, hint string) {
	line, column := place(n)
	d.failAt(line, column, path, message, hint)
}

func (d *decoder) failAt(line, column int, path, message, hint string) {
	d.bad = append(d.bad, path)
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, d.src.at(line, column, message, hint))
	}
}

// enter counts a value and says whether there is room for it.
func (d *decoder) enter(n ast.Node, path string, depth int) bool {
	if d.full {
		return false
	}
	d.values++
	switch {
	case depth > maxDepth:
		d.full = true
		d.fail(n, path, fmt.Sprintf("nested deeper than %d levels", maxDepth), "flatten this part of the file")
	case d.values > maxValues:
		d.full = true
		d.fail(n, path, fmt.Sprintf("the file amounts to more than %d values", maxValues), "an alias (*name) repeats everything under its anchor; use fewer of them")
	}
	return !d.full
}

// resolve follows aliases and anchors to the node that holds the value, and
// returns the tag on the way, if any. done must be called when the value has
// been decoded.
func (d *decoder) resolve(n ast.Node, path string) (value ast.Node, tag *ast.TagNode, done func(), ok bool) {
	depth := len(d.open)
	done = func() { d.open = d.open[:depth] }
	for {
		switch t := n.(type) {
		case *ast.AnchorNode:
			n = t.Value
		case *ast.TagNode:
			if tag != nil {
				d.fail(n, path, "more than one tag", "")
				return nil, nil, done, false
			}
			tag, n = t, t.Value
		case *ast.AliasNode:
			name := nameOf(t.Value)
			a := d.anchors[name]
			if a == nil {
				d.fail(t, path, fmt.Sprintf("no anchor &%s for the alias *%s", name, name), "put &"+name+" before the value that is to be repeated; a text that starts with * needs quotes")
				return nil, nil, done, false
			}
			for _, o := range d.open {
				if o == a {
					d.fail(t, path, fmt.Sprintf("the alias *%s contains itself", name), "")
					return nil, nil, done, false
				}
			}
			d.open = append(d.open, a)
			n = a.Value
		default:
			return n, tag, done, true
		}
	}
}

// value decodes node n into v.
func (d *decoder) value(n ast.Node, v reflect.Value, f field, path string, depth int) {
	if !d.enter(n, path, depth) {
		return
	}
	orig := n
	n, tag, done, ok := d.resolve(n, path)
	defer done()
	if !ok {
		return
	}
	if tag != nil && !isStandardTag(tag) {
		d.custom(tag, n, v, f, path)
		return
	}
	if isNull(n) {
		d.null(orig, v, f, path)
		return
	}
	for v.Kind() == reflect.Pointer {
		v.Set(newValue(v.Type().Elem()).Addr())
		v = v.Elem()
	}
	f.typ = v.Type()
	s, ok := shapeOf(v.Type(), f)
	if !ok {
		d.fail(n, path, fmt.Sprintf("%s cannot be set from a file", path), "")
		return
	}
	switch s {
	case shapeStruct:
		d.structure(n, v, f, path, depth)
	case shapeList:
		d.list(n, v, f, path, depth)
	case shapeMap:
		d.dictionary(n, v, f, path, depth)
	case shapeAny:
		if x, ok := d.any(n, path, depth); ok && x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v, f, s, path)
	}
}

// null decodes an empty value: nothing in it, for what has parts, and an error
// otherwise, because a forgotten value must not pass for a default.
func (d *decoder) null(n ast.Node, v reflect.Value, f field, path string) {
	switch s, _ := shapeOf(v.Type(), f); s {
	case shapeList, shapeMap:
		v.SetZero()
	case shapeStruct, shapeAny:
	default:
		d.fail(n, path, fmt.Sprintf("%s has no value", lastKey(path)), "expected "+f.describe())
	}
}

func (d *decoder) structure(n ast.Node, v reflect.Value, f field, path string, depth int) {
	fields := fieldsOf(v.Type())
	entries, isMap := mappingOf(n)
	if !isMap {
		if sf, ok := shortOf(fields); ok {
			if _, list := n.(*ast.SequenceNode); !list || sf.typ.Kind() == reflect.Slice {
				p := join(path, sf.key)
				d.mark(p, n, n)
				d.value(n, v.FieldByIndex(sf.index), sf, p, depth+1)
				return
			}
		}
		d.mismatch(n, path, f)
		return
	}
	seen := map[string]ast.Node{}
	var further []entry
	var inline *field
	for i := range fields {
		if fields[i].inline {
			inline = &fields[i]
		}
	}
	for _, e := range d.entries(entries, path, depth, seen) {
		sub, known := find(fields, e.key)
		if !known {
			if inline != nil {
				further = append(further, e)
			} else if path != "" || !strings.HasPrefix(e.key, "x-") {
				d.unknown(e, path, keysOf(fields))
			}
			continue
		}
		d.mark(join(path, e.key), e.node, e.value)
		d.value(e.value, v.FieldByIndex(sub.index), sub, join(path, e.key), depth+1)
	}
	d.missing(n, fields, seen, path)
	if inline != nil {
		d.further(v, *inline, further, fields, n, seen, path, depth)
	}
}

// further decodes the keys that a struct's own do not cover.
func (d *decoder) further(v reflect.Value, inline field, further []entry, own []field, n ast.Node, seen map[string]ast.Node, path string, depth int) {
	target, misfit := d.opts.Inline(v.Addr().Interface())
	if misfit != nil {
		p := join(path, misfit.Key)
		if !d.isBad(p) {
			line, column := d.find(p)
			d.failAt(line, column, p, misfit.Problem, misfit.Hint)
		}
		return
	}
	var fields []field
	if target != nil {
		tv := reflect.ValueOf(target)
		v.FieldByIndex(inline.index).Set(tv)
		v = tv.Elem()
		fields = fieldsOf(v.Type())
	}
	for _, e := range further {
		sub, known := find(fields, e.key)
		if !known {
			d.unknown(e, path, append(keysOf(own), keysOf(fields)...))
			continue
		}
		d.mark(join(path, e.key), e.node, e.value)
		d.value(e.value, v.FieldByIndex(sub.index), sub, join(path, e.key), depth+1)
	}
	d.missing(n, fields, seen, path)
}

func find(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key && !f.inline {
			return f, true
		}
	}
	return field{}, false
}

func (d *decoder) unknown(e entry, path string, keys []string) {
	where := "at the top of the file"
	if path != "" {
		where = "in " + path
	}
	hint := "keys here: " + abridged(keys)
	if len(keys) == 0 {
		hint = "no keys are known here"
	}
	if k := Nearest(e.key, keys); k != "" {
		// Who misspells a required key need not be told that it is missing.
		d.bad = append(d.bad, join(path, k))
		hint = fmt.Sprintf("did you mean %q? %s", k, hint)
	}
	line, column := place(e.node)
	if len(d.problems) < maxProblems {
		// Not a bad path: an unknown key makes no rule about the others moot.
		d.problems = append(d.problems, d.src.at(line, column, fmt.Sprintf("unknown key %q %s", e.key, where), hint))
	}
}

func (d *decoder) missing(n ast.Node, fields []field, seen map[string]ast.Node, path string) {
	for _, f := range fields {
		if !f.required || seen[f.key] != nil || d.isBad(join(path, f.key)) {
			continue
		}
		line, column := place(n)
		if m, ok := d.marks[path]; ok && path != "" {
			line, column = m.line, m.column
		}
		where := path
		if where == "" {
			where = "the file"
		}
		hint := "add " + f.key + ": " + f.sample()
		if f.doc != "" {
			hint += "\n" + f.key + " is " + f.doc
		}
		d.failAt(line, column, join(path, f.key), fmt.Sprintf("%s lacks the key %q", where, f.key), hint)
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, f field, path string, depth int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		el := f.element()
		if _, isMap := mappingOf(n); f.single && (!isMap || !el.scalar()) {
			out := reflect.MakeSlice(v.Type(), 1, 1)
			d.mark(path+"[0]", n, n)
			d.element(n, out.Index(0), el, path+"[0]", depth)
			v.Set(out)
			return
		}
		d.mismatch(n, path, f)
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, min(len(seq.Values), 64))
	for i, e := range seq.Values {
		if d.full {
			break
		}
		p := fmt.Sprintf("%s[%d]", path, i)
		d.mark(p, e, e)
		out = reflect.Append(out, reflect.New(v.Type().Elem()).Elem())
		d.element(e, out.Index(i), f.element(), p, depth)
	}
	v.Set(out)
}

// element decodes into a new element of a list or map.
func (d *decoder) element(n ast.Node, v reflect.Value, f field, path string, depth int) {
	v.Set(newValue(v.Type()))
	d.value(n, v, f, path, depth+1)
}

// newValue is a value with its type's defaults.
func newValue(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if def, ok := p.Interface().(Defaulter); ok {
		def.SetDefaults()
	}
	return p.Elem()
}

func (d *decoder) dictionary(n ast.Node, v reflect.Value, f field, path string, depth int) {
	entries, ok := mappingOf(n)
	if !ok {
		d.mismatch(n, path, f)
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, e := range d.entries(entries, path, depth, map[string]ast.Node{}) {
		el := reflect.New(v.Type().Elem()).Elem()
		p := join(path, e.key)
		d.mark(p, e.node, e.value)
		d.element(e.value, el, f.element(), p, depth)
		out.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), el)
	}
	v.Set(out)
}

// any decodes to nil, bool, int64, float64, string, []any and map[string]any.
func (d *decoder) any(n ast.Node, path string, depth int) (any, bool) {
	if !d.enter(n, path, depth) {
		return nil, false
	}
	n, tag, done, ok := d.resolve(n, path)
	defer done()
	if !ok {
		return nil, false
	}
	if tag != nil && !isStandardTag(tag) {
		d.fail(tag, path, fmt.Sprintf("the tag %s has no meaning here", tag.Start.Value), "a text that starts with ! needs quotes")
		return nil, false
	}
	if entries, ok := mappingOf(n); ok {
		out := map[string]any{}
		for _, e := range d.entries(entries, path, depth, map[string]ast.Node{}) {
			d.mark(join(path, e.key), e.node, e.value)
			if x, ok := d.any(e.value, join(path, e.key), depth+1); ok {
				out[e.key] = x
			}
		}
		return out, true
	}
	if seq, ok := n.(*ast.SequenceNode); ok {
		out := make([]any, 0, min(len(seq.Values), 64))
		for i, e := range seq.Values {
			x, ok := d.any(e, fmt.Sprintf("%s[%d]", path, i), depth+1)
			if !ok {
				return nil, false
			}
			out = append(out, x)
		}
		return out, true
	}
	return d.anyScalar(n, path)
}

// mismatch says that a value is of the wrong kind.
func (d *decoder) mismatch(n ast.Node, path string, f field) {
	d.fail(n, path, fmt.Sprintf("%s is %s", subject(path), kindOf(n)), "expected "+f.describe())
}

func subject(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
