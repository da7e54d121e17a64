package router

import (
	"time"

	"github.com/postern-iot/postern/router/realm"
)

// started is when the process began, by the wall clock and by the monotonic
// one.
var started = time.Now()

// now is the wall clock's time when the process began, and what has passed
// since: nothing here is moved by somebody's setting the clock.
func now() realm.Time { return realm.Time(started.UnixNano() + int64(time.Since(started))) }

// watch is the goroutine that tells a realm that time has passed, until done.
func (h *hall) watch(done <-chan struct{}) {
	defer h.timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-h.gone:
			return
		case <-h.timer.C:
			h.tick()
		}
	}
}

func (h *hall) tick() {
	at := now()
	h.lock(nil)
	defer h.mu.Unlock()
	h.armed = 0
	h.deliver(h.core.Tick(at), at)
}

// arm sets the timer to the realm's next deadline. When that moves away, the
// timer stays, so that answers in time do not set it again and again; it goes
// off for nothing then, once. h.mu is held.
func (h *hall) arm(at realm.Time) {
	next := h.core.NextDeadline()
	if next == 0 || h.armed != 0 && h.armed <= next {
		return
	}
	h.armed = next
	h.timer.Reset(time.Duration(next - at))
}
