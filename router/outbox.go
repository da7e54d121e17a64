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
// realm's mutex pushes. Who fills an empty one has claimed it, and sees to it
// that somebody takes what is there and sends it: until the claim is given back,
// which is when all has been sent, nobody else does. So messages go out in order,
// and who pushes to an outbox that is claimed has nothing more to do.
type outbox struct {
	limits outboxLimits

	mu       sync.Mutex
	changed  sync.Cond // fewer replies wait, or the claim was given back
	queue    []item
	spare    []item // queue's array, when it is the other's turn
	messages int    // in queue and being written
	bytes    int    // likewise
	replies  int    // of them
	replied  int    // their bytes
	oldest   realm.Time
	claimed  bool
	ending   bool // send what is there, then stop
	dead     bool // stop
}

func (o *outbox) init(l outboxLimits) {
	o.limits = l
	o.changed.L = &o.mu
}

// verdict is what became of a message.
type verdict uint8

const (
	pushed  verdict = iota
	claimed         // pushed, and it is the pusher's to see that it is sent
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
	if o.claimed {
		return pushed
	}
	o.claimed = true
	return claimed
}

// How many items' room an outbox keeps: idle, and while it is busy.
const (
	keepIdle = 32
	keepBusy = 4096
)

// take returns all that is to be sent. Who has claimed the outbox reports it
// with wrote, in parts or together; nil means that there will be no more, and
// that the connection is to be closed before the claim is given back.
func (o *outbox) take() []item {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || len(o.queue) == 0 {
		return nil
	}
	batch := o.queue
	o.queue, o.spare = o.spare, nil
	return batch
}

// wrote reports that the first part of a batch has been sent; rest is what of
// the batch is still to be sent. When that was all there is to send, the claim is
// given back, and held is false.
func (o *outbox) wrote(part, rest []item, batch []item) (held bool) {
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
	o.claimed = len(rest)+len(o.queue) > 0 || o.ending || o.dead
	if len(rest) == 0 && !o.dead {
		clear(batch)
		o.keep(batch[:0])
	}
	if !o.claimed || !o.backed() {
		o.changed.Broadcast()
	}
	return o.claimed
}

// keep takes the array of a batch back, unless it is large for what it is kept
// for.
func (o *outbox) keep(empty []item) {
	switch {
	case o.claimed:
		if cap(empty) <= keepBusy {
			o.spare = empty
		}
	case cap(empty) <= keepIdle:
		o.queue, o.spare = empty, nil
	case cap(o.queue) > keepIdle:
		o.queue, o.spare = nil, nil
	}
}

// release gives the claim back after the end.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.claimed = false
	o.changed.Broadcast()
}

// awaitReleased waits for whoever has claimed the outbox.
func (o *outbox) awaitReleased() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.claimed {
		o.changed.Wait()
	}
}

// backed reports whether the session's own replies wait for it to read.
func (o *outbox) backed() bool {
	return o.replies > o.limits.messages/4 || o.replied > o.limits.bytes/4
}

// state reports whether the session goes on, and whether its reader has to wait
// in awaitDrained.
func (o *outbox) state() (open, backed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ending && !o.dead, o.backed()
}

// awaitDrained blocks while a session that sends requests does not read their
// answers, so that it cannot fill its outbox by itself. What others send it
// does not count: it may have to be read from before it can read.
func (o *outbox) awaitDrained() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.backed() && !o.ending && !o.dead {
		o.changed.Wait()
	}
}

// end lets what is queued be sent; nothing more is accepted. When nobody is at
// that, the caller has claimed the outbox.
func (o *outbox) end() (claimed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
	o.changed.Broadcast()
	claimed, o.claimed = !o.claimed, true
	return claimed
}

// kill stops the sending; what is queued is lost.
func (o *outbox) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.queue, o.spare = nil, nil
	o.changed.Broadcast()
}

// closed reports whether nothing more is accepted.
func (o *outbox) closed() bool {
	open, _ := o.state()
	return !open
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
