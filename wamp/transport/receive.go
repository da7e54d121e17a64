package transport

import (
	"io"
	"net"
	"syscall"
)

// source is the receiving half of a connection. It reads ahead into a block
// that it borrows: one that waits for a peer which says nothing holds none,
// where the connection is a bare socket.
type source struct {
	conn  net.Conn
	raw   syscall.RawConn // nil unless conn is a bare socket
	alive *keepAlive      // is told when a read waits
	idle  func()          // called before a read that may wait; may be nil

	block  *[smallBuffer]byte // borrowed, nil when nothing has been read ahead
	lo, hi int                // what of block has not been taken

	// Of a read by way of raw: where to, nil for the block, and what came of it.
	into  []byte
	n     int
	err   error
	ready func(fd uintptr) bool
}

func (s *source) init(conn net.Conn, alive *keepAlive) {
	s.conn, s.raw, s.alive = conn, bareSocket(conn), alive
	s.ready = s.readNow
}

// putBack has b read first. There is little of it.
func (s *source) putBack(b []byte) {
	if len(b) > 0 {
		s.hi += copy(s.room(), b)
	}
}

// peek returns what has been read ahead, at least n bytes unless it fails; n is
// at most smallBuffer. It is valid until the next call.
func (s *source) peek(n int) ([]byte, error) {
	for s.hi-s.lo < n {
		if s.lo > 0 {
			s.hi = copy(s.block[:], s.block[s.lo:s.hi])
			s.lo = 0
		}
		if _, err := s.receive(nil); err != nil {
			return s.ahead(), err
		}
	}
	return s.ahead(), nil
}

// await returns when something has been read ahead. That nothing will come is
// for whoever takes what does.
func (s *source) await() error {
	if s.hi > s.lo {
		return nil
	}
	_, err := s.receive(nil)
	if err == io.EOF {
		return nil
	}
	return err
}

// ahead is what has been read and not taken.
func (s *source) ahead() []byte {
	if s.block == nil {
		return nil
	}
	return s.block[s.lo:s.hi]
}

// discard takes n bytes that peek has shown.
func (s *source) discard(n int) {
	if s.lo += n; s.lo == s.hi {
		s.lo, s.hi = 0, 0
	}
}

// trusted is how much room is made for a message before any of it has come.
const trusted = 128 << 10

// take returns the next n bytes, in a slice of their own. It makes no more room
// than for trusted bytes, or for twice what has come.
func (s *source) take(n int) ([]byte, error) {
	m := make([]byte, min(n, trusted))
	for have := 0; ; {
		if err := s.fill(m[have:]); err != nil {
			return nil, err
		}
		if have = len(m); have == n {
			return m, nil
		}
		m = append(m, make([]byte, min(n-have, have))...)
	}
}

// fill reads until p is full.
func (s *source) fill(p []byte) error {
	for len(p) > 0 {
		if s.hi > s.lo {
			n := copy(p, s.ahead())
			s.discard(n)
			p = p[n:]
			continue
		}
		// What is long is read to where it belongs; with the end of what is short
		// the beginning of what follows comes in the same system call.
		into := p
		if len(p) < smallBuffer {
			into = nil
		}
		n, err := s.receive(into)
		if into != nil {
			p = p[n:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// skip takes n bytes and forgets them.
func (s *source) skip(n int) error {
	for n > 0 {
		if s.hi == s.lo {
			if _, err := s.receive(nil); err != nil {
				return err
			}
		}
		most := min(n, s.hi-s.lo)
		s.discard(most)
		n -= most
	}
	return nil
}

// receive reads once from the network: to p, or to the block's end when p is
// nil. The end of the stream is io.EOF.
func (s *source) receive(p []byte) (n int, err error) {
	if s.idle != nil {
		s.idle()
	}
	s.alive.reads.Add(1)
	defer s.alive.reads.Add(1)
	if s.raw == nil {
		into := p
		if into == nil {
			into = s.room()
		}
		n, err = s.conn.Read(into)
	} else {
		s.into = p
		if err = s.raw.Read(s.ready); err == nil {
			n, err = s.n, s.err
		}
		s.into = nil
	}
	if p == nil {
		s.hi += n
	}
	if n > 0 && err == io.EOF {
		err = nil // it comes again
	}
	return n, err
}

// room is the part of the block that can be read to.
func (s *source) room() []byte {
	if s.block == nil {
		s.block = smallBuffers.Get().(*[smallBuffer]byte)
	}
	return s.block[s.hi:]
}

// readNow reads from a bare socket; false when there is nothing to read yet.
func (s *source) readNow(fd uintptr) bool {
	p := s.into
	if p == nil {
		p = s.room()
	}
	s.n, s.err = readSocket(fd, p)
	if s.err == syscall.EAGAIN {
		if s.hi == s.lo {
			s.release()
		}
		return false
	}
	return true
}

// release gives the block back, with what is in it.
func (s *source) release() {
	if s.block != nil {
		smallBuffers.Put(s.block)
		s.block, s.lo, s.hi = nil, 0, 0
	}
}

// lent is a connection as the WebSocket library sees it in the handshake: it
// reads a byte at a time, so that nothing of what follows gets lost in the
// library's buffers.
type lent struct {
	net.Conn
	source *source
}

// Read implements io.Reader.
func (l *lent) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := l.source.peek(1)
	if err != nil {
		return 0, err
	}
	p[0] = b[0]
	l.source.discard(1)
	return 1, nil
}
