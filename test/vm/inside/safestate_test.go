//go:build vm

package inside

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	periph "periph.io/x/conn/v3/gpio"

	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/wamp/codec"
)

// While the gateway runs, safe-state leaves its relay alone; after kill -9,
// here with a pull that switches the relay on, it switches it off; and a line
// in other hands is reported with its holder.
func TestVMSafeStateAfterKill(t *testing.T) {
	relay := newSimLine(t, relayLine)
	relay.set(false)
	g := startGateway(t, piConfig)
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	awaitReady(t, s, "relay")
	call(t, s, "device.relay.set", true)
	out, err := exec.Command(binary, "safe-state", "-c", piConfig).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a gateway answers at 127.0.0.1:8080") || relay.high() {
		t.Errorf("beside the gateway: %v\n%s", err, out)
	}
	out, err = exec.Command(binary, "safe-state", "--force", "-c", piConfig).CombinedOutput()
	if err == nil || !strings.Contains(string(out), `relay: NOT SAFE`) || !strings.Contains(string(out), `held by "postern:relay"`) || relay.high() {
		t.Errorf("by force, beside the gateway: %v\n%s", err, out)
	}

	g.cmd.Process.Signal(syscall.SIGKILL)
	g.ended()
	if relay.high() {
		t.Fatal("the relay is off before anything was done")
	}
	var said bytes.Buffer
	begin := time.Now()
	safe := exec.Command(binary, "safe-state", "--hold", "3s", "-c", piConfig)
	safe.Stdout, safe.Stderr = &said, &said
	if err := safe.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay is off", relay.high)
	t.Logf("relay off %v after safe-state was started", time.Since(begin).Round(time.Millisecond))
	if err := safe.Wait(); err != nil || !strings.Contains(said.String(), "relay: safe (") {
		t.Errorf("%v\n%s", err, said.String())
	}

	held, err := gpio.Open("GPIO17", "", gpio.LineConfig{Consumer: "kettle"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.Out(periph.High); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(binary, "safe-state", "-c", piConfig).CombinedOutput()
	if err == nil || !strings.Contains(string(out), `held by "kettle"`) {
		t.Errorf("a line in other hands: %v\n%s", err, out)
	}
}
