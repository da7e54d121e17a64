package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// session is one connection, from its first byte to its last.
type session struct {
	router *Router
	conn   transport.Conn
	direct transport.Direct // conn, where one can send through it without waiting
	codec  codec.Codec
	out    outbox
	member realm.Session
	hall   atomic.Pointer[hall] // nil until it has joined
	// dismissed is when the router said GOODBYE to it, 0 when it did not.
	dismissed atomic.Int64

	// imposed is who it is when that is settled beforehand, and imposedRealm
	// where it may join.
	imposed      *realm.Identity
	imposedRealm string
	// door is what it came in by, and stamp that of the user then; nil and ""
	// where nobody asked.
	door  *door
	stamp string
	// owner says that the kernel vouches for the peer's being the gateway's own
	// user, or root.
	owner bool
	// cookie is what the connection was given with its handshake, if anything.
	cookie string

	// measured is what it sends, by its reader; nil where nobody wants to know.
	measured *measured

	// touched are the sessions whose outboxes this one's reader has claimed.
	touched []*session
	// at is when the reader began with what came with one read; 0 when it waits.
	at realm.Time

	hanging sync.Once

	mu     sync.Mutex
	failed error // why it ended, nil for in good order
	level  slog.Level
}

// Attach runs one session on conn until its end, and closes conn. It returns
// nil when the session ended in good order, by GOODBYE or by the peer's closing
// the connection, and otherwise why, which it has logged. When ctx ends the
// connection is closed without a farewell; Shutdown says one. The limits on
// connections are for Serve and Handler, which come first.
func (r *Router) Attach(ctx context.Context, conn transport.Conn) error {
	return r.attach(ctx, &session{conn: conn})
}

func (r *Router) attach(ctx context.Context, s *session) error {
	conn := s.conn
	s.router, s.codec = r, conn.Info().Codec
	if s.direct, _ = conn.(transport.Direct); s.direct != nil {
		s.direct.OnWait(s.settle)
	}
	s.member.Tag = s
	l := r.limits.Load()
	s.out.init(outboxLimits{messages: l.QueueMessages, bytes: l.QueueBytes})
	if !r.enter(s) {
		_ = conn.Close()
		return ErrClosed
	}
	defer r.exit(s)
	stop := s.cutBy(ctx)
	if s.greet() {
		s.read()
	}
	s.leave()
	s.unmeasured()
	s.settle()
	if s.out.end() {
		s.write(nil)
	}
	s.out.awaitReleased()
	_ = conn.Close() // whoever sent last has done it; this waits for one who is at it
	stop()
	return s.report()
}

// cutBy has the connection closed when ctx ends. It returns how to end that, and
// wait for it.
func (s *session) cutBy(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	cut := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(cut)
		s.fail(slog.LevelDebug, context.Cause(ctx))
		s.hangup()
	})
	return func() {
		if !cancel() {
			<-cut
		}
	}
}

// greet does the handshake, on a goroutine that ends with it: its stack gets
// larger than a session's has to be, and would stay so.
func (s *session) greet() (joined bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.recovered("handshake")
		joined = s.handshake()
		s.settle()
	}()
	<-done
	return joined
}

// read is the reader: one step for each message. Nothing is between it and the
// connection that it waits for, for the sake of its stack.
func (s *session) read() {
	defer s.recovered("reader")
	h := s.hall.Load()
	for s.ready() {
		b, err := s.conn.Read()
		if !s.step(h, b, err) {
			return
		}
	}
}

// step does what one message asks for; false when nothing more is to be read.
func (s *session) step(h *hall, b []byte, err error) bool {
	m, abort, err := s.decode(b, err)
	switch {
	case err != nil:
		s.readFailed(err)
	case abort != nil:
		h.abort(s, abort.URI, fmt.Sprint(abort.Args...))
		s.fail(slog.LevelInfo, abort)
	case !s.pace(h, m, len(b)):
	default:
		if s.at == 0 {
			s.at = now()
		}
		h.step(s, m, s.at)
		return true
	}
	return false
}

