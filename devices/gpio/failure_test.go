package gpio

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	periph "periph.io/x/conn/v3/gpio"
)

// broken is a pin of another kind than ours, which fails when told.
type broken struct {
	periph.PinIO
	mu    sync.Mutex
	level periph.Level
	edges chan periph.Level
	err   error
}

func newBroken() *broken {
	return &broken{edges: make(chan periph.Level, 8)}
}

func (b *broken) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *broken) Out(l periph.Level) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.level = l
	}
	return b.err
}

func (b *broken) In(periph.Pull, periph.Edge) error { return b.err }
func (b *broken) Halt() error                       { return nil }
func (b *broken) String() string                    { return "pin" }

func (b *broken) Read() periph.Level {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.level
}

func (b *broken) WaitForEdge(timeout time.Duration) bool {
	select {
	case l := <-b.edges:
		b.Out(l)
		return true
	case <-time.After(timeout):
		return false
	}
}

// The drivers work on any pin of periph's.
func TestPlainPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := newBroken()
		in := start(t, &input{params: *newInputParams(), open: func() (periph.PinIO, error) { return pin, nil }})
		in.expect("ready level=false")
		pin.edges <- periph.High
		pin.edges <- periph.Low
		in.expect("level=true#1 level=false#2")
		if err := in.stop(); err != nil {
			t.Error(err)
		}
		pin.level = periph.High
		p := *newOutputParams()
		p.Initial = "keep"
		out := start(t, newOutput(p, func() (periph.PinIO, error) { return pin, nil }))
		out.expect("ready on=true")
		out.stop()
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, busy := errors.New("no such device"), errors.New("held by somebody")
		pin := newBroken()
		openErr := busy
		opened := 0
		open := func() (periph.PinIO, error) { opened++; return pin, openErr }
		dev := newOutput(*newOutputParams(), open)
		if err := start(t, dev).stop(); !errors.Is(err, busy) {
			t.Errorf("Run on a busy line: %v", err)
		}
		if err := dev.Halt(); !errors.Is(err, busy) {
			t.Errorf("Halt on a busy line: %v", err)
		}

		openErr = nil
		r := start(t, dev)
		r.must(true, "set", true)
		pin.fail(gone)
		if _, err := r.call("set", false); err == nil || strings.Contains(err.Error(), gone.Error()) {
			t.Errorf("set on a line that is gone: %v", err)
		}
		if err := <-r.result; !errors.Is(err, gone) {
			t.Errorf("Run on a line that is gone: %v", err)
		}
		if _, err := r.call("set", false); err == nil || !strings.Contains(err.Error(), wamp.ErrUnavailable) {
			t.Errorf("set after it: %v", err)
		}
		if err := dev.Halt(); !errors.Is(err, gone) {
			t.Errorf("Halt: %v", err)
		}
		// It is searched again when it is back.
		pin.fail(nil)
		before := opened
		if err := dev.Halt(); err != nil || opened != before+1 || pin.Read() != periph.Low {
			t.Errorf("Halt: %v, opened %d times", err, opened-before)
		}

		// A pulse whose end fails ends Run too.
		r = start(t, dev)
		r.must(true, "pulse", int64(10))
		pin.fail(gone)
		time.Sleep(time.Second)
		if err := <-r.result; !errors.Is(err, gone) {
			t.Errorf("Run: %v", err)
		}

		in := &input{params: *newInputParams(), open: open}
		if err := start(t, in).stop(); !errors.Is(err, gone) {
			t.Errorf("input on a line that is gone: %v", err)
		}
		openErr = busy
		if err := start(t, in).stop(); !errors.Is(err, busy) {
			t.Errorf("input on a busy line: %v", err)
		}
		if in.Halt() != nil || in.Procedures() != nil {
			t.Error("an input has a safe state or procedures")
		}
	})
}

// stuck is a line that something else holds at a level.
type stuck struct{ broken }

func (s *stuck) Read() periph.Level { return periph.High }

func TestHaltReadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := *newOutputParams()
		open := func() (periph.PinIO, error) { return &stuck{}, nil }
		if err := newOutput(p, open).Halt(); err == nil || !strings.Contains(err.Error(), "driven off but reads on") {
			t.Errorf("%v", err)
		}
		p.Drive = "open-drain"
		if err := newOutput(p, open).Halt(); err != nil {
			t.Errorf("open drain: %v", err)
		}
	})
}
