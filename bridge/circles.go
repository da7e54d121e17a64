package bridge

import (
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// circles finds messages that go around: out to one broker, by somebody else's
// bridge to another one, and in from there. No table can tell; what tells is
// that one and the same message comes in again and again, faster than anything
// but a circle says the same, each time after it has gone out elsewhere.
type circles struct {
	mu   sync.Mutex
	seen map[uint64]*circle
}

type circle struct {
	by      *Task     // that sent it out last
	last    time.Time // it came in
	window  time.Time // when counting began
	rounds  int
	stopped bool
}

const (
	// maxRounds in circleWindow are a circle. It has ended when the message has
	// not come for as long as the window.
	maxRounds    = 100
	circleWindow = time.Second
	maxCircles   = 4096
)

func circleKey(uri string, p wamp.Payload) uint64 {
	return hashString(uri) ^ 31*hashBytes(p.Args) ^ 37*hashBytes(p.KwArgs)
}

// sent notes that a task sends an event out.
func (c *circles) sent(t *Task, uri string, p wamp.Payload) {
	key := circleKey(uri, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.seen[key]
	if x == nil {
		if c.seen == nil {
			c.seen = map[uint64]*circle{}
		}
		if len(c.seen) >= maxCircles {
			for k := range c.seen { // any one: a circle comes again at once
				delete(c.seen, k)
				break
			}
		}
		x = &circle{}
		c.seen[key] = x
	}
	x.by = t
}

// came notes that an event comes in through a task. True means that it is to be
// dropped.
func (c *circles) came(t *Task, uri string, p wamp.Payload, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.seen[circleKey(uri, p)]
	if x == nil || x.by == nil || x.by == t {
		return false
	}
	quiet := now.Sub(x.last) > circleWindow
	x.last = now
	if x.stopped && !quiet {
		return true
	}
	if quiet || now.Sub(x.window) > circleWindow {
		x.window, x.rounds, x.stopped = now, 0, false
	}
	x.rounds++
	x.stopped = x.rounds > maxRounds
	return x.stopped
}
