package realm

import (
	"container/heap"
	"math/rand/v2"
	"testing"
)

func TestTimeouts(t *testing.T) {
	const second = 1000 * millisecond
	for _, c := range []struct {
		t     Timeouts
		named uint64
		want  Time
	}{
		{Timeouts{}, 0, 0},
		{Timeouts{}, 1, millisecond},
		{Timeouts{}, 1 << 63, longestTimeout * millisecond},
		{Timeouts{Default: second}, 0, second},
		{Timeouts{Default: second}, 5000, 5 * second},
		{Timeouts{Max: second}, 0, second},
		{Timeouts{Max: second}, 5000, second},
		{Timeouts{Max: second}, 500, second / 2},
		{Timeouts{Default: 2 * second, Max: second}, 0, second},
	} {
		if got := c.t.of(c.named); got != c.want {
			t.Errorf("%+v of %d: %d, want %d", c.t, c.named, got, c.want)
		}
	}
}

// TestDeadlines: whatever is added, moved and taken away in between, deadlines
// come in order, and those at the same time in the order in which they were
// set.
func TestDeadlines(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := &Realm{}
	var live []*invocation
	c := &callee{}
	for range 5000 {
		switch {
		case len(live) == 0 || random.IntN(3) > 0:
			inv := &invocation{}
			r.watch(inv, c, nil, Time(1+random.IntN(500)))
			live = append(live, inv)
		case random.IntN(2) == 0:
			r.now += Time(random.IntN(3))
			r.postpone(live[random.IntN(len(live))])
		default:
			at := random.IntN(len(live))
			r.unwatch(live[at])
			live = append(live[:at], live[at+1:]...)
		}
	}
	if len(r.deadlines) != len(live) {
		t.Fatalf("%d deadlines, want %d", len(r.deadlines), len(live))
	}
	var last timer
	for range live {
		next := *r.deadlines[0].timer
		if r.NextDeadline() != next.deadline {
			t.Fatalf("next deadline %d, want %d", r.NextDeadline(), next.deadline)
		}
		if next.deadline < last.deadline || next.deadline == last.deadline && next.seq < last.seq {
			t.Fatalf("%+v after %+v", next, last)
		}
		last = next
		heap.Pop(&r.deadlines)
	}
	if r.NextDeadline() != 0 {
		t.Errorf("next deadline %d, want none", r.NextDeadline())
	}
}
