package gateway

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// The collector's room: what may be allocated between two collections. Go takes
// as much as is alive, and 4 MiB at least, which under load is a collection every
// few dozen large calls.
const (
	usualPercent = 100      // Go's own
	mostRoom     = 16 << 20 // bytes that are allocated at most because it is busy
	// A collection within busy of the last doubles the room; one after calm takes
	// it back.
	busy = 250 * time.Millisecond
	calm = 5 * time.Second
	// goMinimum is what Go has of room at 100 percent when less is alive.
	goMinimum = 4 << 20
)

// heap gives the collector more room while it has a lot to do, so that a
// gateway at rest is as small as it can be and one under load does not spend
// its time on collections. Where the environment says how the collector is to
// work (GOGC, GOMEMLIMIT), that holds.
//
// It has no goroutine: the runtime calls it after each collection.
type heap struct {
	stopped atomic.Bool
	last    time.Time // the last collection's; only turn uses it, one at a time
	percent int
}

// startHeap begins; stop ends it and gives Go its own way back.
func startHeap() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	h := &heap{last: time.Now(), percent: usualPercent}
	h.watch()
	return func() {
		h.stopped.Store(true)
		debug.SetGCPercent(usualPercent)
	}
}

// mark is what a collection finds to be garbage; it has a pointer so that it is
// not put together with others.
type mark struct{ _ *byte }

// watch has turn called after the next collection.
func (h *heap) watch() { runtime.AddCleanup(&mark{}, (*heap).turn, h) }

func (h *heap) turn() {
	if h.stopped.Load() {
		return
	}
	at := time.Now()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	p := percentAfter(h.percent, at.Sub(h.last), int64(live[0].Value.Uint64()))
	if h.last = at; p != h.percent {
		h.percent = p
		debug.SetGCPercent(p)
	}
	if h.stopped.Load() { // meanwhile
		debug.SetGCPercent(usualPercent)
		return
	}
	h.watch()
}

// percentAfter says what the collector is to have next: percent is what it had,
// since the time that took, live the bytes that are alive.
func percentAfter(percent int, since time.Duration, live int64) int {
	// More than this would be more than mostRoom.
	most := max(usualPercent, int(100*mostRoom/max(live, goMinimum)))
	switch {
	case since < busy:
		percent *= 2
	case since > calm:
		percent = usualPercent
	}
	return max(usualPercent, min(percent, most))
}
