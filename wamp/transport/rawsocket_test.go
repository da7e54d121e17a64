package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

func TestRawSocketHandshake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces []string // what the client sends
		reply  string
		codec  codec.Codec
		max    int
		err    string
	}{
		{"JSON", []string{"7ff10000"}, "7fb10000", codec.JSON, 1<<24 - 1, ""},
		{"MessagePack", []string{"7ff20000"}, "7fb20000", codec.MessagePack, 1<<24 - 1, ""},
		{"CBOR, 512 bytes", []string{"7f030000"}, "7fb30000", codec.CBOR, 512, ""},
		{"in pieces", []string{"7f", "b3", "00", "00"}, "7fb30000", codec.CBOR, 1 << 20, ""},
		{"serializer 0", []string{"7ff00000"}, "7f100000", nil, 0, "unknown serializer 0"},
		{"serializer 5", []string{"7ff50000"}, "7f100000", nil, 0, "unknown serializer 5"},
		{"reserved bits", []string{"7ff10001"}, "7f300000", nil, 0, "reserved bytes"},
		{"HTTP", []string{"47455420"}, "", nil, 0, "it looks like HTTP"},
		{"TLS", []string{"16030100"}, "", nil, 0, "it looks like TLS"},
		{"nothing", nil, "", nil, 0, "only 0 of 4 bytes came"},
		{"half", []string{"7ff1"}, "", nil, 0, "only 2 of 4 bytes came"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := loopback(t)
			var reply []byte
			read := make(chan struct{})
			go func() {
				defer close(read)
				for _, p := range tt.pieces {
					client.Write(bytesOf(t, p))
				}
				if tt.err != "" {
					client.(*net.TCPConn).CloseWrite()
					reply, _ = io.ReadAll(client)
					return
				}
				reply = make([]byte, 4)
				io.ReadFull(client, reply)
			}()
			c, err := AcceptRawSocket(server, NewRawSocket())
			<-read
			if want := bytesOf(t, tt.reply); !bytes.Equal(reply, want) {
				t.Errorf("replied %x, want %x", reply, want)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
			defer c.Close()
			if i := c.Info(); i.Codec != tt.codec || i.MaxWrite != tt.max || i.Transport != "rawsocket" || i.Remote == nil {
				t.Errorf("info %+v", i)
			}
		})
	}
}

func TestRawSocketSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		go client.Write([]byte{0x7f})
		begin := time.Now()
		_, err := AcceptRawSocket(server, NewRawSocket())
		if err == nil || !strings.Contains(err.Error(), "only 1 of 4 bytes came within 5s") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took != handshakeTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestRawSocketFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent string // after the handshake, then the client closes its half
		want []string
		err  error
		back string // what the client is sent
	}{
		{"two messages in one segment", "00000003 616263 00000001 64", []string{"abc", "d"}, io.EOF, ""},
		{"an empty message", "00000000", []string{""}, io.EOF, ""},
		{"a ping between", "00000001 61 01000002 7071 00000001 62", []string{"a", "b"}, io.EOF, "02000002 7071"},
		{"an empty ping", "01000000", nil, io.EOF, "02000000"},
		{"a pong", "02000003 787878 00000001 61", []string{"a"}, io.EOF, ""},
		{"reserved type 3", "03000000", nil, ErrFraming, ""},
		{"reserved type 7", "07000000", nil, ErrFraming, ""},
		{"reserved bits", "10000001 61", nil, ErrFraming, ""},
		{"the 25th bit and more", "08000001 61", nil, ErrFraming, ""},
		{"16 MiB by the 25th bit", "08000000", nil, ErrTooLarge, ""},
		{"above the limit", "00000041", nil, ErrTooLarge, ""},
		{"a ping above the limit", "01000041", nil, ErrTooLarge, ""},
		{"a pong above the limit", "02ffffff", nil, ErrTooLarge, ""},
		{"cut in a header", "0000", nil, io.ErrUnexpectedEOF, ""},
		{"cut before a body", "00000004", nil, io.ErrUnexpectedEOF, ""},
		{"cut in a body", "00000004 6161", nil, io.ErrUnexpectedEOF, ""},
		{"cut in a pong", "02000004 6161", nil, io.ErrUnexpectedEOF, ""},
		{"cut in a ping", "01000004 6161", nil, io.ErrUnexpectedEOF, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := loopback(t)
			// The first frames come together with the handshake.
			client.Write(append(bytesOf(t, "7ff10000"), bytesOf(t, tt.sent)...))
			client.(*net.TCPConn).CloseWrite()
			opts := NewRawSocket()
			opts.ReadLimit = 64
			c, err := AcceptRawSocket(server, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, want := range tt.want {
				if got, err := c.Read(); err != nil || string(got) != want {
					t.Fatalf("read %q, %v; want %q", got, err, want)
				}
			}
			for range 2 {
				if m, err := c.Read(); !errors.Is(err, tt.err) {
					t.Errorf("then %q, %v; want %v", m, err, tt.err)
				}
			}
			// What the peer is told about it still arrives.
			if err := c.Write([]byte("bye")); err != nil {
				t.Errorf("write after a failed read: %v", err)
			}
			c.Close()
			got, err := io.ReadAll(client)
			if want := bytesOf(t, "7fb10000"+tt.back+"00000003"+"627965"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("client got %x, %v; want %x", got, err, want)
			}
		})
	}
}

