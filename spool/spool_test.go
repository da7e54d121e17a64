package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// memFS is a directory in memory, on a disk that can be full or broken. A write
// that does not fit writes what fits.
type memFS struct {
	mu    sync.Mutex
	files map[string][]byte
	room  int // bytes that the disk has left; negative for any number
	sync  error
}

func newMemFS() *memFS { return &memFS{files: map[string][]byte{}, room: -1} }

type memFile struct {
	fs   *memFS
	name string
}

func (m *memFS) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.files)), nil
}

func (m *memFS) Read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.files[name]), nil
}

func (m *memFS) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; !ok {
		if m.room == 0 {
			return nil, syscall.ENOSPC
		}
		m.files[name] = nil
	}
	return memFile{m, name}, nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.room >= 0 {
		m.room += len(m.files[name])
	}
	delete(m.files, name)
	return nil
}

func (m *memFS) Sync() error { return m.sync }

func (f memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	b := f.fs.files[f.name]
	if off > int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	b := f.fs.files[f.name]
	if int64(len(b)) < off {
		b = append(b, make([]byte, off-int64(len(b)))...)
	}
	n, more := len(p), int(off)+len(p)-len(b)
	var err error
	if f.fs.room >= 0 && more > f.fs.room {
		n, more, err = len(p)-(more-f.fs.room), f.fs.room, syscall.ENOSPC
	}
	if f.fs.room >= 0 && more > 0 {
		f.fs.room -= more
	}
	f.fs.files[f.name] = append(b[:off:off], append(bytes.Clone(p[:n]), b[min(len(b), int(off)+n):]...)...)
	return n, err
}

func (f memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	b := f.fs.files[f.name]
	if f.fs.room >= 0 {
		f.fs.room += len(b) - int(size)
	}
	f.fs.files[f.name] = b[:size]
	return nil
}

func (f memFile) Sync() error  { return f.fs.sync }
func (f memFile) Close() error { return nil }

// copyOf is what a disk would have after a cut.
func (m *memFS) copyOf() *memFS {
	c := newMemFS()
	for name, b := range m.files {
		c.files[name] = bytes.Clone(b)
	}
	return c
}

var small = Options{SegmentBytes: 512, MaxBytes: 4096}

func open(t testing.TB, fs FS, o Options) (*Log, []*Entry, int) {
	t.Helper()
	l, entries, damaged, err := Open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, entries, damaged
}

func data(seq uint64) []byte {
	return []byte(fmt.Sprintf("message %d %s", seq, strings.Repeat("x", int(seq%40))))
}

func appendTo(t testing.TB, l *Log, seq uint64) *Entry {
	t.Helper()
	e, err := l.Append(seq, data(seq))
	if err != nil {
		t.Fatalf("append %d: %v", seq, err)
	}
	return e
}

// seqs reads all entries and returns their numbers.
func seqs(t testing.TB, l *Log, entries []*Entry) (out []uint64) {
	t.Helper()
	for _, e := range entries {
		b, err := l.Read(e)
		if err != nil || !bytes.Equal(b, data(e.Seq)) {
			t.Fatalf("read %d: %q, %v", e.Seq, b, err)
		}
		out = append(out, e.Seq)
	}
	return out
}

func from(first, last uint64) (out []uint64) {
	for s := first; s <= last; s++ {
		out = append(out, s)
	}
	return out
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(dir); err == nil || !strings.Contains(err.Error(), "running twice") {
		t.Errorf("a second process: %v", err)
	}
	l, _, _ := open(t, d, small)
	var entries []*Entry
	for s := range uint64(100) {
		entries = append(entries, appendTo(t, l, s+1))
	}
	l.Done(entries[:60]...)
	l.Done(entries[80])
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if d, err = OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, entries, damaged := open(t, d, small)
	want := append(from(61, 80), from(82, 100)...)
	if got := seqs(t, l, entries); !slices.Equal(got, want) || damaged != 0 || l.Last() != 100 {
		t.Errorf("reopened with %v, %d bytes damaged, last %d", got, damaged, l.Last())
	}
	l.Done(entries...)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments > 2 {
		t.Errorf("an empty log has %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestCutAtEveryByte: a power cut in the middle of a write costs the record that
// was being written, and no other.
func TestCutAtEveryByte(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, Options{SegmentBytes: 1 << 20, MaxBytes: 1 << 20})
	ends := []int{0}
	for s := range uint64(30) {
		appendTo(t, l, s+1)
		ends = append(ends, len(disk.files[name(1)]))
	}
	whole := disk.files[name(1)]
	for n := range len(whole) + 1 {
		cut := disk.copyOf()
		cut.files[name(1)] = whole[:n]
		l, entries, damaged := open(t, cut, small)
		complete, _ := slices.BinarySearch(ends, n+1)
		if got := seqs(t, l, entries); !slices.Equal(got, from(1, uint64(complete-1))) || damaged != 0 {
			t.Fatalf("cut at byte %d: %d entries, want %d; %d damaged", n, len(got), complete-1, damaged)
		}
		// It goes on from there, and the next start finds both.
		appendTo(t, l, 1000)
		l, entries, damaged = open(t, cut, small)
		if got := seqs(t, l, entries); len(got) != complete || got[complete-1] != 1000 || damaged != 0 {
			t.Fatalf("cut at byte %d and continued: %v, %d damaged", n, got, damaged)
		}
	}
}

// TestDamageAtEveryByte: a byte that the disk has changed costs its record.
func TestDamageAtEveryByte(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, Options{SegmentBytes: 1 << 20, MaxBytes: 1 << 20})
	for s := range uint64(20) {
		appendTo(t, l, s+1)
	}
	whole := disk.files[name(1)]
	for n := headerSize; n < len(whole); n++ {
		hurt := disk.copyOf()
		hurt.files[name(1)][n] ^= 0x41
		l, entries, _ := open(t, hurt, small)
		if got := seqs(t, l, entries); len(got) != 19 {
			t.Fatalf("byte %d: %d entries left, want 19", n, len(got))
		}
	}
}

// TestForgedRecord: a message that has the bytes of a record in it is not taken
// for one when the search for the next record goes through it.
func TestForgedRecord(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, Options{SegmentBytes: 1 << 20, MaxBytes: 1 << 20})
	var stranger salt
	forged := stranger.appendData(nil, 77, data(77))
	if _, err := l.Append(1, forged); err != nil {
		t.Fatal(err)
	}
	disk.files[name(1)][headerSize+4] ^= 1 // the length
	if _, entries, _ := open(t, disk, small); len(entries) != 0 {
		t.Errorf("entry %d out of a message", entries[0].Seq)
	}
}

