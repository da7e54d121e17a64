//go:build linux

package appliance

import (
	"fmt"
	"sync"
	"time"

	"github.com/postern-iot/postern/update"
)

// How long a slot that is tried has to become healthy, and has to stay so.
const (
	trialWithin  = 3 * time.Minute
	trialHealthy = 10 * time.Second
)

// trial judges the slot that runs. One that is tried is committed when it has
// been healthy for a while; otherwise the machine restarts, into the slot that
// booted before: nobody has to decide that, and the watchdog does it too.
type trial struct {
	m *machine

	mu      sync.Mutex
	trying  bool
	began   time.Time
	ready   bool      // the gateway serves
	network bool      // there is an address
	healthy time.Time // since when both; zero while they are not
}

// newTrial finds out whether the slot is tried.
func (m *machine) newTrial() *trial {
	t := &trial{m: m, began: time.Now()}
	boot, err := m.card.bootSlot()
	switch {
	case err != nil:
		m.logf("which slot boots: %v", err)
	case m.slot == 0 || boot == m.slot:
		if l := last(); l != nil && l.State == update.Trying {
			l.State = update.Returned
			if l.Reason == "" {
				l.Reason = "it did not become healthy"
			}
			m.logf("the update to build %s has failed, the slot of before runs: %s", l.Build, l.Reason)
			if err := note(*l); err != nil {
				m.logf("remember the update: %v", err)
			}
		}
	default:
		t.trying = true
		m.logf("this slot is tried: it must become healthy within %v", trialWithin)
	}
	return t
}

// is tells what is known of the gateway.
func (t *trial) is(ready bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = ready
	t.see()
}

// connected tells whether there is a network.
func (t *trial) connected(network bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.network = network
	t.see()
}

// see keeps since when all is well.
func (t *trial) see() {
	switch {
	case !t.ready || !t.network:
		t.healthy = time.Time{}
	case t.healthy.IsZero():
		t.healthy = time.Now()
	}
}

// judge is asked every few seconds; its error ends the machine's run.
func (t *trial) judge() error {
	t.mu.Lock()
	trying, healthy, began := t.trying, t.healthy, t.began
	t.mu.Unlock()
	switch {
	case !trying:
		return nil
	case !healthy.IsZero() && time.Since(healthy) >= trialHealthy:
		if err := t.commit(); err != nil {
			return t.fail(fmt.Sprintf("it could not be committed: %v", err))
		}
	case time.Since(began) > trialWithin:
		return t.fail(fmt.Sprintf("it was not healthy within %v", trialWithin))
	}
	return nil
}

// ended is told when the gateway has ended by itself.
func (t *trial) ended(err error) error {
	t.is(false)
	t.mu.Lock()
	trying := t.trying
	t.mu.Unlock()
	if !trying {
		return nil
	}
	return t.fail(fmt.Sprintf("the gateway has ended: %v", err))
}

// fail gives the slot up.
func (t *trial) fail(reason string) error {
	if err := note(update.Last{State: update.Trying, Build: t.m.release.Build, Reason: reason}); err != nil {
		t.m.logf("remember the update: %v", err)
	}
	return fmt.Errorf("%w: the update is given up: %s", errStopped, reason)
}

// commit makes this slot the one that boots.
func (t *trial) commit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.trying {
		return nil
	}
	if err := t.m.card.setBootSlot(t.m.slot); err != nil {
		return err
	}
	t.trying = false
	t.m.logf("the update to build %s is committed", t.m.release.Build)
	if err := note(update.Last{State: update.Committed, Build: t.m.release.Build}); err != nil {
		t.m.logf("remember the update: %v", err)
	}
	return nil
}

// isHealthy says whether all is well, and whether the slot is tried.
func (t *trial) isHealthy() (healthy, trying bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.healthy.IsZero(), t.trying
}
