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
