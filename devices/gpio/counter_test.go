package gpio

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		b.env.StateDir = t.TempDir()
		path := filepath.Join(b.env.StateDir, "devices", "test.json")
		meter := func() *running {
			return start(t, of(b, "gpio-counter", func(p *CounterParams) {
				p.Pin, p.Chip, p.Scale, p.RatePer, p.Interval, p.RateZero = "GPIO22", "sim", 0.5, time.Minute, 10*time.Second, 30*time.Second
			}))
		}
		r := meter()
		r.expect("ready pulses=0 total=0 rate=0")
		for range 20 { // 2 a second
			r.call("simulate", int64(1))
			time.Sleep(500 * time.Millisecond)
		}
		r.expect("pulses=20 total=10 rate=60")
		time.Sleep(10 * time.Second) // the last pulse was 10.5 s ago
		r.expect("pulses=20 total=10 rate=2.8571428571428568")
		time.Sleep(20 * time.Second)
		r.expect("pulses=20 total=10 rate=1.4634146341463414 pulses=20 total=10 rate=0")
		if _, err := os.Stat(path); err == nil {
			t.Error("written before its time")
		}
		time.Sleep(30 * time.Second)
		if text, err := os.ReadFile(path); string(text) != `{"pulses":20,"base":0}`+"\n" {
			t.Errorf("%q, %v", text, err)
		}
		r.call("simulate", int64(7))
		synctest.Wait()
		if err := r.stop(); err != nil { // written at the end
			t.Error(err)
		}

		r = meter()
		r.expect("ready pulses=27 total=13.5 rate=0")
		r.must(13.5, "set", 1000.25)
		r.expect("pulses=0 total=1000.25 rate=0")
		r.call("simulate", int64(3))
		synctest.Wait()
		r.must(1001.75, "reset")
		r.expect("pulses=0 total=0 rate=0")
		r.call("simulate", int64(10_000)) // more than the buffer has room for
		synctest.Wait()
		r.stop()
		if text, err := os.ReadFile(path); string(text) != `{"pulses":10000,"base":0}`+"\n" {
			t.Errorf("%q, %v", text, err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := meter().stop(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a broken file: %v", err)
		}
	})
}

func TestCounterWithoutState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, of(newBoard(t), "gpio-counter", func(p *CounterParams) { p.Pin, p.Chip = "GPIO22", "sim" }))
		if err := r.stop(); err == nil || !strings.Contains(err.Error(), "state_dir") {
			t.Errorf("%v", err)
		}
	})
}

func TestCounterRules(t *testing.T) {
	p := &CounterParams{Pin: "P1-1"}
	var paths []string
	p.Validate(func(path, _, _ string) { paths = append(paths, path) })
	if have := strings.Join(paths, " "); have != "pin pull edge buffer scale rate_per rate_zero interval save_every" {
		t.Error(have)
	}
}

func BenchmarkCounter(b *testing.B) {
	d := &counter{params: *newCounterParams()}
	events := make([]Event, 16)
	b.ReportAllocs()
	for b.Loop() {
		d.take(events)
	}
}
