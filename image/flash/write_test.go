package flash

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const small = 4096 // bytes of a chunk in tests

// picture is an image of so many chunks, the last one cut off.
func picture(n int) []byte {
	b := make([]byte, n*small-512)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func plan(t *testing.T, image []byte) *Plan {
	t.Helper()
	p, err := Scan(t.Context(), bytes.NewReader(image), small, 0, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func quiet(Phase, int64, int64) {}

// card is a plain file that stops or spoils at a chunk.
type card struct {
	*File
	writes  int
	stopAt  int // the write that fails, counted from 1; 0 for none
	torn    bool
	spoil   int64 // offset of which a bit comes back wrong; 0 for none
	order   []int64
	onWrite func()
}

var errPulled = errors.New("the card was pulled out")

func (c *card) WriteAt(b []byte, at int64) (int, error) {
	c.writes++
	c.order = append(c.order, at)
	if c.onWrite != nil {
		c.onWrite()
	}
	if c.writes == c.stopAt {
		if c.torn {
			_, _ = c.File.WriteAt(b[:len(b)/2], at)
		}
		return 0, errPulled
	}
	return c.File.WriteAt(b, at)
}

func (c *card) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.File.ReadAt(b, at)
	if c.spoil > 0 && at <= c.spoil && c.spoil < at+int64(n) {
		b[c.spoil-at] ^= 4
	}
	return n, err
}

func newCard(t *testing.T, path string, size int64) *card {
	t.Helper()
	f, err := CreateFile(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &card{File: f}
}

// TestInterruption pulls the card out at every tenth chunk, once between two
// writes and once in the midst of one, and goes on with another process's eyes:
// all that is kept is the card and the journal.
func TestInterruption(t *testing.T) {
	image := picture(103)
	p := plan(t, image)
	for stop := 10; stop <= 100; stop += 10 {
		dir := t.TempDir()
		path, journal := filepath.Join(dir, "card"), filepath.Join(dir, "deep", "journal")
		if err := os.WriteFile(path, bytes.Repeat([]byte{0xAA}, len(image)), 0o600); err != nil {
			t.Fatal(err)
		}
		write := func(stopAt int, torn bool) (Result, *card, error) {
			c := newCard(t, path, p.Size)
			c.stopAt, c.torn = stopAt, torn
			j, err := OpenJournal(journal, "card", p)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Write(t.Context(), c, p, bytes.NewReader(image), j, quiet)
			return r, c, err
		}
		_, _, err := write(stop, stop%20 == 0)
		if !errors.Is(err, errPulled) {
			t.Fatalf("stopped at %d: %v", stop, err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b[:small], make([]byte, small)) {
			t.Errorf("stopped at %d: the card could boot: %v", stop, err)
		}
		r, c, err := write(0, false)
		if err != nil {
			t.Fatalf("after %d: %v", stop, err)
		}
		// The first write clears, the next are chunks 1, 2, …; what came before
		// the interruption is noted also when no note was due.
		if want := int64(stop-2) * small; r.Reused != want || r.Written != p.Size-want {
			t.Errorf("after %d: reused %d bytes, wrote %d; want %d reused of %d", stop, r.Reused, r.Written, want, p.Size)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, image) {
			t.Errorf("after %d the card differs: %v", stop, err)
		}
		if first, last := c.order[0], c.order[len(c.order)-1]; first != 0 || last != 0 || len(c.order) < 3 || c.order[1] == 0 {
			t.Errorf("after %d the first block is not written last: %v", stop, c.order)
		}
		if _, err := os.Stat(journal); !os.IsNotExist(err) {
			t.Errorf("after %d the journal is still there: %v", stop, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	image := picture(40)
	p := plan(t, image)
	ctx, cancel := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "card")
	c := newCard(t, path, p.Size)
	c.onWrite = func() {
		if c.writes == 30 {
			cancel()
		}
	}
	j, err := OpenJournal(filepath.Join(t.TempDir(), "j"), "card", p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(ctx, c, p, bytes.NewReader(image), j, quiet); !errors.Is(err, ErrInterrupted) || j.Len() != 29 {
		t.Errorf("%v, %d chunks noted", err, j.Len())
	}
	if _, err := Scan(ctx, bytes.NewReader(image), small, 0, quiet); !errors.Is(err, ErrInterrupted) {
		t.Errorf("scan: %v", err)
	}
}

// TestChangedMeanwhile goes on with a card that somebody else has written to.
func TestChangedMeanwhile(t *testing.T) {
	image := picture(30)
	p := plan(t, image)
	dir := t.TempDir()
	path, journal := filepath.Join(dir, "card"), filepath.Join(dir, "journal")
	c := newCard(t, path, p.Size)
	c.stopAt = 25
	j, err := OpenJournal(journal, "card", p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), c, p, bytes.NewReader(image), j, quiet); !errors.Is(err, errPulled) {
		t.Fatal(err)
	}
	if _, err := c.File.WriteAt([]byte("somebody else"), 5*small+7); err != nil {
		t.Fatal(err)
	}
	if j, err = OpenJournal(journal, "another card", p); err != nil || j.Len() != 0 {
		t.Errorf("another card's journal: %v, %d", err, j.Len())
	}
	if j, err = OpenJournal(journal, "card", p); err != nil || j.Len() != 23 {
		t.Errorf("the journal: %v, %d", err, j.Len())
	}
	r, err := Write(t.Context(), newCard(t, path, p.Size), p, bytes.NewReader(image), j, quiet)
	if err != nil || r.Reused != 22*small {
		t.Errorf("%v, %+v", err, r)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, image) {
		t.Error("the card differs", err)
	}
}

// TestCorruption has one bit come back wrong.
func TestCorruption(t *testing.T) {
	image := picture(20)
	p := plan(t, image)
	for _, at := range []int64{1, small + 9, 13 * small, int64(len(image)) - 1} {
		dir := t.TempDir()
		path, journal := filepath.Join(dir, "card"), filepath.Join(dir, "journal")
		c := newCard(t, path, p.Size)
		c.spoil = at
		j, err := OpenJournal(journal, "card", p)
		if err != nil {
			t.Fatal(err)
		}
		var mismatch *MismatchError
		if _, err := Write(t.Context(), c, p, bytes.NewReader(image), j, quiet); !errors.As(err, &mismatch) || mismatch.Offset != at/small*small || mismatch.Chunks != 1 {
			t.Errorf("bit at %d: %v", at, err)
		}
		if at >= small { // the first chunk is written when the others are right
			b := make([]byte, small)
			if _, err := c.File.ReadAt(b, 0); err != nil || !bytes.Equal(b, make([]byte, small)) {
				t.Errorf("bit at %d: a card that is wrong could boot", at)
			}
			if j.Has(int(at / small)) {
				t.Errorf("bit at %d: its chunk is still noted", at)
			}
		}
		if _, err := Write(t.Context(), newCard(t, path, p.Size), p, bytes.NewReader(image), j, quiet); err != nil {
			t.Errorf("with another reader: %v", err)
		}
		if err := Verify(t.Context(), c.File, p, quiet); err != nil {
			t.Errorf("verify: %v", err)
		}
		if err := Verify(t.Context(), c, p, quiet); !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "differs from the image, in 1 places") {
			t.Errorf("verify with the bit: %v", err)
		}
	}
}

func TestImageChanges(t *testing.T) {
	image := picture(5)
	p := plan(t, image)
	image[3*small]++
	for _, b := range [][]byte{image, image[:2*small], append(picture(5), make([]byte, small)...)} {
		c := newCard(t, filepath.Join(t.TempDir(), "card"), p.Size)
		if _, err := Write(t.Context(), c, p, bytes.NewReader(b), nil, quiet); err == nil || !strings.Contains(err.Error(), "has changed") {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	if _, err := Scan(t.Context(), strings.NewReader(""), small, 0, quiet); err == nil {
		t.Error("an empty image is one")
	}
}

func TestPacked(t *testing.T) {
	image := picture(9)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, image, 0o600); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed := map[string][]byte{"plain": image, "gzip": z.Bytes()}
	for _, program := range []string{"xz", "zstd"} {
		// Where there is no such program, Open says so.
		if _, err := exec.LookPath(program); err == nil {
			if packed[program], err = exec.Command(program, "-c", plain).Output(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, b := range packed {
		path := filepath.Join(dir, name)
		read := func(b []byte) ([]byte, error) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Open(path)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(r)
		}
		if got, err := read(b); err != nil || !bytes.Equal(got, image) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
		if name == "plain" {
			continue
		}
		if _, err := read(b[:len(b)-9]); err == nil || !strings.Contains(err.Error(), "unpack "+path) {
			t.Errorf("%s that is not complete: %v", name, err)
		}
		// Closed before its end, nothing stays.
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", dir)
	if err := os.WriteFile(plain, []byte("\xfd7zXZ\x00 and so on"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(plain); err == nil || !strings.Contains(err.Error(), "apt install xz-utils") {
		t.Errorf("without xz: %v", err)
	}
}

func TestSectors(t *testing.T) {
	f, err := CreateFile(filepath.Join(t.TempDir(), "disk"), 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &device{File: f.File, sector: 512}
	b := []byte(strings.Repeat("x", 700))
	if n, err := d.WriteAt(b, 512); n != 700 || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, 700)
	if n, err := d.ReadAt(got, 512); n != 700 || err != nil || !bytes.Equal(got, b) {
		t.Error(n, err)
	}
	for _, n := range []int{1, 512, 4096, 99999} {
		if len(aligned(n)) != n {
			t.Errorf("aligned(%d)", n)
		}
	}
}

func FuzzJournal(f *testing.F) {
	image := picture(4)
	p, err := Scan(context.Background(), bytes.NewReader(image), small, 0, quiet)
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "journal")
	j := &Journal{path: path, done: map[int]bool{}}
	if j, err = OpenJournal(path, "card", p); err != nil {
		f.Fatal(err)
	}
	if err := j.Add([]int{1, 3}, p); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-5])
	f.Add(append(bytes.Clone(good), "9999999999999999999 x\n-1 y\n0 z\n"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(path, "card", p)
		if err != nil {
			return
		}
		if j.Has(0) || j.Has(-1) || j.Has(len(p.Chunks)) || j.Len() > len(p.Chunks) {
			t.Errorf("%q notes what is none", b)
		}
	})
}
