package bridge

import (
	"context"
	"sync"
	"time"
)

// queue holds what waits for the broker. Each map has a lane in it, a list in
// order: first what has been sent on the present connection and is not
// acknowledged, then what has not been sent. The lanes take turns, so that a map
// with much to send does not delay the others.
//
// Messages of QoS 1 and 2 are on disk as well when their map is durable, when
// the broker is away, or when more waits than spillAt; then the disk has the
// bodies, and the queue only knows where. Without a disk, and while the disk
// fails, all is in memory, within cfg.Memory.
type queue struct {
	cfg QueueConfig

	mu      sync.Mutex
	lanes   map[string]*lane
	turn    []*lane // lanes with something unsent, in the order of their turns
	first   []Message
	store   *store
	count   int // messages
	bytes   int // of all
	memory  int // of the bodies in memory
	nextID  uint64
	online  bool
	gen     int           // counts connections; calls with another one are void
	backlog uint64        // what is below waited when the connection began
	drain   *limiter      // paces the backlog
	wake    chan struct{} // holds a token when there may be something to send
	idle    chan struct{} // closed when the queue runs empty; nil when nobody waits
	// retained counts the retained messages that wait, by their topics.
	retained map[uint64]int
}

// spillAt is how many bytes wait in memory, for a broker that is there, before
// the disk takes what comes then.
const spillAt = 1 << 20

func newQueue(cfg QueueConfig) *queue {
	return &queue{
		cfg: cfg, wake: make(chan struct{}, 1), lanes: map[string]*lane{}, retained: map[uint64]int{}, nextID: 1,
		drain: newLimiter(RateConfig{PerSecond: float64(cfg.DrainPerSecond), Burst: max(1, cfg.DrainPerSecond/10)}),
	}
}

// loss is messages that were dropped from a queue.
type loss struct {
	why   Reason
	count int
	lane  string // map that they came through
	err   error
}

// losses adds up what was dropped.
type losses []loss

func (ls *losses) add(why Reason, lane string, err error) {
	for i := range *ls {
		if l := &(*ls)[i]; l.why == why && l.lane == lane {
			l.count++
			return
		}
	}
	*ls = append(*ls, loss{why, 1, lane, err})
}

// push appends m to the lane of a map; by is nil for the bridge's own messages.
// It returns what was dropped, m itself perhaps.
func (q *queue) push(m Message, by *Map, now time.Time) (lost losses) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.laneOf(by)
	if m.QoS == 0 && !q.online {
		lost.add(Offline, l.name, nil)
		return lost
	}
	q.expire(l, now, &lost)
	if l.rate != nil && !q.admit(l, now, &lost) {
		return lost
	}
	size := m.size()
	if size > q.cfg.MaxBytes || !q.makeRoom(l, size, &lost) {
		lost.add(QueueFull, l.name, nil)
		return lost
	}
	it := item{id: q.nextID, size: size, at: now, qos: m.QoS, body: &m}
	q.nextID++
	var failed error
	if m.QoS > 0 && q.store != nil && (l.durable || !q.online || q.memory+size > spillAt) {
		failed = q.store.add(&it, l.name, now)
	}
	if it.entry != nil && q.memory+size > spillAt {
		it.body = nil
	} else if it.entry == nil && !q.makeMemory(l, size, &lost) {
		lost.add(QueueFull, l.name, failed)
		return lost
	}
	if m.Retain {
		it.topic = hashString(m.Topic)
		q.retained[it.topic]++
	}
	q.insert(l, it)
	q.signal()
	return lost
}

// insert appends an item to its lane.
func (q *queue) insert(l *lane, it item) {
	l.items = append(l.items, it)
	l.bytes += it.size
	q.count++
	q.bytes += it.size
	if it.body != nil {
		q.memory += it.size
	}
	if !l.waits {
		l.waits = true
		q.turn = append(q.turn, l)
	}
}

// forget takes an item that leaves its lane out of the sums. What it occupied
// on disk is given free by the caller.
func (q *queue) forget(l *lane, it *item) {
	l.bytes -= it.size
	q.count--
	q.bytes -= it.size
	if it.body != nil {
		q.memory -= it.size
	}
	if it.topic != 0 {
		if q.retained[it.topic]--; q.retained[it.topic] <= 0 {
			delete(q.retained, it.topic)
		}
	}
}

func (q *queue) laneOf(by *Map) *lane {
	name := ""
	if by != nil {
		name = by.Name
	}
	l := q.lanes[name]
	if l == nil {
		l = newLane(name, by)
		q.lanes[name] = l
	}
	return l
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// begin starts sending from the heads again, on a new connection, with first
// before everything else.
func (q *queue) begin(first []Message) (gen int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gen++
	q.online, q.first, q.backlog = true, first, q.nextID
	q.rewind()
	q.signal()
	return q.gen
}

func (q *queue) rewind() {
	q.turn = q.turn[:0]
	for _, l := range q.lanes {
		l.next, l.waits = 0, len(l.items) > 0
		if l.waits {
			q.turn = append(q.turn, l)
		}
	}
}

// end takes the queue offline; messages of QoS 0 do not wait, all others go to
// the disk.
func (q *queue) end(now time.Time) (lost losses) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gen++
	q.online, q.first = false, nil
	for _, l := range q.lanes {
		kept := l.items[:0]
		for i := range l.items {
			it := l.items[i]
			if it.qos == 0 {
				q.forget(l, &it)
				lost.add(Offline, l.name, nil)
				continue
			}
			kept = append(kept, it)
		}
		clear(l.items[len(kept):])
		l.items = kept
	}
	q.rewind()
	q.spill(now)
	return lost
}

