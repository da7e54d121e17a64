package bridge

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// mapOf makes a map with its defaults.
func mapOf(direction, mqtt, wamp string, change ...func(*Map)) Map {
	m := Map{Name: mqtt + "|" + wamp, Direction: direction, MQTT: mqtt, WAMP: wamp}
	m.SetDefaults()
	for _, f := range change {
		f(&m)
	}
	return m
}

func tableOf(t testing.TB, maps ...Map) *Table {
	t.Helper()
	table, problems := NewTable("b", maps, wamp.LooseURIs, codec.CBOR)
	for _, p := range problems {
		if p.Fatal {
			t.Fatalf("NewTable: %s", p)
		}
	}
	return table
}

// toWAMP is the one event that a message becomes.
func (t *Table) toWAMP(topic string, payload []byte, retained bool) (Event, Decision) {
	events, d := t.ToWAMP(nil, topic, payload, retained, time.Time{})
	if len(events) != 1 {
		return Event{}, d
	}
	return events[0], d
}

func payload(t testing.TB, args wamp.List, kwargs wamp.Dict) wamp.Payload {
	t.Helper()
	p, err := wamp.NewPayload(codec.CBOR, args, kwargs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNamesInAndOut(t *testing.T) {
	for _, c := range []struct {
		mqtt, wamp string
		topic, uri string
	}{
		{"sensors/{id}/temp", "com.site.sensors.{id}.temp", "sensors/7/temp", "com.site.sensors.7.temp"},
		{"v1/{site}/{rest...}", "com.site.{site}.{rest...}", "v1/nord/a/b", "com.site.nord.a.b"},
		{"v1/{site}/{rest...}", "com.site.{site}.{rest...}", "v1/nord", "com.site.nord"},
		{"a/{x...}", "b.{x...}", "a", "b"},
		{"a/{x...}", "b.{x...}", "a/", "b.%"},
		{"{t...}", "mqtt.{t...}", "/a//b/", "mqtt.%.a.%.b.%"},
		{"{t...}", "mqtt.{t...}", "x.y/100%", "mqtt.x%2Ey.100%25"},
		{"{t...}", "mqtt.{t...}", "homie/dev/$state", "mqtt.homie.dev.$state"},
		{"{a}/{b}", "{b}.{a}", "1/2", "2.1"},
		{"$SYS/{x...}", "sys.{x...}", "$SYS/broker/uptime", "sys.broker.uptime"},
		{"fixed", "com.fixed", "fixed", "com.fixed"},
	} {
		table := tableOf(t, mapOf(Both, c.mqtt, c.wamp))
		e, d := table.toWAMP(c.topic, []byte("1"), false)
		if d.Reason != Mapped || e.Topic != c.uri {
			t.Errorf("%s ↔ %s: %q becomes %q (%v, %v), want %q", c.mqtt, c.wamp, c.topic, e.Topic, d.Reason, d.Err, c.uri)
		}
		m, d := table.ToMQTT(c.uri, payload(t, wamp.List{int64(1)}, nil), false, time.Time{})
		if d.Reason != Mapped || m.Topic != c.topic {
			t.Errorf("%s ↔ %s: %q becomes %q (%v, %v), want %q", c.mqtt, c.wamp, c.uri, m.Topic, d.Reason, d.Err, c.topic)
		}
	}
}

func TestFlattening(t *testing.T) {
	table := tableOf(t, mapOf(In, "plant/{line}/{x...}", "com.line.{line}"))
	if e, d := table.toWAMP("plant/3/a/b/c", nil, false); d.Reason != Mapped || e.Topic != "com.line.3" {
		t.Errorf("got %q, %v", e.Topic, d.Reason)
	}
}

func TestNamesRefused(t *testing.T) {
	everything := tableOf(t, mapOf(Both, "{t...}", "{t...}"))
	under := tableOf(t, mapOf(Both, "{t...}", "mqtt.{t...}"))
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		table *Table
		topic string
		want  Reason
	}{
		{under, "", BadTopic},
		{under, "a/+", BadTopic},
		{under, "a/#", BadTopic},
		{under, "a\x00b", BadTopic},
		{under, "a\xff", BadTopic},
		{under, long, BadTopic},
		{under, strings.Repeat("/", 2000), BadTopic},
		{under, "$SYS/x", NoMap},
		{under, "$share/g/t", NoMap},
		{under, "a\r\nb", Mapped},
		{everything, "wamp/x", BadTopic},
		{everything, "wamp", BadTopic},
	} {
		if _, d := c.table.toWAMP(c.topic, nil, false); d.Reason != c.want {
			t.Errorf("topic %q: %v, want %v", clip(c.topic), d.Reason, c.want)
		}
	}
	for _, c := range []struct {
		table *Table
		uri   string
		want  Reason
	}{
		{under, "mqtt", BadURI}, // no topic has no level
		{under, "mqtt.a/b", BadURI},
		{under, "mqtt.a+", BadURI},
		{under, "mqtt.%4", BadURI},
		{under, "mqtt.%41", BadURI},
		{under, "mqtt.$SYS.x", BadURI},
		{under, "other", NoMap},
		{under, "", BadURI},
		{under, "mqtt..x", BadURI},
		{under, "mqtt.a b", BadURI},
		{under, "mqtt." + long, BadURI},
		{everything, "wamp.session.on_join", NoMap},
		{everything, "wamp", NoMap},
	} {
		if _, d := c.table.ToMQTT(c.uri, wamp.Payload{}, false, time.Time{}); d.Reason != c.want {
			t.Errorf("URI %q: %v, want %v", clip(c.uri), d.Reason, c.want)
		}
	}
}

func TestFirstMatchWinsAndExcept(t *testing.T) {
	table := tableOf(t,
		mapOf(Both, "s/{x}", "first.{x}", func(m *Map) { m.Except = []string{"first.debug"} }),
		mapOf(Both, "s/{x...}", "second.{x...}"),
	)
	for topic, uri := range map[string]string{"s/a": "first.a", "s/debug": "second.debug", "s/a/b": "second.a.b"} {
		if e, d := table.toWAMP(topic, nil, false); e.Topic != uri {
			t.Errorf("%q becomes %q (%v), want %q", topic, e.Topic, d.Reason, uri)
		}
	}
	if m, d := table.ToMQTT("first.debug", wamp.Payload{}, false, time.Time{}); d.Reason != NoMap {
		t.Errorf("first.debug becomes %q", m.Topic)
	}
}

func TestRetain(t *testing.T) {
	for _, c := range []struct {
		policy     string
		flag, want bool
	}{{RetainKeep, true, true}, {RetainKeep, false, false}, {RetainDrop, true, false}, {RetainAlways, false, true}} {
		table := tableOf(t, mapOf(Both, "a/{x}", "b.{x}", func(m *Map) { m.Retain = c.policy }))
		e, _ := table.toWAMP("a/1", []byte("1"), c.flag)
		m, _ := table.ToMQTT("b.1", payload(t, wamp.List{true}, nil), c.flag, time.Time{})
		if e.Retain != c.want || m.Retain != c.want {
			t.Errorf("%s, flag %v: in %v, out %v, want %v", c.policy, c.flag, e.Retain, m.Retain, c.want)
		}
	}
	table := tableOf(t, mapOf(Both, "a/{x}", "b.{x}"))
	if e, _ := table.toWAMP("a/1", nil, true); !e.Retain || e.Payload.Size() != 0 {
		t.Errorf("an empty retained message becomes %+v, want a retained event without arguments", e)
	}
	if m, _ := table.ToMQTT("b.1", wamp.Payload{}, true, time.Time{}); !m.Retain || len(m.Payload) != 0 {
		t.Errorf("a retained event without arguments becomes %+v, want an empty retained message", m)
	}
}

func TestSubscriptionsNeeded(t *testing.T) {
	exact, prefix, wildcard := wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard
	for _, c := range []struct {
		maps    []Map
		filters []Filter
		subs    []Subscription
	}{
		{
			[]Map{mapOf(Both, "a/{x}/c", "com.{x}.c")},
			[]Filter{{"a/+/c", 1}},
			[]Subscription{{"com..c", wildcard}},
		},
		{
			[]Map{mapOf(Both, "a/{x...}", "com.a.{x...}")},
			[]Filter{{"a/#", 1}},
			[]Subscription{{"com.a", exact}, {"com.a.", prefix}},
		},
		{
			[]Map{mapOf(Both, "{s}/{x...}", "com.{s}.{x...}")},
			[]Filter{{"+/#", 1}},
			[]Subscription{{"com.", prefix}},
		},
		{
			[]Map{mapOf(Both, "{x...}", "{x...}")},
			[]Filter{{"#", 1}},
			[]Subscription{{"", prefix}},
		},
		{ // covered ones are left out, and the widest asks for the highest QoS
			[]Map{
				mapOf(Both, "a/b", "com.a.b", func(m *Map) { m.QoS = 2 }),
				mapOf(Both, "a/{x}", "com.a.{x}"),
				mapOf(Both, "a/{x...}", "com.{x...}", func(m *Map) { m.QoS = 0 }),
			},
			[]Filter{{"a/#", 2}},
			[]Subscription{{"com", exact}, {"com.", prefix}},
		},
		{DefaultConfig().Maps, []Filter{{"#", 1}}, []Subscription{{"mqtt.", prefix}, {"device..", wildcard}}},
	} {
		for i := range c.maps {
			c.maps[i].Brokers = nil
		}
		table := tableOf(t, c.maps...)
		if got := table.MQTTFilters(); !reflect.DeepEqual(got, c.filters) {
			t.Errorf("%v: filters %v, want %v", c.maps, got, c.filters)
		}
		if got := table.WAMPPatterns(); !reflect.DeepEqual(got, c.subs) {
			t.Errorf("%v: subscriptions %v, want %v", c.maps, got, c.subs)
		}
	}
}

func TestOwns(t *testing.T) {
	all := []Subscription{{"a..c", wamp.MatchWildcard}, {"a.b.", wamp.MatchPrefix}}
	if !Owns(all, 0, "a.b.c") || Owns(all, 1, "a.b.c") || !Owns(all, 1, "a.b.d") {
		t.Error("one event must be handled by exactly one of the subscriptions that receive it")
	}
}

func TestMapProblems(t *testing.T) {
	for _, c := range []struct {
		m    Map
		path string
		want string
	}{
		{mapOf(In, "a/+", "b"), "maps[0].mqtt", "no topic has"},
		{mapOf(In, "a", "wamp.x"), "maps[0].wamp", "belongs to the router"},
		{mapOf(In, "a", "b c"), "maps[0].wamp", "no URI has"},
		{mapOf(In, "a/{x}", "b.{y}"), "maps[0].wamp", "does not capture"},
		{mapOf(Out, "a/{x}", "b"), "maps[0].mqtt", "does not capture"},
		{mapOf(Both, "a/{x}/{y}", "b.{x}"), "maps[0].mqtt", "does not capture"},
		{mapOf(Both, "a/{x...}", "b.{x}"), "maps[0].wamp", "has {x}"},
		{mapOf(In, "a", "b", func(m *Map) { m.Except = []string{"c.{"} }), "maps[0].except[0]", "write a capture"},
		{mapOf(In, "a", "b", func(m *Map) { m.Codec.Type = "xml" }), "maps[0].codec", "not known"},
		{mapOf(In, "a", "b", func(m *Map) { m.Codec.Type, m.Into = "text", IntoKwArgs }), "maps[0].codec", "args only"},
		{mapOf(In, "a", "b", func(m *Map) { m.Codec = Codec{Type: "bool", True: "1", False: "1"} }), "maps[0].codec", "two different words"},
	} {
		_, ps := NewTable("b", []Map{c.m}, wamp.LooseURIs, codec.CBOR)
		if len(ps) == 0 || !ps[0].Fatal || ps[0].Path != c.path || !strings.Contains(ps[0].Message, c.want) {
			t.Errorf("%s ↔ %s: %v, want %s … %q", c.m.MQTT, c.m.WAMP, ps, c.path, c.want)
		}
	}
}

func TestOverlapReported(t *testing.T) {
	for _, c := range []struct {
		maps []Map
		want []string
	}{
		{[]Map{mapOf(In, "a/{x}", "b.{x}"), mapOf(In, "a/1", "c")}, []string{"maps[1].mqtt is never reached"}},
		{[]Map{mapOf(In, "a/1", "c"), mapOf(In, "a/{x}", "b.{x}")}, []string{"maps[1].mqtt overlaps"}},
		{[]Map{mapOf(Out, "a/1", "c"), mapOf(In, "a/{x}", "b.{x}")}, nil},
		{[]Map{mapOf(Out, "a/{x}", "c.{x}"), mapOf(Out, "b/{y}", "c.{y}")}, []string{"maps[1].wamp is never reached"}},
		{[]Map{mapOf(Out, "a/{x}", "c.{x}", func(m *Map) { m.Except = []string{"c.d"} }), mapOf(Out, "b", "c.d")}, nil},
		{[]Map{mapOf(In, "a/{x}", "b.{x}"), mapOf(In, "{y}/b", "c.{y}")}, []string{"maps[1].mqtt overlaps", "maps need the subscriptions"}},
	} {
		_, ps := NewTable("b", c.maps, wamp.LooseURIs, codec.CBOR)
		if len(ps) != len(c.want) {
			t.Errorf("%v: %v, want %v", c.maps, ps, c.want)
			continue
		}
		for i := range ps {
			if ps[i].Fatal || !strings.HasPrefix(ps[i].String(), c.want[i]) {
				t.Errorf("%v: %v, want %v", c.maps, ps[i], c.want[i])
			}
		}
	}
}

func TestDefaultConfigIsSound(t *testing.T) {
	cfg := DefaultConfig()
	if ps := cfg.Check(wamp.LooseURIs); len(ps) > 0 {
		t.Errorf("problems in the defaults: %v", ps)
	}
	cfg.Validate(func(path, problem, hint string) { t.Errorf("%s: %s (%s)", path, problem, hint) })
}

func broker(name string, urls ...string) BrokerConfig {
	var b BrokerConfig
	b.SetDefaults()
	b.Name, b.URLs = name, urls
	return b
}

func TestLoops(t *testing.T) {
	on := func(name string) func(*Map) { return func(m *Map) { m.Brokers = []string{name} } }
	for _, c := range []struct {
		name    string
		brokers []BrokerConfig
		maps    []Map
		cycle   string // "" for none
	}{
		{"one broker, two-way", []BrokerConfig{broker("a", "tcp://h:1883")}, []Map{mapOf(Both, "s/{x}", "s.{x}")}, ""},
		{"a hub of two brokers", []BrokerConfig{broker("a", "tcp://h1"), broker("b", "tcp://h2")}, []Map{mapOf(Both, "s/{x}", "s.{x}")}, ""},
		{
			"one broker twice",
			[]BrokerConfig{broker("a", "tcp://localhost:1883"), broker("b", "mqtt://127.0.0.1")},
			[]Map{mapOf(Both, "s/{x}", "s.{x}")},
			`a "s/{x}" → (map s/{x}|s.{x}) s.{x}`,
		},
		{
			"growing topics",
			[]BrokerConfig{broker("a", "tcp://h"), broker("b", "tcp://H:1883")},
			[]Map{mapOf(In, "s/{x...}", "s.{x...}", on("a")), mapOf(Out, "s/deeper/{x...}", "s.{x...}", on("b"))},
			"", // b's message comes in at a, whose event goes out at b again
		},
		{
			"one broker twice, one way",
			[]BrokerConfig{broker("a", "tcp://h"), broker("b", "tcp://h")},
			[]Map{mapOf(In, "s/{x}", "s.{x}", on("a")), mapOf(Out, "t/{x}", "s.{x}", on("b"))},
			"",
		},
		{
			"the embedded broker, reached from outside",
			[]BrokerConfig{broker("a", "tcp://[::1]:1884")},
			[]Map{mapOf(Both, "s/{x}", "s.{x}")},
			"embedded",
		},
		{
			"three entries, two brokers",
			[]BrokerConfig{broker("a", "tcp://h"), broker("b", "tcp://i"), broker("c", "tcp://h", "tcp://i")},
			[]Map{mapOf(Both, "s/{x}", "s.{x}")},
			"loop",
		},
	} {
		cfg := Config{Brokers: c.brokers, Maps: c.maps, EmbeddedAt: []string{":1884"}}
		var fatal []Problem
		for _, p := range cfg.Check(wamp.LooseURIs) {
			if p.Fatal {
				fatal = append(fatal, p)
			}
		}
		if c.name == "growing topics" {
			c.cycle = `s/deeper/{x...}`
		}
		if (len(fatal) > 0) != (c.cycle != "") || len(fatal) > 0 && !strings.Contains(fatal[0].Message, c.cycle) {
			t.Errorf("%s: %v, want a cycle with %q", c.name, fatal, c.cycle)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Brokers[0].Name = "a b" }, "brokers[0].name"},
		{func(c *Config) { c.Brokers[0].Name = Embedded }, "brokers[0].name"},
		{func(c *Config) { c.Brokers = append(c.Brokers, c.Brokers[0]) }, "brokers[1].name"},
		{func(c *Config) { c.Brokers[0].URLs = nil }, "brokers[0].urls"},
		{func(c *Config) { c.Brokers[0].URLs = []string{"ftp://x"} }, "brokers[0].urls[0]"},
		{func(c *Config) { c.Brokers[0].URLs = []string{"tcp://u:p@x"} }, "brokers[0].urls[0]"},
		{func(c *Config) { c.Brokers[0].Password = "x" }, "brokers[0].username"},
		{func(c *Config) { c.Brokers[0].ClientID = "" }, "brokers[0].client_id"},
		{func(c *Config) { c.Brokers[0].TLS.Key = "x" }, "brokers[0].tls"},
		{func(c *Config) { c.Brokers[0].Reconnect.Max = 1 }, "brokers[0].reconnect.max"},
		{func(c *Config) { c.Brokers[0].Status.Topic = "a/#" }, "brokers[0].status.topic"},
		{func(c *Config) { c.Maps[0].Brokers = []string{"nobody"} }, "maps[0].brokers[0]"},
		{func(c *Config) { c.Maps[0].Direction = "up" }, "maps[0].direction"},
		{func(c *Config) { c.Maps[0].QoS = 3 }, "maps[0].qos"},
		{func(c *Config) { c.Maps[0].WAMP = "wamp.x" }, "maps[0].wamp"},
		{func(c *Config) { c.Maps = append(c.Maps, c.Maps[0]) }, "maps[1].name"},
	} {
		cfg := Config{Brokers: []BrokerConfig{broker("a", "tcp://h")}, Maps: []Map{mapOf(In, "s/{x}", "s.{x}")}}
		cfg.Validate(func(path, problem, hint string) { t.Errorf("sound, but %s: %s", path, problem) })
		c.change(&cfg)
		var got []string
		cfg.Validate(func(path, problem, hint string) { got = append(got, path) })
		if len(got) == 0 || got[0] != c.want {
			t.Errorf("reported %v, want %s", got, c.want)
		}
	}
}

