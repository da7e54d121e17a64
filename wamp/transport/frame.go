package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// wsHeader is the header of a WebSocket frame (RFC 6455, 5.2).
type wsHeader struct {
	kind  int // the opcode; wsMore for a frame that goes on with a message
	final bool
	// deflated says that the message which the frame begins is compressed.
	deflated bool
	size     uint64
	key      [4]byte
}

const wsMore = 0

// frameIn reads the payload of the next message that WebSocket knows of, and
// answers what comes before and within it. Of a message in fragments it holds
// no more than has come, and what take does of one frame.
func (c *webSocketConn) frameIn() ([]byte, error) {
	limit := uint64(c.limit.Load())
	var message []byte
	begun, deflated := false, false
	for {
		h, err := c.headerIn(begun)
		if err != nil {
			return nil, err
		}
		if h.kind >= websocket.CloseMessage {
			if err := c.controlIn(&h); err != nil {
				return nil, err
			}
			continue
		}
		if h.size > limit-uint64(len(message)) {
			c.code.Store(websocket.CloseMessageTooBig)
			return nil, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, limit)
		}
		if h.kind != wsMore && (h.kind == websocket.BinaryMessage) != c.binary {
			c.code.Store(websocket.CloseUnsupportedData)
			return nil, fmt.Errorf("%w: a %s frame, where %s frames are expected", ErrFraming,
				frameNames[!c.binary], frameNames[c.binary])
		}
		deflated = deflated || h.deflated
		part, err := c.source.take(int(h.size))
		if err != nil {
			return nil, cutOff(err)
		}
		applyMask(part, h.key, 0)
		if message == nil {
			message = part
		} else {
			message = append(message, part...)
		}
		if h.final {
			if deflated {
				return c.inflate(message, int(limit))
			}
			return message, nil
		}
		begun = true
	}
}

var frameNames = map[bool]string{true: "binary", false: "text"}

// headerIn reads the header of a frame and checks what there is to it. begun
// says that a message has begun.
func (c *webSocketConn) headerIn(begun bool) (h wsHeader, err error) {
	b, err := c.source.peek(2)
	if err != nil {
		return h, cutOff(err)
	}
	const final, compressed, reserved, opcode, masked, length = 0x80, 0x40, 0x30, 0x0f, 0x80, 0x7f
	h.kind, h.final, h.size = int(b[0]&opcode), b[0]&final != 0, uint64(b[1]&length)
	h.deflated = b[0]&compressed != 0
	isMasked := b[1]&masked != 0
	switch {
	case b[0]&reserved != 0, h.deflated && (!c.deflate || h.kind != websocket.TextMessage && h.kind != websocket.BinaryMessage):
		return h, c.broken("a reserved bit is set")
	case isMasked == c.client:
		return h, c.broken("a client's frames are masked, a server's are not: this one is otherwise")
	}
	switch h.kind {
	case wsMore:
		if !begun {
			return h, c.broken("a continuation of no message")
		}
	case websocket.TextMessage, websocket.BinaryMessage:
		if begun {
			return h, c.broken("a message begins within another one")
		}
	case websocket.CloseMessage, websocket.PingMessage, websocket.PongMessage:
		if !h.final || h.size > 125 {
			return h, c.broken("a control frame in fragments, or longer than 125 bytes")
		}
	default:
		return h, c.broken("unknown opcode %d", h.kind)
	}
	room := 2
	switch h.size {
	case 126:
		room += 2
	case 127:
		room += 8
	}
	body := room
	if isMasked {
		body += len(h.key)
	}
	if b, err = c.source.peek(body); err != nil {
		return h, cutOff(err)
	}
	switch h.size {
	case 126:
		h.size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		h.size = binary.BigEndian.Uint64(b[2:])
	}
	if isMasked {
		copy(h.key[:], b[room:])
	}
	c.source.discard(body)
	return h, nil
}

// controlIn reads the payload of a control frame and does what it asks for.
func (c *webSocketConn) controlIn(h *wsHeader) error {
	payload, err := c.source.take(int(h.size))
	if err != nil {
		return cutOff(err)
	}
	applyMask(payload, h.key, 0)
	switch h.kind {
	case websocket.PingMessage:
		return c.frame(c.control(websocket.PongMessage, payload))
	case websocket.CloseMessage:
		return c.closedBy(payload)
	}
	return nil
}

// closedBy answers a close frame, and says what there is to say of it.
func (c *webSocketConn) closedBy(payload []byte) error {
	code := websocket.CloseNormalClosure
	var text []byte
	switch {
	case len(payload) == 1:
		return c.broken("a close frame with half a code")
	case len(payload) > 1:
		code, text = int(binary.BigEndian.Uint16(payload)), payload[2:]
		if !validClose(code) || !utf8.Valid(text) {
			return c.broken("a close frame with code %d and text %q", code, text)
		}
	}
	c.last(c.control(websocket.CloseMessage, websocket.FormatCloseMessage(code, "")))
	if code == websocket.CloseNormalClosure || code == websocket.CloseGoingAway {
		return io.EOF
	}
	return fmt.Errorf("the peer closed the WebSocket with code %d %q", code, text)
}

// validClose reports whether a code may stand in a close frame (RFC 6455, 7.4,
// and those registered since).
func validClose(code int) bool {
	switch code {
	case 1004, websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}

// broken is the error of a peer that breaks the rules, and has Close say so.
func (c *webSocketConn) broken(format string, args ...any) error {
	c.code.Store(websocket.CloseProtocolError)
	return fmt.Errorf("%w: %s", ErrFraming, fmt.Sprintf(format, args...))
}

// cutOff says that a connection must not just end.
func cutOff(err error) error {
	if err == io.EOF {
		return fmt.Errorf("the peer closed the connection without a WebSocket close frame: %w", io.ErrUnexpectedEOF)
	}
	return err
}
