package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func ptr(v float64) *float64 { return &v }
func num(v int) *int         { return &v }

var t0 = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func cfg(change func(*Config)) Config {
	var c Config
	c.SetDefaults()
	change(&c)
	return c
}

// Values come a second apart. A result is the number, or ! for a fault.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		name     string
		cfg      Config
		in, want string
	}{
		{"nothing", cfg(func(*Config) {}), "1 -2.5", "1 -2.5"},
		{"not finite", cfg(func(*Config) {}), "NaN Inf -Inf 1", "! ! ! 1"},
		{"scale and offset", cfg(func(c *Config) { c.Scale, c.Offset = 2, -1 }), "0 1 2.5", "-1 1 4"},
		{"polynomial", cfg(func(c *Config) { c.Polynomial = []float64{1, 2, 3} }), "0 1 2", "1 6 17"},
		{"polynomial, then scale", cfg(func(c *Config) { c.Polynomial, c.Scale = []float64{1, 1}, 10 }), "1", "20"},
		{"overflow", cfg(func(c *Config) { c.Scale = 1e300 }), "1e300 1", "! 1e+300"},
		{"table", cfg(func(c *Config) { c.Table = []Point{{0, 100}, {10, 200}, {20, 0}} }), "0 5 10 15 20 -0.1 20.1 NaN", "100 150 200 100 0 ! ! !"},
		{"steep table", cfg(func(c *Config) { c.Table = []Point{{0, -1.7e308}, {1, 1.7e308}} }), "0.5", "0"},
		{"range, after calibration", cfg(func(c *Config) { c.Scale, c.Min, c.Max = 2, ptr(-10), ptr(10) }), "-5 -5.1 5 5.1", "-10 ! 10 !"},
		{"median", cfg(func(c *Config) { c.Median = 3 }), "1 9 2 100 3 3 1", "1 5 2 9 3 3 3"},
		{"a spike out of range does not reach the median", cfg(func(c *Config) { c.Median, c.Max = 3, ptr(50) }), "1 100 2 3", "1 ! 1.5 2"},
		{"average over a second", cfg(func(c *Config) { c.EMA, c.Decimals = time.Second, num(3) }), "0 1 1", "0 0.632 0.865"},
		{"decimals", cfg(func(c *Config) { c.Scale, c.Decimals = 0.1, num(1) }), "217 -3", "21.7 -0.3"},
		{"decimals of what is too large for them", cfg(func(c *Config) { c.Decimals = num(15) }), "1e300", "1e+300"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(c.cfg)
			var have []string
			for i, word := range strings.Fields(c.in) {
				v, _, err := p.Step(number(t, word), t0.Add(time.Duration(i)*time.Second))
				if err != nil {
					have = append(have, "!")
					continue
				}
				have = append(have, fmt.Sprint(v))
			}
			if s := strings.Join(have, " "); s != c.want {
				t.Errorf("have %s\nwant %s", s, c.want)
			}
		})
	}
}

