package bridge

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// payloadCodec reads and writes MQTT payloads as one map says. A format turns
// one value into bytes and back; into says where in the event that value goes.
type payloadCodec struct {
	format format
	into   string
}

// format is one way to write a value.
type format interface {
	appendValue(dst []byte, v any) ([]byte, error)
	// value reads a payload that is not empty.
	value(b []byte) (any, error)
}

func newPayloadCodec(c Codec, into string) (*payloadCodec, error) {
	p := &payloadCodec{into: into}
	structured := true
	switch c.Type {
	case "auto":
		p.format = autoFormat{}
	case "json":
		p.format = encodingFormat{codec.JSON}
	case "msgpack":
		p.format = encodingFormat{codec.MessagePack}
	case "cbor":
		p.format = encodingFormat{codec.CBOR}
	default:
		structured = false
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
	if !structured && into != IntoArgs {
		return nil, fmt.Errorf("%s carries a lone value, which can go into args only, not into %s", c.Type, into)
	}
	return p, nil
}

var errNoObject = errors.New("not an object")

// decode reads a payload into an event's arguments.
func (c *payloadCodec) decode(b []byte, enc wamp.Encoding) (wamp.Payload, error) {
	if len(b) == 0 {
		return wamp.Payload{}, nil
	}
	v, err := c.format.value(b)
	if err != nil {
		return wamp.Payload{}, err
	}
	switch c.into {
	case IntoKwArgs:
		d, ok := v.(map[string]any)
		if !ok {
			return wamp.Payload{}, errNoObject
		}
		return wamp.NewPayload(enc, nil, d)
	case IntoEnvelope:
		args, kwargs, err := openEnvelope(v)
		if err != nil {
			return wamp.Payload{}, err
		}
		return wamp.NewPayload(enc, args, kwargs)
	}
	return wamp.NewPayload(enc, wamp.List{v}, nil)
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

// encode writes an event's arguments as a payload.
func (c *payloadCodec) encode(p wamp.Payload) ([]byte, error) {
	args, kwargs, err := p.Values()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 && len(kwargs) == 0 {
		return nil, nil
	}
	switch c.into {
	case IntoKwArgs:
		d, err := object(args, kwargs)
		if err != nil {
			return nil, err
		}
		return c.format.appendValue(nil, d)
	case IntoEnvelope:
		d := wamp.Dict{}
		if len(args) > 0 {
			d["args"] = args
		}
		if len(kwargs) > 0 {
			d["kwargs"] = kwargs
		}
		return c.format.appendValue(nil, d)
	}
	switch len(args) {
	case 0:
		return nil, errors.New("the event has keyword arguments only; use into: kwargs or envelope")
	case 1:
		return c.format.appendValue(nil, args[0])
	}
	return c.format.appendValue(nil, args)
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
