package gpio

import (
	"time"

	"github.com/postern-iot/postern/devices"
)

var (
	pressReading = devices.Reading{Name: "press", Type: "int", Unit: "ms", Doc: "with `press`: a short press, at its end, or, with `double_click`, when no second one has followed; the value is how long it lasted"}
	longReading  = devices.Reading{Name: "long_press", Type: "int", Unit: "ms", Doc: "with `long_press`: the button is held for that long already; the value is the time"}
	twiceReading = devices.Reading{Name: "double_click", Type: "int", Unit: "ms", Doc: "with `double_click`: a second press has followed; the value is the time between the two"}
)

// clicks tells a button's presses apart. It runs on the edges' own clock, so
// that edges that were fetched late are judged as they happened; only what is
// decided by nothing happening goes by the clock on the wall.
type clicks struct {
	press       bool
	long, twice time.Duration // 0 for not told apart
	out         devices.Outlet

	down    bool
	told    bool          // this press was reported already
	at      time.Duration // edges' clock of the last change that counted
	due     time.Time     // when to decide; zero: nothing to
	pending time.Duration // how long the press lasted that a second may follow; 0 for none
	ended   Event         // of pending
}

// take judges an edge.
func (c *clicks) take(e Event) {
	if e.Rising == c.down {
		return // the one between was lost
	}
	since := e.Clock - c.at
	c.due = time.Time{}
	if e.Rising {
		if c.pending > 0 && since < c.twice {
			c.emit(twiceReading.Name, since, e.Time)
			c.pending, c.told = 0, true
		} else {
			c.single()
			c.told = false
			if c.long > 0 {
				c.due = e.Time.Add(c.long)
			}
		}
		c.down, c.at = true, e.Clock
		return
	}
	c.down, c.at = false, e.Clock
	switch {
	case c.told:
	case c.long > 0 && since >= c.long:
		c.emit(longReading.Name, c.long, e.Time)
	default:
		c.pending, c.ended = max(since, 1), e
		if c.twice == 0 {
			c.single()
			return
		}
		c.due = e.Time.Add(c.twice)
	}
}

// expire decides what is due.
func (c *clicks) expire(now time.Time) {
	if !reached(c.due, now) {
		return
	}
	c.due = time.Time{}
	if c.down {
		c.told = true
		c.emit(longReading.Name, c.long, now)
		return
	}
	c.single()
}

// single reports the press that no second one has followed.
func (c *clicks) single() {
	if c.pending > 0 && c.press {
		c.emit(pressReading.Name, c.pending, c.ended.Time)
	}
	c.pending = 0
}

func (c *clicks) emit(reading string, d time.Duration, at time.Time) {
	c.out.Emit(reading, d.Milliseconds(), devices.Sample{Time: at})
}
