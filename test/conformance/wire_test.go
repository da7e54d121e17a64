package conformance

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// link is a connection that carries messages as bytes.
type link interface {
	// send sends one message.
	send(message []byte) error
	// receive returns the next message, io.EOF when the router has ended the
	// connection.
	receive() ([]byte, error)
	// hangUp says that nothing more will be sent; the router ends the
	// connection then.
	hangUp() error
	// conn is what is below.
	conn() net.Conn
}

var codecs = []codec.Codec{codec.JSON, codec.MessagePack, codec.CBOR}

// transports are all that the gateway listens on.
var transports = []struct {
	name   string
	codecs []codec.Codec
	dial   func(g *gateway, c codec.Codec) (link, error)
}{
	{"websocket", codecs, func(g *gateway, c codec.Codec) (link, error) {
		w, err := dialWebSocket(g, c, "")
		return w, err
	}},
	{"batched", codecs, func(g *gateway, c codec.Codec) (link, error) {
		w, err := dialWebSocket(g, c, ".batched")
		return &batched{webSocket: w}, err
	}},
	{"longpoll", codecs, openLongPoll},
	{"rawsocket", codecs, func(g *gateway, c codec.Codec) (link, error) { return dialRaw("tcp", g.raw, c) }},
	{"unix", codecs, func(g *gateway, c codec.Codec) (link, error) { return dialRaw("unix", g.unix, c) }},
	// On the port for everything, with and without TLS, and what else the Unix
	// socket speaks. What they change is below the messages: each has one codec.
	{"universal-websocket", codecs[1:2], func(g *gateway, c codec.Codec) (link, error) {
		nc, err := net.Dial("tcp", g.universal)
		return webSocketOver(nc, err, c)
	}},
	{"universal-rawsocket", codecs[:1], func(g *gateway, c codec.Codec) (link, error) { return dialRaw("tcp", g.universal, c) }},
	{"universal-wss", codecs[:1], func(g *gateway, c codec.Codec) (link, error) {
		nc, err := dialTLS(g.universal)
		return webSocketOver(nc, err, c)
	}},
	{"universal-rss", codecs[2:], func(g *gateway, c codec.Codec) (link, error) {
		nc, err := dialTLS(g.universal)
		if err != nil {
			return nil, err
		}
		return openRaw(nc, c)
	}},
	{"unix-websocket", codecs[2:], func(g *gateway, c codec.Codec) (link, error) {
		nc, err := net.Dial("unix", g.unix)
		return webSocketOver(nc, err, c)
	}},
}

func webSocketOver(nc net.Conn, err error, c codec.Codec) (link, error) {
	if err != nil {
		return nil, err
	}
	return openWebSocket(nc, "localhost", c, "")
}

// dialTLS trusts the gateway's own certificate, and nothing else.
func dialTLS(address string) (net.Conn, error) {
	text, err := os.ReadFile(filepath.Join(identity, "tls.crt"))
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(text)
	return tls.Dial("tcp", address, &tls.Config{RootCAs: authorities})
}

// base is what the links have in common.
type base struct {
	net.Conn
	in *bufio.Reader
}

func (b *base) conn() net.Conn { return b.Conn }

func (b *base) hangUp() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return b.Close()
}

func (b *base) wait() { _ = b.SetReadDeadline(time.Now().Add(patience)) }

// rawSocket is the framing of RawSocket ("RawSocket Transport").
type rawSocket struct{ base }

// serializers are the numbers of RawSocket's handshake and the names of the
// WebSocket's subprotocols.
var serializers = map[codec.Codec]struct {
	number      byte
	subprotocol string
}{
	codec.JSON:        {1, "wamp.2.json"},
	codec.MessagePack: {2, "wamp.2.msgpack"},
	codec.CBOR:        {3, "wamp.2.cbor"},
}

func dialRaw(network, address string, c codec.Codec) (link, error) {
	nc, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return openRaw(nc, c)
}

