//go:build vm

package vm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	// bootTimeout bounds the whole run of the machine. Under TCG on two slow
	// cores it takes a minute and a half, and several when they are busy.
	bootTimeout = 8 * time.Minute
	// payloadTimeout bounds each program in it, a little less, so that Go's
	// own report of what hangs gets out.
	payloadTimeout = "240s"
)

// program is what runs in the machine: the tests with the tag vm of a package.
type program struct {
	name   string
	pkg    string
	beside bool // runs beside the next one: both wait most of the time, for other hardware
}

var programs = []program{
	{name: "gpio.test", pkg: "./devices/gpio"},
	{name: "i2c.test", pkg: "./devices/i2c"},
	{name: "onewire.test", pkg: "./devices/onewire", beside: true},
	{name: "serial.test", pkg: "./devices/serial"},
	{name: "gateway.test", pkg: "./test/vm/inside"},
}

// TestKernel boots a kernel with simulated hardware, runs the device tests and
// the gateway's own binary in it, and reports each of their tests as its own.
func TestKernel(t *testing.T) {
	kernel := buildKernel(t)
	initrd := filepath.Join(t.TempDir(), "initrd.gz")
	packInitrd(t, initrd)
	console := boot(t, kernel, initrd)
	results := parse(console)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			r := results[p.name]
			if r == nil {
				t.Fatal("did not run")
			}
			r.report(t)
		})
	}
	if !bytes.Contains(console, []byte("\nvm: end")) {
		t.Error("the machine stopped before its end")
	}
	if t.Failed() {
		t.Logf("the whole console:\n%s", console)
	}
}

// buildKernel has the kernel built, or finds it in the cache.
func buildKernel(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("./build-kernel")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build-kernel: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// packInitrd compiles what runs in the machine and packs it.
func packInitrd(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	build := func(out string, args ...string) []byte {
		out = filepath.Join(dir, out)
		cmd := exec.Command("go", append(args[:1:1], append([]string{"-trimpath", "-ldflags=-s -w", "-o", out}, args[1:]...)...)...)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}

	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	c := &cpioWriter{w: z}
	for _, d := range []string{"dev", "proc", "sys", "tmp", "run", "payload"} {
		c.dir(d)
	}
	c.char("dev/console", 5, 1) // without these two Go dies as process 1
	c.char("dev/null", 1, 3)
	c.file("init", build("init", "build", "./test/vm/guest"))
	c.file("payload/postern", build("postern", "build", "./cmd/postern"))
	example, err := os.ReadFile("../../configs/examples/pi-relay-and-button.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.file("payload/pi-relay-and-button.yaml", example)
	var list bytes.Buffer
	for _, p := range programs {
		c.file("payload/"+p.name, build(p.name, "test", "-c", "-tags=vm", p.pkg))
		if p.beside {
			list.WriteString("& ")
		}
		fmt.Fprintf(&list, "/payload/%s -test.v -test.run=^TestVM -test.timeout=%s\n", p.name, payloadTimeout)
	}
	c.file("payload/list", list.Bytes())
	if err := errors.Join(c.close(), z.Close()); err != nil {
		t.Fatal(err)
	}
}

// boot runs the machine to its end and returns what its console showed.
func boot(t *testing.T, kernel, initrd string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg", "-machine", "q35,smbus=off", "-smp", "2", "-m", "256",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-device", "virtio-rng-pci", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 reboot=t tsc=reliable dummy_hcd.num=2 wire.timeout=1")
	cmd.WaitDelay = 5 * time.Second
	var console bytes.Buffer
	cmd.Stdout = &console
	if testing.Verbose() {
		cmd.Stdout = io.MultiWriter(&console, os.Stdout)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	t.Logf("the machine ran for %v", time.Since(start).Round(100*time.Millisecond))
	// isa-debug-exit ends QEMU with an odd status.
	if exit := new(exec.ExitError); ctx.Err() != nil || err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Errorf("qemu: %v (%v)\n%s", err, context.Cause(ctx), stderr.Bytes())
	}
	return bytes.ReplaceAll(console.Bytes(), []byte("\r\n"), []byte("\n"))
}

// result is what the console showed of one program.
type result struct {
	exit  string
	text  strings.Builder
	tests []testResult
}

type testResult struct {
	name   string
	passed bool
	text   strings.Builder
}

var verdict = regexp.MustCompile(`^--- (PASS|FAIL): (\S+)`)

// parse takes the console apart by the lines of the guest ("vm: run NAME",
// "vm: exit NAME STATUS") and those of go test -v.
func parse(console []byte) map[string]*result {
	results := map[string]*result{}
	var r *result
	var current *strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(console))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "vm: run "); ok {
			r = &result{}
			results[name], current = r, &r.text
			continue
		}
		if r == nil {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "vm: exit "); ok {
			_, r.exit, _ = strings.Cut(rest, " ")
			r = nil
			continue
		}
		if strings.HasPrefix(line, "=== RUN   ") && !strings.Contains(line, "/") {
			current = new(strings.Builder)
			continue
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			r.tests = append(r.tests, testResult{name: m[2], passed: m[1] == "PASS"})
			last := &r.tests[len(r.tests)-1]
			last.text.WriteString(current.String())
			current = &r.text
			continue
		}
		fmt.Fprintln(current, line)
	}
	return results
}

func (r *result) report(t *testing.T) {
	for i := range r.tests {
		one := &r.tests[i]
		t.Run(one.name, func(t *testing.T) {
			t.Log("\n" + one.text.String())
			if !one.passed {
				t.Error("failed in the machine")
			}
		})
	}
	if len(r.tests) == 0 {
		t.Error("it had no test")
	}
	if r.exit != "exit status 0" {
		t.Errorf("ended with %q:\n%s", r.exit, r.text.String())
	}
}
