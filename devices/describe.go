package devices

import (
	"context"
	"fmt"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// hostProcedures are those that every device has from the host.
var hostProcedures = []Procedure{
	{
		Name: "describe", Doc: "What the device is: type, summary, state, readings with their latest values, procedures with their arguments.",
		Returns: "dict",
	},
	{
		Name: "get", Doc: "The latest value of one reading, or of all: value, unit, time, seq, quality, and the reason when the quality is not good.",
		Args:    []Arg{{Name: "reading", Type: "string", Doc: "its name; all when left out", Optional: true}},
		Returns: "dict; for all readings a dict of dicts by name",
	},
	{
		Name: "status", Doc: "The device's state, since when and why, and its counts of values published, dropped, coalesced, filtered and faulty, and its raised alarms.",
		Returns: "dict",
	},
}

// list answers <prefix>.list: every device as describe has it.
func (h *Host) list(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(h.prefix+".list", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	all := make(wamp.List, len(h.devices))
	for i, d := range h.devices {
		all[i] = d.describe()
	}
	return answer(all), nil
}

// alarmsCall answers <prefix>.alarms: every alarm that is declared.
func (h *Host) alarmsCall(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(h.prefix+".alarms", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	all := wamp.List{}
	for _, d := range h.devices {
		for slot := range d.readings {
			for _, a := range d.alarmsOf(slot) {
				all = append(all, a.dict())
			}
		}
	}
	return answer(all), nil
}

func (d *hosted) describeCall(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(d.base+".describe", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	return answer(d.describe()), nil
}

func (d *hosted) statusCall(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	if _, _, err := bindArgs(d.base+".status", nil, inv.Args, inv.KwArgs); err != nil {
		return nil, err
	}
	return answer(d.currentStatus().dict()), nil
}

// get answers <prefix>.<device>.get.
func (d *hosted) get(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	uri := d.base + ".get"
	args, _, err := bindArgs(uri, hostProcedures[1].Args, inv.Args, inv.KwArgs)
	if err != nil {
		return nil, err
	}
	if name, ok := args[0].(string); ok {
		slot, ok := d.index[name]
		if !ok {
			return nil, badArgument(uri, hostProcedures[1].Args[0], fmt.Sprintf("there is no reading %q", name))
		}
		return answer(d.sample(slot)), nil
	}
	all := make(wamp.Dict, len(d.readings))
	for slot, r := range d.readings {
		all[r.Name] = d.sample(slot)
	}
	return answer(all), nil
}

// sample is a reading's latest value as it is to be judged now.
func (d *hosted) sample(slot int) wamp.Dict {
	d.mu.Lock()
	e, status := d.latest[slot], d.status
	if st := d.stageOf(slot); st != nil && st.isHeld {
		seq := e.seq
		e = st.held // newer than what is published
		e.seq = seq
	}
	d.mu.Unlock()
	s := wamp.Dict{"value": e.value, "unit": d.readings[slot].Unit, "seq": e.seq}
	switch {
	case e.seq == 0:
		e.quality, e.reason = QualityBad, "there is no value yet"
	case e.quality == QualityGood && !status.State.Up():
		e.quality, e.reason = QualityUncertain, "the device is "+string(status.State)
	}
	if e.seq > 0 {
		s["time"] = stamp(e.time)
	}
	s["quality"] = string(e.quality)
	if e.reason != "" {
		s["reason"] = e.reason
	}
	return s
}

func (d *hosted) describe() wamp.Dict {
	status := d.currentStatus()
	readings := make(wamp.List, len(d.readings))
	for slot, r := range d.readings {
		s := d.sample(slot)
		s["name"], s["doc"], s["type"] = r.Name, r.Doc, r.Type
		if alarms := d.alarmsOf(slot); len(alarms) > 0 {
			s["alarms"] = alarmList(alarms)
		}
		readings[slot] = s
	}
	procedures := make(wamp.List, len(d.procedures))
	for i, p := range d.procedures {
		args := make(wamp.List, len(p.Args))
		for j, a := range p.Args {
			args[j] = wamp.Dict{"name": a.Name, "type": a.Type, "doc": a.Doc, "optional": a.Optional}
		}
		procedures[i] = wamp.Dict{"name": p.Name, "doc": p.Doc, "args": args, "returns": p.Returns}
	}
	return wamp.Dict{
		"name": d.name, "type": d.driver.Type, "summary": d.driver.Summary,
		"state": string(status.State), "since": stamp(status.Since), "reason": status.Reason,
		"alarms": alarmList(status.Alarms), "readings": readings, "procedures": procedures,
	}
}
