package homeassistant

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Value is the state in a payload: bool, int64, float64, string, list, dict, or
// nil for an unknown one. ErrAbsent says that the payload has none.
func (s *State) Value(payload []byte) (any, error) {
	if len(payload) == 0 {
		return nil, ErrAbsent
	}
	v, err := s.value.Eval(payload)
	if err != nil {
		return nil, err
	}
	if t := Text(v); t == "None" || t == "" {
		return nil, nil
	}
	switch s.kind {
	case "bool":
		switch t := Text(v); t {
		case s.on:
			return true, nil
		case s.off:
			return false, nil
		default:
			return nil, fmt.Errorf("%q is neither %q nor %q", clip(t), clip(s.on), clip(s.off))
		}
	case "number":
		n, ok := number(strings.TrimSpace(Text(v)))
		if !ok {
			return nil, fmt.Errorf("%q is no number", clip(Text(v)))
		}
		return n, nil
	case "text":
		return Text(v), nil
	}
	return plain(v), nil
}

func number(s string) (any, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	// Not what only Go takes for a number, such as 0x1p-2 or inf.
	if s == "" || strings.Trim(s, "0123456789.eE+-") != "" {
		return nil, false
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil
}

// plain makes WAMP's numbers of JSON's.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := number(string(v)); ok {
			return n
		}
		return string(v)
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return v
}

// Here reads a payload of an availability topic; known is false when it says
// neither.
func (a *Availability) Here(payload []byte) (here, known bool) {
	v, err := a.value.Eval(payload)
	if err != nil {
		return false, false
	}
	switch Text(v) {
	case a.here:
		return true, true
	case a.notHere:
		return false, true
	}
	return false, false
}

// Payload is what is published for a call with args. An argument may be given by
// position or by its name. The error is a *wamp.Error.
func (c *Command) Payload(args wamp.List, kwargs wamp.Dict) ([]byte, error) {
	if len(kwargs) == 1 && len(args) == 0 {
		if v, ok := kwargs[c.Arg]; ok && c.Arg != "" {
			args, kwargs = wamp.List{v}, nil
		}
	}
	want := 0
	if c.Arg != "" {
		want = 1
	}
	if len(args) != want || len(kwargs) > 0 {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%s takes %d argument, %s %s", c.Name, want, c.Arg, c.Type)
	}
	out, err := c.word(args)
	if err != nil {
		return nil, err
	}
	if c.template == nil {
		return []byte(out), nil
	}
	v, err := c.template.Eval([]byte(out))
	if err != nil {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%s: %v", c.Name, err)
	}
	return []byte(Text(v)), nil
}

func (c *Command) word(args wamp.List) (string, error) {
	wrong := func(format string, a ...any) (string, error) {
		return "", wamp.Errorf(wamp.ErrInvalidArgument, "%s: %s", c.Name, fmt.Sprintf(format, a...))
	}
	if c.Arg == "" {
		return c.fixed, nil
	}
	switch v := args[0].(type) {
	case bool:
		if c.Type == "bool" {
			return c.words[Text(v)], nil
		}
	case string:
		if c.Type != "string" {
			break
		}
		if len(c.options) > 0 && !slices.Contains(c.options, v) {
			return wrong("%q is none of %q", clip(v), c.options)
		}
		return v, nil
	case int64, uint64, float64:
		x, _ := strconv.ParseFloat(fmt.Sprint(v), 64)
		if c.Type != "float" {
			break
		}
		if !(x >= c.min && x <= c.max) {
			return wrong("%v is not from %v to %v", v, c.min, c.max)
		}
		return strconv.FormatFloat(x, 'f', -1, 64), nil
	}
	return wrong("the argument is to be a %s", c.Type)
}

// Type is that of the entity's values: bool, float or string; "" when it is not
// known, or there are none.
func (e *Entity) Type() string {
	if len(e.States) == 0 {
		return ""
	}
	return map[string]string{"bool": "bool", "number": "float", "text": "string"}[e.States[0].kind]
}

// Describe is the command's argument as describe has it.
func (c *Command) Describe() wamp.Dict {
	d := wamp.Dict{"name": c.Arg, "type": c.Type, "doc": "", "optional": false}
	if c.Type == "float" {
		d["min"], d["max"] = c.min, c.max
	}
	if len(c.options) > 0 {
		options := wamp.List{}
		for _, o := range c.options {
			options = append(options, o)
		}
		d["options"] = options
	}
	return d
}
