package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// script is a connection whose peer has sent everything already, in segments
// of at most chunk bytes.
type script struct {
	net.Conn
	sent  *bytes.Reader
	chunk int
	got   bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.sent.Read(p[:min(len(p), s.chunk)]) }
func (s *script) Write(p []byte) (int, error)      { return s.got.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }

const fuzzLimit = 1 << 12

// readOut reads to the end and checks what must hold for any input.
func readOut(t *testing.T, c Conn, sent int) (messages [][]byte) {
	t.Helper()
	total := 0
	for {
		m, err := c.Read()
		if err != nil {
			if _, again := c.Read(); !errors.Is(again, err) {
				t.Fatalf("the error %v was not final: %v", err, again)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return messages
		}
		if total += len(m); len(m) > fuzzLimit || total > sent {
			t.Fatalf("a message of %d bytes, %d in all, of %d", len(m), total, sent)
		}
		messages = append(messages, m)
	}
}

func FuzzRawSocket(f *testing.F) {
	for _, s := range []string{
		"7ff10000 07000000",
		"7ff10000 00ffffff 00",
		"7fb30000 00000003616263 01000001 78 02000000 00000000",
		"7f020000 08000000",
		"7f000000", "7ff10100", "474554202f", "7f",
	} {
		f.Add(bytesOf(f, s), byte(3))
	}
	f.Fuzz(func(t *testing.T, sent []byte, chunk byte) {
		conn := &script{sent: bytes.NewReader(sent), chunk: int(chunk) + 1}
		opts := NewRawSocket()
		opts.ReadLimit = fuzzLimit
		c, err := AcceptRawSocket(conn, opts)
		if err != nil {
			return
		}
		rest := sent[4:]
		for _, m := range readOut(t, c, len(sent)) {
			// Only pings and pongs may lie between messages.
			for rest[0] != rawMessage {
				rest = rest[4+int(rest[1])<<16+int(rest[2])<<8+int(rest[3]):]
			}
			if rest = rest[4:]; !bytes.HasPrefix(rest, m) {
				t.Fatalf("message %x is not what was sent: %x", m, rest)
			}
			rest = rest[len(m):]
		}
	})
}

func FuzzWebSocket(f *testing.F) {
	for _, frames := range [][][]byte{
		{wsFrame(0x81, true, []byte("[1]")), wsFrame(0x88, true, []byte{3, 232})},
		{wsFrame(0x01, true, []byte("[")), wsFrame(0x89, true, []byte("p")), wsFrame(0x80, true, []byte("]"))},
		{wsFrame(0x82, true, make([]byte, 300))},
		{wsFrame(0x81, true, make([]byte, fuzzLimit+1))},
		{wsFrame(0x81, false, []byte("x"))},
		{{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}},
		{{0xc1, 0x80, 0, 0, 0, 0}, {0x8f}},
	} {
		f.Add(bytes.Join(frames, nil), byte(5))
	}
	f.Fuzz(func(t *testing.T, sent []byte, chunk byte) {
		client, server := net.Pipe()
		defer client.Close()
		ws := WebSocket{ReadLimit: fuzzLimit}
		c := webSocketServer(t, client, server, ws, "wamp.2.json").(*webSocketConn)
		conn := &script{sent: bytes.NewReader(sent), chunk: int(chunk) + 1}
		c.conn, c.source.conn = conn, conn
		readOut(t, c, len(sent))
		server.Close()
		// What the peer was told is sound, and ends with a close frame.
		var last byte
		for {
			first, payload, err := wsRead(&conn.got)
			if err == io.EOF {
				break
			}
			if err != nil || first != 0x8a && first != 0x88 || len(payload) > 125 {
				t.Fatalf("sent frame %02x with %d bytes, %v", first, len(payload), err)
			}
			last = first
		}
		if last != 0x88 {
			t.Fatalf("the last frame is %02x", last)
		}
	})
}
