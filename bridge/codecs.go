package bridge

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// payloadCodec reads and writes MQTT payloads as one map says. A format turns
// one value into bytes and back; field and template say which value of the
// payload that is; into says where in the event it goes.
type payloadCodec struct {
	format   format
	doc      wamp.Encoding // of the whole payload, where there is a field
	plain    bool          // the format is of a lone value, not of a document
	into     string
	field    *expr.Path
	template *expr.Template
}

// format is one way to write a value.
type format interface {
	appendValue(dst []byte, v any) ([]byte, error)
	// value reads a payload that is not empty.
	value(b []byte) (any, error)
}

// newPayloadCodec makes a map's codec. captures are the names that braces in a
// template may have.
func newPayloadCodec(c Codec, into string, captures func(string) bool) (*payloadCodec, error) {
	p := &payloadCodec{into: into, doc: codec.JSON}
	switch c.Type {
	case "auto":
		p.format = autoFormat{}
	case "json":
		p.format = encodingFormat{codec.JSON}
	case "msgpack":
		p.format, p.doc = encodingFormat{codec.MessagePack}, codec.MessagePack
	case "cbor":
		p.format, p.doc = encodingFormat{codec.CBOR}, codec.CBOR
	default:
		p.plain = true
	}
	switch c.Type {
	case "text":
		p.format = textFormat{}
	case "number":
		p.format = numberFormat{}
	case "bool":
		if strings.EqualFold(c.True, c.False) {
			return nil, fmt.Errorf("bool needs two different words, has %q for both", c.True)
		}
		p.format = boolFormat{c.True, c.False}
	case "base64":
		p.format = base64Format{}
	case "raw":
		p.format = rawFormat{}
	}
	if p.format == nil {
		return nil, fmt.Errorf("%q is not known; it is one of auto, json, msgpack, cbor, text, number, bool, base64, raw", c.Type)
	}
	if p.plain && into != IntoArgs && c.Template == nil {
		return nil, fmt.Errorf("%s carries a lone value, which can go into args only, not into %s", c.Type, into)
	}
	var err error
	switch {
	case c.Field != "" && c.Template != nil:
		return nil, errors.New("has a field and a template; a template can name the field itself, as $.name")
	case c.Field != "":
		if p.field, err = expr.ParsePath(c.Field); err == nil && !p.field.IntoDoc() {
			err = errors.New("begins elsewhere than with $., which is the payload")
		}
		if err != nil {
			return nil, fmt.Errorf("field %w", err)
		}
	case c.Template != nil:
		if p.template, err = expr.ParseTemplate(c.Template, captures); err != nil {
			return nil, fmt.Errorf("template %w", err)
		}
	}
	return p, nil
}

var errNoObject = errors.New("not an object")

// read reads a payload that is not empty into an event's arguments. It leaves
// in scope what conditions may ask for.
func (c *payloadCodec) read(b []byte, scope *expr.Scope) (wamp.List, wamp.Dict, error) {
	v, err := c.value(b, scope)
	if err != nil {
		return nil, nil, err
	}
	switch c.into {
	case IntoKwArgs:
		d, ok := v.(map[string]any)
		if !ok {
			return nil, nil, errNoObject
		}
		return nil, d, nil
	case IntoEnvelope:
		return openEnvelope(v)
	case ArgsSpread:
		if list, ok := v.([]any); ok {
			return list, nil, nil
		}
	}
	return wamp.List{v}, nil, nil
}

// value reads the value that the codec is about.
func (c *payloadCodec) value(b []byte, scope *expr.Scope) (any, error) {
	var v any
	var err error
	if c.field == nil {
		v, err = c.format.value(b)
		scope.Doc = v
	} else if scope.Doc, err = c.doc.DecodeValue(b); err == nil {
		found := false
		if v, found = c.field.Get(scope); !found {
			return nil, fmt.Errorf("there is no %s", c.field)
		}
		v, err = c.interpret(v)
	}
	if err != nil {
		return nil, err
	}
	scope.Value = v
	if c.template != nil {
		return c.template.Build(scope)
	}
	return v, nil
}

// interpret reads a field of a document as a format of lone values does.
func (c *payloadCodec) interpret(v any) (any, error) {
	if !c.plain {
		return v, nil
	}
	b, err := textFormat{}.appendValue(nil, v)
	if err != nil {
		return nil, err
	}
	return c.format.value(b)
}

func openEnvelope(v any) (wamp.List, wamp.Dict, error) {
	d, ok := v.(map[string]any)
	if !ok {
		return nil, nil, errNoObject
	}
	args, argsOK := d["args"].([]any)
	kwargs, kwargsOK := d["kwargs"].(map[string]any)
	for key, value := range d {
		switch {
		case key == "args" && (argsOK || value == nil), key == "kwargs" && (kwargsOK || value == nil):
		case key == "args":
			return nil, nil, errors.New("args is not a list")
		case key == "kwargs":
			return nil, nil, errors.New("kwargs is not an object")
		default:
			return nil, nil, fmt.Errorf("an envelope has args and kwargs, not %q", clip(key))
		}
	}
	return args, kwargs, nil
}

// encode writes an event's arguments as a payload; none at all are an empty
// one.
func (c *payloadCodec) encode(p wamp.Payload, scope *expr.Scope) ([]byte, error) {
	args, kwargs, err := p.Values()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 && len(kwargs) == 0 {
		return nil, nil
	}
	return c.write(args, kwargs, scope)
}

