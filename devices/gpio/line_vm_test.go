//go:build vm

package gpio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	periph "periph.io/x/conn/v3/gpio"
)

// These tests run as root in the machine of test/vm, whose kernel simulates a
// Raspberry Pi's GPIO chip.

// simLine is the simulation's end of a line of the Pi's chip.
type simLine struct {
	t       *testing.T
	n       int
	pullFd  int
	valueFd int
}

func newSimLine(t *testing.T, n int) *simLine {
	t.Helper()
	dir := os.Getenv("SIM_PI")
	if dir == "" {
		t.Fatal("this test runs in the virtual machine only: go test -tags vm ./test/vm")
	}
	s := &simLine{t: t, n: n}
	var err error
	if s.pullFd, err = unix.Open(fmt.Sprintf("%s/sim_gpio%d/pull", dir, n), unix.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if s.valueFd, err = unix.Open(fmt.Sprintf("%s/sim_gpio%d/value", dir, n), unix.O_RDONLY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(s.pullFd)
		unix.Close(s.valueFd)
	})
	return s
}

// pull is what is connected to an input from outside.
func (s *simLine) pull(up bool) {
	word := "pull-down"
	if up {
		word = "pull-up"
	}
	if _, err := unix.Pwrite(s.pullFd, []byte(word), 0); err != nil {
		s.t.Errorf("pull of line %d: %v", s.n, err)
	}
}

func (s *simLine) pulled() string {
	b := make([]byte, 16)
	n, _ := unix.Pread(s.pullFd, b, 0)
	return strings.TrimSpace(string(b[:max(n, 0)]))
}

// value is the electrical level.
func (s *simLine) value() bool {
	var b [2]byte
	if _, err := unix.Pread(s.valueFd, b[:], 0); err != nil {
		s.t.Errorf("value of line %d: %v", s.n, err)
	}
	return b[0] == '1'
}

