package gpio

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// refused calls a procedure that a rule is against, and returns how long to
// wait.
func (r *running) refused(rule, name string, args ...any) time.Duration {
	r.t.Helper()
	_, err := r.call(name, args...)
	e := new(wamp.Error)
	if !errors.As(err, &e) || e.URI != errRefused || e.KwArgs["rule"] != rule {
		r.t.Errorf("%s%v: %v, want it refused by %s", name, args, err, rule)
		return 0
	}
	return time.Duration(e.KwArgs["retry_ms"].(int64)) * time.Millisecond
}

func TestBlink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newBoard(t).output(func(p *OutputParams) {}))
		r.expect("ready on=false")
		r.must(true, "blink", int64(100), int64(50), int64(2))
		time.Sleep(time.Hour)
		r.expect("on=true on=false on=true on=false")
		r.must(true, "blink", int64(100), int64(50), nil)
		time.Sleep(10*150*time.Millisecond + 10*time.Millisecond)
		if have := strings.Count(r.take(), "on=true"); have != 11 {
			t.Errorf("it was on %d times", have)
		}
		r.must(false, "set", false)
		time.Sleep(time.Hour)
		r.expect("on=false")
		for _, args := range [][]any{{int64(0), int64(1), nil}, {int64(1), int64(0), nil}, {int64(1), int64(1), int64(0)}} {
			if _, err := r.call("blink", args...); err == nil || !strings.Contains(err.Error(), wamp.ErrInvalidArgument) {
				t.Errorf("blink%v: %v", args, err)
			}
		}
		r.must(true, "blink", int64(100), int64(50), nil)
		r.must(true, "read")
		if err := r.dev.(devices.Releaser).Release(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		r.expect("on=true on=false")
		r.must(true, "set", true) // it serves on
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSwitchingRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		r := start(t, b.output(func(p *OutputParams) { p.MinOn, p.MinOff, p.MaxOn = 10*time.Second, time.Minute, time.Hour }))
		r.expect("ready on=false")
		if wait := r.refused("min_off", "set", true); wait != time.Minute { // a compressor after a power failure
			t.Errorf("wait %v", wait)
		}
		time.Sleep(time.Minute)
		r.must(true, "set", true)
		time.Sleep(4 * time.Second)
		if wait := r.refused("min_on", "toggle"); wait != 6*time.Second {
			t.Errorf("wait %v", wait)
		}
		r.must(true, "set", true) // no switching
		r.expect("on=true")
		time.Sleep(time.Hour - 5*time.Second)
		r.expect("")
		time.Sleep(time.Second) // an hour after it was switched on
		r.expect("on=false")
		for _, c := range []struct {
			name string
			args []any
		}{{"pulse", []any{int64(9999)}}, {"blink", []any{int64(9999), int64(60_000), nil}}, {"blink", []any{int64(10_000), int64(59_999), nil}}} {
			if _, err := r.call(c.name, c.args...); err == nil || !strings.Contains(err.Error(), wamp.ErrInvalidArgument) {
				t.Errorf("%s%v: %v", c.name, c.args, err)
			}
		}
		time.Sleep(time.Minute)
		r.must(true, "set", true)
		if err := r.dev.Halt(); err != nil || r.dev.(*output).on { // safe comes before min_on
			t.Errorf("%v", err)
		}
		r.stop()

		r = start(t, newBoard(t).output(func(p *OutputParams) { p.MaxRate = 3 }))
		for range 3 {
			r.must(true, "set", true)
			time.Sleep(time.Second)
			r.must(false, "set", false)
			time.Sleep(time.Second)
		}
		if wait := r.refused("max_rate", "set", true); wait != 54*time.Second {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(54 * time.Second)
		r.must(true, "set", true)
		if _, err := r.call("blink", int64(100), int64(100), nil); err == nil {
			t.Error("blinks more often than it may")
		}
		r.stop()
	})
}

func TestInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		member := func(pin string, dead time.Duration) *running {
			return start(t, b.output(func(p *OutputParams) { p.Pin, p.Interlock, p.DeadTime = pin, "motor", dead }))
		}
		up, down := member("GPIO5", 500*time.Millisecond), member("GPIO6", 0)
		up.must(true, "set", true)
		if wait := down.refused("interlock", "set", true); wait != 0 {
			t.Errorf("wait %v for an output that stays on", wait)
		}
		down.must(false, "set", false)
		up.must(false, "set", false)
		time.Sleep(100 * time.Millisecond)
		up.must(true, "set", true) // its own direction has no dead time
		up.must(true, "pulse", int64(100))
		time.Sleep(200 * time.Millisecond) // off for 100 ms
		if wait := down.refused("interlock", "pulse", int64(100)); wait != 400*time.Millisecond {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(400 * time.Millisecond)
		down.must(true, "set", true)
		up.refused("interlock", "blink", int64(100), int64(100), nil)
		// Its driver ends and it is not safe yet: nobody knows that it is off.
		down.stop()
		up.refused("interlock", "set", true)
		if err := down.dev.Halt(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		up.must(true, "set", true)
		up.stop()
	})
}

