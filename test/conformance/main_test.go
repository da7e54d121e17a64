// Package conformance runs the built gateway and speaks to it in raw messages,
// over every transport and in every serialization, with a peer that shares
// nothing with the router but the serializations of values.
//
// testdata/*.txt are conversations, one for each feature that WELCOME announces
// and for each rule that a router may get wrong; script_test.go describes their
// format, features_test.go holds them against WELCOME. What a conversation
// cannot express is in Go: rules_test.go, and the attacks in hostile_*_test.go.
package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
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

	// What is tested is the binary, which go test does not know of: so it sees
	// that a result is old when the gateway has changed.
	_ "github.com/postern-iot/postern/devices/all"
	_ "github.com/postern-iot/postern/gateway"
)

// patience bounds every wait. Nothing depends on how long a wait takes, only
// on what it ends with.
const patience = 20 * time.Second

// program is the built gateway, and identity the folder with the certificate and
// the key that it has made for itself.
var program, identity string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "postern-conformance")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "postern")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../../cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the gateway: %v\n%s", err, out)
		os.Exit(1)
	}
	identity = dir
	if out, err := exec.Command(program, "keys", "tls", "--dir", identity, "--host", "127.0.0.1").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make a certificate: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// gateway is the running binary.
type gateway struct {
	tb              testing.TB
	http, raw, unix string // addresses
	universal       string // of everything, with and without TLS
	file            string // its configuration
	cmd             *exec.Cmd
	done            chan struct{} // closed when it has ended
	err             error         // how; valid after done

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes what the gateway says.
func (g *gateway) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(b)
}

func (g *gateway) said() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.String()
}

// freeAddress is one on loopback that nobody listens on now.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// run starts the gateway with listeners for every transport, and with what
// more the configuration says. It is killed with the test.
func run(tb testing.TB, config string, env ...string) *gateway {
	tb.Helper()
	dir := tb.TempDir()
	g := &gateway{tb: tb, http: freeAddress(tb), raw: freeAddress(tb), universal: freeAddress(tb), done: make(chan struct{})}
	// A Unix socket's path has room for some 100 bytes, and a test's name may
	// have more.
	short, err := os.MkdirTemp("", "postern")
	if err != nil {
		tb.Fatal(err)
	}
	g.unix = filepath.Join(short, "socket")
	text := fmt.Sprintf("listen:\n  http: %s\n  rawsocket: %s\n  unix: {path: %s, http: true}\n"+
		"  universal: {addresses: %s, tls: {cert: %s, key: %s}, allow_plain: true}\n%s",
		g.http, g.raw, g.unix, g.universal, filepath.Join(identity, "tls.crt"), filepath.Join(identity, "tls.key"), config)
	g.file = filepath.Join(dir, "postern.yaml")
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	g.cmd = exec.Command(program, "run", "-c", g.file)
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stdout, g.cmd.Stderr = g, g
	if err := g.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.done)
	}()
	tb.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-g.done
		_ = os.RemoveAll(short)
		said := g.said()
		if tb.Failed() {
			tb.Logf("the gateway said:\n%s", said[max(0, len(said)-8000):])
		}
		if strings.Contains(said, "panicked") || strings.Contains(said, "fatal error:") {
			tb.Error("the gateway panicked")
		}
	})
	until(tb, "the gateway is healthy", func() bool {
		select {
		case <-g.done:
			tb.Fatalf("the gateway ended at once: %v\n%s", g.err, g.said())
		default:
		}
		return g.healthy()
	})
	return g
}

func (g *gateway) healthy() bool {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + g.http + "/healthz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var h struct{ Status string }
	return json.NewDecoder(resp.Body).Decode(&h) == nil && h.Status == "ok"
}

// reload puts one piece of the configuration in the place of another, and has
// the gateway read it.
func (g *gateway) reload(old, new string) {
	g.tb.Helper()
	text, err := os.ReadFile(g.file)
	if err == nil && !bytes.Contains(text, []byte(old)) {
		err = fmt.Errorf("%s has no %q", g.file, old)
	}
	if err == nil {
		err = os.WriteFile(g.file, bytes.Replace(text, []byte(old), []byte(new), 1), 0o600)
	}
	const told = "configuration reloaded"
	before := strings.Count(g.said(), told)
	if err == nil {
		err = g.cmd.Process.Signal(syscall.SIGHUP)
	}
	if err != nil {
		g.tb.Fatal(err)
	}
	until(g.tb, "the configuration is reloaded", func() bool { return strings.Count(g.said(), told) > before })
}

// terminate sends SIGTERM and returns how the process ended.
func (g *gateway) terminate() error {
	g.tb.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		g.tb.Fatal(err)
	}
	select {
	case <-g.done:
	case <-time.After(patience):
		g.tb.Fatal("the gateway did not end after SIGTERM")
	}
	return g.err
}

// until waits for ok, which is asked again and again.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; !ok(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}
