package transport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bytesOf decodes hexadecimal with spaces.
func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loopback returns the two ends of a TCP connection.
func loopback(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// rawServer does both sides of a RawSocket handshake; the client's side is
// bytes.
func rawServer(t testing.TB, client, server net.Conn, opts RawSocket) Conn {
	t.Helper()
	go client.Write([]byte{0x7f, 0xf1, 0, 0})
	reply := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(client, make([]byte, 4))
		reply <- err
	}()
	c, err := AcceptRawSocket(server, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-reply; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// responseWriter is an HTTP request's answer over a bare connection.
type responseWriter struct {
	net.Conn
	header http.Header
}

func (w *responseWriter) Header() http.Header { return w.header }
func (w *responseWriter) WriteHeader(int)     {}
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.Conn, bufio.NewReadWriter(bufio.NewReaderSize(w.Conn, 4096), bufio.NewWriterSize(w.Conn, 4096)), nil
}

// webSocketServer upgrades a bare connection for subprotocol; the client's
// side is bytes.
func webSocketServer(t testing.TB, client, server net.Conn, ws WebSocket, subprotocol string) Conn {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://localhost/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": subprotocol,
	} {
		r.Header.Set(k, v)
	}
	answered := make(chan string, 1)
	go func() {
		var got []byte
		b := make([]byte, 1)
		for !bytes.HasSuffix(got, []byte("\r\n\r\n")) {
			if _, err := io.ReadFull(client, b); err != nil {
				break
			}
			got = append(got, b...)
		}
		answered <- string(got)
	}()
	c, err := ws.Upgrade(&responseWriter{server, http.Header{}}, r)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-answered; !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.Contains(got, "Sec-WebSocket-Protocol: "+subprotocol+"\r\n") {
		t.Fatalf("handshake answer %q", got)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wsFrame makes a WebSocket frame; first is its first byte, such as 0x81 for a
// final text frame.
func wsFrame(first byte, masked bool, payload []byte) []byte {
	f := []byte{first}
	var bit byte
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		f = append(f, bit|byte(n))
	case n < 1<<16:
		f = append(f, bit|126, byte(n>>8), byte(n))
	default:
		f = append(f, bit|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	if !masked {
		return append(f, payload...)
	}
	key := [4]byte{0x11, 0x22, 0x33, 0x44}
	f = append(f, key[:]...)
	for i, b := range payload {
		f = append(f, b^key[i%4])
	}
	return f
}

// wsRead reads one unmasked frame.
func wsRead(r io.Reader) (first byte, payload []byte, err error) {
	var h [2]byte
	if _, err = io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(h[1] & 0x7f)
	var ext []byte
	switch n {
	case 126:
		ext = make([]byte, 2)
	case 127:
		ext = make([]byte, 8)
	}
	if ext != nil {
		if _, err = io.ReadFull(r, ext); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range ext {
			n = n<<8 | int(b)
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}
