package transport

import (
	"bytes"
	"io"
	"net"
	"time"
)

// source is the network as a connection's reader sees it. It tells keep-alive
// when a read waits, and remembers how the network failed, so that its failures
// can be told from a peer that broke the rules.
type source struct {
	net.Conn
	alive *keepAlive
	err   error // of the last read; belongs to the reader
	// mute drops what is written through here: past the handshake everything
	// goes out through the sender, and the WebSocket library's own answers to
	// broken frames must not interleave with it.
	mute bool
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	s.alive.reads.Add(1)
	n, err := s.Conn.Read(p)
	s.alive.reads.Add(1)
	if err != nil {
		s.err = err
	}
	return n, err
}

// Write implements io.Writer.
func (s *source) Write(p []byte) (int, error) {
	if s.mute {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn.
func (s *source) SetWriteDeadline(t time.Time) error {
	if s.mute {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// readAll reads r to its end. It never holds more than largeBuffer bytes beyond
// what has arrived, and returns a slice of its own, no larger than needed.
func readAll(r io.Reader) ([]byte, error) {
	first := smallBuffers.Get().(*[smallBuffer]byte)
	defer smallBuffers.Put(first)
	n, err := fill(r, first[:])
	if err == io.EOF {
		return bytes.Clone(first[:n]), nil
	}
	if err != nil {
		return nil, err
	}
	parts := [][]byte{first[:]}
	defer func() {
		for _, p := range parts[1:] {
			largeBuffers.Put((*[largeBuffer]byte)(p[:largeBuffer]))
		}
	}()
	for err == nil {
		c := largeBuffers.Get().(*[largeBuffer]byte)
		n, err = fill(r, c[:])
		parts = append(parts, c[:n])
	}
	if err != io.EOF {
		return nil, err
	}
	return bytes.Join(parts, nil), nil
}

// fill reads until p is full. Unlike io.ReadFull it says io.EOF exactly when r
// did: io.ErrUnexpectedEOF is what TLS says of a connection that was cut, and
// no end of a message.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
