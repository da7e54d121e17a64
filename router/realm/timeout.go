package realm

import (
	"container/heap"

	"github.com/postern-iot/postern/wamp"
)

// Timeouts says how long a call may take that the dealer watches over, in
// nanoseconds ("Call Timeouts").
type Timeouts struct {
	// Default is for calls that name no timeout; 0 lets them take as long as
	// they do.
	Default Time
	// Max is the longest, also for calls that name none; 0 means no bound.
	Max Time
}

const millisecond Time = 1e6

// longestTimeout is what longer ones are taken for: a year, in milliseconds.
const longestTimeout = 365 * 24 * 3600 * 1000

// of returns how long a call may take that named a timeout in milliseconds; 0
// for as long as it does.
func (t Timeouts) of(named uint64) Time {
	d := Time(min(named, longestTimeout)) * millisecond
	if d == 0 {
		d = t.Default
	}
	if t.Max > 0 && (d == 0 || d > t.Max) {
		d = t.Max
	}
	return d
}

// timer is the part of an invocation that has a timeout.
type timer struct {
	deadline Time
	after    Time   // the time between answers
	seq      uint64 // in which order those with the same deadline were set
	at       int    // place in the heap
}

// deadlines is a heap of the invocations with a timer, the earliest first.
type deadlines []*invocation

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool {
	a, b := d[i].timer, d[j].timer
	return a.deadline < b.deadline || a.deadline == b.deadline && a.seq < b.seq
}

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].timer.at, d[j].timer.at = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(inv any) { *d = append(*d, inv.(*invocation)) }

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	inv := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return inv
}

// watch gives an invocation a timeout. Where the callee registered with
// forward_timeout, it is told, and is the one who watches.
func (r *Realm) watch(inv *invocation, c *callee, out *wamp.Invocation, after Time) {
	if c.forwardTimeout && inv.caller != r.judge {
		out.Details.Timeout = uint64((after + millisecond - 1) / millisecond)
		return
	}
	r.lastTimer++
	inv.timer = &timer{deadline: r.now + after, after: after, seq: r.lastTimer, at: len(r.deadlines)}
	heap.Push(&r.deadlines, inv)
}

// postpone begins the timeout anew: with progressive results it is the time
// until the next one ("Progressive Call Results", timeouts).
func (r *Realm) postpone(inv *invocation) {
	if t := inv.timer; t != nil {
		t.deadline = r.now + t.after
		heap.Fix(&r.deadlines, t.at)
	}
}

// unwatch forgets the timeout of an invocation that nobody waits for any more.
func (r *Realm) unwatch(inv *invocation) {
	if inv.timer != nil {
		heap.Remove(&r.deadlines, inv.timer.at)
		inv.timer = nil
	}
}

// NextDeadline is when Tick has something to do, 0 for never.
func (r *Realm) NextDeadline() Time {
	if len(r.deadlines) == 0 {
		return 0
	}
	return r.deadlines[0].timer.deadline
}

// Tick does what is due by the passing of time: calls that have taken too long
// fail, and their callees are interrupted if they announced call canceling.
func (r *Realm) Tick(now Time) []Effect {
	r.begin(now)
	for len(r.deadlines) > 0 && r.deadlines[0].timer.deadline <= now {
		inv := r.deadlines[0]
		r.stats.TimedOut++
		r.refuse(inv.caller, wamp.KindCall, inv.call,
			wamp.Errorf(wamp.ErrTimeout, "no answer within %d ms", inv.timer.after/millisecond))
		r.abandon(inv, "killnowait")
	}
	return r.done()
}
