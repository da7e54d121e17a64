package devices

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// outletOf runs a device that does nothing but hand over its outlet.
func outletOf(t *testing.T, cfg Config, readings []Reading, f *fakeRealm) (*running, Outlet) {
	t.Helper()
	var outlet Outlet
	h := testHost(t, cfg, map[string]*scripted{"a": {readings: readings, run: func(ctx context.Context, out Outlet) error {
		outlet = out
		out.Ready()
		<-ctx.Done()
		return nil
	}}})
	return start(t, h, f), outlet
}

func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := outletOf(t, DefaultConfig(), float("t"), newFakeRealm())
		at := time.Date(2025, 6, 1, 14, 30, 0, 123456789, time.FixedZone("CEST", 7200))
		out.Emit("t", 21.5, Sample{Time: at, Extra: wamp.Dict{"edge_seq": int64(7), "seq": "the host's comes first"}})
		out.Emit("t", 22, Sample{})
		out.Degraded(errors.New("low battery"))
		out.Emit("t", 23.5, Sample{})
		out.Ready()
		out.Fault("t", errors.New("CRC wrong"))
		synctest.Wait()
		now := stamp(time.Now())
		want := []published{
			{"device.a.t", wamp.List{21.5}, wamp.Dict{"unit": "Cel", "time": "2025-06-01T12:30:00.123456Z", "seq": int64(1), "quality": "good", "edge_seq": int64(7)}, false},
			{"device.a.t", wamp.List{22.0}, wamp.Dict{"unit": "Cel", "time": now, "seq": int64(2), "quality": "good"}, false},
			{"device.a.t", wamp.List{23.5}, wamp.Dict{"unit": "Cel", "time": now, "seq": int64(3), "quality": "uncertain", "reason": "low battery"}, false},
			{"device.a.t", wamp.List{nil}, wamp.Dict{"unit": "Cel", "time": now, "seq": int64(4), "quality": "bad", "reason": "CRC wrong"}, false},
		}
		have := r.realm.of("device.a.t")
		if len(have) != len(want) {
			t.Fatalf("have %d events, want %d", len(have), len(want))
		}
		for i := range want {
			if fmt.Sprint(have[i]) != fmt.Sprint(want[i]) {
				t.Errorf("event %d:\nhave %v\nwant %v", i, have[i], want[i])
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestValues(t *testing.T) {
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	for _, c := range []struct {
		typ   string
		value any
		want  any    // nil: a fault
		fault string // part of its reason
	}{
		{"float", 1.5, 1.5, ""},
		{"float", float32(0.5), 0.5, ""},
		{"float", 3, 3.0, ""},
		{"float", uint64(math.MaxUint64), float64(math.MaxUint64), ""},
		{"float", math.NaN(), nil, "not a finite number"},
		{"float", math.Inf(-1), nil, "not a finite number"},
		{"float", "3", nil, "want float, have string"},
		{"float", nil, nil, "there is no value"},
		{"float", struct{}{}, nil, "struct {} cannot be sent"},
		{"int", 5, int64(5), ""},
		{"int", uint8(5), int64(5), ""},
		{"int", int8(-5), int64(-5), ""},
		{"int", int16(-5), int64(-5), ""},
		{"int", int32(-5), int64(-5), ""},
		{"int", uint16(5), int64(5), ""},
		{"int", uint32(5), int64(5), ""},
		{"int", uint(5), int64(5), ""},
		{"int", 5.0, int64(5), ""},
		{"int", 5.5, nil, "want int, have float"},
		{"int", uint64(math.MaxUint64), nil, "want int"},
		{"bool", true, true, ""},
		{"bool", 1, nil, "want bool, have int"},
		{"string", "grüezi", "grüezi", ""},
		{"string", "\xff", nil, "not UTF-8"},
		{"string", []byte("x"), nil, "want string, have bytes"},
		{"bytes", []byte{1}, []byte{1}, ""},
		{"bytes", "x", []byte("x"), ""},
		{"bytes", true, nil, "want bytes, have bool"},
		{"dict", map[string]any{"a": 1, "b": []any{2.0}}, map[string]any{"a": int64(1), "b": []any{2.0}}, ""},
		{"dict", map[string]any{"a": map[string]any{"b": math.NaN()}}, nil, `"a": "b": the value is not a finite`},
		{"dict", map[string]any{"a": []any{1, math.NaN()}}, nil, `"a": [1]: the value is not a finite`},
		{"dict", map[string]any{"a": deep}, nil, "nested deeper"},
		{"dict", map[string]any{"\xff": 1}, nil, "not UTF-8"},
		{"dict", []any{1}, nil, "want dict, have list"},
	} {
		t.Run(fmt.Sprintf("%s/%v", c.typ, c.value), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, out := outletOf(t, DefaultConfig(), []Reading{{Name: "v", Type: c.typ}}, newFakeRealm())
				out.Emit("v", c.value, Sample{})
				synctest.Wait()
				e := r.realm.of("device.a.v")[0]
				if fmt.Sprintf("%T %v", e.args[0], e.args[0]) != fmt.Sprintf("%T %v", c.want, c.want) {
					t.Errorf("have %T %v, want %T %v", e.args[0], e.args[0], c.want, c.want)
				}
				reason, _ := e.kwargs["reason"].(string)
				if !strings.Contains(reason, c.fault) || (e.kwargs["quality"] == "bad") != (c.fault != "") {
					t.Errorf("have quality %v, reason %q, want a reason with %q", e.kwargs["quality"], reason, c.fault)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestUndeclaredReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := outletOf(t, DefaultConfig(), float("t"), newFakeRealm())
		out.Emit("typo", 1, Sample{})
		out.Fault("typo", nil)
		synctest.Wait()
		if s := r.device("a"); s.Dropped != 2 || s.Published != 0 {
			t.Errorf("have %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// While connected every value is published, in order, also when the realm is
// slower than the device for a while.
func TestBurstKeepsEveryEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r, out := outletOf(t, DefaultConfig(), []Reading{{Name: "n", Type: "int"}}, f)
		f.gate = make(chan struct{})
		const n = 1000
		for i := range n {
			out.Emit("n", i, Sample{})
		}
		synctest.Wait()
		if s := r.device("a"); s.Queued < n-2 {
			t.Errorf("queued: have %d", s.Queued)
		}
		close(f.gate)
		synctest.Wait()
		have := f.values("device.a.n")
		if len(have) != n {
			t.Fatalf("have %d events, want %d", len(have), n)
		}
		for i, v := range have {
			if v != int64(i) {
				t.Fatalf("event %d is %v", i, v)
			}
		}
		if s := r.device("a"); s.Published != n || s.Dropped != 0 || s.Coalesced != 0 || s.Queued != 0 {
			t.Errorf("have %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A full queue drops its oldest values, counts them, and leaves a gap in seq;
// the state is not lost.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		cfg := DefaultConfig()
		cfg.Queue = 10
		r, out := outletOf(t, cfg, []Reading{{Name: "n", Type: "int"}}, f)
		f.gate = make(chan struct{})
		out.Emit("n", -1, Sample{}) // the publisher holds this one
		synctest.Wait()
		out.Degraded(errors.New("flooded"))
		for i := range 25 {
			out.Emit("n", i, Sample{})
		}
		close(f.gate)
		synctest.Wait()
		var want []any
		for _, i := range []int{-1, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24} {
			want = append(want, int64(i))
		}
		if have := f.values("device.a.n"); !slices.Equal(have, want) {
			t.Errorf("have %v, want %v", have, want)
		}
		if s := r.device("a"); s.Dropped != 15 || s.Published != 11 {
			t.Errorf("have %+v", s)
		}
		if last := r.realm.of("device.a.status"); last[len(last)-1].kwargs["state"] != "degraded" {
			t.Errorf("the state was lost: %v", last)
		}
		events := f.of("device.a.n")
		if gap := events[1].kwargs["seq"].(int64) - events[0].kwargs["seq"].(int64); gap != 16 {
			t.Errorf("seq jumps by %d, want 16", gap)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// While the realm is away, the newest value of each reading is kept.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		f.join(0)
		r, out := outletOf(t, DefaultConfig(), []Reading{{Name: "n", Type: "int"}, {Name: "m", Type: "int"}, {Name: "o", Type: "int"}}, f)
		for i := range 5 {
			out.Emit("m", i, Sample{})
			<-time.After(time.Second)
			out.Emit("n", i, Sample{})
		}
		synctest.Wait()
		if len(f.events) != 0 {
			t.Fatalf("have %v", f.events)
		}
		if s := r.device("a"); s.Coalesced != 8 || s.Dropped != 0 {
			t.Errorf("have %+v", s)
		}
		f.join(7)
		after(watchEvery)
		want := []string{"event device.a.status", "event device.a.m", "event device.a.n"}
		if !slices.Equal(f.order, want) {
			t.Errorf("have %q, want %q", f.order, want)
		}
		if v := f.values("device.a.n"); v[0] != int64(4) {
			t.Errorf("have %v, want the newest", v)
		}
		// The procedures are there now, too.
		after(registerRetry)
		if _, err := f.call("device.a.get", nil, nil); err != nil {
			t.Error(err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What was queued when the realm went away is not sent late, but for the
// newest; a realm that comes back hears the state again.
func TestConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r, out := outletOf(t, DefaultConfig(), []Reading{{Name: "n", Type: "int"}, {Name: "m", Type: "int"}}, f)
		f.gate = make(chan struct{})
		for i := range 4 {
			out.Emit("n", i, Sample{})
		}
		out.Emit("m", 100, Sample{})
		synctest.Wait()
		f.join(0)
		close(f.gate)
		synctest.Wait()
		if s := r.device("a"); s.Coalesced != 3 || s.Queued != 0 {
			t.Errorf("have %+v", s)
		}
		before := len(f.of("device.a.status"))
		f.join(2)
		after(watchEvery)
		if n, m := f.values("device.a.n"), f.values("device.a.m"); !slices.Equal(n, []any{int64(3)}) || !slices.Equal(m, []any{int64(100)}) {
			t.Errorf("have %v and %v", n, m)
		}
		if now := len(f.of("device.a.status")); now != before+1 {
			t.Errorf("the state was published %d times to the new session, want 1", now-before)
		}
		// A session that came and went unnoticed gets the state as well.
		f.join(3)
		after(watchEvery)
		if now := len(f.of("device.a.status")); now != before+2 {
			t.Errorf("the state was published %d times to the third session, want 1", now-before-1)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// An event that can never be sent holds nothing up.
func TestUnsendable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r, out := outletOf(t, DefaultConfig(), []Reading{{Name: "n", Type: "int"}, {Name: "m", Type: "int"}}, f)
		f.refuse = func(topic string) error {
			if topic == "device.a.n" {
				return errors.New("no encoding")
			}
			return nil
		}
		out.Emit("n", 1, Sample{})
		out.Emit("m", 2, Sample{})
		synctest.Wait()
		if m := f.values("device.a.m"); !slices.Equal(m, []any{int64(2)}) {
			t.Errorf("have %v", m)
		}
		if s := r.device("a"); s.Dropped != 1 || s.Published != 1 {
			t.Errorf("have %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueue(t *testing.T) {
	q := queue{max: 200}
	next, popped := int64(0), int64(0)
	// Fills and empties in waves, so that the ring grows while it is wrapped.
	for wave := range 60 {
		for range wave {
			q.push(entry{seq: next})
			next++
		}
		for range wave - wave/10 {
			e, ok := q.pop()
			if !ok || e.seq != popped {
				t.Fatalf("have %d, %v, want %d", e.seq, ok, popped)
			}
			popped++
			if q.count == 0 && len(q.ring) > queueMin {
				t.Fatal("an empty queue keeps its memory")
			}
		}
		if next-popped > 90 {
			break
		}
	}
	for int64(q.count) < 200 {
		q.push(entry{seq: next})
		next++
	}
	if dropped, full := q.push(entry{seq: next}); !full || dropped.seq != popped {
		t.Errorf("have %d, %v, want the oldest, %d", dropped.seq, full, popped)
	}
}
