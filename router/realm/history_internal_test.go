package realm

import (
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
)

func TestTimes(t *testing.T) {
	for _, text := range []string{
		"1970-01-01T00:00:00Z", "2026-01-31T12:30:05.123Z", "2024-02-29T23:59:59.999999999+05:30",
		"2100-03-01T00:00:00-11:00", "2000-12-31T23:59:59Z", "2026-1-31T12:00:00Z", "2026-02-29T00:00:00Z",
		"2026-01-31", "", "2026-01-31T24:00:00Z", "2026-01-31T12:00:00", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00+0100",
	} {
		want, err := time.Parse(time.RFC3339Nano, text)
		got, ok := parseTime(text)
		if ok != (err == nil) || ok && int64(got) != want.UnixNano() {
			t.Errorf("%q: %d %v, want %d %v", text, got, ok, want.UnixNano(), err)
		}
		if ok {
			if got, want := got.iso8601(), want.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
				t.Errorf("%q is written as %q, want %q", text, got, want)
			}
		}
	}
}

// FuzzParseTime compares with the standard library, which accepts a little less
// in some places and more in others.
func FuzzParseTime(f *testing.F) {
	f.Add("2026-01-31T12:30:05.123Z")
	f.Add("2024-02-29T23:59:59.9+05:30")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseTime(text)
		want, err := time.Parse(time.RFC3339Nano, text)
		if ok && err == nil && int64(got) != want.UnixNano() {
			t.Errorf("%q: %d, want %d", text, got, want.UnixNano())
		}
	})
}

// TestHistoryTimes asks with a timestamp from an answer, which is shorter than
// the event's own.
func TestHistoryTimes(t *testing.T) {
	var kept []*record
	for i := range 3 {
		kept = append(kept, &record{publication: publication{id: wamp.ID(i + 1)}, at: Time(i)*1e9 + 123_456_789})
	}
	for key, want := range map[string]int{"from_time": 2, "after_time": 1, "before_time": 1, "until_time": 2} {
		q, fault := newHistoryQuery(wamp.Dict{key: kept[1].at.iso8601()}, kept)
		if fault != nil {
			t.Fatal(fault)
		}
		n := 0
		for _, rec := range kept {
			if q.includes(rec) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d events, want %d", key, n, want)
		}
	}
}

func TestHistoryBounds(t *testing.T) {
	h := &history{most: 10, limit: 1000}
	for i := range 1000 {
		new(Realm).preserve(h, &record{publication: publication{id: wamp.ID(i + 1)}, size: 30 + i%200})
		if n := len(h.kept()); n == 0 || n > 10 || h.bytes > 1000 || len(h.events) > 21 {
			t.Fatalf("after %d events: %d with %d bytes in %d", i+1, n, h.bytes, len(h.events))
		}
		if last := h.kept()[len(h.kept())-1].id; last != wamp.ID(i+1) {
			t.Fatalf("the last event is %d, want %d", last, i+1)
		}
		size := 0
		for _, rec := range h.kept() {
			size += rec.size
		}
		if size != h.bytes {
			t.Fatalf("%d bytes are counted of %d", h.bytes, size)
		}
	}
	new(Realm).preserve(h, &record{size: 1001})
	if len(h.kept()) == 0 {
		t.Error("an event that is too large took the others with it")
	}
}
