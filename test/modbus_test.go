//go:build system

package test

import (
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/creack/pty"
)

// TestModbus: the gateway's own binary reads and writes a unit of pymodbus, on
// two pseudo-terminals with their ends tied together.
func TestModbus(t *testing.T) {
	near, nearTTY, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	far, farTTY, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{near, nearTTY, far, farTTY} {
			c.Close()
		}
	})
	go io.Copy(near, far)
	go io.Copy(far, near)
	unit := exec.Command("/usr/bin/python3", "clients/modbus_unit.py", farTTY.Name())
	if err := unit.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unit.Process.Kill(); unit.Wait() })
	g := run(t, fmt.Sprintf(`
listen:
  http: 127.0.0.1:{{http}}
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - name: meter
      type: modbus-rtu
      port: %s
      baud: 19200
      unit: 3
      interval: 200ms
      registers:
        - {name: voltage, table: input, address: 0, type: f32, unit: V}
        - {name: door, table: discrete, address: 5}
        - {name: limit, address: 20, type: i16, scale: 0.1, access: read-write, min: 0, max: 32, verify: true}
        - {name: relay, table: coil, address: 3, access: read-write, verify: true}
        - {name: total, address: 40, type: u32, order: CDAB, access: read-write, verify: true}
`, nearTTY.Name()))
	c := start(t, "autobahn.js")
	c.connect(g.url("ws"), "json")
	until(t, "the unit answers", func() bool {
		status, _ := c.call("device.meter.status").Args[0].(map[string]any)
		return status["state"] == "ready"
	})
	for uri, v := range map[string]any{"set_limit": 16.5, "set_relay": true, "set_total": 70000.0} {
		if have := c.call("device.meter."+uri, v); fmt.Sprint(have.Args) != fmt.Sprint([]any{v}) {
			t.Errorf("%s %v: %v", uri, v, have.Args)
		}
	}
	have := fmt.Sprint(c.call("device.meter.read", "holding", 40, 2).Args)
	if have != "[map[values:[4464 1]]]" {
		t.Errorf("70000 with the low word first: %s", have)
	}
	c.subscribe("device.meter.voltage", "exact")
	c.wait("the voltage", func(e event) bool {
		v, _ := e.Args[0].(float64)
		return e.Topic == "device.meter.voltage" && v > 123.4559 && v < 123.4561
	})
}
