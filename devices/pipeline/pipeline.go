// Package pipeline is what a reading's values go through between a driver and
// an event. The stages, in this order; each may be left out:
//
//  1. calibration: polynomial or table, then scale and offset;
//  2. range check: what is not finite, outside the table, below min or above
//     max is a fault and goes no further;
//  3. smoothing: median, then exponential moving average, then rounding;
//  4. alarms: every value is judged, whether it will be published or not. A
//     fault neither raises an alarm nor clears one;
//  5. publishing: min_period, deadband, max_period. A first value, and one
//     after a fault, is always published.
//
// It is pure: no clock, lock, goroutine or I/O. Time comes in as an argument,
// and nothing is allocated after New.
package pipeline

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

var errNotFinite = errors.New("the value is not a finite number")

// Pipeline has the state of one reading. Make one with New.
type Pipeline struct {
	cfg     Config
	changes bool

	window []float64 // the last values in the order they came, at most Median
	at     int       // the oldest of a full window
	sorted []float64
	ema    float64
	emaAt  time.Time // zero: there is no average yet

	raised []bool
	events []Change

	state state
	last  float64   // published last
	when  time.Time // of the last event
	due   time.Time // when Tick has something to do; zero for never
}

// state is what was published last.
type state int

const (
	nothing state = iota
	aValue
	aFault
)

// Change is an alarm that was raised or cleared.
type Change struct {
	Alarm  int // index into Config.Alarms
	Raised bool
	Value  float64
}

// New makes the pipeline of a sound Config.
func New(cfg Config) *Pipeline {
	return &Pipeline{
		cfg: cfg, changes: cfg.changes(),
		window: make([]float64, 0, cfg.Median), sorted: make([]float64, 0, cfg.Median),
		raised: make([]bool, len(cfg.Alarms)), events: make([]Change, 0, len(cfg.Alarms)),
	}
}

// Changes says whether Step may return another number than it was given; the
// reading is a float then.
func (p *Pipeline) Changes() bool { return p.changes }

// Config is what the pipeline was made of.
func (p *Pipeline) Config() *Config { return &p.cfg }

// Raised says whether an alarm, by its index, is raised.
func (p *Pipeline) Raised(alarm int) bool { return p.raised[alarm] }

// Step takes a measured number through the stages 1 to 4. An error is why it
// is a fault. The changes are valid until the next call.
func (p *Pipeline) Step(v float64, now time.Time) (float64, []Change, error) {
	v, err := p.calibrate(v)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return 0, nil, errNotFinite
	case p.cfg.Min != nil && v < *p.cfg.Min:
		return 0, nil, fmt.Errorf("%.6g is out of range: it is below %g", v, *p.cfg.Min)
	case p.cfg.Max != nil && v > *p.cfg.Max:
		return 0, nil, fmt.Errorf("%.6g is out of range: it is above %g", v, *p.cfg.Max)
	}
	v = p.round(p.average(p.median(v), now))
	return v, p.judge(v), nil
}

func (p *Pipeline) calibrate(v float64) (float64, error) {
	if n := len(p.cfg.Polynomial); n > 0 {
		sum := 0.0
		for i := n - 1; i >= 0; i-- { // Horner
			sum = sum*v + p.cfg.Polynomial[i]
		}
		v = sum
	}
	if n := len(p.cfg.Table); n > 0 {
		t := p.cfg.Table
		if !(v >= t[0].In && v <= t[n-1].In) {
			return 0, fmt.Errorf("%.6g is out of range: the calibration's table goes from %g to %g", v, t[0].In, t[n-1].In)
		}
		i, exact := slices.BinarySearchFunc(t, v, func(p Point, v float64) int {
			switch {
			case p.In < v:
				return -1
			case p.In > v:
				return 1
			}
			return 0
		})
		if exact {
			v = t[i].Out
		} else {
			a, b := t[i-1], t[i]
			part := (v - a.In) / (b.In - a.In)
			v = a.Out*(1-part) + b.Out*part
		}
	}
	return v*p.cfg.Scale + p.cfg.Offset, nil
}

// median is that of the last values, of as many as there are at the beginning.
func (p *Pipeline) median(v float64) float64 {
	if p.cfg.Median < 2 {
		return v
	}
	if len(p.window) < p.cfg.Median {
		p.window = append(p.window, v)
	} else {
		gone, _ := slices.BinarySearch(p.sorted, p.window[p.at])
		p.sorted = slices.Delete(p.sorted, gone, gone+1)
		p.window[p.at] = v
		p.at = (p.at + 1) % len(p.window)
	}
	to, _ := slices.BinarySearch(p.sorted, v)
	p.sorted = slices.Insert(p.sorted, to, v)
	n := len(p.sorted)
	if n%2 == 1 {
		return p.sorted[n/2]
	}
	return p.sorted[n/2-1]/2 + p.sorted[n/2]/2
}

