package sparkplug

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.UnixMilli(1_700_000_000_000)

// read decodes a message that a node has made.
func read(t *testing.T, m Message) *Payload {
	t.Helper()
	p, err := Decode(m.Payload)
	if err != nil {
		t.Fatalf("%s: %v", m.Topic, err)
	}
	return p
}

func pump(on any) Device {
	return Device{Name: "pump", Up: true, Readings: []Reading{
		{Name: "on", Type: Boolean, Value: on, Quality: Good, Time: noon, Procedure: "set"},
		{Name: "flow", Type: Double, Unit: "l/min", Quality: Bad},
		{Name: CommandName("toggle"), Type: Boolean, Procedure: "toggle", Button: true},
	}}
}

// topics are the messages' topics with their sequence numbers.
func topics(t *testing.T, all []Message) string {
	var out []string
	for _, m := range all {
		seq := "-"
		if p := read(t, m); p.HasSeq {
			seq = fmt.Sprint(p.Seq)
		}
		out = append(out, strings.TrimPrefix(m.Topic, "spBv1.0/g/")+" "+seq)
	}
	return strings.Join(out, ", ")
}

// TestLife follows a node from its connection to its rebirth.
func TestLife(t *testing.T) {
	n := NewNode("g", "n", "1.0")
	// tck-id-payloads-ndeath-bdseq, tck-id-payloads-ndeath-seq, tck-id-topics-nbirth-bdseq-increment
	will := n.Begin(noon)
	if p := read(t, will); will.Topic != "spBv1.0/g/NDEATH/n" || will.QoS != 1 || p.HasSeq ||
		!reflect.DeepEqual(p.Metrics, []Metric{{Name: "bdSeq", Type: Int64, Timestamp: p.Timestamp, Value: int64(0)}}) {
		t.Errorf("will %+v: %+v", will, p)
	}
	if m := n.Update([]Device{pump(false)}, noon); len(m) > 0 {
		t.Error("something is said before the birth")
	}
	if m := n.Data([]Change{{Device: "pump", Name: "on", Value: true, Quality: Good, Time: noon}}, noon); len(m) > 0 {
		t.Error("data before the birth")
	}
	births := n.Births(noon)
	if got := topics(t, births); got != "NBIRTH/n 0, DBIRTH/n/pump 1" {
		t.Errorf("births: %s", got)
	}
	node := read(t, births[0])
	// tck-id-topics-nbirth-rebirth-metric, and without an alias: tck-id-operational-behavior-data-commands-rebirth-name-aliases
	if m := node.Metrics[1]; m.Name != "Node Control/Rebirth" || m.Type != Boolean || m.Value != false || m.HasAlias {
		t.Errorf("the rebirth control is %+v", m)
	}
	if m := node.Metrics[0]; m.Name != "bdSeq" || m.Value != int64(0) {
		t.Errorf("bdSeq is %+v", m)
	}
	seen := map[uint64]bool{}
	for _, m := range read(t, births[1]).Metrics { // tck-id-payloads-alias-birth-requirement, tck-id-payloads-alias-uniqueness
		if m.Name == "" || !m.HasAlias || seen[m.Alias] || m.Type == 0 {
			t.Errorf("metric %+v", m)
		}
		seen[m.Alias] = true
		if m.Name == "flow" && (m.Value != nil || m.Quality != Bad || m.Unit != "l/min") {
			t.Errorf("flow is %+v", m)
		}
	}
	data := n.Data([]Change{
		{Device: "pump", Name: "on", Value: true, Quality: Good, Time: noon.Add(time.Second)},
		{Device: "pump", Name: "flow", Value: int64(3), Quality: Good, Time: noon.Add(2 * time.Second)},
		{Device: "pump", Name: "nothing", Value: 1.0},
		{Device: "nobody", Name: "on", Value: true},
	}, noon)
	if got := topics(t, data); got != "DDATA/n/pump 2" {
		t.Errorf("data: %s", got)
	}
	p := read(t, data[0])
	if len(p.Metrics) != 2 || p.Metrics[0].Name != "" || p.Metrics[0].Value != true || p.Metrics[1].Value != 3.0 || p.Metrics[1].Quality != Good {
		t.Errorf("data: %+v", p.Metrics) // tck-id-payloads-alias-data-cmd-requirement
	}
	// It is away, there again, and another.
	away := pump(true)
	away.Up = false
	other := pump(true)
	other.Readings = other.Readings[:1]
	all := n.Update([]Device{away}, noon)
	all = append(all, n.Update([]Device{away}, noon)...)
	all = append(all, n.Data([]Change{{Device: "pump", Name: "on", Value: true}}, noon)...)
	all = append(all, n.Update([]Device{pump(true)}, noon)...)
	all = append(all, n.Update([]Device{pump(true)}, noon)...)
	all = append(all, n.Update([]Device{other}, noon)...)
	all = append(all, n.Update(nil, noon)...)
	if got := topics(t, all); got != "DDEATH/n/pump 3, DBIRTH/n/pump 4, DBIRTH/n/pump 5, DDEATH/n/pump 6" {
		t.Errorf("life: %s", got)
	}
	// tck-id-operational-behavior-data-commands-rebirth-action-3: the same bdSeq.
	n.Update([]Device{pump(true)}, noon)
	again := n.Births(noon)
	if got := topics(t, again); got != "NBIRTH/n 0, DBIRTH/n/pump 1" || read(t, again[0]).Metrics[0].Value != int64(0) {
		t.Errorf("rebirth: %s", got)
	}
	if m := read(t, again[1]).Metrics; m[0].Alias == 0 || !seen[m[0].Alias] {
		t.Errorf("the aliases are others after a rebirth: %+v", m)
	}
}

