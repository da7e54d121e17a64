//go:build vm

package inside

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// simLine is the simulation's end of a line of the Pi's chip.
type simLine struct {
	t    *testing.T
	pull *os.File
	val  *os.File
}

func newSimLine(t *testing.T, n int) *simLine {
	t.Helper()
	dir := os.Getenv("SIM_PI")
	if dir == "" {
		t.Fatal("this test runs in the virtual machine only: go test -tags vm ./test/vm")
	}
	open := func(name string, flag int) *os.File {
		f, err := os.OpenFile(fmt.Sprintf("%s/sim_gpio%d/%s", dir, n, name), flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return &simLine{t, open("pull", os.O_WRONLY), open("value", os.O_RDONLY)}
}

// set is what is connected to an input from outside, and what a line has that
// nobody drives.
func (s *simLine) set(high bool) {
	word := "pull-down"
	if high {
		word = "pull-up"
	}
	if _, err := s.pull.WriteAt([]byte(word), 0); err != nil {
		s.t.Error(err)
	}
}

// high is the electrical level.
func (s *simLine) high() bool {
	var b [1]byte
	if _, err := s.val.ReadAt(b[:], 0); err != nil {
		s.t.Error(err)
	}
	return b[0] == '1'
}

// eventually polls, every millisecond, until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); !cond(); <-tick.C {
		if time.Since(start) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// gateway is the running binary.
type gateway struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	mu   sync.Mutex
	out  bytes.Buffer
}

func (g *gateway) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(p)
}

func startGateway(t *testing.T, config string) *gateway {
	t.Helper()
	g := &gateway{t: t, cmd: exec.Command(binary, "run", "-c", config), done: make(chan struct{})}
	g.cmd.Stdout, g.cmd.Stderr = g, g
	g.cmd.Env = append(os.Environ(), "HOME=/tmp")
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		g.cmd.Wait()
		close(g.done)
	}()
	t.Cleanup(func() {
		g.cmd.Process.Kill()
		<-g.done
		if t.Failed() {
			g.mu.Lock()
			defer g.mu.Unlock()
			t.Logf("the gateway said:\n%s", g.out.Bytes())
		}
	})
	return g
}

// join connects a client as soon as the gateway listens, and waits until the
// devices' procedures are there.
func (g *gateway) join(url string, c codec.Codec) *client.Session {
	g.t.Helper()
	var s *client.Session
	eventually(g.t, "the gateway takes "+url, func() bool {
		select {
		case <-g.done:
			g.t.Fatal("the gateway has ended")
		default:
		}
		var err error
		s, err = client.Dial(g.t.Context(), url, client.Config{Realm: "realm1", Codec: c})
		return err == nil
	})
	g.t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

// state asks for a device's state and its reason.
func state(t *testing.T, s *client.Session, device string) (state, reason string) {
	t.Helper()
	r, err := s.Call(t.Context(), "device."+device+".status", nil, nil)
	if err != nil || len(r.Args) != 1 {
		return "", fmt.Sprint(err)
	}
	d, _ := r.Args[0].(wamp.Dict)
	return wamp.AsString(d, "state"), wamp.AsString(d, "reason")
}

func awaitReady(t *testing.T, s *client.Session, devices ...string) {
	t.Helper()
	for _, d := range devices {
		eventually(t, d+" is ready", func() bool {
			now, _ := state(t, s, d)
			return now == "ready"
		})
	}
}

func call(t *testing.T, s *client.Session, procedure string, args ...any) any {
	t.Helper()
	r, err := s.Call(t.Context(), procedure, args, nil)
	if err != nil {
		t.Fatalf("call %s%v: %v", procedure, args, err)
	}
	if len(r.Args) != 1 {
		t.Fatalf("call %s%v: %v", procedure, args, r.Args)
	}
	return r.Args[0]
}

// ended waits for the gateway's end and returns how it ended.
func (g *gateway) ended() string {
	g.t.Helper()
	select {
	case <-g.done:
	case <-time.After(patience):
		g.t.Fatal("the gateway does not end")
	}
	return g.cmd.ProcessState.String()
}

// watch looks at a line until stop is called, and returns how often it was
// low, and how often it was looked at.
func (s *simLine) watch() (stop func() (low, looks int)) { return s.watchFor(false) }

// watchHigh is watch for looks at which it was high.
func (s *simLine) watchHigh() (stop func() (high, looks int)) { return s.watchFor(true) }

func (s *simLine) watchFor(level bool) (stop func() (seen, looks int)) {
	var ended atomic.Bool
	var running sync.WaitGroup
	var seen, looks int
	running.Go(func() {
		for !ended.Load() {
			if looks++; s.high() == level {
				seen++
			}
			runtime.Gosched()
		}
	})
	return func() (int, int) {
		ended.Store(true)
		running.Wait()
		return seen, looks
	}
}
