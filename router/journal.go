package router

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/spool"
)

// journal is the histories of one realm on disk. The realm's effects put changes
// into its queue; one goroutine writes them, so that nobody waits for the disk. It
// ends with close. An event is in its file a moment after it was published, and
// survives the process's being killed then; a power cut may cost what came in
// the last syncEvery.
type journal struct {
	dir *spool.Dir
	log *spool.Log
	to  *slog.Logger

	// The goroutine's: what is on disk, by sequence number, and whether the last
	// write has failed.
	entries map[uint64]*spool.Entry
	stuck   bool

	wake   chan struct{}
	ending chan struct{}
	ended  chan struct{}
	closed sync.Once

	mu      sync.Mutex
	over    bool                // nothing is taken any more
	known   map[uint64]struct{} // events that were taken and are not gone
	queue   []realm.HistoryChange
	bytes   int // of the queue
	writing int // changes that were taken off the queue and are being written
	onDisk  int64
	lost    uint64
	failing error
}

const (
	// syncEvery is how often the disk is asked to keep what was written.
	syncEvery = 5 * time.Second
	// journalQueue bounds what waits for a slow disk. Events beyond it are not
	// written.
	journalQueue = 4 << 20
	// journalOverhead is what an event costs in the queue, roughly.
	journalOverhead = 512
)

// openJournal opens the files of a realm's histories and puts what is there into
// its core, into which nobody has come yet.
func openJournal(dir string, c *RealmConfig, core *realm.Realm, log *slog.Logger) (*journal, error) {
	d, err := spool.OpenDir(filepath.Join(dir, directoryOf(c.Name)))
	if err != nil {
		return nil, fmt.Errorf("history of realm %q: %w", c.Name, err)
	}
	most := int64(0)
	for _, h := range c.History {
		if h.Disk {
			most += int64(h.Bytes)
		}
	}
	segment := min(max(most/16, 64<<10), 4<<20)
	l, entries, damaged, err := spool.Open(d, spool.Options{SegmentBytes: segment, MaxBytes: most + 4*segment})
	if err != nil {
		_ = d.Close() // the first error is the one to tell
		return nil, fmt.Errorf("history of realm %q: %w", c.Name, err)
	}
	j := &journal{
		dir: d, log: l, to: log.With("realm", c.Name),
		entries: map[uint64]*spool.Entry{}, known: map[uint64]struct{}{},
		wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	var events []realm.Kept
	for _, e := range entries {
		data, err := l.Read(e)
		var k realm.Kept
		if err == nil {
			k, err = decodeKept(data)
		}
		if err != nil {
			damaged += e.Size()
			l.Done(e)
			continue
		}
		k.Seq = e.Seq
		j.entries[e.Seq] = e
		events = append(events, k)
	}
	if damaged > 0 {
		j.to.Warn("the history's files are damaged; the rest is there", "bytes", damaged, "events", len(events))
	}
	core.Restore(events, l.Last(), now())
	for seq := range j.entries {
		j.known[seq] = struct{}{}
	}
	j.put(core.TakeChanges())
	j.onDisk = l.Stats().Bytes
	go j.run()
	return j, nil
}

// KeepHistory has the histories that are to be on disk kept in files under dir,
// and puts back what is there. It is called once, before the first session joins;
// until then, and where the error says so, histories are in memory only.
func (r *Router) KeepHistory(dir string) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.historyDir = dir
	var errs []error
	for i := range r.cfg.Realms {
		c := &r.cfg.Realms[i]
		errs = append(errs, r.hall(c.Name).keepHistory(r, c))
	}
	return errors.Join(errs...)
}

// keepHistory opens the realm's journal, if it is to have one.
func (h *hall) keepHistory(r *Router, c *RealmConfig) error {
	if r.historyDir == "" || !h.core.KeepsOnDisk() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock() // nobody else wants it yet
	j, err := openJournal(r.historyDir, c, h.core, r.log)
	if err == nil {
		h.journal = j
	}
	return err
}

