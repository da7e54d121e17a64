//go:build linux

package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

// TestHistogram: quantiles are right to the resolution that it has, from a
// nanosecond to a minute.
func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for _, scale := range []int64{1, 100, 12_345, 1e6, 6e7} {
		h = histogram{}
		for i := range int64(1000) {
			h.add((i + 1) * scale)
		}
		for _, q := range []float64{0, 0.5, 0.99, 0.999} {
			want := (math.Floor(q*1000) + 1) * float64(scale) / 1000 // µs
			if got := h.quantile(q); got > want || got < want*(1-1.0/32)-0.001 {
				t.Errorf("scale %d: quantile %v is %v µs, want %v", scale, q, got, want)
			}
		}
	}
	h = histogram{}
	if h.add(-5); h.quantile(0.5) > 0.001 {
		t.Error("a time below zero")
	}
}

func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		rates          []float64
		median, spread float64
	}{
		{nil, 0, 0},
		{[]float64{5}, 5, 0},
		{[]float64{30, 10}, 20, 0.5},
		{[]float64{100, 80, 130}, 100, 0.25},
		{[]float64{0, 0}, 0, 0},
	} {
		r := row{}
		for _, v := range tt.rates {
			r.Samples = append(r.Samples, sample{Rate: v, CPU: 2 * v})
		}
		if s := r.summary(); s.Rate != tt.median || s.spread != tt.spread || s.CPU != 2*tt.median || s.cpu != tt.spread {
			t.Errorf("%v: %+v", tt.rates, s)
		}
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999.4: "999", 1000: "1,000", 1234567.8: "1,234,568"} {
		if got := thousands(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

// servers are what a plan is made for: they are not started.
func servers() []*server {
	web := func(c codec.Codec) peer { return &wampPeer{codec: c} }
	return []*server{
		{name: "postern", peers: map[string]func(codec.Codec) peer{"websocket": web, "rawsocket": web, "unix": web}},
		{name: "raw relay", peers: map[string]func(codec.Codec) peer{"tcp": func(codec.Codec) peer { return relayPeer{} }}},
	}
}

// TestPlan: a quick run leaves works in that exist; every work begins with ours
// over WebSocket, which ratios are of, and no row comes twice.
func TestPlan(t *testing.T) {
	var names []string
	for _, w := range works {
		names = append(names, w.Name)
	}
	for name := range inQuick {
		if !slices.Contains(names, name) {
			t.Errorf("the quick run has a work %q, which there is not", name)
		}
	}
	for _, quick := range []bool{true, false} {
		seen := map[string]bool{}
		last := ""
		for _, r := range plan(servers(), quick) {
			if r.Work != last && (r.Server != "postern" || r.Transport != "websocket") {
				t.Errorf("%q begins with %s over %s", r.Work, r.Server, r.Transport)
			}
			last = r.Work
			key := strings.Join([]string{r.Work, r.Server, r.Transport, r.Codecs}, "|")
			if seen[key] {
				t.Errorf("twice: %s", key)
			}
			seen[key] = true
			if quick && !inQuick[r.Work] {
				t.Errorf("%q is in the quick run", r.Work)
			}
		}
		if n := len(seen); quick && n < 2*len(inQuick) || !quick && n < 2*len(works)+20 {
			t.Errorf("quick %v: %d rows", quick, n)
		}
	}
}

// TestReport: ratios are of medians, against ours in the same work, and what
// failed says so and has none.
func TestReport(t *testing.T) {
	rows := []*row{
		{Work: "a", Server: "postern", Transport: "websocket", Codecs: "json", Samples: []sample{{Rate: 3000, CPU: 2, P50: 10}}},
		{Work: "a", Server: "postern", Transport: "unix", Codecs: "cbor", Samples: []sample{{Rate: 6000, CPU: 1, P50: 5}}},
		{Work: "a", Server: "nexus", Transport: "websocket", Codecs: "json", Samples: []sample{{Rate: 500, CPU: 20, P50: 40}}},
		{Work: "b", Server: "postern", Transport: "websocket", Codecs: "json", Samples: []sample{{Rate: 1}}},
		{Work: "b", Server: "nexus", Transport: "websocket", Codecs: "json", Failed: "it fell over"},
	}
	var out strings.Builder
	printRows(&out, rows)
	printRatios(&out, rows)
	for _, want := range []string{
		"| a | postern | websocket, json | 3,000 | 0 % | 2.00 | 0 % | 10 |",
		"|  | nexus | websocket, json | 500 |",
		"|  | nexus | websocket, json | failed: it fell over |",
		"| a | itself over unix, cbor | 0.50 | 2.00 | 2.00 |",
		"| a | nexus | 6.00 | 0.10 | 0.25 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "| b | nexus |") {
		t.Error("a ratio to what has failed")
	}
	out.Reset()
	printScale(&out, nil)
	printScale(&out, &scale{StartMS: 12.34, FreshKiB: 12345, Sessions: []sessionCost{{"postern", "unix", 10_000, 7.89}}})
	if want := "From start to listening: 12.3 ms. Memory of the fresh process: 12,345 KiB."; !strings.Contains(out.String(), want) ||
		!strings.Contains(out.String(), "| postern | unix | 10,000 | 7.9 |") {
		t.Errorf("%s", out.String())
	}
}
