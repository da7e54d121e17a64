package router

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/postern-iot/postern/wamp"
)

// Sizes of what is sent in one go. A batch beyond writeSize is sent in parts, so
// that a session that reads slowly is seen to read.
const (
	writeSize = 256 << 10
	keepWrite = 512 << 10
)

// parcel is a part of a batch on its way out.
type parcel struct {
	buf      []byte
	messages [][]byte // those of the part that are not sent yet
	batch    []item   // as it was taken from the outbox
	from, to int      // the part
}

// Parcels are borrowed while there is something to send.
var parcels = sync.Pool{New: func() any { return &parcel{buf: make([]byte, 0, 4<<10)} }}

func (p *parcel) release() {
	if cap(p.buf) > keepWrite || cap(p.messages) > 1024 {
		return
	}
	p.reset()
	p.batch, p.from, p.to = nil, 0, 0
	parcels.Put(p)
}

func (p *parcel) reset() {
	clear(p.messages)
	p.buf, p.messages = p.buf[:0], p.messages[:0]
}

// settle sends, as far as that goes without waiting, what this session's reader
// has put into outboxes that were empty. It is called before the reader waits,
// so that everything that has come with one read goes out with one write for each
// receiver.
func (s *session) settle() {
	s.at = 0
	for i, to := range s.touched {
		s.touched[i] = nil
		to.send()
	}
	if s.touched = s.touched[:0]; cap(s.touched) > keepBusy {
		s.touched = nil
	}
}

// send sends what is in the outbox, which the caller has claimed, as far as that
// goes without waiting; what is left is a writer's.
func (s *session) send() {
	var left *parcel
	held := true
	defer func() {
		if held {
			go s.write(left)
		}
	}()
	defer s.recovered("sender")
	if s.direct == nil {
		return
	}
	p := s.next(nil)
	if p == nil {
		return
	}
	if len(p.messages) > 0 {
		sent, err := s.direct.TryWrite(p.messages...)
		if err != nil {
			s.writeFailed(err)
			return
		}
		if !sent {
			left = p
			return
		}
	}
	if held = s.wrote(p); held && p.to < len(p.batch) {
		left = p
		return
	}
	p.release()
}

// write is the writer: the goroutine that a session has while there is more to
// send than its peer takes at once. It sends what p still holds, if anything, and
// what is in the outbox, until that is empty. After the session's end it closes
// the connection, which ends the reader.
func (s *session) write(p *parcel) {
	held := true
	defer func() {
		if held {
			_ = s.conn.Close()
			s.out.release()
		}
	}()
	defer s.recovered("writer")
	if p == nil {
		p = s.next(nil)
	}
	for ; p != nil; p = s.next(p) {
		if len(p.messages) > 0 {
			if err := s.conn.Write(p.messages...); err != nil {
				s.writeFailed(err)
				return
			}
		}
		if held = s.wrote(p); !held {
			p.release()
			return
		}
	}
}

// next encodes the next part of p's batch or, when p is nil or at its end, of what
// is in the outbox; nil at the session's end.
func (s *session) next(p *parcel) *parcel {
	if p != nil && p.to == len(p.batch) {
		p.release()
		p = nil
	}
	if p == nil {
		batch := s.out.take()
		if batch == nil {
			return nil
		}
		p = parcels.Get().(*parcel)
		p.batch = batch
	}
	for bytes := 0; p.to < len(p.batch) && bytes < writeSize; p.to++ {
		if m, ok := s.encode(p, &p.batch[p.to]); ok {
			p.messages = append(p.messages, m)
			bytes += len(m)
		}
	}
	return p
}

// wrote tells the outbox that p's part has been sent; held is whether there is
// more.
func (s *session) wrote(p *parcel) (held bool) {
	held = s.out.wrote(p.batch[p.from:p.to], p.batch[p.to:], p.batch)
	p.from = p.to
	p.reset()
	return held
}

// writeFailed ends the session of a connection that cannot be written to.
func (s *session) writeFailed(err error) {
	if !s.out.isDead() {
		s.fail(slog.LevelDebug, fmt.Errorf("write: %w", err))
	}
	s.out.kill()
}

// encode returns a message's bytes; false when it cannot be sent to this
// session, which the realm has been told then.
func (s *session) encode(p *parcel, it *item) ([]byte, bool) {
	var b []byte
	var err error
	if it.share != nil {
		b, err = it.share.encode(s.codec)
	} else {
		start := len(p.buf)
		grown, e := s.codec.Append(p.buf, it.msg)
		if err = e; err == nil {
			// Growing leaves earlier messages where they were, in the old array.
			p.buf, b = grown, grown[start:len(grown):len(grown)]
		}
	}
	most := s.conn.Info().MaxWrite
	switch {
	case err != nil:
		s.undeliverable(it.msg, wamp.Errorf(wamp.ErrInvalidArgument, "%v", err))
		return nil, false
	case most > 0 && len(b) > most:
		s.undeliverable(it.msg, wamp.Errorf(wamp.ErrPayloadSizeExceeded,
			"%v of %d bytes: the receiver accepts %d", it.msg.Kind(), len(b), most))
		return nil, false
	}
	return b, true
}

func (s *session) undeliverable(m wamp.Message, cause *wamp.Error) {
	h := s.hall.Load()
	if h == nil { // in the handshake there is nothing smaller to say
		s.fail(slog.LevelInfo, cause)
		s.end()
		return
	}
	h.undeliverable(s, m, cause)
	if s.out.closed() {
		s.fail(slog.LevelInfo, cause)
	}
}
