package bridge

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
)

// TestFilters sends values, one a second, and says which cross.
func TestFilters(t *testing.T) {
	for _, c := range []struct {
		name   string
		filter OnlyIf
		send   string
		want   string
	}{
		{"on change", OnlyIf{OnChange: true}, "1 1 2 2 1 x x", "1 2 1 x"},
		{"deadband", OnlyIf{Change: 0.2}, "21.5 21.6 21.7 21.6 21.5 21.4", "21.5 21.7 21.5"},
		{"deadband of other kinds", OnlyIf{Change: 1}, "1 on on 1 1.5 off", "1 on 1 off"},
		{"minimum interval", OnlyIf{MinInterval: 3 * time.Second}, "1 2 3 4 5 6 7", "1 4 7"},
		{"heartbeat", OnlyIf{OnChange: true, Heartbeat: 3 * time.Second}, "1 1 1 1 1 2 2", "1 1 2"},
		{"sample", OnlyIf{Sample: 3}, "1 2 3 4 5 6 7", "1 4 7"},
		{"expression", OnlyIf{Expression: "$value > 2 && {dev} == 'k'"}, "1 2 3 4 x", "3 4"},
		{"previous", OnlyIf{Expression: "$previous == null || $value > $previous"}, "5 3 6 6 7", "5 6 7"},
		{"together", OnlyIf{Expression: "$value < 100", Change: 1, MinInterval: 2 * time.Second}, "1 2 200 2.5 3 4", "1 2.5 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			filtered := func(m *Map) { m.OnlyIf = c.filter }
			in := tableOf(t, mapOf(In, "s/{dev}", "com.{dev}", filtered))
			out := tableOf(t, mapOf(Out, "s/{dev}", "com.{dev}", filtered))
			var gotIn, gotOut []string
			now := time.Unix(1_700_000_000, 0)
			for _, text := range strings.Fields(c.send) {
				now = now.Add(time.Second)
				events, d := in.ToWAMP(nil, "s/k", []byte(text), false, now)
				if len(events) == 1 {
					gotIn = append(gotIn, text)
				} else if d.Reason != Filtered || d.Map == nil {
					t.Errorf("%s: %v", text, d)
				}
				v, _ := autoFormat{}.value([]byte(text))
				if _, d := out.ToMQTT("com.k", payload(t, wamp.List{v}, nil), false, now); d.Reason == Mapped {
					gotOut = append(gotOut, text)
				}
			}
			if want := strings.Fields(c.want); !slices.Equal(gotIn, want) || !slices.Equal(gotOut, want) {
				t.Errorf("in %v, out %v, want %v", gotIn, gotOut, want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " " + err.Error()
}

// TestFilterKeepsNamesApart remembers what passed for each name.
func TestFilterKeepsNamesApart(t *testing.T) {
	table := tableOf(t, mapOf(In, "s/{dev}", "com.{dev}", func(m *Map) { m.OnlyIf = OnlyIf{OnChange: true} }))
	for i, dev := range []string{"a", "b", "a", "b"} {
		if events, _ := table.ToWAMP(nil, "s/"+dev, []byte("1"), false, time.Unix(1, 0)); (len(events) == 1) != (i < 2) {
			t.Errorf("message %d: %v", i, events)
		}
	}
}

// TestFilterLetsClearsPass, and what comes after them.
func TestFilterLetsClearsPass(t *testing.T) {
	table := tableOf(t, mapOf(In, "s/{dev}", "com.{dev}", func(m *Map) { m.OnlyIf = OnlyIf{OnChange: true} }))
	var got []int
	for _, text := range []string{"1", "", "1", "1"} {
		events, _ := table.ToWAMP(nil, "s/k", []byte(text), true, time.Unix(1, 0))
		got = append(got, len(events))
	}
	if !slices.Equal(got, []int{1, 1, 1, 0}) {
		t.Errorf("events %v", got)
	}
}

func TestFilterIsBounded(t *testing.T) {
	f, err := newFilter(OnlyIf{OnChange: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxFiltered + 100 {
		if !f.passes(fmt.Sprint(i), false, &expr.Scope{Value: int64(1)}) {
			t.Fatal("the first of a name was held back")
		}
	}
	if len(f.last) > maxFiltered {
		t.Errorf("%d names are remembered", len(f.last))
	}
}

// TestSplit makes several events of one message, as Tasmota's SENSOR.
func TestSplit(t *testing.T) {
	split := func(m *Map) {
		m.Split, m.Codec.Type = "path", "json"
		m.Except = []string{"tasmota.{dev}.Time", "tasmota.{dev}.{sensor}.Id"}
	}
	table := tableOf(t, mapOf(In, "tele/{dev}/SENSOR", "tasmota.{dev}.{path...}", split))
	const body = `{"Time":"2024-01-01T00:00:00","DS18B20-1":{"Id":"01","Temperature":21.5},"a.b":{"list":[1,2]},"TempUnit":"C"}`
	events, d := table.ToWAMP(nil, "tele/kitchen/SENSOR", []byte(body), true, time.Time{})
	var got []string
	for _, e := range events {
		args, _, err := e.Payload.Values()
		got = append(got, fmt.Sprintf("%s %v %v", e.Topic, args, e.Retain)+errText(err))
	}
	want := []string{
		"tasmota.kitchen.DS18B20-1.Temperature [21.5] true", "tasmota.kitchen.TempUnit [C] true", "tasmota.kitchen.a%2Eb.list [[1 2]] true",
	}
	if d.Reason != Mapped || !slices.Equal(got, want) {
		t.Errorf("%v %q", d, got)
	}
	if !table.takes("tele/kitchen/SENSOR") {
		t.Error("the topic is not taken")
	}
	for body, want := range map[string]Reason{
		"": Mapped, "5": BadPayload, "{": BadPayload, `{"Time":1}`: Mapped,
		"{" + strings.TrimSuffix(strings.Repeat(`"#":1,`, 1), ",") + "}": Mapped,
	} {
		if events, d := table.ToWAMP(nil, "tele/k/SENSOR", []byte(body), false, time.Time{}); d.Reason != want {
			t.Errorf("%q: %v %v", body, events, d)
		}
	}
	var many strings.Builder
	for i := range maxLeaves + 1 {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	if _, d := table.ToWAMP(nil, "tele/k/SENSOR", []byte("{"+many.String()[1:]+"}"), false, time.Time{}); d.Reason != BadPayload {
		t.Errorf("too many values: %v", d)
	}
}

func TestFieldsAndTemplates(t *testing.T) {
	field := func(typ, path string) func(*Map) {
		return func(m *Map) { m.Codec = Codec{Type: typ, Field: path, True: "ON", False: "OFF"} }
	}
	for _, c := range []struct {
		change  func(*Map)
		payload string
		args    wamp.List
		written string
	}{
		{field("json", "$.ENERGY.Power"), `{"ENERGY":{"Power":42.5},"x":1}`, wamp.List{42.5}, `{"ENERGY":{"Power":42.5}}`},
		{field("bool", "$.state"), `{"state":"on","x":1}`, wamp.List{true}, `{"state":"ON"}`},
		{field("number", "$.v"), `{"v":"21.5"}`, wamp.List{21.5}, `{"v":21.5}`},
		{field("text", "$.v"), `{"v":21.5}`, wamp.List{"21.5"}, `{"v":"21.5"}`},
		{field("base64", "$.v"), `{"v":"AP8="}`, wamp.List{[]byte("\x00\xff")}, ""},
		{field("cbor", "$.a"), "\xa1\x61a\xf5", wamp.List{true}, "\xa1\x61a\xf5"},
	} {
		table := tableOf(t, mapOf(Both, "s/{dev}", "com.{dev}", c.change))
		e, d := table.toWAMP("s/k", []byte(c.payload), false)
		args, _, err := e.Payload.Values()
		if d.Reason != Mapped || err != nil || !reflect.DeepEqual(args, c.args) {
			t.Errorf("%q is %v (%v)", c.payload, args, d)
		}
		if c.written == "" {
			continue
		}
		if m, d := table.ToMQTT("com.k", payload(t, c.args, nil), false, time.Time{}); string(m.Payload) != c.written {
			t.Errorf("%v is written %q (%v), want %q", c.args, m.Payload, d, c.written)
		}
	}
	now := time.UnixMilli(1_700_000_000_000)
	template := func(v any) func(*Map) { return func(m *Map) { m.Codec.Template = v } }
	out := tableOf(t, mapOf(Out, "s/{dev}", "com.{dev}", template(map[string]any{"v": "$.args[0]", "u": "$.kwargs.unit?", "ts": "$now_ms", "id": "{dev}"})))
	m, d := out.ToMQTT("com.a%2Eb", payload(t, wamp.List{21.5}, wamp.Dict{"unit": "Cel"}), false, now)
	if want := `{"id":"a.b","ts":1700000000000,"u":"Cel","v":21.5}`; string(m.Payload) != want {
		t.Errorf("written %q (%v)", m.Payload, d)
	}
	if m, d := out.ToMQTT("com.a", payload(t, nil, wamp.Dict{"unit": "Cel"}), false, now); d.Reason != BadPayload || !strings.Contains(d.Err.Error(), "$.args[0]") {
		t.Errorf("%q %v", m.Payload, d)
	}
	in := tableOf(t, mapOf(In, "s/{dev}", "com.{dev}", template(map[string]any{"args": []any{"$.t"}, "kwargs": map[string]any{"dev": "{dev}", "from": "$topic"}}),
		func(m *Map) { m.Into = IntoEnvelope }))
	e, d := in.toWAMP("s/k", []byte(`{"t":21.5}`), false)
	args, kwargs, err := e.Payload.Values()
	if err != nil || fmt.Sprint(args, kwargs) != "[21.5] map[dev:k from:s/k]" {
		t.Errorf("%v %v %v", args, kwargs, d)
	}
	text := tableOf(t, mapOf(Out, "s/{dev}", "com.{dev}", func(m *Map) { m.Codec = Codec{Type: "text", Template: "{dev}={$value}"} }))
	if m, d := text.ToMQTT("com.k", payload(t, wamp.List{int64(5)}, nil), false, now); string(m.Payload) != "k=5" {
		t.Errorf("written %q (%v)", m.Payload, d)
	}
}

func TestShapesThatMakeNoSense(t *testing.T) {
	for _, c := range []struct {
		m    Map
		want string
	}{
		{mapOf(Both, "s/{d}", "c.{d}", func(m *Map) { m.Codec.Template = "$value" }), "builds one way"},
		{mapOf(Out, "s/{d}", "c.{d}", func(m *Map) { m.Codec.Field = "$.a[0]" }), "built whole"},
		{mapOf(In, "s/{d}", "c.{d}", func(m *Map) { m.Codec.Field = "$value" }), "begins elsewhere"},
		{mapOf(In, "s/{d}", "c.{d}", func(m *Map) { m.Codec.Field, m.Codec.Template = "$.a", "$.a" }), "a field and a template"},
		{mapOf(In, "s/{d}", "c.{d}", func(m *Map) { m.Codec.Template = "{x}" }), "no capture"},
		{mapOf(In, "s/{d}", "c.{d}", func(m *Map) { m.OnlyIf = OnlyIf{Expression: "$value >"} }), "missing"},
		{mapOf(Both, "s/{d}", "c.{d}.{p...}", func(m *Map) { m.Split = "p" }), "direction: in"},
		{mapOf(In, "s/{d}", "c.{d}", func(m *Map) { m.Split = "p" }), "must end"},
		{mapOf(In, "s/{p...}", "c.{p...}", func(m *Map) { m.Split = "p" }), "which mqtt captures"},
		{mapOf(In, "s/{d}", "c.{d}.{p...}", func(m *Map) { m.Split, m.Into = "p", IntoKwArgs }), "into: args"},
	} {
		_, problems := NewTable("b", []Map{c.m}, wamp.LooseURIs, nil)
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Fatal && strings.Contains(p.String(), c.want) }) {
			t.Errorf("%s: %v, want one with %q", c.m.Name, problems, c.want)
		}
	}
}
