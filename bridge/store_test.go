package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/spool"
)

// flakyFS is a directory on a disk that fails at times.
type flakyFS struct {
	dir    *spool.Dir
	every  int // every so-and-so-manieth write fails; zero for none
	full   atomic.Bool
	writes int
}

type flakyFile struct {
	spool.File
	fs *flakyFS
}

func diskAt(t *testing.T, path string) *spool.Dir {
	t.Helper()
	d, err := spool.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (f *flakyFS) List() ([]string, error)          { return f.dir.List() }
func (f *flakyFS) Read(name string) ([]byte, error) { return f.dir.Read(name) }
func (f *flakyFS) Remove(name string) error         { return f.dir.Remove(name) }
func (f *flakyFS) Sync() error                      { return nil }

func (f *flakyFS) Open(name string) (spool.File, error) {
	file, err := f.dir.Open(name)
	return flakyFile{file, f}, err
}

// WriteAt writes half of what does not fit, as disks do.
func (f flakyFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.writes++
	if f.fs.full.Load() || f.fs.every > 0 && f.fs.writes%f.fs.every == 0 {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

func (f flakyFile) Sync() error { return nil }

// onDisk is a queue in a directory, in which everything goes to the disk at
// once and little stays in memory.
func onDisk(t *testing.T, dir string, change ...func(*QueueConfig)) *queue {
	t.Helper()
	q := newQueue(with(func(c *QueueConfig) {
		c.MaxBytes = 1 << 20
		for _, f := range change {
			f(c)
		}
	}))
	if err := q.openStore(dir, nil, epoch); err != nil {
		t.Fatal(err)
	}
	return q
}

func TestQueueOutlivesTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bridge", "plant")
	q := onDisk(t, dir)
	m := named("m")
	want := Message{Topic: "a/b", Payload: []byte{0, 1, 255}, QoS: 2, Retain: true}
	q.push(want, m, epoch)
	q.push(numbered(1, 1), m, epoch)
	gen := q.begin(nil)
	// On the present connection they stay in memory, unless the map is durable.
	q.push(numbered(2, 1), m, epoch)
	q.push(numbered(3, 1), named("d", func(m *Map) { m.Durable = true }), epoch)
	first, _ := takeOne(q, gen)
	if first.Topic != want.Topic || !bytes.Equal(first.Payload, want.Payload) || first.QoS != 2 || !first.Retain {
		t.Errorf("took %+v, want %+v", first.Message, want)
	}
	q.ack(gen, []sent{first})

	// What kill -9 leaves behind is what the files have now.
	left := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	killed := onDisk(t, left)
	if got, want := drainTopics(killed, killed.begin(nil)), []string{"1", "3"}; !sameSet(got, want) {
		t.Errorf("after a kill there are %v, want %v", got, want)
	}
	if err := killed.closeStore(epoch); err != nil {
		t.Error(err)
	}

	// An orderly end keeps everything.
	if err := q.closeStore(epoch); err != nil {
		t.Fatal(err)
	}
	q = onDisk(t, dir)
	if got, want := drainTopics(q, q.begin(nil)), []string{"1", "2", "3"}; !sameSet(got, want) {
		t.Errorf("after an orderly end there are %v, want %v", got, want)
	}
	if d := q.depth(); d.messages != 0 || d.bytes != 0 {
		t.Errorf("%+v left", d)
	}
	if err := q.closeStore(epoch); err != nil {
		t.Error(err)
	}
}

func sameSet(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// TestAgesAcrossARestart: a clock that was set back, or far ahead while the
// gateway was down, as far as anybody can tell.
func TestAgesAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	q := onDisk(t, dir)
	q.push(numbered(1, 1), nil, epoch)
	if err := q.closeStore(epoch); err != nil {
		t.Fatal(err)
	}
	q = newQueue(DefaultQueue())
	earlier := epoch.Add(-1000 * time.Hour)
	if err := q.openStore(dir, nil, earlier); err != nil {
		t.Fatal(err)
	}
	if d := q.depth(); d.messages != 1 || !d.oldest.Equal(earlier) {
		t.Errorf("%+v, want one message of no age", d)
	}
	if err := q.closeStore(epoch); err != nil {
		t.Error(err)
	}
}

// TestMuchWaits: what is beyond spillAt is on disk only, in order, and nothing
// is lost of it.
func TestMuchWaits(t *testing.T) {
	q := onDisk(t, t.TempDir(), func(c *QueueConfig) { c.MaxBytes = 32 << 20 })
	gen := q.begin(nil)
	var want []string
	for i := range 5000 {
		want = append(want, fmt.Sprint(i))
		q.push(Message{Topic: fmt.Sprint(i), Payload: make([]byte, 1000), QoS: 1}, nil, epoch)
	}
	if q.memory > spillAt {
		t.Errorf("%d bytes in memory", q.memory)
	}
	if got := drainTopics(q, gen); !slices.Equal(got, want) {
		t.Errorf("%d came out, or not in order", len(got))
	}
	if err := q.closeStore(epoch); err != nil {
		t.Error(err)
	}
}

// TestDiskFull: what comes while the disk is full waits in memory, within its
// bound, and goes to the disk when there is room again.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		fs := &flakyFS{dir: diskAt(t, path)}
		q := newQueue(with(func(c *QueueConfig) { c.MaxBytes, c.Memory = 1<<20, 6<<10 }))
		if err := q.load(fs, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			q.commit(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		big := func(i int) Message { return Message{Topic: fmt.Sprint(i), Payload: make([]byte, 900), QoS: 1} }
		push := func(i int) int {
			n, _ := q.push(big(i), nil, time.Now()).count()
			return n
		}
		for i := range 20 {
			push(i)
		}
		fs.full.Store(true)
		lost := 0
		for i := 20; i < 40; i++ {
			lost += push(i)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if d := q.depth(); d.disk.err == nil || lost < 10 || d.messages != 40-lost {
			t.Errorf("%+v, %d lost: what does not fit into memory is lost, and no more", d, lost)
		}
		fs.full.Store(false)
		<-time.After(3 * time.Second)
		synctest.Wait()
		if d := q.depth(); d.disk.err != nil {
			t.Errorf("the disk has room again: %v", d.disk.err)
		}
		push(40)
		cancel()
		<-done
		if s := log.String(); strings.Count(s, "disk fails") != 1 || strings.Count(s, "works again") != 1 {
			t.Errorf("log:\n%s", s)
		}
		// A start from what the files have now, as after kill -9.
		after := newQueue(DefaultQueue())
		if err := after.load(&flakyFS{dir: fs.dir}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		got := drainTopics(after, after.begin(nil))
		if len(got) != 41-lost || got[0] != "0" || got[len(got)-1] != "40" {
			t.Errorf("on disk are %v, %d lost", got, lost)
		}
		for _, q := range []*queue{q, after} {
			if err := q.closeStore(time.Now()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSyncsInGroups counts what a hundred thousand messages cost the disk.
func TestSyncsInGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := onDisk(t, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			q.commit(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)))
		}()
		gen := q.begin(nil)
		m := named("m", func(m *Map) { m.Durable = true })
		const n, size = 1000, 100
		for range n {
			<-time.After(time.Millisecond)
			q.push(Message{Topic: "a/b", Payload: make([]byte, size), QoS: 1}, m, time.Now())
			s, _ := takeOne(q, gen)
			q.ack(gen, []sent{s})
		}
		<-time.After(time.Second)
		synctest.Wait()
		d := q.depth()
		if each := float64(d.disk.written) / n; each > size+80 {
			t.Errorf("%.0f bytes on disk for each message of %d", each, size)
		}
		if d.disk.syncs > n/20+5 {
			t.Errorf("%d times synced for %d messages in a second", d.disk.syncs, n)
		}
		t.Logf("%d messages: %d bytes, %d syncs", n, d.disk.written, d.disk.syncs)
		cancel()
		<-done
		if err := q.closeStore(time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzSpooled(f *testing.F) {
	f.Add(spooled{"lane", epoch, Message{Topic: "a/b", Payload: []byte("x"), QoS: 2, Retain: true}}.append(nil))
	f.Add(spooled{"", epoch, Message{Topic: "a"}}.append(nil))
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeSpooled(b)
		if err != nil {
			return
		}
		again, err := decodeSpooled(r.append(nil))
		if err != nil || again.lane != r.lane || !again.at.Equal(r.at) || again.Topic != r.Topic || !bytes.Equal(again.Payload, r.Payload) {
			t.Errorf("%+v became %+v: %v", r, again, err)
		}
	})
}
