package devices

import (
	"context"
	"fmt"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// Control says when an actuator goes into its safe state although the gateway
// and the device are well: its controller, which is the session that last
// called one of the driver's procedures, is gone or silent.
type Control struct {
	Hold  bool          `yaml:"hold" doc:"true: the device goes into its safe state when the session that last commanded it has left"`
	Lease time.Duration `yaml:"lease" doc:"the device goes into its safe state this long after the last command or renew of the session that commanded it; 0s for never"`
}

// Releaser is implemented by devices that can go into their safe state and
// serve on.
type Releaser interface {
	// Release puts the actuators into their safe state, once and now; commands
	// that come later are obeyed. It takes no longer than a second.
	Release() error
}

const (
	minLease = 100 * time.Millisecond
	maxLease = 24 * time.Hour
	// askEvery is how often the router is asked whether a controller is still
	// joined: an event that says that it has left may be lost like any other.
	askEvery = time.Second
	// maxLeft is how many sessions that have left are remembered, for commands
	// that are still on their way.
	maxLeft = 64

	topicOnLeave  = "wamp.session.on_leave"
	procedureWhom = "wamp.session.get"
)

func (c Control) active() bool { return c.Hold || c.Lease > 0 }

func (c Control) problem() string {
	if c.Lease != 0 && (c.Lease < minLease || c.Lease > maxLease) {
		return fmt.Sprintf("%v is out of range", c.Lease)
	}
	return ""
}

// controller is who has a device in control. It is guarded by hosted.mu.
type controller struct {
	session   wamp.ID   // 0 for nobody
	until     time.Time // when the lease ends; zero without one
	ask       time.Time // when to ask whether the session is joined; zero for never
	releasing bool      // the device is being put into its safe state
	released  uint64    // how often that was done
	left      [maxLeft]wamp.ID
	next      int
}

// command makes the caller of a driver's procedure the controller. It is called
// with d.mu held.
func (d *hosted) command(caller wamp.ID) error {
	c := &d.controller
	if c.releasing {
		return wamp.Errorf(wamp.ErrUnavailable, "device %q is being put into its safe state, because who controlled it is gone; call again", d.name)
	}
	if caller == 0 {
		return wamp.Errorf(wamp.ErrInvalidArgument, "device %q must know who calls, and the router does not say", d.name)
	}
	if d.controlled.Hold {
		for _, id := range c.left {
			if id == caller {
				return wamp.Errorf(wamp.ErrCanceled, "the session that called has left")
			}
		}
		if c.session != caller || c.ask.IsZero() {
			c.ask = time.Now().Add(askEvery)
		}
	}
	c.session = caller
	if d.controlled.Lease > 0 {
		c.until = time.Now().Add(d.controlled.Lease)
	}
	d.nudge()
	return nil
}

// nudge makes the watch look again.
func (d *hosted) nudge() {
	select {
	case d.controlWake <- struct{}{}:
	default:
	}
}

// watchControl puts the device into its safe state when its controller is gone
// or silent, until ctx ends. A step of it takes as long as one call to the
// router, or as one Release.
func (d *hosted) watchControl(ctx context.Context, r realm) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.controlWake:
		}
		if why := d.lost(ctx, r); why != "" {
			d.release(ctx, why)
		}
		timer.Stop()
		if next := d.nextLook(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// nextLook is when a lease ends or the router is to be asked; zero for never.
func (d *hosted) nextLook() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.controller
	if c.session == 0 {
		return time.Time{}
	}
	if c.ask.IsZero() || !c.until.IsZero() && c.until.Before(c.ask) {
		return c.until
	}
	return c.ask
}

