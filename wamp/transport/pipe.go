package transport

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/postern-iot/postern/wamp/codec"
)

// Bounds of one direction of a pipe. A message above pipeBytes still passes,
// alone. What a reader has taken in one go does not count, so up to twice this
// much can be under way.
const (
	pipeMessages = 1024
	pipeBytes    = 1 << 20
)

// Pipe returns the two ends of a connection inside the process. Each direction
// holds a bounded number of messages and bytes; Write blocks while it is full.
// Close of either end ends both: blocked calls return, and each end can still
// read what the other had sent before, then io.EOF. It has no goroutine.
//
// Messages are bytes of c, as on any other transport, so that a local session
// goes the same way as a remote one.
func Pipe(c codec.Codec) (a, b Conn) {
	ab, ba := newQueue(), newQueue()
	info := Info{Transport: "pipe", Codec: c}
	infoA, infoB := info, info
	endA := &pipeEnd{in: ba, out: ab, info: &infoA}
	endB := &pipeEnd{in: ab, out: ba, info: &infoB}
	endA.SetReadLimit(0)
	endB.SetReadLimit(0)
	return endA, endB
}

type pipeEnd struct {
	in, out *queue
	info    *Info
	limit   atomic.Int64
}

// Read implements Conn.
func (p *pipeEnd) Read() ([]byte, error) {
	m, err := p.in.get()
	if err != nil {
		return nil, err
	}
	if limit := p.limit.Load(); int64(len(m)) > limit {
		_ = p.Close()
		p.in.drop()
		return nil, tooLarge(uint64(len(m)), limit)
	}
	return m, nil
}

// Write implements Conn.
func (p *pipeEnd) Write(messages ...[]byte) error { return p.out.put(messages) }

// TryWrite implements Direct.
func (p *pipeEnd) TryWrite(messages ...[]byte) (sent bool, err error) { return p.out.tryPut(messages) }

// OnWait implements Direct.
func (p *pipeEnd) OnWait(f func()) { p.in.idle = f }

// SetReadLimit implements Conn.
func (p *pipeEnd) SetReadLimit(bytes int) { p.limit.Store(int64(positive(bytes, DefaultReadLimit))) }

// Close implements Conn.
func (p *pipeEnd) Close() error {
	p.in.close()
	p.out.close()
	return nil
}

// Info implements Conn.
func (p *pipeEnd) Info() *Info { return p.info }

// queue is one direction of a pipe: put blocks while it is full, get takes all
// that is queued in one go, so that a burst costs one wake-up.
type queue struct {
	mu       sync.Mutex
	readable *sync.Cond
	writable *sync.Cond
	items    [][]byte
	bytes    int
	begun    int // how many of its messages tryPut has put, for put to leave out
	closed   bool

	// taken is what get has taken out and not yet returned; it belongs to the
	// reading goroutine. Its array and that of items take turns.
	taken [][]byte
	next  int
	idle  func() // called before get may wait; may be nil
}

func newQueue() *queue {
	q := &queue{}
	q.readable = sync.NewCond(&q.mu)
	q.writable = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(messages [][]byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	messages, q.begun = messages[q.begun:], 0
	for _, m := range messages {
		for !q.closed && q.full(len(m)) {
			q.readable.Signal()
			q.writable.Wait()
		}
		if q.closed {
			return errPipeClosed
		}
		q.add(m)
	}
	q.readable.Signal()
	return nil
}

var errPipeClosed = fmt.Errorf("write to pipe: %w", net.ErrClosed)

// tryPut puts messages until it is full; false when put must be called for the
// rest.
func (q *queue) tryPut(messages [][]byte) (all bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, errPipeClosed
	}
	q.readable.Signal()
	for q.begun < len(messages) && !q.full(len(messages[q.begun])) {
		q.add(messages[q.begun])
		q.begun++
	}
	if q.begun < len(messages) {
		return false, nil
	}
	q.begun = 0
	return true, nil
}

func (q *queue) add(m []byte) {
	q.items = append(q.items, bytes.Clone(m))
	q.bytes += len(m)
}

func (q *queue) full(n int) bool {
	return len(q.items) >= pipeMessages || len(q.items) > 0 && q.bytes+n > pipeBytes
}

func (q *queue) get() ([]byte, error) {
	if q.next == len(q.taken) {
		if q.idle != nil {
			q.idle()
		}
		if !q.take() {
			return nil, io.EOF
		}
	}
	m := q.taken[q.next]
	q.taken[q.next] = nil
	q.next++
	return m, nil
}

// take waits for messages and swaps them out; false when there will be none.
func (q *queue) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 {
		if q.closed {
			return false
		}
		q.readable.Wait()
	}
	q.items, q.taken = q.taken[:0], q.items
	q.bytes, q.next = 0, 0
	q.writable.Broadcast()
	return true
}

// drop forgets what was taken and what is queued.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.taken, q.bytes, q.next = nil, nil, 0, 0
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.readable.Broadcast()
	q.writable.Broadcast()
}
