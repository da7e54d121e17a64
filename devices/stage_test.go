package devices

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices/pipeline"
	"github.com/postern-iot/postern/wamp"
)

func ptr(v float64) *float64 { return &v }

// staged runs a device with one reading t and hands over its outlet.
func staged(t *testing.T, typ string, cfg pipeline.Config) (*running, Outlet) {
	t.Helper()
	if cfg.Scale == 0 {
		cfg.Scale = 1
	}
	var outlet Outlet
	h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
		readings: []Reading{{Name: "t", Type: typ, Unit: "Cel"}},
		stages:   map[string]pipeline.Config{"t": cfg},
		run: func(ctx context.Context, out Outlet) error {
			outlet = out
			out.Ready()
			<-ctx.Done()
			return nil
		},
	}})
	return start(t, h, newFakeRealm()), outlet
}

func TestStagedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := staged(t, "int", pipeline.Config{Scale: 0.5, Offset: 1, Unit: "K", Max: ptr(100), Deadband: ptr(2)})
		for _, v := range []any{10, 11, 20, math.NaN(), 300, 20, 21} {
			out.Emit("t", v, Sample{Extra: wamp.Dict{"n": v == 20}})
			synctest.Wait()
		}
		var have []string
		for _, e := range r.realm.of("device.a.t") {
			have = append(have, fmt.Sprint(e.args[0], e.kwargs["unit"], e.kwargs["seq"], e.kwargs["quality"], e.kwargs["reason"], e.kwargs["n"]))
		}
		want := []string{
			"6 K 1 good <nil> false",
			"11 K 2 good <nil> true",
			"<nil> K 3 bad the value is not a finite number false",
			"<nil> K 4 bad 151 is out of range: it is above 100 false",
			"11 K 5 good <nil> true", // after a fault, although it is the value before it
		}
		for i := range want {
			want[i] = normalise(want[i])
		}
		for i := range have {
			have[i] = normalise(have[i])
		}
		if !slices.Equal(have, want) {
			t.Errorf("have %q\nwant %q", have, want)
		}
		if s := r.device("a"); s.Filtered != 2 || s.Faults != 2 {
			t.Errorf("filtered %d, faults %d", s.Filtered, s.Faults)
		}
		// What is asked for is the newest value, published or not.
		v, err := r.realm.call("device.a.get", wamp.List{"t"}, nil)
		if d := v.(wamp.Dict); err != nil || d["value"] != 11.5 || d["seq"] != int64(5) {
			t.Errorf("get: %v, %v", v, err)
		}
		list, _ := r.realm.call("device.a.describe", nil, nil)
		if reading := list.(wamp.Dict)["readings"].(wamp.List)[0].(wamp.Dict); reading["type"] != "float" || reading["unit"] != "K" {
			t.Errorf("describe: %v", reading)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		// What was held back is published at the end.
		if last := r.realm.values("device.a.t"); last[len(last)-1] != 11.5 {
			t.Errorf("have %v", last)
		}
	})
}

// normalise keeps the words of a printed event apart, as Sprint puts spaces
// between operands that are no strings only.
func normalise(s string) string {
	var out []rune
	for _, r := range s {
		if r != ' ' {
			out = append(out, r)
		}
	}
	return string(out)
}

func TestPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := staged(t, "bool", pipeline.Config{MinPeriod: time.Second, MaxPeriod: time.Minute})
		begin := time.Now()
		for _, v := range []bool{true, false, true, false} {
			out.Emit("t", v, Sample{})
			after(100 * time.Millisecond)
		}
		after(3 * time.Minute)
		var have []string
		for _, e := range r.realm.of("device.a.t") {
			at, _ := time.Parse(timeLayout, e.kwargs["time"].(string))
			have = append(have, fmt.Sprint(e.args[0], " ", at.Sub(begin), " ", e.kwargs["repeated"]))
		}
		// The last of the burst is not lost, and is repeated with its own time.
		want := []string{"true 0s <nil>", "false 300ms <nil>", "false 300ms true", "false 300ms true"}
		if len(have) < 4 || !slices.Equal(have[:4], want) {
			t.Errorf("have %q", have)
		}
		if n := len(have); n != 4 {
			t.Errorf("%d events in three minutes", n)
		}
		// A fault is not repeated, and ends the repetition.
		out.Fault("t", errors.New("gone"))
		after(5 * time.Minute)
		if n := len(r.realm.of("device.a.t")); n != 5 {
			t.Errorf("%d events", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := staged(t, "float", pipeline.Config{
			Deadband: ptr(50),
			Alarms:   []pipeline.Alarm{{Name: "hot", Above: ptr(80), Hysteresis: 5}, {Name: "cold", Below: ptr(5)}},
		})
		emit := func(values ...float64) {
			for _, v := range values {
				out.Emit("t", v, Sample{})
			}
			synctest.Wait()
		}
		emit(20, 81, 79, 82)
		out.Fault("t", errors.New("CRC wrong"))
		synctest.Wait()
		now := stamp(time.Now())
		hot := wamp.Dict{
			"device": "a", "reading": "t", "alarm": "hot", "state": "raised", "side": "above", "limit": 80.0, "hysteresis": 5.0,
			"unit": "Cel", "value": 81.0, "time": now,
		}
		have := r.realm.of("device.a.t.alarm")
		if want := (published{"device.a.t.alarm", wamp.List{"raised"}, hot, false}); len(have) != 1 || fmt.Sprint(have[0]) != fmt.Sprint(want) {
			t.Fatalf("have %v\nwant %v", have, want)
		}
		if a := r.device("a").Alarms; len(a) != 1 || a[0].String() != "t hot: 81 is above 80 Cel" {
			t.Errorf("status: %v", a)
		}
		all, _ := r.realm.call("device.alarms", nil, nil)
		if l := all.(wamp.List); len(l) != 2 || fmt.Sprint(l[0]) != fmt.Sprint(hot) || l[1].(wamp.Dict)["state"] != "cleared" {
			t.Errorf("alarms: %v", all)
		}
		// The retained state tells who comes later.
		states := r.realm.of("device.a.status")
		if last := states[len(states)-1]; !last.retain || fmt.Sprint(last.kwargs["alarms"]) != fmt.Sprint(wamp.List{hot}) {
			t.Errorf("status event: %v", last)
		}

		// While the realm is away, every change is kept.
		r.realm.join(0)
		after(time.Second)
		emit(75, 2, 10, 90)
		r.realm.join(2)
		after(time.Second)
		var changes []string
		for _, e := range r.realm.of("device.a.t.alarm")[1:] {
			changes = append(changes, fmt.Sprint(e.kwargs["alarm"], " ", e.args[0], " ", e.kwargs["value"]))
		}
		if want := []string{"hot cleared 75", "cold raised 2", "cold cleared 10", "hot raised 90"}; !slices.Equal(changes, want) {
			t.Errorf("have %q", changes)
		}
		for range maxAlarmEvents { // one that flutters is bounded
			r.realm.join(0)
			emit(70, 90)
		}
		if s := r.device("a"); s.Dropped > 2*maxAlarmEvents || len(s.Alarms) != 1 {
			t.Errorf("dropped %d, raised %v", s.Dropped, s.Alarms)
		}
		r.realm.join(3)
		after(time.Second)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A device that fails begins with new averages, and its next value is
// published.
func TestStagesAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			readings: float("t"), stages: map[string]pipeline.Config{"t": {Scale: 1, EMA: time.Hour, Deadband: ptr(1)}},
			run: func(ctx context.Context, out Outlet) error {
				out.Ready()
				if runs++; runs == 1 {
					out.Emit("t", 10.0, Sample{})
					return errors.New("gone")
				}
				out.Emit("t", 50.0, Sample{})
				<-ctx.Done()
				return nil
			},
		}})
		r := start(t, h, newFakeRealm())
		after(5 * time.Second)
		if have := fmt.Sprint(r.realm.values("device.a.t")); have != "[10 <nil> 50]" {
			t.Errorf("have %v", have)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestCheckReadings(t *testing.T) {
	readings := []Reading{{Name: "t", Type: "float"}, {Name: "open", Type: "bool"}}
	for _, c := range []struct {
		cfg  map[string]pipeline.Config
		want []string
	}{
		{map[string]pipeline.Config{"t": {Scale: 2, Max: ptr(3)}, "open": {Scale: 1, MinPeriod: time.Second}}, nil},
		{map[string]pipeline.Config{"T": {Scale: 1}}, []string{`readings.T: device "x" has no reading "T"`}},
		{map[string]pipeline.Config{"open": {Scale: 2}}, []string{"readings.open.scale: scale is for numbers, and open is bool"}},
		{map[string]pipeline.Config{"t": {}}, []string{"readings.t.scale: it is 0: every value would be the offset"}},
	} {
		if have := readingProblems(Entry{Name: "x", Readings: c.cfg}, readings); !slices.Equal(have, c.want) {
			t.Errorf("have %q, want %q", have, c.want)
		}
	}
}

// What a reading's stages cost is nothing where it has none, and no memory
// where it has: not more allocations than the event itself.
func TestStagesAllocateNothing(t *testing.T) {
	cost := func(stages map[string]pipeline.Config) float64 {
		var outlet Outlet
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {readings: []Reading{{Name: "t", Type: "float"}, {Name: "u", Type: "float"}}, stages: stages}})
		d := h.devices[0]
		outlet = &run{d: d, ctx: t.Context()}
		var v any = 1.5
		at := time.Now()
		outlet.Emit("t", v, Sample{Time: at})
		return testing.AllocsPerRun(1000, func() { outlet.Emit("t", v, Sample{Time: at}) })
	}
	bare := cost(nil)
	if n := cost(map[string]pipeline.Config{"u": {Scale: 2}}); n != bare {
		t.Errorf("beside a reading with stages: %v allocations, %v without", n, bare)
	}
	full := map[string]pipeline.Config{"t": {
		Scale: 1, Max: ptr(3), Median: 9, Deadband: ptr(0), MinPeriod: time.Millisecond,
		Alarms: []pipeline.Alarm{{Name: "high", Above: ptr(2)}},
	}}
	if n := cost(full); n > bare+1 { // the number that came out, boxed
		t.Errorf("with stages: %v allocations, %v without", n, bare)
	}
}
