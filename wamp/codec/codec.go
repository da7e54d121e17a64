// Package codec turns WAMP messages into bytes and back: JSON, MessagePack and
// CBOR, one file each.
//
// Only a message's header is decoded. Arguments stay raw (wamp.Payload) and
// are written out untouched when the receiver speaks the same serialization;
// otherwise they are transcoded token by token, without a detour through Go
// values. A message's shape (which field follows which) is written down once,
// for all codecs, in message.go and options.go.
//
// Everything that comes from outside is scanned before anything is allocated
// by what it claims: nesting, the number of elements in all, and declared
// lengths are bounded (Limits). The package has no goroutines and no state.
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
	// Depth is how deeply lists and dictionaries may nest; default 64.
	Depth int
	// Elements is how many values a message may hold in all; default 100,000.
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
