package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-iot/postern/image/flash"
)

func TestFlash(t *testing.T) {
	dir := t.TempDir()
	cache := "XDG_CACHE_HOME=" + filepath.Join(dir, "cache")
	image := bytes.Repeat([]byte("an image of a card\n"), 700_000) // four chunks
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"image": image, "image.gz": packed.Bytes(), "broken.gz": packed.Bytes()[:packed.Len()/2], "empty": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []step{
		{"flash write image card", 0, "wrote 13.3 MB", "checking"},
		{"flash verify image.gz card", 0, "is there, byte for byte: 13.3 MB", "reading"},
		{"flash write image card", 2, "", "card exists already; --yes overwrites it"},
		{"flash write image.gz card --yes", 0, "wrote 13.3 MB", "writing"},
		{"flash write image.gz card --yes --sha256 abcd", 1, "", "and --sha256 wants abcd"},
		{"flash write broken.gz other", 1, "", "is it complete?"},
		{"flash write empty other", 1, "", "the image is empty"},
		{"flash write missing other", 2, "", "no such file"},
		{"flash verify image", 2, "", "an image and a disk are needed"},
		{"flash write image /dev/null", 2, "", "no disk"},
		{"flash write image /dev/nothing", 2, "", "'postern flash list' lists disks"},
		{"flash write image .", 2, "", "neither a disk nor a plain file"},
		{"flash verify image missing", 2, "", "no such file"},
		{"flash list --json", 0, "[", ""},
		{"flash list --all", 0, "", ""},
	} {
		s.run(t, dir, cache)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "card")); err != nil || !bytes.Equal(b, image) {
		t.Errorf("the card differs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Error("a broken image was begun to be written")
	}
	// One byte is another.
	f, err := os.OpenFile(filepath.Join(dir, "card"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("!"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	step{"flash verify image card", 1, "", "differs from the image, in 1 places, the first within 4.2 MB after byte 4194304"}.run(t, dir, cache)
	step{"flash verify image card --json", 1, `"event":"error"`, "differs"}.run(t, dir, cache)

	stdout, stderr, status := postern(t, dir, []string{cache}, "flash", "write", "image", "card", "--yes", "--json")
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var last event
	phases := map[string]bool{}
	for line := range strings.Lines(stdout) {
		last = event{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		phases[string(last.Phase)] = true
	}
	if last.Event != "done" || last.Bytes != int64(len(image)) || last.Written != last.Bytes || len(last.SHA256) != 64 || !phases["read"] || !phases["write"] || !phases["verify"] {
		t.Errorf("the last of %v is %+v", phases, last)
	}
}

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		e     event
		width int
		want  string
	}{
		{event{Phase: "write", Done: 5e8, Total: 1e9, Rate: 2e7, Left: 25}, 90, "writing  [####################                    ]  50 %  500.0 MB of 1.0 GB, 20.0 MB/s, 25s left"[:90]},
		{event{Phase: "write", Done: 5e8, Total: 1e9, Rate: 2e7, Left: 25}, 70, "writing  [######      ]  50 %  500.0 MB of 1.0 GB, 20.0 MB/s, 25s left"},
		{event{Phase: "verify", Done: 1e9, Total: 1e9, Rate: 9e7}, 50, "checking  100 %  1.0 GB of 1.0 GB, 90.0 MB/s"},
		{event{Phase: "read", Done: 3e6}, 80, "reading   3.0 MB, 0 B/s"},
		{event{Phase: "read", Done: 3e6}, 9, "reading  "},
	} {
		if got := bar(tt.e, tt.width); !strings.HasPrefix(got, tt.want[:9]) || len(got) > tt.width {
			t.Errorf("%d columns: %q, want %q", tt.width, got, tt.want)
		} else if tt.width != 90 && got != tt.want {
			t.Errorf("%d columns: %q, want %q", tt.width, got, tt.want)
		}
	}
}

// TestFlashOnly leaves the disk out, on machines with none, one and two cards.
func TestFlashOnly(t *testing.T) {
	before := machine
	defer func() { machine = before }()
	root := t.TempDir()
	machine = flash.System{Root: root}
	file := func(path, text string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file("proc/self/mountinfo", "30 1 8:1 / / rw - ext4 /dev/root rw\n")
	file("sys/dev/block/8:1", "")
	if err := os.MkdirAll(filepath.Join(root, "sys/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ serial, target, problem string }{
		{"", "", "no card or stick is here"},
		{"", "/dev/sda", ""},
		{"", "", "which disk is meant? There are /dev/sda, /dev/sdb"},
		{"s1", "/dev/sdb", ""},
		{"other", "", "no card or stick is here"},
	} {
		if i == 1 || i == 2 {
			disk := "sys/block/sd" + string(rune('a'+i-1)) + "/"
			for name, text := range map[string]string{"size": "1000000", "removable": "1", "ro": "0", "dev": fmt.Sprintf("8:%d", 16*i), "device/serial": fmt.Sprintf("s%d", i-1)} {
				file(disk+name, text+"\n")
			}
		}
		f := flashing{serial: want.serial}
		err := f.only()
		if want.problem == "" && (err != nil || f.target != want.target) {
			t.Errorf("%d: %q, %v", i, f.target, err)
		}
		if want.problem != "" && (err == nil || !strings.Contains(err.Error(), want.problem)) {
			t.Errorf("%d: %v, want %q", i, err, want.problem)
		}
	}
}
