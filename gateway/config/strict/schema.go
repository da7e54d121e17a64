package strict

import (
	"encoding"
	"io/fs"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// field is one key that a struct may be given.
type field struct {
	key      string
	doc      string
	example  string
	required bool
	secret   bool
	bytes    bool
	single   bool
	short    bool
	expand   bool
	enum     []string
	min, max string
	typ      reflect.Type
	index    []int
	inline   bool // a struct, or an interface that holds one, with further keys
}

// fieldsOf lists the keys of a struct type in the order of its fields, those
// of inlined structs among them.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for _, f := range directFields(t) {
		if !f.inline || f.typ.Kind() != reflect.Struct {
			out = append(out, f)
			continue
		}
		for _, sub := range fieldsOf(f.typ) {
			sub.index = append(slices.Clone(f.index), sub.index...)
			out = append(out, sub)
		}
	}
	return out
}

// directFields lists a struct's own fields; inlined structs are one each.
func directFields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, opts, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		inline := opts == "inline"
		if !sf.IsExported() || name == "-" || name == "" && !inline {
			continue
		}
		f := field{
			key: name, doc: sf.Tag.Get("doc"), example: sf.Tag.Get("example"),
			required: sf.Tag.Get("required") == "true", secret: sf.Tag.Get("secret") == "true",
			bytes: sf.Tag.Get("unit") == "bytes", single: sf.Tag.Get("single") == "true",
			short: sf.Tag.Get("short") == "true", expand: sf.Tag.Get("expand") != "",
			min: sf.Tag.Get("min"), max: sf.Tag.Get("max"),
			typ: sf.Type, index: []int{i}, inline: inline,
		}
		if e := sf.Tag.Get("enum"); e != "" {
			for _, v := range strings.Split(e, ",") {
				f.enum = append(f.enum, strings.TrimSpace(v))
			}
		}
		out = append(out, f)
	}
	return out
}

// element is the field that describes the elements of a list or map field.
func (f field) element() field {
	f.typ = f.typ.Elem()
	f.key, f.required, f.single, f.short = "", false, false, false
	return f
}