func number(t *testing.T, word string) float64 {
	t.Helper()
	var v float64
	if _, err := fmt.Sscan(word, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAlarms(t *testing.T) {
	p := New(cfg(func(c *Config) {
		c.Max = ptr(1000)
		c.Alarms = []Alarm{{Name: "high", Above: ptr(80), Hysteresis: 5}, {Name: "higher", Above: ptr(90)}, {Name: "low", Below: ptr(10), Hysteresis: 2}}
	}))
	for i, c := range []struct {
		v    float64
		want string
	}{
		{80, ""},
		{80.1, "+high"},
		{76, ""},
		{90.1, "+higher"},
		{90, "-higher"},
		{5000, ""},
		{math.NaN(), ""},
		{75, "-high"},
		{10, ""},
		{9.9, "+low"},
		{11.9, ""},
		{100, "+high +higher -low"},
		{0, "-high -higher +low"},
	} {
		_, changes, _ := p.Step(c.v, t0.Add(time.Duration(i)*time.Second))
		var have []string
		for _, ch := range changes {
			sign := "-"
			if ch.Raised {
				sign = "+"
			}
			if ch.Raised != p.Raised(ch.Alarm) || ch.Value != c.v {
				t.Errorf("%v: %+v", c.v, ch)
			}
			have = append(have, sign+p.Config().Alarms[ch.Alarm].Name)
		}
		if s := strings.Join(have, " "); s != c.want {
			t.Errorf("%v: have %q, want %q", c.v, s, c.want)
		}
	}
}

// A line is what happens at a second: a number, ! for a fault, . for a Tick
// only. Published are those marked.
func TestPublishing(t *testing.T) {
	for _, c := range []struct {
		name     string
		cfg      Config
		in, want string
	}{
		{"everything", cfg(func(*Config) {}), "1 1 2", "1 1 2"},
		{"deadband", cfg(func(c *Config) { c.Deadband = ptr(1) }), "10 11 9 11.1 12 10", "10 - - 11.1 - 10"},
		{"changes only", cfg(func(c *Config) { c.Deadband = ptr(0) }), "1 1 2 2 1", "1 - 2 - 1"},
		{"percent", cfg(func(c *Config) { c.DeadbandPercent = ptr(10) }), "100 110 111 122", "100 - 111 -"},
		{"percent of nothing", cfg(func(c *Config) { c.DeadbandPercent = ptr(10) }), "0 0.001 0", "0 0.001 0"},
		{"the wider counts", cfg(func(c *Config) { c.Deadband, c.DeadbandPercent = ptr(5), ptr(10) }), "10 14 16 100 104 109 111", "10 - 16 100 - - 111"},
		{"a slow drift gets through", cfg(func(c *Config) { c.Deadband = ptr(1) }), "0 0.5 1 1.5 2 2.5 3", "0 - - 1.5 - - 3"},
		{"min_period", cfg(func(c *Config) { c.MinPeriod = 3 * time.Second }), "1 2 3 4 5 . . .", "1 - - 4 - - 5 -"},
		{"min_period, the newest at its end", cfg(func(c *Config) { c.MinPeriod = 3 * time.Second }), "1 2 3 . . .", "1 - - 3 - -"},
		{"max_period", cfg(func(c *Config) { c.MaxPeriod = 2 * time.Second }), "1 . . . . .", "1 - 1 - 1 -"},
		{"max_period in the deadband", cfg(func(c *Config) { c.Deadband, c.MaxPeriod = ptr(5), 3*time.Second }), "1 2 3 4 . . .", "1 - - 4 - - 4"},
		{"a fault breaks through", cfg(func(c *Config) { c.MinPeriod, c.Deadband = 10*time.Second, ptr(5) }), "1 ! 1 ! 2", "1 ! 1 ! 2"},
		{"faults are rationed", cfg(func(c *Config) { c.MinPeriod = 3 * time.Second }), "! ! ! ! !", "! - - ! -"},
		{"a fault is not repeated", cfg(func(c *Config) { c.MaxPeriod = time.Second }), "1 ! . . . 2 .", "1 ! - - - 2 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(c.cfg)
			newest := 0.0
			var have []string
			for i, word := range strings.Fields(c.in) {
				now := t0.Add(time.Duration(i) * time.Second)
				said, yes := word, false
				switch word {
				case "!":
					yes = p.PublishFault(now)
				case ".":
					yes = p.Tick(newest, now)
					said = fmt.Sprint(newest)
				default:
					newest = number(t, word)
					yes = p.Publish(newest, now)
				}
				if !yes {
					said = "-"
				}
				have = append(have, said)
			}
			if s := strings.Join(have, " "); s != c.want {
				t.Errorf("have %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestReset(t *testing.T) {
	p := New(cfg(func(c *Config) {
		c.Median, c.EMA, c.Alarms = 3, time.Hour, []Alarm{{Name: "high", Above: ptr(5)}}
	}))
	for range 5 {
		p.Step(10, t0)
	}
	p.Reset()
	if !p.Raised(0) {
		t.Error("the alarm was forgotten")
	}
	if v, _, err := p.Step(1, t0); v != 1 || err != nil {
		t.Errorf("have %v, %v", v, err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	p := New(cfg(func(c *Config) {
		c.Table, c.Median, c.EMA, c.Decimals = []Point{{0, 0}, {100, 1000}}, 9, time.Second, num(2)
		c.Alarms, c.Deadband, c.MaxPeriod = []Alarm{{Name: "high", Above: ptr(500)}}, ptr(1), time.Minute
	}))
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		now := t0.Add(time.Duration(i) * time.Second)
		v, _, err := p.Step(float64(i*37%100), now)
		if err != nil {
			t.Fatal(err)
		}
		p.Publish(v, now)
		p.Tick(v, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestValidate(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		cfg  Config
		want string // the paths
	}{
		{cfg(func(*Config) {}), ""},
		{cfg(func(c *Config) { c.Polynomial, c.Table = []float64{1}, []Point{{0, 0}, {1, 1}} }), "table"},
		{cfg(func(c *Config) { c.Polynomial = make([]float64, 9) }), "polynomial"},
		{cfg(func(c *Config) { c.Table = []Point{{0, 0}} }), "table"},
		{cfg(func(c *Config) { c.Table = []Point{{0, 0}, {0, 1}} }), "table[1].in"},
		{cfg(func(c *Config) { c.Scale = 0 }), "scale"},
		{cfg(func(c *Config) { c.Min, c.Max = ptr(1), ptr(1) }), "min"},
		{cfg(func(c *Config) { c.Median = 4 }), "median"},
		{cfg(func(c *Config) { c.Median = 101 }), "median"},
		{cfg(func(c *Config) { c.Decimals = num(16) }), "decimals"},
		{cfg(func(c *Config) { c.Deadband, c.DeadbandPercent = ptr(-1), ptr(-1) }), "deadband deadband_percent"},
		{cfg(func(c *Config) { c.EMA, c.MinPeriod = -1, 1e18 }), "ema min_period"},
		{cfg(func(c *Config) { c.MinPeriod, c.MaxPeriod = time.Minute, time.Second }), "max_period"},
		{cfg(func(c *Config) { c.Alarms = make([]Alarm, 17) }), "alarms alarms[0].name"},
		{cfg(func(c *Config) {
			c.Alarms = []Alarm{{Name: "A", Above: ptr(1)}, {Name: "b", Above: ptr(1), Below: ptr(2)}, {Name: "b"}}
		}), "alarms[0].name alarms[1] alarms[2].name alarms[2]"},
		{cfg(func(c *Config) { c.Alarms = []Alarm{{Name: "a", Above: ptr(1), Hysteresis: -1}} }), "alarms[0].hysteresis"},
		{cfg(func(c *Config) { c.Offset, c.Deadband, c.Polynomial = nan, &nan, []float64{nan} }), "polynomial[0] offset deadband"},
	} {
		var have []string
		c.cfg.Validate(func(path, problem, _ string) {
			if problem == "" {
				t.Errorf("%s: no problem", path)
			}
			if len(have) < 2 || !strings.HasPrefix(path, "alarms[") || len(c.cfg.Alarms) < 10 {
				have = append(have, path)
			}
		})
		if strings.HasPrefix(c.want, "alarms alarms[0]") {
			have = have[:2]
		}
		if s := strings.Join(have, " "); s != c.want {
			t.Errorf("have %q, want %q", s, c.want)
		}
	}
}

func TestNumbersOnly(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{cfg(func(c *Config) { c.MinPeriod, c.Unit = 1, "m" }), ""},
		{cfg(func(c *Config) { c.Scale = 2 }), "scale"},
		{cfg(func(c *Config) { c.Alarms = []Alarm{{}} }), "alarms"},
		{cfg(func(c *Config) { c.Deadband = ptr(0) }), "deadband"},
	} {
		if have := c.cfg.NumbersOnly(); have != c.want {
			t.Errorf("have %q, want %q", have, c.want)
		}
	}
}

// Whatever comes, what goes out is a finite number within the range, and the
// median's window stays sorted.
func FuzzStep(f *testing.F) {
	f.Add(1.0, 2.0, 0.5, 3.0, uint8(3))
	f.Add(math.NaN(), math.Inf(1), -1e308, 1e308, uint8(99))
	f.Fuzz(func(t *testing.T, a, b, scale, offset float64, n uint8) {
		c := cfg(func(c *Config) {
			c.Scale, c.Offset, c.EMA = scale, offset, time.Second
			c.Median = 3 + 2*int(n%49)
			c.Min, c.Max = ptr(-1e9), ptr(1e9)
		})
		sound := true
		if c.Validate(func(string, string, string) { sound = false }); !sound {
			return
		}
		p := New(c)
		for i := range 250 {
			in := a
			if i%3 == 0 {
				in = b * float64(i)
			}
			v, _, err := p.Step(in, t0.Add(time.Duration(i)*time.Millisecond))
			if err == nil && !(v >= -1e9 && v <= 1e9) {
				t.Fatalf("%v became %v", in, v)
			}
			if !slices.IsSorted(p.sorted) || len(p.sorted) != len(p.window) {
				t.Fatal("the window is not sorted")
			}
		}
	})
}
