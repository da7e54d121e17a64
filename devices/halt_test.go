package devices

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
)

func noCall(context.Context, wamp.List, wamp.Dict) (any, error) { return nil, nil }

// Before anything can be commanded, the safe state is set.
func TestHaltComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		var registered bool // guarded by f.mu
		var opened atomic.Bool
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			procedures: []Procedure{{Name: "set", Call: noCall}},
			halt: func() error {
				<-time.After(100 * time.Millisecond)
				f.mu.Lock()
				defer f.mu.Unlock()
				registered = registered || len(f.procs) > 0
				f.order = append(f.order, "halt")
				return nil
			},
			run: func(ctx context.Context, out Outlet) error {
				opened.Store(true)
				f.note("run")
				out.Ready()
				<-ctx.Done()
				return nil
			},
		}})
		r := start(t, h, f)
		if opened.Load() {
			t.Error("the device was opened while it was being halted")
		}
		after(time.Second)
		if registered || slices.Index(f.order, "halt") > slices.Index(f.order, "run") {
			t.Errorf("have %q; registered before: %v", f.order, registered)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The order at the end: procedures refuse and are withdrawn, running ones are
// cancelled, the actuator is halted, then the last states are published.
func TestShutdownOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		var outlet Outlet
		started := false
		dev := &scripted{readings: []Reading{{Name: "on", Type: "bool"}}}
		dev.procedures = []Procedure{{Name: "hold", Call: func(ctx context.Context, _ wamp.List, _ wamp.Dict) (any, error) {
			outlet.Emit("on", true, Sample{})
			<-ctx.Done()
			f.note("cancelled")
			return nil, ctx.Err()
		}}}
		dev.run = func(ctx context.Context, out Outlet) error {
			outlet = out
			out.Ready()
			<-ctx.Done()
			f.note("run ended")
			return nil
		}
		dev.halt = func() error {
			if !started {
				started = true
				return nil
			}
			_, err := f.call("device.a.hold", nil, nil)
			if e := (*wamp.Error)(nil); !errors.As(err, &e) || e.URI != ErrDeviceUnavailable && e.URI != wamp.ErrNoSuchProcedure {
				t.Errorf("a call during Halt: have %v", err)
			}
			f.note("halt")
			outlet.Emit("on", false, Sample{})
			return nil
		}
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": dev}), f)
		held := make(chan error, 1)
		go func() { _, err := f.call("device.a.hold", nil, nil); held <- err }()
		synctest.Wait()
		f.mu.Lock()
		f.order = nil
		f.mu.Unlock()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if e := errorOf(t, <-held); e.URI != ErrDeviceUnavailable {
			t.Errorf("the running call: have %v", e)
		}
		at := func(what string) int {
			i := slices.Index(f.order, what)
			if i < 0 {
				t.Errorf("%q is missing in %q", what, f.order)
			}
			return i
		}
		halt := at("halt")
		if at("cancelled") > halt || at("run ended") > halt || at("event device.a.on") < halt || at("event device.a.status") < halt {
			t.Errorf("wrong order: %q", f.order)
		}
		at("unregister device.a.hold")
		if v := f.values("device.a.on"); !slices.Equal(v, []any{true, false}) {
			t.Errorf("have %v, want the safe level last", v)
		}
		if s := r.states("a"); s[len(s)-1] != "stopped" {
			t.Errorf("the last state is %q", s)
		}
		// What only reads still answers, the actuator is gone.
		if _, err := f.call("device.a.status", nil, nil); err != nil {
			t.Error(err)
		}
		if _, err := f.call("device.a.hold", nil, nil); errorOf(t, err).URI != wamp.ErrNoSuchProcedure {
			t.Errorf("have %v", err)
		}
	})
}

