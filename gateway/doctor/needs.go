package doctor

import (
	"strings"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/onewire"
	"github.com/postern-iot/postern/gateway/config"
)

// need is a piece of hardware that a device of the configuration uses.
type need struct {
	device string
	typ    string
	kind   string // gpio, i2c, spi, 1-wire, serial, pwm
	where  string // the chip, bus, port; of GPIO "" for any chip
	which  string // the line, the address, the channel, the sensor
}

// needs is what the configuration uses of the machine: what its devices claim,
// but for what is simulated, or a device of the configuration itself.
func needs(cfg *config.Config) []need {
	if cfg == nil {
		return nil
	}
	own := map[string]bool{"sim": true}
	for _, e := range cfg.Devices.List {
		own[e.Name] = true
	}
	var all []need
	for _, e := range cfg.Devices.List {
		for _, claim := range claims(e.Params) {
			n := need{device: e.Name, typ: e.Type}
			if n.parse(claim) && !own[n.where] {
				all = append(all, n)
			}
		}
		if p, ok := e.Params.(*onewire.DS18B20Params); ok && p.Bus != "sim" {
			for _, s := range p.Sensors {
				all = append(all, need{e.Name, e.Type, "1-wire", p.Bus, s.ID})
			}
		}
	}
	return all
}

func claims(params any) []string {
	var all []string
	if c, ok := params.(devices.Claimer); ok {
		all = c.Claims()
	}
	if s, ok := params.(devices.Sharer); ok {
		if claim, _ := s.Shares(); claim != "" {
			all = append(all, claim)
		}
	}
	return all
}

// parse takes a claim apart: gpio:GPIO17, gpio:chip:5, i2c:/dev/i2c-1/0x76,
// spi:/dev/spidev0.0, serial:/dev/ttyUSB0, pwm:chip:0.
func (n *need) parse(claim string) bool {
	kind, rest, _ := strings.Cut(claim, ":")
	n.kind = kind
	last := func(sep string) {
		i := strings.LastIndex(rest, sep)
		n.where, n.which = rest[:max(i, 0)], rest[i+1:]
	}
	switch kind {
	case "gpio":
		last(":")
		n.where, _, _ = strings.Cut(n.where, ":") // simulated ones have a direction too
	case "pwm":
		last(":")
	case "i2c":
		last("/")
	case "spi", "serial":
		n.where = rest
	default:
		return false // 1-wire is known better by its parameters
	}
	return true
}

// of are the needs of a kind.
func (e *examination) of(kind string) []need {
	var all []need
	for _, n := range e.needs {
		if n.kind == kind {
			all = append(all, n)
		}
	}
	return all
}

// users are the devices that need a place, for a sentence.
func users(all []need, where string) string {
	var names []string
	seen := map[string]bool{}
	for _, n := range all {
		if n.where == where && !seen[n.device] {
			seen[n.device] = true
			names = append(names, n.device)
		}
	}
	if len(names) == 1 {
		return "the device " + names[0] + " uses it"
	}
	return "the devices " + strings.Join(names, ", ") + " use it"
}

// places are those of the needs, each once, in their order.
func places(all []need) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range all {
		if !seen[n.where] {
			seen[n.where] = true
			out = append(out, n.where)
		}
	}
	return out
}
