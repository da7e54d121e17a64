package gpio

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClicks(t *testing.T) {
	const ms = time.Millisecond
	all := func(p *InputParams) { p.Press, p.LongPress, p.DoubleClick = true, 800*ms, 300*ms }
	for _, c := range []struct {
		name   string
		params func(*InputParams)
		steps  []time.Duration // pressed, released, pressed, …
		want   string
	}{
		{"press", all, []time.Duration{100 * ms, 2000 * ms}, "press=100"},
		{"long", all, []time.Duration{900 * ms, 2000 * ms}, "long_press=800"},
		{"double", all, []time.Duration{100 * ms, 200 * ms, 100 * ms, 2000 * ms}, "double_click=200"},
		{"held after the second", all, []time.Duration{100 * ms, 200 * ms, 3000 * ms, 2000 * ms}, "double_click=200"},
		{"too late for a double", all, []time.Duration{100 * ms, 400 * ms, 120 * ms, 2000 * ms}, "press=100 press=120"},
		{"three", all, []time.Duration{100 * ms, 100 * ms, 100 * ms, 100 * ms, 70 * ms, 2000 * ms}, "double_click=100 press=70"},
		{"long after press", all, []time.Duration{100 * ms, 400 * ms, 900 * ms, 2000 * ms}, "press=100 long_press=800"},
		{"press only", func(p *InputParams) { p.Press = true }, []time.Duration{5000 * ms, 10 * ms, 20 * ms, ms}, "press=5000 press=20"},
		{"long only", func(p *InputParams) { p.LongPress = time.Second }, []time.Duration{500 * ms, 10 * ms, 1500 * ms, ms}, "long_press=1000"},
		{"double only", func(p *InputParams) { p.DoubleClick = 300 * ms }, []time.Duration{500 * ms, 400 * ms, 50 * ms, 60 * ms, 1500 * ms, ms}, "double_click=60"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p InputParams
				c.params(&p)
				out := &outlet{}
				r := start(t, newBoard(t).input(func(in *InputParams) { c.params(in) }))
				for i, d := range c.steps {
					r.call("simulate", i%2 == 0)
					time.Sleep(d)
				}
				synctest.Wait()
				r.mu.Lock()
				for _, s := range r.said {
					if len(s) > 5 && s[:5] != "level" && s != "ready" {
						out.said = append(out.said, s)
					}
				}
				r.mu.Unlock()
				if have := out.take(); have != c.want {
					t.Errorf("have %q, want %q", have, c.want)
				}
				if have, want := len(r.dev.Readings()), 1+btoi(p.Press)+btoi(p.LongPress > 0)+btoi(p.DoubleClick > 0); have != want {
					t.Errorf("%d readings, want %d", have, want)
				}
				r.stop()
			})
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Edges that were fetched late, both at once, are judged by their own clock.
func TestClicksFetchedLate(t *testing.T) {
	out := &outlet{}
	c := clicks{press: true, long: time.Second, out: out}
	at := time.Now()
	c.take(Event{Rising: true, Clock: 10 * time.Second, Time: at})
	c.take(Event{Rising: false, Clock: 12 * time.Second, Time: at.Add(2 * time.Second)})
	c.take(Event{Rising: false, Clock: 13 * time.Second, Time: at})
	c.take(Event{Rising: true, Clock: 20 * time.Second, Time: at})
	c.take(Event{Rising: false, Clock: 20*time.Second + 30*time.Millisecond, Time: at})
	if len(out.said) != 2 || out.said[0] != "long_press=1000" || out.said[1] != "press=30" {
		t.Errorf("%q", out.said)
	}
}
