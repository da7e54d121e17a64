//go:build vm

package inside

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

const (
	binary   = "/payload/postern"
	piConfig = "/payload/pi-relay-and-button.yaml" // as in configs/examples

	relayLine  = 17 // active-low
	buttonLine = 27 // active-low

	patience = 60 * time.Second // under emulation, on a busy host
)

func TestVMRelayAndButton(t *testing.T) {
	relay, button := newSimLine(t, relayLine), newSimLine(t, buttonLine)
	relay.set(true) // as a relay board's own resistor
	button.set(true)
	watch := relay.watch()
	start := time.Now()
	g := startGateway(t, piConfig)
	rs := g.join("rs://127.0.0.1:8081", codec.CBOR)
	ws := g.join("ws://127.0.0.1:8080/ws", codec.JSON)
	awaitReady(t, rs, "relay", "button")
	t.Logf("ready after %v", time.Since(start).Round(time.Millisecond))
	if low, looks := watch(); low > 0 || looks == 0 {
		t.Errorf("the relay was on in %d of %d looks while the gateway started", low, looks)
	} else {
		t.Logf("the relay was never on while the gateway started (%d looks)", looks)
	}

	for _, s := range []*client.Session{rs, ws} {
		for _, on := range []bool{true, false, true} {
			if got := call(t, s, "device.relay.set", on); got != on || relay.high() == on {
				t.Errorf("set(%v): %v, the line is high: %v", on, got, relay.high())
			}
		}
		if got := call(t, s, "device.relay.toggle"); got != false || !relay.high() {
			t.Errorf("toggle: %v, the line is high: %v", got, relay.high())
		}
	}
	begin := time.Now()
	call(t, ws, "device.relay.pulse", 300)
	if relay.high() {
		t.Error("a pulse does not switch on")
	}
	eventually(t, "the pulse ends", relay.high)
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("a pulse of 300 ms lasted %v", took)
	}

	took := make([]time.Duration, 200)
	for i := range took {
		begin := time.Now()
		call(t, rs, "device.relay.set", i%2 == 0)
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	t.Logf("device.relay.set over RawSocket and CBOR, call to result: p50 %v, p99 %v", took[100], took[198])

	events := make(chan *client.Event, 16)
	if _, err := ws.Subscribe(t.Context(), "device.button.level", func(e *client.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	for i, pressed := range []bool{true, false} {
		button.set(!pressed)
		select {
		case e := <-events:
			seq, _ := wamp.AsInt(e.KwArgs, "edge_seq")
			clock, _ := wamp.AsInt(e.KwArgs, "edge_clock")
			if e.Args[0] != pressed || seq != int64(i+1) || clock <= 0 || wamp.AsString(e.KwArgs, "quality") != "good" {
				t.Errorf("pressed %v: %v %v", pressed, e.Args, e.KwArgs)
			}
		case <-time.After(patience):
			t.Fatalf("no event, pressed %v", pressed)
		}
	}
	if len(events) > 0 {
		t.Errorf("one event too many: %v", (<-events).KwArgs)
	}
}

// SIGTERM switches the relay off before the process ends: nobody else could
// have, as the line falls back to its pull, here "on", only then.
func TestVMSigtermIsSafe(t *testing.T) {
	relay := newSimLine(t, relayLine)
	relay.set(false)
	// A busy host may put this process to sleep just when there is something
	// to see: three looks.
	for range 3 {
		g := startGateway(t, piConfig)
		s := g.join("rs://127.0.0.1:8081", codec.CBOR)
		awaitReady(t, s, "relay")
		call(t, s, "device.relay.set", true)
		if relay.high() {
			t.Fatal("the relay is not on")
		}
		begin := time.Now()
		g.cmd.Process.Signal(syscall.SIGTERM)
		safe := g.watchEnd(relay.high)
		if how := g.ended(); how != "exit status 0" || time.Since(begin) > 5*time.Second {
			t.Fatalf("ended with %s after %v", how, time.Since(begin))
		}
		if !safe.IsZero() {
			t.Logf("SIGTERM: relay off after %v, process ended after %v", safe.Sub(begin).Round(100*time.Microsecond), time.Since(begin).Round(time.Millisecond))
			if safe.Sub(begin) > time.Second {
				t.Error("that is too late")
			}
			return
		}
	}
	t.Error("it ended without the safe state")
}

// watchEnd returns when cond held first, the zero time if it did not before
// the gateway's end.
func (g *gateway) watchEnd(cond func() bool) time.Time {
	for {
		select {
		case <-g.done:
			return time.Time{}
		default:
			if cond() {
				return time.Now()
			}
		}
	}
}

// After kill -9 the kernel has the line back: on this chip it falls to its
// pull (a Raspberry Pi's keeps its level). The next start takes it without a
// click.
func TestVMKillAndRestart(t *testing.T) {
	relay := newSimLine(t, relayLine)
	relay.set(true)
	g := startGateway(t, piConfig)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "relay")
	for range 3 {
		call(t, s, "device.relay.set", true)
		begin := time.Now()
		g.cmd.Process.Signal(syscall.SIGKILL)
		g.ended()
		eventually(t, "the line falls to its pull", relay.high)
		released := time.Since(begin)
		watch := relay.watch()
		begin = time.Now()
		g = startGateway(t, piConfig)
		s = g.join("rs://127.0.0.1:8081", codec.CBOR)
		awaitReady(t, s, "relay")
		back := time.Since(begin)
		if low, looks := watch(); low > 0 || looks == 0 {
			t.Errorf("the relay was on in %d of %d looks while the gateway started again", low, looks)
		}
		t.Logf("kill -9: line released after %v, relay ready again %v after the start, never on", released.Round(time.Millisecond), back.Round(time.Millisecond))
	}
}

// A line in other hands does not hurt the rest, and the reason names them.
func TestVMBusyLine(t *testing.T) {
	relay := newSimLine(t, relayLine)
	held, err := gpio.Open("GPIO17", "", gpio.LineConfig{Consumer: "kettle"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.Out(periph.High); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, piConfig)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "button")
	var reason string
	eventually(t, "the relay's state says why", func() bool {
		var now string
		now, reason = state(t, s, "relay")
		return now == "back-off"
	})
	if !strings.Contains(reason, `held by "kettle"`) || !strings.Contains(reason, "GPIO17") {
		t.Errorf("the reason is %q", reason)
	}
	if !relay.high() {
		t.Error("the line of somebody else was changed")
	}
	t.Log(reason)
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, s, "relay")
	call(t, s, "device.relay.set", true)
	if relay.high() {
		t.Error("the relay does not switch once the line is free")
	}
}

