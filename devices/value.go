package devices

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

// maxNesting bounds the depth of a "dict" value; the codecs allow 64 for a
// whole message.
const maxNesting = 16

var errNotFinite = errors.New("the value is not a finite number")

// conform converts a value to the canonical type of a declared one: what
// arrives at a subscriber is always of the type that describe promised. For an
// argument it is as generous as clients need: JSON does not tell 5 from 5.0.
func conform(v any, typ string) (any, error) {
	v, err := canonical(v, 0)
	if err != nil {
		return nil, err
	}
	switch typ {
	case "float":
		if f, ok := wamp.ToFloat(v); ok {
			return f, nil
		}
	case "int":
		if n, ok := wamp.ToInt(v); ok {
			return n, nil
		}
	case "bool":
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case "string":
		if s, ok := v.(string); ok {
			return s, nil
		}
	case "bytes":
		switch b := v.(type) {
		case []byte:
			return b, nil
		case string:
			return []byte(b), nil
		}
	case "dict":
		if d, ok := v.(map[string]any); ok {
			return d, nil
		}
	}
	return nil, fmt.Errorf("want %s, have %s", typ, kindOf(v))
}

// canonical converts v to the types that wamp.Dict names, and refuses what no
// codec can carry.
func canonical(v any, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("the value is nested deeper than %d", maxNesting)
	}
	switch v := v.(type) {
	case nil, bool, int64, []byte:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errNotFinite
		}
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("the text is not UTF-8")
		}
		return v, nil
	case float32:
		return canonical(float64(v), depth)
	case int:
		return int64(v), nil
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint:
		return canonical(uint64(v), depth)
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
		return v, nil
	case map[string]any:
		return canonicalDict(v, depth)
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			c, err := canonical(e, depth+1)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			l[i] = c
		}
		return l, nil
	}
	return nil, fmt.Errorf("a %T cannot be sent", v)
}

func canonicalDict(d map[string]any, depth int) (any, error) {
	c := make(map[string]any, len(d))
	for k, e := range d {
		if !utf8.ValidString(k) {
			return nil, fmt.Errorf("the key %q is not UTF-8", k)
		}
		v, err := canonical(e, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
		c[k] = v
	}
	return c, nil
}

// kindOf names a canonical value's type in the words of Reading.Type.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case int64, uint64:
		return "int"
	case float64:
		return "float"
	case string:
		return "string"
	case []byte:
		return "bytes"
	case []any:
		return "list"
	case map[string]any:
		return "dict"
	}
	return fmt.Sprintf("%T", v)
}

// bindArgs checks the arguments of a call against what the procedure declares.
// The result has both forms, whichever the caller used: a list with one value
// per declared argument, nil where an optional one was left out, and a
// dictionary of those given.
func bindArgs(uri string, declared []Arg, args wamp.List, kwargs wamp.Dict) (wamp.List, wamp.Dict, error) {
	if len(args) > len(declared) {
		return nil, nil, &wamp.Error{
			URI:    wamp.ErrInvalidArgument,
			Args:   wamp.List{fmt.Sprintf("%s: want at most %d arguments, have %d", uri, len(declared), len(args))},
			KwArgs: wamp.Dict{"expected": int64(len(declared))},
		}
	}
	list := make(wamp.List, len(declared))
	dict := make(wamp.Dict, len(declared))
	used := 0
	for i, a := range declared {
		v, byName := kwargs[a.Name]
		if byName {
			used++
			if i < len(args) && args[i] != nil {
				return nil, nil, badArgument(uri, a, "is given by position and by keyword")
			}
		} else if i < len(args) {
			v = args[i]
		}
		if v == nil {
			if !a.Optional {
				return nil, nil, badArgument(uri, a, "is missing")
			}
			continue
		}
		c, err := conform(v, a.Type)
		if err != nil {
			return nil, nil, badArgument(uri, a, err.Error())
		}
		list[i], dict[a.Name] = c, c
	}
	if used < len(kwargs) {
		for name := range kwargs {
			if !declares(declared, name) {
				return nil, nil, badArgument(uri, Arg{Name: name}, "is unknown")
			}
		}
	}
	return list, dict, nil
}

func declares(declared []Arg, name string) bool {
	for _, a := range declared {
		if a.Name == name {
			return true
		}
	}
	return false
}

func badArgument(uri string, a Arg, problem string) *wamp.Error {
	e := wamp.Errorf(wamp.ErrInvalidArgument, "%s: argument %q: %s", uri, a.Name, problem)
	e.KwArgs = wamp.Dict{"argument": a.Name}
	if a.Type != "" {
		e.KwArgs["expected"] = a.Type
	}
	return e
}
