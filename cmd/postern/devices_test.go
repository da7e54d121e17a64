package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadAndWrite(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const list = `devices:
  list:
    - {name: air, type: bme280, bus: sim}
    - {name: fast, type: bme280, bus: sim, address: 0x77, readings: {temperature: {scale: 2}}}
    - {name: expander, type: mcp23017, bus: sim}
    - {name: door, type: gpio-input, pin: GPA0, chip: expander}
    - {name: up, type: gpio-output, pin: GPIO5, chip: sim, interlock: motor}
    - {name: down, type: gpio-output, pin: GPIO6, chip: sim, interlock: motor}
    - {name: broken, type: gpio-input, pin: GPIO17, chip: no-such-chip}
`
	write("postern.yaml", "listen: {http: [], rawsocket: []}\n"+list)
	for _, s := range []step{
		{args: "devices read air", stdout: "temperature  25.08 °C\npressure     100653.27 Pa\n"},
		{args: "devices read air --json", stdout: `"temperature":{"quality":"good","unit":"Cel","value":25.08}`},
		{args: "devices read fast", stdout: "temperature  50.16 °C"},
		{args: "devices read door", stdout: "level"},
		{args: "devices read up", status: exitFailed, stderr: "up is an actuator: it goes into its safe state"},
		{args: "devices read up --actuators", stdout: "off"},
		{args: "devices read broken", status: exitFailed, stderr: `find GPIO line "GPIO17"`},
		{args: "devices read nothing", status: exitUsage, stderr: "it has air, fast, expander, door, up, down, broken"},
		{args: "devices read", status: exitUsage, stderr: "the device's name is missing"},
		{args: "devices read air x", status: exitUsage, stderr: `unexpected argument "x"`},
		{args: "devices read --device {type:␣sht3x,␣bus:␣sim}", stdout: "humidity"},
		{args: "devices read --device {type:␣sht3x,␣adress:␣0x44}", status: exitUsage, stderr: `unknown key "adress"`},
		{args: "devices read --device type:␣sht3x", status: exitUsage, stderr: "one mapping on one line"},
		{args: "devices write up true --for 0s", stdout: "true\n", stderr: "then up goes into its safe state"},
		{args: "devices write --device {type:␣gpio-output,␣pin:␣GPIO17,␣chip:␣sim} --procedure toggle --for 1ms", stdout: "true\n", stderr: "safe state"},
		{args: "devices write up maybe", status: exitFailed, stderr: "want bool"},
		{args: "devices write up --procedure explode", status: exitFailed, stderr: "it has set, "},
		{args: "devices write up true --for -1s", status: exitUsage, stderr: "--for"},
	} {
		s.run(t, dir)
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"status":"ok"}`)) }))
	defer server.Close()
	write("live.yaml", "listen: {http: '"+strings.TrimPrefix(server.URL, "http://")+"', rawsocket: []}\n"+list)
	step{args: "devices read air -c live.yaml", status: exitFailed, stderr: "ask it: postern call device.air.get"}.run(t, dir)
}

// What is found depends on the machine that the test runs on; that it can be
// looked at, and what the report is made of, does not.
func TestScanAndDoctor(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(config, []byte("listen: {http: [], rawsocket: []}\ndevices: {list: [{name: relay, type: gpio-output, pin: NO_SUCH_LINE}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	step{args: "devices scan --no-probe", stdout: "GPIO chips:"}.run(t, dir)
	step{args: "devices scan --bus no-such-bus", status: exitUsage, stderr: "--bus"}.run(t, dir)
	stdout, _, status := postern(t, dir, nil, "devices", "scan", "--no-probe", "--json")
	var found map[string]any
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || status != 0 || found["i2c"] == nil {
		t.Errorf("scan --json: status %d, %v: %s", status, err, stdout)
	}
	step{args: "doctor -c p.yaml", status: exitFailed, stdout: "PROBLEM", stderr: "problem"}.run(t, dir)
	step{args: "doctor -c none.yaml", status: exitUsage, stderr: "no such file"}.run(t, dir)
	stdout, stderr, status := postern(t, dir, nil, "doctor", "-c", "p.yaml", "--json")
	var r struct {
		Problems int
		Areas    []struct {
			Area     string
			Findings []struct{ Level, Device, What, Why, Do string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || status != exitFailed || stderr != "" || r.Problems == 0 {
		t.Errorf("doctor --json: status %d, %v, %q: %s", status, err, stderr, stdout)
	}
	seen := false
	for _, a := range r.Areas {
		for _, f := range a.Findings {
			seen = seen || a.Area == "gpio" && f.Device == "relay" && f.Do != ""
		}
	}
	if !seen {
		t.Errorf("nothing of the relay: %s", stdout)
	}
}