// closeJournal ends the realm's journal, after which histories are in memory only.
func (h *hall) closeJournal() {
	h.mu.Lock()
	j := h.journal
	h.mu.Unlock()
	if j != nil {
		j.close()
	}
}

// directoryOf is the name of a realm's directory.
func directoryOf(realmName string) string {
	if name := url.PathEscape(realmName); len(name) <= 128 {
		return name
	}
	sum := sha256.Sum256([]byte(realmName))
	return hex.EncodeToString(sum[:])
}

// put takes changes, and never waits for the disk. Of an event for which there is
// no room neither the beginning nor the end is taken, so that a disk which does
// not answer costs journalQueue at most.
func (j *journal) put(changes []realm.HistoryChange) {
	if len(changes) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	for _, c := range changes {
		if c.Kept == nil {
			if _, taken := j.known[c.Gone]; !taken {
				continue
			}
			delete(j.known, c.Gone)
		} else {
			size := sizeOf(c.Kept)
			if j.bytes+size > journalQueue {
				j.lost++
				continue
			}
			j.bytes += size
			j.known[c.Kept.Seq] = struct{}{}
		}
		j.queue = append(j.queue, c)
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// sizeOf is what an event costs in the queue.
func sizeOf(k *realm.Kept) int { return journalOverhead + len(k.Topic) + k.Payload.Size() }

// run writes what is in the queue until the end.
func (j *journal) run() {
	defer close(j.ended)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-j.wake:
			j.write()
		case <-tick.C:
			if err := j.log.Sync(); err != nil || !j.stuck {
				j.failed(err)
			}
		case <-j.ending:
			j.write()
			if err := j.log.Close(); err != nil {
				j.failed(err)
			}
			_ = j.dir.Close() // nothing is written any more
			return
		}
	}
}

// write writes the queue. What it has taken is off the account at once, so what
// waits in the queue and what is being written are bounded each.
func (j *journal) write() {
	j.mu.Lock()
	batch := j.queue
	j.queue, j.bytes, j.writing = nil, 0, len(batch)
	j.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	var failure error
	lost := uint64(0)
	for _, c := range batch {
		if err := j.apply(c); err != nil {
			failure = err
			lost++
		}
	}
	if err := j.log.Flush(); failure == nil {
		failure = err
	}
	j.stuck = failure != nil
	j.failed(failure)
	size := j.log.Stats().Bytes
	j.mu.Lock()
	j.onDisk, j.writing = size, 0
	j.lost += lost
	j.mu.Unlock()
}

// apply writes one change. The error is of an event that is not on disk now.
func (j *journal) apply(c realm.HistoryChange) error {
	if c.Kept == nil {
		if e := j.entries[c.Gone]; e != nil {
			delete(j.entries, c.Gone)
			j.log.Done(e)
		}
		return nil
	}
	data, err := encodeKept(c.Kept)
	if err != nil {
		return err
	}
	e, err := j.log.Append(c.Kept.Seq, data)
	if err == nil {
		j.entries[c.Kept.Seq] = e
	}
	return err
}

// failed notes how the disk is, and logs it when that changes.
func (j *journal) failed(err error) {
	j.mu.Lock()
	was := j.failing
	j.failing = err
	j.mu.Unlock()
	switch {
	case err != nil && was == nil:
		j.to.Error("the history cannot be written to disk; it goes on in memory", "reason", err)
	case err == nil && was != nil:
		j.to.Info("the history is written to disk again")
	}
}

// close writes what is left, and waits for the goroutine.
func (j *journal) close() {
	j.closed.Do(func() {
		j.mu.Lock()
		j.over = true
		j.mu.Unlock()
		close(j.ending)
	})
	<-j.ended
}

// stats adds what is known of the disk.
func (j *journal) stats(st *RealmStats) {
	j.mu.Lock()
	defer j.mu.Unlock()
	st.HistoryDiskBytes = int(j.onDisk)
	st.HistoryUnwritten, st.HistoryLost = len(j.queue)+j.writing, j.lost
	if j.failing != nil {
		st.HistoryFailing = 1
	}
}
