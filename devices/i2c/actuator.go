package i2c

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
	"github.com/postern-iot/postern/wamp"
)

// actuator is what devices have in common that do what procedures say. Run,
// the procedures and Halt may be called at the same time: mu makes one of them
// after the other, across the bus's transactions.
type actuator struct {
	common Common
	pool   *pool
	// begin sets the chip up, before Ready; check is called in intervals
	// and says why the chip cannot go on. Both are called with mu held.
	begin, check func(ctx context.Context, c *conn) error

	mu   sync.Mutex
	conn *conn          // while Run serves
	out  devices.Outlet // of the last Run, nil before the first
	fail context.CancelCauseFunc
}

// errRunEnded ends what a run has begun.
var errRunEnded = errors.New("the run ended")

// Run implements devices.Device.
func (a *actuator) Run(parent context.Context, out devices.Outlet) error {
	c, release := connect(a.pool, &a.common)
	defer release()
	ctx, fail := context.WithCancelCause(parent)
	defer fail(errRunEnded)
	a.mu.Lock()
	a.out = out
	if err := a.begin(ctx, c); err != nil {
		a.mu.Unlock()
		if parent.Err() != nil {
			return nil
		}
		return err
	}
	a.conn, a.fail = c, fail
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conn = nil
	}()
	out.Ready()
	devices.Every(ctx, a.common.Interval, func(time.Time) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err := a.check(ctx, c); err != nil && ctx.Err() == nil {
			fail(err)
		}
	})
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// act does what a procedure wants, with mu held. An error that is not a
// *wamp.Error ends the run.
func (a *actuator) act(ctx context.Context, f func(ctx context.Context, c *conn) (any, error)) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "the device is not running")
	}
	v, err := f(ctx, a.conn)
	var refused *wamp.Error
	if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
		return v, err
	}
	a.fail(err)
	return nil, wamp.Errorf(wamp.ErrRuntimeError, "the chip could not be written; its device starts anew")
}

// once does something to the chip whether Run serves or not, as Halt must,
// with mu held.
func (a *actuator) once(f func(ctx context.Context, c *conn) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	defer cancel()
	c, release := connect(a.pool, &a.common)
	defer release()
	return f(ctx, c)
}

// wait is bus.Pause; a chip needs its time whatever becomes of the caller.
func wait(d time.Duration) { _ = bus.Pause(context.Background(), d) }
