//go:build image

package image

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browser is autobahn-js under remote control, as test/clients/wire.js says.
type browser struct {
	t     *testing.T
	in    io.Writer
	lines chan map[string]any
	id    int
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	cmd := exec.Command("node", "autobahn.js")
	cmd.Dir = filepath.Join(root, "test", "clients")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: in, lines: make(chan map[string]any, 1000)}
	go func() {
		defer close(b.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var line map[string]any
			if json.Unmarshal(s.Bytes(), &line) == nil {
				b.lines <- line
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		for range b.lines { // until it has ended
		}
		_ = cmd.Wait()
	})
	return b
}

// next waits for a line that is wanted.
func (b *browser) next(what string, want func(line map[string]any) bool) map[string]any {
	b.t.Helper()
	bound := time.After(patience)
	for {
		select {
		case line, ok := <-b.lines:
			if !ok {
				b.t.Fatalf("autobahn-js ended before: %s", what)
			}
			if want(line) {
				return line
			}
		case <-bound:
			b.t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

func (b *browser) do(op string, more map[string]any) map[string]any {
	b.t.Helper()
	b.id++
	id := b.id
	line := map[string]any{"id": id, "op": op}
	for k, v := range more {
		line[k] = v
	}
	text, err := json.Marshal(line)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, '\n')); err != nil {
		b.t.Fatal(err)
	}
	answer := b.next(op, func(l map[string]any) bool { return l["id"] == float64(id) })
	if answer["ok"] != true {
		b.t.Fatalf("%s %v: %v", op, more, answer)
	}
	return answer
}

// use calls a procedure of the machine's and receives a reading, as a web
// page would.
func use(t *testing.T, m *machine) {
	t.Helper()
	b := newBrowser(t)
	b.do("connect", map[string]any{"url": "ws://" + m.http + "/ws", "realm": "realm1", "codec": "json"})
	b.do("subscribe", map[string]any{"uri": "device.sun", "match": "prefix"})
	b.do("call", map[string]any{"uri": "device.relay.set", "args": []any{true}})
	got := b.do("call", map[string]any{"uri": "device.relay.get"})
	if on, _ := json.Marshal(got["args"]); !strings.Contains(string(on), `"value":true`) {
		t.Errorf("the relay was set to true, and is %v", got)
	}
	b.next("a reading of device.sun", func(l map[string]any) bool { return l["event"] == "event" })
}
