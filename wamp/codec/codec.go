// Package codec turns WAMP messages into bytes and back: JSON, MessagePack and
// CBOR, one file each.
//
// Only a message's header is decoded. Arguments stay raw (wamp.Payload) and
// are written out untouched when the receiver speaks the same serialization;
// otherwise they are transcoded token by token, without a detour through Go
// values. A message's shape (which field follows which) is written down once,
// for reading and writing and for all codecs, in message.go and options.go;
// a serialization is only a scanner for its tokens and what writes them.
//
// Everything that comes from outside is scanned before anything is allocated
// by what it claims: nesting, the number of elements in all, and declared
// lengths are bounded (Limits). The package has no goroutines and no state.
//
// It is a large package because each serialization has a scanner and a writer
// of its own: the libraries would allocate by what the input claims, recurse
// without bound, and decode payloads that are only to be passed on.
//
// # Values
//
// Decoding gives the canonical types of wamp.Dict, the same for the same value
// in every serialization. Encoding takes these, the other number types,
// time.Time (RFC 3339) and errors as strings, []string, map[string]string and
// the like; nil lists and dictionaries of these types are written empty. Keys
// are sorted, so that equal values have equal bytes. Any other Go
// value is given to the library of the serialization (vmihailenco/msgpack,
// fxamacker/cbor; JSON goes through the latter), which follows the json tags of
// structs. Strings that are not UTF-8 are mended with U+FFFD.
//
// Not everything crosses from one serialization to another. Keys of
// dictionaries must be strings, JSON has no NaN and no infinities, and in JSON
// a string that begins with NUL is binary data. MessagePack's extension types
// other than timestamps, CBOR's bignums beyond 64 bits and its simple values
// have no counterpart. All of these pass untouched between peers of the same
// serialization; elsewhere they are a *TranscodeError.
package codec

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// Codec is one serialization of WAMP messages. The implementations are the
// singletons JSON, MessagePack and CBOR.
type Codec interface {
	wamp.Encoding
	// Binary reports whether messages are bytes (WebSocket binary frames) or
	// UTF-8 text (text frames).
	Binary() bool
	// Append appends the encoding of m to dst. A payload in another
	// serialization is transcoded; when this one cannot express it, the error
	// is a *TranscodeError and nothing of the message must be sent.
	Append(dst []byte, m wamp.Message) ([]byte, error)
	// Decode decodes one message that fills b exactly. The payload of the
	// message aliases b, which must not be changed afterwards. Errors are
	// *Error: malformed bytes, bounds exceeded, an unknown message type, or a
	// field of the wrong type.
	Decode(b []byte, lim Limits) (wamp.Message, error)
}

// Limits bounds what a message may contain, its payload included. Zero fields
// mean the defaults.
type Limits struct {
	// Depth is how deeply lists and dictionaries may nest, the message's own
	// list included; default 64, at most 1000.
	Depth int
	// Elements is how many values a message may hold in all, keys of
	// dictionaries not counted; default 100,000.
	Elements int
}

// DefaultLimits are the limits that a zero Limits stands for.
var DefaultLimits = Limits{Depth: 64, Elements: 100_000}

// Error says what is wrong with bytes that should have been a message.
type Error struct {
	Codec  string // name of the serialization
	Offset int    // bytes from the start of the message; -1 when not known
	Reason string // what is wrong there, for a person to read
}

// Error joins the three.
func (e *Error) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.Codec, e.Reason)
	}
	return fmt.Sprintf("%s at byte %d: %s", e.Codec, e.Offset, e.Reason)
}

// TranscodeError says why a payload that is sound in one serialization cannot
// be expressed in another: a NaN in JSON, a dictionary whose key is no string.
type TranscodeError struct {
	From, To string
	Reason   string
}

// Error joins the three.
func (e *TranscodeError) Error() string {
	return fmt.Sprintf("payload in %s cannot be expressed in %s: %s", e.From, e.To, e.Reason)
}

// The serializations of the basic profile ("Serializers").
var (
	JSON        Codec = jsonCodec
	MessagePack Codec = msgpackCodec
	CBOR        Codec = cborCodec
)

