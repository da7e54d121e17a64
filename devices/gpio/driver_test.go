package gpio

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// outlet records what a device says, one word each: "ready", "level=true#3".
type outlet struct {
	mu      sync.Mutex
	said    []string
	samples []devices.Sample
}

func (o *outlet) say(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, s)
}

func (o *outlet) Ready()                             { o.say("ready") }
func (o *outlet) Degraded(err error)                 { o.say("degraded:" + err.Error()) }
func (o *outlet) Fault(reading string, reason error) { o.say("fault:" + reading) }

func (o *outlet) Emit(reading string, value any, s devices.Sample) {
	text := fmt.Sprintf("%s=%v", reading, value)
	if s.Edge.Seq > 0 {
		text += fmt.Sprintf("#%d", s.Edge.Seq)
	}
	if s.Edge.Dropped > 0 {
		text += fmt.Sprintf("-%d", s.Edge.Dropped)
	}
	o.say(text)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.samples = append(o.samples, s)
}

// take returns what was said since the last take.
func (o *outlet) take() string {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.said, " ")
	o.said = nil
	return s
}

// running is a device whose Run is under way.
type running struct {
	outlet
	t      *testing.T
	dev    devices.Device
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, dev devices.Device) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, dev: dev, cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- dev.Run(ctx, r) }()
	synctest.Wait()
	return r
}

func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

func (r *running) call(name string, args ...any) (any, error) {
	r.t.Helper()
	return call(r.t, r.dev, name, args...)
}

func call(t *testing.T, dev devices.Device, name string, args ...any) (any, error) {
	t.Helper()
	for _, p := range dev.Procedures() {
		if p.Name == name {
			return p.Call(t.Context(), args, nil)
		}
	}
	t.Fatalf("no procedure %q", name)
	return nil, nil
}

func (r *running) must(want any, name string, args ...any) {
	r.t.Helper()
	if have, err := r.call(name, args...); err != nil || have != want {
		r.t.Errorf("%s%v: %v, %v", name, args, have, err)
	}
}

func (r *running) expect(want string) {
	r.t.Helper()
	if have := r.take(); have != want {
		r.t.Errorf("have %q\nwant %q", have, want)
	}
}

// board opens devices over one set of simulated lines.
type board struct {
	t       *testing.T
	drivers []devices.Driver
	env     devices.Env
}

func newBoard(t *testing.T) board { return board{t, Drivers(NewChips()), devices.Env{Name: "test"}} }

func (b board) input(change func(*InputParams)) devices.Device {
	return b.open(0, func(p any) { in := p.(*InputParams); in.Pin, in.Chip = "GPIO17", "sim"; change(in) })
}

func (b board) output(change func(*OutputParams)) devices.Device {
	return b.open(1, func(p any) { out := p.(*OutputParams); out.Pin, out.Chip = "GPIO17", "sim"; change(out) })
}

// of opens a device of a type.
func of[P any](b board, typ string, change func(*P)) devices.Device {
	b.t.Helper()
	for i, d := range b.drivers {
		if d.Type == typ {
			return b.open(i, func(p any) { change(p.(*P)) })
		}
	}
	b.t.Fatalf("no driver %q", typ)
	return nil
}

