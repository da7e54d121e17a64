package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

func TestWebSocketFrames(t *testing.T) {
	const text, bin, more, final, ping, pong, closing = 0x81, 0x82, 0x00, 0x80, 0x89, 0x8a, 0x88
	frame := func(first byte, payload string) []byte { return wsFrame(first, true, []byte(payload)) }
	long := strings.Repeat("x", 65)
	for _, tt := range []struct {
		name        string
		subprotocol string
		sent        [][]byte
		want        []string
		err         error
		back        []string // frames that the client is sent: first byte and payload, before "bye"
		code        int      // of the close frame at the end; 0 when it was answered before
	}{
		{"two messages in one segment", "", [][]byte{frame(text, "[1]"), frame(text, "[2]"), frame(closing, "\x03\xe8")}, []string{"[1]", "[2]"}, io.EOF, []string{"88 \x03\xe8"}, 0},
		{"an empty message", "", [][]byte{frame(text, ""), frame(closing, "")}, []string{""}, io.EOF, []string{"88 \x03\xe8"}, 0},
		{"binary for CBOR", "wamp.2.cbor", [][]byte{frame(bin, "\x80"), frame(closing, "\x03\xe9going away")}, []string{"\x80"}, io.EOF, []string{"88 \x03\xe9"}, 0},
		{"closed for a reason", "", [][]byte{frame(closing, "\x0f\xa0why")}, nil, nil, []string{"88 \x0f\xa0"}, 0},
		{"in fragments", "", [][]byte{frame(0x01, "[1"), frame(more, ",2"), frame(final, "]")}, []string{"[1,2]"}, io.ErrUnexpectedEOF, nil, 1000},
		{"pings between fragments", "", [][]byte{frame(ping, "a"), frame(0x01, "["), frame(ping, "b"), frame(pong, "c"), frame(final, "]")}, []string{"[]"}, io.ErrUnexpectedEOF, []string{"8a a", "8a b"}, 1000},
		{"text for CBOR", "wamp.2.cbor", [][]byte{frame(text, "[]")}, nil, ErrFraming, nil, 1003},
		{"binary for JSON", "", [][]byte{frame(bin, "[]")}, nil, ErrFraming, nil, 1003},
		{"not masked", "", [][]byte{wsFrame(text, false, []byte("[]"))}, nil, ErrFraming, nil, 1002},
		{"reserved bit", "", [][]byte{frame(0xc1, "[]")}, nil, ErrFraming, nil, 1002},
		{"reserved opcode", "", [][]byte{frame(0x83, "[]")}, nil, ErrFraming, nil, 1002},
		{"continuation of nothing", "", [][]byte{frame(final, "[]")}, nil, ErrFraming, nil, 1002},
		{"message within a message", "", [][]byte{frame(0x01, "["), frame(text, "]")}, nil, ErrFraming, nil, 1002},
		{"fragmented ping", "", [][]byte{frame(0x09, "")}, nil, ErrFraming, nil, 1002},
		{"long ping", "", [][]byte{frame(ping, strings.Repeat("x", 126))}, nil, ErrFraming, nil, 1002},
		{"bad close code", "", [][]byte{frame(closing, "\x00\x01")}, nil, ErrFraming, nil, 1002},
		{"above the limit", "", [][]byte{frame(text, long)}, nil, ErrTooLarge, nil, 1009},
		{"above the limit, header only", "", [][]byte{{text, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4}}, nil, ErrTooLarge, nil, 1009},
		{"a length with the highest bit", "", [][]byte{{text, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}}, nil, ErrTooLarge, nil, 1009},
		{"above the limit in fragments", "", [][]byte{frame(0x01, long[:60]), frame(final, long[:5])}, nil, ErrTooLarge, nil, 1009},
		{"nothing", "", nil, nil, io.ErrUnexpectedEOF, nil, 1000},
		{"cut in a header", "", [][]byte{{text, 0xfe, 0}}, nil, io.ErrUnexpectedEOF, nil, 1000},
		{"cut in a body", "", [][]byte{frame(text, "[1,2,3]")[:8]}, nil, io.ErrUnexpectedEOF, nil, 1000},
		{"cut between fragments", "", [][]byte{frame(0x01, "[1")}, nil, io.ErrUnexpectedEOF, nil, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.subprotocol == "" {
				tt.subprotocol = "wamp.2.json"
			}
			client, server := loopback(t)
			ws := NewWebSocket()
			ws.ReadLimit = 64
			c := webSocketServer(t, client, server, ws, tt.subprotocol)
			client.Write(bytes.Join(tt.sent, nil))
			client.(*net.TCPConn).CloseWrite()
			for _, want := range tt.want {
				if got, err := c.Read(); err != nil || string(got) != want {
					t.Fatalf("read %q, %v; want %q", got, err, want)
				}
			}
			for range 2 {
				if m, err := c.Read(); err == nil || tt.err != nil && !errors.Is(err, tt.err) {
					t.Errorf("then %q, %v; want %v", m, err, tt.err)
				}
			}
			want := tt.back
			if tt.code != 0 {
				if err := c.Write([]byte("bye")); err != nil {
					t.Errorf("write after a failed read: %v", err)
				}
				first := "81"
				if c.Info().Codec.Binary() {
					first = "82"
				}
				want = append(want, first+" bye", "88 "+string([]byte{byte(tt.code >> 8), byte(tt.code)}))
			} else if err := c.Write([]byte("bye")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write after the closing handshake: %v", err)
			}
			c.Close()
			if got := frames(t, client); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("client got %q, want %q", got, want)
			}
		})
	}
}

