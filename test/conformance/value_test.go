package conformance

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// names are what the "$names" of a conversation stand for.
type names map[string]any

// A name in a message's text stands where a value does; after parsing it is a
// string that begins with nameMark.
const nameMark = "\x01"

var nameText = regexp.MustCompile(`([\[,:{]\s*)\$(\w+)`)

// parse reads a message's text: JSON with $names.
func parse(text string) (any, error) {
	text = nameText.ReplaceAllString(text, `$1"\u0001$2"`)
	v, err := codec.JSON.DecodeValue([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return v, nil
}

// fill puts values in the place of names.
func (n names) fill(v any) (any, error) {
	switch v := v.(type) {
	case string:
		name, isName := strings.CutPrefix(v, nameMark)
		if !isName {
			return v, nil
		}
		value, known := n[name]
		if !known {
			return nil, fmt.Errorf("nothing is called $%s yet", name)
		}
		return value, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = n.fill(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			var err error
			if out[key], err = n.fill(v[key]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// match compares a received value with what was expected. A name that stands
// for nothing yet is given the value; $_ is any value. A dictionary with the
// key "..." may have more keys than are named, and a list that ends with "..."
// more elements.
func (n names) match(want, got any) bool {
	switch want := want.(type) {
	case string:
		if name, isName := strings.CutPrefix(want, nameMark); isName {
			return n.is(name, got)
		}
	case []any:
		list, ok := got.([]any)
		if more := len(want) - 1; more >= 0 && want[more] == "..." {
			want = want[:more]
			list = list[:min(len(list), more)]
		}
		if !ok || len(list) != len(want) {
			return false
		}
		for i := range want {
			if !n.match(want[i], list[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		dict, ok := got.(map[string]any)
		_, more := want["..."]
		if !ok || !more && len(dict) != len(want) {
			return false
		}
		for key := range want {
			value, there := dict[key]
			if key != "..." && (!there || !n.match(want[key], value)) {
				return false
			}
		}
		return true
	case []byte:
		b, ok := got.([]byte)
		return ok && bytes.Equal(want, b)
	}
	if w, ok := wamp.ToFloat(want); ok {
		g, ok := wamp.ToFloat(got)
		return ok && w == g
	}
	return reflect.DeepEqual(want, got)
}

func (n names) is(name string, got any) bool {
	if name == "_" {
		return true
	}
	value, known := n[name]
	if !known {
		n[name] = got
		return true
	}
	return n.match(value, got)
}

// show is a message as JSON, for people.
func show(v any) string {
	b, err := codec.JSON.AppendValue(nil, v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
