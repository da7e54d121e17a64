package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const usersConfig = `listen: {http: "127.0.0.1:0", rawsocket: [], unix: %s}
realms:
  - name: realm1
    roles: [{name: operator, permissions: [{match: prefix, allow: [call, register, publish, subscribe]}]}]
    auth: {users_file: users.json}
`

// TestUsers manages users, and has them join.
func TestUsers(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "p.sock")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postern.yaml", fmt.Sprintf(usersConfig, socket))
	write("alice.secret", "pa55 word\n")
	add := func(stdin string, args ...string) (string, error) {
		cmd := command(t.Context(), dir, nil, append([]string{"user", "add"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := add("pa55 word\n", "alice", "--role", "operator"); err != nil {
		t.Fatal(out)
	}
	generated, err := add("", "bob", "--role", "operator", "--generate", "--method", "wampcra")
	if err != nil || len(generated) < 20 {
		t.Fatal(generated)
	}
	write("bob.secret", generated)
	public, stderr, status := postern(t, dir, nil, "keys", "cryptosign", "pump.key")
	if status != 0 {
		t.Fatal(stderr)
	}
	if out, err := add("", "pump", "--role", "operator", "--public-key", strings.TrimSpace(public)); err != nil {
		t.Fatal(out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "users.json"))
	if err != nil || bytes.Contains(text, []byte("pa55")) || bytes.Contains(text, []byte(strings.TrimSpace(generated))) {
		t.Errorf("%v; the file is\n%s", err, text)
	}
	if info, err := os.Stat(filepath.Join(dir, "users.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for _, s := range []step{
		{"user list", 0, "alice\toperator\tticket,wampcra,scram\nbob\toperator\twampcra\npump\toperator\tcryptosign\n", ""},
		{"user add eve", 2, "", "--role is missing"},
		{"user add eve --role king", 2, "", `no role "king"; its roles are trusted, operator`},
		{"user add alice --role operator --generate", 2, "", "--replace"},
		{"user add eve --role operator", 2, "", "empty or too long"},
		{"user add eve --role operator --public-key 12", 1, "", "64 hexadecimal digits expected"},
		{"user add eve --role operator --method magic", 2, "", "not one of ticket"},
		{"user remove eve", 1, "", `no user "eve"`},
		{"user list --realm other", 2, "", `no realm "other"`},
		{"user list --file none.json", 0, "", ""},
		{"keys cryptosign pump.key", 2, "", "exists already"},
		{"call x --auth-method ticket", 2, "", "needs --secret-file"},
		{"call x --secret-file none", 2, "", "no such file"},
	} {
		s.run(t, dir)
	}
	spawn(t, dir, nil, "run", "-c", "postern.yaml").says("gateway started")
	at := " --url unix://" + socket
	for _, s := range []step{
		{"call device.list --authid alice --secret-file alice.secret" + at, 0, "[", ""},
		{"call device.list --authid alice --auth-method ticket --secret-file alice.secret" + at, 0, "[", ""},
		{"call device.list --authid alice --auth-method scram --secret-file alice.secret" + at, 0, "[", ""},
		{"call device.list --authid bob --auth-method wampcra --secret-file bob.secret" + at, 0, "[", ""},
		{"call device.list --authid bob --auth-method wampcra --secret-file alice.secret" + at, 3, "", "authentication_denied"},
		{"call device.list --auth-method cryptosign --secret-file pump.key" + at, 0, "[", ""},
		{"call device.list" + at, 3, "", "--secret-file"},
		{"user remove bob", 0, "removed bob", ""},
		{"call device.list --authid bob --auth-method wampcra --secret-file bob.secret" + at, 3, "", "authentication_denied"},
	} {
		s.run(t, dir)
	}
}