// lost decides whether the device has lost its controller, and says why, ""
// when not. From then on it takes no command until it is released.
func (d *hosted) lost(ctx context.Context, r realm) string {
	d.mu.Lock()
	c := d.controller
	d.mu.Unlock()
	now := time.Now()
	why := ""
	switch {
	case c.session == 0 || ctx.Err() != nil:
	case d.hasLeft(c.session):
		why = "its controlling session has left"
	case !c.until.IsZero() && !now.Before(c.until):
		why = "the lease of its controlling session has ended"
	case !c.ask.IsZero() && !now.Before(c.ask):
		// Who cannot be asked for counts as gone: better safe.
		asking, cancel := context.WithTimeout(ctx, askEvery)
		err := r.joined(asking, c.session)
		cancel()
		if err != nil && ctx.Err() == nil {
			why = "its controlling session is not joined"
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now = time.Now()
	if d.controller.session != c.session || d.controller.until != c.until {
		return "" // somebody has commanded it meanwhile
	}
	if why != "" {
		d.controller.releasing = true
		d.controller.session, d.controller.until, d.controller.ask = 0, time.Time{}, time.Time{}
	} else if !c.ask.IsZero() && !now.Before(c.ask) {
		d.controller.ask = now.Add(askEvery)
	}
	return why
}

func (d *hosted) hasLeft(session wamp.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range d.controller.left {
		if id == session {
			return true
		}
	}
	return false
}

// release puts the device into its safe state. One that cannot is started
// anew, which halts it.
func (d *hosted) release(ctx context.Context, why string) {
	d.log.Warn("device is put into its safe state", "reason", why)
	err := d.tryRelease(ctx)
	d.mu.Lock()
	d.controller.releasing = false
	d.controller.released++
	r := d.run
	d.mu.Unlock()
	if err != nil && r != nil && ctx.Err() == nil {
		d.log.Error("device not put into its safe state; it starts anew", "reason", err)
		r.cancel(fmt.Errorf("%s, and it could not be put into its safe state: %w", why, err))
	}
}

// tryRelease calls Release and waits a second for it.
func (d *hosted) tryRelease(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- d.guard("Release", d.dev.(Releaser).Release) }()
	timer := time.NewTimer(haltBound)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("not done within %v", haltBound)
	case <-ctx.Done():
		return ctx.Err() // it is halted by those who end it
	}
}

// straggled reports that the device was released while a call was running, and
// that nobody has commanded it since: what the call did is to be undone.
// d.mu is held.
func (d *hosted) straggled(released uint64) bool {
	c := &d.controller
	if c.released == released && !c.releasing || c.session != 0 {
		return false
	}
	c.releasing = true
	return true
}

// sessionLeft notes that a session is gone.
func (h *Host) sessionLeft(args wamp.List) {
	if len(args) == 0 {
		return
	}
	id, ok := wamp.ToInt(args[0])
	if !ok || id <= 0 {
		return
	}
	for _, d := range h.devices {
		if !d.controlled.Hold {
			continue
		}
		d.mu.Lock()
		c := &d.controller
		c.left[c.next] = wamp.ID(id)
		c.next = (c.next + 1) % maxLeft
		d.mu.Unlock()
		d.nudge()
	}
}

// holds reports whether a device depends on the presence of its controller.
func (h *Host) holds() bool {
	for _, d := range h.devices {
		if d.controlled.Hold {
			return true
		}
	}
	return false
}

// Procedures of the devices that have a control section.
var controlProcedures = []Procedure{
	{
		Name: "renew", Doc: "For devices with `control`: begins the lease of the calling session anew; only the one that last commanded the device may.",
		Returns: "int: how many milliseconds it lasts, 0 without an end",
	},
	{
		Name: "release", Doc: "For devices with `control`: gives up the control, and the device goes into its safe state at once; only the session that last commanded the device may.",
	},
}

// controls offers the procedures of control.
func (d *hosted) controls() []offer {
	if !d.controlled.active() {
		return nil
	}
	return []offer{
		{uri: d.base + ".renew", own: true, disclose: true, call: d.renew},
		{uri: d.base + ".release", own: true, disclose: true, call: d.giveUp},
	}
}

func (d *hosted) renew(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(d.base+".renew", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.mineLocked(inv); err != nil {
		return nil, err
	}
	if err := d.command(inv.Details.Caller); err != nil {
		return nil, err
	}
	return answer(d.controlled.Lease.Milliseconds()), nil
}

func (d *hosted) giveUp(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(d.base+".release", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	d.mu.Lock()
	err := d.mineLocked(inv)
	if err == nil && d.controller.releasing {
		err = wamp.Errorf(wamp.ErrUnavailable, "device %q is being released already", d.name)
	}
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	d.controller.releasing = true
	d.controller.session, d.controller.until, d.controller.ask = 0, time.Time{}, time.Time{}
	d.mu.Unlock()
	d.release(context.WithoutCancel(ctx), "its controlling session has released it")
	return &client.Result{}, nil
}

// mineLocked refuses callers that are not the controller. d.mu is held.
func (d *hosted) mineLocked(inv *client.Invocation) error {
	if s := d.controller.session; s == 0 || s != inv.Details.Caller {
		return wamp.Errorf(wamp.ErrNotAuthorized, "device %q is not controlled by this session: only the one that last commanded it may do that", d.name)
	}
	return nil
}
