// Package transport carries WAMP messages as bytes between two peers:
// WebSocket, RawSocket over TCP, TLS and Unix sockets, HTTP long-poll, and an
// in-process pipe, one file each. It knows serializations by name only as far as the peers must
// agree on one; it never looks into a message.
//
// What the two network transports share is in link.go (the life of a
// connection), send.go (many messages in one system call, without waiting where
// that is asked for), receive.go (messages read without trusting their claimed
// size), socket_linux.go and keepalive.go. A connection over a bare socket holds
// no buffer while it waits. The WebSocket library does the handshakes; its frames
// are read in frame.go, and decompressed in deflate.go. What comes before a
// transport is known is in opened.go (which one it is) and proxy.go (for whom it
// is, by the word of a proxy).
//
// No connection has a goroutine of its own. Keep-alive is a timer whose
// function runs for the length of one ping; Close waits for it. The package
// accepts no connections and never retries: that is its callers' business.
package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// Conn is an established connection on which both peers have agreed on a
// codec. One goroutine may call Read while another calls Write; Close may be
// called by anyone, repeatedly, and unblocks both.
type Conn interface {
	// Read returns the bytes of the next message; they belong to the caller.
	// The error is io.EOF after an orderly close by either side, wraps
	// ErrTooLarge or ErrFraming when the peer broke the rules, and is final.
	// The connection can still be written to after those two, to say why it
	// ends.
	Read() ([]byte, error)
	// Write sends the messages in order, with as few system calls as it can.
	// It keeps no reference to them. A peer that takes nothing for the write
	// timeout is given up. An error is final, but for one that wraps
	// ErrTooLarge: a message is above Info.MaxWrite, and nothing was sent.
	Write(messages ...[]byte) error
	// SetReadLimit bounds the size of the messages that Read accepts, in
	// bytes, beginning with the next Read; 0 means DefaultReadLimit. A larger
	// one is refused by its header, unread.
	SetReadLimit(bytes int)
	// Close ends the connection, orderly where the transport knows how to: what
	// was written before arrives, if the peer reads it within a second.
	Close() error
	// Info describes the connection; it does not change.
	Info() *Info
}

// Direct is a Conn through which somebody who must not wait can send. All are
// but those over long-poll.
type Direct interface {
	Conn
	// TryWrite is Write as far as it goes without waiting. When not all was
	// sent, the next call must be Write with the same messages: it goes on where
	// TryWrite stopped, and until it has returned they must not be changed.
	TryWrite(messages ...[]byte) (sent bool, err error)
	// OnWait has f called by Read before it may wait for the peer. It must be
	// set before the first Read.
	OnWait(f func())
}

// Info is what is known of a connection.
type Info struct {
	// Transport is "websocket", "rawsocket", "longpoll" or "pipe".
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
	// Header is the HTTP request's header, without what only the WebSocket
	// handshake needs; nil without a request.
	Header http.Header
}

var (
	// ErrTooLarge is wrapped by the error of a Read that met a message above
	// the limit, and by that of a Write with one that the peer does not accept.
	ErrTooLarge = errors.New("message too large")
	// ErrFraming is wrapped by the error of a Read that met bytes which the
	// transport's own framing does not allow.
	ErrFraming = errors.New("transport framing violated")
)

// DefaultReadLimit bounds the messages that a Conn accepts until SetReadLimit
// says otherwise, in bytes. Connections that a listener accepted begin with
// its ReadLimit, which is lower.
const DefaultReadLimit = 16 << 20

// Defaults of the listeners.
const (
	firstReadLimit   = 16 << 10 // until the peer is known
	maxMessage       = 1 << 20
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 10 * time.Second
	pingInterval     = 20 * time.Second
	pingTimeout      = 20 * time.Second
)

// positive is v, or otherwise when a caller left it out.
func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

func tooLarge(size uint64, limit int64) error {
	return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, limit)
}
