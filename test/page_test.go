//go:build system

package test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wamp "github.com/postern-iot/postern/wamp/client"
)

// TestPage looks at the page in a real browser: every device is there with
// live values, one that has described itself at the broker among them, a button switches the relay, and nothing complains.
func TestPage(t *testing.T) {
	mqtt, station := startFleet(t), plugSensor(t)
	const lamp = `{"cmd_t":"lamp/set","stat_t":"lamp/state","dev":{"ids":["lamp01"],"name":"Lamp"}}`
	mqtt.done(mqtt.plug("lamp").Publish("homeassistant/switch/lamp/relay/config", 1, true, lamp))
	g := run(t, strings.Replace(fmt.Sprintf(site, station.path, mqtt.port), "  maps:\n", "  discovery: [plant]\n  maps:\n", 1))
	sess, err := wamp.Dial(t.Context(), g.url("rs"), wamp.Config{Realm: "realm1"})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close(t.Context())
	until(t, "the lamp is found", func() bool {
		r, err := sess.Call(t.Context(), "found.list", nil, nil)
		return err == nil && strings.Contains(fmt.Sprint(r.Args), "lamp01")
	})
	picture := filepath.Join(t.TempDir(), "page.png")
	out, err := exec.Command("node", "clients/page.mjs", fmt.Sprintf("http://127.0.0.1:%d/", g.http), "relay", picture).CombinedOutput()
	if err != nil {
		t.Fatalf("the browser: %v\n%s", err, out)
	}
	var saw struct {
		Before, After, Title      string
		Cards, States, Complaints []string
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if saw.Before != "off" || saw.After != "on" {
		t.Errorf("the relay went from %q to %q, want off and on", saw.Before, saw.After)
	}
	if len(saw.Complaints) > 0 {
		t.Errorf("the browser complains: %q", saw.Complaints)
	}
	if want := []string{"door", "host", "lost", "pump", "relay", "sun", "weather", "lamp01", "plant", "embedded"}; !slices.Equal(saw.Cards, want) {
		t.Errorf("cards %q, want %q", saw.Cards, want)
	}
	// The brokers come last, each with its state.
	if n := len(saw.States); n < 2 || saw.States[n-2] != "online" || saw.States[n-1] != "online" {
		t.Errorf("states %q, want the brokers online", saw.States)
	}
	g.terminate()
}

const alarmingSite = `
listen:
  http: 127.0.0.1:{{http}}
  rawsocket: []
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - name: tank
      type: sim-square
      reading: level
      unit: "%"
      low: 40
      high: 95
      period: 6s
      readings:
        level:
          alarms: [{name: full, above: 90, hysteresis: 5}]
`

// TestPageAlarms looks at the page while an alarm is raised, cleared and raised
// again: it is listed as long as it is raised, with what it is about.
func TestPageAlarms(t *testing.T) {
	g := run(t, alarmingSite)
	out, err := exec.Command("node", "clients/alarms.mjs", fmt.Sprintf("http://127.0.0.1:%d/", g.http), "tank").CombinedOutput()
	if err != nil {
		t.Fatalf("the browser: %v\n%s", err, out)
	}
	var saw struct {
		Listed, Complaints []string
		Hidden             bool
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := []string{"level full: 95 is above 90 %"}; !slices.Equal(saw.Listed, want) || !saw.Hidden || len(saw.Complaints) > 0 {
		t.Errorf("saw %+v, want %q, then nothing", saw, want)
	}
	g.terminate()
}
