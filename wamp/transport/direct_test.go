package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// rawRead reads one RawSocket frame.
func rawRead(r io.Reader) (kind byte, payload []byte, err error) {
	var h [4]byte
	if _, err = io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, int(h[1])<<16|int(h[2])<<8|int(h[3]))
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}

// direct are the transports over a socket, and how to read what they send.
var direct = []struct {
	name string
	make func(t testing.TB, client, server net.Conn) Direct
	read func(r io.Reader) (messages [][]byte, control string, err error)
}{
	{
		"rawsocket",
		func(t testing.TB, client, server net.Conn) Direct {
			return rawServer(t, client, server, NewRawSocket()).(Direct)
		},
		func(r io.Reader) ([][]byte, string, error) {
			kind, payload, err := rawRead(r)
			if kind == rawPong {
				return nil, string(payload), err
			}
			return [][]byte{payload}, "", err
		},
	},
	{
		"websocket",
		func(t testing.TB, client, server net.Conn) Direct {
			return webSocketServer(t, client, server, NewWebSocket(), "wamp.2.cbor").(Direct)
		},
		func(r io.Reader) ([][]byte, string, error) {
			first, payload, err := wsRead(r)
			if first != 0x82 {
				return nil, string(payload), err
			}
			return [][]byte{payload}, "", err
		},
	},
	{
		"websocket, batched",
		func(t testing.TB, client, server net.Conn) Direct {
			return webSocketServer(t, client, server, NewWebSocket(), "wamp.2.cbor.batched").(Direct)
		},
		func(r io.Reader) (all [][]byte, control string, err error) {
			first, rest, err := wsRead(r)
			if first != 0x82 {
				return nil, string(rest), err
			}
			b := batching{binary: true}
			for err == nil && len(rest) > 0 {
				var m []byte
				m, rest, err = b.cut(rest)
				all = append(all, m)
			}
			return all, "", err
		},
	},
}