var (
	jsonCodec    = &codec{name: "json", syntax: jsonSyntax{}}
	msgpackCodec = &codec{name: "msgpack", binary: true, syntax: msgpackSyntax{}}
	cborCodec    = &codec{name: "cbor", binary: true, syntax: cborSyntax{}}
)

// All returns the codecs, in the order of their RawSocket serializer numbers,
// which begin with 1.
func All() []Codec { return []Codec{JSON, MessagePack, CBOR} }

// ByName returns the codec with the given wamp.Encoding name.
func ByName(name string) (Codec, bool) {
	for _, c := range All() {
		if c.Name() == name {
			return c, true
		}
	}
	return nil, false
}

// Transcode returns p in the serialization to: p itself when it is in that one
// already. An error is a *TranscodeError.
func Transcode(p wamp.Payload, to Codec) (wamp.Payload, error) {
	if p.Enc == nil || p.Enc == wamp.Encoding(to) {
		return p, nil
	}
	out := wamp.Payload{Enc: to}
	var err error
	if p.Args != nil {
		if out.Args, err = transcode(nil, p.Args, p.Enc, to); err != nil {
			return wamp.Payload{}, err
		}
	}
	if p.KwArgs != nil {
		if out.KwArgs, err = transcode(nil, p.KwArgs, p.Enc, to); err != nil {
			return wamp.Payload{}, err
		}
	}
	return out, nil
}

// transcode appends the one value that b holds, in another serialization.
func transcode(dst, b []byte, from, to wamp.Encoding) ([]byte, error) {
	var w writer
	target, ok := to.(*codec)
	if !ok {
		return dst, &TranscodeError{From: from.Name(), To: to.Name(), Reason: whyForeignCodec}
	}
	if dst == nil {
		dst = make([]byte, 0, len(b)+len(b)/8+16)
	}
	w.init(target, dst)
	w.foreign(b, from)
	return w.dst, w.err
}

const whyForeignCodec = "not one of the serializations known here"

// foreign writes the one value that b holds in the serialization from.
func (w *writer) foreign(b []byte, from wamp.Encoding) {
	source, ok := from.(*codec)
	if !ok {
		lost := &TranscodeError{From: "no serialization", To: w.codec.name, Reason: whyForeignCodec}
		if from != nil {
			lost.From = from.Name()
		}
		w.err = lost
		return
	}
	// Whoever made the payload has set its bounds; copying it is linear.
	var r reader
	r.init(source, b, Limits{Depth: maxDepth, Elements: len(b)})
	w.transcode(&r)
	if w.err != nil {
		w.err = &TranscodeError{From: source.name, To: w.codec.name, Reason: w.err.Error()}
	} else if err := r.finish(); err != nil {
		w.err = &TranscodeError{From: source.name, To: w.codec.name, Reason: err.Error()}
	}
}

// codec is a Codec by its syntax.
type codec struct {
	name   string
	binary bool
	syntax syntax
}

func (c *codec) Name() string { return c.name }

func (c *codec) Binary() bool { return c.binary }

func (c *codec) AppendValue(dst []byte, v any) ([]byte, error) {
	var w writer
	w.init(c, dst)
	if w.value(v, 0); w.err != nil {
		return w.dst, fmt.Errorf("encode as %s: %w", c.name, w.err)
	}
	return w.dst, nil
}

func (c *codec) DecodeValue(raw []byte) (any, error) {
	var r reader
	r.init(c, raw, Limits{})
	v := r.value(r.next())
	if err := r.finish(); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *codec) Append(dst []byte, m wamp.Message) ([]byte, error) {
	var w writer
	w.init(c, dst)
	writeMessage(&w, m)
	if w.err == nil {
		return w.dst, nil
	}
	if lost, ok := w.err.(*TranscodeError); ok {
		return w.dst, lost
	}
	return w.dst, fmt.Errorf("encode %s as %s: %w", m.Kind(), c.name, w.err)
}

func (c *codec) Decode(b []byte, lim Limits) (wamp.Message, error) {
	var r reader
	r.init(c, b, lim)
	m := readMessage(&r)
	if err := r.finish(); err != nil {
		return nil, err
	}
	return m, nil
}
