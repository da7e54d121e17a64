package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// network makes a server's connection of one kind.
type network struct {
	name string
	make func(t testing.TB, client, server net.Conn, ping time.Duration) Conn
	// frames: a ping that it sends, the answer, a message and a ping to it
	ping, pong, message, pinged []byte
}

var networks = []network{
	{
		"rawsocket", func(t testing.TB, client, server net.Conn, ping time.Duration) Conn {
			opts := NewRawSocket()
			opts.PingInterval = ping
			return rawServer(t, client, server, opts)
		}, []byte{1, 0, 0, 0}, []byte{2, 0, 0, 0}, []byte{0, 0, 0, 1, 'x'}, []byte{1, 0, 0, 0},
	},
	{
		"websocket", func(t testing.TB, client, server net.Conn, ping time.Duration) Conn {
			ws := NewWebSocket()
			ws.PingInterval = ping
			return webSocketServer(t, client, server, ws, "wamp.2.json")
		}, []byte{0x89, 0}, wsFrame(0x8a, true, nil), wsFrame(0x81, true, []byte("x")), wsFrame(0x89, true, nil),
	},
}

// onNetworks runs a test on each kind of network connection, over net.Pipe and
// with fake time.
func onNetworks(t *testing.T, ping time.Duration, f func(t *testing.T, client net.Conn, c Conn, n network)) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer client.Close()
				f(t, client, n.make(t, client, server, ping), n)
			})
		})
	}
}

func TestSilentPeerIsPingedAndGivenUp(t *testing.T) {
	onNetworks(t, 20*time.Second, func(t *testing.T, client net.Conn, c Conn, n network) {
		failed := make(chan error, 1)
		go func() {
			_, err := c.Read()
			failed <- err
		}()
		begin := time.Now()
		got := make([]byte, len(n.ping))
		for i := range 3 { // answered, twice
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, n.ping) {
				t.Fatalf("got %x, %v; want a ping", got, err)
			}
			if i < 2 {
				client.Write(n.pong)
			}
		}
		err := <-failed
		if err == nil || !strings.Contains(err.Error(), "silent for 40s") {
			t.Errorf("error %v", err)
		}
		// The first timer finds no read that waited all the time; then each
		// answer is seen by a timer, and the next one pings.
		if took := time.Since(begin); took < 100*time.Second || took > 180*time.Second {
			t.Errorf("took %v", took)
		}
		if c.Close() != nil {
			t.Error("Close failed")
		}
	})
}

func TestOwnBackPressureIsNotThePeersSilence(t *testing.T) {
	onNetworks(t, 20*time.Second, func(t *testing.T, client net.Conn, c Conn, n network) {
		timer := time.NewTimer(time.Hour) // nobody reads for an hour
		<-timer.C
		go client.Write(n.message)
		if _, err := c.Read(); err != nil {
			t.Errorf("read after an hour: %v", err)
		}
	})
}

func TestUnresponsivePeerEndsWrite(t *testing.T) {
	onNetworks(t, 0, func(t *testing.T, _ net.Conn, c Conn, _ network) {
		begin := time.Now()
		err := c.Write([]byte("a"), make([]byte, 3*uncopied))
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "took no data for 10s") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took != writeTimeout {
			t.Errorf("took %v", took)
		}
		if again := c.Write([]byte("b")); !errors.Is(again, err) {
			t.Errorf("the error was not final: %v", again)
		}
	})
}

// A peer that pings and does not read the answers must not hold the reader.
func TestUnreadPongEndsRead(t *testing.T) {
	onNetworks(t, 0, func(t *testing.T, client net.Conn, c Conn, n network) {
		go client.Write(n.pinged)
		_, err := c.Read()
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrFraming) {
			t.Errorf("error %v", err)
		}
	})
}

// With real sockets and in real time, as what waits for a mutex stops the fake
// clock.
func TestCloseUnblocksReadAndWrite(t *testing.T) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			client, server := loopback(t)
			c := n.make(t, client, server, time.Hour)
			reads, writes := make(chan error, 1), make(chan error, 1)
			go func() { _, err := c.Read(); reads <- err }()
			big := make([]byte, 8<<20)
			go func() { writes <- c.Write(big, big, big, big) }() // more than the kernel takes
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for range 2 {
				if err := c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if took := time.Since(begin); took > closeGrace+time.Second {
				t.Errorf("Close took %v", took)
			}
			if err := <-reads; err != io.EOF {
				t.Errorf("Read: %v, want io.EOF", err)
			}
			if err := <-writes; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v, want net.ErrClosed", err)
			}
			if _, err := c.Read(); err != io.EOF {
				t.Errorf("Read after Close: %v, want io.EOF", err)
			}
			if err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write after Close: %v, want net.ErrClosed", err)
			}
		})
	}
}

// A GOODBYE that was written just before Close arrives, although the peer has
// sent bytes that nobody read, which would make the kernel reset a connection
// that is simply closed.
func TestCloseFlushes(t *testing.T) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			client, server := loopback(t)
			c := n.make(t, client, server, 0)
			client.Write(bytes.Repeat([]byte{0, 0, 0, 1, 'x'}, 1000)) // never read
			body := bytes.Repeat([]byte("goodbye "), 1<<15)
			done := make(chan error, 1)
			go func() {
				err := c.Write(body)
				done <- errors.Join(err, c.Close())
			}()
			got, err := io.ReadAll(client)
			client.Close()
			if err != nil || !bytes.Contains(got, body) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if n.name == "websocket" && !bytes.HasSuffix(got, append([]byte{0x88, 2}, websocket.FormatCloseMessage(1000, "")...)) {
				t.Error("no close frame at the end")
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResetIsAnError(t *testing.T) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			client, server := loopback(t)
			c := n.make(t, client, server, 0)
			client.(*net.TCPConn).SetLinger(0)
			client.Close()
			_, err := c.Read()
			if err == nil || err == io.EOF || errors.Is(err, ErrFraming) {
				t.Errorf("error %v", err)
			}
		})
	}
}
