package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/bridge/homeassistant"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// finder makes described devices of the discovery messages at one broker. What
// arrives comes to it in the task's order, in the goroutine that publishes what
// arrived; a goroutine of its own subscribes to the topics that the descriptions
// name, and publishes the devices' states.
type finder struct {
	*Task
	cfg   Discovery
	lane  *Map          // what it counts under
	fixed []Filter      // the task's other subscriptions
	wake  chan struct{} // holds a token when topics or states may have changed

	mu      sync.Mutex
	configs map[string]*foundConfig
	devices map[string]*foundDevice
	topics  map[string][]listener
	bytes   int // of configs
	count   int // of entities
	over    bool
	early   map[string][]byte // retained, at topics that nobody had described yet
	early0  int               // their size

	// Of the present connection.
	conn       Conn
	generation int
	subscribed map[string]bool
	forgetAt   time.Time // what has not been described again by then is gone; zero for never
}

// foundConfig is what one discovery topic describes.
type foundConfig struct {
	topic    string
	payload  [2][]byte // Tasmota's come in two halves
	seen     int       // in which connection
	entities []*foundEntity
	err      string // why it is not understood
}

func (c *foundConfig) size() int {
	return len(c.topic) + len(c.payload[0]) + len(c.payload[1]) + 1024*len(c.entities)
}

// foundDevice is all entities that name the same device.
type foundDevice struct {
	name     string
	entities map[string]*foundEntity
	told     string // the state that the realm knows
	since    time.Time
}

// foundEntity is one entity with its last value.
type foundEntity struct {
	*homeassistant.Entity
	name    string // as the realm has it: unique in its device
	device  *foundDevice
	value   any
	quality string // "" before the first value
	reason  string
	time    time.Time
	seq     int64
	present []presence // of Availability
	latest  presence
}

type presence int8

const (
	unknown presence = iota
	here
	away
)

// listener is what a topic means to an entity.
type listener struct {
	e            *foundEntity
	state        *homeassistant.State
	availability int // index, when state is nil
}

// Bounds of what is taken.
const (
	maxConfigBytes = 256 << 10 // one discovery message
	maxStateBytes  = 64 << 10  // one state
	maxEarly       = 4096      // topics, and as many KiB
	forgetAfter    = time.Minute
)

func (t *Task) find(d Discovery) {
	f := &finder{
		Task: t, cfg: d, lane: &Map{Name: discoveryLane, Direction: In, OnBadPayload: BadDrop}, wake: make(chan struct{}, 1),
		configs: map[string]*foundConfig{}, devices: map[string]*foundDevice{}, topics: map[string][]listener{}, early: map[string][]byte{},
	}
	t.finder = f
}

// filters are its subscriptions for descriptions. QoS 1 has them wait for their
// turn; none is dropped.
func (f *finder) filters() []Filter {
	var all []Filter
	for _, topic := range homeassistant.ConfigFilters(f.cfg.Prefix) {
		all = append(all, Filter{Topic: topic, QoS: 1})
	}
	if f.cfg.Tasmota != "" {
		all = append(all, Filter{Topic: f.cfg.Tasmota + "/+/config", QoS: 1}, Filter{Topic: f.cfg.Tasmota + "/+/sensors", QoS: 1})
	}
	return all
}

// connected and disconnected tell of the broker's connection.
func (f *finder) connected(conn Conn, subscribed []Filter) {
	f.mu.Lock()
	f.conn, f.fixed, f.subscribed, f.forgetAt = conn, subscribed, map[string]bool{}, time.Time{}
	if !conn.Info().SessionPresent {
		f.forgetAt = time.Now().Add(forgetAfter)
	}
	f.mu.Unlock()
	notify(f.wake)
}

func (f *finder) disconnected() {
	f.mu.Lock()
	f.conn = nil
	f.generation++
	f.mu.Unlock()
	notify(f.wake)
}