func (s *simLine) open(cfg LineConfig) *Line {
	s.t.Helper()
	l, err := Open("GPIO"+strconv.Itoa(s.n), "", cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spin waits without giving up the processor, to a few microseconds.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// watch counts how often a line was seen low while f ran, and how often it was
// looked at. On a busy host the one that looks may sleep: f runs again until
// there were leastLooks.
func (s *simLine) watch(f func()) (low, looks int) {
	var stop atomic.Bool
	var seen atomic.Int64
	var done sync.WaitGroup
	done.Go(func() {
		for !stop.Load() {
			if !s.value() {
				low++
			}
			seen.Add(1)
		}
	})
	for begin := time.Now(); seen.Load() < 1 && time.Since(begin) < 10*time.Second; {
		runtime.Gosched()
	}
	begin := time.Now()
	for f(); seen.Load() < leastLooks && time.Since(begin) < 10*time.Second; {
		f()
	}
	stop.Store(true)
	done.Wait()
	return low, int(seen.Load())
}

const leastLooks = 100

func TestVMFind(t *testing.T) {
	own := filepath.Base(os.Getenv("SIM_PI"))
	if own == "gpiochip0" {
		t.Fatal("the machine must have another chip before the Pi's")
	}
	// The second name of a chip, as on a Raspberry Pi 5, must not confuse.
	must(t, os.Symlink("/dev/"+own, "/dev/gpiochip99"))
	defer os.Remove("/dev/gpiochip99")
	for _, c := range []struct {
		pin, chip, path string
		offset          uint32
		number          int
	}{
		{"GPIO17", "", own, 17, 17},
		{"P1-11", "", own, 17, 17},
		{"GPIO17", "pinctrl-bcm2711", own, 17, 17},
		{"17", "pinctrl-bcm2711", own, 17, 17},
		{"17", "/dev/" + own, own, 17, 17},
		{"OTHER3", "", filepath.Base(os.Getenv("SIM_OTHER")), 3, 3},
	} {
		l, err := Open(c.pin, c.chip, LineConfig{})
		must(t, err)
		if a := l.Address(); a.Path != "/dev/"+c.path || a.Offset != c.offset || l.Number() != c.number {
			t.Errorf("%q on %q: %+v, number %d", c.pin, c.chip, a, l.Number())
		}
	}
	_, err := Open("PUMP", "", LineConfig{})
	if err == nil || !strings.Contains(err.Error(), "pinctrl-bcm2711, 54 lines") || !strings.Contains(err.Error(), "other-expander, 8 lines") {
		t.Errorf("error of an unknown line: %v", err)
	}
}

func TestVMOutputsDoNotGlitch(t *testing.T) {
	const rounds = 200
	s := newSimLine(t, 5)
	s.pull(true)
	count := func(what string, want bool, round func()) {
		low, looks := s.watch(func() {
			for range rounds {
				round()
			}
		})
		t.Logf("%-32s %d rounds or more, low in %d of %d looks", what, rounds, low, looks)
		if low > 0 != want || looks < leastLooks {
			t.Errorf("%s low in %d of %d looks", what, low, looks)
		}
	}
	count("request, Out(High), Close:", false, func() {
		l := s.open(LineConfig{})
		must(t, l.Out(periph.High))
		must(t, l.Close())
	})
	l := s.open(LineConfig{})
	count("In, Out(High), In, Out(High):", false, func() {
		must(t, l.In(periph.PullNoChange, periph.BothEdges))
		must(t, l.Out(periph.High))
		must(t, l.In(periph.PullUp, periph.NoEdge))
		must(t, l.Out(periph.High))
	})
	count("Read and Function of an output:", false, func() {
		if !l.Read() || l.Function() != "Out/High" {
			t.Error("not an output any more")
		}
	})
	must(t, l.Close())
	count("Keep of a pulled-up line, Close:", false, func() {
		if v, err := l.Keep(); err != nil || !v {
			t.Errorf("Keep: %v %v", v, err)
		}
		must(t, l.Close())
	})
	// That nothing was seen means something only if it would have been.
	count("control, 50 µs low:", true, func() {
		must(t, l.Out(periph.Low))
		spin(50 * time.Microsecond)
		must(t, l.Out(periph.High))
	})
}

func TestVMInitialLevelDriveAndActiveLow(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   LineConfig
		level periph.Level
		want  bool
		flags uint64
	}{
		{"high", LineConfig{}, periph.High, true, 0},
		{"low", LineConfig{}, periph.Low, false, 0},
		{"active-low on", LineConfig{ActiveLow: true}, periph.High, false, flagActiveLow},
		{"active-low off", LineConfig{ActiveLow: true}, periph.Low, true, flagActiveLow},
		{"open drain", LineConfig{Drive: OpenDrain}, periph.Low, false, flagOpenDrain},
		{"open source", LineConfig{Drive: OpenSource}, periph.High, true, flagOpenSource},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSimLine(t, 6)
			s.pull(!c.want)
			l := s.open(c.cfg)
			must(t, l.Out(c.level))
			if s.value() != c.want || l.Read() != c.level {
				t.Errorf("electrical level %v, Read %v", s.value(), l.Read())
			}
			f, conn, err := openChip(l.addr.Path)
			must(t, err)
			defer f.Close()
			u := uapiLineInfo{offset: l.addr.Offset}
			must(t, ioctl(conn, iocLineInfo, &u))
			if want := uint64(flagUsed | flagOutput | c.flags); u.flags != want {
				t.Errorf("the kernel's flags are %#x, want %#x", u.flags, want)
			}
			if name := unix.ByteSliceToString(u.consumer[:]); name != "postern" {
				t.Errorf("consumer %q", name)
			}
		})
	}
}

func TestVMBias(t *testing.T) {
	s := newSimLine(t, 7)
	l := s.open(LineConfig{})
	for _, c := range []struct {
		pull  periph.Pull
		want  string
		level periph.Level
	}{
		{periph.PullUp, "pull-up", periph.High},
		{periph.PullDown, "pull-down", periph.Low},
		{periph.PullUp, "pull-up", periph.High},
		{periph.PullNoChange, "pull-up", periph.High},
	} {
		must(t, l.In(c.pull, periph.NoEdge))
		if s.pulled() != c.want || l.Read() != c.level || l.Pull() != c.pull {
			t.Errorf("In(%v): %s, %v, %v", c.pull, s.pulled(), l.Read(), l.Pull())
		}
	}
	must(t, l.In(periph.Float, periph.NoEdge))
}

func TestVMActiveLowInput(t *testing.T) {
	s := newSimLine(t, 13)
	s.pull(true)
	l := s.open(LineConfig{ActiveLow: true})
	must(t, l.In(periph.PullNoChange, periph.RisingEdge))
	if l.Read() {
		t.Error("an electrically high line is active")
	}
	s.pull(false)
	buf := make([]Event, 4)
	if n, err := l.WaitEdges(time.Now().Add(5*time.Second), buf); err != nil || n != 1 || !buf[0].Rising || l.Read() != periph.High {
		t.Errorf("%+v %v", buf[:n], err)
	}
}

