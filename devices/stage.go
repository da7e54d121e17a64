package devices

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices/pipeline"
	"github.com/postern-iot/postern/wamp"
)

// maxAlarmEvents bounds the alarm events of a device that wait to be
// published; when there are more, the oldest are dropped and counted.
const maxAlarmEvents = 256

// stage is the pipeline of one reading, and what it holds back. It is guarded
// by the device's mutex.
type stage struct {
	p      *pipeline.Pipeline
	typ    string // of what the driver emits
	number bool

	held   entry // newer than the latest that was published
	isHeld bool
	alarms []Alarm // as the pipeline declares them
}

// Alarm is a limit of a reading and its state.
type Alarm struct {
	Device, Reading, Name string
	Raised                bool
	// Side is "above" or "below": where of the limit it is raised.
	Side              string
	Limit, Hysteresis float64
	Unit              string
	// Value and Time are those of the last change; Time is zero before the
	// first.
	Value float64
	Time  time.Time
}

// String says why the alarm is raised.
func (a Alarm) String() string {
	return fmt.Sprintf("%s %s: %.6g is %s %g %s", a.Reading, a.Name, a.Value, a.Side, a.Limit, a.Unit)
}

func (a Alarm) word() string {
	if a.Raised {
		return "raised"
	}
	return "cleared"
}

func (a Alarm) dict() wamp.Dict {
	d := wamp.Dict{
		"device": a.Device, "reading": a.Reading, "alarm": a.Name, "state": a.word(),
		"side": a.Side, "limit": a.Limit, "hysteresis": a.Hysteresis, "unit": a.Unit,
	}
	if !a.Time.IsZero() {
		d["value"], d["time"] = a.Value, stamp(a.Time)
	}
	return d
}

func alarmList(alarms []Alarm) wamp.List {
	l := make(wamp.List, len(alarms))
	for i, a := range alarms {
		l[i] = a.dict()
	}
	return l
}

// alarmEvent is a change that waits to be published.
type alarmEvent struct {
	Alarm
	slot int
}

// CheckReadings reports what a device's entry says of readings and cannot
// mean: names that the device does not have, and stages that are not for a
// reading's type. Paths are below the entry. What pipeline.Config.Validate
// says is not said again.
func CheckReadings(e Entry, readings []Reading, report func(path, problem, hint string)) {
	names := make([]string, len(readings))
	for i, r := range readings {
		names[i] = r.Name
	}
	for name := range e.Sim.Readings {
		if !slices.Contains(names, name) {
			report("sim.readings."+name, fmt.Sprintf("device %q has no reading %q", e.Name, name), "its readings are: "+strings.Join(names, ", "))
		}
	}
	for i, f := range e.Sim.Faults {
		if f.Reading != "" && !slices.Contains(names, f.Reading) {
			report(fmt.Sprintf("sim.faults[%d].reading", i), fmt.Sprintf("device %q has no reading %q", e.Name, f.Reading), "its readings are: "+strings.Join(names, ", "))
		}
	}
	for name, cfg := range e.Readings {
		i := slices.Index(names, name)
		if i < 0 {
			report("readings."+name, fmt.Sprintf("device %q has no reading %q", e.Name, name), "its readings are: "+strings.Join(names, ", "))
			continue
		}
		if key := cfg.NumbersOnly(); key != "" && !isNumber(readings[i].Type) {
			report("readings."+name+"."+key, fmt.Sprintf("%s is for numbers, and %s is %s", key, name, readings[i].Type),
				"min_period, max_period and unit are for readings of every type")
		}
	}
}

func isNumber(typ string) bool { return typ == "float" || typ == "int" }

// readingProblems is CheckReadings and Validate for those who make a Config in
// Go.
func readingProblems(e Entry, readings []Reading) []string {
	var problems []string
	CheckReadings(e, readings, func(path, problem, _ string) { problems = append(problems, path+": "+problem) })
	for name, cfg := range e.Readings {
		cfg.Validate(func(path, problem, _ string) {
			problems = append(problems, "readings."+name+"."+path+": "+problem)
		})
	}
	slices.Sort(problems)
	return problems
}

