package fat

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

func files() []File {
	f := []File{
		{"autoboot.txt", []byte("[all]\nboot_partition=2\n")},
		{"empty", nil},
		{"bcm2710-rpi-3-b.dtb", bytes.Repeat([]byte("tree"), 5000)},
		{"bcm2710-rpi-3-b-plus.dtb", []byte("another")},
	}
	for i := range 60 {
		f = append(f, File{fmt.Sprintf("overlays/an-overlay-with-a-long-name-%d.dtbo", i), []byte{byte(i)}})
	}
	return f
}

func volume(size int64) Volume {
	return Volume{Label: "POSTERN", Serial: 0x1234, Size: size, Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
}

func TestReadBack(t *testing.T) {
	fsck, err := exec.LookPath("fsck.vfat")
	if err != nil {
		fsck = "/usr/sbin/fsck.vfat"
	}
	for _, size := range []int64{4 << 20, 48 << 20, 256 << 20} {
		image, err := Format(volume(size), files())
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Format(volume(size), files())
		if !bytes.Equal(image, again) {
			t.Error("two images of the same files differ")
		}
		path := filepath.Join(t.TempDir(), "fat.img")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(fsck, "-n", "-v", path).CombinedOutput(); err != nil || bytes.Contains(out, []byte("nconsistent")) {
			t.Errorf("%d bytes: fsck.vfat: %v\n%s", size, err, out)
		}
		for _, f := range files() {
			have, err := exec.Command("mtype", "-i", path, "::"+f.Name).Output()
			if err != nil || !bytes.Equal(have, f.Data) {
				t.Fatalf("%s: %d bytes (%v), want %d", f.Name, len(have), err, len(f.Data))
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		volume Volume
		files  []File
		want   string
	}{
		{volume(1 << 20), nil, "from 4 MiB to 1 GiB"},
		{Volume{Label: "twelve letter", Size: 4 << 20}, nil, "longer than 11"},
		{volume(4 << 20), []File{{"big", make([]byte, 5<<20)}}, "big: the file system is full"},
		{volume(4 << 20), []File{{"a:b", nil}}, "cannot be a name"},
		{volume(4 << 20), []File{{"folder//b", nil}}, "cannot be a name"},
		{volume(4 << 20), many(300), "no more than 512 entries"},
	} {
		if _, err := Format(c.volume, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
}

func many(n int) []File {
	var f []File
	for i := range n {
		f = append(f, File{Name: fmt.Sprint("file-number-", i)})
	}
	return f
}
