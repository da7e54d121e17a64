package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

const start = 1 << 20 // where the partition begins

// card makes an image with one FAT32 partition, as mkfs.vfat has it.
func card(t *testing.T, megabytes int64) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "card.img")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	mbr := make([]byte, 512)
	mbr[446+4] = 0x0c
	binary.LittleEndian.PutUint32(mbr[446+8:], start/512)
	binary.LittleEndian.PutUint32(mbr[446+12:], uint32(megabytes<<20/512))
	mbr[510], mbr[511] = 0x55, 0xAA
	if _, err := f.WriteAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(start + megabytes<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.vfat", "-F", "32", "-s", "1", "--offset", fmt.Sprint(start/512), "-n", "bootfs", path, fmt.Sprint(megabytes<<10))
	return f
}

// tool runs a program of mtools or dosfstools.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// checked has fsck look at the partition.
func checked(t *testing.T, f *os.File) {
	t.Helper()
	part := filepath.Join(t.TempDir(), "part")
	out, err := os.Create(part)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(f, start, 1<<40)); err != nil {
		t.Fatal(err)
	}
	tool(t, "fsck.vfat", "-n", "-v", part)
}

func TestEdit(t *testing.T) {
	f := card(t, 34)
	at := fmt.Sprintf("%s@@%d", f.Name(), start)
	dir := t.TempDir()
	files := map[string][]byte{
		"cmdline.txt": []byte("console=tty1 root=PARTUUID=1 rootwait\n"),
		"config.txt":  bytes.Repeat([]byte("# a long file\n"), 500),
		"issue.txt":   []byte("Raspberry Pi reference 2025-11-24\n"),
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "mcopy", "-i", at, filepath.Join(dir, name), "::"+name)
	}
	tool(t, "mmd", "-i", at, "::overlays")

	b, err := OpenPartition(f, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.ReadFile("CMDLINE.TXT", 1000); err != nil || string(got) != string(files["cmdline.txt"]) {
		t.Errorf("cmdline.txt: %q, %v", got, err)
	}
	if _, err := b.ReadFile("config.txt", 1000); err == nil {
		t.Error("more was read than allowed")
	}
	for _, name := range []string{"nothing", "overlays/nothing", "no/thing"} {
		if _, err := b.ReadFile(name, 1000); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	files["cmdline.txt"] = []byte(strings.Repeat("x", 5000)) // longer
	files["config.txt"] = []byte("short\n")
	files["issue.txt"] = nil
	files["user-data"] = []byte("#cloud-config\n")
	files["overlays/vc4.dtbo"] = []byte("dtb")
	files["postern/postern_1.0.0-1_arm64.deb"] = bytes.Repeat([]byte("deb"), 1<<20)
	files["postern/etc/users.json"] = []byte("{}")
	// More than a cluster of names, some of them alike in 8.3.
	for i := range 40 {
		files[fmt.Sprintf("postern/a name with spaces and ümläuts %d.config", i)] = []byte{byte(i)}
	}
	for name, data := range files {
		if err := b.WriteFile(name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.WriteFile("overlays", nil); err == nil {
		t.Error("a folder was replaced")
	}
	if err := b.WriteFile("a:b", nil); err == nil {
		t.Error("a name that cannot be")
	}
	if err := b.WriteFile("huge", make([]byte, 40<<20)); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("more than fits: %v", err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	checked(t, f)
	again, err := OpenPartition(f, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := again.ReadFile(name, 1<<30); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(want), err)
		}
		if strings.Contains(name, "ü") {
			continue // mtools has its own idea of letters
		}
		out := filepath.Join(t.TempDir(), "out")
		tool(t, "mcopy", "-n", "-i", at, "::"+name, out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("mcopy reads %d bytes of %s, want %d, %v", len(got), name, len(want), err)
		}
	}
	if list := tool(t, "mdir", "-i", at, "::"); !strings.Contains(list, "2026-02-03") || !strings.Contains(list, "user-data") {
		t.Errorf("mdir: %s", list)
	}
}

func TestNotACard(t *testing.T) {
	for want, change := range map[string]func(f *os.File) error{
		"no partition table":       func(f *os.File) error { _, err := f.WriteAt([]byte{0, 0}, 510); return err },
		"of type 0x83":             func(f *os.File) error { _, err := f.WriteAt([]byte{0x83}, 450); return err },
		"is not FAT32":             func(f *os.File) error { _, err := f.WriteAt(make([]byte, 512), start); return err },
		"values that cannot be":    func(f *os.File) error { _, err := f.WriteAt([]byte{3}, start+13); return err },
		"do not go together":       func(f *os.File) error { _, err := f.WriteAt([]byte{0, 0, 0, 9}, start+32); return err },
		"has no root folder":       func(f *os.File) error { _, err := f.WriteAt([]byte{0, 0, 0, 9}, start+44); return err },
		"read the boot partition":  func(f *os.File) error { return f.Truncate(start) },
		"read the partition table": func(f *os.File) error { return f.Truncate(100) },
	} {
		f := card(t, 34)
		if err := change(f); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPartition(f, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// memory is an image in memory, as large as it is.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at > int64(len(m)) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, m[at:])
	if n < len(b) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

// tiny is a FAT32 of 60 clusters, which only we take for one.
func tiny() memory {
	m := make(memory, 64*512)
	b := m[:512]
	copy(b[11:], []byte{0, 2, 1, 2, 0, 1}) // sectors of 512, clusters of one, 2 reserved, one table
	b[32], b[36], b[44], b[48], b[510], b[511] = 64, 1, 2, 1, 0x55, 0xAA
	copy(m[512:], "RRaA")
	copy(m[512+484:], "rrAa")
	binary.LittleEndian.PutUint32(m[1024+8:], mask)
	return m
}

func FuzzEdit(f *testing.F) {
	whole := tiny()
	b, err := Open(whole, 0, now)
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"cmdline.txt", "postern/etc/a long name.yaml", "b"} {
		if err := b.WriteFile(name, []byte(strings.Repeat(name, 60))); err != nil {
			f.Fatal(err)
		}
	}
	if err := b.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(whole), "cmdline.txt")
	f.Add([]byte(tiny()), "postern/etc/a long name.yaml")
	f.Fuzz(func(t *testing.T, image []byte, name string) {
		if len(image) > 1<<17 || len(name) > 300 {
			return
		}
		m := memory(bytes.Clone(image))
		b, err := Open(m, 0, now)
		if err != nil {
			return
		}
		// What is broken may be read as something else, but within bounds.
		for _, most := range []int64{0, 100, 1 << 16} {
			if got, err := b.ReadFile(name, most); err == nil && int64(len(got)) > most {
				t.Errorf("%d bytes of %q, at most %d were wanted", len(got), name, most)
			}
			if err := b.WriteFile(name, image[:min(int64(len(image)), most)]); err != nil {
				return
			}
		}
		_ = b.Flush()
	})
}