// A claimed length costs nothing until the bytes come.
func TestRawSocketDoesNotAllocateByClaim(t *testing.T) {
	client, server := loopback(t)
	c := rawServer(t, client, server, NewRawSocket())
	c.SetReadLimit(1 << 24)
	client.Write(append(bytesOf(t, "00ffffff"), make([]byte, 100)...))
	client.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<10 {
		t.Errorf("allocated %d bytes for 100 that came", used)
	}
}

func TestRawSocketLargeMessages(t *testing.T) {
	client, server := loopback(t)
	c := rawServer(t, client, server, NewRawSocket())
	c.SetReadLimit(1 << 24)
	for _, n := range []int{1<<24 - 1, 1 << 24, largeBuffer, largeBuffer + 1, smallBuffer + largeBuffer, 3*largeBuffer + 5} {
		header := []byte{0, byte(n >> 16), byte(n >> 8), byte(n)}
		if n == 1<<24 {
			header[0] = rawX
		}
		body := bytes.Repeat([]byte{1, 2, 3, 5, 7, 11, 13}, n/7+1)[:n]
		go client.Write(append(header, body...))
		if got, err := c.Read(); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
	client.Close()
}

func TestRawSocketHonoursThePeersMaximum(t *testing.T) {
	client, server := loopback(t)
	client.Write(bytesOf(t, "7f010000")) // 512 bytes
	c, err := AcceptRawSocket(server, NewRawSocket())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write([]byte("no"), make([]byte, 513)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("513 bytes: %v", err)
	}
	if err := c.Write(bytes.Repeat([]byte{'y'}, 512)); err != nil {
		t.Errorf("512 bytes, after that: %v", err)
	}
	go c.Close()
	got, err := io.ReadAll(client)
	client.Close()
	want := append(bytesOf(t, "7fb10000 00000200"), bytes.Repeat([]byte{'y'}, 512)...)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("client got %d bytes, %v", len(got), err)
	}
}

func TestRawSocketPingFlood(t *testing.T) {
	client, server := loopback(t)
	c := rawServer(t, client, server, NewRawSocket())
	const n = 5000
	go func() {
		for i := range n {
			fmt.Fprintf(client, "\x01\x00\x00\x05%05d", i)
		}
		client.Write([]byte("\x00\x00\x00\x04last"))
	}()
	wrote := make(chan error, 1)
	go func() {
		for range 500 {
			if err := c.Write([]byte("between")); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	read := make(chan string, 1)
	go func() {
		m, err := c.Read()
		read <- fmt.Sprint(string(m), err)
	}()
	pongs, messages := 0, 0
	for pongs < n || messages < 500 {
		var h [4]byte
		if _, err := io.ReadFull(client, h[:]); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, h[3])
		if _, err := io.ReadFull(client, body); err != nil {
			t.Fatal(err)
		}
		switch {
		case h[0] == rawPong && string(body) == fmt.Sprintf("%05d", pongs):
			pongs++
		case h[0] == rawMessage && string(body) == "between":
			messages++
		default:
			t.Fatalf("frame %x %q after %d pongs", h, body, pongs)
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

func TestRawSocketClientHandshake(t *testing.T) {
	for _, tt := range []struct{ reply, err string }{
		{"7fb30000", ""},
		{"7f100000", "does not speak the serialization"},
		{"7f200000", "maximum message length"},
		{"7f300000", "feature that we use"},
		{"7f400000", "as many connections as it allows"},
		{"7f900000", "unknown reason 9"},
		{"7fb10000", "chose serializer 1, asked was 3 (cbor)"},
		{"7fb30001", "reserved bytes"},
		{"48545450", "it looks like HTTP"},
		{"7f", "only 1 of 4 bytes came"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan []byte, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			b := make([]byte, 4)
			io.ReadFull(conn, b)
			asked <- b
			conn.Write(bytesOf(t, tt.reply))
		}()
		c, err := Dial(context.Background(), "rs://"+l.Addr().String(), codec.CBOR, DialOptions{ReadLimit: 100_000})
		l.Close()
		if got, want := <-asked, bytesOf(t, "7f730000"); !bytes.Equal(got, want) { // 64 KiB
			t.Errorf("asked %x, want %x", got, want)
		}
		if tt.err == "" && err == nil {
			if c.Info().MaxWrite != 1<<20 {
				t.Errorf("info %+v", c.Info())
			}
			c.Close()
		} else if tt.err == "" || err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("reply %s: %v, want %q", tt.reply, err, tt.err)
		}
	}
}

func TestRejectRawSocket(t *testing.T) {
	client, server := loopback(t)
	client.Write(bytesOf(t, "7ff10000"))
	go RejectRawSocket(server)
	got, err := io.ReadAll(client)
	client.Close()
	if !bytes.Equal(got, bytesOf(t, "7f400000")) || err != nil {
		t.Errorf("got %x, %v", got, err)
	}
}
