package sparkplug

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Namespace is what all topics begin with, those of states too.
const Namespace = "spBv1.0"

const (
	rebirthName = "Node Control/Rebirth"
	bdSeqName   = "bdSeq"
	commandName = "Command/" // before a procedure that no reading shows
)

// Message is one publication. It is never retained.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
}

// Node is an edge node: one MQTT client with the devices behind it.
type Node struct {
	group, id string
	version   string

	begun   bool
	bdSeq   uint64
	seq     uint64
	born    bool
	devices map[string]*device
	aliases map[string]uint64 // by device and metric; for as long as the node lives
	byAlias map[uint64]*metric
}

type device struct {
	name    string
	up      bool
	born    bool
	metrics []*metric
	byName  map[string]*metric
}

type metric struct {
	Metric
	device  string
	command *Command // nil for one that cannot be written
	told    Quality  // that the host knows
}

// Command is what a write to a metric calls.
type Command struct {
	Device, Procedure string
	Args              []any
}

// Reading describes one metric of a device, with its latest value.
type Reading struct {
	Name    string
	Type    DataType
	Unit    string
	Value   any
	Quality Quality
	Time    time.Time
	// Procedure is called with a value that is written; "" for none.
	Procedure string
	// Button says that the procedure takes no argument: true calls it.
	Button bool
}

// Device describes one device.
type Device struct {
	Name     string
	Up       bool // there is a connection to it
	Readings []Reading
}

// NewNode makes a node. group and id are parts of topics.
func NewNode(group, id, version string) *Node {
	return &Node{group: group, id: id, version: version, devices: map[string]*device{}, aliases: map[string]uint64{}, byAlias: map[uint64]*metric{}}
}

// Begin is called before every CONNECT. It returns its will, the NDEATH, whose
// number is that of the births to come (tck-id-topics-nbirth-bdseq-increment:
// from zero, by one for each CONNECT; after 255 comes 0).
func (n *Node) Begin(now time.Time) Message {
	if n.begun {
		n.bdSeq = (n.bdSeq + 1) % 256
	}
	n.begun, n.born = true, false
	for _, d := range n.devices {
		d.born = false
	}
	return n.Death(now)
}

// Death is the NDEATH: the will, and what an edge node says before it
// disconnects (tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath).
// It has no sequence number (tck-id-payloads-ndeath-seq).
func (n *Node) Death(now time.Time) Message {
	p := Payload{Timestamp: ms(now), Metrics: []Metric{n.birthDeath(now)}}
	return Message{Topic: n.topic("NDEATH", ""), Payload: p.Append(nil), QoS: 1}
}

func (n *Node) birthDeath(now time.Time) Metric {
	return Metric{Name: bdSeqName, Type: Int64, Timestamp: ms(now), Value: int64(n.bdSeq)}
}

// Commands are the topics of commands for the node and for its devices.
func (n *Node) Commands() (node, devices string) {
	return n.topic("NCMD", ""), n.topic("DCMD", "+")
}

func (n *Node) topic(verb, device string) string {
	t := Namespace + "/" + n.group + "/" + verb + "/" + n.id
	if device != "" {
		t += "/" + device
	}
	return t
}

