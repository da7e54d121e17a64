package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/bridge/homeassistant"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// foundTimeout bounds the wait for the broker's acknowledgement of a command.
const foundTimeout = 10 * time.Second

// register offers the procedures, all of them below one prefix:
//
//   - <uri>.list() → all devices as describe has them
//   - <uri>.problems() → a list of what is not understood: topic, reason
//   - <uri>.<device>.describe() → what it is: state, readings, procedures, problems
//   - <uri>.<device>.get([reading]) → one value, or all by their names
//   - <uri>.<device>.<entity>.<command>(…) → done when the broker has taken it
//
// Which there are is asked at every call, so that a device that comes or goes
// costs no registration.
func (f *finder) register(ctx context.Context, sess session) error {
	_, err := sess.Register(ctx, f.cfg.URI+".", f.called, client.RegisterPattern(wamp.MatchPrefix))
	var refused *wamp.Error
	if errors.As(err, &refused) {
		f.log.Error("the described devices' procedures are not to be had", "procedure", f.cfg.URI+".", "error", err)
		return nil
	}
	return err
}

func (f *finder) called(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
	parts := strings.Split(strings.TrimPrefix(inv.Procedure, f.cfg.URI+"."), ".")
	switch {
	case len(parts) == 1 && parts[0] == "list":
		f.mu.Lock()
		defer f.mu.Unlock()
		all := wamp.List{}
		for _, name := range slices.Sorted(maps.Keys(f.devices)) {
			if d := f.devices[name]; len(d.entities) > 0 {
				all = append(all, f.dict(d))
			}
		}
		return answer(all), nil
	case len(parts) == 1 && parts[0] == "problems":
		return answer(f.problems()), nil
	case len(parts) == 2 && (parts[1] == "describe" || parts[1] == "get"):
		f.mu.Lock()
		defer f.mu.Unlock()
		d := f.devices[parts[0]]
		if d == nil || len(d.entities) == 0 {
			break
		}
		if parts[1] == "describe" {
			return answer(f.dict(d)), nil
		}
		return f.get(d, inv.Args)
	case len(parts) == 3:
		return f.command(ctx, parts[0], parts[1], parts[2], inv)
	}
	return nil, wamp.Errorf(wamp.ErrNoSuchProcedure, "there is no procedure %s; %s.list tells which there are", inv.Procedure, f.cfg.URI)
}

// get answers with one reading, or all. f.mu is held.
func (f *finder) get(d *foundDevice, args wamp.List) (*client.Result, error) {
	state, reason := f.state(d)
	if len(args) > 0 {
		name, _ := args[0].(string)
		if e := d.entities[name]; e != nil && len(e.States) > 0 {
			return answer(f.sample(e, state, reason)), nil
		}
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "there is no reading %q", clip(strings.ToValidUTF8(name, "")))
	}
	all := wamp.Dict{}
	for name, e := range d.entities {
		if len(e.States) > 0 {
			all[name] = f.sample(e, state, reason)
		}
	}
	return answer(all), nil
}

// problems is what is not understood, the first few hundred.
func (f *finder) problems() wamp.List {
	const most = 500
	f.mu.Lock()
	defer f.mu.Unlock()
	all := wamp.List{}
	for _, topic := range slices.Sorted(maps.Keys(f.configs)) {
		c := f.configs[topic]
		reasons := wamp.List{}
		if c.err != "" {
			reasons = append(reasons, c.err)
		}
		for _, e := range c.entities {
			for _, p := range e.Problems {
				reasons = append(reasons, p)
			}
		}
		if len(reasons) > 0 && len(all) < most {
			all = append(all, wamp.Dict{"topic": topic, "reasons": reasons})
		}
	}
	return all
}

// command publishes what a call says, now or never.
func (f *finder) command(ctx context.Context, device, entity, name string, inv *client.Invocation) (*client.Result, error) {
	c, err := f.commandOf(device, entity, name)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, wamp.Errorf(wamp.ErrNoSuchProcedure, "there is no procedure %s; %s.list tells which there are", inv.Procedure, f.cfg.URI)
	}
	payload, err := c.Payload(inv.Args, inv.KwArgs)
	if err != nil {
		return nil, err
	}
	token := f.calls.publish(Message{Topic: c.Topic, Payload: payload, QoS: 1, Retain: c.Retain})
	if token == nil {
		return nil, unavailable(device, FoundUnreachable, "the MQTT broker "+f.name+" is not connected")
	}
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	select {
	case <-token.Done():
	case <-ctx.Done():
		return nil, wamp.Errorf(wamp.ErrTimeout, "the MQTT broker %s has not taken the command in time; whether the device has done it is not known", f.name)
	}
	if token.Error() != nil {
		return nil, unavailable(device, FoundUnreachable, fmt.Sprintf("the MQTT broker %s did not take the command", f.name))
	}
	f.gauge.out.Add(1)
	return &client.Result{}, nil
}

// commandOf finds a command; nil when there is none. The error says that its
// entity is away.
func (f *finder) commandOf(device, entity, name string) (*homeassistant.Command, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[device]
	if d == nil {
		return nil, nil
	}
	e := d.entities[entity]
	if e == nil {
		return nil, nil
	}
	for i := range e.Commands {
		if e.Commands[i].Name != name {
			continue
		}
		if e.presence() == away {
			return nil, unavailable(device, FoundAway, "it says so")
		}
		return &e.Commands[i], nil
	}
	return nil, nil
}

func unavailable(device, state, reason string) error {
	e := wamp.Errorf(ErrDeviceUnavailable, "%s is %s: %s", device, state, reason)
	e.KwArgs = wamp.Dict{"device": device, "state": state, "reason": reason}
	return e
}
