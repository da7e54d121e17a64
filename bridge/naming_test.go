package bridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
)

func TestNaming(t *testing.T) {
	mk := func(direction, mqtt, uri string) Map {
		m := Map{Name: mqtt, Direction: direction, MQTT: mqtt, WAMP: uri}
		m.SetDefaults()
		return m
	}
	fleet := []Map{
		mk(In, "tele/{dev}/SENSOR", "site.{dev}.sensor"), mk(Both, "state/{k...}", "site.state.{k...}"),
		mk(Out, "gw/{d}/{r}", "device.{d}.{r}"), mk(In, "b/{x}/{y}", "swap.{y}.{x}"),
	}
	for _, c := range []struct {
		maps   []Map
		filter string
		want   string // = exact, > prefix, * wildcard
	}{
		{nil, "a/b", "=mqtt.a.b"},
		{nil, "a.b/c", "=mqtt.a%2Eb.c"},
		{nil, "#", ">mqtt."},
		{nil, "a/#", ">mqtt.a."},
		{nil, "+/b", "*mqtt..b"},
		{nil, "+/b/#", ">mqtt."},
		{nil, "$SYS/#", ">mqtt.$SYS."},
		{nil, "", ""},
		{nil, "a\x00", ""},
		{DefaultConfig().Maps, "a/b", "=mqtt.a.b"},
		{DefaultConfig().Maps, "#", ">mqtt. *device.."},
		{DefaultConfig().Maps, "device/thermo/+", "*mqtt.device.thermo. *device.thermo."},
		{DefaultConfig().Maps, "device/thermo/temp", "=mqtt.device.thermo.temp =device.thermo.temp"},
		{fleet, "tele/kitchen/SENSOR", "=site.kitchen.sensor"},
		{fleet, "tele/+/SENSOR", "*site..sensor"},
		{fleet, "tele/kitchen/STATE", "=mqtt.tele.kitchen.STATE"},
		{fleet, "tele/#", "*site..sensor >mqtt.tele."},
		{fleet, "state/#", ">site.state."},
		{fleet, "state", "=site.state"},
		{fleet, "state/a/b", "=site.state.a.b"},
		{fleet, "gw/x/y", "=device.x.y"},
		{fleet, "b/1/+", "*swap..1"},
		{fleet, "b/1/2", "=swap.2.1"},
		{fleet, "b/1/2/3", "=mqtt.b.1.2.3"},
	} {
		var got []string
		for _, s := range NewNaming(Embedded, c.maps, wamp.LooseURIs).Names(c.filter) {
			got = append(got, map[wamp.Match]string{wamp.MatchExact: "=", wamp.MatchPrefix: ">", wamp.MatchWildcard: "*"}[s.Match]+s.Pattern)
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%q: %s, want %s", c.filter, g, c.want)
		}
	}
}

// FuzzNaming: whatever a filter matches goes by names that the filter's names
// include, so that no subscription is granted beyond what its topics are.
func FuzzNaming(f *testing.F) {
	for _, s := range []string{"a/b|a/+", "tele/x/SENSOR|tele/#", "gw/a/b|+/a/#", "state|state/#", "state/a//b|state/+/#", "b/1/2|b/+/+", "x|#", "/|+/+"} {
		topic, filter, _ := strings.Cut(s, "|")
		f.Add(topic, filter)
	}
	var namings []*Naming
	for _, maps := range [][]Map{nil, DefaultConfig().Maps, {
		{Name: "1", Direction: In, MQTT: "tele/{dev}/SENSOR", WAMP: "site.{dev}.sensor"},
		{Name: "2", Direction: Both, MQTT: "state/{k...}", WAMP: "site.state.{k...}"},
		{Name: "3", Direction: Out, MQTT: "gw/{d}/{r...}", WAMP: "device.{d}.{r...}"},
		{Name: "4", Direction: In, MQTT: "b/{x}/{y}", WAMP: "swap.{y}.{x}"},
	}} {
		for i := range maps {
			maps[i].SetDefaults()
		}
		namings = append(namings, NewNaming(Embedded, maps, wamp.LooseURIs))
	}
	f.Fuzz(func(t *testing.T, topic, filter string) {
		if strings.ContainsAny(topic, "+#") || !(Filter{Topic: filter}).Matches(topic) {
			return
		}
		for i, n := range namings {
			wide := n.Names(filter)
			for _, name := range n.Names(topic) {
				included := wide == nil
				for _, w := range wide {
					included = included || w.Match.Matches(w.Pattern, name.Pattern) || w.Match == wamp.MatchPrefix && w.Pattern == name.Pattern+"."
				}
				if !included {
					t.Errorf("naming %d: %q goes by %v, but %q by %s", i, topic, name, filter, fmt.Sprint(wide))
				}
			}
		}
	})
}
