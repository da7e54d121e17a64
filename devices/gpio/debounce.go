package gpio

import (
	"errors"
	"os"
	"time"

	periph "periph.io/x/conn/v3/gpio"
)

// debouncer does what the kernel's software debounce does, where the kernel
// does not: a change counts when the line has been quiet for the period, at its
// end, and only if the level then differs from the last one that counted. It
// works on the edges of both directions.
type debouncer struct {
	period time.Duration
	edge   periph.Edge
	clock  func() time.Duration

	stable  bool      // the last level that counted
	due     time.Time // when the line will have been quiet; zero: it is
	seq     uint32
	dropped uint64
	scratch [16]Event
}

func newDebouncer(period time.Duration, edge periph.Edge, level bool, clock func() time.Duration) *debouncer {
	return &debouncer{period: period, edge: edge, stable: level, clock: clock}
}

// wait is WaitEdges over the raw one; level reads the line.
func (d *debouncer) wait(deadline time.Time, buf []Event, raw func(time.Time, []Event) (int, error), level func() (bool, error)) (int, error) {
	for {
		until := deadline
		if !d.due.IsZero() && (until.IsZero() || d.due.Before(until)) {
			until = d.due
		}
		n, err := raw(until, d.scratch[:])
		if n > 0 {
			now := time.Now()
			d.due = now.Add(d.period)
			d.dropped = d.scratch[n-1].Dropped
			if !deadline.IsZero() && now.After(deadline) {
				return 0, os.ErrDeadlineExceeded // noise without end
			}
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		now := time.Now()
		if d.due.IsZero() || now.Before(d.due) {
			return 0, os.ErrDeadlineExceeded
		}
		d.due = time.Time{}
		v, err := level()
		if err != nil {
			return 0, err
		}
		if v == d.stable {
			continue
		}
		d.stable = v
		if d.edge == periph.RisingEdge && !v || d.edge == periph.FallingEdge && v {
			continue
		}
		d.seq++
		buf[0] = Event{Rising: v, Time: now, Clock: d.clock(), Seq: d.seq, Dropped: d.dropped}
		return 1, nil
	}
}
