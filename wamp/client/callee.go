package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// waitingFactor times Config.MaxConcurrent is how many invocations may wait,
// and waitingBytes what their arguments may come to.
const (
	waitingFactor = 16
	waitingBytes  = 16 << 20
)

// Registration is a registration that Register made; it survives reconnects.
// When the router revokes it, it is gone for good, and that is logged.
type Registration struct {
	s         *Session
	uri       string
	options   wamp.RegisterOptions
	procedure Procedure

	// Guarded by the session's mutex.
	link   *link   // where it is in place, nil while it is nowhere
	id     wamp.ID // there
	kept   bool    // among those to be put back
	closed bool
}

// Register offers a procedure, or a pattern of procedures. Invocations may
// come before Register returns.
func (s *Session) Register(ctx context.Context, procedure string, p Procedure, opts ...RegisterOption) (*Registration, error) {
	l, err := s.current()
	if err != nil {
		return nil, fmt.Errorf("register %q: %w", procedure, err)
	}
	r := &Registration{s: s, uri: procedure, procedure: p}
	for _, opt := range opts {
		opt(&r.options)
	}
	m, id, pend := r.request(l)
	if _, err := l.request(ctx, m, id, pend); err != nil {
		s.mu.Lock()
		r.drop()
		s.mu.Unlock()
		return nil, fmt.Errorf("register %q: %w", procedure, err)
	}
	return r, nil
}

// request implements standing.
func (r *Registration) request(l *link) (wamp.Message, *wamp.ID, *pending) {
	m := &wamp.Register{Options: r.options, Procedure: r.uri}
	p := newPending(wamp.KindRegister)
	p.apply = func(m wamp.Message) {
		if m, ok := m.(*wamp.Registered); ok {
			r.place(l, m.Registration)
		}
	}
	return m, &m.Request, p
}

// place puts the registration into l, or takes it back from the router when it
// has been dropped meanwhile.
func (r *Registration) place(l *link, id wamp.ID) {
	l.regs[id] = r
	if r.closed {
		l.unregister(r, id, &pending{kind: wamp.KindUnregister})
		return
	}
	r.link, r.id = l, id
	if !r.kept {
		r.kept = true
		r.s.regs = append(r.s.regs, r)
	}
}

// drop takes the registration out of the session, and gives back a pending
// UNREGISTER when the router has to be told. The mutex must be held.
func (r *Registration) drop() (*link, *pending) {
	r.closed = true
	r.s.regs = remove(r.s.regs, r)
	l := r.link
	if r.link = nil; l == nil {
		return nil, nil
	}
	p := newPending(wamp.KindUnregister)
	if !l.unregister(r, r.id, p) {
		return nil, nil
	}
	return l, p
}

// unregister tells the router. Invocations that it sends before it knows are
// still answered. The mutex must be held.
func (l *link) unregister(r *Registration, id wamp.ID, p *pending) bool {
	p.apply = func(wamp.Message) {
		if l.regs[id] == r {
			delete(l.regs, id)
		}
	}
	m := &wamp.Unregister{Registration: id}
	return l.ask(m, &m.Request, p) == nil
}

// Unregister ends it; calls that are being answered go on. Without a
// connection there is nothing to wait for: it is just not put back.
func (r *Registration) Unregister(ctx context.Context) error {
	r.s.mu.Lock()
	l, p := r.drop()
	r.s.mu.Unlock()
	if p == nil {
		return nil
	}
	if err := l.settleEnd(ctx, p); err != nil {
		return fmt.Errorf("unregister %q: %w", r.uri, err)
	}
	return nil
}

// dead implements standing.
func (r *Registration) dead() bool { return r.closed }

// name implements standing.
func (r *Registration) name() (kind, uri string) { return "registration", r.uri }

// revokedRegistration forgets what the router took away.
func (l *link) revokedRegistration(d wamp.RevokedDetails) {
	l.mu.Lock()
	r := l.regs[d.Registration]
	if r != nil {
		delete(l.regs, d.Registration)
		r.closed, r.link = true, nil
		l.s.regs = remove(l.s.regs, r)
	}
	l.mu.Unlock()
	if r != nil {
		l.s.cfg.Log.Warn("router revoked a registration", "procedure", r.uri, "reason", d.Reason)
	}
}

