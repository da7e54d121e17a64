package sim

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard is one value or fault that a device said, and when.
type heard struct {
	at      time.Duration
	reading string
	value   any // of a fault, the reason's text
	extra   wamp.Dict
}

// ear is an Outlet that remembers.
type ear struct {
	begun time.Time
	mu    sync.Mutex
	ready bool
	said  []heard
}

func (e *ear) hear(reading string, value any, extra wamp.Dict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, heard{time.Since(e.begun), reading, value, extra})
}

func (e *ear) Ready()         { e.mu.Lock(); e.ready = true; e.mu.Unlock() }
func (e *ear) Degraded(error) {}

func (e *ear) Emit(reading string, value any, s devices.Sample) { e.hear(reading, value, s.Extra) }
func (e *ear) Fault(reading string, reason error)               { e.hear(reading, reason.Error(), nil) }

// all returns what was said so far.
func (e *ear) all() []heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.said)
}

// run opens a device and runs it; stop ends it and returns Run's error.
func run(t *testing.T, d devices.Driver, params any) (dev devices.Device, e *ear, stop func() error) {
	t.Helper()
	if v, ok := params.(devices.Validator); ok {
		v.Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })
	}
	dev, err := d.Open(devices.Env{Name: "test"}, params)
	if err != nil {
		t.Fatal(err)
	}
	e = &ear{begun: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dev.Run(ctx, e) }()
	synctest.Wait()
	return dev, e, func() error { cancel(); return <-done }
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func end(t *testing.T, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// wrong returns the paths that Validate reports.
func wrong(v devices.Validator) []string {
	paths := []string{}
	v.Validate(func(path, _, _ string) { paths = append(paths, path) })
	return paths
}

func TestSine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Sine()
		p := d.NewParams().(*SineParams)
		p.Reading, p.Unit, p.Interval, p.Decimals = "temperature", "Cel", 250*time.Millisecond, 3
		p.Offset, p.Amplitude, p.Period = 20, 4, time.Second
		dev, e, stop := run(t, d, p)
		if want := []devices.Reading{{Name: "temperature", Doc: "the wave, with its noise", Unit: "Cel", Type: "float"}}; !slices.Equal(dev.Readings(), want) {
			t.Errorf("have %v", dev.Readings())
		}
		after(1100 * time.Millisecond)
		end(t, stop)
		var have []string
		for _, h := range e.all() {
			have = append(have, fmt.Sprint(h.at, " ", h.reading, " ", h.value))
		}
		want := []string{"0s temperature 20", "250ms temperature 24", "500ms temperature 20", "750ms temperature 16", "1s temperature 20"}
		if !slices.Equal(have, want) {
			t.Errorf("have %q, want %q", have, want)
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
	})
}

func TestSineNoiseAndPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Sine()
		p := d.NewParams().(*SineParams)
		p.Amplitude, p.Noise, p.Decimals, p.Interval = 0, 2, 6, time.Millisecond
		_, e, stop := run(t, d, p)
		after(4 * time.Second)
		end(t, stop)
		sum, squares, n := 0.0, 0.0, 0.0
		for _, h := range e.all() {
			v := h.value.(float64)
			sum, squares, n = sum+v, squares+v*v, n+1
		}
		// 4001 samples: the mean's standard error is 0.03.
		if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.3 || math.Abs(dev-2) > 0.3 {
			t.Errorf("noise of 2: mean %.2f, deviation %.2f", mean, dev)
		}
		p = d.NewParams().(*SineParams)
		p.Phase = p.Period / 4
		_, e, stop = run(t, d, p)
		end(t, stop)
		if v := e.all()[0].value; v != 1.0 {
			t.Errorf("a quarter into the wave: have %v, want 1", v)
		}
	})
}

func TestWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		walk := func(seed uint64) []heard {
			d := Walk()
			p := d.NewParams().(*WalkParams)
			p.Start, p.Step, p.Min, p.Max, p.Seed, p.Decimals = 9, 3, 0, 10, seed, 12
			_, e, stop := run(t, d, p)
			after(500 * time.Second)
			end(t, stop)
			return e.all()
		}
		first := walk(7)
		if len(first) != 501 || first[0].value != 9.0 {
			t.Fatalf("have %d values, the first %v", len(first), first[0].value)
		}
		for i := 1; i < len(first); i++ {
			a, b := first[i-1].value.(float64), first[i].value.(float64)
			if b < 0 || b > 10 || math.Abs(b-a) > 3.000001 {
				t.Fatalf("from %v to %v", a, b)
			}
		}
		if again := walk(7); !reflect.DeepEqual(first, again) {
			t.Error("the same seed gives another walk")
		}
		if other := walk(0); reflect.DeepEqual(first, other) {
			t.Error("no seed gives the same walk")
		}
	})
	for _, c := range []struct {
		p    WalkParams
		want []string
	}{
		{WalkParams{Signal: newSignal(), Max: 1}, nil},
		{WalkParams{Signal: newSignal(), Min: 1, Max: 1}, []string{"min"}},
		{WalkParams{Signal: newSignal(), Start: 5, Max: 1}, []string{"start"}},
		{WalkParams{Signal: Signal{Reading: "Le vel"}, Max: 1}, []string{"reading"}},
	} {
		if have := wrong(&c.p); !slices.Equal(have, c.want) {
			t.Errorf("%+v: have %q, want %q", c.p, have, c.want)
		}
	}
}

