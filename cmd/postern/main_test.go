package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/gateway/config"
)

// TestMain lets the test's binary be the command, when it is told to.
func TestMain(m *testing.M) {
	if os.Getenv("POSTERN_TEST_RUN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// command is the command line, run in dir.
func command(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "POSTERN_TEST_RUN=1", "POSTERN_URL=", "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}

// postern runs the command line to its end.
func postern(t *testing.T, dir string, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(ctx, dir, env, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

// step is one run of the command line, and what it should do.
type step struct {
	args           string // separated by spaces; ␣ is a space inside of one
	status         int
	stdout, stderr string // that the output holds
}

func (s step) run(t *testing.T, dir string, env ...string) {
	t.Helper()
	args := strings.Fields(s.args)
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "␣", " ")
	}
	stdout, stderr, status := postern(t, dir, env, args...)
	if status != s.status || !strings.Contains(stdout, s.stdout) || !strings.Contains(stderr, s.stderr) {
		t.Errorf("postern %s: status %d, want %d\nstdout: %s\n  want: %s\nstderr: %s\n  want: %s", s.args, status, s.status, stdout, s.stdout, stderr, s.stderr)
	}
	if s.status == 0 && s.stderr == "" && stderr != "" {
		t.Errorf("postern %s: unexpected on stderr: %s", s.args, stderr)
	}
}

func TestWithoutGateway(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("lisen: {}\nlog: {level: loud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fleet := `realms: [{name: realm1, anonymous: full}]
bridge:
  brokers: [{name: plant, urls: ["tcp://127.0.0.1:1"]}]
  maps:
    - {name: sensors, brokers: plant, direction: in, mqtt: "tele/{dev}/SENSOR", wamp: "site.{dev}.{path...}", split: path, except: "site.{dev}.Time"}
    - name: readings
      brokers: plant
      direction: out
      mqtt: gw/{device}/{reading}
      wamp: device.{device}.{reading}
      codec: {type: json, template: {v: "$.args[0]"}}
      only_if: {expression: $value > 0.2}
  calls:
    - {name: command, broker: plant, direction: in, request: "cmd/{dev}/{fn}", procedure: "device.{dev}.{fn}", role: full}
    - {name: plc, broker: plant, direction: out, procedure: "plc.{fn}", request: "plc/{fn}/{id}", reply: "plc/{fn}/{id}/reply"}
`
	if err := os.WriteFile(filepath.Join(dir, "fleet.yaml"), []byte(fleet), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{
		{"version", 0, "postern ", ""},
		{"--help", 0, "Available Commands", ""},
		{"drivers", 0, "sim-relay", ""},
		{"drivers sim-sine", 0, "amplitude: number", ""},
		{"drivers no-such", 2, "", `no type of device "no-such"; the types are`},
		{"frobnicate", 2, "", `unknown command or argument "frobnicate"`},
		{"call", 2, "", "the procedure's URI is missing"},
		{"call x -5", 2, "", "go after --"},
		{"call x --kw novalue", 2, "", "not of the form key=value"},
		{"call x --codec xml", 2, "", `"xml" is not one of json, msgpack, cbor`},
		{"subscribe x --match fuzzy", 2, "", "exact, prefix, wildcard"},
		{"subscribe a b", 2, "", `unexpected argument "b"`},
		{"register x y", 2, "", "a command goes after --"},
		{"register x --value 1 -- date", 2, "", "either --value or a command"},
		{"register x -- /no/such/program", 2, "", "cannot be run"},
		{"call x --url rs://127.0.0.1:1", 3, "", "127.0.0.1:1"},
		{"call x --url ftp://127.0.0.1", 3, "", "ftp"},
		{"check", 2, "", "no such file"},
		{"init", 0, "wrote postern.yaml", ""},
		{"init", 2, "", "exists already and is left as it is"},
		{"init other.yaml", 0, "wrote other.yaml", ""},
		{"check", 0, "postern.yaml is sound: 3 devices", ""},
		{"check -c broken.yaml", 2, "", `broken.yaml:1:1: unknown key "lisen"`},
		{"check -c broken.yaml", 2, "", "broken.yaml:2:14: log.level"},
		{
			"bridge map tele/kitchen/SENSOR -c fleet.yaml --payload {\"AM2301\":{\"Temperature\":21.5},\"Time\":\"now\"}", 0,
			`→ site.kitchen.AM2301.Temperature {"args":[21.5]}`, "",
		},
		{"bridge map tele/kitchen/SENSOR -c fleet.yaml", 0, "map sensors: yes, with dev = kitchen\n  → site.kitchen.{path...}", ""},
		{"bridge map tele/kitchen/STATE -c fleet.yaml", 1, `map sensors: no, "tele/{dev}/SENSOR" has "SENSOR" where the name has "STATE"`, ""},
		{"bridge map device.host.load -c fleet.yaml --payload 0.42", 0, `→ gw/host/load (QoS 1) {"v":0.42}`, ""},
		{"bridge map device.host.load -c fleet.yaml --payload 0.1", 1, "nothing: filtered", ""},
		{"bridge map device.host.load -c fleet.yaml --payload {", 2, "", "is no JSON"},
		{"bridge map x -c fleet.yaml --broker y", 2, "", `no broker "y"; there are: plant, embedded`},
		{"bridge map cmd/pump/set -c fleet.yaml", 0, "call command: a command, calls device.pump.set as full", ""},
		{"bridge map plc.read -c fleet.yaml", 0, "call plc: a procedure, asks on plc/read/{id}, answered on plc/read/{id}/reply", ""},
		{"bridge map plc/read/7/reply -c fleet.yaml", 0, "call plc: may be the answer for plc.{fn}", ""},
		{"bridge map", 2, "", "a topic or a URI is missing"},
		{"run -c broken.yaml", 2, "", `did you mean "listen"?`},
		{"run -c none.yaml", 2, "", "no such file"},
	} {
		s.run(t, dir)
	}
	if info, err := os.Stat(filepath.Join(dir, "postern.yaml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("init: %v %v", info, err)
	}
}

// child is the command line, running.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of both outputs
	ended chan error
}

func spawn(t *testing.T, dir string, env []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: command(context.Background(), dir, env, args...), lines: make(chan string, 1000), ended: make(chan error, 1)}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(c.lines)
		defer r.Close()
		for scan := bufio.NewScanner(r); scan.Scan(); {
			c.lines <- scan.Text()
		}
	}()
	go func() { c.ended <- c.cmd.Wait() }()
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.cmd.Process.Kill()
		}
	})
	return c
}

// says waits for a line that holds text.
func (c *child) says(text string) string {
	c.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("it ended without saying %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			c.t.Fatalf("it does not say %q", text)
		}
	}
}

// ends waits for the end.
func (c *child) ends(status int) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(30 * time.Second):
		c.t.Fatal("it does not end")
	}
	if got := c.cmd.ProcessState.ExitCode(); got != status {
		c.t.Errorf("exit status %d, want %d", got, status)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestWithGateway(t *testing.T) {
	dir := t.TempDir()
	web, raw, mqtt := freePort(t), freePort(t), freePort(t)
	text := fmt.Sprintf("listen: {http: '127.0.0.1:%d', rawsocket: '127.0.0.1:%d', unix: %s/p.sock}\nmqtt: {listen: '127.0.0.1:%d'}\n"+
		"realms: [{name: realm1, anonymous: full}, {name: closed}]\ndevices: {list: [{name: relay, type: sim-relay}]}\nlog: {format: json}\n", web, raw, dir, mqtt)
	if err := os.WriteFile(filepath.Join(dir, "g.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := spawn(t, dir, nil, "run", "-c", "g.yaml")
	if line := g.says("gateway started"); !strings.HasPrefix(line, "{") {
		t.Errorf("the log is not JSON: %s", line)
	}
	ws := fmt.Sprintf("ws://127.0.0.1:%d/ws", web)
	env := "POSTERN_URL=" + ws
	for _, s := range []step{
		{"call device.relay.set true", 0, "true\n", ""},
		{"call device.relay.set on --codec json", 1, "", "wamp.error.invalid_argument"},
		{fmt.Sprintf("call device.relay.set false --codec msgpack --url rs://127.0.0.1:%d", raw), 0, "false\n", ""},
		{"call device.relay.toggle --url unix://" + dir + "/p.sock", 0, "true\n", ""},
		{"call device.list", 0, `"name":"relay"`, ""},
		{"call no.such.procedure", 1, "", "hint: 'postern call device.list'"},
		{"call x --realm nowhere", 3, "", "no_such_realm"},
		{"call x --realm closed", 3, "", "does not accept anonymous"},
		{"publish com.example.topic 1 --kw a=b --retain", 0, "", ""},
		{"publish com.example.topic --retain", 0, "", ""},
		{"publish not#a#uri", 1, "", "wamp.error.invalid_uri"},
		{"run -c g.yaml", 1, "", fmt.Sprintf("cannot listen on 127.0.0.1:%d: another program does", web)},
	} {
		s.run(t, dir, env)
	}

	sub := spawn(t, dir, []string{env}, "subscribe", "com.example.", "--match", "prefix", "--count", "1")
	// It may not have subscribed yet: publish until it has seen one.
	for seen := false; !seen; {
		step{`publish com.example.hello wörld 9007199254740993 {"a":[1,null]} 007 --kw k=1.5 --kw t=text`, 0, "", ""}.run(t, dir, env)
		select {
		case line := <-sub.lines:
			seen = true
			if want := `{"topic":"com.example.hello","args":["wörld",9007199254740993,{"a":[1,null]},"007"],"kwargs":{"k":1.5,"t":"text"}}`; line != want {
				t.Errorf("got  %s\nwant %s", line, want)
			}
		case <-time.After(200 * time.Millisecond):
		}
	}
	sub.ends(0)

	for _, c := range []struct {
		uri  string
		args []string
		call step
	}{
		{"echo", nil, step{"call com.example.echo a 1 --kw k=v", 0, `{"args":["a",1],"kwargs":{"k":"v"}}`, ""}},
		{"value", []string{"--value", `{"answer":42}`}, step{"call com.example.value", 0, `{"answer":42}`, ""}},
		{"command", []string{"--", "cat"}, step{"call com.example.command x", 0, `{"args":["x"],"kwargs":{}}`, ""}},
		{"text", []string{"--", "echo", "not json"}, step{"call com.example.text", 0, `"not json"`, ""}},
		{"failing", []string{"--", "false"}, step{"call com.example.failing", 1, "", "the command failed: exit status 1"}},
		{"flood", []string{"--", "yes"}, step{"call com.example.flood", 1, "", "more than 1048576 bytes"}},
	} {
		args := append([]string{"register", "com.example." + c.uri}, c.args...)
		callee := spawn(t, dir, []string{env}, args...)
		callee.says("offering com.example." + c.uri)
		c.call.run(t, dir, env)
		callee.says(`{"procedure":"com.example.` + c.uri + `"`)
		callee.cmd.Process.Signal(os.Interrupt)
		callee.ends(0)
	}

	left := spawn(t, dir, []string{env}, "register", "com.example.left")
	left.says("offering")
	begun := time.Now()
	g.cmd.Process.Signal(syscall.SIGTERM)
	g.says("gateway stopped")
	g.ends(0)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	left.says("system_shutdown")
	left.ends(exitConnect)
}

// TestDemoShowsReadings runs the demo, on ports that are free.
func TestDemoShowsReadings(t *testing.T) {
	cfg := config.Demo()
	cfg.Listen.HTTP.Addresses = []string{"127.0.0.1:0"}
	cfg.Listen.RawSocket.Addresses = []string{"127.0.0.1:0"}
	cfg.MQTT.Listen = []string{"127.0.0.1:0"}
	r, w := io.Pipe()
	cmd := &cobra.Command{}
	cmd.SetOut(w)
	cmd.SetErr(w)
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() {
		ended <- (&runOptions{}).demo(cmd, cfg, signals)
		w.Close()
	}()
	want := []string{"http://127.0.0.1:", "realm realm1", "mqtt://127.0.0.1:", "thermometer.temperature", "Stopped"}
	begun := time.Now()
	for scan := bufio.NewScanner(r); scan.Scan(); {
		if len(want) == 0 || !strings.Contains(scan.Text(), want[0]) {
			continue
		}
		if strings.Contains(scan.Text(), "thermometer.temperature") {
			t.Logf("first readings after %v: %s", time.Since(begun), scan.Text())
			signals <- os.Interrupt
		}
		want = want[1:]
	}
	if err := <-ended; err != nil || len(want) > 0 {
		t.Errorf("%v; it did not say %q", err, want)
	}
}

func TestViewOnATerminal(t *testing.T) {
	var out, problems bytes.Buffer
	v := newView(&out, &problems)
	v.width = 60
	v.set("thermometer", "temperature", 21.4567, "Cel")
	v.set("relay", "on", true, "")
	v.set("note", "text", "a\x1b[2Jb "+strings.Repeat("long ", 20), "")
	v.draw()
	v.set("relay", "on", false, "")
	v.draw()
	fmt.Fprintln(v.log(), "something happened")
	v.draw()
	text := out.String()
	for _, want := range []string{"21.457 °C\n", "relay          on               on\n", "\x1b[3A", "off\n", "\x1b[3A\x1b[J", "a�[2J"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, "\x1b[2K"); i >= 0 && len([]rune(strings.TrimSpace(line[i+4:]))) > 59 {
			t.Errorf("a line is wider than the terminal: %q", line)
		}
	}
	if problems.String() != "something happened\n" {
		t.Errorf("the log has %q", problems.String())
	}
}