// TestTryWriteGoesOn: whatever the kernel takes of a TryWrite, Write goes on
// where that stopped, and what the reader answers meanwhile stays out of frames.
func TestTryWriteGoesOn(t *testing.T) {
	for _, d := range direct {
		t.Run(d.name, func(t *testing.T) {
			client, server := loopback(t)
			c := d.make(t, client, server)
			const batches = 60
			random := rand.New(rand.NewPCG(1, 2))
			sizes := []int{1, 100, 125, 126, 4000, uncopied - 1, uncopied, 70_000, portion + 1}
			var want []byte // the first byte and the length of each
			wrote, stopped := make(chan error, 1), 0
			var all [][][]byte
			for i := range batches {
				var batch [][]byte
				for j := range 1 + random.IntN(20) {
					m := bytes.Repeat([]byte{byte(i + j)}, sizes[random.IntN(len(sizes))])
					batch = append(batch, m)
					want = fmt.Appendf(want, "%d of %d\n", len(m), byte(i+j))
				}
				all = append(all, batch)
			}
			go func() {
				for _, batch := range all {
					sent, err := c.TryWrite(batch...)
					if err == nil && !sent {
						stopped++
						err = c.Write(batch...)
					}
					if err != nil {
						wrote <- err
						return
					}
					for _, m := range batch {
						clear(m) // it is the writer's again
					}
				}
				wrote <- nil
			}()
			// Pings, which the reading side answers in between.
			ping := wsFrame(0x89, true, []byte("ping"))
			if d.name == "rawsocket" {
				ping = append([]byte{rawPing, 0, 0, 4}, "ping"...)
			}
			const pings = 50
			read := make(chan error, 1)
			go func() { _, err := c.Read(); read <- err }()
			go func() {
				for range pings {
					_, _ = client.Write(ping)
				}
			}()
			in := bufio.NewReader(client)
			var got []byte
			for pongs := 0; len(got) < len(want) || pongs < pings; {
				messages, control, err := d.read(in)
				if err != nil {
					t.Fatal(err)
				}
				if control == "ping" {
					pongs++
				}
				for _, m := range messages {
					if !bytes.Equal(m, bytes.Repeat(m[:1], len(m))) {
						t.Fatal("a message with pieces of another one")
					}
					got = fmt.Appendf(got, "%d of %d\n", len(m), m[0])
				}
				if !bytes.HasPrefix(want, got) {
					t.Fatal("messages in another order than they were written in")
				}
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if stopped == 0 {
				t.Error("the kernel took everything at once: nothing was tested")
			}
			client.Close()
			<-read
		})
	}
}

// TestTryWriteDoesNotWait: nor does it send anything twice, where it cannot send
// at all.
func TestTryWriteDoesNotWait(t *testing.T) {
	for name, bare := range map[string]bool{"rawsocket": true, "websocket": true, "no socket": false} {
		t.Run(name, func(t *testing.T) {
			var client, server net.Conn
			if client, server = net.Pipe(); bare {
				client, server = loopback(t)
			}
			defer client.Close()
			var c Direct
			if name == "websocket" {
				c = webSocketServer(t, client, server, NewWebSocket(), "wamp.2.cbor").(Direct)
			} else {
				c = rawServer(t, client, server, NewRawSocket()).(Direct)
			}
			big := make([]byte, 1<<20)
			sent := 0
			for ; sent < 1000; sent++ {
				all, err := c.TryWrite(big)
				if err != nil {
					t.Fatal(err)
				}
				if !all {
					break
				}
			}
			if sent == 1000 || !bare && sent > 0 {
				t.Fatalf("%d messages were sent to a peer that reads nothing", sent)
			}
			wrote := make(chan error, 1)
			go func() { wrote <- errors.Join(c.Write(big), c.Close()) }()
			in := bufio.NewReader(client)
			for range sent + 1 {
				var n []byte
				var err error
				if name == "websocket" {
					_, n, err = wsRead(in)
				} else {
					_, n, err = rawRead(in)
				}
				if err != nil || len(n) != len(big) {
					t.Fatalf("%d bytes, %v", len(n), err)
				}
			}
			_, _ = io.Copy(io.Discard, in)
			client.Close()
			if err := <-wrote; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseAfterTryWrite: what TryWrite could not send, Close sends, whole frames
// and all, when the peer reads; and it does not wait for one that does not.
func TestCloseAfterTryWrite(t *testing.T) {
	for _, reads := range []bool{true, false} {
		t.Run(fmt.Sprint("reads=", reads), func(t *testing.T) {
			client, server := loopback(t)
			c := webSocketServer(t, client, server, NewWebSocket(), "wamp.2.cbor").(Direct)
			body := bytes.Repeat([]byte{7}, 1<<20)
			sent := 1
			for ; ; sent++ {
				if all, err := c.TryWrite(body); err != nil {
					t.Fatal(err)
				} else if !all {
					break
				}
			}
			closed := make(chan time.Duration, 1)
			go func() {
				began := time.Now()
				_ = c.Close()
				closed <- time.Since(began)
			}()
			if reads {
				in := bufio.NewReader(client)
				for range sent {
					if first, m, err := wsRead(in); err != nil || first != 0x82 || !bytes.Equal(m, body) {
						t.Fatalf("frame %02x, %d bytes, %v", first, len(m), err)
					}
				}
				if first, _, err := wsRead(in); err != nil || first != 0x88 {
					t.Errorf("frame %02x, %v; want the close frame", first, err)
				}
				client.Close()
			}
			if took := <-closed; took > closeGrace+time.Second {
				t.Errorf("Close took %v", took)
			}
			if err := c.Write(body); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a write after the end: %v", err)
			}
			if _, err := c.TryWrite(body); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a TryWrite after the end: %v", err)
			}
		})
	}
}

// TestDeadlineIsTakenAway: a write that had to wait leaves no deadline behind
// that would end a later one.
func TestDeadlineIsTakenAway(t *testing.T) {
	client, server := loopback(t)
	opts := NewRawSocket()
	opts.WriteTimeout = 200 * time.Millisecond
	c := rawServer(t, client, server, opts).(Direct)
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(make([]byte, 15<<20)) }()
	if _, _, err := rawRead(client); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	later := time.NewTimer(2 * opts.WriteTimeout)
	<-later.C
	if sent, err := c.TryWrite([]byte("x")); !sent || err != nil {
		t.Errorf("sent %v, %v", sent, err)
	}
}

// TestTryWriteOverTLS leaves it all to Write.
func TestTryWriteOverTLS(t *testing.T) {
	cert, err := tls.LoadX509KeyPair(newAuthority(t, "authority").pair("server"))
	if err != nil {
		t.Fatal(err)
	}
	client, server := loopback(t)
	go func() {
		secure := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
		_, _ = secure.Write([]byte{0x7f, 0xf1, 0, 0})
		_, _ = io.Copy(io.Discard, secure)
	}()
	conn, err := AcceptRawSocket(tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}}), NewRawSocket())
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(Direct)
	if sent, err := c.TryWrite([]byte("x")); sent || err != nil {
		t.Errorf("sent %v, %v", sent, err)
	}
	if err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	client.Close()
	c.Close()
}