// TestNumbersWrap: 255 is followed by 0, in both sequences
// (tck-id-payloads-sequence-num-incrementing,
// tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq).
func TestNumbersWrap(t *testing.T) {
	n := NewNode("g", "n", "")
	n.Update([]Device{pump(false)}, noon)
	for i := range 600 {
		if got := read(t, n.Begin(noon)).Metrics[0].Value; got != int64(i%256) {
			t.Fatalf("CONNECT %d has bdSeq %v", i, got)
		}
	}
	n.Births(noon)
	for i := range 600 {
		m := n.Data([]Change{{Device: "pump", Name: "on", Value: i%2 == 0, Quality: Good, Time: noon}}, noon)
		if got := read(t, m[0]).Seq; got != uint64((i+2)%256) {
			t.Fatalf("message %d has seq %d", i, got)
		}
	}
}

func TestCommands(t *testing.T) {
	n := NewNode("g", "n", "")
	n.Begin(noon)
	n.Update([]Device{pump(false)}, noon)
	births := n.Births(noon)
	alias := map[string]uint64{}
	for _, m := range read(t, births[1]).Metrics {
		alias[m.Name] = m.Alias
	}
	write := func(topic string, m ...Metric) (bool, []Command, error) {
		p := Payload{Timestamp: 1, Metrics: m}
		return n.Command(topic, p.Append(nil))
	}
	rebirth, calls, err := write("spBv1.0/g/NCMD/n", Metric{Name: "Node Control/Rebirth", Type: Boolean, Value: true})
	if !rebirth || len(calls) > 0 || err != nil {
		t.Error("rebirth:", rebirth, calls, err)
	}
	if rebirth, _, err := write("spBv1.0/g/NCMD/n", Metric{Name: "Node Control/Rebirth", Type: Boolean, Value: false}); rebirth || err == nil {
		t.Error("a rebirth that is false:", rebirth, err)
	}
	const topic = "spBv1.0/g/DCMD/n/pump"
	for _, m := range []Metric{{Name: "on", Type: Boolean, Value: true}, {Alias: alias["on"], HasAlias: true, Value: true}} {
		if _, calls, err := write(topic, m); err != nil || !reflect.DeepEqual(calls, []Command{{"pump", "set", []any{true}}}) {
			t.Errorf("%+v: %v %v", m, calls, err)
		}
	}
	if _, calls, err := write(topic, Metric{Name: "Command/toggle", Type: Boolean, Value: true}); err != nil || len(calls) != 1 || calls[0].Procedure != "toggle" || len(calls[0].Args) != 0 {
		t.Errorf("toggle: %v %v", calls, err)
	}
	for _, m := range []Metric{
		{Name: "flow", Type: Double, Value: 1.0}, {Name: "on", Type: String, Value: "yes"}, {Name: "x", Value: true}, {Alias: 99, HasAlias: true, Value: true}, {Name: "on"},
	} {
		if _, calls, err := write(topic, m); err == nil || len(calls) > 0 {
			t.Errorf("%+v is taken: %v", m, calls)
		}
	}
	if _, _, err := write("spBv1.0/g/DCMD/n/nobody", Metric{Name: "on", Value: true}); err == nil {
		t.Error("a command for nobody is taken")
	}
	if _, _, err := n.Command(topic, []byte{0xFF}); err == nil {
		t.Error("what is no payload is taken")
	}
}

