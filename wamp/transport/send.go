package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
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
	// portion is how many bytes the write timeout is given for, and how many are
	// put together before they are written.
	portion = 256 << 10
	// mostPieces is how many pieces go to the kernel at a time.
	mostPieces = 64
)

// Buffers are borrowed while there is something in them, so that an idle
// connection holds none.
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
// through it, whole frames at a time: what the kernel does not take at once
// stays in rest, ahead of everything that follows.
type sender struct {
	conn    net.Conn
	raw     syscall.RawConn // nil unless conn is a bare socket
	timeout time.Duration
	// header appends the header of a message of n bytes.
	header func(dst []byte, n int) ([]byte, mask)

	mu     sync.Mutex // held while bytes go out
	err    error      // why nothing can be sent any more
	begun  bool       // by try, and Write has not been called since
	ending bool       // the last frame is being sent
	rest   [][]byte   // what is to be written, from first on
	first  int
	queued int  // its bytes
	open   bool // the last piece of rest is the used part of a buffer, and may grow
	small  []*[smallBuffer]byte
	large  []*[largeBuffer]byte

	wrote error // how the last try at the socket failed
	once  func(fd uintptr) bool

	// deadline guards the connection's write deadline against closing: once
	// closing is set, only a moment is left to whoever is writing.
	deadline sync.Mutex
	closing  bool
}

func (s *sender) init(conn net.Conn, timeout time.Duration) {
	s.conn, s.raw, s.timeout = conn, bareSocket(conn), timeout
	s.once = s.writeOnce
}

// send sends messages, each in one frame, or what is left of those that try
// has begun with.
func (s *sender) send(messages [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		if s.begun {
			messages, s.begun = nil, false
		}
		s.err = s.sendAll(messages)
	}
	return s.err
}

// try sends messages as far as that goes without waiting; false when send has
// to be called, with the same ones, for what is left.
func (s *sender) try(messages [][]byte) (sent bool, err error) {
	if s.raw == nil || !s.mu.TryLock() {
		return false, nil
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return false, s.err
	}
	s.reserve(messages)
	for _, m := range messages {
		if s.err = s.add(m); s.err != nil {
			return false, s.err
		}
	}
	s.err = s.writeNow()
	s.begun = len(s.rest) > 0
	return !s.begun, s.err
}

