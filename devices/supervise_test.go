package devices

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errUnplugged = errors.New("unplugged")

// states returns the states that were published of a device.
func (r *running) states(device string) []string {
	var s []string
	for _, v := range r.realm.values("device." + device + ".status") {
		s = append(s, v.(string))
	}
	return s
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var opened []time.Time
		var lasts time.Duration // how long a run is well before it fails
		times := func() []time.Time {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(opened)
		}
		let := func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			lasts = d
		}
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {run: func(ctx context.Context, out Outlet) error {
			mu.Lock()
			opened = append(opened, time.Now())
			well := lasts
			mu.Unlock()
			if well > 0 {
				out.Ready()
				select {
				case <-time.After(well):
				case <-ctx.Done():
					return nil
				}
			}
			return errUnplugged
		}}})
		r := start(t, h, newFakeRealm())
		after(200 * time.Second)
		base, opens := time.Second, times()
		for i := 1; i < len(opens); i++ {
			wait := opens[i].Sub(opens[i-1])
			if wait > base || wait < base*8/10 {
				t.Errorf("wait %d is %v, want at most %v and at least 80 %% of it", i, wait, base)
			}
			base = min(2*base, 30*time.Second)
		}
		if len(opens) < 9 {
			t.Errorf("opened %d times in 200 s, want at least 9", len(opens))
		}
		s := r.device("a")
		if s.State != StateBackOff || s.Reason != "unplugged" || s.Attempts != len(opens) {
			t.Errorf("have state %q, reason %q, attempts %d", s.State, s.Reason, s.Attempts)
		}

		// A run that lasts starts the row again.
		let(31 * time.Second)
		after(30 * time.Second)
		if s := r.device("a"); s.State != StateReady {
			t.Errorf("have state %q, want ready", s.State)
		}
		n := len(times())
		after(30 * time.Second)
		let(0)
		if more := len(times()) - n; more != 1 {
			t.Errorf("opened %d times more, want 1", more)
		}
		if s := r.device("a"); s.Attempts != 1 {
			t.Errorf("attempts after a stable run: have %d, want 1", s.Attempts)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestStatesArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {run: func(ctx context.Context, out Outlet) error {
			out.Ready()
			out.Ready() // is no news
			<-time.After(time.Second)
			out.Degraded(errors.New("noisy"))
			<-time.After(time.Second)
			out.Ready()
			<-time.After(time.Second)
			return errUnplugged
		}}})
		r := start(t, h, newFakeRealm())
		after(3500 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		want := []string{"opening", "ready", "degraded", "ready", "back-off", "stopped"}
		have := r.states("a")
		// The publisher may have come first and have said "configured".
		if have = slices.DeleteFunc(have, func(s string) bool { return s == "configured" }); !slices.Equal(slices.Compact(have), want) {
			t.Errorf("have %q, want %q", have, want)
		}
		for _, e := range r.realm.of("device.a.status") {
			if !e.retain {
				t.Errorf("state %v is not retained", e.args)
			}
			if e.kwargs["state"] == "degraded" && e.kwargs["reason"] != "noisy" {
				t.Errorf("have %v", e.kwargs)
			}
		}
	})
}

// A driver that crashes takes nobody along: it is halted and opened again.
func TestPanicEndsOnlyItsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs, halts atomic.Int32
		h := testHost(t, DefaultConfig(), map[string]*scripted{
			"bad": {
				run: func(_ context.Context, out Outlet) error {
					runs.Add(1)
					out.Ready()
					panic("boom")
				},
				halt: func() error { halts.Add(1); return nil },
			},
			"good": {readings: float("t"), run: func(ctx context.Context, out Outlet) error {
				out.Ready()
				Every(ctx, time.Second, func(time.Time) { out.Emit("t", 1.0, Sample{}) })
				return nil
			}},
		})
		r := start(t, h, newFakeRealm())
		after(500 * time.Millisecond)
		if s := r.device("bad"); s.State != StateBackOff || s.Panics != 1 || !strings.Contains(s.Reason, "crashed: boom") {
			t.Errorf("after a panic: %+v", s)
		}
		if runs.Load() != 1 || halts.Load() != 2 { // at start, and after the panic
			t.Errorf("have %d runs and %d halts, want 1 and 2", runs.Load(), halts.Load())
		}
		after(time.Second)
		if n := runs.Load(); n != 2 {
			t.Errorf("have %d runs, want 2", n)
		}
		if s := r.device("good"); s.State != StateReady || len(r.realm.values("device.good.t")) != 2 {
			t.Errorf("the other device suffered: %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunWithoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {run: func(context.Context, Outlet) error { return nil }}})
		r := start(t, h, newFakeRealm())
		if s := r.device("a"); s.State != StateBackOff || s.Reason != errNoReason.Error() {
			t.Errorf("have %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A device that is gone has no values, and says why.
func TestFailureFaultsReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			readings: append(float("t"), Reading{Name: "silent", Type: "float"}),
			run: func(_ context.Context, out Outlet) error {
				out.Ready()
				out.Emit("t", 20.5, Sample{})
				return errUnplugged
			},
		}})
		r := start(t, h, newFakeRealm())
		events := r.realm.of("device.a.t")
		if len(events) != 2 {
			t.Fatalf("have %d events, want a value and a fault", len(events))
		}
		if last := events[1]; last.args[0] != nil || last.kwargs["quality"] != "bad" || last.kwargs["reason"] != "unplugged" || last.kwargs["seq"] != int64(2) {
			t.Errorf("have %+v", last)
		}
		if n := len(r.realm.of("device.a.silent")); n != 0 {
			t.Errorf("a reading that never had a value has %d events", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Words of a run that is over do not change the device's state.
func TestLateReadyIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var old Outlet
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {run: func(_ context.Context, out Outlet) error {
			old = out
			return errUnplugged
		}}})
		r := start(t, h, newFakeRealm())
		old.Ready()
		old.Degraded(nil)
		if s := r.device("a"); s.State != StateBackOff {
			t.Errorf("have state %q, want back-off", s.State)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestReadyWaitsForDevices: the host is ready when it is known of every device
// whether it works, and no later than the bound where one is slow.
func TestReadyWaitsForDevices(t *testing.T) {
	for name, c := range map[string]struct {
		opens time.Duration
		fails error
		want  time.Duration
	}{
		"works":   {opens: 100 * time.Millisecond, want: 100 * time.Millisecond},
		"fails":   {opens: 200 * time.Millisecond, fails: errUnplugged, want: 200 * time.Millisecond},
		"dawdles": {opens: time.Hour, want: settleBound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {run: func(ctx context.Context, out Outlet) error {
					select {
					case <-time.After(c.opens):
					case <-ctx.Done():
						return nil
					}
					if c.fails != nil {
						return c.fails
					}
					out.Ready()
					<-ctx.Done()
					return nil
				}}})
				r := start(t, h, newFakeRealm())
				<-h.Ready()
				if took := time.Since(begun); took != c.want {
					t.Errorf("ready after %v, want %v", took, c.want)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
