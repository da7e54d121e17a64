package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

// keepAlive pings a peer that has been silent for an interval and gives it up
// when it stays silent for the timeout. Any bytes from the peer count, not
// only an answer. A peer is silent only while somebody waits in a read for it:
// when our own side does not read, for back-pressure, the peer is not to blame.
//
// It is a timer, not a goroutine: an idle session costs no stack for it.
type keepAlive struct {
	interval, timeout time.Duration
	ping              func() (sent bool) // never blocks for long; false: somebody is writing
	dead              func(silence time.Duration)

	// reads counts the network reads that began and ended: it is odd while one
	// waits.
	reads atomic.Uint64

	mu      sync.Mutex
	timer   *time.Timer
	last    uint64 // reads when the timer was set
	pinged  bool   // a ping is out since then
	stopped bool
	running sync.WaitGroup // the timer's function, set to run or running
}

// start sets the timer; an interval of 0 means none.
func (k *keepAlive) start(interval, timeout time.Duration, ping func() bool, dead func(time.Duration)) {
	if interval <= 0 {
		return
	}
	k.interval, k.timeout, k.ping, k.dead = interval, timeout, ping, dead
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running.Add(1)
	k.timer = time.AfterFunc(interval, k.fire)
}

// stop returns when the timer's function has ended and will not run again.
func (k *keepAlive) stop() {
	k.mu.Lock()
	k.stopped = true
	if k.timer != nil && k.timer.Stop() {
		k.running.Done()
	}
	k.mu.Unlock()
	k.running.Wait()
}

func (k *keepAlive) fire() {
	defer k.running.Done()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	reads := k.reads.Load()
	silent := reads == k.last && reads%2 == 1
	k.last = reads
	switch {
	case silent && k.pinged:
		k.dead(k.interval + k.timeout)
		return
	case silent && k.ping():
		k.pinged = true
		k.again(k.timeout)
	default:
		k.pinged = false
		k.again(k.interval)
	}
}

// again sets the timer once more; k.mu is held.
func (k *keepAlive) again(d time.Duration) {
	k.running.Add(1)
	k.timer.Reset(d)
}