func (s *sender) sendAll(messages [][]byte) error {
	s.reserve(messages)
	for _, m := range messages {
		if err := s.add(m); err != nil {
			return err
		}
		if s.queued >= portion {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return s.flush()
}

// reserve borrows a buffer that fits what is to be sent.
func (s *sender) reserve(messages [][]byte) {
	total := 0
	for _, m := range messages {
		total += maxHeader
		if len(m) < uncopied {
			total += len(m)
		}
	}
	if total > 0 {
		s.borrow(total)
	}
}

// borrow opens an empty piece with room for n bytes, or for as many as a buffer
// has.
func (s *sender) borrow(n int) {
	if n <= smallBuffer {
		b := smallBuffers.Get().(*[smallBuffer]byte)
		s.small = append(s.small, b)
		s.rest = append(s.rest, b[:0])
	} else {
		b := largeBuffers.Get().(*[largeBuffer]byte)
		s.large = append(s.large, b)
		s.rest = append(s.rest, b[:0])
	}
	s.open = true
}

// piece is the open piece, with room for n bytes.
func (s *sender) piece(n int) *[]byte {
	if s.open {
		if p := &s.rest[len(s.rest)-1]; cap(*p)-len(*p) >= n {
			return p
		}
	}
	s.borrow(largeBuffer)
	return &s.rest[len(s.rest)-1]
}

// add puts a message in a frame behind what is to be written.
func (s *sender) add(m []byte) error {
	room := maxHeader
	if len(m) < uncopied {
		room += len(m)
	}
	p := s.piece(room)
	before := len(*p)
	var key mask
	*p, key = s.header(*p, len(m))
	s.queued += len(*p) - before
	switch {
	case key.on:
		return s.addMasked(m, key.key)
	case len(m) < uncopied:
		*p = append(*p, m...)
	default:
		// What follows goes on in the same buffer.
		s.rest = append(s.rest, m, (*p)[len(*p):])
	}
	s.queued += len(m)
	return nil
}

// addMasked adds m under a mask, which takes a copy, and flushes when that gets
// long.
func (s *sender) addMasked(m []byte, key [4]byte) error {
	for pos := 0; pos < len(m); {
		p := s.piece(1)
		n := min(len(m)-pos, cap(*p)-len(*p))
		start := len(*p)
		*p = append(*p, m[pos:pos+n]...)
		applyMask((*p)[start:], key, pos)
		pos += n
		if s.queued += n; s.queued >= portion {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeNow writes to a bare socket what it takes without waiting.
func (s *sender) writeNow() error {
	if s.raw == nil || s.queued == 0 {
		return nil
	}
	s.wrote = nil
	err := s.raw.Write(s.once)
	if err == nil {
		err = s.wrote
	}
	if err != nil {
		return s.explain(err)
	}
	s.settle()
	return nil
}

// writeOnce is what writeNow has done with the socket's descriptor.
func (s *sender) writeOnce(fd uintptr) bool {
	for s.queued > 0 {
		n, err := writeSocket(fd, s.pieces())
		if err != nil {
			if err != syscall.EAGAIN {
				s.wrote = err
			}
			break
		}
		s.consume(n)
	}
	return true
}

// pieces is what is to be written, beginning with what is not empty.
func (s *sender) pieces() [][]byte {
	for len(s.rest[s.first]) == 0 {
		s.first++
	}
	return s.rest[s.first:]
}

// consume notes that n bytes have been written.
func (s *sender) consume(n int) {
	for s.queued -= n; n > 0; {
		p := &s.rest[s.first]
		gone := min(n, len(*p))
		*p = (*p)[gone:]
		if n -= gone; n > 0 {
			s.first++
		}
	}
}

// settle gives back what was borrowed, once all is written.
func (s *sender) settle() {
	if s.queued > 0 {
		return
	}
	for _, b := range s.small {
		smallBuffers.Put(b)
	}
	for _, b := range s.large {
		largeBuffers.Put(b)
	}
	clear(s.rest)
	clear(s.small)
	clear(s.large)
	s.rest, s.small, s.large = s.rest[:0], s.small[:0], s.large[:0]
	s.first, s.open = 0, false
	if cap(s.rest) > mostPieces {
		s.rest, s.large = nil, nil
	}
}

// flush writes what is to be written, and waits for the peer to take it.
func (s *sender) flush() error {
	if err := s.writeNow(); err != nil || s.queued == 0 {
		return err
	}
	for s.queued > 0 {
		if err := s.arm(); err != nil {
			return err
		}
		first := s.pieces()[0]
		n, err := s.conn.Write(first[:min(len(first), portion)])
		if err != nil {
			return s.explain(err)
		}
		s.consume(n)
	}
	s.settle()
	return s.disarm()
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
	s.append(f)
	s.err = s.flush()
	return s.err
}

// append puts bytes behind what is to be written.
func (s *sender) append(b []byte) {
	s.rest, s.open = append(s.rest, b), false
	s.queued += len(b)
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
	s.ending = true
	s.append(f)
	if s.err = s.flush(); s.err != nil {
		return false
	}
	s.err = errFarewell
	return true
}

// errFarewell is why nothing can be sent after the last frame.
var errFarewell = fmt.Errorf("write after the connection was closed: %w", net.ErrClosed)

// arm gives a write that waits its time. The last frame of a connection that is
// closed has what hurry left it.
func (s *sender) arm() error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	switch {
	case !s.closing:
		return s.conn.SetWriteDeadline(time.Now().Add(s.timeout))
	case s.ending:
		return nil
	}
	return fmt.Errorf("write: %w", net.ErrClosed)
}

// disarm takes the deadline away, which would also end writes that do not wait.
func (s *sender) disarm() error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if s.closing {
		return nil
	}
	return s.conn.SetWriteDeadline(time.Time{})
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
