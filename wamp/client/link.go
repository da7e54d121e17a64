package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// Bounds of what waits to be sent, in bytes. Requests, results and
// publications wait at the first; what must go at once (a CANCEL, an error for
// an invocation that cannot run) may pass it, up to the second, where the
// router obviously has stopped reading and the connection is given up.
const (
	outboxWait = 4 << 20
	outboxMax  = 16 << 20
)

// flushTime is how long the last messages of a connection may take.
const flushTime = 500 * time.Millisecond

// link is one joined connection. Its fields below mu are guarded by the
// session's mutex, which mu points to.
type link struct {
	s       *Session
	conn    transport.Conn
	codec   codec.Codec
	id      wamp.ID
	details wamp.Dict // of WELCOME
	cancels bool      // the dealer understands CANCEL

	// ctx ends with the link, and already when Close begins: answers to
	// invocations cannot be sent after GOODBYE.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// settled is closed when the handles have been asked for once and OnUp has
	// been called, or when the link ended before.
	settled chan struct{}

	mu          *sync.Mutex
	lastID      wamp.ID // of our own requests
	pending     map[wamp.ID]*pending
	regs        map[wamp.ID]*Registration
	subs        map[wamp.ID][]*Subscription
	invocations map[wamp.ID]*invocation
	err         error       // why the link ended; nil while it lives
	farewell    bool        // GOODBYE or ABORT is the last in the outbox
	ended       bool        // the writer is to stop once the outbox is empty
	force       *time.Timer // closes the connection under a writer that is stuck then
	up          bool        // OnUp has been called

	out    batch
	filled *sync.Cond
	room   chan struct{} // closed when the writer has taken the outbox
}

// batch is encoded messages, one behind the other in one array.
type batch struct {
	arena    []byte
	messages [][]byte
}

// reset empties b, keeping its array unless that has become large.
func (b *batch) reset() {
	if cap(b.arena) > 256<<10 {
		b.arena = nil
	}
	clear(b.messages)
	b.arena, b.messages = b.arena[:0], b.messages[:0]
}

// pending is a request that waits for its answer.
type pending struct {
	id   wamp.ID
	kind wamp.Kind // of the request
	// topic is what a SUBSCRIBE asks for.
	topic topicKey
	// done receives the one final answer; nil when nobody waits for it.
	done chan answer
	// apply acts on the answer, under the mutex and before anything that the
	// router sent behind it; nil for nothing to do. It is not called when there
	// is no answer.
	apply func(wamp.Message)
	// progress collects progressive results, nil when they are not wanted.
	progress *progress
}

// answer is a message, or why there will be none.
type answer struct {
	msg wamp.Message
	err error
}

func newPending(kind wamp.Kind) *pending {
	return &pending{kind: kind, done: make(chan answer, 1)}
}

func newLink(s *Session, conn transport.Conn, w *wamp.Welcome) *link {
	l := &link{
		s: s, conn: conn, codec: conn.Info().Codec, id: w.Session, details: w.Details,
		settled: make(chan struct{}), mu: &s.mu,
		pending: map[wamp.ID]*pending{}, regs: map[wamp.ID]*Registration{}, subs: map[wamp.ID][]*Subscription{},
		invocations: map[wamp.ID]*invocation{},
	}
	dealer := wamp.AsDict(wamp.AsDict(w.Details, "roles"), "dealer")
	l.cancels = wamp.AsBool(wamp.AsDict(dealer, "features"), "call_canceling")
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.filled = sync.NewCond(l.mu)
	return l
}

// lock takes the mutex once there is room in the outbox. On error the mutex is
// not held.
func (l *link) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	for !l.farewell && !l.ended && len(l.out.arena) >= outboxWait {
		if l.room == nil {
			l.room = make(chan struct{})
		}
		room := l.room
		l.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
	}
	return nil
}

