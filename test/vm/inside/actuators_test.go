//go:build vm

package inside

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

const actuatorsConfig = `
listen: {rawsocket: 127.0.0.1:8081}
state_dir: state
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: up, type: gpio-output, pin: GPIO5, active_low: true, interlock: motor, dead_time: 300ms}
    - {name: down, type: gpio-output, pin: GPIO6, active_low: true, interlock: motor}
    - {name: heater, type: gpio-output, pin: GPIO22, control: {lease: 2s}}
    - {name: pump, type: gpio-output, pin: GPIO23, control: {hold: true}}
    - {name: lamp, type: gpio-output, pin: GPIO19, active_low: true, initial: last}
`

const meterConfig = `
listen: {rawsocket: 127.0.0.1:8081}
state_dir: state
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: meter, type: gpio-counter, pin: GPIO25, scale: 0.001, unit: kW.h, interval: 100ms, save_every: 1s}
`

const knobConfig = `
listen: {rawsocket: 127.0.0.1:8081}
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: knob, type: gpio-encoder, a: GPIO20, b: GPIO21}
`

func startActuators(t *testing.T) (*gateway, string) { return startWith(t, actuatorsConfig) }

func startWith(t *testing.T, text string) (*gateway, string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "actuators.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startGateway(t, config), config
}

func (s *simLine) is(high bool) func() bool { return func() bool { return s.high() == high } }

// Of the two directions of a motor one may be on, after a dead time.
func TestVMInterlock(t *testing.T) {
	up, down := newSimLine(t, 5), newSimLine(t, 6)
	up.set(true)
	down.set(true)
	g, _ := startActuators(t)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "up", "down")
	call(t, s, "device.up.set", true)
	refused := func(rule string) time.Duration {
		t.Helper()
		_, err := s.Call(t.Context(), "device.down.set", client.Args{true}, nil)
		e := new(wamp.Error)
		if !errors.As(err, &e) || e.URI != "postern.error.refused" || wamp.AsString(e.KwArgs, "rule") != rule {
			t.Fatalf("down.set: %v", err)
		}
		ms, _ := wamp.AsInt(e.KwArgs, "retry_ms")
		return time.Duration(ms) * time.Millisecond
	}
	refused("interlock")
	if up.high() || !down.high() {
		t.Error("both are on, or the first is off")
	}
	off := time.Now()
	call(t, s, "device.up.set", false)
	eventually(t, "the other direction", func() bool {
		_, err := s.Call(t.Context(), "device.down.set", client.Args{true}, nil)
		return err == nil
	})
	if took := time.Since(off); took < 300*time.Millisecond || down.high() || !up.high() {
		t.Errorf("after %v; up is off: %v, down is on: %v", took, up.high(), !down.high())
	}
}

// The lease of a client that says nothing ends, and another one's connection
// breaks: both lines fall.
func TestVMControllerIsGone(t *testing.T) {
	heater, pump := newSimLine(t, 22), newSimLine(t, 23)
	g, _ := startActuators(t)
	watcher := g.join("rs://127.0.0.1:8081", codec.CBOR)
	user := g.join("rs://127.0.0.1:8081", codec.JSON)
	awaitReady(t, watcher, "heater", "pump")
	begin := time.Now()
	call(t, user, "device.heater.set", true)
	call(t, user, "device.heater.renew")
	call(t, user, "device.pump.set", true)
	if !heater.high() || !pump.high() {
		t.Fatal("they are not on")
	}
	eventually(t, "the lease ends", heater.is(false))
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("a lease of 2 s ended after %v", took)
	}
	if !pump.high() {
		t.Error("the pump is off, although its session is there")
	}
	begin = time.Now()
	user.Close(context.Background())
	eventually(t, "the session is gone", pump.is(false))
	t.Logf("safe %v after the session was closed", time.Since(begin).Round(100*time.Microsecond))
	awaitReady(t, watcher, "heater", "pump")
	call(t, watcher, "device.pump.set", true) // it serves on
}

