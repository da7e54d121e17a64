package bridge

import "sync"

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
