package router

import (
	"sync"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// shared is one message in several outboxes. The first writer that needs it in
// a codec encodes it; the others take the bytes.
type shared struct {
	msg wamp.Message

	mu   sync.Mutex
	done []encoded
}

type encoded struct {
	codec codec.Codec
	bytes []byte
	err   error
}

func (s *shared) encode(c codec.Codec) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.done {
		if s.done[i].codec == c {
			return s.done[i].bytes, s.done[i].err
		}
	}
	_, size := weigh(s.msg)
	b, err := c.Append(make([]byte, 0, size), s.msg)
	s.done = append(s.done, encoded{codec: c, bytes: b, err: err})
	return b, err
}

// Sizes of what a writer sends in one go. A batch beyond writeSize is sent in
// parts, so that a session that reads slowly is seen to read.
const (
	writeSize = 256 << 10
	keepWrite = 512 << 10
)

// scratch is what a writer needs while it has something to write; idle ones
// have none.
type scratch struct {
	buf      []byte
	messages [][]byte
}

var scratches = sync.Pool{New: func() any { return &scratch{buf: make([]byte, 0, 4<<10)} }}

func (s *scratch) release() {
	if cap(s.buf) > keepWrite || cap(s.messages) > 1024 {
		return
	}
	s.reset()
	scratches.Put(s)
}

func (s *scratch) reset() {
	clear(s.messages)
	s.buf, s.messages = s.buf[:0], s.messages[:0]
}
