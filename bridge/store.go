package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/postern-iot/postern/spool"
)

// store is a queue's place on disk. A nil store keeps nothing. But for commit
// its methods are called under the queue's mutex.
type store struct {
	log    *spool.Log
	dir    *spool.Dir
	dirty  chan struct{} // holds a token when there is something to sync
	full   chan struct{} // holds a token when enough waits to be synced
	wrote  int
	most   int
	buf    []byte
	failed error     // of the last write
	retry  time.Time // no write is tried before
	synced error     // of the last sync
	hurt   int       // bytes damaged when the log was opened
}

// diskItem is where an item is on disk.
type diskItem = spool.Entry

// retryDisk is how long a disk that failed is left alone.
const retryDisk = time.Second

// errDiskFails is what an item gets while the disk is left alone.
var errDiskFails = errors.New("the disk failed a moment ago")

// openStore opens a queue's directory and puts what is there into the lanes.
func (q *queue) openStore(dir string, maps map[string]*Map, now time.Time) error {
	d, err := spool.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open the queue's directory: %w", err)
	}
	if err := q.load(d, maps, now); err != nil {
		_ = d.Close() // the first error is the one to tell
		return err
	}
	q.mu.Lock()
	q.store.dir = d
	q.mu.Unlock()
	return nil
}

// load uses a log in fs. Ages count on from what they were when the gateway
// ended; a clock that was set back makes nothing older.
func (q *queue) load(fs spool.FS, maps map[string]*Map, now time.Time) error {
	segment := min(max(int64(q.cfg.MaxBytes)/16, 64<<10), 4<<20)
	log, entries, hurt, err := spool.Open(fs, spool.Options{SegmentBytes: segment, MaxBytes: int64(q.cfg.MaxBytes) + 4*segment})
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.store = &store{log: log, dirty: make(chan struct{}, 1), full: make(chan struct{}, 1), most: q.cfg.Fsync.Messages, hurt: hurt}
	q.nextID = max(q.nextID, log.Last()+1)
	for _, e := range entries {
		data, err := log.Read(e)
		if err == nil {
			var r spooled
			if r, err = decodeSpooled(data); err == nil {
				l := q.lanes[r.lane]
				if l == nil {
					m := maps[r.lane]
					l = newLane(r.lane, m)
					q.lanes[r.lane] = l
				}
				it := item{id: e.Seq, size: r.size(), at: now.Add(-max(0, now.Sub(r.at))), qos: r.QoS, entry: e}
				if r.Retain {
					it.topic = hashString(r.Topic)
					q.retained[it.topic]++
				}
				q.insert(l, it)
				continue
			}
		}
		q.store.hurt += e.Size()
		log.Done(e)
	}
	return nil
}

// add writes an item.
func (s *store) add(it *item, lane string, now time.Time) error {
	if s.failed != nil && now.Before(s.retry) {
		return errDiskFails
	}
	s.buf = spooled{lane, it.at, *it.body}.append(s.buf[:0])
	e, err := s.log.Append(it.id, s.buf)
	if s.failed = err; err != nil {
		s.retry = now.Add(retryDisk)
		return err
	}
	it.entry = e
	s.wrote++
	notify(s.dirty)
	if s.wrote >= s.most {
		notify(s.full)
	}
	return nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// body reads an item that only the disk has.
func (s *store) body(it *item) (Message, error) {
	data, err := s.log.Read(it.entry)
	if err != nil {
		return Message{}, err
	}
	r, err := decodeSpooled(data)
	return r.Message, err
}

func (s *store) done(it *item) {
	if s != nil && it.entry != nil {
		s.log.Done(it.entry)
	}
}

// flush writes what is done, so that the end of the process does not repeat it.
func (s *store) flush() {
	if s != nil {
		_ = s.log.Flush() // it stays to be written; at worst it is sent again
	}
}

// diskState is what is known of the disk.
type diskState struct {
	used    bool
	bytes   int64
	written uint64
	syncs   uint64
	hurt    int
	err     error
}

func (s *store) state() diskState {
	if s == nil {
		return diskState{}
	}
	st := s.log.Stats()
	return diskState{true, st.Bytes, st.Written, st.Syncs, s.hurt, errors.Join(s.failed, s.synced)}
}

// commit syncs in groups until ctx ends: when every has passed since the first
// message that is not synced, or when there are enough of them. While the disk
// fails it tries to write what is in memory only.
func (q *queue) commit(ctx context.Context, log *slog.Logger) {
	q.mu.Lock()
	s := q.store
	q.mu.Unlock()
	if s == nil {
		return
	}
	var told string
	for {
		again := time.NewTimer(retryDisk)
		select {
		case <-s.dirty:
			timer := time.NewTimer(q.cfg.Fsync.Every)
			select {
			case <-timer.C:
			case <-s.full:
			case <-ctx.Done():
			}
			timer.Stop()
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		q.mu.Lock()
		s.wrote = 0
		if s.failed != nil && !time.Now().Before(s.retry) {
			s.failed = nil
			q.spill(time.Now())
		}
		q.mu.Unlock()
		err := s.log.Sync()
		q.mu.Lock()
		s.synced = err
		err = errors.Join(s.failed, s.synced)
		q.mu.Unlock()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			log.Error("the queue's disk fails; messages wait in memory, as far as that goes", "error", err)
		case err == nil && told != "":
			told = ""
			log.Info("the queue's disk works again")
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// closeStore writes what waits and gives the directory free.
func (q *queue) closeStore(now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.store
	if s == nil {
		return nil
	}
	s.failed = nil
	q.spill(now)
	err := errors.Join(s.failed, s.log.Close())
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	q.store = nil
	q.lanes, q.turn, q.count, q.bytes, q.memory = map[string]*lane{}, nil, 0, 0, 0
	q.retained = map[uint64]int{}
	return err
}

// queueDir is the directory of a broker's queue.
func queueDir(state, broker string) string { return filepath.Join(state, broker) }

// spooled is a message as it is on disk:
//
//	version  1 byte   1
//	flags    1 byte   QoS, and 4 for retained
//	at       varint   milliseconds since 1970, UTC
//	lane     uvarint length, bytes
//	topic    uvarint length, bytes
//	payload           the rest
type spooled struct {
	lane string
	at   time.Time
	Message
}

const (
	spoolVersion = 1
	spoolRetain  = 4
)

func (r spooled) append(b []byte) []byte {
	flags := r.QoS
	if r.Retain {
		flags |= spoolRetain
	}
	b = append(b, spoolVersion, flags)
	b = binary.AppendVarint(b, r.at.UnixMilli())
	for _, s := range []string{r.lane, r.Topic} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return append(b, r.Payload...)
}

var errSpooled = errors.New("a message in the queue on disk cannot be read")

func decodeSpooled(b []byte) (r spooled, err error) {
	if len(b) < 2 || b[0] != spoolVersion || b[1]&^(3|spoolRetain) != 0 || b[1]&3 == 3 {
		return r, errSpooled
	}
	r.QoS, r.Retain = b[1]&3, b[1]&spoolRetain != 0
	ms, n := binary.Varint(b[2:])
	if n <= 0 {
		return r, errSpooled
	}
	r.at, b = time.UnixMilli(ms), b[2+n:]
	for _, s := range []*string{&r.lane, &r.Topic} {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return r, errSpooled
		}
		*s, b = string(b[n:n+int(length)]), b[n+int(length):]
	}
	if !validTopic(r.Topic) {
		return r, errSpooled
	}
	r.Payload = b
	return r, nil
}