// invocation is one INVOCATION until it is answered.
type invocation struct {
	l      *link
	m      *wamp.Invocation
	reg    *Registration
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // of a forwarded timeout, nil without one
}

// errInterrupted and errTimeout are the causes of an invocation's context.
var (
	errInterrupted = errors.New("the caller has cancelled")
	errTimeout     = errors.New("the call's timeout is over")
)

// invoked starts an invocation, lets it wait, or refuses it.
func (l *link) invoked(m *wamp.Invocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.invocations[m.Request] != nil {
		return fmt.Errorf("INVOCATION with request ID %d, which is in use", m.Request)
	}
	reg := l.regs[m.Registration]
	if reg == nil {
		l.fail(m.Request, wamp.Errorf(wamp.ErrNoSuchRegistration, "registration %d is not known here", m.Registration))
		return nil
	}
	s := l.s
	busy := s.running >= s.cfg.MaxConcurrent
	if busy && (s.waiting.len() >= waitingFactor*s.cfg.MaxConcurrent || s.waitingSize+m.Size() > waitingBytes) {
		l.fail(m.Request, wamp.Errorf(wamp.ErrUnavailable, "too many calls at the same time"))
		return nil
	}
	inv := &invocation{l: l, m: m, reg: reg}
	inv.ctx, inv.cancel = context.WithCancelCause(l.ctx)
	if ms := m.Details.Timeout; ms > 0 {
		inv.timer = time.AfterFunc(inv.timeout(), inv.expire)
	}
	l.invocations[m.Request] = inv
	if busy {
		s.waiting.push(inv)
		s.waitingSize += m.Size()
		return nil
	}
	s.running++
	s.live++
	go s.work(inv)
	return nil
}

// timeout is the forwarded timeout; the bound keeps it a time.Duration.
func (inv *invocation) timeout() time.Duration {
	return time.Duration(min(inv.m.Details.Timeout, uint64(365*24*time.Hour/time.Millisecond))) * time.Millisecond
}

// expire answers for a procedure that has taken too long.
func (inv *invocation) expire() {
	inv.cancel(errTimeout)
	inv.l.mu.Lock()
	defer inv.l.mu.Unlock()
	if inv.finish() {
		inv.l.fail(inv.m.Request, wamp.Errorf(wamp.ErrTimeout, "no answer within %v", inv.timeout()))
	}
}

// finish makes inv answered; false when it is already. The mutex must be held.
func (inv *invocation) finish() bool {
	if inv.l.invocations[inv.m.Request] != inv {
		return false
	}
	delete(inv.l.invocations, inv.m.Request)
	return true
}

// fail answers an invocation with an error, without waiting for room. The
// mutex must be held.
func (l *link) fail(request wamp.ID, e *wamp.Error) {
	m := &wamp.ErrorMessage{Type: wamp.KindInvocation, Request: request, URI: e.URI}
	var err error
	if m.Payload, err = wamp.NewPayload(l.codec, e.Args, e.KwArgs); err == nil {
		err = l.push(m, nil)
	}
	if err != nil {
		// The arguments cannot be sent; the URI can.
		m.Payload = wamp.Payload{}
		_ = l.push(m, nil)
	}
}

// interrupt cancels the context of an invocation. The answer is given all the
// same, whatever the mode: a router that does not want it drops it.
func (l *link) interrupt(m *wamp.Interrupt) {
	l.mu.Lock()
	inv := l.invocations[m.Request]
	l.mu.Unlock()
	if inv != nil {
		inv.cancel(errInterrupted)
	}
}

// work is the goroutine of a procedure: it runs the invocation, and then those
// that wait.
func (s *Session) work(inv *invocation) {
	defer s.exit()
	for ok := true; ok; {
		inv.serve()
		s.mu.Lock()
		if inv, ok = s.waiting.pop(); ok {
			s.waitingSize -= inv.m.Size()
		} else {
			s.running--
		}
		s.mu.Unlock()
	}
}

