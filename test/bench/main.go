//go:build linux

// Command bench puts the built gateway under load and, in the same run,
// mosquitto, nats-server and a raw relay. scripts/bench builds what it needs;
// docs/performance.md says what is measured and what came of it.
//
// The load is this process and one thread: frames are prepared, only request
// IDs are filled in, answers are counted and not decoded. What is left to be
// measured is the server. It listens and connects on loopback only.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "fewer works, shorter runs, fewer rounds: about two minutes")
	flag.BoolVar(&o.scale, "scale", true, "measure sessions and tables as well")
	flag.StringVar(&o.postern, "postern", "", "the gateway's `binary`")
	flag.StringVar(&o.other, "other", "", "another WAMP router as `name=program`; the program gets the address to serve WebSocket at, with an open realm realm1")
	flag.StringVar(&o.only, "only", "", "run only works whose name contains this `text`")
	flag.StringVar(&o.servers, "servers", "mosquitto,nats-server,relay", "which others to run, joined by `commas`")
	flag.StringVar(&o.json, "json", "", "write all samples to a `file`")
	flag.IntVar(&o.rounds, "rounds", 0, "interleaved rounds; 0 for the default")
	flag.DurationVar(&o.length, "length", 0, "length of one run; 0 for the default")
	relayAt := flag.String("relay", "", "be the raw relay at this `address`")
	flag.Parse()
	var err error
	if *relayAt != "" {
		err = serveRelay(*relayAt)
	} else {
		err = o.run(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	quick, scale                        bool
	postern, other, only, servers, json string
	rounds                              int
	length                              time.Duration
}

// result is the JSON output.
type result struct {
	When    time.Time
	Machine string
	Rounds  int
	Length  time.Duration
	Load    string // of the machine before the run: one minute, five, fifteen
	Rows    []*row
	Scale   *scale `json:",omitempty"`
}

func (o *options) defaults() {
	rounds, length := 5, 2*time.Second
	if o.quick {
		rounds, length = 3, 600*time.Millisecond
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.length == 0 {
		o.length = length
	}
}

func (o *options) run(w io.Writer) error {
	o.defaults()
	raiseLimit()
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "postern-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, postern: o.postern, self: self, other: o.other}
	load, _ := os.ReadFile("/proc/loadavg")
	out := result{
		When: time.Now().UTC(), Rounds: o.rounds, Length: o.length, Load: strings.TrimSpace(string(load)),
		Machine: fmt.Sprintf("%s/%s, %d CPUs, kernel %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel()),
	}
	if out.Rows, err = o.compare(b); err != nil {
		return err
	}
	if o.scale {
		if out.Scale, err = o.measureScale(b); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%s; %d interleaved rounds of %v; load before: %s\n\n", out.Machine, out.Rounds, out.Length, out.Load)
	printRows(w, out.Rows)
	printRatios(w, out.Rows)
	printScale(w, out.Scale)
	if o.json != "" {
		j, err := json.MarshalIndent(out, "", "  ")
		if err == nil {
			err = os.WriteFile(o.json, append(j, '\n'), 0o644)
		}
		return err
	}
	return nil
}

// compare runs the works on all servers, round by round, so that what else
// goes on in the machine hits all of them.
func (o *options) compare(b *bench) ([]*row, error) {
	starts := []func() (*server, error){b.startPostern}
	for _, name := range []string{"mosquitto", "nats-server", "relay"} {
		if strings.Contains(o.servers, name) {
			starts = append(starts, map[string]func() (*server, error){
				"mosquitto": b.startMosquitto, "nats-server": b.startNATS, "relay": b.startRelay,
			}[name])
		}
	}
	if o.other != "" {
		starts = append(starts, b.startOther)
	}
	var servers []*server
	for _, start := range starts {
		s, err := start()
		if err != nil {
			return nil, err
		}
		defer s.stop()
		servers = append(servers, s)
	}
	var rows []*row
	for _, r := range plan(servers, o.quick) {
		if strings.Contains(r.Work, o.only) {
			rows = append(rows, r)
		}
	}
	for i := range o.rounds {
		for _, r := range rows {
			r.run(o.length)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", i+1, o.rounds)
	}
	return rows, nil
}

// run adds a sample to a row; one that has failed is not tried again.
func (r *row) run(d time.Duration) {
	if r.Failed != "" {
		return
	}
	s, err := measure(r.server, r.from, r.to, r.work, d)
	if err != nil {
		r.Failed = err.Error()
		return
	}
	r.Samples = append(r.Samples, s)
}

func (o *options) measureScale(b *bench) (*scale, error) {
	s, err := b.startPostern()
	if err != nil {
		return nil, err
	}
	out := &scale{StartMS: float64(s.started.Microseconds()) / 1000}
	time.Sleep(500 * time.Millisecond)
	out.FreshKiB, err = s.rss()
	s.stop()
	if err != nil {
		return nil, err
	}
	sessions, table := 10_000, 100_000
	if o.quick {
		sessions = 2_000
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		sessions = min(sessions, int(limit.Cur)-200)
	}
	kinds := []struct {
		start     func() (*server, error)
		transport string
	}{{b.startPostern, "websocket"}, {b.startPostern, "rawsocket"}, {b.startPostern, "unix"}, {b.startMosquitto, "mqtt"}}
	if o.other != "" {
		kinds = append(kinds, kinds[0])
		kinds[len(kinds)-1].start = b.startOther
	}
	for _, k := range kinds {
		if k.transport == "mqtt" && !strings.Contains(o.servers, "mosquitto") {
			continue
		}
		c, err := measureSessions(k.start, k.transport, sessions)
		if err != nil {
			return nil, fmt.Errorf("%d sessions over %s: %w", sessions, k.transport, err)
		}
		out.Sessions = append(out.Sessions, c)
	}
	out.Tables, err = measureTables(b, table, o.rounds, o.length)
	return out, err
}

// raiseLimit lets this process, and those that it starts, have as many file
// descriptors as the system allows.
func raiseLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // then there are just fewer
	}
}

func kernel() string {
	var u unix.Utsname
	if err := errors.Join(unix.Uname(&u)); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
