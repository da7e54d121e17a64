package router

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/spool"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// diskConfig is a realm with a history on disk.
func diskConfig() Config {
	cfg := openConfig()
	cfg.Realms[0].History = []HistoryConfig{{URI: "com.", Match: "prefix", Limit: 100, Bytes: 1 << 20, Disk: true}}
	return cfg
}

// keeping starts a router with its history in dir. stop ends it.
func keeping(t *testing.T, cfg Config, dir string) (r *Router, stop func()) {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := r.KeepHistory(dir); err != nil {
		stop()
		t.Fatal(err)
	}
	return r, stop
}

// history asks for the arguments of all events of the first subscription.
func (p *peer) history(request wamp.ID) []any {
	p.tb.Helper()
	payload, err := wamp.NewPayload(codec.CBOR, wamp.List{1}, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.send(&wamp.Call{Request: request, Procedure: "wamp.subscription.get_events", Payload: payload})
	events, _, err := expect[*wamp.Result](p).Payload.Values()
	if err != nil {
		p.tb.Fatal(err)
	}
	out := []any{}
	for _, e := range events {
		out = append(out, wamp.AsList(e.(map[string]any), "args")[0])
	}
	return out
}

func (p *peer) tell(request wamp.ID, value any) {
	p.tb.Helper()
	payload, err := wamp.NewPayload(codec.CBOR, wamp.List{value}, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.send(&wamp.Publish{Request: request, Topic: "com.a", Options: wamp.PublishOptions{Acknowledge: true}, Payload: payload})
	expect[*wamp.Published](p)
}

// written waits until nothing waits for the disk.
func written(t *testing.T, r *Router) {
	t.Helper()
	for r.Stats().Realms["realm1"].HistoryUnwritten > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("it is not written")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestHistoryOnDisk: the events are there after a restart, and go on.
func TestHistoryOnDisk(t *testing.T) {
	dir := t.TempDir()
	r, stop := keeping(t, diskConfig(), dir)
	p := pipe(t, r, codec.CBOR).joins()
	p.tell(1, "one")
	p.tell(2, "two")
	stop()

	// The next has room for fewer; what does not fit goes from the disk as well.
	cfg := diskConfig()
	cfg.Realms[0].History[0].Limit = 2
	r, stop = keeping(t, cfg, dir)
	p = pipe(t, r, codec.CBOR).joins()
	if got, want := p.history(1), []any{"one", "two"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the restart: %v, want %v", got, want)
	}
	p.tell(2, "three")
	stop()

	r, stop = keeping(t, diskConfig(), dir)
	p = pipe(t, r, codec.CBOR).joins()
	if got, want := p.history(1), []any{"two", "three"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after another: %v, want %v", got, want)
	}
	if st := r.Stats().Realms["realm1"]; st.HistoryEvents != 2 || st.HistoryDiskBytes == 0 || st.HistoryLost != 0 {
		t.Errorf("%+v", st)
	}
	// Two gateways do not write into one another's files.
	if other, err := New(diskConfig()); err != nil {
		t.Error(err)
	} else {
		if err := other.KeepHistory(dir); err == nil || !strings.Contains(err.Error(), `history of realm "realm1"`) {
			t.Errorf("a second router: %v", err)
		}
		_ = other.Shutdown(t.Context())
	}
	stop()
}

// TestHistoryKilled: the files as they are at any moment after an event was
// written have it, also when the last record is cut anywhere.
func TestHistoryKilled(t *testing.T) {
	dir := t.TempDir()
	r, stop := keeping(t, diskConfig(), dir)
	p := pipe(t, r, codec.CBOR).joins()
	p.tell(1, "one")
	written(t, r)
	size := func() int64 {
		files, err := filepath.Glob(filepath.Join(dir, "realm1", "*.spool"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files %q, %v", files, err)
		}
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	first := size()
	p.tell(2, "two")
	written(t, r)
	image, err := os.ReadFile(filepath.Join(dir, "realm1", "0000000000000001.spool"))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for _, cut := range []int{0, 1, 10, len(image) - int(first) - 1} {
		copied := t.TempDir()
		if err := os.Mkdir(filepath.Join(copied, "realm1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, "realm1", "0000000000000001.spool"), image[:len(image)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, stop := keeping(t, diskConfig(), copied)
		want := []any{"one", "two"}
		if cut > 0 {
			want = want[:1]
		}
		if got := pipe(t, r, codec.CBOR).joins().history(1); !reflect.DeepEqual(got, want) {
			t.Errorf("cut by %d bytes: %v, want %v", cut, got, want)
		}
		stop()
	}
}

// TestHistoryDiskFails: without its disk a history goes on in memory, counted
// and in the log.
func TestHistoryDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := start(t, diskConfig())
		if err := r.KeepHistory(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		j := r.hall("realm1").journal
		if err := errors.Join(j.log.Close(), j.dir.Close()); err != nil { // as when the disk is gone
			t.Fatal(err)
		}
		p := pipe(t, r, codec.CBOR).joins()
		p.tell(1, "one")
		p.tell(2, "two")
		synctest.Wait()
		if got := p.history(3); !reflect.DeepEqual(got, []any{"one", "two"}) {
			t.Errorf("in memory: %v", got)
		}
		if st := r.Stats().Realms["realm1"]; st.HistoryLost != 2 || st.HistoryFailing != 1 || log.count("history cannot be written to disk") != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestHistoryExpired: an event's number is not used again when all events are
// gone, else the new one would be gone with the old one's end.
func TestHistoryExpired(t *testing.T) {
	dir := t.TempDir()
	cfg := diskConfig()
	r, stop := keeping(t, cfg, dir)
	pipe(t, r, codec.CBOR).joins().tell(1, "one")
	stop()
	cfg.Realms[0].History[0].MaxAge = time.Nanosecond
	_, stop = keeping(t, cfg, dir) // in which the event is too old
	stop()
	r, stop = keeping(t, diskConfig(), dir)
	p := pipe(t, r, codec.CBOR).joins()
	if got := p.history(1); len(got) != 0 {
		t.Errorf("too old, and there: %v", got)
	}
	p.tell(2, "two")
	stop()
	r, stop = keeping(t, diskConfig(), dir)
	if got, want := pipe(t, r, codec.CBOR).joins().history(1), []any{"two"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after all were gone: %v, want %v", got, want)
	}
	stop()
}

// TestHistorySlowDisk: a disk that does not answer costs the queue and no more,
// whatever comes and goes; what does not fit is counted.
func TestHistorySlowDisk(t *testing.T) {
	j := &journal{wake: make(chan struct{}, 1), known: map[uint64]struct{}{}} // nobody writes
	payload := wamp.Payload{Enc: codec.CBOR, Args: make([]byte, 64<<10)}
	const events = 10_000
	for seq := uint64(1); seq <= events; seq++ {
		j.put([]realm.HistoryChange{{Kept: &realm.Kept{Seq: seq, ID: 1, Topic: "com.a", Payload: payload}}})
		j.put([]realm.HistoryChange{{Gone: seq}})
	}
	kept := 0
	for _, c := range j.queue {
		if c.Kept != nil {
			kept++
		}
	}
	if kept == 0 || j.bytes > journalQueue || len(j.queue) != 2*kept || len(j.known) != 0 || j.lost != uint64(events-kept) {
		t.Errorf("%d events of %d bytes in %d changes, %d known, %d lost", kept, j.bytes, len(j.queue), len(j.known), j.lost)
	}
}

// TestHistoryOfRemovedRealm: a realm that is taken out of the configuration
// leaves its files to who has them next, and it finds them when it is back.
func TestHistoryOfRemovedRealm(t *testing.T) {
	dir := t.TempDir()
	both := diskConfig()
	both.Realms = append(both.Realms, both.Realms[0])
	both.Realms[1].Name = "other"
	r, stop := keeping(t, both, dir)
	p := pipe(t, r, codec.CBOR)
	p.send(hello("other"))
	expect[*wamp.Welcome](p)
	p.tell(1, "one")
	if _, err := r.Reload(diskConfig()); err != nil {
		t.Fatal(err)
	}
	d, err := spool.OpenDir(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatalf("the files are not free: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Reload(both); err != nil {
		t.Fatal(err)
	}
	p = pipe(t, r, codec.CBOR)
	p.send(hello("other"))
	expect[*wamp.Welcome](p)
	if got, want := p.history(1), []any{"one"}; !reflect.DeepEqual(got, want) {
		t.Errorf("when it is back: %v, want %v", got, want)
	}
	stop()
}

// TestKeptRecord: what is written is read again, and what is no record is not.
func TestKeptRecord(t *testing.T) {
	level := int64(3)
	payload, err := wamp.NewPayload(codec.JSON, wamp.List{1}, wamp.Dict{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []realm.Kept{
		{At: 5, ID: 1, Topic: "com.a"},
		{
			At: 1 << 60, ID: wamp.MaxID, Topic: "com.a", Payload: payload,
			Details:        wamp.EventDetails{Publisher: 7, PublisherAuthID: "a", PublisherAuthRole: "b", TrustLevel: &level, PPT: wamp.Passthru{Scheme: "x_s", KeyID: "k"}},
			EligibleAuthID: []string{}, ExcludeAuthRole: []string{"guest", "other"},
		},
	} {
		b, err := encodeKept(&k)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeKept(b)
		if err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("%+v, %v, want %+v", got, err, k)
		}
	}
}

// FuzzDecodeKept: nothing on the disk stops the gateway from starting, and what
// is read is written as it was read.
func FuzzDecodeKept(f *testing.F) {
	for _, k := range []realm.Kept{{At: 5, ID: 1, Topic: "com.a"}, {ID: 2, Topic: "com.b", EligibleAuthID: []string{"a"}, Details: wamp.EventDetails{Publisher: 3}}} {
		b, err := encodeKept(&k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKept(b)
		if err != nil {
			return
		}
		first, err := encodeKept(&k)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeKept(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := encodeKept(&again)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%x is written as %x, and then as %x: %v", b, first, second, err)
		}
	})
}