// secure writes to the disk what is in memory only.
func (q *queue) secure(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spill(now)
}

// spill writes what is in memory only to the disk.
func (q *queue) spill(now time.Time) {
	if q.store == nil {
		return
	}
	for _, l := range q.lanes {
		for i := range l.items {
			it := &l.items[i]
			if it.entry != nil || it.body == nil || it.qos == 0 {
				continue
			}
			if q.store.add(it, l.name, now) != nil {
				return // tried again when the disk has room
			}
		}
	}
}

// sent is a message that was taken from the queue. ack wants it back.
type sent struct {
	Message
	lane *lane
	at   time.Time
}

// take returns the next message to send. Without one, wait is how long until
// there may be one although nothing signals it; zero for no such time.
func (q *queue) take(gen int, now time.Time) (s sent, wait time.Duration, ok bool, lost losses) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if gen != q.gen {
		return sent{}, 0, false, nil
	}
	if len(q.first) > 0 {
		s.Message = q.first[0]
		q.first = q.first[1:]
		return s, 0, true, nil
	}
	for turns := len(q.turn); turns > 0; turns-- {
		l := q.turn[0]
		q.turn = append(q.turn[:0], q.turn[1:]...)
		q.expire(l, now, &lost)
		if l.next == len(l.items) {
			l.waits = false
			continue
		}
		q.turn = append(q.turn, l)
		it := &l.items[l.next]
		if w := q.pace(l, it, now); w > 0 {
			if wait == 0 || w < wait {
				wait = w
			}
			continue
		}
		m, err := q.bodyOf(it)
		if err != nil {
			lost.add(Unreadable, l.name, err)
			q.remove(l, l.next)
			turns++
			continue
		}
		l.next++
		if l.next == len(l.items) {
			l.waits = false
			q.turn = q.turn[:len(q.turn)-1]
		}
		return sent{m, l, it.at}, 0, true, lost
	}
	return sent{}, wait, false, lost
}

// pace says how long an item must wait for the rate of its map, and of the
// backlog that it is part of.
func (q *queue) pace(l *lane, it *item, now time.Time) time.Duration {
	if it.paid {
		return 0
	}
	if l.rate != nil && l.over != OverDropNewest {
		if w := l.rate.take(now); w > 0 {
			return w
		}
	} else if it.id < q.backlog && q.cfg.DrainPerSecond > 0 {
		if w := q.drain.take(now); w > 0 {
			return w
		}
	}
	it.paid = true
	return 0
}

func (q *queue) bodyOf(it *item) (Message, error) {
	if it.body != nil {
		return *it.body, nil
	}
	return q.store.body(it)
}

// ack removes messages that have been acknowledged, in the order in which take
// returned them. False means that gen is past.
func (q *queue) ack(gen int, done []sent) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if gen != q.gen {
		return false
	}
	for _, s := range done {
		l := s.lane
		if l == nil || l.next == 0 {
			continue // not one that the queue keeps
		}
		q.forget(l, &l.items[0])
		q.store.done(&l.items[0])
		l.popFront()
		l.next--
		l.sent++
	}
	q.store.flush()
	if q.count == 0 && len(q.first) == 0 && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return true
}

// purge drops everything that is not on its way, of one map, or of all.
func (q *queue) purge(lane string, all bool) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lanes {
		if !all && l.name != lane {
			continue
		}
		for len(l.items) > l.next {
			q.remove(l, len(l.items)-1)
			n++
		}
	}
	q.store.flush()
	return n
}

// holdsRetained reports whether a retained message for topic waits.
func (q *queue) holdsRetained(topic string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.retained[hashString(topic)] > 0
}

// drained waits until the queue is empty.
func (q *queue) drained(ctx context.Context) {
	q.mu.Lock()
	if q.count == 0 && len(q.first) == 0 {
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

// depth is how much waits.
type depth struct {
	messages, bytes int
	oldest          time.Time // zero when nothing waits
	lanes           []laneDepth
	disk            diskState
}

type laneDepth struct {
	name            string
	messages, bytes int
	sent            uint64
}

func (q *queue) depth() depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := depth{messages: q.count, bytes: q.bytes, disk: q.store.state()}
	for _, l := range q.lanes {
		if len(l.items) > 0 && (d.oldest.IsZero() || l.items[0].at.Before(d.oldest)) {
			d.oldest = l.items[0].at
		}
		d.lanes = append(d.lanes, laneDepth{l.name, len(l.items), l.bytes, l.sent})
	}
	return d
}
