package router

import (
	"sync"
	"time"
)

// What failed attempts to authenticate cost: beyond the free ones each waits
// for its turn, one a second, and when that is too far away is refused.
const (
	freeFailures   = 20
	failureForgot  = 10 * time.Second // so long until one failure is forgotten
	attemptSpacing = time.Second
	longestWait    = 3 * time.Second
	throttledKeys  = 16_384
)

// throttle slows down those who guess, by address and by the user they guess
// for, whether that exists or not.
type throttle struct {
	mu   sync.Mutex
	keys map[string]*failures
}

type failures struct {
	level float64   // how many, the forgotten ones taken off
	at    time.Time // when level was right
	turn  time.Time // of the next attempt
}

// settle brings level up to now.
func (f *failures) settle(now time.Time) {
	f.level = max(0, f.level-float64(now.Sub(f.at))/float64(failureForgot))
	f.at = now
}

// wait is how long an attempt has to wait; false when it is refused.
func (t *throttle) wait(now time.Time, keys ...string) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, key := range keys {
		f := t.keys[key]
		if f == nil {
			continue
		}
		if f.settle(now); f.level < freeFailures {
			continue
		}
		if f.turn.Before(now) {
			f.turn = now
		}
		w := f.turn.Add(attemptSpacing).Sub(now)
		if w > longestWait {
			return 0, false
		}
		f.turn = now.Add(w)
		wait = max(wait, w)
	}
	return wait, true
}

// failed counts a failure.
func (t *throttle) failed(now time.Time, keys ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range keys {
		f := t.keys[key]
		if f == nil {
			if len(t.keys) >= throttledKeys {
				t.forget(now)
			}
			f = &failures{at: now}
			t.keys[key] = f
		}
		f.settle(now)
		f.level = min(f.level+1, 2*freeFailures)
	}
}

// forget makes room: for what is forgotten anyway, else for those with the
// fewest failures, so that many made up names do not free one that is guessed
// for.
func (t *throttle) forget(now time.Time) {
	for limit := 0.0; len(t.keys) >= throttledKeys; limit = 2*limit + 1 {
		for key, f := range t.keys {
			if f.settle(now); f.level <= limit {
				delete(t.keys, key)
			}
		}
	}
}
