package devices

import (
	"time"

	"github.com/postern-iot/postern/wamp"
)

// The slots of entries that are no values: a change of the device's state, and
// an alarm that was raised or cleared.
const (
	statusSlot = -1
	alarmSlot  = -2
)

// entry is one event that waits to be published.
type entry struct {
	slot    int // index of the reading, or statusSlot or alarmSlot
	value   any // the state's Status, or an alarmEvent, in these slots
	time    time.Time
	seq     int64
	quality Quality
	reason  string // why quality is not good
	extra   wamp.Dict
	edge    Edge
}

// queue is a ring of entries, bounded, that grows as it fills and gives its
// memory back when a burst is over.
type queue struct {
	ring  []entry
	head  int
	count int
	max   int
}

const queueMin = 16

// push appends e. When the queue is full the oldest entry makes room and is
// returned.
func (q *queue) push(e entry) (dropped entry, full bool) {
	if q.count == q.max {
		dropped, full = q.pop()
	}
	if q.count == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.count)%len(q.ring)] = e
	q.count++
	return dropped, full
}

func (q *queue) pop() (entry, bool) {
	if q.count == 0 {
		return entry{}, false
	}
	e := q.ring[q.head]
	q.ring[q.head] = entry{}
	q.head = (q.head + 1) % len(q.ring)
	q.count--
	if q.count == 0 && len(q.ring) > queueMin {
		q.ring, q.head = nil, 0
	}
	return e, true
}

func (q *queue) grow() {
	ring := make([]entry, min(max(2*len(q.ring), queueMin), q.max))
	for i := range q.count {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}
