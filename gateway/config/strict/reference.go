package strict

import (
	"encoding"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// WriteYAML writes a file with every key of the struct that target points to,
// its value there and its meaning as a comment. What the elements of a list
// may hold is shown in a comment. Decoding the file gives target again.
func WriteYAML(w io.Writer, target any) error {
	r := &reference{}
	r.structure(reflect.ValueOf(target).Elem(), "", true)
	_, err := io.WriteString(w, strings.TrimLeft(r.b.String(), "\n"))
	return err
}

// reference writes YAML. Every line begins with lead: "# " inside of a
// comment, nothing outside.
type reference struct {
	b    strings.Builder
	lead string
	dash bool // the next key begins a list's element
}

func (r *reference) line(indent, format string, a ...any) {
	if r.dash {
		indent, r.dash = indent[:len(indent)-2]+"- ", false
	}
	r.b.WriteString(strings.TrimRight(r.lead+indent+fmt.Sprintf(format, a...), " ") + "\n")
}

func (r *reference) comment(f field, indent string) {
	if f.doc == "" {
		return
	}
	text := f.doc
	if f.required {
		text = "Required: " + text
	}
	if len(f.enum) > 0 {
		text += " (" + strings.Join(f.enum, ", ") + ")"
	}
	// A comment must not take the dash of the element's first key.
	dash := r.dash
	r.dash = false
	for _, l := range wrap(text, 96-len(indent)) {
		r.line(indent, "# %s", l)
	}
	r.dash = dash
}

func (r *reference) structure(v reflect.Value, indent string, comments bool) {
	for _, f := range fieldsOf(v.Type()) {
		if f.inline {
			continue
		}
		if comments {
			if indent == "" {
				r.b.WriteString("\n")
			}
			r.comment(f, indent)
		}
		r.field(v.FieldByIndex(f.index), f, indent, comments)
	}
}

func (r *reference) field(v reflect.Value, f field, indent string, comments bool) {
	s, _ := shapeOf(f.typ, f)
	el := f
	if s == shapeList || s == shapeMap {
		el = f.element()
	}
	elShape, _ := shapeOf(el.typ, el)
	switch {
	case s == shapeStruct:
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v = reflect.New(v.Type().Elem())
			}
			v = v.Elem()
		}
		r.line(indent, "%s:", f.key)
		r.structure(v, indent+"  ", comments)
	case s == shapeList && elShape == shapeStruct:
		if v.Len() == 0 {
			r.line(indent, "%s: []", f.key)
		} else {
			r.line(indent, "%s:", f.key)
		}
		for i := range v.Len() {
			r.dash = true
			r.structure(v.Index(i), indent+"    ", false)
		}
		if comments && r.lead == "" {
			r.lead = "# "
			r.line(indent, "  Each entry has these keys:")
			r.dash = true
			r.structure(newValue(deref(el.typ)), indent+"    ", true)
			r.lead = ""
		} else if comments {
			r.dash = true
			r.structure(newValue(deref(el.typ)), indent+"    ", true)
		}
	default:
		text := writeValue(v, f)
		if f.required && v.IsZero() {
			text = f.sample()
			if s == shapeList {
				text = "[" + strconv.Quote(el.sample()) + "]"
			} else if s == shapeText {
				text = writeText(text)
			}
		}
		r.line(indent, "%s: %s", f.key, text)
	}
}

