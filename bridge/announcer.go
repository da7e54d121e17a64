package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/bridge/homeassistant"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// announcer tells Home Assistant of the devices at one broker. What it knows of
// them it has from their procedure list and from their events, as any client
// could. What it says goes through the task's queue, in a lane of its own, so
// that it arrives whenever the broker comes back; and the task's memory of
// retained messages says it again to a broker that has forgotten.
type announcer struct {
	*Task
	gateway     homeassistant.Gateway
	statusTopic string
	devices     string // what their URIs begin with
	table       *Table // carries states
	lane        *Map
	wake        chan struct{} // holds a token when the devices are to be looked at

	mu        sync.Mutex
	announced map[string][]byte // configs by topic; nil before the first time
	found     map[string]bool   // topics of own configs that the broker has
	again     bool              // everything is to be said again
	leftOut   []string
}

// How long the announcer waits.
const (
	lookEvery   = time.Minute            // devices may come without a word
	lookAgain   = 2 * time.Second        // when it failed
	lookAfter   = 100 * time.Millisecond // an event, for others that come with it
	lookTimeout = 10 * time.Second
)

// announce gives a task an announcer.
func (t *Task) announce(h HomeAssistant, devices string, host Host) {
	if devices == "" {
		devices = "device"
	}
	states := Map{
		Name: homeAssistantLane, Direction: Out, MQTT: h.Base + "/{device}/{reading}", WAMP: devices + ".{device}.{reading}",
		Into: IntoKwArgs, Retain: RetainAlways, Codec: Codec{Type: "json"},
	}
	states.SetDefaults()
	table, _ := NewTable(t.name, []Map{states}, host.URIs, codec.CBOR)
	a := &announcer{
		Task: t, table: table, lane: &states, devices: devices, statusTopic: h.statusTopic(),
		wake: make(chan struct{}, 1), found: map[string]bool{},
		gateway: homeassistant.Gateway{
			Prefix: h.Prefix, Node: homeassistant.NodeID(h.Node), Version: host.Version, Base: h.Base, Commands: h.Role != "",
		},
	}
	if s := t.cfg.Status; s.Topic != "" {
		a.gateway.Status, a.gateway.Online, a.gateway.Offline = s.Topic, s.Online, s.Offline
	}
	t.maps[states.Name] = a.lane
	t.announcer = a
}

func (a *announcer) filters() []Filter {
	return []Filter{{Topic: a.statusTopic}, {Topic: a.gateway.OwnConfigs()}}
}

// event carries a state, and notices that a device has come or gone. It only
// enqueues.
func (a *announcer) event(e *client.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.eventBy(a.table, e)
	if strings.HasSuffix(e.Topic, ".status") {
		notify(a.wake)
	}
}

// arrived looks at a message from the broker; it does not block. It reports
// whether the message was meant for it.
func (a *announcer) arrived(r Received) bool {
	switch {
	case r.Topic == a.statusTopic:
		if string(r.Payload) == "online" {
			a.mu.Lock()
			a.again = true
			a.mu.Unlock()
			notify(a.wake)
		}
		return true
	case Filter{Topic: a.gateway.OwnConfigs()}.Matches(r.Topic):
		if r.Retained && len(r.Payload) > 0 {
			a.mu.Lock()
			if _, known := a.announced[r.Topic]; !known && len(a.found) < maxRemembered {
				a.found[r.Topic] = true
				notify(a.wake)
			}
			a.mu.Unlock()
		}
		return true
	}
	return false
}

// run looks at the devices until ctx ends.
func (a *announcer) run(ctx context.Context, sess session) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-a.wake:
			timer.Reset(lookAfter)
			continue
		case <-ctx.Done():
			return
		}
		wait := lookEvery
		if err := a.look(ctx, sess); err != nil && ctx.Err() == nil {
			a.log.Debug("the devices cannot be announced yet", "error", err)
			wait = lookAgain
		}
		timer.Reset(wait)
	}
}

// look asks for the devices, and says what is new of them.
func (a *announcer) look(ctx context.Context, sess session) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := sess.Call(ctx, a.devices+".list", nil, nil)
	if err != nil {
		return fmt.Errorf("%s.list: %w", a.devices, err)
	}
	var devices wamp.List
	if len(result.Args) > 0 {
		devices, _ = result.Args[0].([]any)
	}
	configs, leftOut := a.gateway.Announce(devices)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(leftOut, a.leftOut) {
		a.leftOut = leftOut
		for _, what := range leftOut {
			a.log.Warn("not announced to Home Assistant", "reason", what)
		}
	}
	for topic := range a.found {
		if _, wanted := configs[topic]; !wanted {
			a.say(topic, nil)
		}
	}
	clear(a.found)
	for topic := range a.announced {
		if _, wanted := configs[topic]; !wanted {
			a.say(topic, nil)
		}
	}
	names := a.seed(devices)
	for _, m := range a.outputs.all(func(m Message) bool { return a.isStateOfOther(m.Topic, names) }) {
		a.say(m.Topic, nil)
	}
	for topic, config := range configs {
		if before, known := a.announced[topic]; a.again || !known || string(before) != string(config) {
			a.say(topic, config)
		}
	}
	a.announced, a.again = configs, false
	return nil
}

// say publishes a retained message; without a payload it clears. a.mu is held.
func (a *announcer) say(topic string, payload []byte) {
	m := Message{Topic: topic, Payload: payload, QoS: 1, Retain: true}
	a.outputs.set(m)
	a.enqueue(m, a.lane)
}

// seed publishes the values that readings had before anybody listened. It
// returns the devices' names. a.mu is held.
func (a *announcer) seed(devices wamp.List) map[string]bool {
	names := map[string]bool{}
	for _, one := range devices {
		d, _ := one.(map[string]any)
		name, _ := d["name"].(string)
		names[name] = true
		readings, _ := d["readings"].([]any)
		for _, r := range readings {
			reading, _ := r.(map[string]any)
			what, _ := reading["name"].(string)
			if _, measured := reading["time"]; !measured || a.outputs.knows(a.gateway.Base+"/"+name+"/"+what) {
				continue
			}
			kwargs := wamp.Dict{}
			for _, key := range []string{"unit", "time", "seq", "quality", "reason"} {
				if v, ok := reading[key]; ok {
					kwargs[key] = v
				}
			}
			p, err := wamp.NewPayload(codec.CBOR, wamp.List{reading["value"]}, kwargs)
			if err != nil {
				continue // a value that came over WAMP can be written
			}
			a.eventBy(a.table, &client.Event{Topic: a.devices + "." + name + "." + what, Payload: p})
		}
	}
	return names
}

// isStateOfOther reports whether topic carries a state of a device that is not
// among those named.
func (a *announcer) isStateOfOther(topic string, names map[string]bool) bool {
	rest, ok := strings.CutPrefix(topic, a.gateway.Base+"/")
	name, _, deeper := strings.Cut(rest, "/")
	return ok && deeper && !names[name]
}
