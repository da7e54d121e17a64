package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/image/flash"
)

// progress shows how far it is: a bar on a terminal, objects with --json, and
// else a line for each phase.
type progress struct {
	out, problems io.Writer
	asJSON        bool
	width         int // of the terminal, 0 for none
	began         time.Time
	phase         flash.Phase
	since, shown  time.Time // since when the phase is
	from          int64     // done when the phase began
}

func newProgress(cmd *cobra.Command, asJSON bool) *progress {
	p := &progress{out: cmd.OutOrStdout(), problems: cmd.ErrOrStderr(), asJSON: asJSON, began: time.Now()}
	if f, ok := p.problems.(*os.File); ok && !asJSON {
		p.width = terminalWidth(f)
	}
	return p
}

// event is a line of --json.
type event struct {
	Event   string      `json:"event"` // progress, done, error
	Phase   flash.Phase `json:"phase,omitempty"`
	Done    int64       `json:"done,omitempty"`
	Total   int64       `json:"total,omitempty"`
	Rate    int64       `json:"rate,omitempty"`         // bytes a second
	Left    float64     `json:"left_seconds,omitempty"` // of this phase
	SHA256  string      `json:"sha256,omitempty"`
	Bytes   int64       `json:"bytes,omitempty"`
	Written int64       `json:"written,omitempty"`
	Reused  int64       `json:"reused,omitempty"`
	Seconds float64     `json:"seconds,omitempty"`
	Error   string      `json:"error,omitempty"`
}

// verbs are what is said of the phases.
var verbs = map[flash.Phase]string{flash.PhaseRead: "reading", flash.PhaseWrite: "writing", flash.PhaseVerify: "checking"}

func (p *progress) report(phase flash.Phase, done, total int64) {
	now := time.Now()
	if phase != p.phase {
		p.finish()
		p.phase, p.since, p.from = phase, now, done
		if p.width == 0 && !p.asJSON {
			fmt.Fprintf(p.problems, "%s\n", verbs[phase])
		}
	} else if now.Sub(p.shown) < 200*time.Millisecond && done != total {
		return
	}
	p.shown = now
	e := event{Event: "progress", Phase: phase, Done: done, Total: total}
	if spent := now.Sub(p.since).Seconds(); spent > 0 && done > p.from {
		e.Rate = int64(float64(done-p.from) / spent)
		if e.Rate > 0 && total > done {
			e.Left = float64((total - done) / e.Rate)
		}
	}
	switch {
	case p.asJSON:
		p.json(e)
	case p.width > 0:
		fmt.Fprintf(p.problems, "\r\x1b[K%s", bar(e, p.width-1))
	}
}

func (p *progress) json(e event) {
	// Who does not read any more does not have the write fail.
	_ = printJSON(p.out, e)
}

// bar is one line: phase, bar, part, bytes, rate, time left.
func bar(e event, width int) string {
	text := fmt.Sprintf(" %s, %s/s", flash.Bytes(e.Done), flash.Bytes(e.Rate))
	head := fmt.Sprintf("%-9s", verbs[e.Phase])
	if e.Total > 0 {
		text = fmt.Sprintf(" %3d %%  %s of %s, %s/s", e.Done*100/e.Total, flash.Bytes(e.Done), flash.Bytes(e.Total), flash.Bytes(e.Rate))
		if e.Left > 0 {
			text += ", " + (time.Duration(e.Left) * time.Second).String() + " left"
		}
		if room := min(width-len(head)-len(text)-2, 40); room >= 5 {
			n := int(e.Done * int64(room) / e.Total)
			head += "[" + strings.Repeat("#", n) + strings.Repeat(" ", room-n) + "]"
		}
	}
	line := head + text
	return line[:min(len(line), max(width, 0))]
}

// finish ends the bar's line.
func (p *progress) finish() {
	if p.width > 0 && p.phase != "" {
		fmt.Fprintln(p.problems)
	}
}

func (p *progress) say(format string, a ...any) {
	if !p.asJSON {
		p.finish()
		p.phase = ""
		fmt.Fprintf(p.problems, format+"\n", a...)
	}
}

func (p *progress) done(plan *flash.Plan, r flash.Result, what string) {
	seconds := time.Since(p.began).Seconds()
	if p.asJSON {
		p.json(event{Event: "done", SHA256: plan.Sum(), Bytes: plan.Size, Written: r.Written, Reused: r.Reused, Seconds: seconds})
		return
	}
	p.finish()
	p.phase = ""
	reused := ""
	if r.Reused > 0 {
		reused = ", of which " + flash.Bytes(r.Reused) + " were there already"
	}
	fmt.Fprintf(p.out, "%s %s%s, in %.0f s; SHA-256 %s\n", what, flash.Bytes(plan.Size), reused, seconds, plan.Sum())
}

func (p *progress) end(err error) {
	p.finish()
	if err != nil && p.asJSON {
		p.json(event{Event: "error", Error: err.Error()})
	}
}
