//go:build system

package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// posternBinary is the built gateway, for all tests.
var posternBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "postern-system")
	if err != nil {
		panic(err)
	}
	posternBinary = filepath.Join(dir, "postern")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", posternBinary, "../cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the gateway: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// freePort returns a loopback port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// process is a child process whose output is kept.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; valid after done
	mu   sync.Mutex
	out  bytes.Buffer
}

// spawn starts a program; it is killed with the test if it still runs, and its
// output is shown when the test fails.
func spawn(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (scripts/test installs what it needs)", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), tail(p.output(), 12_000))
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// Write implements io.Writer for the child's output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// until waits for ok, which is asked again and again.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// listens waits until something accepts connections at address.
func listens(t testing.TB, address string) {
	t.Helper()
	until(t, address+" listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// fleet is Debian's mosquitto, the broker of an MQTT fleet.
type fleet struct {
	t    *testing.T
	port int
	*process
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, port: freePort(t)}
	f.start()
	return f
}

// start starts the broker, again after it was killed.
func (f *fleet) start() {
	f.t.Helper()
	conf := filepath.Join(f.t.TempDir(), "mosquitto.conf")
	// A burst of a whole fleet is more than the 1000 messages that mosquitto keeps for a client.
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", f.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.process = spawn(f.t, "/usr/sbin/mosquitto", "-c", conf)
	listens(f.t, fmt.Sprintf("127.0.0.1:%d", f.port))
}

// publish is a third-party device that says something.
func (f *fleet) publish(topic, payload string, flags ...string) {
	f.t.Helper()
	args := append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(f.port), "-t", topic, "-m", payload}, flags...)
	if out, err := exec.Command("mosquitto_pub", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("mosquitto_pub %s: %v %s", topic, err, out)
	}
}

// subscribe is a third-party device that listens: lines "topic payload".
func (f *fleet) subscribe(topic string) <-chan string {
	f.t.Helper()
	// stdbuf: into a pipe, mosquitto_sub would keep its lines to itself.
	cmd := exec.Command("stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(f.port), "-t", topic, "-v", "-d", "-q", "1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	messages, ready := make(chan string, 1000), make(chan struct{})
	go func() {
		// -d prints the protocol between the messages; SUBACK says that it listens.
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "Subscribed ("):
				close(ready)
			case !strings.HasPrefix(line, "Client ") && strings.Contains(line, "/"):
				messages <- line
			}
		}
		close(messages)
	}()
	select {
	case <-ready:
	case <-time.After(patience):
		f.t.Fatalf("mosquitto_sub %s: no SUBACK", topic)
	}
	return messages
}

// receive waits for the first message that ok accepts.
func receive(t *testing.T, messages <-chan string, what string, ok func(string) bool) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m, open := <-messages:
			if !open {
				t.Fatalf("the subscriber ended while waiting for %s", what)
			}
			if ok(m) {
				return m
			}
		case <-deadline:
			t.Fatalf("%s did not come", what)
		}
	}
}

// sensor is a serial line with a device at its end: the test writes what a
// real one would, and reads what it is told.
type sensor struct {
	master *os.File
	path   string // of the port, as the gateway's configuration names it
}

func plugSensor(t *testing.T) *sensor {
	t.Helper()
	s := &sensor{path: filepath.Join(t.TempDir(), "ttyWEATHER")}
	s.plug(t)
	return s
}

// plug connects the device, or connects it again.
func (s *sensor) plug(t *testing.T) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(s.path)
	if err := os.Symlink(tty.Name(), s.path); err != nil {
		t.Fatal(err)
	}
	// The gateway holds the port from now on; without this descriptor the
	// master would see an error until it has opened it, so keep it to the end.
	t.Cleanup(func() { master.Close(); tty.Close() })
	s.master = master
}

func (s *sensor) says(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(s.master, line+"\r\n"); err != nil {
		t.Fatal(err)
	}
}

// gateway is the running binary.
type gateway struct {
	t *testing.T
	*process
	http, raw, mqtt int // ports
	unix            string
}

// url is where a client finds the gateway by a transport.
func (g *gateway) url(transport string) string {
	switch transport {
	case "ws":
		return fmt.Sprintf("ws://127.0.0.1:%d/ws", g.http)
	case "lp":
		return fmt.Sprintf("http://127.0.0.1:%d/lp", g.http)
	case "rs":
		return fmt.Sprintf("rs://127.0.0.1:%d", g.raw)
	default:
		return "unix://" + g.unix
	}
}

// run starts the gateway with a configuration in which the ports are filled in.
func run(t *testing.T, config string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, http: freePort(t), raw: freePort(t), mqtt: freePort(t), unix: filepath.Join(dir, "postern.sock")}
	text := strings.NewReplacer(
		"{{http}}", fmt.Sprint(g.http), "{{raw}}", fmt.Sprint(g.raw), "{{mqtt}}", fmt.Sprint(g.mqtt), "{{unix}}", g.unix,
	).Replace(config)
	if !strings.Contains(text, "state_dir:") {
		text += "\nstate_dir: " + filepath.Join(dir, "state") + "\n"
	}
	file := filepath.Join(dir, "postern.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.process = spawn(t, posternBinary, "run", "-c", file)
	until(t, "the gateway is healthy", func() bool {
		select {
		case <-g.done:
			t.Fatalf("the gateway ended at once: %v\n%s", g.err, g.output())
		default:
		}
		return g.health()["status"] == "ok"
	})
	return g
}

// health is what /healthz says, nil when it says nothing.
func (g *gateway) health() map[string]any {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/healthz", g.http), nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var h map[string]any
	if json.NewDecoder(resp.Body).Decode(&h) != nil {
		return nil
	}
	return h
}

// terminate sends SIGTERM and waits for the end.
func (g *gateway) terminate() {
	g.t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(patience):
		g.t.Fatal("the gateway did not end after SIGTERM")
	}
	if g.err != nil {
		g.t.Fatalf("after SIGTERM: %v, want exit status 0", g.err)
	}
}
