package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// opened is a connection whose first bytes somebody has looked at, or whose
// proxy has said for whom it is. The connections of this package take it off
// again, so that they have the socket itself, or TLS itself, below them.
type opened struct {
	net.Conn
	ahead         []byte   // what was looked at and has not been taken
	remote, local net.Addr // by the word of a proxy; nil without one
}

// Read implements net.Conn.
func (o *opened) Read(p []byte) (int, error) {
	if len(o.ahead) == 0 {
		return o.Conn.Read(p)
	}
	n := copy(p, o.ahead)
	o.ahead = o.ahead[n:]
	return n, nil
}

// RemoteAddr implements net.Conn.
func (o *opened) RemoteAddr() net.Addr {
	if o.remote != nil {
		return o.remote
	}
	return o.Conn.RemoteAddr()
}

// LocalAddr implements net.Conn.
func (o *opened) LocalAddr() net.Addr {
	if o.local != nil {
		return o.local
	}
	return o.Conn.LocalAddr()
}

// CloseWrite closes the sending half, where there are halves.
func (o *opened) CloseWrite() error {
	if c, ok := o.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// open makes an opened connection of any.
func open(conn net.Conn) *opened {
	if o, ok := conn.(*opened); ok {
		return o
	}
	return &opened{Conn: conn}
}

// through is the connection below an opened one, with what has not been taken,
// and any other itself.
func through(conn net.Conn) (below net.Conn, ahead []byte) {
	if o, ok := conn.(*opened); ok {
		return o.Conn, o.ahead
	}
	return conn, nil
}

// TLSState is the state of the TLS connection that Sniff has looked into, nil for
// what it has not returned. The HTTP server does not find it there by itself.
func TLSState(conn net.Conn) *tls.ConnectionState {
	o, ok := conn.(*opened)
	if !ok {
		return nil
	}
	if c, ok := o.Conn.(*tls.Conn); ok {
		state := c.ConnectionState()
		return &state
	}
	return nil
}

// Protocol is what a connection speaks.
type Protocol string

// Protocols that share a port.
const (
	SpeaksRawSocket Protocol = "RawSocket"
	SpeaksHTTP      Protocol = "HTTP"
	SpeaksTLS       Protocol = "TLS"
)

// Sniff waits for the first byte of a connection and says what it begins; the
// connection that it returns has it still. How long that may take is the
// caller's to bound, by a deadline. The error wraps ErrFraming for what is none of
// the protocols.
func Sniff(conn net.Conn) (net.Conn, Protocol, error) {
	o := open(conn)
	if len(o.ahead) == 0 {
		var first [1]byte
		for n := 0; n == 0; {
			var err error
			if n, err = o.Conn.Read(first[:]); err != nil && n == 0 {
				return nil, "", fmt.Errorf("no first byte: %w", err)
			}
		}
		o.ahead = first[:]
	}
	const handshake = 0x16 // the content type of a TLS record
	switch b := o.ahead[0]; {
	case b == rawMagic:
		return o, SpeaksRawSocket, nil
	case b == handshake:
		return o, SpeaksTLS, nil
	case b >= 'A' && b <= 'Z':
		return o, SpeaksHTTP, nil
	default:
		return nil, "", fmt.Errorf("%w: it begins with %#02x, as neither RawSocket, HTTP nor TLS do%s", ErrFraming, b, guess(b))
	}
}
