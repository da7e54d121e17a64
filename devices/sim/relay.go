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
	Initial  bool          `yaml:"initial" doc:"what it is when the device starts"`
	Safe     bool          `yaml:"safe" doc:"what it is when the gateway stops, or the device fails"`
	PulseMax time.Duration `yaml:"pulse_max" min:"1ms" doc:"the longest pulse that can be asked for"`
}

const onReading = "on"

// Relay is the driver of sim-relay.
func Relay() devices.Driver {
	return devices.Driver{
		Type:    "sim-relay",
		Summary: "A relay that is not there, with the procedures and the safe state of a real one.",
		Doc: "It behaves as an output should: the safe state comes before anything else, the reading says what\n" +
			"the relay is and not what it was told, and a pulse is timed by the gateway, so that it ends when the caller is gone.",
		Example: `
- name: relay
  type: sim-relay
  initial: false
  safe: false
`,
		NewParams:  func() any { return &RelayParams{PulseMax: time.Hour} },
		Readings:   relayReadings(),
		Procedures: (&relay{}).faces(),
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*RelayParams)
			return &relay{RelayParams: *p, on: p.Safe}, nil
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
			Name: "pulse", Doc: "Switches the relay on, and off again after a time. A pulse during a pulse starts it anew.",
			Args: []devices.Arg{{Name: "seconds", Type: "float", Doc: "how long, at most pulse_max"}},
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
		seconds := args[0].(float64)
		if seconds <= 0 || seconds > r.PulseMax.Seconds() {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "argument \"seconds\": want more than 0 and at most %g, have %g",
				r.PulseMax.Seconds(), seconds)
		}
		r.pulseFor(time.Duration(seconds * float64(time.Second)))
		return nil, nil
	}
	return p
}

func (r *relay) Run(ctx context.Context, out devices.Outlet) error {
	r.mu.Lock()
	r.out = out
	r.on = r.Initial
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
	r.change(func(bool) bool { return r.Safe })
	return nil
}

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
