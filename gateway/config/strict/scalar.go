package strict

import (
	"encoding"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// text returns a text node's value.
func text(n ast.Node) (string, bool) {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value, true
	case *ast.LiteralNode:
		if t.Value != nil {
			return t.Value.Value, true
		}
	}
	return "", false
}

// plain returns a number or word as it is written.
func plain(n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return text(n)
}

// scalar decodes a value without parts.
func (d *decoder) scalar(n ast.Node, v reflect.Value, f field, s shape, path string) {
	written, ok := plain(n)
	if !ok {
		d.mismatch(n, path, f)
		return
	}
	wrong := func(why string) {
		shown := strconv.Quote(written)
		if len(shown) > 60 {
			shown = "the text"
		}
		if f.secret {
			shown = "the value"
		}
		message := fmt.Sprintf("%s: %s %s", subject(path), shown, why)
		d.fail(n, path, message, "expected "+f.describe())
	}
	var problem string
	switch s {
	case shapeText:
		str, isText := text(n)
		if !isText {
			if hint := fmt.Sprintf("put it in quotes: %q", written); !f.secret && len(f.enum) == 0 && f.example == "" {
				d.fail(n, path, fmt.Sprintf("%s is %s, expected text", subject(path), kindOf(n)), hint)
			} else {
				d.mismatch(n, path, f)
			}
			return
		}
		problem = setText(v, f, str)
	case shapeBool:
		problem = setBool(v, n, written)
	case shapeInt:
		problem = setInt(v, f, written)
	case shapeBytes:
		problem = setBytes(v, f, written)
	case shapeFloat:
		problem = setFloat(v, f, written)
	case shapeDuration:
		problem = setDuration(v, f, written)
	case shapeMode:
		problem = setMode(v, written)
	case shapeURL:
		u, err := url.Parse(written)
		if err != nil || u.Scheme == "" {
			problem = "is no URL with a scheme"
		} else {
			v.Set(reflect.ValueOf(*u))
		}
	}
	if problem != "" {
		wrong(problem)
	}
}

func setText(v reflect.Value, f field, s string) (problem string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			return "is not understood: " + err.Error()
		}
		return ""
	}
	if len(f.enum) > 0 && !slices.Contains(f.enum, s) {
		if k := Nearest(s, f.enum); k != "" {
			return fmt.Sprintf("is not one of the words allowed; did you mean %q?", k)
		}
		return "is not one of the words allowed"
	}
	v.SetString(s)
	return ""
}

func setBool(v reflect.Value, n ast.Node, written string) (problem string) {
	if b, ok := n.(*ast.BoolNode); ok {
		v.SetBool(b.Value)
		return ""
	}
	return "is neither true nor false"
}

func setInt(v reflect.Value, f field, written string) (problem string) {
	bare := strings.TrimLeft(written, "+-")
	if len(bare) > 1 && bare[0] == '0' && bare[1] >= '0' && bare[1] <= '9' {
		return "starts with 0, which is octal to some readers and decimal to others"
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(written, "_", ""), 0, 64)
	if err != nil {
		return "is no whole number"
	}
	return store(v, f, i, written)
}

// store sets an integer of any width.
func store(v reflect.Value, f field, i int64, written string) (problem string) {
	if lo, err := strconv.ParseInt(f.min, 0, 64); err == nil && i < lo {
		return "is less than " + f.min
	}
	if hi, err := strconv.ParseInt(f.max, 0, 64); err == nil && i > hi {
		return "is more than " + f.max
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v.OverflowInt(i) {
			return "is out of range"
		}
		v.SetInt(i)
	default:
		if i < 0 || v.OverflowUint(uint64(i)) {
			return fmt.Sprintf("is out of range (0 to %d)", uint64(math.MaxUint64)>>(64-v.Type().Bits()))
		}
		v.SetUint(uint64(i))
	}
	return ""
}

// units are the suffixes of sizes: powers of 1024 with an i, of 1000 without.
var units = []struct {
	suffix string
	factor float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1},
}

func parseBytes(s string) (int64, bool) {
	number, factor := strings.ToLower(strings.TrimSpace(s)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(number, "_", ""), 64)
	x *= factor
	if err != nil || !(x >= 0 && x < 1<<62) || x != math.Trunc(x) {
		return 0, false
	}
	return int64(x), true
}

func setBytes(v reflect.Value, f field, written string) (problem string) {
	i, ok := parseBytes(written)
	if !ok {
		return "is no size in bytes"
	}
	bounds := f
	bounds.min, bounds.max = "", ""
	if lo, ok := parseBytes(f.min); ok && f.min != "" && i < lo {
		return "is less than " + f.min
	}
	if hi, ok := parseBytes(f.max); ok && f.max != "" && i > hi {
		return "is more than " + f.max
	}
	return store(v, bounds, i, written)
}

func setFloat(v reflect.Value, f field, written string) (problem string) {
	x, err := strconv.ParseFloat(strings.ReplaceAll(written, "_", ""), 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return "is no finite number"
	}
	if lo, err := strconv.ParseFloat(f.min, 64); err == nil && x < lo {
		return "is less than " + f.min
	}
	if hi, err := strconv.ParseFloat(f.max, 64); err == nil && x > hi {
		return "is more than " + f.max
	}
	v.SetFloat(x)
	return ""
}

func setDuration(v reflect.Value, f field, written string) (problem string) {
	dur, err := time.ParseDuration(written)
	if err != nil {
		if _, numErr := strconv.ParseFloat(written, 64); numErr == nil {
			return "lacks its unit (ms, s, m, h)"
		}
		return "is no duration"
	}
	if lo, err := time.ParseDuration(f.min); err == nil && dur < lo {
		return "is less than " + f.min
	}
	if hi, err := time.ParseDuration(f.max); err == nil && dur > hi {
		return "is more than " + f.max
	}
	if dur < 0 && f.min == "" {
		return "is negative"
	}
	v.SetInt(int64(dur))
	return ""
}

func setMode(v reflect.Value, written string) (problem string) {
	m, err := strconv.ParseUint(strings.TrimPrefix(written, "0o"), 8, 12)
	if err != nil || m > 0o777 {
		return "is no file mode"
	}
	v.SetUint(m)
	return ""
}

func (d *decoder) anyScalar(n ast.Node, path string) (any, bool) {
	switch t := n.(type) {
	case *ast.NullNode, nil:
		return nil, true
	case *ast.BoolNode:
		return t.Value, true
	case *ast.IntegerNode:
		if i, err := strconv.ParseInt(strings.ReplaceAll(t.GetToken().Value, "_", ""), 0, 64); err == nil {
			return i, true
		}
	case *ast.FloatNode:
		if !math.IsInf(t.Value, 0) && !math.IsNaN(t.Value) {
			return t.Value, true
		}
	}
	if s, ok := text(n); ok {
		return s, true
	}
	d.fail(n, path, fmt.Sprintf("%s: %q cannot be used as a value", subject(path), nameOf(n)), "")
	return nil, false
}