// TestFullDisk: an append that fails changes nothing, and the next one works
// when there is room again.
func TestFullDisk(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, small)
	disk.room = 2000
	var want []uint64
	failed := 0
	for s := uint64(1); s <= 100; s++ {
		if s == 80 {
			disk.room += 5000
		}
		e, err := l.Append(s, data(s))
		switch {
		case err == nil:
			want = append(want, s)
			if b, err := l.Read(e); err != nil || !bytes.Equal(b, data(s)) {
				t.Fatalf("read %d: %q, %v", s, b, err)
			}
		case errors.Is(err, syscall.ENOSPC):
			failed++
		default:
			t.Fatal(err)
		}
	}
	if failed == 0 || want[len(want)-1] != 100 {
		t.Errorf("%d failed, the last is %d", failed, want[len(want)-1])
	}
	l, entries, damaged := open(t, disk.copyOf(), small)
	if got := seqs(t, l, entries); !slices.Equal(got, want) || damaged != 0 {
		t.Errorf("reopened with %v, want %v; %d damaged", got, want, damaged)
	}
}

// TestSyncFails: what comes after goes to another file.
func TestSyncFails(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, small)
	appendTo(t, l, 1)
	disk.sync = syscall.EIO
	if err := l.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	disk.sync = nil
	appendTo(t, l, 2)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments != 2 {
		t.Errorf("%+v, want two segments", s)
	}
}

// TestOldMessageHoldsNoSpace: one that is not done for long does not keep all
// files behind it.
func TestOldMessageHoldsNoSpace(t *testing.T) {
	disk := newMemFS()
	l, _, _ := open(t, disk, small)
	old := appendTo(t, l, 1)
	for s := uint64(2); s < 5000; s++ {
		l.Done(appendTo(t, l, s))
		if b := l.Stats().Bytes; b > 2*small.MaxBytes {
			t.Fatalf("%d bytes on disk for one message, after %d", b, s)
		}
	}
	l, entries, _ := open(t, disk.copyOf(), small)
	if got := seqs(t, l, entries); !slices.Contains(got, old.Seq) || len(got) > 2 {
		t.Errorf("reopened with %v", got)
	}
}

// TestModel makes random calls, with cuts of power between them, and compares
// with a set.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := newMemFS()
		l, _, _ := open(t, disk, small)
		waiting := map[uint64]*Entry{}
		next := uint64(1)
		for range 2000 {
			switch rng.IntN(10) {
			case 0, 1, 2, 3, 4:
				waiting[next] = appendTo(t, l, next)
				next++
			case 5, 6, 7, 8:
				for s, e := range waiting {
					if rng.IntN(3) == 0 || len(waiting) > 40 {
						l.Done(e)
						delete(waiting, s)
					}
				}
			case 9:
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
				var entries []*Entry
				l, entries, _ = open(t, disk, small)
				if got, want := seqs(t, l, entries), slices.Sorted(maps.Keys(waiting)); !slices.Equal(got, want) {
					t.Fatalf("seed %d: reopened with %v, want %v", seed, got, want)
				}
				for _, e := range entries {
					waiting[e.Seq] = e
				}
			}
		}
	}
}

func TestUnreadableDirectory(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, _, _, err := Open(d, small); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("open: %v", err)
	}
}

// FuzzScan: whatever the disk has made of a segment, what is read from it are
// whole records within it, and the log can be used.
func FuzzScan(f *testing.F) {
	var s salt
	file := s.appendDone(s.appendData(s.appendData(appendHeader(nil, s), 1, data(1)), 2, data(2)), []uint64{1})
	f.Add(file)
	f.Add(file[:len(file)-3])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, damaged := s.scan(b, func(at int, _ byte, body []byte) {
			if !bytes.Equal(b[at+prefixSize:at+prefixSize+len(body)], body) {
				t.Errorf("a record at %d that is not there", at)
			}
		})
		if end > len(b) || damaged > len(b) || damaged < 0 {
			t.Errorf("end %d, damaged %d of %d bytes", end, damaged, len(b))
		}
		disk := newMemFS()
		disk.files[name(3)] = b
		l, entries, _, err := Open(disk, small)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, err := l.Read(e); err != nil {
				t.Errorf("read: %v", err)
			}
		}
		if _, err := l.Append(l.Last()+1, nil); err != nil {
			t.Error(err)
		}
	})
}
