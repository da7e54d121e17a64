package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
	// A message from this size on is handed to the kernel where it lies
	// instead of being copied.
	uncopied = 16 << 10
	// maxHeader is the longest header of a frame: WebSocket's, with its mask.
	maxHeader = 14
	// portion is how many bytes the write timeout is given for.
	portion = 256 << 10
)

// Buffers are borrowed for the length of one call, so that an idle connection
// holds none.
var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// mask is a WebSocket client's key; frames of others have none.
type mask struct {
	key [4]byte
	on  bool
}

// sender is the sending half of a connection. Everything that goes out goes
// through it, whole frames at a time.
type sender struct {
	conn    net.Conn
	timeout time.Duration
	// header appends the header of a message of n bytes.
	header func(dst []byte, n int) ([]byte, mask)

	mu   sync.Mutex // held while bytes go out
	err  error      // why nothing can be sent any more
	pair [2][]byte
	vec  net.Buffers

	// deadline guards the connection's write deadline against closing: once
	// closing is set, only a moment is left to whoever is writing.
	deadline sync.Mutex
	closing  bool
}

// send sends messages, each in one frame.
func (s *sender) send(messages [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.err = s.sendAll(messages); s.err != nil {
		return s.err
	}
	return nil
}

func (s *sender) sendAll(messages [][]byte) error {
	total := 0
	for _, m := range messages {
		total += maxHeader + len(m)
	}
	var buf []byte
	if total <= smallBuffer {
		b := smallBuffers.Get().(*[smallBuffer]byte)
		defer smallBuffers.Put(b)
		buf = b[:0]
	} else {
		b := largeBuffers.Get().(*[largeBuffer]byte)
		defer largeBuffers.Put(b)
		buf = b[:0]
	}
	for _, m := range messages {
		if cap(buf)-len(buf) < maxHeader+min(len(m), uncopied) {
			if err := s.flush(buf, nil); err != nil {
				return err
			}
			buf = buf[:0]
		}
		var key mask
		buf, key = s.header(buf, len(m))
		var err error
		switch {
		case key.on:
			buf, err = s.masked(buf, m, key.key)
		case len(m) < uncopied:
			buf = append(buf, m...)
		default:
			err = s.flush(buf, m)
			buf = buf[:0]
		}
		if err != nil {
			return err
		}
	}
	return s.flush(buf, nil)
}

// masked appends m under a mask, flushing whenever buf is full.
func (s *sender) masked(buf, m []byte, key [4]byte) ([]byte, error) {
	for pos := 0; pos < len(m); {
		n := min(len(m)-pos, cap(buf)-len(buf))
		start := len(buf)
		buf = append(buf, m[pos:pos+n]...)
		applyMask(buf[start:], key, pos)
		if pos += n; pos < len(m) {
			if err := s.flush(buf, nil); err != nil {
				return nil, err
			}
			buf = buf[:0]
		}
	}
	return buf, nil
}

// flush writes buf and then tail, in one system call unless they are long.
func (s *sender) flush(buf, tail []byte) error {
	for len(buf)+len(tail) > 0 {
		if err := s.arm(); err != nil {
			return err
		}
		n := min(len(tail), portion)
		var err error
		switch {
		case len(buf) == 0:
			_, err = s.conn.Write(tail[:n])
		case n == 0:
			_, err = s.conn.Write(buf)
		default:
			s.pair = [2][]byte{buf, tail[:n]}
			s.vec = s.pair[:]
			_, err = s.vec.WriteTo(s.conn)
			s.pair = [2][]byte{}
		}
		if err != nil {
			return s.explain(err)
		}
		buf, tail = nil, tail[n:]
	}
	return nil
}

// frame sends a complete control frame.
func (s *sender) frame(f []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frameLocked(f)
}

func (s *sender) frameLocked(f []byte) error {
	if s.err != nil {
		return s.err
	}
	s.err = s.flush(f, nil)
	return s.err
}

// tryFrame sends a control frame unless somebody is writing.
func (s *sender) tryFrame(f []byte) bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	_ = s.frameLocked(f) // whoever reads will see that the connection is gone
	return true
}

// last sends a final frame, when there is one; nothing can be sent after it.
// It reports whether the stream of frames is whole, so that the peer can read
// it to its end.
func (s *sender) last(f []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return errors.Is(s.err, errFarewell)
	}
	if len(f) > 0 {
		_ = s.arm() // in vain when hurry has set the deadline: good as well
		if _, err := s.conn.Write(f); err != nil {
			s.err = s.explain(err)
			return false
		}
	}
	s.err = errFarewell
	return true
}

// errFarewell is why nothing can be sent after the last frame.
var errFarewell = fmt.Errorf("write after the connection was closed: %w", net.ErrClosed)

// arm gives the next write its time.
func (s *sender) arm() error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if s.closing {
		return fmt.Errorf("write: %w", net.ErrClosed)
	}
	return s.conn.SetWriteDeadline(time.Now().Add(s.timeout))
}

// hurry leaves whoever is writing, and the last frame, no more than d.
func (s *sender) hurry(d time.Duration) {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	s.closing = true
	_ = s.conn.SetWriteDeadline(time.Now().Add(d)) // fails only when there is nobody to hurry
}

func (s *sender) explain(err error) error {
	s.deadline.Lock()
	closing := s.closing
	s.deadline.Unlock()
	switch {
	case closing:
		return fmt.Errorf("write: %w", net.ErrClosed)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the peer took no data for %v: %w", s.timeout, err)
	default:
		return fmt.Errorf("write: %w", err)
	}
}

// applyMask masks b, which begins pos bytes into its frame's payload
// (RFC 6455, 5.3).
func applyMask(b []byte, key [4]byte, pos int) {
	var k [8]byte
	for i := range k {
		k[i] = key[(pos+i)&3]
	}
	wide := binary.NativeEndian.Uint64(k[:])
	for len(b) >= 8 {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= k[i]
	}
}
