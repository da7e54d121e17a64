package bridge

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// Check says everything that is wrong or worth knowing about the maps, for all
// brokers together.
func (c *Config) Check(uris wamp.URIRule) []Problem {
	var problems []Problem
	var tables []brokerTable
	seen := map[Problem]bool{}
	add := func(name string, urls []string) {
		t, ps := NewTable(name, c.Maps, uris, codec.CBOR)
		for _, p := range ps {
			if !seen[p] {
				seen[p] = true
				problems = append(problems, p)
			}
		}
		tables = append(tables, brokerTable{name, urls, t})
	}
	for _, b := range c.Brokers {
		add(b.Name, b.URLs)
	}
	embedded := func(call Call) bool { return call.Broker == Embedded }
	if len(c.Brokers) == 0 || slices.ContainsFunc(c.Calls, embedded) || slices.ContainsFunc(c.Maps, func(m Map) bool { return m.isFor(Embedded) }) {
		var urls []string
		for _, a := range c.EmbeddedAt {
			urls = append(urls, "tcp://"+a)
		}
		add(Embedded, urls)
	}
	problems = append(problems, c.checkCalls(uris, tables)...)
	return append(problems, findLoops(tables)...)
}

type brokerTable struct {
	name string
	urls []string
	*Table
}

// step is a node of the graph of loops: a message that arrived from a broker
// through in, and went out to another through out.
type step struct {
	from, to *brokerTable
	in, out  *route
}

// findLoops finds ways on which a message would come back to where it began.
//
// A message that arrives from broker A is published by A's session, so that the
// sessions of all other brokers get it, and A's does not; what B's session sends
// to its broker, that session does not get back. So a message passes A's in map
// and one out map of another broker B, and ends there, unless a third entry is
// the same broker as B: then it arrives again, through that one's in maps. Those
// are the edges of the graph, and only then can it have a cycle.
func findLoops(tables []brokerTable) []Problem {
	var steps []step
	for a := range tables {
		for b := range tables {
			if a == b {
				continue
			}
			for _, in := range tables[a].in {
				for _, out := range tables[b].out {
					if in.wamp.overlaps(out.wamp) {
						steps = append(steps, step{&tables[a], &tables[b], in, out})
					}
				}
			}
		}
	}
	next := make([][]int, len(steps))
	for i, s := range steps {
		for j, t := range steps {
			if s.to != t.from && s.to.sameAs(t.from) && s.out.mqtt.overlaps(t.in.mqtt) {
				next[i] = append(next[i], j)
			}
		}
	}
	cycle := findCycle(next)
	if cycle == nil {
		return nil
	}
	var b strings.Builder
	for _, i := range cycle {
		s := steps[i]
		fmt.Fprintf(&b, "%s %q → (map %s) %s → (map %s) %s %q = ", s.from.name, s.in.MQTT, s.in.Name, s.in.WAMP, s.out.Name, s.to.name, s.out.MQTT)
	}
	first := steps[cycle[0]]
	fmt.Fprintf(&b, "%s %q", first.from.name, first.in.MQTT)
	return []Problem{{
		Path:    fmt.Sprintf("maps[%d]", first.in.index),
		Message: "sends messages around in a loop: " + b.String(),
		Hint:    fmt.Sprintf("the brokers %q and %q are one; remove one of the entries, or name one broker in each map", first.from.name, first.to.name),
		Fatal:   true,
	}}
}

// findCycle returns the nodes of one cycle, in order, or nil.
func findCycle(next [][]int) []int {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(next))
	var path []int
	var visit func(int) []int
	visit = func(i int) []int {
		state[i] = open
		path = append(path, i)
		for _, j := range next[i] {
			if state[j] == open {
				return path[slices.Index(path, j):]
			}
			if state[j] == unseen {
				if c := visit(j); c != nil {
					return c
				}
			}
		}
		state[i] = done
		path = path[:len(path)-1]
		return nil
	}
	for i := range next {
		if state[i] == unseen {
			if c := visit(i); c != nil {
				return c
			}
		}
	}
	return nil
}

// sameAs reports whether the two entries have an address in common.
func (b *brokerTable) sameAs(o *brokerTable) bool {
	for _, u := range b.urls {
		for _, v := range o.urls {
			if endpoint(u) == endpoint(v) {
				return true
			}
		}
	}
	return false
}

// endpoint is what two URLs of one broker have in common, whatever the scheme
// spells: the host, all loopback names being one, and the port.
func endpoint(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	if u.Scheme == "unix" {
		return "unix:" + u.Host + u.Path
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	return net.JoinHostPort(host, port)
}

// defaultPorts are the schemes that a broker's URL may have.
var defaultPorts = map[string]string{
	"tcp": "1883", "mqtt": "1883", "tls": "8883", "ssl": "8883", "mqtts": "8883", "ws": "80", "wss": "443", "unix": "",
}
