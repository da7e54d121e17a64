package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// crowd is an Outlet that several may speak through.
type crowd struct {
	mu   sync.Mutex
	said []string
}

func (c *crowd) Ready()         {}
func (c *crowd) Degraded(error) {}
func (c *crowd) Emit(reading string, value any, _ devices.Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, fmt.Sprintf("%s=%v", reading, value))
}

func (c *crowd) Fault(reading string, reason error) {
	c.Emit(reading, reason, devices.Sample{})
}

// take returns what was said since the last time.
func (c *crowd) take() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.said, " ")
	c.said = nil
	return s
}

// steady measures 10 every second.
func steady() *SineParams {
	return &SineParams{Signal: Signal{Reading: "t", Interval: time.Second, Decimals: 2}, Offset: 10, Period: time.Minute}
}

// inhabit makes a world of one device, "a".
func inhabit(t *testing.T, sim devices.Simulation) (*World, devices.Device) {
	t.Helper()
	table, err := devices.NewTable(Sine(), Relay())
	if err != nil {
		t.Fatal(err)
	}
	cfg := devices.DefaultConfig()
	cfg.List = []devices.Entry{{Name: "a", Type: "sim-sine", Params: steady(), Sim: sim}}
	w, err := NewWorld(table, cfg)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := w.Table().Driver("sim-sine").Open(devices.Env{Name: "a"}, cfg.List[0].Params)
	if err != nil {
		t.Fatal(err)
	}
	return w, dev
}

func TestWorldFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dev := inhabit(t, devices.Simulation{Faults: []devices.SimulatedFault{{Kind: faultUnplug, At: 100 * time.Second, For: time.Second}}})
		var out crowd
		ended := make(chan error, 1)
		go func() { ended <- dev.Run(t.Context(), &out) }()
		pass := func(d time.Duration) string {
			time.Sleep(d)
			return out.take()
		}
		do := func(kwargs wamp.Dict) {
			t.Helper()
			if err := w.simulate(wamp.List{"a"}, kwargs); err != nil {
				t.Error(err)
			}
		}
		if s := pass(1500 * time.Millisecond); s != "t=10 t=10" {
			t.Errorf("have %s", s)
		}
		do(wamp.Dict{"reading": "t", "value": 92.5})
		if s := pass(time.Second); s != "t=92.5 t=92.5" {
			t.Errorf("a value: have %s", s)
		}
		do(wamp.Dict{"fault": faultStuck})
		do(wamp.Dict{"reading": "t", "value": 7})
		if s := pass(time.Second); s != "t=92.5 t=92.5" {
			t.Errorf("stuck: have %s", s)
		}
		do(wamp.Dict{"fault": faultNone})
		if s := pass(time.Second); s != "t=10" {
			t.Errorf("well again: have %s", s)
		}
		do(wamp.Dict{"fault": faultSlow, "amount": 2.5, "ms": 9000})
		if s := pass(9 * time.Second); s != "t=10 t=10 t=10" {
			t.Errorf("slow: have %s", s)
		}
		do(wamp.Dict{"fault": faultNoise, "reading": "t", "amount": 100})
		if s := pass(2 * time.Second); strings.Contains(s, "t=10 ") || strings.Count(s, "t=") != 2 {
			t.Errorf("noise: have %s", s)
		}
		do(wamp.Dict{"fault": faultUnplug, "ms": 5000})
		if err := <-ended; err != errUnplugged {
			t.Errorf("unplugged: %v", err)
		}
		if err := dev.Run(t.Context(), &out); err != errUnplugged {
			t.Errorf("still unplugged: %v", err)
		}
		time.Sleep(5 * time.Second)
		go func() { ended <- dev.Run(t.Context(), &out) }()
		begin := time.Now()
		if err := <-ended; err != errUnplugged { // as the entry says, a hundred seconds after the start
			t.Errorf("unplugged by the configuration: %v", err)
		}
		if d := time.Since(begin); d < 70*time.Second || d > 80*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestWorldScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := devices.Script{Points: []devices.ScriptPoint{{At: 0, Value: 1}, {At: 2 * time.Second, Value: 2}}, Interval: time.Second, Speed: 1}
		_, dev := inhabit(t, devices.Simulation{Readings: map[string]devices.Script{"t": script}})
		var out crowd
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- dev.Run(ctx, &out) }()
		time.Sleep(5 * time.Second)
		if s := out.take(); s != "t=1 t=2" { // and nothing of the driver's
			t.Errorf("have %s", s)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestWorldRefusals(t *testing.T) {
	w, _ := inhabit(t, devices.Simulation{})
	for _, c := range []struct {
		args   wamp.List
		kwargs wamp.Dict
		want   string
	}{
		{wamp.List{"b"}, nil, `no device "b"`},
		{wamp.List{"a", 1}, nil, "by position"},
		{nil, wamp.Dict{"device": "a", "falt": "unplug"}, `"falt" is unknown`},
		{wamp.List{"a"}, wamp.Dict{"value": 1}, "name it"},
		{wamp.List{"a"}, wamp.Dict{"reading": "x", "value": 1}, `no reading "x"`},
		{wamp.List{"a"}, wamp.Dict{"fault": "explode"}, "must be one of"},
		{wamp.List{"a"}, wamp.Dict{"fault": "noise", "amount": -1}, "amount must be"},
		{wamp.List{"a"}, wamp.Dict{"fault": "noise", "ms": -1}, "amount must be"},
	} {
		if err := w.simulate(c.args, c.kwargs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v, want %q", c.args, c.kwargs, err, c.want)
		}
	}
	for range 3 * maxFaults {
		if err := w.simulate(wamp.List{"a"}, wamp.Dict{"fault": "noise"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.bodies["a"].faults); n > maxFaults {
		t.Errorf("%d faults are remembered", n)
	}
	table, _ := devices.NewTable(Sine())
	cfg := devices.DefaultConfig()
	cfg.List = []devices.Entry{{Name: "a", Type: "sim-sine", Sim: devices.Simulation{Readings: map[string]devices.Script{"value": {Speed: 1}}}}}
	if _, err := NewWorld(table, cfg); err == nil || !strings.Contains(err.Error(), "sim.readings.value") {
		t.Errorf("a script without a source: %v", err)
	}
}

// What a device can beside measure, it can in the world.
func TestWorldKeepsAbilities(t *testing.T) {
	w, sine := inhabit(t, devices.Simulation{})
	if _, ok := sine.(devices.Releaser); ok {
		t.Error("a sensor has a safe state")
	}
	relay, err := w.Table().Driver("sim-relay").Open(devices.Env{Name: "r"}, Relay().NewParams())
	if err != nil {
		t.Fatal(err)
	}
	r, ok := relay.(devices.Releaser)
	if !ok || r.Release() != nil {
		t.Error("an actuator lost its safe state")
	}
	if p, ok := relay.(devices.Preparer); !ok || p.Prepare() != nil {
		t.Error("a device cannot be prepared")
	}
	if !slices.Equal(w.Table().Types(), []string{"sim-sine", "sim-relay"}) {
		t.Error(w.Table().Types())
	}
}
