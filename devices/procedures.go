package devices

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// ErrDeviceUnavailable is the error URI of a call to a device that is not up.
// Its keyword arguments are device, state and reason.
const ErrDeviceUnavailable = "postern.error.device_unavailable"

const (
	withdrawBound = 500 * time.Millisecond
	registerRetry = 250 * time.Millisecond
)

// offer is one procedure of the host.
type offer struct {
	uri  string
	call client.Procedure
	// own marks those of a driver, which are withdrawn before the end; the
	// others answer until the session is closed.
	own bool
	// disclose asks the router who calls.
	disclose bool
}

// offers lists the host's procedures.
func (h *Host) offers() []offer {
	all := []offer{{uri: h.prefix + ".list", call: h.list}, {uri: h.prefix + ".alarms", call: h.alarmsCall}}
	for _, d := range h.devices {
		all = append(
			all,
			offer{uri: d.base + ".describe", call: d.describeCall},
			offer{uri: d.base + ".get", call: d.get},
			offer{uri: d.base + ".status", call: d.statusCall},
		)
		all = append(all, d.controls()...)
		for i := range d.procedures {
			p := &d.procedures[i]
			uri := d.base + "." + p.Name
			all = append(all, offer{uri: uri, own: true, disclose: d.controlled.active(), call: func(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
				return d.invoke(ctx, uri, p, inv)
			}})
		}
	}
	return all
}

// registry holds the registrations of a host's procedures.
type registry struct {
	h   *Host
	r   realm
	own []func(context.Context) error
}

func newRegistry(h *Host, r realm) *registry { return &registry{h: h, r: r} }

// registerAll registers every procedure and reports whether it came to the
// end. One that the router refuses is logged and left out; when the realm is
// not to be reached, it tries again.
func (g *registry) registerAll(ctx context.Context) bool {
	for _, o := range g.h.offers() {
		for {
			unregister, err := g.r.register(ctx, o.uri, o.call, o.disclose)
			if err == nil {
				if o.own {
					g.own = append(g.own, unregister)
				}
				break
			}
			if refused := new(wamp.Error); errors.As(err, &refused) {
				g.h.log.Error("device procedure not registered", "procedure", o.uri, "reason", err)
				break
			}
			select {
			case <-time.After(registerRetry):
			case <-ctx.Done():
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// withdraw unregisters the drivers' procedures.
func (g *registry) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawBound)
	defer cancel()
	var all sync.WaitGroup
	for _, unregister := range g.own {
		all.Go(func() {
			if err := unregister(ctx); err != nil {
				g.h.log.Debug("device procedure not unregistered", "reason", err)
			}
		})
	}
	all.Wait()
}

func answer(v any) *client.Result {
	return &client.Result{Values: client.Values{Args: wamp.List{v}}}
}

// invoke answers a call of one of the driver's procedures.
func (d *hosted) invoke(ctx context.Context, uri string, p *Procedure, inv *client.Invocation) (*client.Result, error) {
	args, kwargs, err := bindArgs(uri, p.Args, inv.Args, inv.KwArgs)
	if err != nil {
		return nil, err
	}
	r, released, err := d.enter(inv.Details.Caller)
	if err != nil {
		return nil, err
	}
	defer d.leave(r, released)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()

	var v any
	err = d.guard("procedure "+p.Name, func() (err error) {
		v, err = p.Call(ctx, args, kwargs)
		return err
	})
	if crash := (*panicError)(nil); errors.As(err, &crash) {
		// What the device does now nobody knows: start it anew.
		r.cancel(err)
		return nil, d.unavailable(r)
	}
	if err != nil && r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil, d.unavailable(r)
	}
	if err != nil {
		return nil, err
	}
	if v, err = canonical(v, 0); err != nil {
		return nil, fmt.Errorf("%s: result: %w", uri, err)
	}
	if v == nil {
		return &client.Result{}, nil
	}
	return answer(v), nil
}

// enter lets a call in while the device is up; its caller is from then on who
// controls the device.
func (d *hosted) enter(caller wamp.ID) (r *run, released uint64, err error) {
	d.mu.Lock()
	r = d.run
	if r == nil || !r.open || r.ctx.Err() != nil {
		d.mu.Unlock()
		return nil, 0, d.unavailable(r)
	}
	defer d.mu.Unlock()
	if d.controlled.active() {
		if err := d.command(caller); err != nil {
			return nil, 0, err
		}
	}
	d.calls++
	return r, d.controller.released, nil
}

// leave ends a call. One that was still running when the device was halted may
// have undone that.
func (d *hosted) leave(r *run, released uint64) {
	d.mu.Lock()
	again := r.halting
	late := !again && d.straggled(released)
	d.calls--
	if d.calls == 0 && d.idle != nil {
		close(d.idle)
		d.idle = nil
	}
	d.mu.Unlock()
	if again {
		d.rehalt()
	}
	if late {
		d.release(r.ctx, "a command came too late")
	}
}

// awaitCalls waits until no procedure is running, as long as bound.
func (d *hosted) awaitCalls(bound time.Duration) {
	d.mu.Lock()
	if d.calls == 0 {
		d.mu.Unlock()
		return
	}
	if d.idle == nil {
		d.idle = make(chan struct{})
	}
	idle := d.idle
	d.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(bound):
	}
}

// unavailable is the answer of a device that is not up; r is its run, or nil.
func (d *hosted) unavailable(r *run) error {
	s := d.currentStatus()
	reason := s.Reason
	if r != nil && reason == "" {
		reason = reasonOf(context.Cause(r.ctx))
	}
	text := fmt.Sprintf("device %q is %s", d.name, s.State)
	if s.State.Up() {
		text = fmt.Sprintf("device %q is being restarted", d.name)
	}
	if reason != "" {
		text += ": " + reason
	}
	return &wamp.Error{
		URI:    ErrDeviceUnavailable,
		Args:   wamp.List{text},
		KwArgs: wamp.Dict{"device": d.name, "state": string(s.State), "reason": reason},
	}
}
