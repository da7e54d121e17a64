//go:build vm

package inside

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices/gpio"
)

// doctor names who holds a line that the configuration needs, and nothing else
// is wrong here; the relay is then tried by hand, and left off.
func TestVMDoctor(t *testing.T) {
	relay := newSimLine(t, relayLine)
	relay.set(true) // off
	held, err := gpio.Open("GPIO17", "", gpio.LineConfig{Consumer: "kettle"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.Out(periph.High); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "doctor", "-c", piConfig).CombinedOutput()
	t.Logf("\n%s", out)
	for _, want := range []string{"relay: the line GPIO17 (/dev/gpiochip1 line 17) is held by \"kettle\"", "do:  sudo lsof /dev/gpiochip1", "1 problem"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("doctor does not say %q", want)
		}
	}
	scan, err := exec.Command(binary, "devices", "scan").CombinedOutput()
	if err != nil || !strings.Contains(string(scan), "out, held by \"kettle\"") {
		t.Errorf("scan: %v\n%s", err, scan)
	}
	if !relay.high() {
		t.Error("doctor or scan has changed the line")
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "doctor", "-c", piConfig).CombinedOutput(); err != nil || !strings.Contains(string(out), "no problem") {
		t.Errorf("with the line free: %v\n%s", err, out)
	}

	var said bytes.Buffer
	write := exec.Command(binary, "devices", "write", "relay", "true", "-c", piConfig, "--for", "2s")
	write.Stdout, write.Stderr = &said, &said
	if err := write.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay is on", relay.is(false))
	if err := write.Wait(); err != nil || !relay.high() {
		t.Errorf("written: %v, off afterwards: %v\n%s", err, relay.high(), said.String())
	}
	read, err := exec.Command(binary, "devices", "read", "button", "-c", piConfig).CombinedOutput()
	if err != nil || !strings.Contains(string(read), "level") {
		t.Errorf("read: %v\n%s", err, read)
	}
}
