package transport

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/postern-iot/postern/wamp/codec"
)

// The writers that benchmarks compare: ours, and the library's, a message at a
// time. Each operation is one message.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		for _, batch := range []int{1, 10, 100} {
			messages := make([][]byte, batch)
			for i := range messages {
				messages[i] = bytes.Repeat([]byte{'x'}, size)
			}
			run := func(name string, write func() error) {
				b.Run(fmt.Sprintf("%s/%dB/batch=%d", name, size, batch), func(b *testing.B) {
					b.ReportAllocs()
					b.SetBytes(int64(size))
					for n := 0; n < b.N; n += batch {
						if err := write(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			client, server := loopback(b)
			ws := webSocketServer(b, client, server, NewWebSocket(), "wamp.2.cbor")
			go io.Copy(io.Discard, client)
			run("websocket", func() error { return ws.Write(messages...) })
			ws.Close()

			client, server = loopback(b)
			raw := rawServer(b, client, server, NewRawSocket())
			go io.Copy(io.Discard, client)
			run("rawsocket", func() error { return raw.Write(messages...) })
			raw.Close()

			library, done := gorilla(b)
			run("gorilla", func() error {
				for _, m := range messages {
					if err := library.WriteMessage(websocket.BinaryMessage, m); err != nil {
						return err
					}
				}
				return nil
			})
			done()
		}
	}
}

// gorilla is a plain server connection of the library, whose peer reads.
func gorilla(b *testing.B) (c *websocket.Conn, done func()) {
	b.Helper()
	upgraded := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			b.Error(err)
		}
		upgraded <- c
	}))
	client, _, err := websocket.DefaultDialer.Dial("ws"+srv.URL[4:], nil)
	if err != nil {
		b.Fatal(err)
	}
	go io.Copy(io.Discard, client.NetConn())
	c = <-upgraded
	return c, func() { c.Close(); client.Close(); srv.Close() }
}

// BenchmarkRead reads messages that come as fast as they can.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		body := bytes.Repeat([]byte{'x'}, size)
		frames := func(frame []byte) []byte { return bytes.Repeat(frame, 1+(64<<10)/len(frame)) }
		run := func(name string, c Conn, client net.Conn, segment []byte) {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) {
				c.SetReadLimit(1 << 20)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := c.Read(); err != nil {
						b.Fatal(err)
					}
				}
			})
			client.Close()
			c.Close()
		}
		flood := func(client net.Conn, segment []byte) {
			for {
				if _, err := client.Write(segment); err != nil {
					return
				}
			}
		}
		client, server := loopback(b)
		ws := webSocketServer(b, client, server, NewWebSocket(), "wamp.2.cbor")
		segment := frames(wsFrame(0x82, true, body))
		go flood(client, segment)
		run("websocket", ws, client, segment)

		client, server = loopback(b)
		raw := rawServer(b, client, server, NewRawSocket())
		segment = frames(append([]byte{0, byte(size >> 16), byte(size >> 8), byte(size)}, body...))
		go flood(client, segment)
		run("rawsocket", raw, client, segment)
	}
}

func BenchmarkPipe(b *testing.B) {
	x, y := Pipe(codec.CBOR)
	go func() {
		for {
			if _, err := y.Read(); err != nil {
				return
			}
		}
	}()
	m := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Write(m); err != nil {
			b.Fatal(err)
		}
	}
	x.Close()
}
