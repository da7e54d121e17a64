package gpio

import (
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// errRefused is the error URI of a command that a rule of the config is
// against. Its keyword arguments are rule and retry_ms, 0 when it is not known
// when the command will be obeyed.
const errRefused = "postern.error.refused"

// limits are the rules of one output on how it may be switched, and what they
// need to know of the past. Its user's mutex guards it.
type limits struct {
	p    OutputParams
	name string
	lock *interlock // nil without one

	since time.Time   // of the state that the line has; zero: not known yet
	ons   []time.Time // switchings on of the last minute
}

// permit says why the line may not go from one state to another now.
func (l *limits) permit(from, to bool, now time.Time) error {
	if from == to {
		return nil
	}
	if to {
		if wait := l.wait(l.p.MinOff, now); wait > 0 {
			return l.refuse("min_off", wait, "it was switched off too shortly ago")
		}
		for len(l.ons) > 0 && now.Sub(l.ons[0]) >= time.Minute {
			l.ons = l.ons[1:]
		}
		if l.p.MaxRate > 0 && len(l.ons) >= l.p.MaxRate {
			return l.refuse("max_rate", time.Minute-now.Sub(l.ons[0]), "it was switched on too often in the last minute")
		}
		if l.lock != nil {
			return l.lock.take(l, now)
		}
		return nil
	}
	if wait := l.wait(l.p.MinOn, now); wait > 0 {
		return l.refuse("min_on", wait, "it was switched on too shortly ago")
	}
	return nil
}

func (l *limits) wait(least time.Duration, now time.Time) time.Duration {
	if l.since.IsZero() {
		return 0
	}
	return least - now.Sub(l.since)
}

func (l *limits) refuse(rule string, wait time.Duration, why string) error {
	e := wamp.Errorf(errRefused, "output %q: %s (%s)", l.name, why, rule)
	e.KwArgs = wamp.Dict{"rule": rule, "retry_ms": (wait + time.Millisecond - 1).Milliseconds()}
	return e
}

// began notes the state at the start of a run.
func (l *limits) began(on bool, now time.Time) {
	if l.since.IsZero() || on {
		l.since = now
	}
}

// switched notes that the line was driven.
func (l *limits) switched(from, to bool, now time.Time) {
	if from != to {
		l.since = now
		if to && l.p.MaxRate > 0 {
			l.ons = append(l.ons, now)
		}
	}
	if !to && l.lock != nil {
		l.lock.free(l, now)
	}
}

// offAt is when max_on ends; zero for never.
func (l *limits) offAt(on bool) time.Time {
	if !on || l.p.MaxOn <= 0 || l.since.IsZero() {
		return time.Time{}
	}
	return l.since.Add(l.p.MaxOn)
}

// interlock is a group of outputs of which one may be on at a time. One that
// failed while it was on stays the one, until it is known to be off.
type interlock struct {
	mu   sync.Mutex
	dead time.Duration
	have *limits // the output that is on, or about to be
	last *limits // the one that was on before
	off  time.Time
}

// interlock returns the group of a name; the longest dead time holds for all.
func (c *Chips) interlock(name string, dead time.Duration) *interlock {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.locks[name]
	if l == nil {
		l = &interlock{}
		c.locks[name] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = max(l.dead, dead)
	return l
}

// take lets one be the output that is on.
func (i *interlock) take(l *limits, now time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.have == l:
		return nil
	case i.have != nil:
		return l.refuse("interlock", 0, `"`+i.have.name+`" of the same interlock is on, or not known to be off`)
	case i.last != nil && i.last != l && now.Sub(i.off) < i.dead:
		return l.refuse("interlock", i.dead-now.Sub(i.off), `"`+i.last.name+`" of the same interlock was on too shortly ago`)
	}
	i.have = l
	return nil
}

// free notes that an output is off.
func (i *interlock) free(l *limits, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.have == l {
		i.have, i.last, i.off = nil, l, now
	}
}