func (b board) open(i int, change func(any)) devices.Device {
	b.t.Helper()
	params := b.drivers[i].NewParams()
	change(params)
	params.(devices.Validator).Validate(func(path, problem, hint string) { b.t.Errorf("%s: %s", path, problem) })
	dev, err := b.drivers[i].Open(b.env, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return dev
}

func TestTable(t *testing.T) {
	if _, err := devices.NewTable(Drivers(NewChips())...); err != nil {
		t.Error(err)
	}
	for _, d := range Drivers(NewChips()) {
		if d.Type != "gpio-output" {
			continue
		}
		if _, err := d.Open(devices.Env{}, &OutputParams{Pin: "P1-6"}); err == nil {
			t.Error("an output on a ground pin")
		}
	}
}

func TestInputFollowsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		out := start(t, b.output(func(p *OutputParams) { p.Initial = "on"; p.ActiveLow = true }))
		out.expect("ready on=true")
		in := start(t, b.input(func(p *InputParams) {}))
		in.expect("ready level=false") // electrically low
		out.must(false, "set", false)
		in.expect("level=true#1")
		out.must(true, "toggle")
		out.must(true, "set", true)
		in.expect("level=false#2")
		out.expect("on=false on=true")

		if err := in.stop(); err != nil {
			t.Error(err)
		}
		if err := out.stop(); err != nil {
			t.Error(err)
		}
		if _, err := out.call("set", false); err == nil || !strings.Contains(err.Error(), wamp.ErrUnavailable) {
			t.Errorf("set on a device that does not run: %v", err)
		}
		if err := out.dev.Halt(); err != nil {
			t.Error(err)
		}
		out.expect("on=false")
	})
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		r := start(t, b.output(func(p *OutputParams) {}))
		r.expect("ready on=false")
		r.must(true, "pulse", int64(500))
		time.Sleep(499 * time.Millisecond)
		r.expect("on=true")
		r.must(true, "pulse", int64(500)) // begins anew
		time.Sleep(499 * time.Millisecond)
		r.expect("")
		time.Sleep(2 * time.Millisecond)
		r.expect("on=false")
		r.must(true, "pulse", int64(100))
		r.must(true, "set", true) // for good now
		time.Sleep(time.Hour)
		r.expect("on=true")
		r.must(false, "toggle")
		r.must(true, "pulse", int64(100))
		r.must(false, "set", false)
		time.Sleep(time.Hour)
		r.expect("on=false on=true on=false")
		for _, ms := range []int64{0, -1, 3_600_001} {
			if _, err := r.call("pulse", ms); err == nil || !strings.Contains(err.Error(), wamp.ErrInvalidArgument) {
				t.Errorf("pulse(%d): %v", ms, err)
			}
		}
		// Nothing outlives Run to end a pulse.
		r.must(true, "pulse", int64(60_000))
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.expect("on=true on=false")
	})
}

func TestSafeState(t *testing.T) {
	for _, c := range []struct {
		safe     string
		before   bool
		running  bool // Halt comes before Run has returned
		pulse    bool
		want     bool
		untouchd bool // Halt before any Run leaves the line alone
	}{
		{safe: "off", before: true, want: false},
		{safe: "off", before: true, running: true, want: false},
		{safe: "off", before: true, pulse: true, running: true, want: false},
		{safe: "on", before: false, want: true},
		{safe: "on", before: false, running: true, want: true},
		{safe: "keep", before: true, want: true, untouchd: true},
		{safe: "keep", before: false, running: true, want: false, untouchd: true},
		{safe: "keep", before: true, pulse: true, running: true, want: false, untouchd: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				probe := start(t, b.input(func(p *InputParams) { p.Pull = "up" }))
				never := b.output(func(p *OutputParams) { p.Safe, p.ActiveLow = c.safe, true })
				if err := never.Halt(); err != nil {
					t.Fatal(err)
				}
				if driven := never.(*output).pin != nil; driven == c.untouchd {
					t.Errorf("a device that never ran: line taken %v", driven)
				}

				dev := b.output(func(p *OutputParams) { p.Safe = c.safe })
				r := start(t, dev)
				if c.pulse {
					r.must(true, "pulse", int64(60_000))
				} else {
					r.must(c.before, "set", c.before)
				}
				if !c.running {
					r.stop()
				}
				for range 2 { // idempotent
					if err := dev.Halt(); err != nil {
						t.Error(err)
					}
				}
				if _, err := r.call("set", !c.want); err == nil {
					t.Error("set after Halt")
				}
				if c.running {
					r.stop()
				}
				if have := bool(dev.(*output).pin.Read()); have != c.want {
					t.Errorf("the line is %v", have)
				}
				probe.stop()
			})
		})
	}
}

func TestInitialState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		in := start(t, b.input(func(p *InputParams) { p.Pull = "up" }))
		in.expect("ready level=true")
		kept := b.output(func(p *OutputParams) { p.Initial = "keep" })
		r := start(t, kept)
		r.expect("ready on=true")
		in.expect("") // no glitch
		r.must(false, "set", false)
		r.stop()
		r = start(t, kept) // still ours: what it was left at
		r.expect("ready on=false")
		r.stop()
		in.expect("level=false#1")
		in.stop()
	})
}

func TestSimulatedInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		in := start(t, b.input(func(p *InputParams) { p.Pull, p.ActiveLow = "up", true }))
		in.expect("ready level=false")
		in.must(true, "simulate", true)
		in.must(true, "simulate", true)
		in.must(false, "simulate", false)
		in.expect("level=true#1 level=false#2")
		in.mu.Lock()
		a, z := in.samples[1], in.samples[2]
		in.mu.Unlock()
		if a.Time.IsZero() || z.Edge.Clock < a.Edge.Clock {
			t.Errorf("%+v %+v", a, z)
		}
		// An output wins.
		out := start(t, b.output(func(p *OutputParams) { p.Initial = "on" }))
		in.must(false, "simulate", true)
		in.expect("")
		out.must(false, "set", false)
		in.expect("level=true#3")
		in.stop()
		out.stop()
	})
}

func TestInputEdgesAndDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		both := start(t, b.input(func(p *InputParams) { p.Debounce = 10 * time.Millisecond }))
		rising := start(t, b.input(func(p *InputParams) { p.Edge = "rising" }))
		falling := start(t, b.input(func(p *InputParams) { p.Edge, p.Debounce = "falling", 10*time.Millisecond }))
		for _, r := range []*running{both, rising, falling} {
			r.expect("ready level=false")
		}
		bounce := func(final bool) {
			for i := range 21 {
				both.call("simulate", (i%2 == 0) == final)
				time.Sleep(time.Millisecond)
			}
		}
		bounce(true)
		rising.expect("level=true#1 level=true#2 level=true#3 level=true#4 level=true#5 level=true#6 level=true#7 level=true#8 level=true#9 level=true#10 level=true#11")
		both.expect("")
		time.Sleep(10 * time.Millisecond)
		both.expect("level=true#1")
		falling.expect("")
		bounce(false)
		time.Sleep(10 * time.Millisecond)
		both.expect("level=false#2")
		falling.expect("level=false#1")
		// A spike that is gone before the end is nothing.
		both.call("simulate", true)
		time.Sleep(5 * time.Millisecond)
		both.call("simulate", false)
		time.Sleep(time.Second)
		both.expect("")
		for _, r := range []*running{both, rising, falling} {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A loose wire is published at max_rate, ends at its true level, and what was
// left out is counted.
func TestInputRateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		in := start(t, b.input(func(p *InputParams) { p.MaxRate = 30 })) // 3 in a window
		in.expect("ready level=false")
		for i := range 100 {
			in.call("simulate", i%2 == 0)
			synctest.Wait()
		}
		in.expect("level=true#1 level=false#2 level=true#3")
		time.Sleep(time.Second)
		in.expect("level=false#100-96")
		in.call("simulate", true)
		in.expect("level=true#101-96")
		in.stop()
	})
}

func TestSimulatedQueueDropsTheOldest(t *testing.T) {
	b := newSimBoard()
	p := b.open("GPIO1", LineConfig{Buffer: 4})
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.In(periph.PullDown, periph.BothEdges))
	for i := range 10 {
		p.drive(i%2 == 0)
	}
	buf := make([]Event, 16)
	n, err := p.WaitEdges(time.Time{}, buf)
	if err != nil || n != 4 || buf[0].Seq != 7 || buf[3].Seq != 10 || buf[3].Dropped != 6 {
		t.Errorf("%d %v %+v", n, err, buf[:n])
	}
}

func BenchmarkEdges(b *testing.B) {
	p := newSimBoard().open("GPIO1", LineConfig{})
	p.In(periph.PullDown, periph.BothEdges)
	buf := make([]Event, 16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.drive(i%2 == 0)
		if n, err := p.WaitEdges(time.Time{}, buf); n != 1 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// A chip that another driver has added serves lines under its name, whichever
// of the two devices was there first.
func TestAddedChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chips := NewChips()
		drivers := Drivers(chips)
		b := board{t, drivers, devices.Env{Name: "test"}}
		dev := b.output(func(p *OutputParams) { p.Chip, p.Pin = "expander", "GPA3" })
		pin := newBroken()
		var asked string
		chips.Add("expander", func(line string, cfg LineConfig) (periph.PinIO, error) {
			asked = line + " " + cfg.Consumer
			return pin, nil
		})
		r := start(t, dev)
		r.must(true, "set", true)
		if asked != "GPA3 postern:test" || pin.Read() != periph.High {
			t.Errorf("%q, the pin is %v", asked, pin.Read())
		}
		r.stop()
	})
}
