package ext4

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tool finds one of e2fsprogs, which is not in everybody's path.
func tool(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return "/usr/sbin/" + name
}

func files() []File {
	f := []File{
		{Name: "config/postern.yaml", Mode: 0o600, Data: []byte("devices: {}\n")},
		{Name: "config/secrets/token", Mode: 0o400, Data: []byte("secret")},
		{Name: "state", Mode: 0o700, Folder: true},
		{Name: "big", Mode: 0o644, Data: bytes.Repeat([]byte("0123456789abcdef"), 10_000)},
		{Name: "empty", Mode: 0o644},
	}
	for i := range 200 { // more than one block of entries
		f = append(f, File{Name: fmt.Sprintf("many/a-file-with-a-rather-long-name-%d", i), Mode: 0o600, Data: []byte{byte(i)}})
	}
	return f
}

func TestReadBack(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, size := range []int64{6 << 20, 16 << 20, 128 << 20} {
		image, err := Format("data", size, at, files())
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Format("data", size, at, files())
		if !bytes.Equal(image, again) {
			t.Error("two images of the same files differ")
		}
		path := filepath.Join(t.TempDir(), "ext4.img")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool("e2fsck"), "-f", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%d bytes: e2fsck: %v\n%s", size, err, out)
		}
		for _, f := range files() {
			if f.Folder {
				continue
			}
			have, err := exec.Command(tool("debugfs"), "-R", "cat /"+f.Name, path).Output()
			if err != nil || !bytes.Equal(have, f.Data) {
				t.Fatalf("%s: %d bytes (%v), want %d", f.Name, len(have), err, len(f.Data))
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		label string
		size  int64
		files []File
		want  string
	}{
		{"data", 1 << 20, nil, "from 6 MiB to 128 MiB"},
		{"a label that is long", 6 << 20, nil, "longer than 16"},
		{"data", 6 << 20, []File{{Name: "big", Data: make([]byte, 6<<20)}}, "full"},
		{"data", 6 << 20, []File{{Name: "a"}, {Name: "a"}}, "twice"},
		{"data", 6 << 20, []File{{Name: "a"}, {Name: "a/b"}}, "a is a file"},
		{"data", 6 << 20, []File{{Name: "../b"}}, "cannot be a name"},
	} {
		if _, err := Format(c.label, c.size, time.Time{}, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
}
