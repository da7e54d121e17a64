//go:build system

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMosquittoClients: Debian's clients at the embedded broker, as users of the
// realm.
func TestMosquittoClients(t *testing.T) {
	port := freePort(t)
	config := filepath.Join(t.TempDir(), "postern.yaml")
	text := fmt.Sprintf(`
listen: {http: [], rawsocket: []}
realms:
  - name: realm1
    roles: [{name: device, permissions: [{uri: mqtt.own., match: prefix, allow: [publish, subscribe]}]}]
    auth: {users: [{authid: pump, role: device, secret: right}]}
mqtt: {listen: "127.0.0.1:%d"}
`, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spawn(t, posternBinary, "run", "-c", config)
	listens(t, fmt.Sprintf("127.0.0.1:%d", port))
	client := func(program string, args ...string) (string, error) {
		out, err := exec.Command(program, append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(port)}, args...)...).CombinedOutput()
		return string(out), err
	}
	pump := []string{"-u", "pump", "-P", "right"}
	if out, err := client("mosquitto_pub", append(pump, "-t", "own/level", "-m", "7", "-q", "1", "-r")...); err != nil {
		t.Fatalf("publish: %v %s", err, out)
	}
	if out, err := client("mosquitto_sub", append(pump, "-t", "own/#", "-C", "1", "-W", "10", "-v")...); err != nil || strings.TrimSpace(out) != "own/level 7" {
		t.Errorf("retained: %v %q", err, out)
	}
	for what, args := range map[string][]string{
		"a wrong password":      {"-u", "pump", "-P", "wrong", "-t", "own/level", "-m", "8"},
		"no user name":          {"-t", "own/level", "-m", "8"},
		"somebody else's topic": append(pump, "-t", "other/level", "-m", "8", "-q", "1"),
	} {
		if out, err := client("mosquitto_pub", args...); err == nil {
			t.Errorf("%s: published: %s", what, out)
		}
	}
	if out, err := client("mosquitto_sub", append(pump, "-t", "#", "-C", "1", "-W", "2")...); !strings.Contains(out, "denied") {
		t.Errorf("a subscription to everything: %v %q", err, out)
	}
}
