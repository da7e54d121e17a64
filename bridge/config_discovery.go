package bridge

import (
	"fmt"
	"strings"
)

// HomeAssistant is one broker at which Home Assistant is.
type HomeAssistant struct {
	Broker      string `yaml:"broker" short:"true" doc:"The broker that Home Assistant uses: the name of an entry of brokers; embedded by default."`
	Prefix      string `yaml:"prefix" doc:"What the topics of its discovery begin with."`
	StatusTopic string `yaml:"status_topic" doc:"Where it says online when it has started: the devices are announced again then. Empty for prefix/status."`
	Node        string `yaml:"node" expand:"true" doc:"The gateway's name in its topics and unique ids; it must differ from those of other gateways. {hostname} is the machine's name."`
	Base        string `yaml:"base" expand:"true" doc:"What the topics of states and commands begin with."`
	Role        string `yaml:"role" doc:"The role of the realm with whose permissions commands from Home Assistant call the devices' procedures; empty: it can look, and command nothing." example:"operator"`
}

// SetDefaults fills in what the file need not say.
func (h *HomeAssistant) SetDefaults() {
	h.Broker, h.Prefix = orElse(h.Broker, Embedded), orElse(h.Prefix, "homeassistant")
	h.Node, h.Base = orElse(h.Node, "postern-{hostname}"), orElse(h.Base, "postern/{hostname}")
}

func (h *HomeAssistant) statusTopic() string { return orElse(h.StatusTopic, h.Prefix+"/status") }

// lane is the name of what announcements are counted and wait under.
const homeAssistantLane = "homeassistant"

// AddDiscovery adds what discovery needs of the rest: the commands, and a status
// topic for brokers that have none. devices is what the devices' URIs begin
// with. It is called once, before the configuration is used.
func (c *Config) AddDiscovery(devices string) {
	c.DevicePrefix = devices
	for _, h := range c.HomeAssistant {
		for i := range c.Brokers {
			if b := &c.Brokers[i]; b.Name == h.Broker && b.Status.Topic == "" {
				b.Status.Topic = h.Base + "/status"
			}
		}
		if h.Role == "" {
			continue
		}
		call := Call{
			Name: homeAssistantLane + "-" + h.Broker, Broker: h.Broker, Direction: In, Role: h.Role,
			Request: h.Base + "/{device}/{procedure}/call", Procedure: devices + ".{device}.{procedure}",
			Args: ArgsSpread, Codec: Codec{Type: "json"}, OncePerID: 1,
		}
		call.SetDefaults()
		c.Calls = append(c.Calls, call)
	}
}

func (c *Config) validateDiscovery(brokers map[string]int, names map[string]bool, report func(path, problem, hint string)) {
	taken := map[string]bool{}
	for i, h := range c.HomeAssistant {
		path := fmt.Sprintf("homeassistant[%d].", i)
		if _, ok := brokers[h.Broker]; !ok {
			report(path+"broker", fmt.Sprintf("there is no broker %q", h.Broker), "use the name of an entry of brokers, or embedded")
		}
		if taken[h.Broker] {
			report(path+"broker", fmt.Sprintf("%q has an entry already", h.Broker), "one entry is enough for a broker")
		}
		taken[h.Broker] = true
		for key, topic := range map[string]string{"prefix": h.Prefix, "base": h.Base, "status_topic": h.statusTopic()} {
			if !validTopic(topic) || strings.HasPrefix(topic, "$") || strings.ContainsAny(topic, "{}") {
				report(path+key, fmt.Sprintf("%q is not a topic", topic), "a topic has no + and no #, and begins with a letter")
			}
		}
		if h.Node == "" {
			report(path+"node", "is empty", "give the gateway a name of its own")
		}
		if names[homeAssistantLane] {
			report(path+"broker", fmt.Sprintf("a map is called %q, as what Home Assistant is told", homeAssistantLane), "give the map another name")
		}
	}
}
