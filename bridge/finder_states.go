package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// The states of a found device.
const (
	FoundReady       = "ready"       // it says that it is there, or says nothing of it
	FoundAway        = "away"        // it says that it is not
	FoundUnknown     = "unknown"     // it has not said yet
	FoundUnreachable = "unreachable" // the broker is away
)

// How much the finder does at a time, and how long it waits.
const (
	subscribeAtOnce = 100 // topics in one SUBSCRIBE
	foundRetry      = 2 * time.Second
)

// run subscribes and publishes states until ctx ends.
func (f *finder) run(ctx context.Context, sess session) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := f.forget(time.Now())
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			f.log.Warn("not all topics of the described devices can be followed", "error", err)
			next = foundRetry
		}
		if !f.tell(ctx, sess) {
			next = min(next, foundRetry)
		}
		timer.Reset(next)
		select {
		case <-f.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// follow brings the subscriptions of the present connection up to date. A topic
// that the task's other subscriptions cover gets none: the broker would send
// its messages twice.
func (f *finder) follow(ctx context.Context) error {
	for {
		f.mu.Lock()
		conn, subscribed := f.conn, f.subscribed
		var more []Filter
		var less []string
		if conn != nil {
			for topic, ls := range f.topics {
				if len(more) == subscribeAtOnce {
					break
				}
				if !subscribed[topic] && !slices.ContainsFunc(f.fixed, func(g Filter) bool { return g.Matches(topic) }) {
					more = append(more, Filter{Topic: topic, QoS: qosOf(ls)})
				}
			}
			for topic := range subscribed {
				if len(f.topics[topic]) == 0 && len(less) < subscribeAtOnce {
					less = append(less, topic)
				}
			}
		}
		for _, g := range more {
			subscribed[g.Topic] = true
		}
		for _, topic := range less {
			delete(subscribed, topic)
		}
		f.mu.Unlock()
		if len(more)+len(less) == 0 {
			return nil
		}
		timeout, cancel := context.WithTimeout(ctx, subscribeTimeout)
		var err error
		if len(less) > 0 {
			err = conn.Unsubscribe(timeout, less)
		}
		if len(more) > 0 {
			err = errors.Join(err, conn.Subscribe(timeout, more))
		}
		cancel()
		if err != nil {
			return err
		}
	}
}

func qosOf(ls []listener) byte {
	var most byte
	for _, l := range ls {
		if l.state != nil {
			most = max(most, l.state.QoS)
		}
	}
	return most
}

// forget removes what a broker that has been started anew does not describe any
// more. It says when to look again.
func (f *finder) forget(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forgetAt.IsZero() || f.conn == nil {
		return time.Hour
	}
	if wait := f.forgetAt.Sub(now); wait > 0 {
		return wait
	}
	f.forgetAt = time.Time{}
	for _, c := range f.configs {
		if c.seen != f.generation {
			f.remove(c)
		}
	}
	return time.Hour
}

// presence is whether an entity is there.
func (e *foundEntity) presence() presence {
	if len(e.present) == 0 {
		return here
	}
	has := func(p presence) bool { return slices.Contains(e.present, p) }
	switch e.Mode {
	case "all":
		switch {
		case has(away):
			return away
		case has(unknown):
			return unknown
		}
		return here
	case "any":
		switch {
		case has(here):
			return here
		case has(unknown):
			return unknown
		}
		return away
	}
	return e.latest
}

// state is a device's state. f.mu is held.
func (f *finder) state(d *foundDevice) (state, reason string) {
	if f.conn == nil {
		return FoundUnreachable, "the MQTT broker " + f.name + " is not connected"
	}
	state, reason = FoundAway, "it says so"
	for _, e := range d.entities {
		switch e.presence() {
		case here:
			return FoundReady, ""
		case unknown:
			state, reason = FoundUnknown, "it has not said yet whether it is there"
		}
	}
	return state, reason
}

// tell publishes the states that have changed, and clears those of devices that
// are no more. It reports whether all went well.
func (f *finder) tell(ctx context.Context, sess session) bool {
	type news struct {
		d     *foundDevice
		state string
		event Event
	}
	var all []news
	f.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(f.devices)) {
		d := f.devices[name]
		n := news{d: d, event: Event{Topic: f.cfg.URI + "." + name + ".status", Retain: true}}
		if len(d.entities) > 0 {
			var reason string
			if n.state, reason = f.state(d); n.state == d.told {
				continue
			}
			d.since = time.Now()
			n.event.Payload, _ = wamp.NewPayload(codec.CBOR, wamp.List{n.state}, wamp.Dict{
				"device": name, "state": n.state, "since": d.since.UTC().Format(time.RFC3339Nano), "reason": reason,
			})
		} else if d.told == "" {
			delete(f.devices, name)
			continue
		}
		all = append(all, n)
	}
	f.mu.Unlock()
	well := true
	for _, n := range all {
		if err := f.publish(ctx, sess, n.event, false); err != nil {
			well = false
			continue
		}
		f.mu.Lock()
		if n.d.told = n.state; len(n.d.entities) == 0 {
			delete(f.devices, n.d.name)
		} else if n.state == "" {
			notify(f.wake) // it has come back meanwhile
		}
		f.mu.Unlock()
	}
	return well
}

