package pwm

import (
	"context"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// output is what the drivers have in common: a channel, from its first use on
// until it fails, and the order of Run, Halt and procedures, which the mutex
// keeps.
type output struct {
	open     open
	period   time.Duration
	inverted bool

	mu      sync.Mutex
	ch      *channel       // nil until it is needed
	out     devices.Outlet // of the last Run, nil before the first
	live    bool           // Run serves the procedures
	failure error          // why Run must give up
	kick    chan struct{}  // tells Run to look again; of the last Run
}

// take calls f with the channel set up. A channel that fails is forgotten: the
// next use searches it again. The caller has o.mu.
func (o *output) take(f func() error) error {
	if o.ch == nil {
		a, err := o.open()
		if err != nil {
			return err
		}
		if o.ch, err = setUp(a, o.period, o.inverted); err != nil {
			o.ch = nil
			return err
		}
	}
	if err := f(); err != nil {
		o.ch = nil
		return err
	}
	return nil
}

// act is take for a procedure.
func (o *output) act(f func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live {
		return wamp.Errorf(wamp.ErrUnavailable, "the channel is not running")
	}
	err := o.take(f)
	if err != nil {
		o.failure = err
		err = wamp.Errorf(wamp.ErrRuntimeError, "the channel could not be set; its device starts anew")
	}
	select {
	case o.kick <- struct{}{}:
	default:
	}
	return err
}

// run takes the channel with begin and serves until ctx ends. due does what is
// to be done by itself and returns when it wants to be called again.
func (o *output) run(ctx context.Context, out devices.Outlet, begin func() error, due func(now time.Time) (time.Time, error)) error {
	o.mu.Lock()
	o.kick, o.failure = make(chan struct{}, 1), nil
	err := o.take(begin)
	o.live = err == nil
	kick := o.kick
	o.mu.Unlock()
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			o.mu.Lock()
			defer o.mu.Unlock()
			o.live = false
			return nil
		case <-timer.C:
		case <-kick:
		}
		o.mu.Lock()
		var next time.Time
		err := o.failure
		if err == nil && o.live {
			next, err = due(time.Now())
		}
		o.live = o.live && err == nil
		o.mu.Unlock()
		if err != nil {
			return err
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// halt ends the procedures and drives the safe state, whether Run ever had the
// channel or not.
func (o *output) halt(safe func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = false
	return o.take(safe)
}

// release drives the safe state and serves on.
func (o *output) release(safe func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live {
		return nil // it is on its way to being halted
	}
	return o.take(safe)
}