// A lamp that was on comes back on after kill -9 and after an orderly end,
// without being off in between as far as the gateway can help it.
func TestVMRestoreWithoutGlitch(t *testing.T) {
	lamp := newSimLine(t, 19)
	lamp.set(true) // off
	g, config := startActuators(t)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "lamp")
	call(t, s, "device.lamp.set", true)
	eventually(t, "the state is written", func() bool {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(config), "state", "devices", "lamp.json"))
		return err == nil && string(text) == "{\"on\":true}\n"
	})
	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		g.cmd.Process.Signal(end)
		g.ended()
		lamp.set(false) // the line keeps its level, as a Raspberry Pi's
		watch := lamp.watchHigh()
		g = startGateway(t, config)
		s = g.join("rs://127.0.0.1:8081", codec.CBOR)
		awaitReady(t, s, "lamp")
		if high, looks := watch(); high > 0 || looks == 0 {
			t.Errorf("%v: the lamp was off in %d of %d looks while the gateway started", end, high, looks)
		}
		lamp.set(true)
		if lamp.high() {
			t.Errorf("%v: the lamp is not on again", end)
		}
	}
}

// Ten thousand pulses, and a total that outlives kill -9 but for the last
// second.
func TestVMCounter(t *testing.T) {
	const total, spacing = 10_000, 500 * time.Microsecond
	line := newSimLine(t, 25)
	line.set(false)
	g, config := startWith(t, meterConfig)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "meter")
	pulses := func() int64 {
		r, err := s.Call(t.Context(), "device.meter.get", client.Args{"pulses"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := wamp.AsInt(r.Args[0].(wamp.Dict), "value")
		return n
	}
	pin(t, "meter")
	begin, used := time.Now(), cpu(t, g)
	for i := range total {
		line.set(true)
		for half := time.Now().Add(spacing / 2); time.Now().Before(half); {
		}
		line.set(false)
		for next := begin.Add(time.Duration(i+1) * spacing); time.Now().Before(next); {
		}
	}
	took := time.Since(begin)
	eventually(t, "all are counted", func() bool { return pulses() >= total })
	used = cpu(t, g) - used
	if n := pulses(); n != total {
		t.Errorf("%d pulses of %d", n, total)
	}
	t.Logf("%d pulses at %.0f/s, none lost; the gateway used %.0f %% of an emulated core", total, total/took.Seconds(), 100*used.Seconds()/took.Seconds())
	path := filepath.Join(filepath.Dir(config), "state", "devices", "meter.json")
	eventually(t, "the total is written", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && string(text) == "{\"pulses\":10000,\"base\":0}\n"
	})
	g.cmd.Process.Signal(syscall.SIGKILL)
	g.ended()
	g = startGateway(t, config)
	s = g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "meter")
	if n := pulses(); n != total {
		t.Errorf("%d pulses after the restart", n)
	}
}

func TestVMEncoder(t *testing.T) {
	a, b := newSimLine(t, 20), newSimLine(t, 21)
	a.set(true)
	b.set(true)
	g, _ := startWith(t, knobConfig)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "knob")
	a.set(true) // the gateway has set the pulls
	b.set(true)
	call(t, s, "device.knob.set", 0)
	pin(t, "knob")
	position := func() int64 {
		r, err := s.Call(t.Context(), "device.knob.get", client.Args{"position"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := wamp.AsInt(r.Args[0].(wamp.Dict), "value")
		return n
	}
	turn := func(detents int, first, second *simLine) {
		for range detents {
			for _, level := range []bool{false, true} {
				for _, l := range []*simLine{first, second} {
					l.set(level)
					for gap := time.Now().Add(time.Millisecond); time.Now().Before(gap); {
					}
				}
			}
		}
	}
	turn(25, a, b)
	eventually(t, "25 detents forward", func() bool { return position() == 25 })
	turn(40, b, a)
	eventually(t, "40 detents back", func() bool { return position() == -15 })
	turn(200, a, b)
	eventually(t, "200 detents forward", func() bool { return position() == 185 })
}
