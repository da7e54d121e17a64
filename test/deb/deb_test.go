//go:build deb

// Package deb makes the release twice and tries its packages: in a clean
// Debian, with lintian, and under an emulator of the boards' processors.
package deb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// release is the directory of the release that all tests try.
var release string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "postern-release")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		release = dir
		start := time.Now()
		out, err := pack("../..", dir, "1.0.0")
		fmt.Printf("%s\nmade in %.0f s\n", out, time.Since(start).Seconds())
		if err != nil {
			return 1
		}
		return m.Run()
	}())
}

// pack makes a release of the tree in dir, of all targets or those named.
func pack(tree, dir, version string, args ...string) ([]byte, error) {
	cmd := exec.Command("scripts/package", args...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "OUT="+dir, "VERSION="+version, "SOURCE_DATE_EPOCH=1767225600")
	return cmd.CombinedOutput()
}

// output runs a program that has to succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestSameBytes makes the release once more, from a copy of the tree elsewhere
// whose files are younger, in another time zone.
func TestSameBytes(t *testing.T) {
	tree, again := filepath.Join(t.TempDir(), "a copy"), t.TempDir()
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	files := output(t, "git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(files, "\x00"), "\x00") {
		if err := copyFile(filepath.Join("../..", name), filepath.Join(tree, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Setenv("TZ", "Asia/Kathmandu")
	if out, err := pack(tree, again, "1.0.0", "linux-armv6"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files = output(t, "ls", again)
	if n := len(strings.Fields(files)); n != 4 {
		t.Errorf("made %d files: %s", n, files)
	}
	for _, name := range strings.Fields(files) {
		first, err := os.ReadFile(filepath.Join(release, name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(again, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "SHA256SUMS" { // the first release's has more targets
			for line := range strings.Lines(string(second)) {
				if !strings.Contains(string(first), line) {
					t.Errorf("SHA256SUMS differ: %s", line)
				}
			}
		} else if !bytes.Equal(first, second) {
			t.Errorf("%s differs when it is made again", name)
		}
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b, info.Mode())
}

func TestChecksums(t *testing.T) {
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = release
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), ": OK") != 9 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestLintian(t *testing.T) {
	packages, err := filepath.Glob(filepath.Join(release, "*.deb"))
	if err != nil || len(packages) != 3 {
		t.Fatal(packages, err)
	}
	args := []string{"--fail-on", "error"}
	if os.Getuid() == 0 {
		args = append(args, "--allow-root")
	}
	t.Log(output(t, "lintian", append(args, packages...)...))
}

// TestLifecycle installs, upgrades, removes and purges in a clean Debian. The
// Debian is made once and kept in the user's cache.
func TestLifecycle(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cache, "postern", "debian-bookworm.tar")
	if _, err := os.Stat(root); err != nil {
		if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
			t.Fatal(err)
		}
		output(t, "mmdebstrap", "--quiet", "--variant=essential", "--include=adduser,init-system-helpers", "bookworm", root+".new.tar")
		if err := os.Rename(root+".new.tar", root); err != nil {
			t.Fatal(err)
		}
	}
	upgrade := t.TempDir()
	if out, err := pack("../..", upgrade, "1.1.0", "linux-amd64"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"./lifecycle", root, filepath.Join(release, "postern_1.0.0-1_amd64.deb"), filepath.Join(upgrade, "postern_1.1.0-1_amd64.deb")}
	if os.Getuid() != 0 {
		args = append([]string{"unshare", "--map-root-user", "--map-auto", "--mount", "--fork"}, args...)
	}
	t.Log(output(t, args[0], args[1:]...))
}

// TestEmulated runs the binaries of the packages for the boards, each on its
// slowest processor, and calls a procedure with them and from this machine.
func TestEmulated(t *testing.T) {
	native := unpack(t, "amd64")
	for _, tt := range []struct{ arch, emulator, cpu, version string }{
		{"arm64", "qemu-aarch64-static", "cortex-a53", "linux/arm64"},
		{"armhf", "qemu-arm-static", "arm1176", "linux/arm"},
	} {
		t.Run(tt.arch, func(t *testing.T) {
			emulated := []string{tt.emulator, "-cpu", tt.cpu, unpack(t, tt.arch)}
			if got := output(t, emulated[0], append(emulated[1:], "version")...); !strings.HasPrefix(got, "postern 1.0.0 "+tt.version) {
				t.Errorf("version %q", got)
			}
			url := serve(t, emulated)
			for _, caller := range [][]string{emulated, {native}} {
				args := append(caller[1:], "call", "--url", url, "--timeout", "1m", "device.relay.set", "true")
				if got := strings.TrimSpace(output(t, caller[0], args...)); got != "true" {
					t.Errorf("%s: device.relay.set answers %q", caller[0], got)
				}
			}
		})
	}
}

// unpack gives the program of a package.
func unpack(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	output(t, "dpkg-deb", "--extract", filepath.Join(release, "postern_1.0.0-1_"+arch+".deb"), dir)
	return filepath.Join(dir, "usr/bin/postern")
}

// serve runs a gateway until the test ends and gives the URL of its socket.
func serve(t *testing.T, program []string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`listen: {http: "127.0.0.1:0", rawsocket: [], unix: {path: %s/s}}
realms: [{name: realm1, anonymous: full}]
devices: {list: [{name: relay, type: sim-relay}, {name: host, type: system}]}
mqtt: {enabled: false}
state_dir: state
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	cmd := exec.CommandContext(ctx, program[0], append(program[1:], "run", "-c", filepath.Join(dir, "c.yaml"))...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(stderr)
	started := false
	for !started && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		started = strings.Contains(lines.Text(), "gateway started")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("the gateway: %v\n%s", err, said.String())
		}
		cancel()
	})
	if !started {
		t.Fatalf("the gateway does not start")
	}
	return "unix://" + dir + "/s"
}