// take looks at a message. It reports whether it was meant for the finder; maps
// see it in any case.
func (f *finder) take(ctx context.Context, sess session, r *Received) (mine bool) {
	key, half, ok := f.configKey(r.Topic)
	if ok {
		if f.announcer != nil && (Filter{Topic: f.announcer.gateway.OwnConfigs()}).Matches(r.Topic) {
			return true
		}
		f.publishAll(ctx, sess, f.config(key, half, r.Payload))
		return true
	}
	f.mu.Lock()
	events, mine := f.heard(r.Topic, r.Payload, time.Now())
	if !mine && r.Retained && len(f.early) < maxEarly && f.early0+len(r.Payload) <= maxEarly<<10 && len(r.Payload) <= maxStateBytes {
		f.early0 += len(r.Payload) - len(f.early[r.Topic])
		f.early[r.Topic] = r.Payload
	}
	f.mu.Unlock()
	f.publishAll(ctx, sess, events)
	return mine
}

// configKey tells which description a topic has, and which half of it.
func (f *finder) configKey(topic string) (key string, half int, ok bool) {
	if f.cfg.Tasmota != "" {
		if rest, under := strings.CutPrefix(topic, f.cfg.Tasmota+"/"); under {
			mac, what, _ := strings.Cut(rest, "/")
			switch what {
			case "config":
				return f.cfg.Tasmota + "/" + mac, 0, true
			case "sensors":
				return f.cfg.Tasmota + "/" + mac, 1, true
			}
			return "", 0, false
		}
	}
	for _, filter := range homeassistant.ConfigFilters(f.cfg.Prefix) {
		if (Filter{Topic: filter}).Matches(topic) {
			return topic, 0, true
		}
	}
	return "", 0, false
}

// config takes a description, anew or for the first time, or removes it.
func (f *finder) config(key string, half int, payload []byte) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.configs[key]
	if c != nil {
		c.seen = f.generation
		if string(c.payload[half]) == string(payload) {
			return nil
		}
	} else {
		if len(payload) == 0 {
			return nil
		}
		c = &foundConfig{topic: key, seen: f.generation}
	}
	before := f.remove(c)
	c.payload[half] = slices.Clone(payload)
	defer notify(f.wake)
	if len(c.payload[0])+len(c.payload[1]) == 0 || half == 0 && len(payload) == 0 {
		return nil // removed
	}
	entities, err := f.describe(c)
	switch {
	case len(payload) > maxConfigBytes:
		err = fmt.Errorf("it has %d bytes; %d are taken", len(payload), maxConfigBytes)
	case f.count+len(entities) > f.cfg.MaxEntities || f.bytes+c.size()+1024*len(entities) > f.cfg.MaxBytes:
		if !f.over {
			f.over = true
			f.log.Warn("more devices are described than are taken", "topic", key, "entities", f.count, "bytes", f.bytes)
		}
		f.gauge.drop(Backlog, 1, f.lane, key, errors.New("max_entities or max_bytes of discovery is reached"))
		return nil
	}
	if err != nil {
		c.err, c.payload, entities = err.Error(), [2][]byte{}, nil
		f.gauge.drop(BadPayload, 1, f.lane, key, err)
		f.log.Info("a discovery message is not understood", "topic", key, "reason", err)
	}
	f.configs[key] = c
	var events []Event
	for _, e := range entities {
		events = append(events, f.add(c, e, before)...)
	}
	f.bytes += c.size()
	return events
}

func (f *finder) describe(c *foundConfig) ([]*homeassistant.Entity, error) {
	if f.cfg.Tasmota != "" && strings.HasPrefix(c.topic, f.cfg.Tasmota+"/") {
		if len(c.payload[0]) == 0 {
			return nil, nil // the other half is to come
		}
		return homeassistant.Tasmota(c.payload[0], c.payload[1])
	}
	all, _, err := homeassistant.Discover(f.cfg.Prefix, c.topic, c.payload[0])
	return all, err
}

