//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// relay is the floor under every router in Go: it passes frames on, whatever
// it read with one system call with one more to each receiver, and knows
// nothing of what is in them. The first byte of a connection says what it is:
// 'a' and 'b' get each other's frames, 's' gets those of every 'p'.
type relay struct {
	mu    sync.Mutex
	conns map[*relayed]byte
}

type relayed struct {
	net.Conn
	mu sync.Mutex // held while it is written to
}

// serveRelay runs a relay until its listener fails.
func serveRelay(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	r := &relay{conns: map[*relayed]byte{}}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go r.serve(&relayed{Conn: nc})
	}
}

var relayTo = map[byte]byte{'a': 'b', 'b': 'a', 'p': 's'}

func (r *relay) serve(c *relayed) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return
	}
	role := buf[0]
	r.mu.Lock()
	r.conns[c] = role
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
	}()
	if _, err := c.Write([]byte{role}); err != nil {
		return
	}
	have := 0
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		whole := wholeFrames(buf[:have])
		if whole > 0 {
			r.pass(relayTo[role], buf[:whole])
			have = copy(buf, buf[whole:have])
		}
		if have == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// wholeFrames is how many bytes of b are whole frames.
func wholeFrames(b []byte) (n int) {
	for {
		size := relaySize(b[n:])
		if size == 0 || n+size > len(b) {
			return n
		}
		n += size
	}
}

func (r *relay) pass(to byte, b []byte) {
	var receivers [1024]*relayed
	all := receivers[:0]
	r.mu.Lock()
	for c, role := range r.conns {
		if role == to {
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		_, _ = c.Write(b) // its own reader sees that it is gone
		c.mu.Unlock()
	}
}

func relaySize(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return 4 + int(binary.BigEndian.Uint32(b))
}

// relayPeer makes connections to a relay.
type relayPeer struct{ address string }

func (r relayPeer) add(l *loop, role byte, on func(*conn, []byte)) (*conn, error) {
	nc, err := dialTCP(r.address)
	if err != nil {
		return nil, err
	}
	if err := exchange(nc, []byte{role}, []byte{role}); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return l.add(nc, relaySize, on)
}

func relayFrame(payload int) []byte {
	b := bytesOf(payload)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func (r relayPeer) caller(l *loop, payload int, replied func()) (func(), error) {
	f := relayFrame(payload)
	c, err := r.add(l, 'a', func(*conn, []byte) { replied() })
	return func() { c.tail(f) }, err
}

func (r relayPeer) callee(l *loop, payload int) error {
	f := relayFrame(payload)
	_, err := r.add(l, 'b', func(c *conn, _ []byte) { c.tail(f) })
	return err
}

func (r relayPeer) publisher(l *loop, payload int) (func(), error) {
	f := relayFrame(payload)
	c, err := r.add(l, 'p', func(*conn, []byte) {})
	return func() { c.tail(f) }, err
}

func (r relayPeer) subscriber(l *loop, event func()) error {
	_, err := r.add(l, 's', func(*conn, []byte) { event() })
	return err
}