// TestOnWait is told before a read that may wait, and not between messages that
// have come together.
func TestOnWait(t *testing.T) {
	check := func(t *testing.T, c Direct, send func(messages ...[]byte)) {
		var events []string
		c.OnWait(func() { events = append(events, "wait") })
		send([]byte("a"), []byte("b"))
		for range 2 {
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, string(m))
		}
		go send([]byte("c"))
		if _, err := c.Read(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"wait", "a", "b", "wait"}; !slices.Equal(events, want) {
			t.Errorf("%q, want %q", events, want)
		}
	}
	for _, d := range direct[:2] {
		t.Run(d.name, func(t *testing.T) {
			client, server := loopback(t)
			c := d.make(t, client, server)
			check(t, c, func(messages ...[]byte) {
				var out []byte
				for _, m := range messages {
					if d.name == "rawsocket" {
						out = append(append(out, 0, 0, 0, byte(len(m))), m...)
					} else {
						out = append(out, wsFrame(0x82, true, m)...)
					}
				}
				_, _ = client.Write(out)
			})
			client.Close()
			c.Close()
		})
	}
	t.Run("pipe", func(t *testing.T) {
		a, b := Pipe(codec.CBOR)
		defer a.Close()
		check(t, b.(Direct), func(messages ...[]byte) { _ = a.Write(messages...) })
	})
}

// TestIdleHoldsNothing: a connection that waits has given its buffers back.
func TestIdleHoldsNothing(t *testing.T) {
	for _, d := range direct {
		client, server := loopback(t)
		c := d.make(t, client, server)
		if sent, err := c.TryWrite([]byte("x"), make([]byte, 2*uncopied)); !sent || err != nil {
			t.Fatalf("%s: %v, %v", d.name, sent, err)
		}
		read := make(chan error, 1)
		go func() { _, err := c.Read(); read <- err }()
		client.Close()
		<-read
		var l *link
		switch c := c.(type) {
		case *rawSocketConn:
			l = &c.link
		case *webSocketConn:
			l = &c.link
		}
		if l.source.block != nil || len(l.rest)+len(l.small)+len(l.large) > 0 {
			t.Errorf("%s holds buffers: %+v", d.name, l.sender.rest)
		}
		c.Close()
	}
}

func TestPipeTryWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(codec.CBOR)
		var batch [][]byte
		for i := range 2*pipeMessages + 10 {
			batch = append(batch, fmt.Append(nil, i))
		}
		if sent, err := a.(Direct).TryWrite(batch...); sent || err != nil {
			t.Errorf("sent %v, %v", sent, err)
		}
		wrote := make(chan error, 1)
		go func() { wrote <- a.Write(batch...) }()
		for _, want := range batch {
			if m, err := b.Read(); err != nil || !bytes.Equal(m, want) {
				t.Fatalf("read %q, %v; want %q", m, err, want)
			}
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		if sent, err := a.(Direct).TryWrite([]byte("x")); !sent || err != nil {
			t.Errorf("sent %v, %v", sent, err)
		}
		b.Close()
		if _, err := a.(Direct).TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a TryWrite after the end: %v", err)
		}
	})
}
