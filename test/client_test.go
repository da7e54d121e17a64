//go:build system

package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests. Nothing depends on how long a
// wait takes, only on what it ends with.
const patience = 20 * time.Second

// client is a third-party WAMP client program under remote control; see
// clients/wire.js for what travels.
type client struct {
	t      *testing.T
	name   string
	stdin  io.WriteCloser
	next   int
	mu     sync.Mutex
	waits  map[int]chan answer
	events chan event
	ended  chan struct{}
	stderr strings.Builder
}

type answer struct {
	ID     int            `json:"id"`
	OK     bool           `json:"ok"`
	Error  string         `json:"error"`
	Args   []any          `json:"args"`
	KwArgs map[string]any `json:"kwargs"`
}

type event struct {
	Event  string         `json:"event"` // "event" or "close"
	Topic  string         `json:"topic"`
	Reason string         `json:"reason"`
	Args   []any          `json:"args"`
	KwArgs map[string]any `json:"kwargs"`
}

// kinds are the client programs, with the codecs and transports that each has.
var kinds = []struct {
	name, program string
	codecs        []string
	transports    []string
}{
	{"autobahn-js", "autobahn.js", []string{"json", "msgpack", "cbor"}, []string{"ws"}},
	{"autobahn-js", "autobahn.js", []string{"json"}, []string{"rs", "lp"}},
	{"wampy", "wampy.mjs", []string{"json", "msgpack", "cbor"}, []string{"ws"}},
	{"python3-autobahn", "autobahn_python.py", []string{"json", "msgpack", "cbor"}, []string{"ws"}},
	{"python3-autobahn", "autobahn_twisted.py", []string{"json", "msgpack", "cbor"}, []string{"rs", "unix"}},
}

// start runs a client program; it ends with the test.
func start(t *testing.T, program string) *client {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("clients", program))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", path)
	if strings.HasSuffix(program, ".py") {
		// Debian's own interpreter: that is where python3-autobahn lives.
		cmd = exec.Command("/usr/bin/python3", path)
	}
	c := &client{t: t, name: program, waits: map[int]chan answer{}, events: make(chan event, 10_000), ended: make(chan struct{})}
	cmd.Stderr = &c.stderr
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (scripts/test installs what it needs)", program, err)
	}
	go c.read(stdout)
	t.Cleanup(func() {
		c.stdin.Close()
		cmd.Process.Kill()
		<-c.ended
		cmd.Wait()
		if t.Failed() && c.stderr.Len() > 0 {
			t.Logf("%s said:\n%s", program, c.stderr.String())
		}
	})
	return c
}

// read takes what the program says to where it is waited for.
func (c *client) read(stdout io.Reader) {
	defer close(c.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event != "" {
			c.events <- e
			continue
		}
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			fmt.Fprintf(&c.stderr, "(not JSON) %s\n", lines.Text())
			continue
		}
		c.mu.Lock()
		ch := c.waits[a.ID]
		delete(c.waits, a.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
}

// do runs one operation and returns the program's answer.
func (c *client) do(op string, fields map[string]any) answer {
	c.t.Helper()
	c.mu.Lock()
	c.next++
	ch := make(chan answer, 1)
	c.waits[c.next] = ch
	cmd := map[string]any{"id": c.next, "op": op}
	c.mu.Unlock()
	for k, v := range fields {
		cmd[k] = v
	}
	line, err := json.Marshal(cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		c.t.Fatalf("%s is gone: %v\n%s", c.name, err, c.stderr.String())
	}
	select {
	case a := <-ch:
		return a
	case <-c.ended:
		c.t.Fatalf("%s ended during %s", c.name, op)
	case <-time.After(patience):
		c.t.Fatalf("%s: no answer to %s", c.name, op)
	}
	panic("unreachable")
}

// must is do for operations that have to succeed.
func (c *client) must(op string, fields map[string]any) answer {
	c.t.Helper()
	a := c.do(op, fields)
	if !a.OK {
		c.t.Fatalf("%s: %s %v: %s %v", c.name, op, fields["uri"], a.Error, a.Args)
	}
	return a
}

func (c *client) connect(url, codec string) {
	c.t.Helper()
	c.must("connect", map[string]any{"url": url, "realm": "realm1", "codec": codec})
}

func (c *client) call(uri string, args ...any) answer {
	c.t.Helper()
	return c.must("call", map[string]any{"uri": uri, "args": args, "kwargs": map[string]any{}})
}

func (c *client) subscribe(uri, match string) {
	c.t.Helper()
	c.must("subscribe", map[string]any{"uri": uri, "match": match})
}

// wait returns the first event that ok accepts, and passes over the others.
func (c *client) wait(what string, ok func(event) bool) event {
	c.t.Helper()
	deadline := time.After(patience)
	var passed []event
	for {
		select {
		case e := <-c.events:
			if ok(e) {
				return e
			}
			passed = append(passed, e)
		case <-c.ended:
			c.t.Fatalf("%s ended while waiting for %s", c.name, what)
		case <-deadline:
			c.t.Fatalf("%s: %s did not come; last of %d others: %+v", c.name, what, len(passed), passed[max(0, len(passed)-3):])
		}
	}
}