// newStages makes the stages of a device, nil when it declares none, and
// changes its readings to what comes out of them.
func newStages(e Entry, readings []Reading) []*stage {
	if len(e.Readings) == 0 {
		return nil
	}
	stages := make([]*stage, len(readings))
	for slot := range readings {
		r := &readings[slot]
		cfg, ok := e.Readings[r.Name]
		if !ok {
			continue
		}
		st := &stage{p: pipeline.New(cfg), typ: r.Type, number: isNumber(r.Type)}
		if st.number && st.p.Changes() {
			r.Type = "float"
		}
		if cfg.Unit != "" {
			r.Unit = cfg.Unit
		}
		for _, a := range cfg.Alarms {
			alarm := Alarm{Device: e.Name, Reading: r.Name, Name: a.Name, Hysteresis: a.Hysteresis, Unit: r.Unit}
			if a.Above != nil {
				alarm.Side, alarm.Limit = "above", *a.Above
			} else {
				alarm.Side, alarm.Limit = "below", *a.Below
			}
			st.alarms = append(st.alarms, alarm)
		}
		stages[slot] = st
	}
	return stages
}

func (st *stage) reset() {
	if st != nil {
		st.p.Reset()
		st.held, st.isHeld = entry{}, false
	}
}

func (d *hosted) stageOf(slot int) *stage {
	if d.stages == nil {
		return nil
	}
	return d.stages[slot]
}

// measuredType is the type of what the driver emits.
func (d *hosted) measuredType(slot int) string {
	if st := d.stageOf(slot); st != nil {
		return st.typ
	}
	return d.readings[slot].Type
}

// process takes e through its stages and reports whether it is to be published
// now. d.mu is held.
func (d *hosted) process(st *stage, e *entry) bool {
	now := time.Now()
	v := 0.0
	if e.quality != QualityBad && st.number {
		measured, _ := wamp.ToFloat(e.value)
		out, changes, err := st.p.Step(measured, now)
		if err != nil {
			e.value, e.quality, e.reason = nil, QualityBad, err.Error()
		} else if v = out; st.p.Changes() {
			e.value = out
		}
		for _, c := range changes {
			d.alarm(st, e, c)
		}
	}
	var publish bool
	switch {
	case e.quality == QualityBad:
		publish = st.p.PublishFault(now)
	case st.number:
		publish = st.p.Publish(v, now)
	default:
		publish = st.p.PublishOther(now)
	}
	st.held, st.isHeld = *e, !publish && e.quality != QualityBad
	if !publish {
		d.status.Filtered++
	}
	return publish
}

// alarm notes that an alarm has changed, and has that published, the state
// with it. d.mu is held.
func (d *hosted) alarm(st *stage, e *entry, c pipeline.Change) {
	a := &st.alarms[c.Alarm]
	a.Raised, a.Value, a.Time = c.Raised, c.Value, e.time
	if len(d.alarms) == maxAlarmEvents {
		d.alarms = d.alarms[1:]
		d.status.Dropped++
	}
	d.alarms = append(d.alarms, alarmEvent{*a, e.slot})
	d.statusPending = true
}

// tick publishes what is due, and returns how long it is until something is
// next: 0 for never.
func (d *hosted) tick() time.Duration {
	if d.stages == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.online { // what is newest is published when the realm is back
		return 0
	}
	now := time.Now()
	var next time.Time
	for slot, st := range d.stages {
		if st == nil || st.p.Due().IsZero() {
			continue
		}
		e := d.latest[slot]
		if st.isHeld {
			e = st.held
		}
		v, _ := wamp.ToFloat(e.value)
		if d.draining {
			continue
		}
		if st.p.Tick(v, now) {
			if !st.isHeld {
				e.extra = wamp.Dict{"repeated": true}
			}
			e.quality, e.reason = QualityGood, ""
			st.held, st.isHeld = entry{}, false
			d.accept(e)
		}
		if due := st.p.Due(); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if next.IsZero() {
		return 0
	}
	return max(next.Sub(now), time.Microsecond)
}

// flushLocked publishes what is held back, because nothing will follow. d.mu is
// held.
func (d *hosted) flushLocked() {
	for _, st := range d.stages {
		if st != nil && st.isHeld {
			d.accept(st.held)
			st.held, st.isHeld = entry{}, false
		}
	}
}

func (d *hosted) raisedLocked() []Alarm {
	var raised []Alarm
	for _, st := range d.stages {
		if st == nil {
			continue
		}
		for _, a := range st.alarms {
			if a.Raised {
				raised = append(raised, a)
			}
		}
	}
	return raised
}

// alarmsOf are those of one reading, raised or not.
func (d *hosted) alarmsOf(slot int) []Alarm {
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.stageOf(slot); st != nil {
		return slices.Clone(st.alarms)
	}
	return nil
}