func TestSquare(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*SquareParams)
		want   []heard
	}{
		{"numbers", func(p *SquareParams) { p.Low, p.High = -1, 5 }, []heard{
			{0, "value", -1.0, nil}, {7500 * time.Millisecond, "value", 5.0, nil}, {10 * time.Second, "value", -1.0, nil}, {17500 * time.Millisecond, "value", 5.0, nil},
		}},
		{"contact", func(p *SquareParams) { p.Reading, p.Boolean = "open", true }, []heard{
			{0, "open", false, nil}, {7500 * time.Millisecond, "open", true, nil}, {10 * time.Second, "open", false, nil}, {17500 * time.Millisecond, "open", true, nil},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := Square()
				p := d.NewParams().(*SquareParams)
				p.Duty = 0.25
				c.change(p)
				dev, e, stop := run(t, d, p)
				after(19 * time.Second)
				end(t, stop)
				if have := e.all(); !reflect.DeepEqual(have, c.want) {
					t.Errorf("have %v, want %v", have, c.want)
				}
				if r := dev.Readings()[0]; (r.Type == "bool") != p.Boolean || r.Name != p.Reading {
					t.Errorf("have %v", r)
				}
			})
		})
	}
	for _, duty := range []float64{0, 1, -1, math.NaN()} {
		if have := wrong(&SquareParams{Reading: "x", Duty: duty}); !slices.Equal(have, []string{"duty"}) {
			t.Errorf("duty %v: have %q", duty, have)
		}
	}
}

// proc returns a device's procedure, to be called as the host does.
func proc(t *testing.T, dev devices.Device, name string) func(args ...any) (any, error) {
	t.Helper()
	for _, p := range dev.Procedures() {
		if p.Name == name {
			return func(args ...any) (any, error) { return p.Call(t.Context(), args, nil) }
		}
	}
	t.Fatalf("there is no procedure %q", name)
	return nil
}

func TestRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Relay()
		p := d.NewParams().(*RelayParams)
		p.Initial = stateOn
		dev, e, stop := run(t, d, p)
		do := func(name string, want any, args ...any) {
			t.Helper()
			if have, err := proc(t, dev, name)(args...); err != nil || have != want {
				t.Errorf("%s%v: have %v, %v, want %v", name, args, have, err, want)
			}
		}
		do("set", true, true) // is no change
		do("toggle", false)
		do("toggle", true)
		do("set", false, false)
		do("pulse", true, int64(1000))
		after(600 * time.Millisecond)
		do("pulse", true, int64(1000)) // begins anew
		after(600 * time.Millisecond)
		do("set", true, true) // ends the pulse and stays on
		after(time.Hour)
		do("pulse", true, int64(500))
		after(time.Second)
		do("pulse", true, int64(500))
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		after(time.Second)
		end(t, stop)
		want := []heard{
			{0, "on", true, nil},
			{0, "on", false, nil},
			{0, "on", true, nil},
			{0, "on", false, nil},
			{0, "on", true, nil},
			{time.Hour + 1700*time.Millisecond, "on", false, nil},
			{time.Hour + 2200*time.Millisecond, "on", true, nil},
			{time.Hour + 2200*time.Millisecond, "on", false, nil},
		}
		// The second pulse of 500 ms begins at 1 h 2.2 s and is halted at once.
		if have := e.all(); !reflect.DeepEqual(have, want) {
			t.Errorf("have %v,\nwant %v", have, want)
		}
		for _, ms := range []int64{0, -1, 3_600_001} {
			if _, err := proc(t, dev, "pulse")(ms); err == nil || !strings.Contains(err.Error(), wamp.ErrInvalidArgument) {
				t.Errorf("pulse(%d): have %v", ms, err)
			}
		}
	})
}

// The safe state needs no run before it, and a pulse does not outlive a run.
func TestRelaySafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Relay()
		p := d.NewParams().(*RelayParams)
		p.Safe = stateOn
		dev, err := d.Open(devices.Env{}, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		dev, e, stop := run(t, d, p)
		if _, err := proc(t, dev, "pulse")(int64(1000)); err != nil {
			t.Error(err)
		}
		end(t, stop)
		after(time.Minute)
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		want := []heard{{0, "on", false, nil}, {0, "on", true, nil}}
		if have := e.all(); !reflect.DeepEqual(have, want) {
			t.Errorf("have %v, want %v", have, want)
		}
	})
}

func TestDemoDevices(t *testing.T) {
	drivers := map[string]devices.Driver{}
	for _, d := range []devices.Driver{Sine(), Walk(), Square(), Playback(), Relay()} {
		drivers[d.Type] = d
	}
	kinds := map[string]bool{}
	for _, entry := range Demo() {
		synctest.Test(t, func(t *testing.T) {
			kinds[entry.Type] = true
			_, e, stop := run(t, drivers[entry.Type], entry.Params)
			// Something within a moment, and from all but the relay something new
			// within a few seconds.
			if len(e.all()) == 0 {
				t.Errorf("%s says nothing at first", entry.Name)
			}
			first := len(e.all())
			after(10 * time.Second)
			if n := len(e.all()); n == first && entry.Type != "sim-relay" {
				t.Errorf("%s says nothing more", entry.Name)
			}
			end(t, stop)
		})
	}
	if want := slices.Sorted(maps.Keys(drivers)); !slices.Equal(slices.Sorted(maps.Keys(kinds)), want) {
		t.Errorf("the demonstration has %v, want all of %v", kinds, want)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "recording.csv")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
