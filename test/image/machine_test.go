//go:build image

// Package image boots the appliance's image under QEMU, as it is written on a
// card, and speaks to it from outside. QEMU does not run the Raspberry Pi's
// firmware: what that does is done here, with the image's own files.
package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/image/layout"
)

// patience bounds every wait: emulation on a busy machine is slow.
const patience = 3 * time.Minute

var root, postern string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "postern-image-")
		if err == nil {
			defer os.RemoveAll(dir)
			postern = filepath.Join(dir, "postern")
			var out []byte
			if root, err = filepath.Abs("../.."); err == nil {
				if out, err = exec.Command("go", "build", "-buildvcs=false", "-o", postern, "../../cmd/postern").CombinedOutput(); err != nil {
					err = fmt.Errorf("%w\n%s", err, out)
				}
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// site is the configuration of the machines here.
const site = `
listen:
  http: 0.0.0.0:8080
  allow_anonymous_remote: true
realms:
  - name: realm1
    anonymous: full
devices:
  list:
    - {name: relay, type: sim-relay}
    - {name: sun, type: sim-sine, interval: 100ms}
    - {name: meter, type: gpio-counter, chip: sim, pin: GPIO17, unit: m3}
`

// build makes an image and returns its path and what the command said.
func build(t *testing.T, board string, more ...string) (path, said string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(config, []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, board+".img")
	cmd := exec.Command(postern, append([]string{"image", "build", "--board", board, "--config", config, "--hostname", "gate-1", "-o", path}, more...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path, strings.TrimSpace(string(out))
}

// card is an image on a card that is larger than it.
func card(t *testing.T, image string) string {
	t.Helper()
	if err := os.Truncate(image, 256<<20); err != nil { // QEMU wants a power of two
		t.Fatal(err)
	}
	return image
}

// firmware plays the firmware: it takes a slot's files from the card, that of
// autoboot.txt or, when a reboot asked for it, the other.
func firmware(t *testing.T, card string, try bool) (dir string, slot int) {
	t.Helper()
	dir = t.TempDir()
	copyOut := func(at int64, names ...string) {
		args := []string{"-n", "-o", "-i", card + "@@" + strconv.FormatInt(at, 10)}
		for _, n := range names {
			args = append(args, "::"+n)
		}
		if out, err := exec.Command("mcopy", append(args, dir)...).CombinedOutput(); err != nil {
			t.Fatalf("mcopy: %v\n%s", err, out)
		}
	}
	copyOut(layout.BootAt, "autoboot.txt")
	text, err := os.ReadFile(filepath.Join(dir, "autoboot.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if slot, err = layout.ParseAutoboot(text); err != nil {
		t.Fatal(err)
	}
	if try {
		slot = layout.Other(slot)
	}
	at, _ := table(t, card).Partition(slot)
	copyOut(at, "kernel.gz", "initramfs.gz", "cmdline.txt", "config.txt")
	config, err := os.ReadFile(filepath.Join(dir, "config.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(config), "dtoverlay=") {
		return dir, slot
	}
	copyOut(at, "bcm2710-rpi-3-b.dtb")
	tree := filepath.Join(dir, "bcm2710-rpi-3-b.dtb")
	for line := range strings.Lines(string(config)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "dtoverlay="); ok {
			copyOut(at, "overlays/"+name+".dtbo")
			// Debian 12's fdtoverlay stumbles over symbols that name a
			// fragment, and nothing here refers to an overlay's symbols.
			_ = exec.Command("fdtput", "-r", filepath.Join(dir, name+".dtbo"), "/__symbols__").Run() // not all have them
			if out, err := exec.Command("fdtoverlay", "-i", tree, "-o", tree+".new", filepath.Join(dir, name+".dtbo")).CombinedOutput(); err != nil {
				t.Fatalf("fdtoverlay %s: %v\n%s", name, err, out)
			}
			if err := os.Rename(tree+".new", tree); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, slot
}

func table(t *testing.T, card string) *layout.Table {
	t.Helper()
	f, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var table layout.Table
	if _, err := f.ReadAt(table[:], 0); err != nil {
		t.Fatal(err)
	}
	return &table
}

// machine is a running QEMU.
type machine struct {
	t      *testing.T
	cmd    *exec.Cmd
	http   string // address of the gateway
	update string // address of the appliance
	slot   int

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when there is more
	console bytes.Buffer
	ended   bool
}

// boot switches a machine on.
func boot(t *testing.T, board, card string, try bool) *machine {
	t.Helper()
	dir, slot := firmware(t, card, try)
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline.txt"))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, http: free(t), update: free(t), slot: slot, changed: make(chan struct{})}
	network := fmt.Sprintf("user,id=n0,restrict=on,hostfwd=tcp:%s-:8080,hostfwd=tcp:%s-:8022", m.http, m.update)
	args := []string{
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-netdev", network,
		"-kernel", filepath.Join(dir, "kernel.gz"), "-initrd", filepath.Join(dir, "initramfs.gz"), "-append", strings.TrimSpace(string(cmdline)),
	}
	if board == "raspi3b" {
		args = append(args, "-M", "raspi3b", "-dtb", filepath.Join(dir, "bcm2710-rpi-3-b.dtb"), "-device", "usb-net,netdev=n0",
			"-drive", "if=sd,format=raw,file="+card)
	} else {
		args = append(args, "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-device", "virtio-net-pci,netdev=n0,romfile=",
			"-device", "i6300esb", "-drive", "if=virtio,format=raw,file="+card)
	}
	m.cmd = exec.Command("qemu-system-aarch64", args...)
	m.cmd.Stderr = os.Stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			m.mu.Lock()
			m.console.WriteString(line)
			m.ended = err != nil
			close(m.changed)
			m.changed = make(chan struct{})
			m.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-done
		_ = m.cmd.Wait()
		if t.Failed() {
			t.Logf("the console:\n%s", m.text())
		}
	})
	return m
}

// cut takes the power away.
func (m *machine) cut() {
	m.t.Helper()
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Fatal(err)
	}
	m.end()
}

// end waits for the machine's end.
func (m *machine) end() {
	m.t.Helper()
	m.wait("the machine's end", func(string) bool { return m.ended })
}

func (m *machine) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console.String()
}

// see waits for words on the console and returns their line.
func (m *machine) see(words string) string {
	m.t.Helper()
	m.wait(words, func(text string) bool {
		at := strings.Index(text, words)
		return at >= 0 && strings.Contains(text[at:], "\n")
	})
	text := m.text()
	at := strings.Index(text, words)
	line, _, _ := strings.Cut(text[strings.LastIndexByte(text[:at], '\n')+1:], "\n")
	return strings.TrimSpace(line)
}

func (m *machine) wait(what string, done func(text string) bool) {
	m.t.Helper()
	bound := time.After(patience)
	for {
		m.mu.Lock()
		ok, ended, changed := done(m.console.String()), m.ended, m.changed
		m.mu.Unlock()
		if ok {
			return
		}
		if ended {
			m.t.Fatalf("the machine ended before: %s", what)
		}
		select {
		case <-changed:
		case <-bound:
			m.t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// serves waits until the gateway says that it is well. Unlike see it does not
// need the console: QEMU's raspi3b sometimes loses that.
func (m *machine) serves() {
	m.t.Helper()
	if !m.servesWithin(patience) {
		m.t.Fatalf("the gateway did not serve within %v", patience)
	}
}

func (m *machine) servesWithin(limit time.Duration) bool {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	bound := time.After(limit)
	for {
		if resp, err := client.Get("http://" + m.http + "/healthz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-tick.C:
		case <-bound:
			return false
		}
	}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
