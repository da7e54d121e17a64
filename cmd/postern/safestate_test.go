package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestSafeState(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const nowhere = "listen: {http: [], rawsocket: []}\n"
	write("sound.yaml", nowhere+"devices: {list: [{name: pump, type: gpio-output, pin: GPIO17, chip: sim}, {name: machine, type: system}, {name: lamp, type: sim-relay}]}\n")
	write("unsafe.yaml", nowhere+"devices: {list: [{name: heater, type: gpio-output, pin: GPIO17, chip: no-such-chip}, {name: lamp, type: sim-relay}]}\n")
	write("sensors.yaml", nowhere+"devices: {list: [{name: machine, type: system}]}\n")
	write("broken.yaml", "lisen: {}\n")
	for _, s := range []step{
		{args: "safe-state -c sound.yaml", stdout: "pump: safe ("},
		{args: "safe-state -c sound.yaml", stdout: "lamp: safe ("},
		{args: "safe-state -c sound.yaml --hold 1ms", stdout: "lamp: safe ("},
		{args: "safe-state -c unsafe.yaml", status: exitFailed, stdout: "heater: NOT SAFE: ", stderr: "1 device not in the safe state"},
		{args: "safe-state -c unsafe.yaml", status: exitFailed, stdout: "lamp: safe (", stderr: "1 device"},
		{args: "safe-state -c sensors.yaml", stdout: "no actuators"},
		{args: "safe-state -c broken.yaml", status: exitUsage, stderr: `unknown key "lisen"`},
		{args: "safe-state -c sound.yaml --timeout 0s", status: exitUsage, stderr: "--timeout"},
	} {
		s.run(t, dir)
	}
	if stdout, _, _ := postern(t, dir, nil, "safe-state", "-c", "sound.yaml"); strings.Contains(stdout, "machine") {
		t.Errorf("a sensor has a line: %s", stdout)
	}

	// While a gateway answers, the devices are not ours.
	var report atomic.Value // the handler runs in a goroutine of the server's
	report.Store(`{"status":"ok"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.Write([]byte(report.Load().(string)))
		}
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	write("live.yaml", "listen: {http: '127.0.0.1:"+port+"', rawsocket: []}\ndevices: {list: [{name: lamp, type: sim-relay}]}\n")
	step{args: "safe-state -c live.yaml", status: exitFailed, stderr: "a gateway answers at 127.0.0.1:" + port}.run(t, dir)
	step{args: "safe-state -c live.yaml --force", stdout: "lamp: safe"}.run(t, dir)
	report.Store("not a gateway")
	step{args: "safe-state -c live.yaml", stdout: "lamp: safe"}.run(t, dir)
}

// With --sim a configuration for hardware that is not here runs, and its world
// can be told what to measure.
func TestRunSimulated(t *testing.T) {
	dir := t.TempDir()
	text := "listen: {http: [], rawsocket: [], unix: " + filepath.Join(dir, "p.sock") + "}\nrealms: [{name: realm1, anonymous: full}]\n" +
		"devices: {list: [{name: pump, type: gpio-output, pin: GPIO17}, {name: air, type: bme280, interval: 100ms}]}\n"
	if err := os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	step{args: "check -c site.yaml --sim", stdout: "is sound"}.run(t, dir)
	g := spawn(t, dir, nil, "run", "-c", "site.yaml", "--sim")
	g.says("simulation ready")
	env := "POSTERN_URL=unix://" + filepath.Join(dir, "p.sock")
	for _, s := range []step{
		{args: "call device.pump.set true", stdout: "true"},
		{args: "call device.simulate air --kw reading=temperature --kw value=92.5", stdout: "null"},
		{args: "call device.air.get temperature", stdout: `"value":92.5`},
		{args: "call device.simulate air --kw fault=explode", status: exitFailed, stderr: "must be one of"},
	} {
		s.run(t, dir, env)
	}
	g.cmd.Process.Signal(os.Interrupt)
	g.says("gateway stopped")
	g.ends(0)
}
