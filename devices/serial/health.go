package serial

import (
	"fmt"
	"time"

	"github.com/postern-iot/postern/devices"
)

// health judges the device by its lines: bad ones are counted and make it
// degraded, and when good ones stay out its readings become faults. It belongs
// to Run's goroutine; the count outlives a run.
type health struct {
	noun     string // what the device sends: "line"
	timeout  time.Duration
	readings []devices.Reading // the last one counts the bad ones
	out      devices.Outlet

	badCount int64
	reported int64     // the count as published
	reportAt time.Time // the earliest time of the next report

	first    bool // no line was complete yet: it may be the end of one
	degraded bool
	inRow    int       // good lines since the last bad one
	lastBad  time.Time // of this run
	lastGood time.Time // or the beginning of the run
	stale    bool      // the timeout has passed, and was reported
}

func (h *health) begin(p *protocol, out devices.Outlet, now time.Time) {
	*h = health{noun: p.noun, timeout: p.timeout, readings: p.readings, out: out, badCount: h.badCount, reported: h.reported, reportAt: h.reportAt, first: true, lastGood: now}
}

func (h *health) good(now time.Time) {
	h.first = false
	h.lastGood = now
	h.inRow++
	if h.stale || h.degraded && (h.inRow >= goodLines || now.Sub(h.lastBad) >= goodTime) {
		h.stale, h.degraded = false, false
		h.out.Ready()
	}
}

func (h *health) bad(now time.Time, reason error) {
	if h.first { // reading began in the middle of it
		h.first = false
		return
	}
	h.badCount++
	h.inRow, h.lastBad = 0, now
	if !h.degraded && !h.stale {
		h.degraded = true
		h.out.Degraded(fmt.Errorf("a %s cannot be used: %w", h.noun, reason))
	}
}

// tick does what is due.
func (h *health) tick(now time.Time) {
	if h.badCount > h.reported && !now.Before(h.reportAt) {
		h.reported, h.reportAt = h.badCount, now.Add(reportEvery)
		h.out.Emit(h.readings[len(h.readings)-1].Name, h.badCount, devices.Sample{Time: now})
	}
	if h.timeout > 0 && !h.stale && now.Sub(h.lastGood) >= h.timeout {
		h.stale = true
		reason := fmt.Errorf("no good %s came for %v", h.noun, h.timeout)
		h.out.Degraded(reason)
		for _, r := range h.readings[:len(h.readings)-1] {
			h.out.Fault(r.Name, reason)
		}
	}
}

// deadline is when something is due; the zero time is never.
func (h *health) deadline() time.Time {
	var due time.Time
	if h.badCount > h.reported {
		due = h.reportAt
	}
	if h.timeout > 0 && !h.stale {
		if at := h.lastGood.Add(h.timeout); due.IsZero() || at.Before(due) {
			due = at
		}
	}
	return due
}
