package gateway

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentAfter(t *testing.T) {
	for _, tt := range []struct {
		name    string
		percent int
		since   time.Duration
		live    int64
		want    int
	}{
		{"busy", 100, 10 * time.Millisecond, 2 << 20, 200},
		{"busier", 200, 10 * time.Millisecond, 2 << 20, 400},
		{"as much as there is", 400, 10 * time.Millisecond, 2 << 20, 400},
		{"neither busy nor calm", 400, time.Second, 2 << 20, 400},
		{"calm", 400, time.Minute, 2 << 20, 100},
		{"more is alive", 400, 10 * time.Millisecond, 8 << 20, 200},
		{"so much that Go's own is more", 400, 10 * time.Millisecond, 64 << 20, 100},
		{"nothing is known to be alive", 100, 0, 0, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := percentAfter(tt.percent, tt.since, tt.live); got != tt.want {
				t.Errorf("after %d %%, %v and %d bytes: %d %%, want %d", tt.percent, tt.since, tt.live, got, tt.want)
			}
		})
	}
}

// gcPercent asks for the percentage, which Go tells only to who sets it.
func gcPercent() int {
	p := debug.SetGCPercent(usualPercent)
	debug.SetGCPercent(p)
	return p
}

func TestHeapHasRoomWhileCollectionsFollowEachOther(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	stop := startHeap()
	defer stop()
	// A collection is busy's when the one before was a moment ago; on a machine
	// that is slow it takes a few.
	for end := time.Now().Add(20 * time.Second); gcPercent() == usualPercent; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("collections in a row, and the collector has no more room")
		}
		runtime.GC()
	}
	stop()
	if p := gcPercent(); p != usualPercent {
		t.Errorf("after the end %d %%, want %d", p, usualPercent)
	}
}

func TestHeapLeavesTheEnvironmentItsWay(t *testing.T) {
	t.Setenv("GOGC", "50")
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	startHeap()()
	if p := gcPercent(); p != 50 {
		t.Errorf("%d %%, want the environment's 50", p)
	}
}
