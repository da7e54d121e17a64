package client

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// handle acts on one message of a joined session. An error means that the
// router has broken the protocol.
func (l *link) handle(m wamp.Message) error {
	switch m := m.(type) {
	case *wamp.Result:
		return l.result(m)
	case *wamp.ErrorMessage:
		return l.answer(m.Request, m.Type, m)
	case *wamp.Published:
		return l.answer(m.Request, wamp.KindPublish, m)
	case *wamp.Event:
		l.event(m)
		return nil
	case *wamp.Invocation:
		return l.invoked(m)
	case *wamp.Interrupt:
		l.interrupt(m)
		return nil
	case *wamp.Subscribed:
		return l.answer(m.Request, wamp.KindSubscribe, m)
	case *wamp.Registered:
		return l.answer(m.Request, wamp.KindRegister, m)
	case *wamp.Unsubscribed:
		if m.Request == 0 {
			l.revokedSubscription(m.Details)
			return nil
		}
		return l.answer(m.Request, wamp.KindUnsubscribe, m)
	case *wamp.Unregistered:
		if m.Request == 0 {
			l.revokedRegistration(m.Details)
			return nil
		}
		return l.answer(m.Request, wamp.KindUnregister, m)
	}
	return fmt.Errorf("unexpected %v in a joined session", m.Kind())
}

// answer gives m to the request that it answers.
func (l *link) answer(id wamp.ID, kind wamp.Kind, m wamp.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.find(id, kind, m)
	if p == nil {
		return err
	}
	l.resolve(p, answer{msg: m})
	return nil
}

// find looks up the request that m answers; nil without an error when it is
// one that nobody waits for any more. The mutex must be held.
func (l *link) find(id wamp.ID, kind wamp.Kind, m wamp.Message) (*pending, error) {
	p := l.pending[id]
	switch {
	case p == nil && (id == 0 || id > l.lastID):
		return nil, fmt.Errorf("%v answers request %d, which was never made", m.Kind(), id)
	case p == nil:
		return nil, nil
	case p.kind != kind:
		return nil, fmt.Errorf("%v for a %v answers request %d, a %v", m.Kind(), kind, id, p.kind)
	}
	return p, nil
}

// result gives a RESULT to its call.
func (l *link) result(m *wamp.Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.find(m.Request, wamp.KindCall, m)
	switch {
	case p == nil:
		return err
	case !m.Details.Progress:
		l.resolve(p, answer{msg: m})
	case p.progress != nil && !p.progress.add(m): // else they were not asked for
		l.resolve(p, answer{err: fmt.Errorf("more than %d bytes of progressive results are waiting for a slow callback", progressBuffer)})
		l.cancelCall(m.Request)
	}
	return nil
}
