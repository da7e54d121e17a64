package i2c

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outlet records what a device says.
type outlet struct {
	mu   sync.Mutex
	said []string
}

func (o *outlet) say(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, s)
}

func (o *outlet) Ready()                             { o.say("ready") }
func (o *outlet) Degraded(err error)                 { o.say("degraded") }
func (o *outlet) Fault(reading string, reason error) { o.say("fault:" + reading) }
func (o *outlet) Emit(reading string, v any, _ devices.Sample) {
	o.say(fmt.Sprintf("%s=%v", reading, v))
}

// take returns what was said since the last take.
func (o *outlet) take() string {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.said, " ")
	o.said = nil
	return s
}

// running is a device whose Run is under way.
type running struct {
	outlet
	t      *testing.T
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, dev devices.Device) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- dev.Run(ctx, r) }()
	return r
}

func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

func (r *running) expect(want string) {
	r.t.Helper()
	if have := r.take(); have != want {
		r.t.Errorf("have %q\nwant %q", have, want)
	}
}

// bench opens devices over one bus.
type bench struct {
	t       *testing.T
	drivers []devices.Driver
}

func newBench(t *testing.T, b periph.BusCloser) bench {
	return bench{t, drivers(newPool(func(string) (periph.BusCloser, error) { return b, nil }), nil)}
}

func simBench(t *testing.T) bench {
	sim := newSimulation()
	return bench{t, drivers(newPool(func(string) (periph.BusCloser, error) { return sim, nil }), sim)}
}

// open opens a device of a type with its defaults, changed.
func (b bench) open(typ string, change func(params any)) devices.Device {
	b.t.Helper()
	for _, d := range b.drivers {
		if d.Type != typ {
			continue
		}
		params := d.NewParams()
		change(params)
		params.(devices.Validator).Validate(func(path, problem, _ string) { b.t.Errorf("%s: %s", path, problem) })
		dev, err := d.Open(devices.Env{Name: "test"}, params)
		if err != nil {
			b.t.Fatal(err)
		}
		return dev
	}
	b.t.Fatalf("no driver %q", typ)
	return nil
}
