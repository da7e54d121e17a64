package bridge

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Validate reports what is wrong beyond the types of the fields.
func (c *Config) Validate(report func(path, problem, hint string)) {
	known := map[string]int{Embedded: -1}
	for i := range c.Brokers {
		b := &c.Brokers[i]
		path := fmt.Sprintf("brokers[%d].", i)
		if _, twice := known[b.Name]; twice {
			hint := "give every broker a name of its own"
			if b.Name == Embedded {
				hint = "that is the gateway's own broker, which needs no entry"
			}
			report(path+"name", fmt.Sprintf("the name %q is taken", b.Name), hint)
		}
		known[b.Name] = i
		b.validate(func(key, problem, hint string) { report(path+key, problem, hint) })
	}
	names := map[string]bool{}
	for i := range c.Maps {
		m := &c.Maps[i]
		path := fmt.Sprintf("maps[%d].", i)
		if names[m.Name] {
			report(path+"name", fmt.Sprintf("the name %q is taken", m.Name), "give every map a name of its own")
		}
		names[m.Name] = true
		for j, b := range m.Brokers {
			if _, ok := known[b]; !ok {
				report(fmt.Sprintf("%sbrokers[%d]", path, j), fmt.Sprintf("there is no broker %q", b), "use the name of an entry of brokers, or embedded")
			}
		}
		m.validateWords(func(key, problem, hint string) { report(path+key, problem, hint) })
		m.Delivery.validate(m, func(key, problem, hint string) { report(path+key, problem, hint) })
	}
	for i := range c.Calls {
		call := &c.Calls[i]
		path := fmt.Sprintf("calls[%d].", i)
		if names[call.Name] {
			report(path+"name", fmt.Sprintf("the name %q is taken", call.Name), "give every map and every call a name of its own")
		}
		names[call.Name] = true
		if _, ok := known[call.Broker]; !ok {
			report(path+"broker", fmt.Sprintf("there is no broker %q", call.Broker), "use the name of an entry of brokers, or embedded")
		}
	}
	c.validateDiscovery(known, names, report)
	c.validateFound(known, names, report)
	c.validateSparkplug(known, report)
	for _, p := range c.Check(wamp.LooseURIs) {
		if p.Fatal {
			report(p.Path, p.Message, p.Hint)
		}
	}
}

// validateWords checks the fields that allow certain words only.
func (m *Map) validateWords(report func(key, problem, hint string)) {
	oneOf := func(key, value string, words ...string) {
		if !slices.Contains(words, value) {
			report(key, fmt.Sprintf("%q is not known", value), "use one of "+strings.Join(words, ", "))
		}
	}
	oneOf("direction", m.Direction, In, Out, Both)
	oneOf("into", m.Into, IntoArgs, IntoKwArgs, IntoEnvelope)
	oneOf("retain", m.Retain, RetainKeep, RetainDrop, RetainAlways)
	oneOf("on_bad_payload", m.OnBadPayload, BadDrop, BadDeadLetter)
	if m.QoS < 0 || m.QoS > 2 {
		report("qos", fmt.Sprintf("%d is not a quality of service", m.QoS), "use 0, 1 or 2")
	}
}

func (b *BrokerConfig) validate(report func(key, problem, hint string)) {
	if !validName(strings.ReplaceAll(b.Name, "-", "_")) {
		report("name", fmt.Sprintf("%q cannot be part of a URI", b.Name), "use letters, digits, _ and -")
	}
	if len(b.URLs) == 0 {
		report("urls", "is empty", "give at least one, such as tcp://127.0.0.1:1883")
	}
	for i, raw := range b.URLs {
		key := fmt.Sprintf("urls[%d]", i)
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" && u.Path == "" {
			report(key, "is not a URL", "write it as tcp://host:1883 or tls://host:8883")
			continue
		}
		if _, ok := defaultPorts[u.Scheme]; !ok {
			report(key, fmt.Sprintf("has the unknown scheme %q", u.Scheme), "use tcp, tls, ws, wss or unix")
		}
		if u.User != nil {
			report(key, "has a user name or password in it", "use the keys username and password: a URL is shown in logs")
		}
	}
	if b.ClientID == "" && b.Session == "persistent" {
		report("client_id", "is empty, but a persistent session needs one", "give one, or use session: clean")
	}
	if b.Password != "" && b.Username == "" {
		report("username", "is empty, but there is a password", "MQTT sends no password without a user name")
	}
	if (b.TLS.Cert == "") != (b.TLS.Key == "") {
		report("tls", "has one of cert and key", "give both, or neither")
	}
	if b.Queue.WhenFull != DropOldest && b.Queue.WhenFull != DropNewest {
		report("queue.when_full", fmt.Sprintf("%q is not known", b.Queue.WhenFull), "use drop_oldest or drop_newest")
	}
	if b.Reconnect.Max < b.Reconnect.Min {
		report("reconnect.max", "is less than reconnect.min", "")
	}
	for key, topic := range map[string]string{"status.topic": b.Status.Topic, "dead_letter": b.DeadLetter} {
		if topic != "" && !validTopic(topic) {
			report(key, fmt.Sprintf("%q is not a topic", topic), "a topic has no + and no #")
		}
	}
}
