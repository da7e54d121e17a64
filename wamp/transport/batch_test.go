package transport

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

func TestBatchedWebSocketFrames(t *testing.T) {
	for _, tt := range []struct {
		subprotocol, sent string
		want              []string
		code              string // of the close frame, when the batch is broken
	}{
		{"wamp.2.json.batched", "[1]\x1e[2]\x1e", []string{"[1]", "[2]"}, ""},
		{"wamp.2.json.batched", "[1]\x1e", []string{"[1]"}, ""},
		{"wamp.2.json.batched", "[1]\x18[2]\x18", []string{"[1]", "[2]"}, ""},
		{"wamp.2.json.batched", "[1]\x1e[2]", []string{"[1]"}, "\x03\xea"},
		{"wamp.2.json.batched", "", nil, "\x03\xea"},
		{"wamp.2.cbor.batched", "\x00\x00\x00\x01\x80\x00\x00\x00\x00", []string{"\x80", ""}, ""},
		{"wamp.2.msgpack.batched", "\x00\x00\x00\x02\x91\x01", []string{"\x91\x01"}, ""},
		{"wamp.2.msgpack.batched", "\x00\x00\x00", nil, "\x03\xea"},
		{"wamp.2.msgpack.batched", "\xff\xff\xff\xff\x91", nil, "\x03\xea"},
		{"wamp.2.msgpack.batched", "", nil, "\x03\xea"},
	} {
		client, server := loopback(t)
		c := webSocketServer(t, client, server, NewWebSocket(), tt.subprotocol)
		first := byte(0x81)
		if c.Info().Codec.Binary() {
			first = 0x82
		}
		client.Write(wsFrame(first, true, []byte(tt.sent)))
		for _, want := range tt.want {
			if m, err := c.Read(); err != nil || string(m) != want {
				t.Errorf("%s %q: read %q, %v; want %q", tt.subprotocol, tt.sent, m, err, want)
			}
		}
		if tt.code != "" {
			if _, err := c.Read(); !errors.Is(err, ErrFraming) {
				t.Errorf("%s %q: then %v, want ErrFraming", tt.subprotocol, tt.sent, err)
			}
		}
		if err := c.Write([]byte("a"), []byte("bc")); err != nil {
			t.Fatal(err)
		}
		want := "a\x1ebc\x1e"
		if strings.Contains(tt.sent, "\x18") {
			want = "a\x18bc\x18" // as autobahn-python has it
		}
		if first == 0x82 {
			want = "\x00\x00\x00\x01a\x00\x00\x00\x02bc"
		}
		if b, payload, err := wsRead(client); err != nil || b != first || string(payload) != want {
			t.Errorf("%s: the client was sent %#x %q, %v; want %q", tt.subprotocol, b, payload, err, want)
		}
		closed := make(chan struct{})
		go func() { defer close(closed); c.Close() }()
		if _, payload, err := wsRead(client); err != nil || tt.code != "" && string(payload) != tt.code {
			t.Errorf("%s %q: closed with %q, %v; want %q", tt.subprotocol, tt.sent, payload, err, tt.code)
		}
		client.Close()
		<-closed
	}
}

// TestBatchedWebSocket carries more than a batch holds both ways.
func TestBatchedWebSocket(t *testing.T) {
	conns := make(chan Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws := NewWebSocket()
		ws.ReadLimit = 1 << 20
		if c, err := ws.Upgrade(w, r); err == nil {
			conns <- c
		}
	}))
	defer srv.Close()
	for _, cd := range []codec.Codec{codec.JSON, codec.MessagePack, codec.CBOR} {
		c, err := DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(srv.URL, "http"), cd, DialOptions{Batched: true})
		if err != nil {
			t.Fatal(err)
		}
		s := <-conns
		var messages [][]byte
		for _, n := range []int{1, 100, 40_000, 40_000, 200_000, 2} {
			messages = append(messages, bytes.Repeat([]byte{'x'}, n))
		}
		for _, way := range []struct{ from, to Conn }{{c, s}, {s, c}} {
			written := make(chan error, 1)
			go func() { written <- way.from.Write(messages...) }()
			for _, want := range messages {
				if m, err := way.to.Read(); err != nil || !bytes.Equal(m, want) {
					t.Fatalf("read %d bytes, %v; want %d", len(m), err, len(want))
				}
			}
			if err := <-written; err != nil {
				t.Error(err)
			}
		}
		c.Close()
		s.Close()
	}
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte("[1]\x1e[2]\x1e"), false)
	f.Add([]byte("\x00\x00\x00\x01\x80\x00\x00\x00\x00"), true)
	f.Add([]byte("[1]\x18"), false)
	f.Add([]byte("\xff\xff\xff\xff\x80"), true)
	f.Fuzz(func(t *testing.T, batch []byte, binaryCodec bool) {
		var again []byte
		b := batching{binary: binaryCodec}
		for rest := batch; ; {
			m, more, err := b.cut(rest)
			if err != nil {
				if !errors.Is(err, ErrFraming) {
					t.Fatal(err)
				}
				return
			}
			again = b.append(again, m)
			if rest = more; len(rest) == 0 {
				break
			}
		}
		if !bytes.Equal(again, batch) {
			t.Errorf("%q became %q", batch, again)
		}
	})
}