func ms(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

// next is the sequence number of a message: one more than that before, and 0
// after 255 (tck-id-payloads-sequence-num-incrementing).
func (n *Node) next() uint64 {
	n.seq = (n.seq + 1) % 256
	return n.seq
}

// Births are the NBIRTH, with the sequence number 0, and the DBIRTHs of all
// devices that are up. They are what answers a request for a rebirth, too.
func (n *Node) Births(now time.Time) []Message {
	n.seq = 255
	p := Payload{Timestamp: ms(now), HasSeq: true, Seq: n.next(), Metrics: []Metric{
		n.birthDeath(now),
		// Without an alias: tck-id-operational-behavior-data-commands-rebirth-name-aliases.
		{Name: rebirthName, Type: Boolean, Timestamp: ms(now), Value: false},
		{Name: "Properties/Software", Type: String, Timestamp: ms(now), Value: "Postern " + n.version},
	}}
	n.born = true
	all := []Message{{Topic: n.topic("NBIRTH", ""), Payload: p.Append(nil)}}
	for _, name := range slices.Sorted(maps.Keys(n.devices)) {
		if d := n.devices[name]; d.up {
			all = append(all, n.birth(d, now))
		}
	}
	return all
}

func (n *Node) birth(d *device, now time.Time) Message {
	d.born = true
	p := Payload{Timestamp: ms(now), HasSeq: true, Seq: n.next()}
	for _, m := range d.metrics {
		m.told = m.Quality
		one := m.Metric
		if one.Timestamp == 0 {
			one.Timestamp = p.Timestamp
		}
		p.Metrics = append(p.Metrics, one)
	}
	// Their values in the order of time: tck-id-operational-behavior-data-publish-dbirth-order.
	slices.SortStableFunc(p.Metrics, func(a, b Metric) int { return int(int64(a.Timestamp) - int64(b.Timestamp)) })
	return Message{Topic: n.topic("DBIRTH", d.name), Payload: p.Append(nil)}
}

func (n *Node) death(d *device, now time.Time) Message {
	d.born = false
	p := Payload{Timestamp: ms(now), HasSeq: true, Seq: n.next()}
	return Message{Topic: n.topic("DDEATH", d.name), Payload: p.Append(nil)}
}

// Update takes what is known of the devices now. After the births it returns the
// DBIRTHs of devices that have come or have other metrics, and the DDEATHs of
// those that are gone.
func (n *Node) Update(list []Device, now time.Time) []Message {
	var all []Message
	there := map[string]bool{}
	for _, one := range list {
		there[one.Name] = true
		d := n.devices[one.Name]
		if d == nil {
			d = &device{name: one.Name, byName: map[string]*metric{}}
			n.devices[d.name] = d
		}
		other := n.describe(d, one.Readings)
		d.up = one.Up
		switch {
		case !n.born:
		case d.up && (!d.born || other):
			all = append(all, n.birth(d, now))
		case !d.up && d.born:
			all = append(all, n.death(d, now))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.devices)) {
		d := n.devices[name]
		if there[name] {
			continue
		}
		if n.born && d.born {
			all = append(all, n.death(d, now))
		}
		for _, m := range d.metrics {
			delete(n.byAlias, m.Alias)
		}
		delete(n.devices, name)
	}
	return all
}

// describe brings a device's metrics up to date. It reports whether they are
// others than before.
func (n *Node) describe(d *device, readings []Reading) (other bool) {
	before := d.byName
	d.metrics, d.byName = nil, map[string]*metric{}
	for _, r := range readings {
		if d.byName[r.Name] != nil {
			continue
		}
		m := before[r.Name]
		if m == nil || m.Type != r.Type || m.Unit != r.Unit {
			m, other = &metric{device: d.name}, true
			m.Name, m.Type, m.Unit, m.HasAlias = r.Name, r.Type, r.Unit, true
			m.Alias = n.alias(d.name, r.Name)
		}
		m.command = nil
		if r.Procedure != "" {
			m.command = &Command{Device: d.name, Procedure: r.Procedure}
			if r.Button {
				m.Value, m.command.Args = false, []any{}
			}
		}
		if !r.Button {
			m.set(r.Value, r.Quality, r.Time)
		}
		d.metrics, d.byName[r.Name] = append(d.metrics, m), m
		n.byAlias[m.Alias] = m
	}
	for name, m := range before {
		if d.byName[name] == nil {
			delete(n.byAlias, m.Alias)
			other = true
		}
	}
	return other
}

// alias is a metric's number, unique in the node (tck-id-payloads-alias-uniqueness),
// and the same again after the device was away.
func (n *Node) alias(device, name string) uint64 {
	key := device + "\x00" + name
	a, ok := n.aliases[key]
	if !ok {
		a = uint64(len(n.aliases)) + 1
		n.aliases[key] = a
	}
	return a
}

// set takes a value, unless a later one is known.
func (m *metric) set(v any, q Quality, at time.Time) {
	if !at.IsZero() && ms(at) < m.Timestamp {
		return
	}
	m.Value, m.Quality = Fit(v, m.Type), q
	if !at.IsZero() {
		m.Timestamp = ms(at)
	}
}

// Fit is a value as a type has it; nil when it has none like that.
func Fit(v any, as DataType) any {
	switch v := v.(type) {
	case bool:
		if as == Boolean {
			return v
		}
	case string:
		if as == String {
			return v
		}
	case int64:
		switch as {
		case Int64:
			return v
		case Double:
			return float64(v)
		}
	case uint64:
		switch as {
		case Int64:
			return int64(v)
		case Double:
			return float64(v)
		}
	case float64:
		switch as {
		case Double:
			return v
		case Int64:
			if v == float64(int64(v)) {
				return int64(v)
			}
		}
	}
	return nil
}

// Change is a new value of a metric.
type Change struct {
	Device, Name string
	Value        any
	Quality      Quality
	Time         time.Time
}

// Note takes a value without a message: births are to have the latest. It
// reports whether the metric is known.
func (n *Node) Note(c Change) bool {
	d := n.devices[c.Device]
	if d == nil || d.byName[c.Name] == nil {
		return false
	}
	d.byName[c.Name].set(c.Value, c.Quality, c.Time)
	return true
}

// Data makes DDATAs of changes, in their order: one for each row of changes of
// the same device. Those of devices that are not born are left out.
func (n *Node) Data(changes []Change, now time.Time) []Message {
	const most = 100 // metrics in one message
	var all []Message
	var p *Payload
	var of string
	flush := func() {
		if p != nil {
			p.Seq = n.next()
			all = append(all, Message{Topic: n.topic("DDATA", of), Payload: p.Append(nil)})
		}
		p = nil
	}
	for _, c := range changes {
		d := n.devices[c.Device]
		if d == nil || !d.born || d.byName[c.Name] == nil {
			continue
		}
		if p != nil && (of != c.Device || len(p.Metrics) == most) {
			flush()
		}
		if p == nil {
			p, of = &Payload{Timestamp: ms(now), HasSeq: true}, c.Device
		}
		m := d.byName[c.Name]
		// By its alias alone: tck-id-payloads-alias-data-cmd-requirement.
		at := c.Time
		if at.IsZero() {
			at = now
		}
		one := Metric{Alias: m.Alias, HasAlias: true, Type: m.Type, Timestamp: ms(at), Value: Fit(c.Value, m.Type)}
		if c.Quality != m.told {
			one.Quality, m.told = c.Quality, c.Quality
		}
		p.Metrics = append(p.Metrics, one)
	}
	flush()
	return all
}

// Command reads an NCMD or DCMD: whether it asks for a rebirth, and what it
// calls. What it has of metrics that are not there, or cannot be written, is in
// the error.
func (n *Node) Command(topic string, payload []byte) (rebirth bool, calls []Command, err error) {
	p, err := Decode(payload)
	if err != nil {
		return false, nil, fmt.Errorf("the command is no Sparkplug payload: %w", err)
	}
	if node, _ := n.Commands(); topic == node {
		for _, m := range p.Metrics {
			if m.Name == rebirthName && m.Value == true {
				rebirth = true
			}
		}
		if !rebirth {
			return false, nil, errors.New("the node has no metric that can be written but " + rebirthName)
		}
		return true, nil, nil
	}
	name, ok := strings.CutPrefix(topic, n.topic("DCMD", "")+"/")
	d := n.devices[name]
	if !ok || d == nil {
		return false, nil, fmt.Errorf("there is no device %q", name)
	}
	var problems []error
	for _, m := range p.Metrics {
		to := d.byName[m.Name]
		if m.Name == "" && m.HasAlias {
			if to = n.byAlias[m.Alias]; to != nil && to.device != name {
				to = nil
			}
		}
		if to == nil || to.command == nil {
			problems = append(problems, fmt.Errorf("device %s has no metric %q (alias %d) that can be written", name, m.Name, m.Alias))
			continue
		}
		call := *to.command
		if call.Args == nil {
			v := Fit(widen(m.Value), to.Type)
			if v == nil {
				problems = append(problems, fmt.Errorf("%s of device %s takes another type", to.Name, name))
				continue
			}
			call.Args = []any{v}
		} else if m.Value != true {
			continue
		}
		calls = append(calls, call)
	}
	return false, calls, errors.Join(problems...)
}

// widen makes a whole number of an unsigned one that may be one of two's
// complement, for a sender that leaves the type out.
func widen(v any) any {
	if u, ok := v.(uint64); ok {
		return int64(u)
	}
	return v
}

// CommandName is the name of the metric that calls a procedure which no reading
// shows.
func CommandName(procedure string) string { return commandName + procedure }
