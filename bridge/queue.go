package bridge

import (
	"context"
	"slices"
	"sync"
)

// queue holds what waits for the broker, in order: first what has been sent on
// the present connection and is not acknowledged, then what has not been sent.
// It has the shape of a log with a head and a cursor, so that one on disk can
// take its place.
type queue struct {
	cfg QueueConfig

	mu     sync.Mutex
	items  []Message
	next   int // index of the first that has not been sent
	bytes  int
	online bool
	gen    int           // counts connections; calls with another one are void
	wake   chan struct{} // holds a token when there may be something to send
	idle   chan struct{} // closed when the queue runs empty; nil when nobody waits
}

func newQueue(cfg QueueConfig) *queue {
	return &queue{cfg: cfg, wake: make(chan struct{}, 1)}
}

// push appends m. It returns how many messages were dropped, and why; m itself
// may be one of them.
func (q *queue) push(m Message) (dropped int, why Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.QoS == 0 && !q.online {
		return 1, Offline
	}
	for len(q.items) >= q.cfg.MaxMessages || q.bytes+m.size() > q.cfg.MaxBytes {
		if q.cfg.WhenFull == DropNewest || q.next == len(q.items) || m.size() > q.cfg.MaxBytes {
			return dropped + 1, QueueFull
		}
		// The oldest that has not been sent gives way; those sent move up.
		q.bytes -= q.items[q.next].size()
		copy(q.items[1:q.next+1], q.items[:q.next])
		q.popFront()
		dropped++
	}
	q.items = append(q.items, m)
	q.bytes += m.size()
	q.signal()
	return dropped, QueueFull
}

func (q *queue) popFront() {
	q.items[0] = Message{}
	q.items = q.items[1:]
	if len(q.items) == 0 {
		q.items = nil // lets the memory of a past backlog go
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// begin starts sending from the head again, on a new connection, with first
// before everything else.
func (q *queue) begin(first []Message) (gen int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gen++
	q.next, q.online = 0, true
	q.items = slices.Concat(first, q.items)
	for _, m := range first {
		q.bytes += m.size()
	}
	q.signal()
	return q.gen
}

// end takes the queue offline; messages of QoS 0 do not wait. It returns how
// many were dropped.
func (q *queue) end() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gen++
	q.next, q.online = 0, false
	before := len(q.items)
	q.items = slices.DeleteFunc(q.items, func(m Message) bool {
		if m.QoS == 0 {
			q.bytes -= m.size()
		}
		return m.QoS == 0
	})
	return before - len(q.items)
}

// take returns the next message to send.
func (q *queue) take(gen int) (m Message, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if gen != q.gen || q.next == len(q.items) {
		return Message{}, false
	}
	q.next++
	return q.items[q.next-1], true
}

// ack removes the head, which has been acknowledged. False means that gen is
// past.
func (q *queue) ack(gen int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if gen != q.gen || q.next == 0 {
		return false
	}
	q.bytes -= q.items[0].size()
	q.popFront()
	q.next--
	if len(q.items) == 0 && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return true
}

// depth is how much waits.
func (q *queue) depth() (messages, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.bytes
}

// holdsRetained reports whether a retained message for topic waits.
func (q *queue) holdsRetained(topic string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.items, func(m Message) bool { return m.Retain && m.Topic == topic })
}

// drain waits until the queue is empty.
func (q *queue) drain(ctx context.Context) {
	q.mu.Lock()
	if len(q.items) == 0 {
		q.mu.Unlock()
		return
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// The inbox's bounds. Beyond the first ones QoS 0 is dropped; beyond the second
// ones the connection ends, and the broker delivers again what it had no
// acknowledgement for.
const (
	inboxSoftCount, inboxSoftBytes = 8192, 8 << 20
	inboxHardCount, inboxHardBytes = 65_536, 64 << 20
)

// inbox holds what arrived from the broker until it is published.
type inbox struct {
	mu    sync.Mutex
	items []Received
	bytes int
	wake  chan struct{}
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// push appends r; the error is ErrBacklog.
func (b *inbox) push(r Received) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	count, bytes := inboxSoftCount, inboxSoftBytes
	if r.QoS > 0 {
		count, bytes = inboxHardCount, inboxHardBytes
	}
	if len(b.items) >= count || b.bytes+len(r.Payload) > bytes && len(b.items) > 0 {
		return ErrBacklog
	}
	b.items = append(b.items, r)
	b.bytes += len(r.Payload)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// takeAll returns what has arrived, in order, and gives spare back for reuse.
func (b *inbox) takeAll(spare []Received) []Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	clear(spare[:cap(spare)])
	if cap(spare) > 1024 {
		spare = nil
	}
	b.items, b.bytes = spare[:0], 0
	return items
}
