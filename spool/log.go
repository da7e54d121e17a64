package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Entry is one message in the log.
type Entry struct {
	Seq uint64

	seg  *segment
	at   int64 // of the record
	size int   // of the record
	done bool
}

// Size is what the entry takes on disk, in bytes.
func (e *Entry) Size() int { return e.size }

type segment struct {
	number uint64
	file   File
	size   int64
	live   []*Entry // in the order of the file; those done are cut off at the front
}

// Options bound a log.
type Options struct {
	// SegmentBytes is the size at which a new segment begins.
	SegmentBytes int64
	// MaxBytes is how much the files may take before what keeps old ones is
	// written anew: a target, which one segment may go beyond.
	MaxBytes int64
}

// Log is an open log.
type Log struct {
	fs   FS
	opts Options
	salt salt

	mu       sync.Mutex
	segments []*segment // the last is written to; nil for one that could not be made
	bytes    int64
	pending  []uint64 // done, and not written yet
	buf      []byte
	dirty    bool // something is written and not synced
	rotate   bool // the last segment's disk has failed
	last     uint64

	syncing sync.Mutex // one Sync at a time
	written uint64
	syncs   uint64
}

// Stats are what a log has done since it was opened.
type Stats struct {
	Bytes    int64  // on disk now
	Segments int    // files
	Written  uint64 // bytes
	Syncs    uint64 // calls of fsync
}

const suffix = ".spool"

// Open reads what is in the log. It returns the entries that are not done, by
// their sequence numbers, and how many bytes were damaged; a record cut off at
// the end of the log is no damage.
func Open(fs FS, opts Options) (l *Log, entries []*Entry, damaged int, err error) {
	names, err := fs.List()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("read the directory of the log: %w", err)
	}
	l = &Log{fs: fs, opts: opts}
	_, _ = rand.Read(l.salt[:]) // never fails
	var numbers []uint64
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, suffix); ok && len(base) == 16 {
			if n, err := strconv.ParseUint(base, 16, 64); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	found, done := map[uint64]*Entry{}, map[uint64]bool{}
	var files [][]byte
	for i := range numbers {
		b, err := fs.Read(name(numbers[i]))
		if err != nil {
			return nil, nil, 0, fmt.Errorf("read %s: %w", name(numbers[i]), err)
		}
		if s, ok := parseHeader(b); ok {
			l.salt = s
		}
		files = append(files, b)
	}
	for i, n := range numbers {
		hurt, err := l.load(n, files[i], found, done)
		if err != nil {
			l.closeAll()
			return nil, nil, 0, err
		}
		damaged += hurt
	}
	for seq, e := range found {
		if !done[seq] {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *Entry) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	for _, e := range entries {
		e.seg.live = append(e.seg.live, e)
	}
	for _, s := range l.segments {
		slices.SortFunc(s.live, func(a, b *Entry) int { return int(a.at - b.at) })
	}
	l.trim()
	return l, entries, damaged, nil
}

func name(n uint64) string { return fmt.Sprintf("%016x%s", n, suffix) }

// load reads one segment. The newest copy of an entry counts.
func (l *Log) load(n uint64, b []byte, found map[uint64]*Entry, done map[uint64]bool) (damaged int, err error) {
	if len(b) < headerSize {
		return 0, l.fs.Remove(name(n)) // cut off before its first record
	}
	_, whole := parseHeader(b)
	l.rotate = !whole // nothing is added where it might not be found again
	s := &segment{number: n}
	end, damaged := l.salt.scan(b, func(at int, kind byte, body []byte) {
		if kind == kindDone {
			for ; len(body) >= 8; body = body[8:] {
				seq := binary.LittleEndian.Uint64(body)
				done[seq], l.last = true, max(l.last, seq)
			}
			return
		}
		seq := binary.LittleEndian.Uint64(body)
		l.last = max(l.last, seq)
		found[seq] = &Entry{Seq: seq, seg: s, at: int64(at), size: prefixSize + len(body)}
	})
	if s.file, err = l.fs.Open(name(n)); err != nil {
		return 0, fmt.Errorf("open %s: %w", name(n), err)
	}
	s.size = int64(end)
	if end < len(b) {
		_ = s.file.Truncate(s.size) // else it is written over
	}
	l.segments = append(l.segments, s)
	l.bytes += s.size
	return damaged, nil
}

// Append writes one message. Sequence numbers must be new, and not zero.
func (l *Log) Append(seq uint64, data []byte) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Entry{Seq: seq, size: Overhead + len(data)}
	l.buf = l.buf[:0]
	if len(l.pending) > 0 {
		l.buf = l.salt.appendDone(l.buf, l.pending)
	}
	offset := len(l.buf)
	l.buf = l.salt.appendData(l.buf, seq, data)
	at, err := l.write(l.buf)
	if err != nil {
		return nil, err
	}
	l.pending = l.pending[:0]
	e.at = at + int64(offset)
	e.seg = l.segments[len(l.segments)-1]
	e.seg.live = append(e.seg.live, e)
	l.last = max(l.last, seq)
	l.compact()
	return e, nil
}

// write appends b to the last segment, or to a new one.
func (l *Log) write(b []byte) (at int64, err error) {
	n := len(l.segments)
	if n == 0 || l.rotate || l.segments[n-1].size+int64(len(b)) > l.opts.SegmentBytes && l.segments[n-1].size > int64(headerSize) {
		if err := l.extend(); err != nil {
			return 0, err
		}
		n = len(l.segments)
	}
	s := l.segments[n-1]
	// What an earlier failure left behind the end is written over.
	if _, err := s.file.WriteAt(b, s.size); err != nil {
		_ = s.file.Truncate(s.size) // gives the space back; a torn record is no harm
		return 0, fmt.Errorf("write to the log on disk: %w", err)
	}
	at = s.size
	s.size += int64(len(b))
	l.bytes += int64(len(b))
	l.written += uint64(len(b))
	l.dirty = true
	return at, nil
}

