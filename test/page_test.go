//go:build system

package test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestPage looks at the page in a real browser: every device is there with
// live values, a button switches the relay, and nothing complains.
func TestPage(t *testing.T) {
	mqtt, station := startFleet(t), plugSensor(t)
	g := run(t, fmt.Sprintf(site, station.path, mqtt.port))
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
	if want := []string{"door", "host", "lost", "pump", "relay", "sun", "weather", "plant", "embedded"}; !slices.Equal(saw.Cards, want) {
		t.Errorf("cards %q, want %q", saw.Cards, want)
	}
	// The brokers come last, each with its state.
	if n := len(saw.States); n < 2 || saw.States[n-2] != "online" || saw.States[n-1] != "online" {
		t.Errorf("states %q, want the brokers online", saw.States)
	}
	g.terminate()
}