// Devices that hang keep neither the others nor the end waiting, and are
// halted over their heads; again, when they come back later.
func TestHaltOverHangingDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var halts atomic.Int32
		var level atomic.Bool // what a late driver does
		hang := func() error { <-release; return nil }
		first := true
		f := newFakeRealm()
		h := testHost(t, DefaultConfig(), map[string]*scripted{
			"deaf": {
				run: func(_ context.Context, out Outlet) error {
					out.Ready()
					<-release
					level.Store(true)
					return nil
				},
				halt: func() error { halts.Add(1); level.Store(false); return nil },
			},
			"fine": {},
			"stuck": {halt: func() error {
				if first {
					first = false
					return nil
				}
				return hang()
			}},
			"wedged": {halt: func() error { return errUnplugged }},
		})
		r := start(t, h, f)
		begun := time.Now()
		results := r.HaltAll(context.Background())
		if took := time.Since(begun); took > haltBound {
			t.Errorf("it took %v", took)
		}
		want := map[string]string{"deaf": "", "fine": "", "stuck": `halt "stuck"`, "wedged": "unplugged"}
		for _, res := range results {
			w := want[res.Device]
			if (res.Err == nil) != (w == "") || res.Err != nil && !strings.Contains(res.Err.Error(), w) {
				t.Errorf("%s: have %v, want %q", res.Device, res.Err, w)
			}
			if res.Device == "fine" && res.Took > 0 {
				t.Errorf("fine: took %v", res.Took)
			}
		}
		// HaltAll ends Run too, which names those that did not return.
		err := <-r.result
		for _, part := range []string{"stuck", "wedged", `"deaf": its driver has not returned`} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("have %v, want it to name %q", err, part)
			}
		}
		if s := r.device("wedged"); s.State != StateStopped || !strings.Contains(s.Reason, "unplugged") {
			t.Errorf("have %+v", s)
		}
		if again := r.HaltAll(context.Background()); len(again) != 4 {
			t.Errorf("have %v", again)
		}
		close(release)
		synctest.Wait()
		if level.Load() {
			t.Error("a driver that came back late undid the halt")
		}
	})
}

// A procedure that ignores its context cannot undo a halt either.
func TestLateCallIsHaltedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var on atomic.Bool
		f := newFakeRealm()
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			procedures: []Procedure{{Name: "set", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) {
				<-release
				on.Store(true)
				return nil, nil
			}}},
			halt: func() error { on.Store(false); return nil },
		}})
		r := start(t, h, f)
		done := make(chan struct{})
		go func() { _, _ = f.call("device.a.set", nil, nil); close(done) }()
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		close(release)
		<-done
		if on.Load() {
			t.Error("the call undid the halt")
		}
	})
}

// HaltAll works without Run, as for a safe state after a crash of the gateway,
// and a Run after it starts nothing.
func TestHaltAllAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var halts, runs atomic.Int32
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			halt: func() error { halts.Add(1); return nil },
			run:  func(context.Context, Outlet) error { runs.Add(1); return nil },
		}})
		if res := h.HaltAll(context.Background()); res[0].Err != nil || halts.Load() != 1 {
			t.Errorf("have %v, %d halts", res, halts.Load())
		}
		if err := h.run(context.Background(), newFakeRealm()); err != nil || runs.Load() != 0 {
			t.Errorf("have %v, %d runs", err, runs.Load())
		}
		if err := h.run(context.Background(), newFakeRealm()); err == nil {
			t.Error("a second Run is accepted")
		}
	})
}

func TestHaltAllGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {halt: func() error { <-release; return nil }}})
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if res := h.HaltAll(ctx); res[0].Err == nil || !strings.Contains(res[0].Err.Error(), "given up") {
			t.Errorf("have %v", res)
		}
		close(release)
	})
}

// A session that is gone for good ends the host: nobody could command its
// actuators any more.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		var halts atomic.Int32
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": {halt: func() error { halts.Add(1); return nil }}}), f)
		f.join(0)
		f.why = errors.New("kicked out")
		close(f.ended)
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), "kicked out") {
			t.Errorf("have %v", err)
		}
		if n := halts.Load(); n != 2 {
			t.Errorf("have %d halts, want 2", n)
		}
	})
}

// A realm that takes nothing any more delays the end by the farewell's bound.
func TestFarewellIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r, out := outletOf(t, DefaultConfig(), float("t"), f)
		f.mu.Lock()
		f.gate = make(chan struct{})
		f.mu.Unlock()
		out.Emit("t", 1.0, Sample{})
		begun := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != farewellBound {
			t.Errorf("it took %v, want %v", took, farewellBound)
		}
	})
}

func TestPanicInHalt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {halt: func() error { panic("boom") }}})
		if res := h.HaltAll(context.Background()); res[0].Err == nil || !strings.Contains(res[0].Err.Error(), "boom") {
			t.Errorf("have %v", res)
		}
	})
}
