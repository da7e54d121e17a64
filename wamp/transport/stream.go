package transport

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// UpgradeStream makes a connection of a request on which another protocol
// speaks in binary messages, whose borders mean nothing, as MQTT does over
// WebSocket (MQTT 3.1.1, 6). subprotocol is its name, and the client must offer
// it. Hosts, origins, the write timeout and the read limit are those of ws; the
// limit is for one WebSocket message, and SetReadLimit of what is returned moves
// it. There are no pings: the protocol has its own.
//
// When it cannot, it has answered the request as Upgrade does.
func (ws *WebSocket) UpgradeStream(w http.ResponseWriter, r *http.Request, subprotocol string) (net.Conn, error) {
	if err := ws.check(w, r, subprotocol); err != nil {
		return nil, err
	}
	offered := false
	for _, o := range websocket.Subprotocols(r) {
		offered = offered || o == subprotocol
	}
	if !offered {
		return nil, refuseUpgrade(w, http.StatusBadRequest, fmt.Errorf("offer the WebSocket subprotocol %q", subprotocol))
	}
	wire, err := upgrade(w, r, http.Header{"Sec-Websocket-Protocol": {subprotocol}}, false)
	if err != nil {
		return nil, err
	}
	s := &stream{}
	s.info = Info{Transport: "websocket", TLS: r.TLS, Header: r.Header}
	s.init(wire.NetConn(), ws.WriteTimeout, positive(ws.ReadLimit, firstReadLimit))
	s.binary = true
	s.code.Store(websocket.CloseNormalClosure)
	s.header = s.dataHeader
	return s, nil
}

// stream is the net.Conn of a protocol that speaks through WebSocket messages.
type stream struct {
	webSocketConn
	rest []byte // of the last message
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		var err error
		if s.rest, err = s.read(true, s.frameIn); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write implements net.Conn: p becomes one message.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.link.Write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// streamGrace is how long Close waits for its last frame to be taken.
const streamGrace = 50 * time.Millisecond

// Close implements net.Conn. It does not wait for the peer to close as well.
func (s *stream) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.hurry(streamGrace)
		s.last(s.control(websocket.CloseMessage, websocket.FormatCloseMessage(int(s.code.Load()), "")))
		if err := underTLS(s.conn).Close(); !errors.Is(err, net.ErrClosed) {
			s.closeErr = err
		}
	})
	return s.closeErr
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.info.Local }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.info.Remote }

// SetDeadline implements net.Conn, for reading: writes have the write timeout.
func (s *stream) SetDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes have the write timeout.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