// average is exponential, for values that need not come evenly.
func (p *Pipeline) average(v float64, now time.Time) float64 {
	if p.cfg.EMA <= 0 {
		return v
	}
	if p.emaAt.IsZero() {
		p.ema = v
	} else {
		weight := -math.Expm1(-max(0, now.Sub(p.emaAt).Seconds()) / p.cfg.EMA.Seconds())
		p.ema += weight * (v - p.ema)
	}
	p.emaAt = now
	return p.ema
}

func (p *Pipeline) round(v float64) float64 {
	if p.cfg.Decimals == nil {
		return v
	}
	scale := math.Pow10(*p.cfg.Decimals)
	if r := math.Round(v*scale) / scale; !math.IsInf(r, 0) && !math.IsNaN(r) {
		return r
	}
	return v
}

// judge says which alarms a value changes.
func (p *Pipeline) judge(v float64) []Change {
	p.events = p.events[:0]
	for i := range p.cfg.Alarms {
		a := &p.cfg.Alarms[i]
		var beyond, back bool
		if a.Above != nil {
			beyond, back = v > *a.Above, v <= *a.Above-a.Hysteresis
		} else {
			beyond, back = v < *a.Below, v >= *a.Below+a.Hysteresis
		}
		if !p.raised[i] && beyond || p.raised[i] && back {
			p.raised[i] = !p.raised[i]
			p.events = append(p.events, Change{Alarm: i, Raised: p.raised[i], Value: v})
		}
	}
	return p.events
}

// Publish is stage 5 for a number: whether it is published now. One that is
// not may be the next that Tick asks for.
func (p *Pipeline) Publish(v float64, now time.Time) bool {
	inBand := false
	if p.cfg.Deadband != nil || p.cfg.DeadbandPercent != nil {
		band := 0.0
		if p.cfg.Deadband != nil {
			band = *p.cfg.Deadband
		}
		if p.cfg.DeadbandPercent != nil {
			band = max(band, *p.cfg.DeadbandPercent/100*math.Abs(p.last))
		}
		inBand = math.Abs(v-p.last) <= band
	}
	if !p.pass(inBand, now) {
		return false
	}
	p.last = v
	return true
}

// PublishOther is stage 5 for what is no number.
func (p *Pipeline) PublishOther(now time.Time) bool { return p.pass(false, now) }

// PublishFault is stage 5 for a fault: the first one is published at once,
// more only every min_period.
func (p *Pipeline) PublishFault(now time.Time) bool {
	if p.state == aFault && now.Sub(p.when) < p.cfg.MinPeriod {
		return false
	}
	p.state, p.when, p.due = aFault, now, time.Time{}
	return true
}

func (p *Pipeline) pass(inBand bool, now time.Time) bool {
	if p.state == aValue {
		since := now.Sub(p.when)
		switch {
		case inBand && (p.cfg.MaxPeriod == 0 || since < p.cfg.MaxPeriod):
			p.due = p.end()
			return false
		case !inBand && since < p.cfg.MinPeriod:
			p.due = p.when.Add(p.cfg.MinPeriod)
			return false
		}
	}
	p.state, p.when = aValue, now
	p.due = p.end()
	return true
}

// end is when max_period is over.
func (p *Pipeline) end() time.Time {
	if p.cfg.MaxPeriod == 0 {
		return time.Time{}
	}
	return p.when.Add(p.cfg.MaxPeriod)
}

// Due is when Tick is to be called next; zero for never.
func (p *Pipeline) Due() time.Time { return p.due }

// Tick says whether the newest value, v if it is a number, is to be published
// now because of min_period or max_period.
func (p *Pipeline) Tick(v float64, now time.Time) bool {
	if p.due.IsZero() || now.Before(p.due) || p.state != aValue {
		return false
	}
	p.last, p.when = v, now
	p.due = p.end()
	return true
}

// Reset forgets what was measured, as for a device that starts anew; alarms
// stay as they are.
func (p *Pipeline) Reset() {
	p.window, p.sorted, p.at, p.emaAt = p.window[:0], p.sorted[:0], 0, time.Time{}
}
