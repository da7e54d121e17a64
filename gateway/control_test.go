//go:build unix

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

const controlled = `
listen: {http: [], rawsocket: "127.0.0.1:0"}
realms: [{name: realm1, anonymous: full}]
devices:
  list:
    - name: fans
      type: pca9685
      bus: sim
      channels: [{name: exhaust, channel: 0, kind: pwm, safe: "20"}]
      control: {hold: true}
    - name: drive
      type: modbus-rtu
      port: sim
      unit: 1
      interval: 50ms
      registers: [{name: run, table: coil, address: 3, access: read-write, safe: 0}]
      control: {lease: 1s}
    - name: valve
      type: serial-lines
      port: %s
      safe: "CLOSE"
      control: {hold: true, lease: 1h}
`

// Actuators behind a bus, a Modbus line and a serial line are in their safe
// state when the session that commanded them has left, or has not renewed its
// lease.
func TestControlledActuators(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	lines := make(chan string, 16)
	go func() { // ends with the terminal
		defer close(lines)
		for s := bufio.NewScanner(master); s.Scan(); {
			lines <- s.Text()
		}
	}()
	cfg, err := config.Parse("controlled.yaml", fmt.Appendf(nil, controlled, slave.Name()), t.TempDir(), all.Table())
	if err != nil {
		t.Fatal(err)
	}
	u := start(t, cfg)
	url := "rs://" + u.Addresses().RawSocket[0].String()
	user, watcher := dial(t, url), dial(t, url)
	awaitLine := func(want string) {
		t.Helper()
		for {
			select {
			case line := <-lines:
				if line == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("the terminal never got %q", want)
			}
		}
	}
	awaitLine("CLOSE") // before anything is accepted
	call := func(procedure string, args ...any) {
		t.Helper()
		if _, err := user.Call(t.Context(), procedure, args, nil); err != nil {
			t.Fatalf("%s: %v", procedure, err)
		}
	}
	becomes := func(device, reading string, want any) {
		t.Helper()
		var have wamp.Dict
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			r, err := watcher.Call(t.Context(), "device."+device+".get", client.Args{reading}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if have, _ = r.Args[0].(wamp.Dict); fmt.Sprint(have["value"]) == fmt.Sprint(want) {
				return
			}
		}
		t.Fatalf("%s.%s is %v, want %v", device, reading, have, want)
	}
	becomes("drive", "run", false)
	call("device.fans.set", "exhaust", 80)
	call("device.drive.set_run", true)
	call("device.valve.write", "OPEN")
	awaitLine("OPEN")
	becomes("fans", "exhaust", 80)
	becomes("drive", "run", false) // the lease ends
	if err := user.Close(context.Background()); err != nil && !strings.Contains(err.Error(), "closed") {
		t.Fatal(err)
	}
	becomes("fans", "exhaust", 20)
	awaitLine("CLOSE")
}
