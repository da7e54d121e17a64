package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// RawSocket says how to accept WAMP over RawSocket ("RawSocket Transport"):
// frames with a header of four bytes over TCP, TLS or a Unix socket. It is a
// config section as well; NewRawSocket gives the defaults.
type RawSocket struct {
	// PingInterval and PingTimeout are as in WebSocket. Pings are off by
	// default: autobahn-python's Twisted client takes a PING for a message of
	// 16 MiB and hangs up.
	PingInterval time.Duration `yaml:"ping_interval" doc:"a client that has been silent for this long is pinged; 0 turns pings off, as some clients do not know them"`
	PingTimeout  time.Duration `yaml:"ping_timeout" doc:"a client that stays silent for this long after a ping is disconnected"`
	WriteTimeout time.Duration `yaml:"write_timeout" doc:"a client that takes no data for this long is disconnected"`
	// ReadLimit is the first read limit of every connection, in bytes; 0 means
	// 16 KiB.
	ReadLimit int `yaml:"-"`
	// MaxMessage is the largest message that the connection will ever accept,
	// in bytes, rounded down to a power of two; the client is told in the
	// handshake. 0 means 1 MiB.
	MaxMessage int `yaml:"-"`
	// HandshakeTimeout bounds the handshake; 0 means 5 s.
	HandshakeTimeout time.Duration `yaml:"-"`
}

// NewRawSocket returns the defaults.
func NewRawSocket() RawSocket {
	return RawSocket{
		PingTimeout:      pingTimeout,
		WriteTimeout:     writeTimeout,
		ReadLimit:        firstReadLimit,
		MaxMessage:       maxMessage,
		HandshakeTimeout: handshakeTimeout,
	}
}

// Validate reports durations that cannot work.
func (rs *RawSocket) Validate(report func(path, problem, hint string)) {
	validateTimes(report, rs.PingInterval, rs.PingTimeout, rs.WriteTimeout)
}

// Numbers of the protocol.
const (
	rawMagic = 0x7f

	rawMessage = 0
	rawPing    = 1
	rawPong    = 2
	rawX       = 1 << 3 // the 25th bit of the length, for exactly 16 MiB

	rawMinShift = 9
	// rawMaxWrite is the most that we send. The text allows one byte more, by
	// the X bit, which clients in the field do not know.
	rawMaxWrite = 1<<24 - 1
	// rawMaxPing bounds the payload of a PING, which is answered from memory.
	rawMaxPing = 64 << 10
)

// Handshake errors of a router.
const (
	rawErrSerializer  = 1
	rawErrLength      = 2
	rawErrReserved    = 3
	rawErrConnections = 4
)

var rawErrors = map[byte]string{
	rawErrSerializer:  "it does not speak the serialization",
	rawErrLength:      "it does not accept our maximum message length",
	rawErrReserved:    "it does not know a feature that we use",
	rawErrConnections: "it has as many connections as it allows",
}

// AcceptRawSocket does the server's part of the handshake on conn, which it
// closes when that fails. The bytes may come in pieces, and the first messages
// with them.
func AcceptRawSocket(conn net.Conn, opts RawSocket) (Conn, error) {
	c := newRawSocket(conn, opts.WriteTimeout, positive(opts.ReadLimit, firstReadLimit))
	if err := c.accept(opts); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("RawSocket handshake with %v: %w", conn.RemoteAddr(), err)
	}
	c.ready(opts.PingInterval, opts.PingTimeout)
	return c, nil
}

// RejectRawSocket tells a client that there are too many connections, and
// closes conn. It takes up to a second with a client that does not listen. A TLS
// client is not told: that would take a handshake with each.
func RejectRawSocket(conn net.Conn) error {
	if below, _ := through(conn); underTLS(below) != below {
		return underTLS(below).Close()
	}
	c := newRawSocket(conn, closeGrace, firstReadLimit)
	err := c.frame([]byte{rawMagic, rawErrConnections << 4, 0, 0})
	return errors.Join(err, c.Close())
}

// rawSocketConn is a RawSocket connection of either side.
type rawSocketConn struct{ link }

func newRawSocket(conn net.Conn, timeout time.Duration, readLimit int) *rawSocketConn {
	c := &rawSocketConn{}
	c.init(conn, timeout, readLimit)
	c.header = func(dst []byte, n int) ([]byte, mask) { return appendRawHeader(dst, rawMessage, n), mask{} }
	return c
}

// ready begins the life after the handshake.
func (c *rawSocketConn) ready(interval, timeout time.Duration) {
	c.info.Transport = "rawsocket"
	if t, ok := c.conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		c.info.TLS = &state
	}
	c.startKeepAlive(interval, timeout, appendRawHeader(nil, rawPing, 0))
}

// handshake reads the peer's four bytes.
func (c *rawSocketConn) handshake(timeout time.Duration) (b [4]byte, err error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return b, err
	}
	ahead, err := c.source.peek(1)
	if err != nil {
		return b, c.cutShort(0, timeout, err)
	}
	if first := ahead[0]; first != rawMagic {
		return b, fmt.Errorf("%w: it begins with %#02x and not 0x7f%s", ErrFraming, first, guess(first))
	}
	if ahead, err = c.source.peek(len(b)); err != nil {
		return b, c.cutShort(len(ahead), timeout, err)
	}
	c.source.discard(copy(b[:], ahead))
	return b, c.conn.SetReadDeadline(time.Time{})
}