// ready reports whether to read on, once that may be.
func (s *session) ready() bool {
	open, backed := s.out.state()
	if !backed {
		return open
	}
	s.settle()
	s.out.awaitDrained()
	return !s.out.closed()
}

// decode makes a message of what Read returned. abort is how to answer what is
// none; err is that there is nobody to answer.
func (s *session) decode(b []byte, err error) (m wamp.Message, abort *wamp.Error, _ error) {
	switch {
	case errors.Is(err, transport.ErrTooLarge):
		return nil, wamp.Errorf(wamp.ErrPayloadSizeExceeded, "%v", err), nil
	case errors.Is(err, transport.ErrFraming):
		return nil, wamp.Errorf(wamp.ErrProtocolViolation, "%v", err), nil
	case err != nil:
		return nil, nil, err
	}
	m, err = s.codec.Decode(b, codec.Limits{})
	if err != nil {
		return nil, wamp.Errorf(wamp.ErrProtocolViolation, "received what is no WAMP message: %v", err), nil
	}
	return m, nil, nil
}

// readFailed notes how the connection went. That it did is an end in good
// order where it was closed, by either side.
func (s *session) readFailed(err error) {
	if err != io.EOF && !errors.Is(err, net.ErrClosed) {
		s.fail(slog.LevelDebug, fmt.Errorf("read: %w", err))
	}
}

// leave takes the session out of its realm, if it is in one.
func (s *session) leave() {
	defer s.recovered("leaving")
	if h := s.hall.Load(); h != nil {
		h.leave(s)
	}
}

// refuse ends a session that has not joined.
func (s *session) refuse(reason, message string) {
	s.fail(slog.LevelInfo, wamp.Errorf(reason, "%s", message))
	s.push(&wamp.Abort{Details: wamp.Dict{"message": message}, Reason: reason})
	s.end()
}

// end lets the session end when what is in its outbox has been sent.
func (s *session) end() {
	if s.out.end() {
		go s.write(nil)
	}
}

// push sends a message of the handshake.
func (s *session) push(m wamp.Message) {
	c, size := weigh(m)
	if s.out.push(item{msg: m, at: now(), size: size}, c) == claimed {
		go s.write(nil)
	}
}

// hangup closes the connection from outside of the session's own goroutines,
// which may both be stuck in it.
func (s *session) hangup() {
	s.out.kill()
	s.hanging.Do(func() { s.router.startFor(s, func() { _ = s.conn.Close() }) })
}

// fail notes why the session ends. The first reason counts.
func (s *session) fail(level slog.Level, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed, s.level = err, level
	}
}

// report logs the session's end.
func (s *session) report() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := s.conn.Info()
	attrs := []any{"session", s.member.ID, "transport", info.Transport, "codec", s.codec.Name()}
	if info.Remote != nil {
		attrs = append(attrs, "remote", info.Remote.String())
	}
	if h := s.hall.Load(); h != nil {
		attrs = append(attrs, "realm", h.cfg.Name, "authid", s.member.Identity.AuthID, "authrole", s.member.Identity.AuthRole)
	} else {
		s.router.counters.handshakesFailed.Add(1)
	}
	level := slog.LevelDebug
	if s.failed != nil {
		attrs = append(attrs, "reason", s.failed.Error())
		level = s.level
	}
	s.router.log.Log(context.Background(), level, "session ended", attrs...)
	return s.failed
}

// recovered ends this session, and no other, when one of its goroutines
// panics.
func (s *session) recovered(where string) {
	v := recover()
	if v == nil {
		return
	}
	s.router.counters.panics.Add(1)
	s.router.log.Error("session panicked", "in", where, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	s.fail(slog.LevelError, fmt.Errorf("internal error in the %s: %v", where, v))
	s.hangup()
}