// push encodes m into the outbox, with the next request ID in *id unless that
// is nil. The mutex must be held. Nothing has been sent, and no ID used, when
// it returns an error.
func (l *link) push(m wamp.Message, id *wamp.ID) error {
	if l.farewell || l.ended {
		return l.gone()
	}
	if len(l.out.arena) >= outboxMax {
		l.end(fmt.Errorf("router does not read: %d bytes are waiting to be sent", len(l.out.arena)), false)
		return l.gone()
	}
	if id != nil {
		*id = l.lastID + 1
	}
	start := len(l.out.arena)
	arena, err := l.codec.Append(l.out.arena, m)
	if err != nil {
		return fmt.Errorf("encode %v: %w", m.Kind(), err)
	}
	size := len(arena) - start
	if limit := l.conn.Info().MaxWrite; limit > 0 && size > limit {
		return wamp.Errorf(wamp.ErrPayloadSizeExceeded, "%v has %d bytes, the router accepts %d", m.Kind(), size, limit)
	}
	l.out.arena = arena
	l.out.messages = append(l.out.messages, arena[start:len(arena):len(arena)])
	if id != nil {
		l.lastID = *id
	}
	l.filled.Signal()
	return nil
}

// ask sends a request that p waits for. The mutex must be held.
func (l *link) ask(m wamp.Message, id *wamp.ID, p *pending) error {
	if err := l.push(m, id); err != nil {
		return err
	}
	p.id = *id
	l.pending[p.id] = p
	return nil
}

// request sends a request and waits for its answer. An ERROR is returned as a
// *wamp.Error.
func (l *link) request(ctx context.Context, m wamp.Message, id *wamp.ID, p *pending) (wamp.Message, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	err := l.ask(m, id, p)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return l.await(ctx, p)
}

// await waits for the answer to p.
func (l *link) await(ctx context.Context, p *pending) (wamp.Message, error) {
	var more chan struct{} // progressive results have come
	if p.progress != nil {
		more = p.progress.more
	}
	for {
		select {
		case <-more:
			l.deliver(p.progress)
		case a := <-p.done:
			l.deliver(p.progress)
			return a.result()
		case <-ctx.Done():
			if l.abandon(p) {
				return nil, ctx.Err()
			}
			a := <-p.done
			l.deliver(p.progress)
			return a.result()
		}
	}
}

// abandon makes p a request whose answer nobody waits for; false when the
// answer has come already.
func (l *link) abandon(p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[p.id] != p {
		return false
	}
	if p.kind == wamp.KindCall {
		delete(l.pending, p.id)
		l.cancelCall(p.id)
	} else {
		p.done = nil // still to be applied when it comes
	}
	return true
}

// cancelCall sends CANCEL where the router knows it. The mutex must be held.
func (l *link) cancelCall(id wamp.ID) {
	if l.cancels {
		// What cannot be sent any more needs no cancelling.
		_ = l.push(&wamp.Cancel{Request: id, Options: wamp.CancelOptions{Mode: "killnowait"}}, nil)
	}
}

func (a answer) result() (wamp.Message, error) {
	if a.err != nil {
		return nil, a.err
	}
	if e, ok := a.msg.(*wamp.ErrorMessage); ok {
		return nil, wireError(e.URI, e.Payload)
	}
	return a.msg, nil
}

// wireError makes the error that a message carries. Arguments that do not
// decode are left out: the URI still says what happened.
func wireError(uri string, p wamp.Payload) *wamp.Error {
	args, kwargs, err := p.Values()
	if err != nil {
		args, kwargs = nil, nil
	}
	return &wamp.Error{URI: uri, Args: args, KwArgs: kwargs}
}

// resolve ends p with its answer. The mutex must be held.
func (l *link) resolve(p *pending, a answer) {
	delete(l.pending, p.id)
	if p.apply != nil && a.err == nil {
		p.apply(a.msg)
	}
	if p.done != nil {
		p.done <- a
	}
}

