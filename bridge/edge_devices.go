package bridge

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/bridge/sparkplug"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// event takes a reading's value, and notices that a device has come or gone. It
// only enqueues.
func (e *edge) event(ev *client.Event) {
	name, reading, ok := strings.Cut(strings.TrimPrefix(ev.Topic, e.devices+"."), ".")
	if !ok || strings.Contains(reading, ".") {
		return
	}
	if reading == "status" {
		notify(e.looks)
		return
	}
	c := sparkplug.Change{Device: name, Name: reading, Time: time.Now(), Quality: qualityOf(ev.KwArgs)}
	if len(ev.Args) > 0 {
		c.Value = ev.Args[0]
	}
	if at, ok := timeOf(ev.KwArgs); ok {
		c.Time = at
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.node.Note(c) {
		return
	}
	if len(e.pending) == maxChanges {
		e.pending = slices.Delete(e.pending, 0, 1)
		e.stats.dropped++
	}
	e.pending = append(e.pending, c)
	notify(e.wake)
}

func qualityOf(d map[string]any) sparkplug.Quality {
	switch d["quality"] {
	case "bad":
		return sparkplug.Bad
	case "uncertain":
		return sparkplug.Stale
	}
	return sparkplug.Good
}

func timeOf(d map[string]any) (time.Time, bool) {
	s, _ := d["time"].(string)
	at, err := time.Parse(time.RFC3339Nano, s)
	return at, err == nil
}

// look asks for the devices, now and then and when one has changed its state,
// until ctx ends.
func (e *edge) look(ctx context.Context, sess session) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-e.looks:
			timer.Reset(lookAfter)
			continue
		case <-ctx.Done():
			return
		}
		wait := lookEvery
		asking, cancel := context.WithTimeout(ctx, lookTimeout)
		result, err := sess.Call(asking, e.devices+".list", nil, nil)
		cancel()
		if err == nil && len(result.Args) > 0 {
			list, _ := result.Args[0].([]any)
			found := describedDevices(list, e.cfg.Role != "")
			e.mu.Lock()
			e.list, e.listed, e.news = found, true, true
			e.mu.Unlock()
			notify(e.wake)
		} else if ctx.Err() == nil {
			e.log.Debug("the devices cannot be listed yet", "error", err)
			wait = lookAgain
		}
		timer.Reset(wait)
	}
}

var metricTypes = map[string]sparkplug.DataType{
	"float": sparkplug.Double, "int": sparkplug.Int64, "bool": sparkplug.Boolean, "string": sparkplug.String,
}

// Bounds of what an edge node has.
const (
	maxEdgeDevices = 500
	maxEdgeMetrics = 256 // of a device
)

// describedDevices makes metrics of what list returns: readings, and procedures
// that need one boolean or number, or nothing.
func describedDevices(list wamp.List, writable bool) []sparkplug.Device {
	var all []sparkplug.Device
	for _, one := range list[:min(len(list), maxEdgeDevices)] {
		d, _ := one.(map[string]any)
		name, _ := d["name"].(string)
		state, _ := d["state"].(string)
		out := sparkplug.Device{Name: name, Up: state == "ready" || state == "degraded"}
		readings, _ := d["readings"].([]any)
		for _, r := range readings {
			r, _ := r.(map[string]any)
			kind, _ := r["type"].(string)
			metric := sparkplug.Reading{Type: metricTypes[kind], Value: r["value"], Quality: qualityOf(r)}
			metric.Name, _ = r["name"].(string)
			metric.Unit, _ = r["unit"].(string)
			metric.Time, _ = timeOf(r)
			if metric.Type != 0 && metric.Name != "" && len(out.Readings) < maxEdgeMetrics {
				out.Readings = append(out.Readings, metric)
			}
		}
		if writable {
			procedures, _ := d["procedures"].([]any)
			for _, p := range procedures {
				p, _ := p.(map[string]any)
				if len(out.Readings) < maxEdgeMetrics {
					out.Readings = withProcedure(out.Readings, p)
				}
			}
		}
		all = append(all, out)
	}
	return all
}

// withProcedure has a procedure be called by a write: to the reading that shows
// its argument, as in set(on), or else to a metric of its own.
func withProcedure(readings []sparkplug.Reading, p map[string]any) []sparkplug.Reading {
	name, _ := p["name"].(string)
	var needed []map[string]any
	args, _ := p["args"].([]any)
	for _, a := range args {
		if a, _ := a.(map[string]any); a["optional"] != true {
			needed = append(needed, a)
		}
	}
	own := sparkplug.Reading{Name: sparkplug.CommandName(name), Procedure: name, Quality: sparkplug.Good}
	switch {
	case name == "" || len(needed) > 1:
		return readings
	case len(needed) == 0:
		own.Type, own.Button = sparkplug.Boolean, true
		return append(readings, own)
	}
	arg, _ := needed[0]["name"].(string)
	kind, _ := needed[0]["type"].(string)
	own.Type = metricTypes[kind]
	if own.Type == 0 {
		return readings
	}
	for i := range readings {
		r := &readings[i]
		if (r.Name == arg || "set_"+r.Name == name) && r.Procedure == "" && sameMetric(r.Type, own.Type) {
			r.Procedure = name
			return readings
		}
	}
	return append(readings, own)
}

func sameMetric(a, b sparkplug.DataType) bool {
	number := func(t sparkplug.DataType) bool { return t == sparkplug.Double || t == sparkplug.Int64 }
	return a == b || number(a) && number(b)
}

// carryOut calls what commands ask for, one after the other, with the role's
// permissions, until ctx ends.
func (e *edge) carryOut(ctx context.Context) {
	var who caller
	defer func() {
		if who != nil {
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
			defer cancel()
			_ = who.Close(bye) // it ends either way
		}
	}()
	for {
		var c sparkplug.Command
		select {
		case c = <-e.commands:
		case <-ctx.Done():
			return
		}
		timeout, cancel := context.WithTimeout(ctx, commandTime)
		var err error
		if who == nil {
			who, err = e.callAs(timeout, Call{Name: "sparkplug-" + e.cfg.Broker, Role: e.cfg.Role})
		}
		if err == nil {
			_, err = who.Call(timeout, e.devices+"."+c.Device+"."+c.Procedure, c.Args, nil)
		}
		cancel()
		if err != nil {
			e.drop(1)
			e.log.Warn("a command from Sparkplug was not carried out", "device", c.Device, "procedure", c.Procedure, "error", err)
			continue
		}
		e.mu.Lock()
		e.stats.commanded++
		e.mu.Unlock()
	}
}

// dict is the node's status: broker, group, node, state, url, error, births
// (published so far), sent (messages), commands (carried out) and dropped
// (commands and values).
func (e *edge) dict() wamp.Dict {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	return wamp.Dict{
		"broker": e.cfg.Broker, "group": e.cfg.Group, "node": e.cfg.Node, "state": s.state, "url": s.url, "error": s.err,
		"births": int64(s.births), "sent": int64(s.sent), "commands": int64(s.commanded), "dropped": int64(s.dropped),
	}
}
