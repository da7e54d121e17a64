package wamp

import (
	"errors"
	"fmt"
)

// Encoding is one serialization of WAMP values. Its implementations are the
// codecs of wamp/codec; each is a singleton, so two Encodings are the same
// serialization exactly when they compare equal.
type Encoding interface {
	// Name is the serialization's name in WAMP: "json", "msgpack" or "cbor".
	Name() string
	// AppendValue appends the encoding of v, any Go value that the
	// serialization can express, to dst. On error dst's content past its
	// original length is undefined.
	AppendValue(dst []byte, v any) ([]byte, error)
	// DecodeValue decodes exactly one value to canonical Go types (see Dict).
	// It enforces the same bounds as the decoding of messages.
	DecodeValue(raw []byte) (any, error)
}

// Payload is what an application sends along in a message: a list of
// positional and a dictionary of keyword arguments. It stays in the bytes it
// arrived in until somebody asks for the values; a router passes it on
// untouched to peers of the same serialization and transcodes it once per
// other serialization.
//
// The zero Payload has no arguments. A Payload's bytes are shared between
// goroutines and must never be written to.
type Payload struct {
	// Enc is the serialization of Args and KwArgs; nil when both are nil.
	Enc Encoding
	// Args is one encoded list, or nil when the message carries none.
	Args []byte
	// KwArgs is one encoded dictionary, or nil when the message carries none.
	KwArgs []byte
}

// NewPayload encodes args and kwargs with enc. Nil or empty kwargs are left
// out, and so is an empty args list when there are no kwargs.
func NewPayload(enc Encoding, args List, kwargs Dict) (Payload, error) {
	if len(args) == 0 && len(kwargs) == 0 {
		return Payload{}, nil
	}
	p := Payload{Enc: enc}
	if args == nil {
		args = List{}
	}
	// One buffer that is most likely large enough holds both.
	buf, err := enc.AppendValue(make([]byte, 0, 16*len(args)+32*len(kwargs)+16), args)
	if err != nil {
		return Payload{}, fmt.Errorf("encode arguments as %s: %w", enc.Name(), err)
	}
	p.Args = buf[:len(buf):len(buf)]
	if len(kwargs) > 0 {
		if p.KwArgs, err = enc.AppendValue(buf[len(buf):], kwargs); err != nil {
			return Payload{}, fmt.Errorf("encode keyword arguments as %s: %w", enc.Name(), err)
		}
	}
	return p, nil
}

// Size is the number of encoded bytes that the payload holds.
func (p Payload) Size() int { return len(p.Args) + len(p.KwArgs) }

// Values decodes the payload to canonical Go types. Missing arguments are a
// nil List or Dict.
func (p Payload) Values() (List, Dict, error) {
	var args List
	var kwargs Dict
	if p.Enc == nil && (p.Args != nil || p.KwArgs != nil) {
		return nil, nil, errors.New("decode payload: its serialization is not known")
	}
	if p.Args != nil {
		v, err := p.Enc.DecodeValue(p.Args)
		if err != nil {
			return nil, nil, fmt.Errorf("decode arguments: %w", err)
		}
		l, ok := v.([]any)
		if !ok {
			return nil, nil, fmt.Errorf("decode arguments: want a list, have %T", v)
		}
		args = l
	}
	if p.KwArgs != nil {
		v, err := p.Enc.DecodeValue(p.KwArgs)
		if err != nil {
			return nil, nil, fmt.Errorf("decode keyword arguments: %w", err)
		}
		d, ok := v.(map[string]any)
		if !ok {
			return nil, nil, fmt.Errorf("decode keyword arguments: want a dictionary, have %T", v)
		}
		kwargs = d
	}
	return args, kwargs, nil
}