// end ends the link for the reason err; the first reason stays. With flush,
// what is in the outbox is still sent. The writer closes the connection, which
// ends the reader. The mutex must be held.
func (l *link) end(err error, flush bool) {
	if l.err == nil {
		l.err = err
	}
	if l.ended {
		return
	}
	l.ended = true
	if !flush {
		l.out.reset()
	}
	l.cancel(l.err)
	l.force = time.AfterFunc(flushTime, func() { _ = l.conn.Close() })
	l.filled.Signal()
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

// gone is the error of what is no longer possible on this link. The mutex must
// be held.
func (l *link) gone() error {
	if l.s.closing {
		return ErrClosed
	}
	if l.err != nil {
		return wamp.Errorf(wamp.ErrNetworkFailure, "no answer: %v", l.err)
	}
	return ErrNotConnected
}

// write is the writer's goroutine. It closes the connection when it ends, which
// also ends the reader.
func (l *link) write(done chan<- struct{}) {
	defer close(done)
	defer l.conn.Close()
	var spare batch // takes turns with the outbox
	for {
		l.mu.Lock()
		for len(l.out.messages) == 0 && !l.ended {
			l.filled.Wait()
		}
		if len(l.out.messages) == 0 {
			l.mu.Unlock()
			return
		}
		b := l.out
		l.out = spare
		if l.room != nil {
			close(l.room)
			l.room = nil
		}
		l.mu.Unlock()
		if err := l.conn.Write(b.messages...); err != nil {
			l.mu.Lock()
			l.end(fmt.Errorf("connection lost while sending: %w", err), false)
			l.mu.Unlock()
			return
		}
		b.reset()
		spare = b
	}
}

// serve reads until the link ends, and returns why when everything that
// belongs to it has ended.
func (l *link) serve() error {
	written := make(chan struct{})
	go l.write(written)
	err, flush := l.read()
	if !flush {
		_ = l.conn.Close()
	}
	l.mu.Lock()
	l.end(err, flush)
	l.mu.Unlock()
	<-written

	l.mu.Lock()
	defer l.mu.Unlock()
	l.force.Stop()
	for _, p := range l.pending {
		l.resolve(p, answer{err: l.gone()})
	}
	clear(l.invocations)
	return l.err
}

// errGoodbye ends a link that was left in order.
var errGoodbye = errors.New("left the realm")

// read handles messages until one of them or an error ends the link; flush
// says that a last message is to be sent.
func (l *link) read() (why error, flush bool) {
	for {
		b, err := l.conn.Read()
		if err != nil {
			return fmt.Errorf("connection lost: %w", err), false
		}
		m, err := l.codec.Decode(b, codec.Limits{})
		if err != nil {
			return l.refuse(err), true
		}
		switch m := m.(type) {
		case *wamp.Abort:
			return fmt.Errorf("router aborted the session: %w", abortError(m)), false
		case *wamp.Goodbye:
			return l.goodbye(m), true
		}
		if err := l.handle(m); err != nil {
			return l.refuse(err), true
		}
		l.mu.Lock()
		ended, why := l.ended, l.err
		l.mu.Unlock()
		if ended {
			return why, true
		}
	}
}

// refuse tells the router that it has broken the protocol.
func (l *link) refuse(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.push(&wamp.Abort{
		Details: wamp.Dict{"message": err.Error()}, Reason: wamp.ErrProtocolViolation,
	}, nil)
	l.farewell = true
	return fmt.Errorf("router broke the protocol: %w", err)
}

// sayGoodbye leaves the realm; nothing is sent behind it. The mutex must be
// held.
func (l *link) sayGoodbye() {
	_ = l.push(&wamp.Goodbye{Details: wamp.Dict{}, Reason: wamp.CloseRealm}, nil)
	l.farewell = true
}

// goodbye answers a GOODBYE, unless it is itself the answer to ours.
func (l *link) goodbye(m *wamp.Goodbye) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.farewell {
		return errGoodbye
	}
	_ = l.push(&wamp.Goodbye{Details: wamp.Dict{}, Reason: wamp.CloseGoodbyeAndOut}, nil)
	l.farewell = true
	return fmt.Errorf("router closed the session: %w", detailError(m.Reason, m.Details))
}
