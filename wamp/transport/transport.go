// Package transport carries WAMP messages as bytes between two peers:
// WebSocket, RawSocket over TCP and Unix sockets, and an in-process pipe, one
// file each. It knows serializations by name only as far as the peers must
// agree on one; it never looks into a message.
//
// A Conn starts no goroutine of its own beyond what its file says, and Close
// ends those.
package transport

import (
	"errors"
	"fmt"
	"net"
	"net/http"

	"crypto/tls"

	"github.com/postern-iot/postern/wamp/codec"
)

// Conn is an established connection on which both peers have agreed on a
// codec. One goroutine may call Read while another calls Write; Close may be
// called by anyone, repeatedly, and unblocks both.
type Conn interface {
	// Read returns the bytes of the next message; they belong to the caller.
	// The error is io.EOF after an orderly close, wraps ErrTooLarge or
	// ErrFraming when the peer broke the rules, and is final.
	Read() ([]byte, error)
	// Write sends the messages in order, with as few system calls as it can.
	// It keeps no reference to them. An error is final.
	Write(messages ...[]byte) error
	// SetReadLimit bounds the size of the messages that Read accepts from now
	// on, in bytes. A larger one is refused by its header, unread.
	SetReadLimit(bytes int)
	// Close ends the connection, orderly where the transport knows how to.
	Close() error
	// Info describes the connection; it does not change.
	Info() *Info
}

// Info is what is known of a connection.
type Info struct {
	// Transport is "websocket", "rawsocket" or "pipe".
	Transport string
	// Codec is what the peers agreed on.
	Codec codec.Codec
	// Remote and Local are the addresses; nil for a pipe.
	Remote, Local net.Addr
	// MaxWrite is the largest message that the peer accepts, in bytes; 0 when
	// it did not say.
	MaxWrite int
	// TLS is the state of the TLS connection below, nil without one.
	TLS *tls.ConnectionState
	// Header is the HTTP request's header, nil without one.
	Header http.Header
}

var (
	// ErrTooLarge is wrapped by the error of a Read that met a message above
	// the limit.
	ErrTooLarge = errors.New("message too large")
	// ErrFraming is wrapped by the error of a Read that met bytes which the
	// transport's own framing does not allow.
	ErrFraming = errors.New("transport framing violated")
)

// DefaultReadLimit bounds the messages that a Conn accepts until SetReadLimit
// says otherwise, in bytes; where a listener makes the Conn, its own setting
// applies.
const DefaultReadLimit = 16 << 20

func tooLarge(size uint64, limit int64) error {
	return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, limit)
}
