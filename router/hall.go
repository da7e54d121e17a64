package router

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
)

// hall is one realm with the mutex that everything in it happens under, and
// what carries its effects to the sessions.
type hall struct {
	cfg   realm.Config
	added []Authenticator // by the program
	// oracle asks the realm's dynamic authenticators; it outlives their door.
	oracle *oracle
	// door is how clients get in. It changes under the mutex.
	door atomic.Pointer[door]
	gone chan struct{} // closed when the realm is removed
	// pacing is nil where sessions may send as much as they want. It changes under
	// the mutex.
	pacing            atomic.Pointer[pacing]
	meters            meters // of authids
	slowed, rateEnded atomic.Uint64

	mu       sync.Mutex
	core     *realm.Realm
	sessions int // the most it takes
	perID    int // likewise, with the same authid
	endSlow  bool
	closed   *wamp.Error // why nobody joins any more
	timer    *time.Timer // goes off at armed, for watch
	armed    realm.Time  // 0 when it is not to go off
	journal  *journal    // of histories on disk, nil for none
	latest   realm.Time  // the last one that the core was told
	// reader is the session on whose goroutine the mutex is held, when it will
	// send what it puts into outboxes; nil when that is for writers.
	reader *session
	// What a round of effects leaves to be done: sessions that could not take
	// what they must, and calls that a callee has no room for.
	overflowed []*session
	refused    []refusedCall
	counted    RealmStats
}

type refusedCall struct {
	callee *session
	msg    wamp.Message
}

// lock begins what has effects. reader is the session whose reader calls, nil
// for anybody else.
func (h *hall) lock(reader *session) {
	h.mu.Lock()
	if h.reader = reader; reader != nil && reader.direct == nil {
		h.reader = nil // it does not say when it waits
	}
}

// step handles one message of s, which came at about the given time.
func (h *hall) step(s *session, m wamp.Message, at realm.Time) {
	h.lock(s)
	defer h.mu.Unlock()
	at = max(at, h.latest) // readers look at the clock before they get here
	h.deliver(h.core.Step(&s.member, m, at), at)
}

// leave takes s out of the realm.
func (h *hall) leave(s *session) {
	at := now()
	h.lock(s)
	defer h.mu.Unlock()
	h.deliver(h.core.Leave(&s.member, at), at)
}

// abort ends s with ABORT.
func (h *hall) abort(s *session, reason, message string) {
	at := now()
	h.lock(s)
	defer h.mu.Unlock()
	h.deliver(h.core.Abort(&s.member, reason, message, at), at)
}

// undeliverable says that m cannot be sent to s.
func (h *hall) undeliverable(s *session, m wamp.Message, cause *wamp.Error) {
	at := now()
	h.lock(nil)
	defer h.mu.Unlock()
	h.counted.Undeliverable++
	h.deliver(h.core.Undeliverable(&s.member, m, cause, at), at)
}

// errShuttingDown is why nobody joins a realm at the router's end.
var errShuttingDown = wamp.Errorf(wamp.CloseSystemShutdown, "the router is shutting down")

// close says GOODBYE to all; nobody joins any more, because of why.
func (h *hall) close(reason string, why *wamp.Error) {
	at := now()
	h.lock(nil)
	defer h.mu.Unlock()
	h.closed = why
	h.deliver(h.core.Close(reason, at), at)
}

// newID draws an ID for a session that has not joined yet.
func (h *hall) newID() wamp.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.NewID()
}

// join makes s a member, or says why not.
func (h *hall) join(s *session) *wamp.Error {
	at := now()
	h.lock(s)
	defer h.mu.Unlock()
	fault := h.mayJoin(s)
	if fault == nil {
		h.deliver(h.core.Join(&s.member, at), at)
	}
	return fault
}

