package gateway

import (
	"strings"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/devices"
)

// problems asks the devices and the bridge what does not work.
func (g *Gateway) problems() []Problem {
	out := g.reloads.problems()
	for _, s := range g.host.Status() {
		if s.State == devices.StateBackOff || s.State == devices.StateDegraded {
			out = append(out, Problem{Part: "device " + s.Device, State: string(s.State), Reason: s.Reason})
		}
	}
	for _, s := range g.host.Status() {
		for _, a := range s.Alarms {
			out = append(out, Problem{Part: "device " + s.Device, State: "alarm", Reason: a.String()})
		}
	}
	for _, s := range g.bridge.Status() {
		if s.State != bridge.StateOnline {
			out = append(out, Problem{Part: "broker " + s.Broker, State: s.State, Reason: s.Error})
		}
		if s.DiskError != "" {
			out = append(out, Problem{Part: "queue of broker " + s.Broker, State: "in memory", Reason: s.DiskError})
		}
	}
	return out
}

// firstLine is an error without what a panic has below it.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
