package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// Backoff is how long to wait between attempts to reconnect: Min, doubled
// each time up to Max, each with a random part of Jitter (0 to 1) of it. Zero
// Min and Max mean 500 ms and 30 s.
//
// A connection that was lost sooner than Max after it was made does not reset
// the wait, so that a router which throws the session out at once is not
// pestered. When the router refuses the realm or the identity, the wait is Max.
type Backoff struct {
	Min, Max time.Duration
	Jitter   float64
}

// DefaultBackoff waits for 500 ms to 30 s, up to a third of it at random.
func DefaultBackoff() *Backoff {
	return &Backoff{Min: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 1. / 3}
}

// waits is a sequence of waits.
type waits struct {
	Backoff
	next time.Duration
}

func (b Backoff) waits() waits {
	if b.Min <= 0 {
		b.Min = 500 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	b.Max = max(b.Min, b.Max)
	b.Jitter = min(max(b.Jitter, 0), 1)
	return waits{Backoff: b, next: b.Min}
}

// after is how long to wait after err.
func (w *waits) after(err error) time.Duration {
	d := w.next
	if w.next = 2 * d; w.next > w.Max {
		w.next = w.Max
	}
	if final(err) {
		d = w.Max
	}
	return d - time.Duration(w.Jitter*rand.Float64()*float64(d))
}

// sleep waits; false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// firstLink joins for the first time.
func (s *Session) firstLink(ctx context.Context) (*link, error) {
	if s.cfg.Reconnect == nil {
		return s.connect(ctx)
	}
	w := s.cfg.Reconnect.waits()
	for {
		l, err := s.connect(ctx)
		if err == nil || final(err) {
			return l, err
		}
		d := w.after(err)
		s.cfg.Log.Warn("wamp session cannot join yet", "reason", err, "again_in", d)
		if !sleep(ctx, d) {
			return nil, fmt.Errorf("%w; last attempt: %w", ctx.Err(), err)
		}
	}
}

// nextLink joins again after a connection that had lasted for so long was lost
// with err. It fails only when Close is called.
func (s *Session) nextLink(err error, lasted time.Duration) (*link, error) {
	w := s.waits
	if w == nil || lasted >= w.Max {
		fresh := s.cfg.Reconnect.waits()
		w = &fresh
		s.waits = w
	}
	said := ""
	for {
		if !sleep(s.ctx, w.after(err)) {
			return nil, ErrClosed
		}
		l, e := s.connect(s.ctx)
		if e == nil {
			return l, nil
		}
		err = e
		if s.ctx.Err() == nil && err.Error() != said {
			said = err.Error() // once per reason, not once per attempt
			s.cfg.Log.Warn("wamp session cannot join again yet", "reason", err)
		}
	}
}

// standing is what the session puts back on every new link.
type standing interface {
	// request is a fresh request for it, and where its answer is applied.
	request(l *link) (wamp.Message, *wamp.ID, *pending)
	// dead reports that it is not wanted any more. The mutex must be held.
	dead() bool
	// name is for the log.
	name() (kind, uri string)
}

// restore puts the session's handles in place on l, calls OnUp, and then tries
// those again that the router refused: its half-dead memory of our last
// connection may still hold them.
func (s *Session) restore(l *link, done chan<- struct{}) {
	defer close(done)
	var wanted []standing
	s.mu.Lock()
	for _, sub := range s.subs {
		wanted = append(wanted, sub)
	}
	for _, reg := range s.regs {
		wanted = append(wanted, reg)
	}
	s.mu.Unlock()

	said := map[standing]string{}
	wanted = s.place(l, wanted, said)
	s.settle(l)
	if len(wanted) == 0 {
		return
	}
	for w := s.cfg.Reconnect.waits(); len(wanted) > 0; wanted = s.place(l, wanted, said) {
		if !sleep(l.ctx, w.after(nil)) {
			return
		}
	}
	s.cfg.Log.Info("wamp session has everything in place again", "realm", s.cfg.Realm)
}

// settle says that l is in use.
func (s *Session) settle(l *link) {
	s.mu.Lock()
	l.up = !l.ended && !l.farewell
	if l.up {
		close(s.up)
	}
	up := l.up
	s.mu.Unlock()
	if up && s.cfg.OnUp != nil {
		s.cfg.OnUp()
	}
	close(l.settled)
}

// place asks for all that is wanted in one go, and returns what was refused.
func (s *Session) place(l *link, wanted []standing, said map[standing]string) []standing {
	type asked struct {
		standing
		p *pending
	}
	var under []asked
	for _, h := range wanted {
		if l.lock(l.ctx) != nil {
			return nil
		}
		if h.dead() {
			l.mu.Unlock()
			continue
		}
		m, id, p := h.request(l)
		err := l.ask(m, id, p)
		l.mu.Unlock()
		if err != nil {
			return nil // the link is gone
		}
		under = append(under, asked{h, p})
	}
	var refused []standing
	for _, a := range under {
		_, err := l.await(l.ctx, a.p)
		var e *wamp.Error
		if err == nil || !errors.As(err, &e) || l.ctx.Err() != nil {
			continue
		}
		refused = append(refused, a.standing)
		if said[a.standing] != err.Error() {
			said[a.standing] = err.Error()
			kind, uri := a.name()
			s.cfg.Log.Warn("wamp session cannot put back", "kind", kind, "uri", uri, "reason", err)
		}
	}
	return refused
}
