package transport

import (
	"bytes"
	"compress/flate"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestDeflateOffers(t *testing.T) {
	for offer, want := range map[string]bool{
		"permessage-deflate":                         true,
		"permessage-deflate; client_max_window_bits": true,
		"x, permessage-deflate;server_no_context_takeover;client_no_context_takeover": true,
		`permessage-deflate; server_max_window_bits="15"`:                             true,
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":           true,
		"permessage-deflate; server_max_window_bits=10":                               false,
		"permessage-deflate; client_max_window_bits=7":                                false,
		"permessage-deflate; client_no_context_takeover; client_no_context_takeover":  false,
		"permessage-deflate; client_no_context_takeover=1":                            false,
		"permessage-deflate; unknown":                                                 false,
		"x-webkit-deflate-frame":                                                      false,
		"":                                                                            false,
	} {
		if got := offersDeflate(http.Header{"Sec-Websocket-Extensions": {offer}}); got != want {
			t.Errorf("%q: %v", offer, got)
		}
	}
}

// deflating is a server that echoes, and a client of another hand.
func deflating(t *testing.T, ws WebSocket, subprotocol string) (*websocket.Conn, *http.Response, <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r)
		if err != nil {
			ended <- err
			return
		}
		for {
			m, err := c.Read()
			if err == nil {
				err = c.Write(m, m)
			}
			if err != nil {
				_ = c.Close()
				ended <- err
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	d := websocket.Dialer{Subprotocols: []string{subprotocol}, EnableCompression: true}
	conn, resp, err := d.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, resp, ended
}

func TestDeflate(t *testing.T) {
	ws := NewWebSocket()
	ws.ReadLimit, ws.Compression = 1<<20, true
	conn, resp, ended := deflating(t, ws, "wamp.2.json")
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "permessage-deflate; server_no_context_takeover; client_no_context_takeover" {
		t.Fatalf("agreed on %q", got)
	}
	for i, m := range []string{"", "[]", strings.Repeat("x", deflateLeast-1), strings.Repeat("y", deflateLeast), strings.Repeat("ab", 200_000), strings.Repeat("z", 1<<20)} {
		conn.EnableWriteCompression(i%2 == 0 || i > 3) // not every message has to be
		if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, got, err := conn.ReadMessage()
			if err != nil || string(got) != m {
				t.Fatalf("%d bytes came back as %d: %v", len(m), len(got), err)
			}
		}
	}
	// In fragments, and with a batched subprotocol's limit for all of it.
	w, err := conn.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for part := range slices.Chunk(long, 1000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.ReadMessage(); err != nil || !bytes.Equal(got, long) {
		t.Fatalf("%d bytes: %v", len(got), err)
	}
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Minute))
	<-ended
}

func TestDeflateIsOff(t *testing.T) {
	ws := NewWebSocket()
	conn, resp, ended := deflating(t, ws, "wamp.2.json")
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "" {
		t.Errorf("agreed on %q", got)
	}
	// Who compresses all the same breaks the protocol.
	if _, err := conn.NetConn().Write(wsFrame(0xc1, true, []byte{0})); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrFraming) {
		t.Error(err)
	}
}

// TestDeflateBombs: what decompresses to more than the limit, or to nothing, ends
// the connection, and takes no more memory than the limit.
func TestDeflateBombs(t *testing.T) {
	var bomb bytes.Buffer
	w, _ := flate.NewWriter(&bomb, flate.BestCompression)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = w.Write(zeros)
	}
	_ = w.Flush()
	if bomb.Len() > 1<<17 {
		t.Fatalf("the bomb has %d bytes", bomb.Len())
	}
	for _, c := range []struct {
		name    string
		first   byte
		payload []byte
		want    error
	}{
		{"a bomb", 0xc1, bomb.Bytes(), ErrTooLarge},
		{"no blocks", 0xc1, []byte("\xff\xff\xff\xff"), ErrFraming},
		{"a wrong distance", 0xc1, []byte{0x4a, 0x04, 0x31, 0x00}, ErrFraming},
		{"a control frame", 0xc9, nil, ErrFraming},
		{"another reserved bit", 0xe1, []byte{0}, ErrFraming},
		{"a continuation", 0xc0, []byte{0}, ErrFraming},
	} {
		ws := NewWebSocket()
		ws.ReadLimit, ws.Compression = 1<<18, true
		conn, _, ended := deflating(t, ws, "wamp.2.json")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := conn.NetConn().Write(wsFrame(c.first, true, c.payload)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s: %d bytes were allocated, with a limit of %d", c.name, took, ws.ReadLimit)
		}
	}
}

// FuzzInflate: whatever comes is refused, or gives no more than the limit, and
// compresses back to itself.
func FuzzInflate(f *testing.F) {
	f.Add(deflate([]byte("[]")))
	f.Add(deflate(bytes.Repeat([]byte("abc"), 1000)))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &webSocketConn{}
		m, err := c.inflate(in, fuzzLimit)
		if err != nil {
			if !errors.Is(err, ErrFraming) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		if len(m) > fuzzLimit {
			t.Fatalf("%d bytes", len(m))
		}
		if again, err := c.inflate(deflate(m), fuzzLimit); err != nil || !bytes.Equal(again, m) {
			t.Fatalf("%d bytes came back as %d: %v", len(m), len(again), err)
		}
	})
}