// TestHost: a STATE that is older than the last does not count.
func TestHost(t *testing.T) {
	h := &Host{}
	for _, c := range []struct {
		state  string
		online bool
		ok     bool
	}{
		{`{"online":false,"timestamp":5}`, false, true},
		{`{"online":true,"timestamp":5}`, true, true},
		{`{"online":false,"timestamp":4}`, true, true},
		{`OFFLINE`, true, false},
		{`{"online":false}`, true, false},
		{strings.Repeat(" ", 5000), true, false},
		{`{"online":false,"timestamp":6}`, false, true},
	} {
		if err := h.Hear([]byte(c.state)); h.Online != c.online || (err == nil) != c.ok {
			t.Errorf("after %.40s: %v %v", c.state, h.Online, err)
		}
	}
}

// TestVectors are payloads as protoc writes them of the specification's
// definition.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		want, err := hex.DecodeString(v.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.payload.Append(nil); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\n%x\nwant\n%x", v.payload, got, want)
		}
		if got, err := Decode(want); err != nil || !reflect.DeepEqual(*got, v.payload) {
			t.Errorf("%+v %v\nwant\n%+v", got, err, v.payload)
		}
	}
}

func TestWhatIsNoPayload(t *testing.T) {
	long := Payload{}
	for range maxMetrics + 1 {
		long.Metrics = append(long.Metrics, Metric{Alias: 1, HasAlias: true, Value: true})
	}
	for name, b := range map[string][]byte{
		"ends within a tag": {0x80}, "ends within a number": {0x08, 0x80}, "ends within a chunk": {0x12, 0x05, 1}, "a group": {0x0B},
		"field 0": {0x00, 0x01}, "a name that is no text": {0x12, 0x03, 0x0A, 0x01, 0xFF}, "too many metrics": long.Append(nil),
		"too long": make([]byte, MaxPayload+1), "a length beyond all": {0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01},
	} {
		if p, err := Decode(b); err == nil {
			t.Errorf("%s is taken: %+v", name, p)
		}
	}
}

// FuzzDecode: what is read can be written, and is the same then.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		b, _ := hex.DecodeString(v.hex)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := NewNode("g", "n", "")
		n.Update([]Device{pump(false)}, noon)
		_, _, _ = n.Command("spBv1.0/g/DCMD/n/pump", b)
		p, err := Decode(b)
		if err != nil {
			return
		}
		once := p.Append(nil)
		again, err := Decode(once)
		if err != nil {
			if len(once) > MaxPayload {
				return
			}
			t.Fatalf("%x: %v", once, err)
		}
		if twice := again.Append(nil); string(twice) != string(once) {
			t.Errorf("%x is written as %x", once, twice)
		}
	})
}
