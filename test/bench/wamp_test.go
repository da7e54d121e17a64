//go:build linux

package main

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// TestTemplate: prepared messages are what the codecs make of them, whatever the
// request ID, and their answers are recognised.
func TestTemplate(t *testing.T) {
	for _, raw := range []bool{true, false} {
		for _, c := range codec.All() {
			w := &wampPeer{raw: raw, codec: c}
			for _, kind := range []wamp.Kind{wamp.KindCall, wamp.KindYield, wamp.KindPublish} {
				rest := []any{"com.example.uri", values(reading)}
				if kind == wamp.KindYield {
					rest = rest[1:]
				}
				tpl, err := w.prepare(kind, rest...)
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range []uint64{1, 255, 70_000, 1 << 31} {
					l := &loop{}
					out := &conn{loop: l}
					tpl.send(out, id)
					mask := 0
					if !raw {
						mask = 4 // bytes, all zero; size and body know a server's frames, without
						out.out[1] &^= 0x80
					}
					if got := w.size(out.out) + mask; got != len(out.out) {
						t.Fatalf("%s, raw %v: a frame of %d bytes says %d", c.Name(), raw, len(out.out), got)
					}
					body := w.body(out.out)[mask:]
					m, err := c.Decode(body, codec.Limits{})
					if err != nil || m.Kind() != kind {
						t.Fatalf("%s: %v, %v", c.Name(), m, err)
					}
					if call, ok := m.(*wamp.Call); ok && uint64(call.Request) != id {
						t.Errorf("%s: request %d, want %d", c.Name(), call.Request, id)
					}
				}
			}
			// What a server would send.
			body, err := c.Append(nil, &wamp.Invocation{Request: 70_000, Registration: 5})
			if err != nil {
				t.Fatal(err)
			}
			frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
			if !raw {
				frame = []byte{0x82, byte(len(body))}
			}
			frame = append(frame, body...)
			var id uint64
			l := &loop{}
			on := w.on(wamp.KindInvocation, true, func(_ *conn, got uint64) { id = got })
			if on(&conn{loop: l}, frame); id != 70_000 || l.err != nil {
				t.Errorf("%s: request %d, %v", c.Name(), id, l.err)
			}
			if w.on(wamp.KindResult, false, func(*conn, uint64) {})(&conn{loop: l}, frame); l.err == nil {
				t.Errorf("%s: an INVOCATION is taken for a RESULT", c.Name())
			}
		}
	}
}

// TestLoop carries short and long frames, in whatever pieces they come, and ends
// with an error when the other side does.
func TestLoop(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	echoed := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			echoed <- err
			return
		}
		b := make([]byte, 1000)
		for total := 0; total < 3*(4+10)+2*(4+100_000); {
			n, err := nc.Read(b)
			if err == nil {
				_, err = nc.Write(b[:n])
			}
			if err != nil {
				echoed <- err
				return
			}
			total += n
		}
		echoed <- nc.Close()
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	w := &wampPeer{raw: true}
	var sizes []int
	c, err := l.add(nc, w.size, func(_ *conn, frame []byte) {
		sizes = append(sizes, w.size(frame))
		l.progress++
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{10, 100_000, 10, 100_000, 10} {
		c.out = w.header(c.out, n)
		c.tail(make([]byte, n))
	}
	if err := l.until(time.Now().Add(stall), func() bool { return len(sizes) == 5 }); err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 5 || sizes[0] != 14 || sizes[1] != 100_004 || sizes[4] != 14 {
		t.Errorf("frames of %d bytes", sizes)
	}
	if err := <-echoed; err != nil {
		t.Error(err)
	}
	if err := l.run(stall); err == nil {
		t.Error("the other side's end is no error")
	}
}
