package router

import (
	"sync"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
)

// class is what may happen to a message that an outbox has no room for.
type class uint8

const (
	classControl class = iota // WELCOME, CHALLENGE, ABORT, GOODBYE: always fits
	classEvent                // may be dropped
	classRequest              // INVOCATION, INTERRUPT: may be refused, with an error for the caller
	classReply                // everything else: the session ends
)

// weigh returns a message's class and roughly the memory that it holds while
// it waits.
func weigh(m wamp.Message) (class, int) {
	const message = 192
	switch m := m.(type) {
	case *wamp.Event:
		return classEvent, message + m.Size() + len(m.Details.Topic) + passthru(&m.Details.PPT)
	case *wamp.Invocation:
		return classRequest, message + m.Size() + len(m.Details.Procedure) + len(m.Details.RKey) + passthru(&m.Details.PPT)
	case *wamp.Interrupt:
		return classRequest, message
	case *wamp.Result:
		return classReply, message + m.Size() + passthru(&m.Details.PPT)
	case *wamp.ErrorMessage:
		return classReply, message + m.Size() + len(m.URI) + passthru(&m.Details.PPT)
	case *wamp.Welcome, *wamp.Challenge, *wamp.Abort, *wamp.Goodbye:
		return classControl, message
	}
	return classReply, message
}

func passthru(p *wamp.Passthru) int {
	return len(p.Scheme) + len(p.Serializer) + len(p.Cipher) + len(p.KeyID)
}

// item is one message in an outbox. share is nil when no other outbox has it.
type item struct {
	msg   wamp.Message
	share *shared
	at    realm.Time
	size  int
	reply bool
}

// outboxLimits are Limits as an outbox needs them.
type outboxLimits struct {
	messages, bytes int
}

// events returns how much of the outbox events may fill: the rest is kept for
// what must not be dropped.
func (l outboxLimits) events() outboxLimits {
	return outboxLimits{messages: l.messages / 4 * 3, bytes: l.bytes / 4 * 3}
}

// outbox is what waits to be sent to one session. Everybody who holds the
// realm's mutex pushes; one writer takes all that is there at once.
type outbox struct {
	limits outboxLimits

	mu       sync.Mutex
	readable sync.Cond // for the writer
	drained  sync.Cond // for the reader, see awaitDrained
	queue    []item
	spare    []item // queue's array, when it is the other's turn
	messages int    // in queue and being written
	bytes    int    // likewise
	replies  int    // of them
	replied  int    // their bytes
	oldest   realm.Time
	waiting  bool
	ending   bool // write what is there, then stop
	dead     bool // stop
}

func (o *outbox) init(l outboxLimits) {
	o.limits = l
	o.readable.L = &o.mu
	o.drained.L = &o.mu
}

// verdict is what became of a message.
type verdict uint8

const (
	pushed  verdict = iota
	ignored         // the session is ending
	full            // nothing was done
)

func (o *outbox) push(it item, c class) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.dead {
		return ignored
	}
	limits := o.limits
	if c == classEvent {
		limits = limits.events()
	}
	// A message larger than the bounds passes alone.
	if c != classControl && o.messages > 0 && (o.messages >= limits.messages || o.bytes+it.size > limits.bytes) {
		return full
	}
	if o.messages == 0 {
		o.oldest = it.at
	}
	o.messages++
	o.bytes += it.size
	if c == classReply {
		it.reply = true
		o.replies++
		o.replied += it.size
	}
	o.queue = append(o.queue, it)
	if o.waiting {
		o.waiting = false
		o.readable.Signal()
	}
	return pushed
}

// How many items' room an outbox keeps: idle, and while it is busy.
const (
	keepIdle = 64
	keepBusy = 4096
)

// take waits for messages and returns all there are. The writer reports them
// with wrote, in parts or together, and then calls take again; nil means that
// there will be no more.
func (o *outbox) take() []item {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) == 0 {
		if o.ending || o.dead {
			return nil
		}
		if cap(o.queue)+cap(o.spare) > keepIdle {
			o.queue, o.spare = nil, nil
		}
		o.waiting = true
		o.readable.Wait()
	}
	if o.dead {
		return nil
	}
	batch := o.queue
	o.queue, o.spare = o.spare, nil
	return batch
}

// wrote reports that the first part of a batch has been sent; rest is what of
// the batch is still to be sent, and empty at its end.
func (o *outbox) wrote(part, rest []item, batch []item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range part {
		o.messages--
		o.bytes -= part[i].size
		if part[i].reply {
			o.replies--
			o.replied -= part[i].size
		}
	}
	switch {
	case len(rest) > 0:
		o.oldest = rest[0].at
	case len(o.queue) > 0:
		o.oldest = o.queue[0].at
	}
	if len(rest) == 0 && cap(batch) <= keepBusy && !o.dead {
		clear(batch)
		o.spare = batch[:0]
	}
	if !o.backed() {
		o.drained.Broadcast()
	}
}

// backed reports whether the session's own replies wait for it to read.
func (o *outbox) backed() bool {
	return o.replies > o.limits.messages/4 || o.replied > o.limits.bytes/4
}

// awaitDrained blocks while a session that sends requests does not read their
// answers, so that it cannot fill its outbox by itself. What others send it
// does not count: it may have to be read from before it can read.
func (o *outbox) awaitDrained() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.backed() && !o.ending && !o.dead {
		o.drained.Wait()
	}
}

// end lets the writer finish what is queued; nothing more is accepted.
func (o *outbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
	o.wakeAll()
}

// kill stops the writer; what is queued is lost.
func (o *outbox) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.queue, o.spare = nil, nil
	o.wakeAll()
}

func (o *outbox) wakeAll() {
	o.waiting = false
	o.readable.Broadcast()
	o.drained.Broadcast()
}

// closed reports whether nothing more is accepted.
func (o *outbox) closed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending || o.dead
}

// isDead reports whether it was killed.
func (o *outbox) isDead() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dead
}

// waitingSince returns when the oldest message was pushed that is not sent yet.
func (o *outbox) waitingSince() (at realm.Time, any bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.oldest, o.messages > 0 && !o.dead
}
