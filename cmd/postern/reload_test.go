package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	web := freePort(t)
	file := filepath.Join(dir, "g.yaml")
	write := func(realms string) {
		t.Helper()
		text := fmt.Sprintf("listen: {http: '127.0.0.1:%d', rawsocket: [], unix: %s/p.sock}\nrealms: %s\n", web, dir, realms)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[{name: realm1, anonymous: full}]")
	g := spawn(t, dir, nil, "run", "-c", "g.yaml")
	g.says("gateway started")
	url := fmt.Sprintf(" --url ws://127.0.0.1:%d/ws", web)

	write("[{name: realm1, anonymous: full}, {name: second, anonymous: full}]")
	step{"reload -c g.yaml", 0, `"added":["second"]`, ""}.run(t, dir)
	step{"publish com.a --realm second" + url, 0, "", ""}.run(t, dir)
	step{"reload" + url, 3, "", "postern"}.run(t, dir) // who it is, nobody vouches for there

	write("[{name: realm1, anonymous: nobody}]")
	step{"reload -c g.yaml", 2, "", "g.yaml:2:"}.run(t, dir)
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.says("configuration not reloaded")
	step{"publish com.a --realm second" + url, 0, "", ""}.run(t, dir)

	write("[{name: realm1, anonymous: full}]")
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.says("configuration reloaded")
	step{"publish com.a --realm second" + url, 3, "", "no_such_realm"}.run(t, dir)
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
}