// write writes arguments as a payload.
func (c *payloadCodec) write(args wamp.List, kwargs wamp.Dict, scope *expr.Scope) ([]byte, error) {
	scope.Args, scope.KwArgs = args, kwargs
	if len(args) > 0 {
		scope.Value = args[0]
	}
	if c.template != nil {
		scope.Doc = map[string]any{"args": args, "kwargs": kwargs}
		v, err := c.template.Build(scope)
		if err != nil {
			return nil, err
		}
		return c.format.appendValue(nil, v)
	}
	v, err := c.gather(args, kwargs)
	if err != nil || c.field == nil {
		if err != nil {
			return nil, err
		}
		return c.format.appendValue(nil, v)
	}
	if c.plain {
		b, err := c.format.appendValue(nil, v)
		if err != nil {
			return nil, err
		}
		if _, isNumber := c.format.(numberFormat); !isNumber {
			v = string(b)
		}
	}
	return c.doc.AppendValue(nil, c.field.Build(v))
}

// gather makes one value of arguments.
func (c *payloadCodec) gather(args wamp.List, kwargs wamp.Dict) (any, error) {
	switch c.into {
	case IntoKwArgs:
		return object(args, kwargs)
	case IntoEnvelope:
		d := wamp.Dict{}
		if len(args) > 0 {
			d["args"] = args
		}
		if len(kwargs) > 0 {
			d["kwargs"] = kwargs
		}
		return d, nil
	}
	switch len(args) {
	case 0:
		if len(kwargs) == 0 {
			return nil, nil
		}
		return nil, errors.New("there are keyword arguments only; use into: kwargs or envelope")
	case 1:
		return args[0], nil
	}
	return args, nil
}

// object is the keyword arguments, with the positional ones beside them: a
// reading's value and its unit in one object.
func object(args wamp.List, kwargs wamp.Dict) (wamp.Dict, error) {
	if len(args) == 0 {
		return kwargs, nil
	}
	d := make(wamp.Dict, len(kwargs)+1)
	for k, v := range kwargs {
		d[k] = v
	}
	key, value := "value", args[0]
	if len(args) > 1 {
		key, value = "args", args
	}
	if _, taken := d[key]; taken {
		return nil, fmt.Errorf("the event has arguments and a keyword argument %q; use into: envelope", key)
	}
	d[key] = value
	return d, nil
}

type encodingFormat struct{ enc wamp.Encoding }

func (f encodingFormat) appendValue(dst []byte, v any) ([]byte, error) {
	return f.enc.AppendValue(dst, v)
}
func (f encodingFormat) value(b []byte) (any, error) { return f.enc.DecodeValue(b) }

// autoFormat takes what devices send without asking: JSON where it is JSON,
// else text where it is text.
type autoFormat struct{}

func (autoFormat) appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), nil
	case []byte:
		return append(dst, v...), nil
	}
	return codec.JSON.AppendValue(dst, v)
}

func (autoFormat) value(b []byte) (any, error) {
	if strings.IndexByte("{[\"-0123456789tfn \t\r\n", b[0]) >= 0 {
		if v, err := codec.JSON.DecodeValue(b); err == nil {
			return v, nil
		}
	}
	if !utf8.Valid(b) {
		return b, nil
	}
	return string(b), nil
}

type textFormat struct{}

func (textFormat) appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	}
	return numberFormat{}.appendValue(dst, v)
}

func (textFormat) value(b []byte) (any, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8 text")
	}
	return string(b), nil
}

type numberFormat struct{}

func (numberFormat) appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v is no number", v)
		}
		form := byte('f')
		if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
			form = 'g'
		}
		return strconv.AppendFloat(dst, v, form, -1, 64), nil
	}
	return nil, fmt.Errorf("a %s is no number", kindOf(v))
}

func (numberFormat) value(b []byte) (any, error) {
	s := strings.TrimSpace(string(b))
	if len(s) > 100 || strings.Trim(s, "0123456789+-.eE") != "" {
		return nil, fmt.Errorf("%q is no number", clip(s))
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", clip(s))
	}
	return f, nil
}

type boolFormat struct{ yes, no string }

func (f boolFormat) appendValue(dst []byte, v any) ([]byte, error) {
	switch v {
	case true:
		return append(dst, f.yes...), nil
	case false:
		return append(dst, f.no...), nil
	}
	return nil, fmt.Errorf("a %s is no boolean", kindOf(v))
}

func (f boolFormat) value(b []byte) (any, error) {
	s := strings.TrimSpace(string(b))
	if strings.EqualFold(s, f.yes) {
		return true, nil
	}
	if strings.EqualFold(s, f.no) {
		return false, nil
	}
	return nil, fmt.Errorf("%q is neither %q nor %q", clip(s), f.yes, f.no)
}

type base64Format struct{}

func (base64Format) appendValue(dst []byte, v any) ([]byte, error) {
	b, err := rawFormat{}.appendValue(nil, v)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(dst, b), nil
}

func (base64Format) value(b []byte) (any, error) {
	out, err := base64.StdEncoding.AppendDecode(nil, b)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return out, nil
}

type rawFormat struct{}

func (rawFormat) appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return append(dst, v...), nil
	case string:
		return append(dst, v...), nil
	}
	return nil, fmt.Errorf("a %s is no bytes", kindOf(v))
}

func (rawFormat) value(b []byte) (any, error) { return b, nil }

// kindOf names a canonical value's type for people.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int64, uint64, float64:
		return "number"
	case string:
		return "text"
	case []byte:
		return "binary value"
	case []any:
		return "list"
	}
	return "dictionary"
}

// clip shortens text from outside for messages.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