// add adds an entity, under a name that is unique in its device. before has what
// was known of it. f.mu is held.
func (f *finder) add(c *foundConfig, described *homeassistant.Entity, before map[string]*foundEntity) []Event {
	d := f.devices[described.Device]
	if d == nil {
		d = &foundDevice{name: described.Device, entities: map[string]*foundEntity{}, since: time.Now()}
		f.devices[d.name] = d
	}
	e := &foundEntity{Entity: described, name: described.Name, device: d, present: make([]presence, len(described.Availability))}
	if e.name == "status" || d.entities[e.name] != nil {
		e.name += "_" + homeassistant.Slug(described.Component)
	}
	for n := 2; d.entities[e.name] != nil; n++ {
		e.name = fmt.Sprintf("%s_%d", described.Name, n)
	}
	if old := before[e.name]; old != nil && old.Type() == e.Type() {
		e.value, e.quality, e.reason, e.time, e.seq = old.value, old.quality, old.reason, old.time, old.seq
	}
	d.entities[e.name] = e
	c.entities = append(c.entities, e)
	f.count++
	for _, p := range e.Problems {
		f.log.Info("a discovery message is understood in parts only", "topic", c.topic, "entity", d.name+"."+e.name, "reason", p)
	}
	var events []Event
	listen := func(topic string, l listener) {
		if topic == "" {
			return
		}
		f.topics[topic] = append(f.topics[topic], l)
		if payload, ok := f.early[topic]; ok {
			events = append(events, f.hear(l, payload, time.Now())...)
		}
	}
	for i := range e.Availability {
		listen(e.Availability[i].Topic, listener{e: e, availability: i})
	}
	for i := range e.States {
		listen(e.States[i].Topic, listener{e: e, state: &e.States[i]})
	}
	return events
}

// remove takes back what a description has brought. f.mu is held.
func (f *finder) remove(c *foundConfig) map[string]*foundEntity {
	before := map[string]*foundEntity{}
	if f.configs[c.topic] != c {
		return before
	}
	f.bytes -= c.size()
	delete(f.configs, c.topic)
	for _, e := range c.entities {
		before[e.name] = e
		delete(e.device.entities, e.name)
		f.count--
		forget := func(topic string) {
			f.topics[topic] = slices.DeleteFunc(f.topics[topic], func(l listener) bool { return l.e == e })
			if len(f.topics[topic]) == 0 {
				delete(f.topics, topic)
			}
		}
		for _, a := range e.Availability {
			forget(a.Topic)
		}
		for _, s := range e.States {
			forget(s.Topic)
		}
	}
	c.entities, c.err = nil, ""
	return before
}

// heard passes a message to all that listen to its topic. f.mu is held.
func (f *finder) heard(topic string, payload []byte, now time.Time) (events []Event, mine bool) {
	for _, l := range f.topics[topic] {
		mine = true
		events = append(events, f.hear(l, payload, now)...)
	}
	return events, mine
}

// hear is one entity's part of a message. f.mu is held.
func (f *finder) hear(l listener, payload []byte, now time.Time) []Event {
	e := l.e
	if l.state == nil {
		if is, known := e.Availability[l.availability].Here(payload); known {
			e.latest = away
			if is {
				e.latest = here
			}
			e.present[l.availability] = e.latest
			notify(f.wake)
		}
		return nil
	}
	var value any
	err := fmt.Errorf("it has %d bytes; %d are taken", len(payload), maxStateBytes)
	if len(payload) <= maxStateBytes {
		value, err = l.state.Value(payload)
	}
	e.value, e.quality, e.reason = value, "good", ""
	switch {
	case errors.Is(err, homeassistant.ErrAbsent):
		return nil
	case err != nil:
		f.gauge.drop(BadPayload, 1, f.lane, l.state.Topic, err)
		e.value, e.quality, e.reason = nil, "bad", err.Error()
	case value == nil:
		e.quality, e.reason = "bad", "the device says that it is not known"
	}
	e.time = now
	e.seq++
	kwargs := wamp.Dict{"unit": e.Unit, "time": now.UTC().Format(time.RFC3339Nano), "seq": e.seq, "quality": e.quality}
	if e.reason != "" {
		kwargs["reason"] = e.reason
	}
	p, err := wamp.NewPayload(codec.CBOR, wamp.List{e.value}, kwargs)
	if err != nil {
		f.gauge.drop(BadPayload, 1, f.lane, l.state.Topic, err)
		return nil
	}
	return []Event{{Topic: f.cfg.URI + "." + e.device.name + "." + e.name, Payload: p}}
}

func (f *finder) publishAll(ctx context.Context, sess session, events []Event) {
	for _, e := range events {
		if err := f.publish(ctx, sess, e, false); err != nil {
			f.gauge.drop(Refused, 1, f.lane, e.Topic, err)
			continue
		}
		f.gauge.passed(f.lane)
	}
}