func TestRestore(t *testing.T) {
	for _, c := range []struct {
		initial, safe, file, want string
		fails                     bool
	}{
		{initial: "last", safe: "off", want: "off"},
		{initial: "last", safe: "on", want: "on"},
		{initial: "last", safe: "off", file: `{"on":true}`, want: "on"},
		{initial: "last", safe: "on", file: `{"on":false}`, want: "off"},
		{initial: "inverted", safe: "off", file: `{"on":true}`, want: "off"},
		{initial: "inverted", safe: "off", file: `{"on":false}`, want: "on"},
		{initial: "inverted", safe: "off", want: "off"},
		{initial: "last", safe: "off", file: `{`, want: "off", fails: true},
	} {
		t.Run(c.initial+c.safe+c.file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				b.env.StateDir = t.TempDir()
				path := filepath.Join(b.env.StateDir, "devices", "test.json")
				if c.file != "" {
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				probe := start(t, b.input(func(p *InputParams) { p.Pull = map[string]string{"on": "down", "off": "up"}[c.want] }))
				probe.take()
				dev := b.output(func(p *OutputParams) { p.Initial, p.Safe = c.initial, c.safe })
				if err := dev.(devices.Preparer).Prepare(); (err != nil) != c.fails {
					t.Fatal(err)
				}
				if have := word(dev.(*output).on); have != c.want {
					t.Errorf("it starts %s", have)
				}
				if c.fails {
					if err := start(t, dev).stop(); err == nil || !strings.Contains(err.Error(), path) {
						t.Errorf("Run: %v", err)
					}
					probe.stop()
					return
				}
				r := start(t, dev)
				if have := len(strings.Fields(probe.take())); have != 1 {
					t.Errorf("the line changed %d times until it ran", have)
				}
				r.must(c.want != "on", "toggle")
				r.must(true, "pulse", int64(1)) // not a state to come back to
				r.must(c.want != "on", "set", c.want != "on")
				time.Sleep(saveEvery)
				synctest.Wait()
				text, err := os.ReadFile(path)
				if want := `{"on":` + map[bool]string{true: "true", false: "false"}[c.want != "on"] + "}\n"; string(text) != want || err != nil {
					t.Errorf("written: %q, %v", text, err)
				}
				r.stop()
				probe.stop()
			})
		})
	}
}

// An output that starts on does not pass through its safe state.
func TestPrepareWithoutGlitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		in := start(t, b.input(func(p *InputParams) { p.Pull = "up" }))
		in.expect("ready level=true")
		dev := b.output(func(p *OutputParams) { p.Initial = "on" })
		if err := dev.(devices.Preparer).Prepare(); err != nil {
			t.Fatal(err)
		}
		r := start(t, dev)
		r.expect("ready on=true")
		in.expect("")
		// What is stronger than the output shows.
		pin := dev.(*output).pin.(*simPin)
		pin.wire.mu.Lock()
		pin.wire.driven = false
		pin.wire.mu.Unlock()
		r.must(true, "set", true) // drives again
		time.Sleep(time.Second)
		r.expect("")
		r.stop()
		in.stop()
	})
}

func TestReadBackDegrades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := newBroken()
		p := *newOutputParams()
		r := start(t, newOutput(p, func() (periph.PinIO, error) { return pin, nil }))
		time.Sleep(time.Second)
		r.expect("ready on=false")
		r.must(true, "set", true)
		pin.mu.Lock()
		pin.level = false // a short circuit
		pin.mu.Unlock()
		time.Sleep(time.Second)
		if have := r.take(); !strings.Contains(have, "degraded:GPIO line pin was driven on but reads off") {
			t.Error(have)
		}
		r.must(false, "read")
		r.must(false, "set", false)
		time.Sleep(time.Second)
		r.expect("on=false ready")
		r.stop()
	})
}

func TestOutputRules(t *testing.T) {
	for want, change := range map[string]func(*OutputParams){
		"":                        func(p *OutputParams) { p.Interlock, p.DeadTime = "motor", time.Second },
		"interlock":               func(p *OutputParams) { p.Interlock, p.Initial = "motor", "last" },
		"dead_time":               func(p *OutputParams) { p.DeadTime = time.Second },
		"max_on":                  func(p *OutputParams) { p.MaxOn, p.MinOn = time.Second, time.Minute },
		"max_on max_on":           func(p *OutputParams) { p.MaxOn, p.MinOn, p.Safe = time.Second, time.Minute, "on" },
		"min_on min_off max_rate": func(p *OutputParams) { p.MinOn, p.MinOff, p.MaxRate = -1, maxTimes+1, -1 },
	} {
		p := newOutputParams()
		p.Pin = "GPIO4"
		change(p)
		var paths []string
		p.Validate(func(path, _, _ string) { paths = append(paths, path) })
		if have := strings.Join(paths, " "); have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
	entries := []devices.Entry{
		{Name: "up", Params: &OutputParams{Interlock: "motor"}},
		{Name: "down", Params: &OutputParams{Interlock: "motor"}},
		{Name: "left", Params: &OutputParams{Interlock: "motro"}},
		{Name: "lamp", Params: &OutputParams{}},
	}
	if have := devices.CheckGroups(entries); len(have) != 1 || have[0] != (devices.Lonely{Index: 2, Key: "interlock", Name: "motro"}) {
		t.Errorf("%+v", have)
	}
}
