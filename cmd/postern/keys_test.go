package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestKeysTLS(t *testing.T) {
	dir := t.TempDir()
	for _, s := range []step{
		{"keys", 0, "tls", ""},
		{"keys nonsense", 2, "", "unknown command"},
		{"keys tls --days 0", 2, "", "--days: 0 is not from 1"},
		{"keys tls --host https://x", 2, "", "neither a name nor an address"},
		{"keys tls --dir no/such", 1, "", "no such file"},
		{"keys tls --host gateway.lan --host 10.1.2.3 --days 30", 0, "wrote tls.crt and tls.key", ""},
		{"keys tls", 2, "", "tls.crt exists already and is left as it is"},
	} {
		s.run(t, dir)
	}
	for _, file := range []string{"tls.crt", "tls.key"} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", file, info.Mode().Perm())
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "gateway.lan", "10.1.2.3"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if d := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore).Hours() / 24; d != 30 {
		t.Errorf("valid for %v days, want 30", d)
	}
	if err := os.Remove(filepath.Join(dir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	step{"keys tls", 2, "", "tls.key exists already"}.run(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "tls.crt")); err == nil {
		t.Error("a certificate was written beside another's key")
	}
}

// TestTLSEndToEnd runs a gateway with a pair made by keys, and calls it.
func TestTLSEndToEnd(t *testing.T) {
	dir := t.TempDir()
	step{"keys tls", 0, "wrote", ""}.run(t, dir)
	config := `listen:
  http: {addresses: "127.0.0.1:0", tls: {cert: tls.crt, key: tls.key}}
  rawsocket: {addresses: "127.0.0.1:0", tls: {cert: tls.crt, key: tls.key, min_version: "1.3"}}
realms: [{name: realm1, anonymous: full}]
`
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := command(ctx, dir, nil, "run", "-c", "c.yaml")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{}
	lines := bufio.NewScanner(stderr)
	for len(addresses) == 0 && lines.Scan() {
		if strings.Contains(lines.Text(), "gateway started") {
			for _, key := range []string{"http", "rawsocket"} {
				_, rest, _ := strings.Cut(lines.Text(), key+"=[")
				addresses[key], _, _ = strings.Cut(rest, "]")
			}
		}
	}
	if len(addresses) == 0 {
		t.Fatal("the gateway did not start")
	}
	trust := "SSL_CERT_FILE=" + filepath.Join(dir, "tls.crt")
	for _, s := range []step{
		{"publish com.example.topic 1 --url wss://" + addresses["http"] + "/ws", 0, "", ""},
		{"publish com.example.topic 1 --url rss://" + addresses["rawsocket"], 0, "", ""},
		{"publish com.example.topic 1 --url ws://" + addresses["http"] + "/ws", 3, "", "400 Bad Request"},
	} {
		s.run(t, dir, trust)
	}
	step{"publish com.example.topic 1 --url wss://" + addresses["http"] + "/ws", 3, "", "is not trusted"}.run(t, dir, "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway ended: %v", err)
	}
}
