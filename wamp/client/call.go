package client

import (
	"context"
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// progressBuffer bounds the progressive results of one call that wait for its
// callback, in bytes. The call fails when there are more.
const progressBuffer = 8 << 20

// Call calls a procedure. The error wraps a *wamp.Error when the router or the
// callee answered with one, and when the connection was lost before the answer
// came (wamp.error.network_failure: whether the procedure ran is not known).
// It wraps ErrNotConnected when nothing was sent for want of a connection; see
// WaitJoined. When ctx ends first, the call is cancelled, if the router can do
// that, and its answer is not waited for.
func (s *Session) Call(ctx context.Context, procedure string, args Args, kwargs KwArgs, opts ...CallOption) (*Result, error) {
	return s.call(ctx, procedure, args, kwargs, nil, opts)
}

// CallProgress is Call for a procedure that sends results while it runs. They
// go to progress, and the final one is returned. A callback that falls far
// behind (8 MiB) ends the call.
func (s *Session) CallProgress(ctx context.Context, procedure string, args Args, kwargs KwArgs, progress ProgressFunc, opts ...CallOption) (*Result, error) {
	return s.call(ctx, procedure, args, kwargs, progress, opts)
}

func (s *Session) call(ctx context.Context, procedure string, args Args, kwargs KwArgs, f ProgressFunc, opts []CallOption) (*Result, error) {
	l, err := s.current()
	if err != nil {
		return nil, fmt.Errorf("call %q: %w", procedure, err)
	}
	m := &wamp.Call{Procedure: procedure}
	if m.Payload, err = wamp.NewPayload(l.codec, args, kwargs); err != nil {
		return nil, fmt.Errorf("call %q: %w", procedure, err)
	}
	for _, opt := range opts {
		opt(&m.Options)
	}
	p := newPending(wamp.KindCall)
	if f != nil {
		m.Options.ReceiveProgress = true
		p.progress = &progress{f: f, more: make(chan struct{}, 1)}
	}
	answer, err := l.request(ctx, m, &m.Request, p)
	if err != nil {
		return nil, fmt.Errorf("call %q: %w", procedure, err)
	}
	r, err := newResult(answer.(*wamp.Result))
	if err != nil {
		return nil, fmt.Errorf("call %q: result: %w", procedure, err)
	}
	return r, nil
}

func newResult(m *wamp.Result) (*Result, error) {
	args, kwargs, err := m.Values()
	if err != nil {
		return nil, err
	}
	return &Result{Values: Values{args, kwargs}, Details: m.Details}, nil
}

// progress is the progressive results of a call on their way from the reader
// to the goroutine that called.
type progress struct {
	f    ProgressFunc
	more chan struct{} // holds one token when there may be some

	// Guarded by the session's mutex.
	queue fifo[*wamp.Result]
	bytes int
}

// add queues a result; false when there are too many. The mutex must be held.
func (p *progress) add(m *wamp.Result) bool {
	if p.bytes += m.Size() + eventOverhead; p.bytes > progressBuffer {
		return false
	}
	p.queue.push(m)
	select {
	case p.more <- struct{}{}:
	default:
	}
	return true
}

// deliver calls the callback of p, nil for none, with what has come.
func (l *link) deliver(p *progress) {
	if p == nil {
		return
	}
	for {
		l.mu.Lock()
		m, ok := p.queue.pop()
		if ok {
			p.bytes -= m.Size() + eventOverhead
		}
		l.mu.Unlock()
		if !ok {
			return
		}
		r, err := newResult(m)
		if err != nil {
			l.s.cfg.Log.Warn("progressive result does not decode", "reason", err)
			continue
		}
		p.f(r)
	}
}
