//go:build system

package test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	wamptypes "github.com/postern-iot/postern/wamp"
	wamp "github.com/postern-iot/postern/wamp/client"
)

// describedSite lets whoever comes look at the fleet, and command none of it.
const describedSite = `
listen:
  http: {addresses: ["127.0.0.1:{{http}}"]}
  rawsocket: {addresses: ["127.0.0.1:{{raw}}"]}
realms:
  - name: realm1
    anonymous: looker
    roles:
      - name: looker
        permissions:
          - {uri: found., match: prefix, allow: [subscribe]}
          - {uri: found.list, allow: [call]}
          - {uri: found.esp000., match: prefix, allow: [call, subscribe]}
mqtt: {enabled: false}
bridge:
  brokers:
    - {name: plant, urls: ["tcp://127.0.0.1:%d"]}
  discovery: [plant]
`

// TestDescribedFleet has 300 devices of three makes describe themselves, and say
// a value each; with the permissions of a role that may command one of them.
func TestDescribedFleet(t *testing.T) {
	const each = 100
	mqtt := startFleet(t)
	dev := mqtt.plug("fleet")
	say := func(topic, payload string, retain bool) {
		t.Helper()
		mqtt.done(dev.Publish(topic, 1, retain, payload))
	}
	type saying struct{ topic, payload, uri, value string }
	var all []saying
	for n := range each {
		mac := fmt.Sprintf("DC4F22%06X", n)
		say("tasmota/discovery/"+mac+"/config", fmt.Sprintf(`{"dn":"T%d","fn":["Relay"],"hn":"t","mac":"%s","md":"Basic","ofln":"Offline","onln":"Online","state":["OFF","ON"],"sw":"13.1","t":"tas%d","ft":"%%prefix%%/%%topic%%/","tp":["cmnd","stat","tele"],"rl":[1],"ver":1}`, n, mac, n), true)
		all = append(all, saying{fmt.Sprintf("stat/tas%d/RESULT", n), `{"POWER":"ON"}`, "found." + fmt.Sprintf("dc4f22%06x", n) + ".power", "true"})

		ieee := fmt.Sprintf("0x00158d%06x", n)
		say("homeassistant/sensor/"+ieee+"/temperature/config", fmt.Sprintf(`{"device":{"identifiers":["zigbee2mqtt_%s"],"name":"th%d"},"device_class":"temperature","state_topic":"zigbee2mqtt/th%d","unit_of_measurement":"°C","value_template":"{{ value_json.temperature }}"}`, ieee, n, n), true)
		all = append(all, saying{fmt.Sprintf("zigbee2mqtt/th%d", n), fmt.Sprintf(`{"temperature":%d.5,"battery":90}`, n), "found.zigbee2mqtt_" + ieee + ".temperature", fmt.Sprintf("%d.5", n)})

		esp := fmt.Sprintf("esp%03d", n)
		say("homeassistant/switch/"+esp+"/pump/config", fmt.Sprintf(`{"name":"Pump","stat_t":"~/state","cmd_t":"~/command","~":"%s/switch/pump","dev":{"ids":"%[1]s"}}`, esp), true)
		all = append(all, saying{esp + "/switch/pump/state", "OFF", "found." + esp + ".pump", "false"})
	}
	g := run(t, fmt.Sprintf(describedSite, mqtt.port))
	sess, err := wamp.Dial(t.Context(), g.url("rs"), wamp.Config{Realm: "realm1", EventBuffer: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close(t.Context())
	var mu sync.Mutex
	got := map[string]string{}
	if _, err := sess.Subscribe(t.Context(), "found.", func(e *wamp.Event) {
		mu.Lock()
		defer mu.Unlock()
		if len(e.Args) > 0 {
			got[e.Topic] = fmt.Sprint(e.Args[0])
		}
	}, wamp.Pattern(wamptypes.MatchPrefix)); err != nil {
		t.Fatal(err)
	}
	until(t, "all are described", func() bool {
		r, err := sess.Call(t.Context(), "found.list", nil, nil)
		return err == nil && len(r.Args[0].([]any)) == 3*each
	})
	until(t, "every value has arrived", func() bool {
		missing := 0
		for _, s := range all {
			mu.Lock()
			is := got[s.uri] == s.value
			mu.Unlock()
			if !is {
				missing++
				say(s.topic, s.payload, false) // its topic may not be followed yet
			}
		}
		return missing == 0
	})
	commands := mqtt.subscribe("+/switch/pump/command")
	if _, err := sess.Call(t.Context(), "found.esp000.pump.set", []any{true}, nil); err != nil {
		t.Errorf("the pump that may be commanded: %v", err)
	}
	receive(t, commands, "the command", func(m string) bool { return m == "esp000/switch/pump/command ON" })
	var refused *wamptypes.Error
	if _, err := sess.Call(t.Context(), "found.esp001.pump.set", []any{true}, nil); !errors.As(err, &refused) || refused.URI != "wamp.error.not_authorized" {
		t.Errorf("a pump that may not be commanded: %v", err)
	}
	g.terminate()
}
