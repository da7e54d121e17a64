package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManual(t *testing.T) {
	dir := t.TempDir()
	step{"man pages", 0, "", ""}.run(t, dir)
	for name, want := range map[string][]string{
		"postern.1":          {`.TH POSTERN 1`, `postern \- WAMP router`, `\fBpostern\-bridge\fR(1)`, ".SH EXIT STATUS"},
		"postern-user-add.1": {`.TH POSTERN\-USER\-ADD 1`, ".B \\-\\-role string\n", "ROLE", ".SH EXAMPLES"},
		"postern-call.1":     {".TP\n.B \\-\\-realm string\nrealm to join (default realm1)", `.SH SEE ALSO` + "\n" + `\fBpostern\fR(1)`},
	} {
		page, err := os.ReadFile(filepath.Join(dir, "pages", name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(string(page), w) {
				t.Errorf("%s does not have %q:\n%s", name, w, page)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "pages", "postern-man.1")); err == nil {
		t.Error("a page of what only packagers need")
	}
	if got, want := roff(".x\n'y \\n"), "\\&.x\n\\&'y \\en"; got != want {
		t.Errorf("roff gives %q, want %q", got, want)
	}
}
