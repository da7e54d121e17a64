package bridge

import "time"

// lane is what waits of one map.
type lane struct {
	name     string
	durable  bool
	priority int
	share    float64
	rate     *limiter // nil for none
	over     string

	items []item
	next  int // index of the first that has not been sent
	bytes int
	waits bool // it has its place among the turns
	sent  uint64
}

// item is one message that waits.
type item struct {
	id    uint64
	size  int
	at    time.Time
	qos   byte
	paid  bool     // its rate has been counted
	topic uint64   // hash of a retained message's topic, else zero
	body  *Message // nil when only the disk has it
	entry *diskItem
}

func newLane(name string, by *Map) *lane {
	l := &lane{name: name, share: 1}
	if by == nil {
		return l
	}
	l.durable, l.priority, l.over = by.Durable, by.Priority, by.Rate.Over
	if by.Share > 0 {
		l.share = by.Share
	}
	if by.Rate.PerSecond > 0 {
		l.rate = newLimiter(by.Rate)
	}
	return l
}

func (l *lane) popFront() {
	l.items[0] = item{}
	l.items = l.items[1:]
	if len(l.items) == 0 {
		l.items = nil // lets the memory of a past backlog go
	}
}

// admit asks the lane's rate. What is over it is dropped here, or paced when it
// is sent.
func (q *queue) admit(l *lane, now time.Time, lost *losses) bool {
	switch l.over {
	case OverDropNewest:
		if l.rate.take(now) > 0 {
			lost.add(OverRate, l.name, nil)
			return false
		}
	case OverDropOldest:
		for len(l.items)-l.next >= max(1, int(l.rate.burst)) {
			q.remove(l, l.next)
			lost.add(OverRate, l.name, nil)
		}
	}
	return true
}

// remove drops the unsent item i of a lane.
func (q *queue) remove(l *lane, i int) {
	q.forget(l, &l.items[i])
	q.store.done(&l.items[i])
	if i == l.next {
		// Those that are on their way move up: they are few.
		copy(l.items[1:i+1], l.items[:i])
		l.popFront()
		return
	}
	l.items[i] = item{}
	l.items = append(l.items[:i], l.items[i+1:]...)
}

// expire drops what a lane has kept for too long.
func (q *queue) expire(l *lane, now time.Time, lost *losses) {
	if q.cfg.MaxAge <= 0 {
		return
	}
	for l.next < len(l.items) && now.Sub(l.items[l.next].at) > q.cfg.MaxAge {
		q.remove(l, l.next)
		lost.add(Expired, l.name, nil)
	}
}

// makeRoom drops messages until one more of a lane fits. False means that this
// one must give way.
func (q *queue) makeRoom(l *lane, size int, lost *losses) bool {
	within := func() bool {
		return float64(len(l.items)) < l.share*float64(q.cfg.MaxMessages) && float64(l.bytes+size) <= l.share*float64(q.cfg.MaxBytes)
	}
	for !within() {
		if !q.giveWay(l, l, lost) {
			return false
		}
	}
	for q.count >= q.cfg.MaxMessages || q.bytes+size > q.cfg.MaxBytes {
		if !q.giveWay(q.victim(l, func(v *lane) bool { return len(v.items) > v.next }), l, lost) {
			return false
		}
	}
	return true
}

// makeMemory does the same for the bodies that only memory has.
func (q *queue) makeMemory(l *lane, size int, lost *losses) bool {
	for q.memory+size > q.cfg.Memory {
		if !q.shed() && !q.giveWay(q.victim(l, func(v *lane) bool { return len(v.items) > v.next && v.items[v.next].body != nil }), l, lost) {
			return false
		}
	}
	return true
}

// shed forgets bodies that the disk has, too.
func (q *queue) shed() (any bool) {
	for _, l := range q.lanes {
		for i := l.next; i < len(l.items); i++ {
			if it := &l.items[i]; it.body != nil && it.entry != nil {
				it.body = nil
				q.memory -= it.size
				any = true
			}
		}
	}
	return any
}

// victim is the lane that gives way: of those with the lowest priority the one
// in which most waits. A lane of higher priority than the one that wants room
// does not.
func (q *queue) victim(wants *lane, has func(*lane) bool) *lane {
	var v *lane
	for _, l := range q.lanes {
		if l.priority > wants.priority || !has(l) {
			continue
		}
		if v == nil || l.priority < v.priority || l.priority == v.priority && l.bytes > v.bytes {
			v = l
		}
	}
	return v
}

// giveWay drops a message of lane v, by the policy. False means that the
// message which wants room in lane l is the one to be dropped.
func (q *queue) giveWay(v, l *lane, lost *losses) bool {
	if v == nil || v.next == len(v.items) {
		return false
	}
	i := v.next
	if q.cfg.WhenFull == DropNewest {
		if v == l {
			return false
		}
		i = len(v.items) - 1
	}
	q.remove(v, i)
	lost.add(QueueFull, v.name, nil)
	return true
}

// limiter is a bucket of tokens: so many a second, and no more than burst at
// once.
type limiter struct {
	perSecond, burst float64
	tokens           float64
	last             time.Time
}

func newLimiter(c RateConfig) *limiter {
	burst := float64(c.Burst)
	if burst < 1 {
		burst = max(1, c.PerSecond)
	}
	return &limiter{perSecond: c.PerSecond, burst: burst, tokens: burst}
}

// take takes a token. Without one it says how long until there is.
func (l *limiter) take(now time.Time) time.Duration {
	if !l.last.IsZero() && now.After(l.last) {
		l.tokens = min(l.burst, l.tokens+l.perSecond*now.Sub(l.last).Seconds())
	}
	l.last = now
	if l.tokens >= 1 {
		l.tokens--
		return 0
	}
	return max(time.Millisecond, time.Duration((1-l.tokens)/l.perSecond*float64(time.Second)))
}