func TestVMBusyNamesTheHolder(t *testing.T) {
	s := newSimLine(t, 14)
	must(t, s.open(LineConfig{Consumer: "kettle"}).Out(periph.High))
	for name, err := range map[string]error{
		"Out": s.open(LineConfig{}).Out(periph.Low),
		"In":  s.open(LineConfig{Debounce: time.Millisecond}).In(periph.PullUp, periph.BothEdges),
	} {
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), `held by "kettle"`) || !strings.Contains(err.Error(), "GPIO14") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !s.value() {
		t.Error("the holder's level is disturbed")
	}
}

func TestVMAccessNamesTheGroup(t *testing.T) {
	chips, _ := filepath.Glob("/dev/gpiochip*")
	runtime.LockOSThread() // never unlocked: the thread ends with its changed user
	for _, c := range []struct {
		gid  int
		mode os.FileMode
		want string
	}{
		{0, 0o600, "udev rule"},
		{997, 0o660, "in the group 997"},
	} {
		for _, path := range chips {
			must(t, os.Chown(path, 0, c.gid))
			must(t, os.Chmod(path, c.mode))
		}
		must(t, unix.Setfsuid(1000))
		_, err := Open("GPIO3", "", LineConfig{})
		must(t, unix.Setfsuid(0))
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v", err)
		}
	}
}

func TestVMWaiting(t *testing.T) {
	s := newSimLine(t, 15)
	s.pull(false)
	l := s.open(LineConfig{})
	if l.WaitForEdge(0) || l.Read() != periph.Low {
		t.Error("a line that was never set up has an edge")
	}
	must(t, l.In(periph.PullNoChange, periph.BothEdges))
	if l.WaitForEdge(0) {
		t.Error("0 does not poll")
	}
	start := time.Now()
	if l.WaitForEdge(50*time.Millisecond) || time.Since(start) < 50*time.Millisecond {
		t.Errorf("50 ms: returned after %v", time.Since(start))
	}

	// An edge before the call ends it at once, whatever the timeout.
	for _, timeout := range []time.Duration{0, -1, time.Hour} {
		s.pull(!s.value())
		if !l.WaitForEdge(5*time.Second) || l.WaitForEdge(0) {
			t.Error("one edge is not one edge")
		}
		s.pull(!s.value())
		for start := time.Now(); !pending(l) && time.Since(start) < 5*time.Second; {
		}
		if !l.WaitForEdge(timeout) {
			t.Errorf("timeout %v: the edge before the call is not seen", timeout)
		}
	}

	// In empties what has come together.
	s.pull(!s.value())
	for start := time.Now(); !pending(l) && time.Since(start) < 5*time.Second; {
	}
	must(t, l.In(periph.PullNoChange, periph.BothEdges))
	if l.WaitForEdge(20 * time.Millisecond) {
		t.Error("an edge from before In")
	}

	// Whatever ends a wait for ever.
	for _, c := range []struct {
		name string
		end  func() error
		want bool
	}{
		{"edge", func() error { s.pull(!s.value()); return nil }, true},
		{"In", func() error { return l.In(periph.PullNoChange, periph.BothEdges) }, false},
		{"Halt", l.Halt, false},
		{"Out", func() error { return l.Out(periph.Low) }, false},
		{"Close", l.Close, false},
	} {
		must(t, l.In(periph.PullNoChange, periph.BothEdges))
		result := make(chan bool)
		go func() { result <- l.WaitForEdge(-1) }()
		select {
		case <-result:
			t.Fatalf("%s: -1 does not wait", c.name)
		case <-time.After(20 * time.Millisecond):
		}
		must(t, c.end())
		select {
		case got := <-result:
			if got != c.want {
				t.Errorf("%s: %v", c.name, got)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s does not end the wait", c.name)
		}
	}

	// After Halt there is nothing to wait for until In.
	must(t, l.In(periph.PullNoChange, periph.BothEdges))
	must(t, l.Halt())
	if n, err := l.WaitEdges(time.Time{}, make([]Event, 1)); n != 0 || !errors.Is(err, ErrInterrupted) {
		t.Errorf("after Halt: %d, %v", n, err)
	}
	must(t, l.In(periph.PullNoChange, periph.BothEdges))
	s.pull(!s.value())
	if !l.WaitForEdge(5 * time.Second) {
		t.Error("In does not undo Halt")
	}
}

// pending reports, without taking it, whether the kernel has an edge ready.
func pending(l *Line) bool {
	p := []unix.PollFd{{Events: unix.POLLIN}}
	l.conn.Control(func(fd uintptr) {
		p[0].Fd = int32(fd)
		unix.Poll(p, 0)
	})
	return p[0].Revents&unix.POLLIN != 0
}
