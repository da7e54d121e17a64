package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

var (
	// ErrNotConnected is the error of every request while a session that
	// reconnects has no connection. Nothing has been sent; WaitJoined tells when
	// to try again.
	ErrNotConnected = errors.New("not connected to the router")
	// ErrClosed is the error of every request after Close, and is wrapped by
	// those after the session ended by itself.
	ErrClosed = errors.New("session has ended")
)

// Pings of a session that reconnects: a router that vanished without a word is
// noticed within their sum.
const (
	pingInterval = 20 * time.Second
	pingTimeout  = 10 * time.Second
)

// closeGrace is what Close gives goroutines to end once it has stopped waiting
// for the router; up to flushTime of it is for GOODBYE to get out.
const closeGrace = time.Second

// Session is a joined session. Its methods are safe for concurrent use.
type Session struct {
	cfg  Config
	dial Dialer

	// ctx ends when Close begins, which stops dialling and waiting.
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when the session has ended
	idle   chan struct{} // closed when its goroutines have, too

	mu      sync.Mutex
	link    *link         // the current connection, nil while there is none
	up      chan struct{} // closed while the handles are in place
	closing bool
	ended   bool
	alone   bool // the connection or the session ended by itself, before Close
	err     error
	waits   *waits          // between the attempts to reconnect
	regs    []*Registration // to be put back, the oldest first
	subs    []*Subscription

	live        int // goroutines, the handlers' included
	running     int // procedures
	waiting     fifo[*invocation]
	waitingSize int // bytes of their arguments

	events    fifo[delivery]
	buffered  int // bytes of events
	arrived   *sync.Cond
	dropped   uint64
	dropping  uint64 // of the current overflow
	discarded bool   // Close does not deliver what is left
}

// Dial connects to a router and joins a realm. The URL's scheme chooses the
// transport: ws, wss (WebSocket, ws://host:8080/ws), rs, rss (RawSocket over
// TCP or TLS, rs://host:8081), unix (RawSocket, unix:///run/postern.sock).
func Dial(ctx context.Context, url string, cfg Config) (*Session, error) {
	c := cfg.Codec
	if c == nil {
		c = codec.CBOR
	}
	full := cfg.withDefaults()
	opts := transport.DialOptions{TLS: cfg.TLS, ReadLimit: full.MaxMessage, HandshakeTimeout: full.HandshakeTimeout}
	if cfg.Reconnect != nil {
		// The router's pings do not tell us that it is gone.
		opts.PingInterval, opts.PingTimeout = pingInterval, pingTimeout
	}
	return Join(ctx, func(ctx context.Context) (transport.Conn, error) {
		return transport.Dial(ctx, url, c, opts)
	}, cfg)
}

// Join joins over connections that dial opens: again and again with
// cfg.Reconnect, else once. ctx bounds the joining, not the session.
//
// With cfg.Reconnect, Join tries until ctx ends, but gives up at once when the
// router refuses the realm or the identity: at start that is a mistake to be
// told of. Later such a refusal is retried, at the slow end of the back-off,
// because a realm or an account may come back. The router's refusal is a
// *wamp.Error within the error.
func Join(ctx context.Context, dial Dialer, cfg Config) (*Session, error) {
	s := &Session{
		cfg: cfg.withDefaults(), dial: dial,
		done: make(chan struct{}), idle: make(chan struct{}), up: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.arrived = sync.NewCond(&s.mu)
	l, err := s.firstLink(ctx)
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.live = 2
	s.adopt(l)
	go s.run(l)
	go s.deliverEvents()
	<-l.settled
	return s, nil
}

// ID is the session's ID, 0 while it is not joined.
func (s *Session) ID() wamp.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return 0
	}
	return s.link.id
}

// Details are those of the router's latest WELCOME: its roles and features,
// and who the session is (authid, authrole, authmethod, authprovider). They
// must not be changed; nil while the session is not joined.
func (s *Session) Details() wamp.Dict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil
	}
	return s.link.details
}

