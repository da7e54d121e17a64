package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSocketsFromSystemd plays systemd: it opens a socket and passes it on.
func TestSocketsFromSystemd(t *testing.T) {
	dir := t.TempDir()
	config := `listen: {allow_anonymous_remote: true, http: "systemd:web", rawsocket: []}
realms: [{name: realm1, anonymous: full}]
mqtt: {enabled: false}
`
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	step{"run -c c.yaml", 1, "", "systemd has passed no sockets to this process"}.run(t, dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct{ fds, names, want string }{
		{"1", "other", "the sockets from systemd are"},
		{"x", "web", "not a number from 1 to 64"},
		{"1", "web", "gateway started"},
	} {
		// The process that systemd starts has its number in the environment.
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" run -c c.yaml`, os.Args[0])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "POSTERN_TEST_RUN=1", "GORACE=atexit_sleep_ms=0", "LISTEN_FDS="+tt.fds, "LISTEN_FDNAMES="+tt.names)
		cmd.ExtraFiles = []*os.File{f}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "gateway started") {
				step{"publish com.example.topic 1 --url ws://" + ln.Addr().String() + "/ws", 0, "", ""}.run(t, dir)
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
		}
		err = cmd.Wait()
		if started := tt.want == "gateway started"; started != (err == nil) || !strings.Contains(said.String(), tt.want) {
			t.Errorf("fds %q, names %q: %v, said %q; want %q", tt.fds, tt.names, err, said.String(), tt.want)
		}
	}
}