// frames reads all frames to the end.
func frames(t *testing.T, r io.Reader) (all []string) {
	t.Helper()
	for {
		first, payload, err := wsRead(r)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		all = append(all, fmt.Sprintf("%02x %s", first, payload))
	}
}

func TestWebSocketWritesFrames(t *testing.T) {
	client, server := loopback(t)
	c := webSocketServer(t, client, server, NewWebSocket(), "wamp.2.msgpack")
	var batch [][]byte
	for _, n := range []int{0, 1, 125, 126, 127, uncopied - 1, uncopied, 1<<16 - 1, 1 << 16, portion + 1, 3, 3 * portion} {
		batch = append(batch, bytes.Repeat([]byte{byte(n), 7, 9}, n/3+1)[:n])
	}
	for range 1000 {
		batch = append(batch, bytes.Repeat([]byte{5}, 100))
	}
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(batch...) }()
	r := bufio.NewReader(client)
	for i, want := range batch {
		first, got, err := wsRead(r)
		if err != nil || first != 0x82 || !bytes.Equal(got, want) {
			t.Fatalf("frame %d: %02x, %d bytes of %d, %v", i, first, len(got), len(want), err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestWebSocketPingFloodWhileWriting(t *testing.T) {
	client, server := loopback(t)
	c := webSocketServer(t, client, server, NewWebSocket(), "wamp.2.json")
	const n = 3000
	go func() {
		for i := range n {
			client.Write(wsFrame(0x89, true, fmt.Appendf(nil, "%d", i)))
		}
		client.Write(wsFrame(0x81, true, []byte("last")))
	}()
	big := bytes.Repeat([]byte{'m'}, 2*uncopied)
	wrote := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			err = c.Write(big[:10], big, big[:300])
		}
		wrote <- err
	}()
	read := make(chan string, 1)
	go func() {
		m, err := c.Read()
		read <- fmt.Sprint(string(m), err)
	}()
	r := bufio.NewReader(client)
	for pongs, messages := 0, 0; pongs < n || messages < 900; {
		first, payload, err := wsRead(r)
		switch {
		case err != nil:
			t.Fatal(err)
		case first == 0x8a && string(payload) == fmt.Sprint(pongs):
			pongs++
		case first == 0x81 && len(payload) == []int{10, len(big), 300}[messages%3]:
			messages++
		default:
			t.Fatalf("frame %02x with %d bytes after %d pongs", first, len(payload), pongs)
		}
	}
	if got := <-read; got != "last<nil>" {
		t.Errorf("read %s", got)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	client.Close()
}

func TestUpgradeRefuses(t *testing.T) {
	type header map[string]string
	upgraded := make(chan Conn, 1)
	ws := NewWebSocket()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r)
		if err == nil {
			upgraded <- c
		}
	}))
	defer srv.Close()
	for _, tt := range []struct {
		name   string
		header header // on top of a good request; "" removes
		status int
		text   string
	}{
		{"a good request", header{"Cookie": "a=b"}, 101, ""},
		{"no upgrade", header{"Upgrade": "", "Connection": ""}, 426, "speaks WAMP over WebSocket"},
		{"no subprotocol", header{"Sec-WebSocket-Protocol": ""}, 400, "offer one of wamp.2.json, wamp.2.msgpack, wamp.2.cbor"},
		{"unknown subprotocols", header{"Sec-WebSocket-Protocol": "wamp.1, mqtt"}, 400, "offer one of"},
		{"foreign origin", header{"Origin": "http://evil.example"}, 403, "origin"},
		{"foreign host", header{"Host": "evil.example"}, 403, "host"},
		{"old version", header{"Sec-WebSocket-Version": "8"}, 400, "version"},
		{"bad key", header{"Sec-WebSocket-Key": "x"}, 400, "Key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			h := header{
				"Host": srv.Listener.Addr().String(), "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
				"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
				"Sec-WebSocket-Protocol": "x, wamp.2.cbor, wamp.2.json",
			}
			for k, v := range tt.header {
				if h[k] = v; v == "" {
					delete(h, k)
				}
			}
			fmt.Fprint(conn, "GET /ws HTTP/1.1\r\n")
			for k, v := range h {
				fmt.Fprintf(conn, "%s: %s\r\n", k, v)
			}
			fmt.Fprint(conn, "\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if tt.status == 101 {
				if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "wamp.2.cbor" {
					t.Errorf("chose %q, want the first known one", got)
				}
				conn.Close()
				c := <-upgraded
				if i := c.Info(); i.Transport != "websocket" || i.Codec != codec.CBOR || i.Header.Get("Cookie") != "a=b" || i.Header.Get("Upgrade") != "" || i.Remote == nil {
					t.Errorf("info %+v", i)
				}
				c.Close()
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.text) {
				t.Errorf("answered %d %q; want %d, %q", resp.StatusCode, body, tt.status, tt.text)
			}
		})
	}
}