// mayJoin says why a session may not join. h.mu is held.
func (h *hall) mayJoin(s *session) *wamp.Error {
	id := &s.member.Identity
	switch {
	case h.closed != nil:
		return h.closed
	case s.door != nil && s.door != h.door.Load():
		return wamp.Errorf(wamp.ErrAuthenticationFailed, "who may join realm %q has changed meanwhile; try again", h.cfg.Name)
	case h.core.Stats().Sessions >= h.sessions:
		h.counted.JoinsRefused++
		return wamp.Errorf(realm.ErrLimitExceeded, "realm %q has as many sessions as it may have", h.cfg.Name)
	case h.perID < h.sessions && s.imposed == nil && h.core.SessionsOf(id.AuthID) >= h.perID:
		h.counted.JoinsRefused++
		return wamp.Errorf(realm.ErrLimitExceeded, "%q has as many sessions in realm %q as one may have", id.AuthID, h.cfg.Name)
	case !h.core.HasRole(id.AuthRole):
		return wamp.Errorf(wamp.ErrNoSuchRole, "realm %q has no role %q", h.cfg.Name, id.AuthRole)
	}
	return nil
}

// expire drops what histories have kept for longer than they may.
func (h *hall) expire() {
	at := now()
	h.lock(nil)
	defer h.mu.Unlock()
	at = max(at, h.latest)
	h.core.Expire(at)
	h.deliver(nil, at)
}

func (h *hall) snapshot() RealmStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.counted
	st.Slowed, st.RateEnded = h.slowed.Load(), h.rateEnded.Load()
	st.Stats = h.core.Stats()
	if h.journal != nil {
		h.journal.stats(&st)
	}
	return st
}

// deliver pushes effects into the outboxes, and does what comes of that until
// nothing more does. h.mu is held.
func (h *hall) deliver(effects []realm.Effect, at realm.Time) {
	h.latest = at
	h.push(effects, at)
	for len(h.overflowed)+len(h.refused) > 0 {
		if n := len(h.overflowed); n > 0 {
			s := h.overflowed[n-1]
			h.overflowed = h.overflowed[:n-1]
			h.counted.SlowEnded++
			s.fail(slog.LevelWarn, errors.New("slow consumer: its queue is full"))
			s.hangup()
			h.push(h.core.Leave(&s.member, at), at)
			continue
		}
		n := len(h.refused)
		call := h.refused[n-1]
		h.refused = h.refused[:n-1]
		h.push(h.core.Undeliverable(&call.callee.member, call.msg, errBusy, at), at)
	}
	h.arm(at)
	if changes := h.core.TakeChanges(); h.journal != nil {
		h.journal.put(changes)
	}
}

var errBusy = wamp.Errorf(wamp.ErrUnavailable, "the callee has too many calls waiting")

// push pushes effects into the outboxes. A message that several effects in a
// row carry is shared, and encoded once for all of them.
func (h *hall) push(effects []realm.Effect, at realm.Time) {
	var last wamp.Message
	var it item
	var c class
	for i := range effects {
		e := &effects[i]
		s := e.To.Tag.(*session)
		if e.Msg != nil {
			if e.Msg != last {
				last = e.Msg
				it = item{msg: e.Msg, at: at}
				c, it.size = weigh(e.Msg)
				if i+1 < len(effects) && effects[i+1].Msg == e.Msg {
					it.share = &shared{msg: e.Msg}
				}
			}
			if _, goodbye := e.Msg.(*wamp.Goodbye); goodbye && !e.End {
				s.dismissed.Store(int64(at))
			}
			switch s.out.push(it, c) {
			case claimed:
				h.claimed(s)
			case full:
				h.noRoom(s, it.msg, c)
			}
		}
		if e.End && s.out.end() {
			h.claimed(s)
		}
	}
}

// claimed has somebody send what is in the outbox of s.
func (h *hall) claimed(s *session) {
	if h.reader != nil {
		h.reader.touched = append(h.reader.touched, s)
	} else {
		go s.write(nil)
	}
}

// noRoom decides what happens when an outbox is full. A callee that is flooded
// is not ended for what others do to it; the callers are told.
func (h *hall) noRoom(s *session, m wamp.Message, c class) {
	switch {
	case c == classEvent && !h.endSlow:
		h.counted.EventsDropped++
	case c == classRequest:
		h.counted.CallsRefused++
		h.refused = append(h.refused, refusedCall{callee: s, msg: m})
	default:
		s.out.kill() // so that nothing more is pushed, and this is not reached again
		h.overflowed = append(h.overflowed, s)
	}
}