const edgesConfig = `
listen: {rawsocket: 127.0.0.1:8081}
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: counter, type: gpio-input, pin: GPIO24}
`

// Ten thousand edges, from the line through the driver, the router and the
// network into a client.
func TestVMEdgesToWAMP(t *testing.T) {
	// An emulated core has no more to give than the spacing asks for, and the
	// host may be busy: the source waits when it is far ahead.
	const total, spacing, ahead = 10_000, time.Millisecond, 500
	line := newSimLine(t, 24)
	line.set(false)
	config := filepath.Join(t.TempDir(), "edges.yaml")
	if err := os.WriteFile(config, []byte(edgesConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, config)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "counter")

	var mu sync.Mutex
	latency := make([]time.Duration, 0, total)
	var received atomic.Int64
	var wrong []string
	all := make(chan struct{})
	_, err := s.Subscribe(t.Context(), "device.counter.level", func(e *client.Event) {
		seq, ok := wamp.AsInt(e.KwArgs, "edge_seq")
		if !ok {
			return // the level at start
		}
		mu.Lock()
		defer mu.Unlock()
		clock, _ := wamp.AsInt(e.KwArgs, "edge_clock")
		dropped, _ := wamp.AsInt(e.KwArgs, "edge_dropped")
		latency = append(latency, monotonic()-time.Duration(clock))
		if int(seq) != len(latency) || dropped != 0 || e.Args[0] != (seq%2 == 1) {
			wrong = append(wrong, fmt.Sprintf("event %d: %v %v", len(latency), e.Args, e.KwArgs))
		}
		if received.Add(1) == total {
			close(all)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	pin(t, "counter")
	begin, used := time.Now(), cpu(t, g)
	for i := range total {
		line.set(i%2 == 0)
		for gap := time.Now().Add(spacing / 4); time.Now().Before(gap); { // however late it is
		}
		for next := begin.Add(time.Duration(i+1) * spacing); time.Now().Before(next) || int64(i)-received.Load() > ahead && time.Since(begin) < 3*patience; {
			unix.Nanosleep(&unix.Timespec{Nsec: int64(100 * time.Microsecond)}, nil)
		}
	}
	took := time.Since(begin)
	select {
	case <-all:
	case <-time.After(patience):
		mu.Lock()
		defer mu.Unlock()
		_, why := state(t, s, "counter")
		t.Fatalf("%d of %d arrived (%s); %d wrong: %v", len(latency), total, why, len(wrong), wrong[:min(3, len(wrong))])
	}
	used = cpu(t, g) - used
	if len(wrong) > 0 {
		t.Errorf("%d wrong: %v", len(wrong), wrong[:min(3, len(wrong))])
	}
	slices.Sort(latency)
	t.Logf("%d edges at %.0f/s, 0 lost; kernel's stamp to WAMP client: p50 %v, p99 %v, max %v; the gateway used %.0f %% of an emulated core",
		total, total/took.Seconds(), latency[total/2], latency[total*99/100], latency[total-1], 100*used.Seconds()/took.Seconds())
}

// pin puts the kernel's interrupt threads of the device's lines and this thread
// on one processor, so that no edge is made before the last one is noted: see
// devices/gpio's tests in this machine.
func pin(t *testing.T, device string) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	one.Set(1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.SchedSetaffinity(0, &before) })
	found := 0
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range comms {
		comm, _ := os.ReadFile(path)
		// A thread's name is cut off after 15 bytes.
		if name := strings.TrimSpace(string(comm)); strings.HasPrefix(name, "irq/") && strings.Contains(name, "-postern") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err := unix.SchedSetaffinity(pid, &one); err != nil {
				t.Fatal(err)
			}
			found++
		}
	}
	if found == 0 {
		t.Fatalf("no interrupt thread of %s", device)
	}
}

func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// cpu is the processor time that the gateway has used, in steps of 10 ms.
func cpu(t *testing.T, g *gateway) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
