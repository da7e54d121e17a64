package devices

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// param is one key of a driver's parameters, found by reflection.
type param struct {
	Path     string // "fields[].unit"
	Key      string // "unit"; "" when the field has no yaml tag
	Type     string // "duration", "list of text"
	Doc      string
	Default  string // as it would be written in YAML, "" for none
	Required bool
}

var durationType = reflect.TypeFor[time.Duration]()

// walkParams visits every parameter of the struct v, nested ones after the one
// that holds them. Fields without a name in YAML ("-") are left out.
func walkParams(v reflect.Value, visit func(param)) { walkStruct("", v, visit) }

func walkStruct(path string, v reflect.Value, visit func(param)) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, hasTag := f.Tag.Lookup("yaml")
		key, options, _ := strings.Cut(tag, ",")
		switch {
		case !f.IsExported() || key == "-":
			continue
		case options == "inline" || f.Anonymous && !hasTag:
			walkStruct(path, v.Field(i), visit)
			continue
		}
		p := param{
			Path: path + key, Key: key, Doc: f.Tag.Get("doc"),
			Type:     typeName(f.Type),
			Required: f.Tag.Get("required") == "true",
		}
		if key == "" {
			p.Path = path + f.Name
		}
		if !p.Required {
			p.Default = defaultText(v.Field(i))
		}
		visit(p)
		walkNested(p.Path, v.Field(i), visit)
	}
}

// walkNested goes into structs, and into the elements of lists and maps of
// structs.
func walkNested(path string, v reflect.Value, visit func(param)) {
	t := v.Type()
	suffix := "."
	for t.Kind() != reflect.Struct {
		switch t.Kind() {
		case reflect.Slice, reflect.Array:
			suffix = "[]" + suffix
		case reflect.Map:
			suffix = ".*" + suffix
		case reflect.Pointer:
		default:
			return
		}
		t = t.Elem()
		v = reflect.New(t).Elem()
		if d, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
			d.SetDefaults() // as gateway/config does with every element
		}
	}
	walkStruct(path+suffix, v, visit)
}

func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr:
		return "integer"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "number"
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "mapping to " + typeName(t.Elem())
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Struct:
		return "mapping"
	}
	return "any"
}

func defaultText(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return shortDuration(time.Duration(v.Int()))
	case v.Kind() == reflect.String:
		if v.Len() == 0 {
			return ""
		}
		if s := v.String(); strings.ContainsFunc(s, unicode.IsControl) {
			return strconv.Quote(s)
		}
		return v.String()
	case v.Kind() == reflect.Bool, v.CanInt(), v.CanUint(), v.CanFloat():
		return fmt.Sprint(v.Interface())
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return defaultText(v.Elem())
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() != reflect.Struct:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = defaultText(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return ""
}

// shortDuration is d as people write it: "1m" and not "1m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
