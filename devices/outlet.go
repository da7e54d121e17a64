package devices

import (
	"errors"
	"time"
)

var (
	errNoValue  = errors.New("there is no value")
	errNotGiven = errors.New("no reason given")
)

// Ready implements Outlet.
func (r *run) Ready() { r.up(StateReady, "") }

// Degraded implements Outlet.
func (r *run) Degraded(reason error) {
	if reason == nil {
		reason = errNotGiven
	}
	r.up(StateDegraded, reason.Error())
}

func (r *run) up(s State, reason string) {
	r.d.mu.Lock()
	current := r.d.run == r && r.ctx.Err() == nil
	if current {
		r.open = true
		if r.readySince.IsZero() {
			r.readySince = time.Now()
		}
	}
	r.d.mu.Unlock()
	if current {
		r.d.setState(s, reason)
	}
}

// Emit implements Outlet.
func (r *run) Emit(reading string, value any, s Sample) {
	d := r.d
	slot, ok := d.index[reading]
	if !ok {
		d.undeclared(reading)
		return
	}
	v, err := conform(value, d.measuredType(slot))
	if value == nil {
		err = errNoValue
	}
	e := entry{slot: slot, value: v, time: s.Time, extra: s.Extra, edge: s.Edge, quality: QualityGood}
	if err != nil {
		e.value, e.quality, e.reason = nil, QualityBad, err.Error()
	}
	d.emit(e)
}

// Fault implements Outlet.
func (r *run) Fault(reading string, reason error) {
	slot, ok := r.d.index[reading]
	if !ok {
		r.d.undeclared(reading)
		return
	}
	if reason == nil {
		reason = errNotGiven
	}
	r.d.emit(entry{slot: slot, quality: QualityBad, reason: reason.Error()})
}

// fail publishes, when a run has failed, that its readings have no value now.
func (d *hosted) fail(reason error) {
	d.mu.Lock()
	for _, st := range d.stages {
		st.reset()
	}
	var stale []int
	for slot := range d.latest {
		if l := &d.latest[slot]; l.seq > 0 && l.quality != QualityBad {
			stale = append(stale, slot)
		}
	}
	d.mu.Unlock()
	for _, slot := range stale {
		d.emit(entry{slot: slot, quality: QualityBad, reason: reason.Error()})
	}
}

// undeclared drops a value of a reading that the device does not have: an
// error of the driver's author.
func (d *hosted) undeclared(reading string) {
	d.mu.Lock()
	d.status.Dropped++
	first := !d.misused
	d.misused = true
	d.mu.Unlock()
	if first {
		d.log.Error("device driver emits a reading that it does not declare", "reading", reading)
	}
}

// emit takes e through its reading's stages, if it has any, gives it its number,
// keeps it as the latest of its reading, and has it published.
func (d *hosted) emit(e entry) {
	if e.time.IsZero() {
		e.time = time.Now()
	}
	d.mu.Lock()
	if d.stages == nil || d.stages[e.slot] == nil || d.process(d.stages[e.slot], &e) {
		d.accept(e)
	}
	d.mu.Unlock()
	d.signal()
}

// accept gives e, which is to be published, its number. d.mu is held.
func (d *hosted) accept(e entry) {
	last := &d.latest[e.slot]
	e.seq = last.seq + 1
	if e.quality == QualityBad {
		d.status.Faults++
	} else if d.status.State == StateDegraded {
		e.quality, e.reason = QualityUncertain, d.status.Reason
	}
	*last = e
	d.enqueue(e)
}

// enqueue puts e, which is the latest of its reading, into the queue, or, while
// the realm is not to be reached, only notes that it is to be published. d.mu
// is held.
func (d *hosted) enqueue(e entry) {
	switch {
	case d.online:
		dropped, full := d.queue.push(e)
		if full && dropped.slot == statusSlot {
			d.statusPending = true // a state is never lost: it follows the queue
		} else if full {
			d.status.Dropped++
		}
	case e.slot == statusSlot:
		d.statusPending = true
	default:
		if d.pending[e.slot] {
			d.status.Coalesced++
		}
		d.pending[e.slot] = true
	}
}

// signal wakes the publisher.
func (d *hosted) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