// Done is closed when the session has ended for good; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives, and after an orderly Close.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// WaitJoined returns nil as soon as the session is joined, with its
// registrations and subscriptions in place, and an error when ctx or the
// session ends before.
func (s *Session) WaitJoined(ctx context.Context) error {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-s.done:
		_, err := s.current()
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the router: %w", ctx.Err())
	}
}

// DroppedEvents is how many events were dropped because their handler was too
// slow (Config.EventBuffer), since Join.
func (s *Session) DroppedEvents() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close leaves the realm with GOODBYE, waits for the answer as long as ctx
// lets it (and no longer than Config.HandshakeTimeout), closes the connection,
// and waits for the handlers that run. Their contexts end when Close begins.
// The error says what did not end in time. Only the first Close has an effect;
// the others wait with it.
//
// A handler that calls Close waits for itself, and gets an error when the time
// is over; it can call it in a goroutine of its own instead.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	l := s.link
	if !s.closing {
		s.closing, s.discarded = true, true
		s.alone = s.ended || l != nil && l.ended
		if l != nil {
			l.sayGoodbye()
			l.cancel(ErrClosed)
		}
		s.arrived.Signal()
	}
	s.mu.Unlock()
	s.cancel()

	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	select {
	case <-s.idle:
		return s.closeError()
	case <-ctx.Done():
	}
	if l != nil {
		s.mu.Lock()
		l.end(fmt.Errorf("no answer to GOODBYE: %w", ctx.Err()), true)
		s.mu.Unlock()
	}
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-s.idle:
	case <-grace.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("close session: %d handlers are still running: %w", s.live, ctx.Err())
	}
	return s.closeError()
}

// closeError is what Close returns when everything has ended.
func (s *Session) closeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || s.alone {
		return nil
	}
	return fmt.Errorf("close session: %w", s.err)
}

// current is the link to use, or why there is none.
func (s *Session) current() (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended && s.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrClosed, s.err)
	case s.ended || s.closing:
		return nil, ErrClosed
	case s.link == nil:
		return nil, ErrNotConnected
	}
	return s.link, nil
}

// adopt makes l the current link. After Close it is not used.
func (s *Session) adopt(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		l.sayGoodbye()
		l.end(errGoodbye, true)
		return
	}
	s.link = l
}

// exit ends one goroutine of the session.
func (s *Session) exit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live--
	if s.live == 0 && s.ended {
		close(s.idle)
	}
}

// finish ends the session, for the reason err.
func (s *Session) finish(err error) {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.err = true, err
	s.regs, s.subs = nil, nil
	s.arrived.Signal()
	close(s.done)
}

// run is the session's goroutine: it serves one link after the other.
func (s *Session) run(l *link) {
	defer s.exit()
	for {
		began := time.Now()
		err := s.serve(l)
		s.mu.Lock()
		closing := s.closing
		left := errors.Is(err, errGoodbye) || s.alone && s.cfg.Reconnect != nil
		s.mu.Unlock()
		switch {
		case closing && left:
			s.finish(nil)
			return
		case closing || s.cfg.Reconnect == nil:
			s.finish(err)
			return
		}
		s.cfg.Log.Warn("wamp session lost its connection", "realm", s.cfg.Realm, "reason", err)
		if l, err = s.nextLink(err, time.Since(began)); err != nil {
			s.finish(nil) // Close came while there was no connection to leave
			return
		}
		s.adopt(l)
	}
}

// serve runs one link to its end.
func (s *Session) serve(l *link) error {
	restored := make(chan struct{})
	go s.restore(l, restored)
	err := l.serve()
	s.mu.Lock()
	if s.link == l {
		s.link = nil
	}
	down := l.up && !s.closing
	if l.up {
		s.up = make(chan struct{})
	}
	s.waiting.drop()
	s.waitingSize = 0
	s.mu.Unlock()
	<-restored
	if down && s.cfg.OnDown != nil {
		s.cfg.OnDown(err)
	}
	return err
}

// remove takes v out of list, keeping the order.
func remove[T comparable](list []T, v T) []T {
	if i := slices.Index(list, v); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
