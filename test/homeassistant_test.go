//go:build system

package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// homeAssistant is what Home Assistant's MQTT integration does: it keeps the
// configs, and follows and commands what they describe.
type homeAssistant struct {
	t      *testing.T
	client paho.Client

	mu      sync.Mutex
	configs map[string]map[string]any
	states  map[string]string
	heard   int // configs, again or new
}

func (f *fleet) homeAssistant() *homeAssistant {
	f.t.Helper()
	h := &homeAssistant{t: f.t, client: f.plug("homeassistant"), configs: map[string]map[string]any{}, states: map[string]string{}}
	f.done(h.client.Subscribe("postern/gw/#", 1, func(_ paho.Client, m paho.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.states[m.Topic()] = string(m.Payload())
	}))
	f.done(h.client.Subscribe("homeassistant/+/+/+/config", 1, func(_ paho.Client, m paho.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heard++
		delete(h.configs, m.Topic())
		var c map[string]any
		if json.Unmarshal(m.Payload(), &c) == nil {
			h.configs[m.Topic()] = c
		}
	}))
	f.done(h.client.Publish("homeassistant/status", 1, false, "online"))
	return h
}

// entity waits for one that is available, and returns its config.
func (h *homeAssistant) entity(topic string) map[string]any {
	h.t.Helper()
	var c map[string]any
	until(h.t, topic+" is announced and available", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		c = h.configs[topic]
		if c == nil {
			return false
		}
		for _, a := range c["availability"].([]any) {
			says := h.states[a.(map[string]any)["topic"].(string)]
			if says != "online" && !strings.Contains(says, `"value":"ready"`) {
				return false
			}
		}
		return true
	})
	return maps.Clone(c)
}

// is waits for an entity's value, as value_json.value has it.
func (h *homeAssistant) is(c map[string]any, value string) {
	h.t.Helper()
	topic := c["state_topic"].(string)
	until(h.t, topic+" is "+value, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.Contains(h.states[topic], `"value":`+value)
	})
}

// TestHomeAssistant: it finds the gateway's devices, switches the pump, and has
// them again after each of the three has been started anew.
func TestHomeAssistant(t *testing.T) {
	mqtt := startFleet(t)
	config := plantSite + fmt.Sprintf(`
devices:
  list:
    - {name: pump, type: sim-relay}
    - {name: tank, type: sim-walk, reading: level, interval: 50ms}
mqtt: {enabled: false}
bridge:
  brokers:
    - {name: plant, urls: ["tcp://127.0.0.1:%d"]}
  homeassistant:
    - {broker: plant, node: gw, base: postern/gw, role: operator}
`, mqtt.port)
	g := run(t, config)
	const pump, tank = "homeassistant/switch/gw/pump-set/config", "homeassistant/sensor/gw/tank-level/config"
	h := mqtt.homeAssistant()
	c := h.entity(pump)
	h.is(c, "false")
	mqtt.done(h.client.Publish(c["command_topic"].(string), 1, false, c["payload_on"]))
	h.is(c, "true")
	level := h.entity(tank)
	h.is(level, "")

	h.mu.Lock()
	before := h.heard
	h.mu.Unlock()
	mqtt.done(h.client.Publish("homeassistant/status", 1, false, "online"))
	until(t, "everything is announced again", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.heard >= before+len(h.configs)
	})

	mqtt.cmd.Process.Kill()
	<-mqtt.process.done
	mqtt.start()
	h = mqtt.homeAssistant()
	h.is(h.entity(pump), "true")
	h.entity(tank)

	// The gateway comes back without its tank.
	g.terminate()
	until(t, "the gateway is away", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.states["postern/gw/status"] == "offline"
	})
	g = run(t, strings.Replace(config, "    - {name: tank, type: sim-walk, reading: level, interval: 50ms}\n", "", 1))
	h.is(h.entity(pump), "false")
	until(t, "the tank is forgotten", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.configs[tank] == nil
	})
	g.terminate()
}
