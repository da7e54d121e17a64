//go:build system

package test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestRetained: what is retained on one side is retained on the other, for
// those who listen already and for those who come later.
func TestRetained(t *testing.T) {
	mqtt, station := startFleet(t), plugSensor(t)
	mqtt.publish("state/before", `"early"`, "-r") // before the gateway was there
	g := run(t, fmt.Sprintf(site, station.path, mqtt.port))
	postern := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(posternBinary, append(args, "--url", g.url("rs"))...).CombinedOutput()
		if err != nil {
			t.Fatalf("postern %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}

	// WAMP to MQTT: mosquitto_sub -W ends after the first message, which a late
	// subscriber gets only when it was retained.
	postern("publish", "site.state.lamp", `"bright"`, "--retain")
	late := mqtt.subscribe("state/lamp")
	receive(t, late, "the retained state", func(m string) bool { return m == `state/lamp "bright"` })

	// A plain event is not retained: a late subscriber gets the next one first.
	postern("publish", "site.state.plain", `"gone"`)
	until(t, "the plain event has passed", func() bool {
		return strings.Contains(postern("call", "postern.bridge.status", "plant"), `"queued":0`)
	})
	late = mqtt.subscribe("state/plain")
	postern("publish", "site.state.plain", `"next"`)
	receive(t, late, "the plain event", func(m string) bool {
		if strings.Contains(m, "gone") {
			t.Error("a plain event was retained")
		}
		return m == `state/plain "next"`
	})

	// MQTT to WAMP: a session that asks for what is retained gets it.
	for _, c := range []struct{ key, want string }{{"before", "early"}, {"lamp", "bright"}} {
		until(t, c.key+" is retained in the realm", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			out, _ := exec.CommandContext(ctx, posternBinary, "subscribe", "site.state."+c.key, "--retained", "--count", "1", "--url", g.url("rs")).Output()
			return strings.Contains(string(out), c.want)
		})
	}
	g.terminate()
}
