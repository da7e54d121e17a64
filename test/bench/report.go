//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// summary is the median of the samples' figures and how far they lie apart.
type summary struct {
	sample
	spread float64 // of the rates: half of the range, as a part of the median
	cpu    float64 // of the CPU figures
}

func (r *row) summary() (out summary) {
	pick := func(f func(sample) float64) (median, spread float64) {
		var all []float64
		for _, s := range r.Samples {
			all = append(all, f(s))
		}
		if len(all) == 0 {
			return 0, 0
		}
		slices.Sort(all)
		median = (all[(len(all)-1)/2] + all[len(all)/2]) / 2
		if median > 0 {
			spread = (all[len(all)-1] - all[0]) / 2 / median
		}
		return median, spread
	}
	out.Rate, out.spread = pick(func(s sample) float64 { return s.Rate })
	out.CPU, out.cpu = pick(func(s sample) float64 { return s.CPU })
	out.P50, _ = pick(func(s sample) float64 { return s.P50 })
	out.P99, _ = pick(func(s sample) float64 { return s.P99 })
	out.P999, _ = pick(func(s sample) float64 { return s.P999 })
	out.RSS, _ = pick(func(s sample) float64 { return s.RSS })
	return out
}

// printRows writes a table in Markdown.
func printRows(w io.Writer, rows []*row) {
	fmt.Fprintln(w, "| work | server | transport, codec | a second | ± | CPU s/million | ± | p50 µs | p99 | p99.9 | RSS MiB |")
	fmt.Fprintln(w, "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	last := ""
	for _, r := range rows {
		name := r.Work
		if name == last {
			name = ""
		}
		last = r.Work
		via := strings.TrimSuffix(r.Transport+", "+r.Codecs, ", ")
		if r.Failed != "" {
			fmt.Fprintf(w, "| %s | %s | %s | failed: %s | | | | | | | |\n", name, r.Server, via, r.Failed)
			continue
		}
		s := r.summary()
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f %% | %.2f | %.0f %% | %.0f | %.0f | %.0f | %.0f |\n",
			name, r.Server, via, thousands(s.Rate), 100*s.spread, s.CPU, 100*s.cpu, s.P50, s.P99, s.P999, s.RSS)
	}
}

func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// printRatios writes how we compare to the others in the same run.
func printRatios(w io.Writer, rows []*row) {
	fmt.Fprintln(w, "\n| work | postern against | rate × | CPU × | p50 × |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|")
	var base *row
	for _, r := range rows {
		if base == nil || base.Work != r.Work {
			base = r // the usual transport and codec of ours come first
			continue
		}
		if base.Failed != "" || r.Failed != "" {
			continue
		}
		ours, theirs, name := base.summary(), r.summary(), r.Server
		if r.Server == base.Server {
			name = "itself over " + strings.TrimSuffix(r.Transport+", "+r.Codecs, ", ")
		}
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.2f |\n", r.Work, name, ours.Rate/theirs.Rate, ours.CPU/theirs.CPU, ours.P50/theirs.P50)
	}
}

func printScale(w io.Writer, s *scale) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "\nFrom start to listening: %.1f ms. Memory of the fresh process: %s KiB.\n\n", s.StartMS, thousands(float64(s.FreshKiB)))
	fmt.Fprintln(w, "| server | transport | sessions | KiB each |")
	fmt.Fprintln(w, "|---|---|--:|--:|")
	for _, c := range s.Sessions {
		fmt.Fprintf(w, "| %s | %s | %s | %.1f |\n", c.Server, c.Transport, thousands(float64(c.Sessions)), c.KiB)
	}
	if len(s.Tables) > 0 {
		fmt.Fprintln(w)
		printRows(w, s.Tables)
	}
}