// writeValue writes a value as YAML on one line.
func writeValue(v reflect.Value, f field) string {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return "null"
		}
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			if b, err := m.MarshalText(); err == nil {
				return writeText(string(b))
			}
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return writeDuration(x)
	case fs.FileMode:
		return fmt.Sprintf("%04o", uint32(x))
	case url.URL:
		return writeText(x.String())
	case encoding.TextMarshaler:
		if b, err := x.MarshalText(); err == nil {
			return writeText(string(b))
		}
	}
	switch s, _ := shapeOf(v.Type(), f); s {
	case shapeText:
		return writeText(v.String())
	case shapeBytes:
		if v.CanUint() {
			return writeBytes(int64(v.Uint()))
		}
		return writeBytes(v.Int())
	case shapeList:
		parts := make([]string, v.Len())
		el := f
		el.typ = v.Type().Elem()
		for i := range parts {
			parts[i] = writeValue(v.Index(i), el)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case shapeMap:
		var parts []string
		for _, k := range sortedKeys(v) {
			el := f
			el.typ = v.Type().Elem()
			parts = append(parts, writeText(k.String())+": "+writeValue(v.MapIndex(k), el))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case shapeStruct:
		fields := fieldsOf(v.Type())
		var parts []string
		for _, sub := range fields {
			if !sub.inline {
				parts = append(parts, sub.key+": "+writeValue(v.FieldByIndex(sub.index), sub))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v.Interface())
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	for i := range keys {
		for j := i; j > 0 && keys[j].String() < keys[j-1].String(); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

var plainText = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)

// writeText quotes a text where YAML could take it for something else.
func writeText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return strconv.Quote(s)
	}
	if plainText.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

func writeDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func writeBytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// wrap breaks text into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// WriteMarkdown writes a table of keys for the struct that target points to,
// and one for every struct below it, each under a heading that is its path.
func WriteMarkdown(w io.Writer, target any) error {
	var b strings.Builder
	writeTables(&b, reflect.ValueOf(target).Elem(), "")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTables(b *strings.Builder, v reflect.Value, path string) {
	type below struct {
		path, doc string
		v         reflect.Value
	}
	var structs []below
	b.WriteString("| key | value | default | meaning |\n|---|---|---|---|\n")
	for _, f := range fieldsOf(v.Type()) {
		if f.inline {
			continue
		}
		fv := v.FieldByIndex(f.index)
		s, _ := shapeOf(f.typ, f)
		kind, def := f.kind(), ""
		switch el := f; {
		case s == shapeStruct:
			structs = append(structs, below{join(path, f.key), f.doc, structValue(fv)})
			kind = "see [below](#" + anchorOf(join(path, f.key)) + ")"
			if sf, ok := shortOf(fieldsOf(deref(f.typ))); ok {
				kind = sf.kind() + ", or " + kind
			}
		case (s == shapeList || s == shapeMap) && !f.element().scalar():
			el = f.element()
			if es, _ := shapeOf(el.typ, el); es == shapeStruct {
				p, words := join(path, f.key)+"[]", "list"
				if s == shapeMap {
					p, words = join(path, f.key)+".*", "keys and values"
				}
				structs = append(structs, below{p, f.doc, newValue(deref(el.typ))})
				kind = words + ", see [below](#" + anchorOf(p) + ")"
			}
			if fv.Len() > 0 {
				def = "see the [reference](../configs/reference.yaml)"
			}
		default:
			if !f.required && !fv.IsZero() || s < shapeList && s != shapeText {
				def = "`" + writeValue(fv, f) + "`"
			}
		}
		if f.required {
			def = "required"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.key, cell(kind), cell(def), cell(f.doc))
	}
	for _, s := range structs {
		fmt.Fprintf(b, "\n### %s\n\n%s\n\n", s.path, s.doc)
		writeTables(b, s.v, s.path)
	}
}

func structValue(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return newValue(deref(v.Type()))
		}
		return v.Elem()
	}
	return v
}

// kind names what a key takes, for tables.
func (f field) kind() string {
	if len(f.enum) > 0 {
		return "`" + strings.Join(f.enum, "`, `") + "`"
	}
	s, _ := shapeOf(f.typ, f)
	words := map[shape]string{
		shapeText: "text", shapeBool: "true or false", shapeInt: "whole number", shapeFloat: "number", shapeBytes: "size",
		shapeDuration: "duration", shapeMode: "file mode", shapeURL: "URL", shapeMap: "keys and values", shapeAny: "anything", shapeStruct: "keys",
	}[s]
	if s == shapeList {
		words = "list of " + f.element().plural()
		if f.single {
			words += ", or one alone"
		}
	}
	if f.secret {
		words = "secret"
	}
	return words + f.bounds()
}

// cell makes a text fit for a table's cell.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

// anchorOf is the anchor that Markdown renderers give a heading.
func anchorOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return -1
	}, strings.ToLower(heading))
}

// WriteKeys writes the keys of the struct that target points to as text for a
// terminal: each with what it takes, its default there, and its meaning.
func WriteKeys(w io.Writer, target any) error {
	var b strings.Builder
	writeKeys(&b, reflect.ValueOf(target).Elem(), "  ")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeKeys(b *strings.Builder, v reflect.Value, indent string) {
	for _, f := range fieldsOf(v.Type()) {
		if f.inline {
			continue
		}
		fv := v.FieldByIndex(f.index)
		s, _ := shapeOf(f.typ, f)
		about := strings.ReplaceAll(f.kind(), "`", "")
		switch {
		case f.required:
			about += "; required"
		case s < shapeStruct && !fv.IsZero() && (s != shapeList || f.element().scalar()):
			about += "; default " + writeValue(fv, f)
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, f.key, about)
		for _, l := range wrap(f.doc, 90-len(indent)) {
			fmt.Fprintf(b, "%s    %s\n", indent, l)
		}
		if s == shapeStruct {
			writeKeys(b, structValue(fv), indent+"    ")
		} else if s == shapeList || s == shapeMap {
			if el := deref(f.typ.Elem()); el.Kind() == reflect.Struct && !f.element().scalar() {
				writeKeys(b, newValue(el), indent+"    ")
			}
		}
	}
}
