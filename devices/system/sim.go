package system

import (
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// idle is what a simulated machine measures: a Raspberry Pi with little to do.
var idle = map[string]any{
	"cpu_temperature": 48.3, "cpu_used": 3.5, "load1": 0.12, "load5": 0.1, "load15": 0.08,
	"memory_used": 21.4, "memory_available": int64(3) << 30, "disk_used": 32.0, "disk_free": int64(20) << 30,
	"throttled": false, "card_used": 10, "card_end": "normal", "network_up": true, "network_received": 1 << 20, "network_sent": 1 << 19,
}

var simulatedStart = time.Now()

// simulate publishes the values of the idle machine; its uptime is the
// process's.
func simulate(now time.Time, out devices.Outlet) {
	for _, r := range readings {
		if v, ok := idle[r.Name]; ok {
			out.Emit(r.Name, v, devices.Sample{Time: now})
		}
	}
	out.Emit("throttling", wamp.Dict{"flags": 0, "under_voltage": false}, devices.Sample{Time: now})
	out.Emit("network", wamp.Dict{"eth0": wamp.Dict{"state": "up"}}, devices.Sample{Time: now})
	out.Emit("uptime", now.Sub(simulatedStart).Seconds(), devices.Sample{Time: now})
}
