package gpio

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func knob(t *testing.T, change func(*EncoderParams)) *running {
	return start(t, of(newBoard(t), "gpio-encoder", func(p *EncoderParams) {
		p.A, p.B, p.Chip = "GPIO5", "GPIO6", "sim"
		change(p)
	}))
}

// turned turns the simulated knob and lets everything settle.
func (r *running) turned(detents int64) {
	r.t.Helper()
	if _, err := r.call("simulate", detents); err != nil {
		r.t.Error(err)
	}
	time.Sleep(time.Second)
}

// last returns the last position that was published.
func (r *running) last() string {
	words := strings.Fields(r.take())
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

func bounds(low, high int64) func(*EncoderParams) {
	return func(p *EncoderParams) { p.Min, p.Max = &low, &high }
}

func TestEncoder(t *testing.T) {
	for _, perDetent := range []int{1, 2, 4} {
		synctest.Test(t, func(t *testing.T) {
			r := knob(t, func(p *EncoderParams) { p.StepsPerDetent = perDetent })
			r.expect("ready position=0")
			r.turned(1)
			r.expect("position=1")
			r.turned(20)
			if have := r.last(); have != "position=21" {
				t.Error(have)
			}
			r.turned(-25)
			if have := r.last(); have != "position=-4" {
				t.Error(have)
			}
			r.must(int64(100), "set", int64(100))
			r.expect("position=100")
			if _, err := r.call("simulate", int64(101)); err == nil {
				t.Error("turned by 101")
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEncoderBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := knob(t, bounds(2, 5))
		r.expect("ready position=2")
		r.turned(9)
		if have := r.last(); have != "position=5" {
			t.Error(have)
		}
		r.turned(-1) // at once, not after nine
		r.expect("position=4")
		if _, err := r.call("set", int64(6)); err == nil {
			t.Error("set beyond a bound")
		}
		r.stop()
		r = knob(t, func(p *EncoderParams) { bounds(-1, 1)(p); p.Wrap, p.Reverse = true, true })
		r.take()
		r.turned(-5) // 0 1 -1 0 1 -1
		if have := r.last(); have != "position=-1" {
			t.Error(have)
		}
		r.turned(1)
		r.expect("position=1")
		r.stop()
	})
}

// Bouncing contacts and steps that were missed leave the position right.
func TestQuadrature(t *testing.T) {
	for _, c := range []struct {
		name    string
		edges   string // a and b fall, A and B rise
		detents int
		missed  int64
	}{
		{"forward", "abAB", 1, 0},
		{"backward", "baBA", -1, 0},
		{"bounce", "aAaAabBbBbABbBbB", 1, 0},
		{"forth and back", "abBA", 0, 0},
		{"rests, then bounces", "abABbBbB", 1, 0},
		{"a fall was lost", "abA" + "AB", 1, 1},
		{"two turns", "abABabAB", 2, 0},
		{"turn and return", "abABbaBA", 0, 0},
	} {
		q := quadrature{state: 3, rest: 3}
		detents := 0
		for _, e := range c.edges {
			channel := 0
			if e == 'b' || e == 'B' {
				channel = 1
			}
			detents += q.take(channel, e < 'a', 4)
		}
		if detents != c.detents || q.missed != c.missed {
			t.Errorf("%s: %d detents, %d missed", c.name, detents, q.missed)
		}
	}
}

func TestEncoderRules(t *testing.T) {
	problems := func(p *EncoderParams) string {
		var paths []string
		p.Validate(func(path, _, _ string) { paths = append(paths, path) })
		return strings.Join(paths, " ")
	}
	p := newEncoderParams()
	p.A, p.B = "GPIO5", "P1-31"
	if have := problems(p); have != "" {
		t.Error(have)
	}
	if have := strings.Join(p.Claims(), " "); have != "gpio:GPIO5 gpio:GPIO6" {
		t.Error(have)
	}
	p.B, p.Debounce, p.StepsPerDetent, p.Wrap = "GPIO05", -1, 3, true
	if have := problems(p); have != "b debounce steps_per_detent wrap" {
		t.Error(have)
	}
	bounds(3, 3)(p)
	if have := problems(p); !strings.Contains(have, "max") {
		t.Error(have)
	}
}
