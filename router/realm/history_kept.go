package realm

import (
	"cmp"
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// Kept is an event of histories on disk, with everything that an answer about it
// needs, now or after a restart. It is not to be changed.
type Kept struct {
	// Seq is the realm's own number of the event; later events have larger ones.
	Seq     uint64
	At      Time // by the wall clock
	ID      wamp.ID
	Topic   string
	Payload wamp.Payload
	Details wamp.EventDetails
	// The lists tell absent (nil) from empty; only those that name no sessions.
	EligibleAuthID, EligibleAuthRole, ExcludeAuthID, ExcludeAuthRole []string
}

// HistoryChange is what has become of histories on disk: an event is kept, or
// the one with the number Gone is not any more.
type HistoryChange struct {
	Kept *Kept
	Gone uint64
}

// KeepsOnDisk reports whether some history is to be on disk.
func (r *Realm) KeepsOnDisk() bool {
	return slices.ContainsFunc(r.histories, func(h *history) bool { return h.disk })
}

// TakeChanges returns the changes since it was called last, in their order.
func (r *Realm) TakeChanges() []HistoryChange {
	all := r.changes
	r.changes = nil
	return all
}

// Restore puts events back into the histories on disk that are there now; it is
// called before the first session joins. Those that no history wants any more are
// among the changes as gone, all others are not. New events are numbered from
// beyond last, the largest number that was ever used.
func (r *Realm) Restore(events []Kept, last uint64, now Time) {
	r.begin(now)
	r.lastKept = max(r.lastKept, last)
	slices.SortStableFunc(events, func(a, b Kept) int { return cmp.Compare(a.Seq, b.Seq) })
	for i := range events {
		k := &events[i]
		rec := &record{at: k.At, seq: k.Seq, publication: publication{
			id: k.ID, topic: k.Topic, payload: k.Payload, details: k.Details, to: k.audience(),
		}}
		rec.size = rec.retainedSize()
		r.lastKept = max(r.lastKept, k.Seq)
		r.matchedSubs = r.subscriptions.appendMatches(r.matchedSubs[:0], k.Topic)
		for _, sub := range r.matchedSubs {
			if sub.history != nil && sub.history.disk {
				r.preserve(sub.history, rec)
			}
		}
		clear(r.matchedSubs)
		if rec.onDisk == 0 {
			r.changes = append(r.changes, HistoryChange{Gone: k.Seq})
		}
	}
}

func (k *Kept) audience() audience {
	if k.EligibleAuthID == nil && k.EligibleAuthRole == nil && len(k.ExcludeAuthID) == 0 && len(k.ExcludeAuthRole) == 0 {
		return audience{}
	}
	return audience{lists: &lists{
		eligibleAuthID: newList(k.EligibleAuthID), eligibleAuthRole: newList(k.EligibleAuthRole),
		excludeAuthID: newList(k.ExcludeAuthID), excludeAuthRole: newList(k.ExcludeAuthRole),
	}}
}

// kept is a record in the form in which it is written.
func (rec *record) kept() *Kept {
	k := &Kept{Seq: rec.seq, At: rec.at, ID: rec.id, Topic: rec.topic, Payload: rec.payload, Details: rec.details}
	if l := rec.to.lists; l != nil {
		k.EligibleAuthID, k.EligibleAuthRole = l.eligibleAuthID.few, l.eligibleAuthRole.few
		k.ExcludeAuthID, k.ExcludeAuthRole = l.excludeAuthID.few, l.excludeAuthRole.few
	}
	return k
}

// Expire drops what histories have kept for longer than they may.
func (r *Realm) Expire(now Time) {
	r.begin(now)
	for _, h := range r.histories {
		r.expire(h)
	}
}

func (r *Realm) expire(h *history) {
	if h.age == 0 {
		return
	}
	for limit := r.wall() - h.age; h.first < len(h.events) && h.events[h.first].at < limit; {
		r.dropOldest(h)
	}
}

// preserve adds an event to a history, in place of as many of the oldest ones as
// it takes. One that is larger than the whole history is not kept.
func (r *Realm) preserve(h *history, rec *record) {
	r.expire(h)
	if rec.size > h.limit || h.age > 0 && rec.at < r.wall()-h.age {
		return
	}
	for h.first < len(h.events) && (len(h.events)-h.first >= h.most || h.bytes+rec.size > h.limit) {
		r.dropOldest(h)
	}
	h.add(rec)
	if h.disk {
		rec.onDisk++
	}
}

// dropOldest takes the first event out of a history.
func (r *Realm) dropOldest(h *history) {
	rec := h.events[h.first]
	h.bytes -= rec.size
	h.events[h.first] = nil
	h.first++
	if !h.disk {
		return
	}
	if rec.onDisk--; rec.onDisk == 0 {
		r.changes = append(r.changes, HistoryChange{Gone: rec.seq})
	}
}