// FuzzTable checks that names cross reversibly whatever they are, and that
// nothing panics.
func FuzzTable(f *testing.F) {
	for _, s := range []string{"a/b", "/", "a//b", "$SYS/x", "x.y/%", "com.site.a", "a+b", "\xff/\x00", "mqtt.%.%25"} {
		f.Add(s, []byte(`{"a":1}`))
	}
	table := tableOf(f, mapOf(Both, "v1/{site}/{rest...}", "com.{site}.{rest...}"), mapOf(Both, "{t...}", "mqtt.{t...}"))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		if e, d := table.toWAMP(name, body, true); d.Reason == Mapped {
			if !wamp.LooseURIs.ValidURI(e.Topic) || wamp.Reserved(e.Topic) {
				t.Fatalf("%q becomes %q", name, e.Topic)
			}
			if m, d := table.ToMQTT(e.Topic, e.Payload, true, time.Time{}); d.Reason != Mapped || m.Topic != name {
				t.Fatalf("%q becomes %q becomes %q (%v)", name, e.Topic, m.Topic, d.Reason)
			}
		}
		if m, d := table.ToMQTT(name, wamp.Payload{}, false, time.Time{}); d.Reason == Mapped {
			if !validTopic(m.Topic) {
				t.Fatalf("%q becomes %q", name, m.Topic)
			}
			if e, d := table.toWAMP(m.Topic, nil, false); d.Reason != Mapped || e.Topic != name {
				t.Fatalf("%q becomes %q becomes %q (%v)", name, m.Topic, e.Topic, d.Reason)
			}
		}
	})
}

func benchTable(b *testing.B) *Table {
	var maps []Map
	for i := range 20 {
		maps = append(maps, mapOf(Both, fmt.Sprintf("site%d/{id}/{rest...}", i), fmt.Sprintf("com.site%d.{id}.{rest...}", i)))
	}
	return tableOf(b, maps...)
}

func BenchmarkToMQTT(b *testing.B) {
	table, p := benchTable(b), payload(b, wamp.List{21.5}, wamp.Dict{"unit": "Cel", "seq": int64(7)})
	b.ReportAllocs()
	for b.Loop() {
		if _, d := table.ToMQTT("com.site10.thermo.temperature.now", p, false, time.Time{}); d.Reason != Mapped {
			b.Fatal(d)
		}
	}
}

func BenchmarkToWAMP(b *testing.B) {
	table, p := benchTable(b), []byte(`{"temperature":21.5,"unit":"Cel"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, d := table.toWAMP("site10/thermo/temperature/now", p, false); d.Reason != Mapped {
			b.Fatal(d)
		}
	}
}