// serve runs the procedure and answers.
func (inv *invocation) serve() {
	var r *Result
	err := inv.ctx.Err()
	if err == nil {
		r, err = inv.call()
	}
	m := &wamp.Yield{Request: inv.m.Request}
	if err == nil && r != nil {
		if m.Payload, err = wamp.NewPayload(inv.l.codec, r.Args, r.KwArgs); err != nil {
			inv.log("result of a procedure cannot be sent", err)
			err = failure(inv.name())
		}
	}
	if inv.timer != nil {
		inv.timer.Stop()
	}
	inv.answer(m, err)
	inv.cancel(nil)
}

// answer sends the YIELD, or the ERROR that err stands for.
func (inv *invocation) answer(m *wamp.Yield, err error) {
	var e *wamp.Error
	if err != nil {
		var unexpected bool
		if e, unexpected = inv.wireError(err); unexpected {
			inv.log("procedure failed", err)
		}
	}
	l := inv.l
	if l.lock(l.ctx) != nil {
		return // there is nobody to answer to
	}
	defer l.mu.Unlock()
	if !inv.finish() {
		return
	}
	if e == nil {
		err := l.push(m, nil)
		if err == nil || l.ended || l.farewell {
			return
		}
		if !errors.As(err, &e) { // too large for the router
			e = failure(inv.name())
		}
	}
	l.fail(m.Request, e)
}

// wireError is what the caller may know of err; unexpected says that it is not
// what a procedure fails with on purpose.
func (inv *invocation) wireError(err error) (e *wamp.Error, unexpected bool) {
	if errors.As(err, &e) {
		return e, false
	}
	if inv.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(inv.ctx))) {
		return wamp.Errorf(wamp.ErrCanceled, "the call was cancelled"), false
	}
	return failure(inv.name()), true
}

func failure(procedure string) *wamp.Error {
	return wamp.Errorf(wamp.ErrRuntimeError, "procedure %q failed; the log of its component says why", procedure)
}

func (inv *invocation) log(what string, err error) {
	inv.l.s.cfg.Log.Error(what, "procedure", inv.name(), "error", err)
}

// name is the concrete procedure.
func (inv *invocation) name() string {
	if p := inv.m.Details.Procedure; p != "" {
		return p
	}
	return inv.reg.uri
}

// call calls the procedure, and survives its panic.
func (inv *invocation) call() (r *Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			inv.l.s.cfg.Log.Error("procedure panicked", "procedure", inv.name(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r, err = nil, failure(inv.name())
		}
	}()
	args, kwargs, err := inv.m.Values()
	if err != nil {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%v", err)
	}
	return inv.reg.procedure(inv.ctx, &Invocation{
		Values: Values{args, kwargs}, Procedure: inv.name(), Details: inv.m.Details, run: inv,
	})
}

// Progress sends a progressive result while the procedure runs. When the
// caller has not asked for any (Details.ReceiveProgress), it does nothing. The
// error says that the result cannot be encoded or that the call is over, in
// which case the procedure had better end.
func (inv *Invocation) Progress(args Args, kwargs KwArgs) error {
	if inv.run == nil || !inv.Details.ReceiveProgress {
		return nil
	}
	return inv.run.progress(args, kwargs)
}

func (inv *invocation) progress(args Args, kwargs KwArgs) error {
	m := &wamp.Yield{Request: inv.m.Request, Options: wamp.YieldOptions{Progress: true}}
	var err error
	l := inv.l
	if m.Payload, err = wamp.NewPayload(l.codec, args, kwargs); err == nil {
		err = l.lock(inv.ctx)
	}
	if err != nil {
		return fmt.Errorf("progress of %q: %w", inv.name(), err)
	}
	defer l.mu.Unlock()
	if l.invocations[inv.m.Request] != inv {
		return fmt.Errorf("progress of %q: the call is over", inv.name())
	}
	if err := l.push(m, nil); err != nil {
		return fmt.Errorf("progress of %q: %w", inv.name(), err)
	}
	if inv.timer != nil {
		inv.timer.Reset(inv.timeout()) // the time between results counts
	}
	return nil
}
