package bridge

import (
	"fmt"
	"strings"

	"github.com/postern-iot/postern/bridge/homeassistant"
)

// Discovery is one broker whose discovery messages become described devices.
type Discovery struct {
	Broker  string `yaml:"broker" short:"true" doc:"The broker at which the fleet is: the name of an entry of brokers; embedded by default."`
	URI     string `yaml:"uri" doc:"What the devices' URIs begin with."`
	Prefix  string `yaml:"prefix" doc:"What the topics of Home Assistant's discovery begin with."`
	Tasmota string `yaml:"tasmota" doc:"Where Tasmota's own discovery messages are; empty for not looking at them."`

	MaxEntities int `yaml:"max_entities" min:"1" max:"100000" doc:"Most entities, that is values and controls of devices, that are taken."`
	MaxBytes    int `yaml:"max_bytes" unit:"bytes" min:"1KiB" max:"1GiB" doc:"Most that is remembered of their descriptions."`
}

// SetDefaults fills in what the file need not say.
func (d *Discovery) SetDefaults() {
	d.Broker, d.URI, d.Prefix = orElse(d.Broker, Embedded), orElse(d.URI, "found"), orElse(d.Prefix, "homeassistant")
	d.Tasmota = orElse(d.Tasmota, homeassistant.TasmotaPrefix)
	d.MaxEntities, d.MaxBytes = 5000, 16<<20
}

// discoveryLane is the name of what is counted of it.
const discoveryLane = "discovery"

func (c *Config) validateFound(brokers map[string]int, names map[string]bool, report func(path, problem, hint string)) {
	taken, uris := map[string]bool{}, map[string]bool{}
	for i, d := range c.Discovery {
		path := fmt.Sprintf("discovery[%d].", i)
		if _, ok := brokers[d.Broker]; !ok {
			report(path+"broker", fmt.Sprintf("there is no broker %q", d.Broker), "use the name of an entry of brokers, or embedded")
		}
		if taken[d.Broker] {
			report(path+"broker", fmt.Sprintf("%q has an entry already", d.Broker), "one entry is enough for a broker")
		}
		if uris[d.URI] {
			report(path+"uri", fmt.Sprintf("%q is another entry's", d.URI), "give every broker's devices a prefix of their own")
		}
		taken[d.Broker], uris[d.URI] = true, true
		for _, part := range strings.Split(d.URI, ".") {
			if !validName(part) {
				report(path+"uri", fmt.Sprintf("%q is no URI", d.URI), "use letters, digits and _, with dots in between, such as found")
				break
			}
		}
		if first, _, _ := strings.Cut(d.URI, "."); first == "wamp" || first == "postern" || d.URI == c.DevicePrefix {
			report(path+"uri", fmt.Sprintf("%q is the gateway's own", d.URI), "use another, such as found")
		}
		for key, topic := range map[string]string{"prefix": d.Prefix, "tasmota": d.Tasmota} {
			if topic == "" && key == "tasmota" {
				continue
			}
			if !validTopic(topic) || strings.HasPrefix(topic, "$") {
				report(path+key, fmt.Sprintf("%q is not a topic", topic), "a topic has no + and no #, and begins with a letter")
			}
		}
		if names[discoveryLane] {
			report(path+"broker", fmt.Sprintf("a map is called %q, as what is counted of discovery", discoveryLane), "give the map another name")
		}
	}
}