func (c *rawSocketConn) cutShort(n int, timeout time.Duration, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("only %d of 4 bytes came within %v: %w", n, timeout, err)
	}
	return fmt.Errorf("only %d of 4 bytes came: %w", n, err)
}

// guess says what a first byte looks like.
func guess(b byte) string {
	switch {
	case b == 0x16:
		return ": it looks like TLS"
	case b == 'P' || b == '\r':
		return ": it looks like HTTP or the PROXY protocol"
	case b >= 'A' && b <= 'Z':
		return ": it looks like HTTP"
	}
	return ""
}

func (c *rawSocketConn) accept(opts RawSocket) error {
	timeout := positive(opts.HandshakeTimeout, handshakeTimeout)
	if err := c.shakeTLS(timeout); err != nil {
		return err
	}
	b, err := c.handshake(timeout)
	if err != nil {
		return err
	}
	refuse := func(code byte, err error) error {
		return errors.Join(err, c.frame([]byte{rawMagic, code << 4, 0, 0}))
	}
	if b[2] != 0 || b[3] != 0 {
		return refuse(rawErrReserved, fmt.Errorf("%w: reserved bytes are %#02x %#02x", ErrFraming, b[2], b[3]))
	}
	nibble := b[1] & 0x0f
	for _, s := range serializations {
		if s.nibble == nibble {
			c.info.Codec = s.codec
		}
	}
	if c.info.Codec == nil {
		return refuse(rawErrSerializer, fmt.Errorf("unknown serializer %d", nibble))
	}
	c.info.MaxWrite = peerLimit(b[1] >> 4)
	return c.frame([]byte{rawMagic, lengthNibble(positive(opts.MaxMessage, maxMessage))<<4 | nibble, 0, 0})
}

// offer does the client's part.
func (c *rawSocketConn) offer(cd codec.Codec, limit int, timeout time.Duration) error {
	var nibble byte
	for _, s := range serializations {
		if s.codec == cd {
			nibble = s.nibble
		}
	}
	if nibble == 0 {
		return fmt.Errorf("RawSocket has no number for serialization %q", cd.Name())
	}
	if err := c.frame([]byte{rawMagic, lengthNibble(limit)<<4 | nibble, 0, 0}); err != nil {
		return err
	}
	b, err := c.handshake(timeout)
	if err != nil {
		return err
	}
	switch {
	case b[1]&0x0f == 0:
		reason, known := rawErrors[b[1]>>4]
		if !known {
			reason = fmt.Sprintf("unknown reason %d", b[1]>>4)
		}
		return fmt.Errorf("the router refused: %s", reason)
	case b[1]&0x0f != nibble:
		return fmt.Errorf("%w: the router chose serializer %d, asked was %d (%s)", ErrFraming, b[1]&0x0f, nibble, cd.Name())
	case b[2] != 0 || b[3] != 0:
		return fmt.Errorf("%w: reserved bytes are %#02x %#02x", ErrFraming, b[2], b[3])
	}
	c.info.Codec = cd
	c.info.MaxWrite = peerLimit(b[1] >> 4)
	return nil
}

// lengthNibble is the largest L for which 2^(9+L) bytes are within limit.
func lengthNibble(limit int) byte {
	return byte(min(max(bits.Len(uint(limit))-1-rawMinShift, 0), 15))
}

// peerLimit is what a peer that announced L accepts.
func peerLimit(l byte) int { return min(int(1)<<(rawMinShift+l), rawMaxWrite) }

func appendRawHeader(dst []byte, kind byte, n int) []byte {
	return append(dst, kind, byte(n>>16), byte(n>>8), byte(n))
}

// Read implements Conn.
func (c *rawSocketConn) Read() ([]byte, error) { return c.read(true, c.next) }

func (c *rawSocketConn) next() ([]byte, error) {
	for {
		h, err := c.source.peek(4)
		if err != nil {
			if len(h) > 0 && err == io.EOF {
				err = errMidFrame
			}
			return nil, err
		}
		kind, n := h[0], int(h[1])<<16|int(h[2])<<8|int(h[3])
		c.source.discard(4)
		if kind&rawX != 0 && n == 0 {
			kind, n = kind&^rawX, 1<<24
		}
		limit := c.limit.Load()
		if kind == rawPing {
			limit = min(limit, rawMaxPing)
		}
		if kind > rawPong {
			return nil, fmt.Errorf("%w: frame of reserved type %#02x", ErrFraming, kind)
		}
		if int64(n) > limit {
			return nil, tooLarge(uint64(n), limit)
		}
		var m []byte
		switch kind {
		case rawMessage:
			m, err = c.source.take(n)
		case rawPing:
			err = c.answer(n)
		case rawPong:
			err = c.source.skip(n)
		}
		if err == io.EOF {
			err = errMidFrame
		}
		if err != nil || kind == rawMessage {
			return m, err
		}
	}
}

var errMidFrame = fmt.Errorf("the connection ended within a frame: %w", io.ErrUnexpectedEOF)

// answer echoes the payload of a PING.
func (c *rawSocketConn) answer(n int) error {
	payload, err := c.source.take(n)
	if err != nil {
		return err
	}
	return c.frame(append(appendRawHeader(make([]byte, 0, 4+n), rawPong, n), payload...))
}

// Close implements Conn. RawSocket has no farewell of its own.
func (c *rawSocketConn) Close() error { return c.close(nil) }
