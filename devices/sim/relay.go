package sim

import (
	"context"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// RelayParams are the parameters of a sim-relay.
type RelayParams struct {
	Initial string `yaml:"initial" enum:"off,on" doc:"the state when the device starts: off or on"`
	Safe    string `yaml:"safe" enum:"off,on" doc:"the state when the gateway stops or the device fails: off or on"`
}

const (
	stateOn  = "on"
	stateOff = "off"

	onReading = "on"
	maxPulse  = time.Hour
)

// Simulate implements devices.Simulator: it is simulated already.
func (p *RelayParams) Simulate() {}

// Relay is the driver of sim-relay.
func Relay() devices.Driver {
	return devices.Driver{
		Type:    "sim-relay",
		Summary: "A relay that is not there, with the procedures and the safe state of a real one.",
		Doc:     "It has the reading and the procedures of a `gpio-output`, so that a configuration can be tried before the relay is wired.",
		Example: `name: relay
type: sim-relay
initial: off
safe: off
`,
		NewParams:  func() any { return &RelayParams{Initial: stateOff, Safe: stateOff} },
		Readings:   relayReadings(),
		Procedures: (&relay{}).faces(),
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*RelayParams)
			return &relay{RelayParams: *p, on: p.Safe == stateOn}, nil
		},
	}
}

func relayReadings() []devices.Reading {
	return []devices.Reading{{Name: onReading, Doc: "whether the relay is on, when that changes", Type: "bool"}}
}

// relay is a simulated relay. Its contact keeps its state over runs, as a real
// one does.
type relay struct {
	RelayParams

	mu     sync.Mutex
	on     bool
	out    devices.Outlet
	pulse  *time.Timer // ends a pulse; nil when there is none
	pulses uint64      // tells a timer that it was replaced
}

func (r *relay) Readings() []devices.Reading { return relayReadings() }

// faces describes the procedures.
func (r *relay) faces() []devices.Procedure {
	return []devices.Procedure{
		{
			Name: "set", Doc: "Switches the relay, and ends a pulse.", Returns: "bool: what it is now",
			Args: []devices.Arg{{Name: "on", Type: "bool", Doc: "what it shall be"}},
		},
		{Name: "toggle", Doc: "Switches the relay to what it is not, and ends a pulse.", Returns: "bool: what it is now"},
		{
			Name: "pulse", Doc: "Switches the relay on, and off again after a time that the gateway keeps, whatever becomes of the caller. On a relay that is on, the time begins anew.",
			Args:    []devices.Arg{{Name: "ms", Type: "int", Doc: "the time in milliseconds, 1 to 3600000"}},
			Returns: "true: the relay is on",
		},
	}
}

func (r *relay) Procedures() []devices.Procedure {
	p := r.faces()
	p[0].Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		return r.change(func(bool) bool { return args[0].(bool) }), nil
	}
	p[1].Call = func(context.Context, wamp.List, wamp.Dict) (any, error) {
		return r.change(func(on bool) bool { return !on }), nil
	}
	p[2].Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		ms := args[0].(int64)
		if ms < 1 || ms > maxPulse.Milliseconds() {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "pulse: ms must be from 1 to %d, not %d", maxPulse.Milliseconds(), ms)
		}
		r.pulseFor(time.Duration(ms) * time.Millisecond)
		return true, nil
	}
	return p
}

func (r *relay) Run(ctx context.Context, out devices.Outlet) error {
	r.mu.Lock()
	r.out = out
	r.on = r.Initial == stateOn
	out.Ready()
	out.Emit(onReading, r.on, devices.Sample{})
	r.mu.Unlock()
	<-ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPulse()
	return nil
}

// Halt implements devices.Device.
func (r *relay) Halt() error {
	r.change(func(bool) bool { return r.Safe == stateOn })
	return nil
}

// Release implements devices.Releaser.
func (r *relay) Release() error { return r.Halt() }

// change ends a pulse and switches to what f makes of the present state.
func (r *relay) change(f func(on bool) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPulse()
	r.set(f(r.on))
	return r.on
}

func (r *relay) pulseFor(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPulse()
	r.set(true)
	mine := r.pulses
	r.pulse = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.pulses == mine {
			r.endPulse()
			r.set(false)
		}
	})
}

// endPulse makes sure that a pulse that is on its way changes nothing any
// more. r.mu is held.
func (r *relay) endPulse() {
	r.pulses++
	if r.pulse != nil {
		r.pulse.Stop()
		r.pulse = nil
	}
}

// set switches the contact and publishes the change. r.mu is held.
func (r *relay) set(on bool) {
	if r.on == on {
		return
	}
	r.on = on
	if r.out != nil {
		r.out.Emit(onReading, on, devices.Sample{})
	}
}