func keysOf(fields []field) []string {
	var keys []string
	for _, f := range fields {
		if !f.inline {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// shortOf returns the field that a lone value stands for.
func shortOf(fields []field) (field, bool) {
	i := slices.IndexFunc(fields, func(f field) bool { return f.short })
	if i < 0 {
		return field{}, false
	}
	return fields[i], true
}

// secretKeys lists the keys of all secrets in t.
func secretKeys(t reflect.Type, seen map[reflect.Type]bool) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
		return secretKeys(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	if seen[t] {
		return nil
	}
	seen[t] = true
	var keys []string
	for _, f := range fieldsOf(t) {
		if f.secret {
			keys = append(keys, f.key)
		}
		keys = append(keys, secretKeys(f.typ, seen)...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// KeyOf returns the first key of a struct, or of a pointer to one, that holds a
// text which match accepts; "" for none.
func KeyOf(target any, match func(text string) bool) string {
	v := reflect.ValueOf(target)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return ""
	}
	for _, f := range fieldsOf(v.Type()) {
		if fv := v.FieldByIndex(f.index); fv.Kind() == reflect.String && fv.Len() > 0 && match(fv.String()) {
			return f.key
		}
	}
	return ""
}

// shape is how a value is written.
type shape int

const (
	shapeText shape = iota
	shapeBool
	shapeInt
	shapeFloat
	shapeBytes
	shapeDuration
	shapeMode
	shapeURL
	shapeList
	shapeMap
	shapeStruct
	shapeAny
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	modeType     = reflect.TypeFor[fs.FileMode]()
	urlType      = reflect.TypeFor[url.URL]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// shapeOf says how a value of type t is written; ok is false for types that a
// config cannot hold.
func shapeOf(t reflect.Type, f field) (s shape, ok bool) {
	switch {
	case t == durationType:
		return shapeDuration, true
	case t == modeType:
		return shapeMode, true
	case t == urlType:
		return shapeURL, true
	case reflect.PointerTo(t).Implements(textType):
		return shapeText, true
	}
	switch t.Kind() {
	case reflect.String:
		return shapeText, true
	case reflect.Bool:
		return shapeBool, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if f.bytes {
			return shapeBytes, true
		}
		return shapeInt, true
	case reflect.Float32, reflect.Float64:
		return shapeFloat, true
	case reflect.Slice:
		return shapeList, true
	case reflect.Map:
		return shapeMap, t.Key().Kind() == reflect.String
	case reflect.Struct:
		return shapeStruct, true
	case reflect.Interface:
		return shapeAny, t.NumMethod() == 0
	case reflect.Pointer:
		return shapeOf(t.Elem(), f)
	}
	return 0, false
}

// describe says in words what is expected, with an example.
func (f field) describe() string {
	if len(f.enum) > 0 && f.typ.Kind() == reflect.String {
		return "one of " + strings.Join(f.enum, ", ")
	}
	s, _ := shapeOf(f.typ, f)
	words, example := "", f.example
	switch s {
	case shapeText:
		words, example = "text", or(example, `"some text"`)
	case shapeBool:
		return "true or false"
	case shapeInt:
		words, example = "a whole number"+f.bounds(), or(example, f.unlessBounded("10"))
	case shapeFloat:
		words, example = "a number"+f.bounds(), or(example, f.unlessBounded("0.5"))
	case shapeBytes:
		words, example = "a size in bytes"+f.bounds(), or(example, "64KiB, 4MiB or 1048576")
	case shapeDuration:
		words, example = "a duration with its unit"+f.bounds(), or(example, "500ms, 5s or 1h30m")
	case shapeMode:
		words, example = "a file mode", or(example, "0660")
	case shapeURL:
		words, example = "a URL", or(example, "tcp://127.0.0.1:1883")
	case shapeList:
		words = "a list of " + f.element().plural()
		if example == "" && f.element().scalar() {
			example = "[" + f.element().sample() + "]"
		}
	case shapeMap:
		words = "keys and values"
	case shapeStruct:
		words = "the keys " + abridged(keysOf(fieldsOf(deref(f.typ))))
		if sf, ok := shortOf(fieldsOf(deref(f.typ))); ok {
			words += ", or " + sf.describe()
		}
	case shapeAny:
		return "any value"
	}
	if example == "" {
		return words
	}
	return words + ", such as " + example
}

// bounds says in words what range is allowed.
func (f field) bounds() string {
	switch {
	case f.min != "" && f.max != "":
		return " from " + f.min + " to " + f.max
	case f.min != "":
		return ", at least " + f.min
	case f.max != "":
		return ", at most " + f.max
	}
	return ""
}

// unlessBounded is example, where no bounds could make it wrong.
func (f field) unlessBounded(example string) string {
	if f.bounds() != "" {
		return ""
	}
	return example
}

// sample is a value to show in an example.
func (f field) sample() string {
	if f.example != "" {
		return f.example
	}
	if len(f.enum) > 0 {
		return f.enum[0]
	}
	s, _ := shapeOf(f.typ, f)
	switch s {
	case shapeBool:
		return "true"
	case shapeInt:
		return "10"
	case shapeFloat:
		return "0.5"
	case shapeBytes:
		return "64KiB"
	case shapeDuration:
		return "5s"
	case shapeMode:
		return "0660"
	case shapeURL:
		return "tcp://127.0.0.1:1883"
	}
	return "text"
}

func (f field) scalar() bool {
	s, _ := shapeOf(f.typ, f)
	return s < shapeList
}

// plural is what a list's elements are called.
func (f field) plural() string {
	s, _ := shapeOf(f.typ, f)
	switch s {
	case shapeText:
		if len(f.enum) > 0 {
			return strings.Join(f.enum, ", ")
		}
		return "texts"
	case shapeBool:
		return "true or false"
	case shapeInt, shapeFloat:
		return "numbers"
	case shapeBytes:
		return "sizes"
	case shapeDuration:
		return "durations"
	case shapeURL:
		return "URLs"
	case shapeList:
		return "lists"
	}
	return "entries"
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// abridged joins keys, not endlessly.
func abridged(keys []string) string {
	const most = 30
	if len(keys) > most {
		return strings.Join(keys[:most], ", ") + ", …"
	}
	return strings.Join(keys, ", ")
}
