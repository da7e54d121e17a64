package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// view shows the readings of all devices as they change: on a terminal as a
// table that is drawn over and over in the same place, elsewhere as a line a
// second.
type view struct {
	out, err io.Writer
	width    int // of the terminal; 0 for none

	mu      sync.Mutex
	rows    []row
	at      map[string]int // topic -> index in rows
	drawn   int            // lines of the table on the terminal
	changed chan struct{}
}

type row struct {
	device, reading, value string
}

func newView(out, err io.Writer) *view {
	v := &view{out: out, err: err, at: map[string]int{}, changed: make(chan struct{}, 1)}
	if f, ok := out.(*os.File); ok {
		v.width = terminalWidth(f)
	}
	return v
}

// log is where messages go, so that they do not end up in the table.
func (v *view) log() io.Writer { return logWriter{v} }

type logWriter struct{ *view }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.drawn > 0 {
		fmt.Fprintf(w.out, "\x1b[%dA\x1b[J", w.drawn)
		w.drawn = 0
	}
	return w.err.Write(p)
}

// follow shows readings until ctx ends.
func (v *view) follow(ctx context.Context, dial client.Dialer, realm, prefix string) error {
	s, err := client.Join(ctx, dial, client.Config{Realm: realm})
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(bound) // the gateway is going anyway
	}()
	if err := v.begin(ctx, s, prefix); err != nil {
		return err
	}
	// All devices' first values together, then no more often than people can
	// read.
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		return nil
	}
	pause := time.Second
	if v.width > 0 {
		pause = 200 * time.Millisecond
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.Done():
			return s.Err()
		case <-v.changed:
			v.draw()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// begin subscribes to the readings, and fills in those that are there.
func (v *view) begin(ctx context.Context, s *client.Session, prefix string) error {
	_, err := s.Subscribe(ctx, prefix+".", func(e *client.Event) {
		device, reading, ok := strings.Cut(strings.TrimPrefix(e.Topic, prefix+"."), ".")
		if ok && reading != "status" && len(e.Args) == 1 {
			v.set(device, reading, e.Args[0], wamp.AsString(e.KwArgs, "unit"))
		}
	}, client.Pattern(wamp.MatchPrefix))
	if err != nil {
		return err
	}
	r, err := s.Call(ctx, prefix+".list", nil, nil)
	if err != nil || len(r.Args) != 1 {
		return err
	}
	list, _ := r.Args[0].([]any)
	var order []string
	for _, d := range list {
		device, _ := d.(map[string]any)
		for _, x := range wamp.AsList(device, "readings") {
			reading, _ := x.(map[string]any)
			name := wamp.AsString(device, "name")
			v.add(name, wamp.AsString(reading, "name"), reading["value"], wamp.AsString(reading, "unit"))
			order = append(order, name+"."+wamp.AsString(reading, "name"))
		}
	}
	v.arrange(order)
	v.notify()
	return nil
}

// arrange puts the rows into the order of the configuration.
func (v *view) arrange(order []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	slices.SortStableFunc(v.rows, func(a, b row) int {
		return slices.Index(order, a.device+"."+a.reading) - slices.Index(order, b.device+"."+b.reading)
	})
	for i, r := range v.rows {
		v.at[r.device+"."+r.reading] = i
	}
}

// add sets a value unless a newer one has come already.
func (v *view) add(device, reading string, value any, unit string) {
	v.mu.Lock()
	_, known := v.at[device+"."+reading]
	v.mu.Unlock()
	if !known {
		v.set(device, reading, value, unit)
	}
}

func (v *view) set(device, reading string, value any, unit string) {
	v.mu.Lock()
	i, known := v.at[device+"."+reading]
	if !known {
		i = len(v.rows)
		v.at[device+"."+reading] = i
		v.rows = append(v.rows, row{device: device, reading: reading})
	}
	v.rows[i].value = showValue(value, unit)
	v.mu.Unlock()
	v.notify()
}

func (v *view) notify() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

func (v *view) draw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	if v.width == 0 {
		b.WriteString(time.Now().Format("15:04:05"))
		for _, r := range v.rows {
			fmt.Fprintf(&b, "  %s.%s %s", r.device, r.reading, r.value)
		}
		b.WriteByte('\n')
	} else {
		if v.drawn > 0 {
			fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
		}
		for _, r := range v.rows {
			line := fmt.Sprintf("  %-14s %-16s %s", r.device, r.reading, r.value)
			fmt.Fprintf(&b, "\x1b[2K%s\n", cut(line, v.width-1))
		}
		v.drawn = len(v.rows)
	}
	// Nobody to tell when the terminal is gone: the gateway goes on.
	_, _ = io.WriteString(v.out, b.String())
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(0, width-1)]) + "…"
}

// signs are units that people know by another sign than UCUM's.
var signs = map[string]string{"Cel": "°C", "1": "", "Ohm": "Ω"}

// showValue writes a value for people.
func showValue(value any, unit string) string {
	if sign, ok := signs[unit]; ok {
		unit = sign
	}
	text := ""
	switch x := value.(type) {
	case nil:
		return "–"
	case bool:
		text = map[bool]string{true: "on", false: "off"}[x]
	case float64:
		text = strconv.FormatFloat(math.Round(x*1000)/1000, 'f', -1, 64)
	default:
		text = fmt.Sprint(x)
	}
	text = printable(text)
	if unit != "" {
		text += " " + unit
	}
	return text
}

// printable is text that does nothing to a terminal but appear.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, text)
}
