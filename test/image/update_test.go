//go:build image

package image

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-iot/postern/image/layout"
)

// run runs postern and returns what it says.
func run(t *testing.T, fails bool, args ...string) string {
	t.Helper()
	out, err := exec.Command(postern, args...).CombinedOutput()
	if (err != nil) != fails {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// restarts waits until the machine has restarted, and starts it again as the
// firmware would: the other slot when the kernel was told to try it.
func (m *machine) restarts(t *testing.T, card string, try bool) *machine {
	t.Helper()
	m.end()
	if asked := strings.Contains(m.text(), "Restarting system with command '0 tryboot'"); asked != try {
		t.Fatalf("the machine restarted, and tryboot was asked for: %v, want %v\n%s", asked, try, m.text())
	}
	return boot(t, "virt", card, try)
}

func TestUpdate(t *testing.T) {
	key := filepath.Join(t.TempDir(), "update.key")
	public := run(t, false, "keys", "cryptosign", key)
	stranger := filepath.Join(t.TempDir(), "stranger.key")
	run(t, false, "keys", "cryptosign", stranger)
	updates := []string{"--update", ":8022", "--update-key", public}
	path, _ := build(t, "virt", updates...)
	card := card(t, path)
	newer, _ := build(t, "virt", append(updates, "--boot", "dtparam=audio=off")...)

	m := boot(t, "virt", card, false)
	m.see("the gateway is ready")
	m.see("updates are taken")
	old := run(t, false, "update", "status", "--to", m.update)
	if !strings.Contains(old, "slot 2") {
		t.Fatalf("status: %s", old)
	}
	if out, err := m.call(context.Background(), "device.meter.set", "7"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	// Who has another key is refused, and so is what is for another board.
	if said := run(t, true, "update", "push", "--to", m.update, "--key", stranger, newer); !strings.Contains(said, "not signed with the key") {
		t.Errorf("a stranger: %s", said)
	}
	other, _ := build(t, "raspi3b", updates...)
	if said := run(t, true, "update", "push", "--to", m.update, "--key", key, other); !strings.Contains(said, `for the board "raspi3b"`) {
		t.Errorf("another board: %s", said)
	}
	if said := run(t, true, "update", "commit", "--to", m.update, "--key", key); !strings.Contains(said, "nothing is tried") {
		t.Errorf("commit of nothing: %s", said)
	}

	// A newer image is tried, found healthy and committed.
	t.Log(run(t, false, "update", "push", "--wait", "0s", "--to", m.update, "--key", key, newer))
	m = m.restarts(t, card, true)
	if m.slot != layout.SlotB {
		t.Fatalf("slot %d was tried", m.slot)
	}
	m.see("this slot is tried")
	t.Log(m.see("is committed"))
	if now := run(t, false, "update", "status", "--to", m.update); !strings.Contains(now, "slot 3") || !strings.Contains(now, "committed") || strings.Contains(now, "being tried") {
		t.Errorf("after the update: %s", now)
	}
	use(t, m)
	if have := m.meter(t); have != 7 {
		t.Errorf("the meter has %d after the update, and had 7", have)
	}
	m.cut()

	// It stays, also after a power cut, until it is rolled back.
	m = boot(t, "virt", card, false)
	if m.slot != layout.SlotB {
		t.Fatalf("slot %d boots after the update was committed", m.slot)
	}
	m.see("updates are taken")
	run(t, false, "update", "rollback", "--to", m.update, "--key", key)
	m = m.restarts(t, card, false)
	if m.slot != layout.SlotA {
		t.Fatalf("slot %d boots after the rollback", m.slot)
	}
	m.see("updates are taken")

	// A broken one returns by itself, and nobody can return to it.
	program := filepath.Join(t.TempDir(), "broken")
	compile := exec.Command("go", "build", "-o", program, "./broken")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	broken, _ := build(t, "virt", append(updates, "--gateway", program)...)
	run(t, false, "update", "push", "--wait", "0s", "--to", m.update, "--key", key, broken)
	m = m.restarts(t, card, true)
	m.see("Attempted to kill init") // the kernel's panic, which restarts the machine
	m = m.restarts(t, card, false)
	if m.slot != layout.SlotA {
		t.Fatalf("slot %d boots after the broken update", m.slot)
	}
	t.Log(m.see("has failed, the slot of before runs"))
	m.see("the gateway is ready")
	m.see("updates are taken")
	if now := run(t, false, "update", "status", "--to", m.update); !strings.Contains(now, "slot 2") || !strings.Contains(now, "returned") {
		t.Errorf("after the broken update: %s", now)
	}
	if said := run(t, true, "update", "rollback", "--to", m.update, "--key", key); !strings.Contains(said, "an update that failed") {
		t.Errorf("rollback to what is broken: %s", said)
	}
}
