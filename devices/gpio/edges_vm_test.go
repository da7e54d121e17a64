//go:build vm

package gpio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	periph "periph.io/x/conn/v3/gpio"
)

// pinHandler puts the kernel's interrupt thread of the line and this thread on
// one processor. The handler, which runs before any ordinary thread, then has
// noted an edge before the next one can be made, however busy the host is: an
// edge that is missing was lost on this side.
func pinHandler(t *testing.T, consumer string) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var before, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &before))
	one.Set(1)
	must(t, unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() { unix.SchedSetaffinity(0, &before) })
	found := 0
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range comms {
		comm, _ := os.ReadFile(path)
		if name := strings.TrimSpace(string(comm)); strings.HasPrefix(name, "irq/") && strings.HasSuffix(name, "-"+consumer) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			must(t, unix.SchedSetaffinity(pid, &one))
			found++
		}
	}
	if found != 1 {
		t.Fatalf("%d interrupt threads named %q", found, consumer)
	}
}

func TestVMTenThousandEdges(t *testing.T) {
	const total, spacing = 10_000, 200 * time.Microsecond
	s := newSimLine(t, 24)
	s.pull(false)
	l := s.open(LineConfig{Consumer: "count"})
	must(t, l.In(periph.PullNoChange, periph.BothEdges))
	pinHandler(t, "count")

	made := make([]time.Duration, total) // when each edge was made
	latency := make([]time.Duration, 0, total)
	var wrong []string
	var done sync.WaitGroup
	var fetched, waits int
	done.Go(func() {
		buf := make([]Event, 16)
		var last Event
		for fetched < total {
			n, err := l.WaitEdges(time.Now().Add(10*time.Second), buf)
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("after %d edges: %v", fetched, err))
				return
			}
			waits++
			now := l.clock()
			for _, e := range buf[:n] {
				fetched++
				if int(e.Seq) != fetched || e.Dropped != 0 || e.Rising != (fetched%2 == 1) || e.Clock < last.Clock {
					wrong = append(wrong, fmt.Sprintf("edge %d: %+v after %+v", fetched, e, last))
				}
				if d := time.Since(e.Time); d < -time.Millisecond || d > 10*time.Second {
					wrong = append(wrong, fmt.Sprintf("edge %d: wall clock off by %v", fetched, d))
				}
				latency = append(latency, now-e.Clock)
				last = e
			}
		}
	})
	start := time.Now()
	for i := range total {
		made[i] = l.clock()
		s.pull(i%2 == 0)
		spin(spacing)
	}
	took := time.Since(start)
	done.Wait()
	if len(wrong) > 0 {
		t.Errorf("%d wrong, first %s", len(wrong), wrong[0])
	}
	if fetched == total {
		slices.Sort(latency)
		t.Logf("%d edges at %.0f/s in %d waits, 0 lost; kernel's stamp to user space: p50 %v, p99 %v, max %v",
			total, total/took.Seconds(), waits, latency[total/2], latency[total*99/100], latency[total-1])
	}
}

func TestVMDropsAreCounted(t *testing.T) {
	s := newSimLine(t, 25)
	for _, c := range []struct{ buffer, edges, kept int }{
		{0, 1000, 1000}, // the default holds 1024
		{64, 500, 64},
	} {
		s.pull(false)
		l := s.open(LineConfig{Buffer: c.buffer, Consumer: "burst"})
		must(t, l.In(periph.PullNoChange, periph.BothEdges))
		t.Run(strconv.Itoa(c.edges), func(t *testing.T) {
			pinHandler(t, "burst")
			for i := range c.edges {
				s.pull(i%2 == 0)
				spin(50 * time.Microsecond)
			}
		})
		buf := make([]Event, 16)
		var got []Event
		for {
			n, err := l.WaitEdges(time.Time{}.Add(1), buf) // a past deadline: what is there
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
			got = append(got, buf[:n]...)
		}
		if len(got) != c.kept || int(got[len(got)-1].Seq) != c.edges || int(got[0].Dropped) != c.edges-c.kept || got[0].Dropped != got[len(got)-1].Dropped {
			t.Errorf("buffer %d: %d edges of %d, from %+v to %+v", c.buffer, len(got), c.edges, got[0], got[len(got)-1])
		}
		must(t, l.Close())
	}
}

func TestVMDebounce(t *testing.T) {
	for _, c := range []struct {
		name string
		soft bool
	}{{"kernel", false}, {"software", true}} {
		t.Run(c.name, func(t *testing.T) {
			const period = 300 * time.Millisecond
			s := newSimLine(t, 12)
			s.pull(false)
			cfg := LineConfig{Debounce: period}
			if c.soft {
				cfg.Debounce = 0
			}
			l := s.open(cfg)
			must(t, l.In(periph.PullNoChange, periph.BothEdges))
			if c.soft {
				l.soft = newDebouncer(period, periph.BothEdges, false, l.clock)
			}
			if (l.soft != nil) != c.soft {
				t.Fatal("the kernel did not debounce")
			}
			for _, rising := range []bool{true, false} {
				for i := range 21 {
					s.pull((i%2 == 0) == rising)
					spin(200 * time.Microsecond)
				}
				buf := make([]Event, 16)
				begin := time.Now()
				n, err := l.WaitEdges(begin.Add(5*time.Second), buf)
				if err != nil || n != 1 || buf[0].Rising != rising {
					t.Fatalf("21 bounces: %d events, %+v, %v", n, buf[:n], err)
				}
				if took := time.Since(begin); took < period/2 {
					t.Errorf("the event came after %v", took)
				}
				if n, err := l.WaitEdges(time.Now().Add(2*period), buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("one more: %+v, %v", buf[:n], err)
				}
			}
		})
	}
}