func openRaw(nc net.Conn, c codec.Codec) (link, error) {
	r := &rawSocket{base{nc, bufio.NewReader(nc)}}
	if _, err := nc.Write([]byte{0x7f, 0xf0 | serializers[c].number, 0, 0}); err != nil {
		return nil, err
	}
	r.wait()
	var answer [4]byte
	if _, err := io.ReadFull(r.in, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 0x7f || answer[1]&15 != serializers[c].number || answer[2] != 0 || answer[3] != 0 {
		return nil, fmt.Errorf("the handshake was answered with % x", answer)
	}
	return r, nil
}

// frame makes a RawSocket frame; kind is 0 for a message.
func frame(kind byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b[0] = kind
	return append(b, payload...)
}

func (r *rawSocket) send(m []byte) error {
	_, err := r.Write(frame(0, m))
	return err
}

func (r *rawSocket) receive() ([]byte, error) {
	for {
		r.wait()
		kind, payload, err := r.frame()
		if err != nil {
			return nil, ended(err)
		}
		switch kind {
		case 0:
			return payload, nil
		case 1:
			if _, err := r.Write(frame(2, payload)); err != nil {
				return nil, err
			}
		case 2:
		default:
			return nil, fmt.Errorf("a frame of type %d", kind)
		}
	}
}

func (r *rawSocket) frame() (kind byte, payload []byte, err error) {
	var header [4]byte
	if _, err := io.ReadFull(r.in, header[:]); err != nil {
		return 0, nil, err
	}
	kind, header[0] = header[0], 0
	payload = make([]byte, binary.BigEndian.Uint32(header[:]))
	_, err = io.ReadFull(r.in, payload)
	return kind, payload, err
}

// ended tells an end from a failure of the test's own.
func ended(err error) error {
	if t, ok := err.(net.Error); ok && t.Timeout() {
		return err
	}
	return io.EOF // a reset is an end, too
}

// webSocket is a client's side of RFC 6455.
type webSocket struct {
	base
	binary bool
}

func dialWebSocket(g *gateway, c codec.Codec, suffix string) (*webSocket, error) {
	nc, err := net.Dial("tcp", g.http)
	if err != nil {
		return nil, err
	}
	return openWebSocket(nc, g.http, c, suffix)
}

func openWebSocket(nc net.Conn, host string, c codec.Codec, suffix string) (*webSocket, error) {
	subprotocol := serializers[c].subprotocol + suffix
	w := &webSocket{base: base{nc, bufio.NewReader(nc)}, binary: c.Binary()}
	_, err := fmt.Fprintf(nc, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		host, subprotocol)
	if err != nil {
		return nil, err
	}
	w.wait()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols ||
		resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
		resp.Header.Get("Sec-WebSocket-Protocol") != subprotocol {
		return nil, fmt.Errorf("the handshake was answered with %s %v", resp.Status, resp.Header)
	}
	return w, nil
}

// Opcodes of WebSocket frames.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// masked makes a client's frame, with the one mask that changes nothing.
func masked(opcode byte, payload []byte) []byte {
	b := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func (w *webSocket) opcode() byte {
	if w.binary {
		return opBinary
	}
	return opText
}

func (w *webSocket) send(m []byte) error {
	_, err := w.Write(masked(w.opcode(), m))
	return err
}

func (w *webSocket) receive() ([]byte, error) {
	for {
		w.wait()
		opcode, payload, err := w.frame()
		if err != nil {
			return nil, ended(err)
		}
		switch opcode {
		case w.opcode():
			return payload, nil
		case opPing:
			_, err = w.Write(masked(opPong, payload))
		case opPong:
		case opClose: // the end of the connection follows
			_, _ = w.Write(masked(opClose, payload))
		default:
			err = fmt.Errorf("a frame with opcode %d", opcode)
		}
		if err != nil {
			return nil, err
		}
	}
}

// frame reads one whole frame; the router has no reason to send fragments.
func (w *webSocket) frame() (opcode byte, payload []byte, err error) {
	var header [2]byte
	if _, err := io.ReadFull(w.in, header[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(header[1])
	if header[0]&0x80 == 0 || n&0x80 != 0 {
		return 0, nil, fmt.Errorf("the router sends a frame that begins with % x", header)
	}
	if n >= 126 {
		length := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
		if _, err := io.ReadFull(w.in, length); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range length {
			n = n<<8 | uint64(b)
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(w.in, payload)
	return header[0] & 15, payload, err
}