// extend begins a new segment. What the one before has is synced first, so that
// only the last one can have a torn end.
func (l *Log) extend() error {
	next := uint64(1)
	if n := len(l.segments); n > 0 {
		if l.dirty {
			if err := l.segments[n-1].file.Sync(); err != nil {
				return fmt.Errorf("sync the log on disk: %w", err)
			}
			l.syncs++
		}
		next = l.segments[n-1].number + 1
	}
	f, err := l.fs.Open(name(next))
	if err != nil {
		return fmt.Errorf("make a file for the log on disk: %w", err)
	}
	if _, err = f.WriteAt(appendHeader(nil, l.salt), 0); err == nil {
		err = l.fs.Sync()
	}
	if err != nil {
		_ = f.Close()
		_ = l.fs.Remove(name(next)) // what is left of it has no records
		return fmt.Errorf("make a file for the log on disk: %w", err)
	}
	l.rotate = false
	l.segments = append(l.segments, &segment{number: next, file: f, size: int64(headerSize)})
	l.bytes += int64(headerSize)
	return nil
}

// maxPending is how many messages that are done may wait to be written.
const maxPending = 1024

// Done removes entries. It is written with the next Append or Sync, or by Flush.
func (l *Log) Done(entries ...*Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		if !e.done {
			e.done = true
			l.pending = append(l.pending, e.Seq)
		}
	}
	if len(l.pending) >= maxPending {
		_ = l.flush() // tried again with the next
	}
	l.trim()
}

// Flush writes what is done, so that the end of the process does not undo it.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

func (l *Log) flush() error {
	if len(l.pending) == 0 {
		return nil
	}
	l.buf = l.salt.appendDone(l.buf[:0], l.pending)
	if _, err := l.write(l.buf); err != nil {
		return err
	}
	l.pending = l.pending[:0]
	return nil
}

// trim removes the oldest segments that nobody wants. The last one stays. Only
// the oldest may go: what is done in it may have its data in an older one.
func (l *Log) trim() {
	for len(l.segments) > 0 {
		s := l.segments[0]
		for len(s.live) > 0 && s.live[0].done {
			s.live[0] = nil
			s.live = s.live[1:]
		}
		if len(s.live) > 0 || len(l.segments) == 1 {
			return
		}
		l.drop()
	}
}

func (l *Log) drop() {
	s := l.segments[0]
	_ = s.file.Close()              // everything in it is done
	_ = l.fs.Remove(name(s.number)) // if it stays, it is found at the next start
	l.segments = slices.Delete(l.segments, 0, 1)
	l.bytes -= s.size
}

// compact writes the wanted rest of the oldest segment anew when the files take
// too much for what is in them. One segment at a time is enough to keep up.
func (l *Log) compact() {
	if l.bytes <= l.opts.MaxBytes || len(l.segments) < 3 {
		return
	}
	s := l.segments[0]
	s.live = slices.DeleteFunc(s.live, func(e *Entry) bool { return e.done })
	size := int64(0)
	for _, e := range s.live {
		size += int64(e.size)
	}
	if size > s.size/2 && l.bytes <= 2*l.opts.MaxBytes {
		return // little is to be won
	}
	for len(s.live) > 0 {
		e := s.live[0]
		data, err := l.read(e)
		if err != nil {
			return // whoever wants it will be told
		}
		at, err := l.write(l.salt.appendData(nil, e.Seq, data))
		if err != nil {
			return // the disk is full: the old file stays
		}
		e.seg, e.at = l.segments[len(l.segments)-1], at
		e.seg.live = append(e.seg.live, e)
		s.live = s.live[1:]
	}
	if err := l.segments[len(l.segments)-1].file.Sync(); err != nil {
		return // removed after a later Sync
	}
	l.syncs++
	l.drop()
}

// ErrDamaged is wrapped by the error of a Read that does not find what was
// written.
var ErrDamaged = errors.New("the log's file is damaged")

// Read returns an entry's data.
func (l *Log) Read(e *Entry) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read(e)
}

func (l *Log) read(e *Entry) ([]byte, error) {
	b := make([]byte, e.size)
	if _, err := e.seg.file.ReadAt(b, e.at); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, name(e.seg.number), err)
	}
	r := l.salt.parse(b)
	if len(r) != e.size || binary.LittleEndian.Uint64(r[prefixSize:]) != e.Seq {
		return nil, fmt.Errorf("%w: %s at byte %d", ErrDamaged, name(e.seg.number), e.at)
	}
	return r[prefixSize+8:], nil
}

// Sync has the disk keep what is written.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	err := l.flush()
	if err != nil || !l.dirty || len(l.segments) == 0 {
		l.mu.Unlock()
		return err
	}
	f := l.segments[len(l.segments)-1].file
	l.dirty = false
	l.syncs++
	l.mu.Unlock()
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // a file that is gone is done
		// Nobody can say what the disk has kept; what comes now goes elsewhere.
		l.mu.Lock()
		l.dirty, l.rotate = true, true
		l.mu.Unlock()
		return fmt.Errorf("sync the log on disk: %w", err)
	}
	return nil
}

// Last is the highest sequence number that the log has seen.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Bytes: l.bytes, Segments: len(l.segments), Written: l.written, Syncs: l.syncs}
}

// Close syncs and closes the files.
func (l *Log) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.closeAll())
}

func (l *Log) closeAll() error {
	var errs []error
	for _, s := range l.segments {
		errs = append(errs, s.file.Close())
	}
	l.segments = nil
	return errors.Join(errs...)
}
