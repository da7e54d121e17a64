//go:build system

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const guarded = `
listen:
  http: 127.0.0.1:{{http}}
  rawsocket: 127.0.0.1:{{raw}}
  unix: {{unix}}
mqtt: {listen: "127.0.0.1:{{mqtt}}"}
realms:
  - name: realm1
    roles:
      - {name: operator, permissions: [{match: prefix, allow: [call, register, publish, subscribe]}]}
    auth:
      users_file: %s
`

// TestAuthentication has every client program join by every method that it
// has, over every codec and transport, and be turned away with a wrong secret.
func TestAuthentication(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users.json")
	postern := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(posternBinary, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("postern %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	public := postern("", "keys", "cryptosign", "key")
	key, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	private := strings.TrimSpace(string(key))
	postern("correct horse\n", "user", "add", "alice", "--file", file, "--role", "operator",
		"--method", "ticket,wampcra,scram", "--public-key", public)
	g := run(t, fmt.Sprintf(guarded, file))

	for _, k := range kinds {
		for _, transport := range k.transports {
			for _, codec := range k.codecs {
				for _, method := range methods[k.name] {
					t.Run(strings.Join([]string{k.name, transport, codec, method}, "/"), func(t *testing.T) {
						join := func(secret string) answer {
							c := start(t, k.program)
							return c.do("connect", map[string]any{
								"url": g.url(transport), "realm": "realm1", "codec": codec,
								"auth": map[string]any{"method": method, "authid": "alice", "secret": secret},
							})
						}
						right, wrong := "correct horse", "battery staple"
						if method == "cryptosign" {
							right, wrong = private, strings.Repeat("ab", 32)
						}
						a := join(right)
						if !a.OK || a.KwArgs["authid"] != "alice" || a.KwArgs["authrole"] != "operator" || a.KwArgs["authmethod"] != method {
							t.Errorf("the right secret: %+v", a)
						}
						// One in each codec: failures are slowed down after some.
						if codec != k.codecs[0] || slices.Index(methods[k.name], method) > 1 && transport != "ws" {
							return
						}
						if a := join(wrong); a.OK || !strings.Contains(fmt.Sprint(a.Error, a.Args), "denied") {
							t.Errorf("a wrong secret: %+v", a)
						}
					})
				}
			}
		}
	}
	for _, secret := range []string{"correct horse", private, "battery"} {
		if strings.Contains(g.output(), secret) {
			t.Errorf("the log has the secret %q", secret)
		}
	}
}
