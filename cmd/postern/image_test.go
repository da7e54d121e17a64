package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImageBuildRefuses(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(config, []byte("realms: [{name: realm1, anonymous: full}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "card.img")
	sound := []string{"image", "build", "--board", "4", "--config", config, "-o", out}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"image", "build", "--board", "4"}, "is missing"},
		{append(sound[:3:3], "6", "--config", config, "-o", out), "the boards are"},
		{append(sound[:3:3], "zero", "--config", config, "-o", out), "use the package"},
		{append(sound, "--boot", "dtoverlay=nothing"), "there is no overlay"},
		{append(sound, "--boot", "dtoverlay=pwm-2chan,pin=12,colour=green"), `have a parameter "colour"`},
		{append(sound, "--address", "192.168.1.20"), "not an IPv4 address with the length"},
		{append(sound, "--hostname", "a b"), "cannot be a machine's name"},
		{append(sound, "--file", filepath.Join(dir, "..", "other")), "is not below"},
		{append(sound, "--gateway", config), "is no program"},
	} {
		_, stderr, status := postern(t, dir, nil, c.args...)
		if status != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, %s; want %q", c.args, status, stderr, c.want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an image was written")
	}
}