// summary is what a device says of itself, for people.
func (d *foundDevice) summary() string {
	for _, name := range slices.Sorted(maps.Keys(d.entities)) {
		about := d.entities[name].About
		out := ""
		for _, key := range []string{"name", "manufacturer", "model"} {
			if s, _ := about[key].(string); s != "" {
				if out != "" {
					out += " · "
				}
				out += s
			}
		}
		if out != "" {
			return out
		}
	}
	return "found by discovery"
}

// dict is a device as the gateway's own are described. f.mu is held.
func (f *finder) dict(d *foundDevice) wamp.Dict {
	state, reason := f.state(d)
	readings, procedures, problems := wamp.List{}, wamp.List{}, wamp.List{}
	about := wamp.Dict{}
	for _, name := range slices.Sorted(maps.Keys(d.entities)) {
		e := d.entities[name]
		for k, v := range e.About {
			about[k] = v
		}
		if len(e.States) > 0 {
			readings = append(readings, f.sample(e, state, reason))
		}
		for _, c := range e.Commands {
			args := wamp.List{}
			if c.Arg != "" {
				args = append(args, c.Describe())
			}
			procedures = append(procedures, wamp.Dict{"name": name + "." + c.Name, "doc": e.Title, "args": args, "returns": ""})
		}
		for _, p := range e.Problems {
			problems = append(problems, name+": "+p)
		}
	}
	return wamp.Dict{
		"name": d.name, "type": "found", "summary": d.summary(), "about": about, "broker": f.name,
		"state": state, "since": d.since.UTC().Format(time.RFC3339Nano), "reason": reason, "alarms": wamp.List{},
		"readings": readings, "procedures": procedures, "problems": problems,
	}
}

// sample is an entity's latest value as it is to be judged now. f.mu is held.
func (f *finder) sample(e *foundEntity, state, reason string) wamp.Dict {
	s := wamp.Dict{
		"name": e.name, "doc": e.Title, "type": e.Type(), "class": e.Class, "component": e.Component,
		"value": e.value, "unit": e.Unit, "seq": e.seq, "quality": e.quality,
	}
	why := e.reason
	switch {
	case e.seq == 0:
		s["quality"], why = "bad", "there is no value yet"
	case e.quality == "good" && (state == FoundUnreachable || e.presence() == away):
		s["quality"], why = "uncertain", "the device is "+state
		if reason != "" {
			why += ": " + reason
		}
	}
	if e.seq > 0 {
		s["time"] = e.time.UTC().Format(time.RFC3339Nano)
	}
	if why != "" {
		s["reason"] = why
	}
	return s
}
