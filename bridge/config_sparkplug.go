package bridge

import (
	"fmt"
	"strings"
)

// Sparkplug has the gateway be a Sparkplug B edge node at one broker.
type Sparkplug struct {
	Broker      string `yaml:"broker" required:"true" doc:"The broker: the name of an entry of brokers, whose addresses, user and certificates are used for a connection of its own."`
	ClientID    string `yaml:"client_id" expand:"true" doc:"MQTT client identifier of that connection; it must be unique at the broker. {hostname} is the machine's name."`
	Group       string `yaml:"group" required:"true" doc:"Sparkplug group id." example:"plant1"`
	Node        string `yaml:"node" expand:"true" doc:"Sparkplug edge node id; it must be unique in the group."`
	PrimaryHost string `yaml:"primary_host" doc:"Id of the host application without which nothing is to be published; empty for none." example:"scada"`
	Role        string `yaml:"role" doc:"The role of the realm with whose permissions commands call the devices' procedures; empty: there are no commands but the one for a rebirth." example:"operator"`
}

// SetDefaults fills in what the file need not say.
func (s *Sparkplug) SetDefaults() {
	s.ClientID, s.Node = orElse(s.ClientID, "postern-sparkplug-{hostname}"), orElse(s.Node, "{hostname}")
}

func (c *Config) validateSparkplug(brokers map[string]int, report func(path, problem, hint string)) {
	taken := map[[3]string]bool{}
	for i, s := range c.Sparkplug {
		path := fmt.Sprintf("sparkplug[%d].", i)
		switch at, ok := brokers[s.Broker]; {
		case !ok:
			report(path+"broker", fmt.Sprintf("there is no broker %q", s.Broker), "use the name of an entry of brokers")
		case s.Broker == Embedded:
			report(path+"broker", "the embedded broker cannot be used here", "an edge node needs a connection with a last will: give the broker an entry of brokers")
		case c.Brokers[at].ClientID == s.ClientID:
			report(path+"client_id", "is the broker's own", "an edge node has a connection of its own, which needs another client_id")
		}
		for key, id := range map[string]string{"group": s.Group, "node": s.Node, "primary_host": s.PrimaryHost} {
			if id == "" && key == "primary_host" {
				continue
			}
			if !validTopic(id) || strings.Contains(id, "/") {
				report(path+key, fmt.Sprintf("%q cannot be one level of a topic", id), "use letters, digits, blanks, _ and -")
			}
		}
		if s.Group == "STATE" {
			report(path+"group", "STATE is what the host applications' topics have there", "give the group another name")
		}
		if key := [3]string{s.Broker, s.Group, s.Node}; taken[key] {
			report(path+"node", fmt.Sprintf("%q is another entry's", s.Node), "give every entry a node of its own")
		} else {
			taken[key] = true
		}
	}
}
