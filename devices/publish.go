package devices

import (
	"context"
	"slices"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// realm is what the host needs of its session.
type realm interface {
	// id is that of the session, 0 while it is not joined.
	id() wamp.ID
	// done is closed when the session has ended for good.
	done() <-chan struct{}
	err() error
	// publish must not keep args and kwargs, nor what they point to.
	publish(ctx context.Context, topic string, args wamp.List, kwargs wamp.Dict, retain bool) error
	// subscribe calls f, which must not block, with the arguments of events.
	subscribe(ctx context.Context, topic string, f func(wamp.List)) error
	// joined asks the router for a session that is not ours.
	joined(ctx context.Context, session wamp.ID) error
	register(ctx context.Context, uri string, p client.Procedure, disclose bool) (unregister func(context.Context) error, err error)
}

// sessionRealm is a *client.Session as a realm.
type sessionRealm struct{ s *client.Session }

var retained = []client.PublishOption{client.Retain()}

func (r sessionRealm) id() wamp.ID           { return r.s.ID() }
func (r sessionRealm) done() <-chan struct{} { return r.s.Done() }
func (r sessionRealm) err() error            { return r.s.Err() }

func (r sessionRealm) publish(ctx context.Context, topic string, args wamp.List, kwargs wamp.Dict, retain bool) error {
	if retain {
		return r.s.Publish(ctx, topic, args, kwargs, retained...)
	}
	return r.s.Publish(ctx, topic, args, kwargs)
}

func (r sessionRealm) subscribe(ctx context.Context, topic string, f func(wamp.List)) error {
	_, err := r.s.Subscribe(ctx, topic, func(e *client.Event) { f(e.Args) })
	return err
}

func (r sessionRealm) joined(ctx context.Context, session wamp.ID) error {
	_, err := r.s.Call(ctx, procedureWhom, wamp.List{session}, nil)
	return err
}

func (r sessionRealm) register(ctx context.Context, uri string, p client.Procedure, disclose bool) (func(context.Context) error, error) {
	var opts []client.RegisterOption
	if disclose {
		opts = append(opts, client.DiscloseCaller())
	}
	reg, err := r.s.Register(ctx, uri, p, opts...)
	if err != nil {
		return nil, err
	}
	return reg.Unregister, nil
}

// The values of kwargs that are the same for every event, boxed once.
var (
	good      any = string(QualityGood)
	uncertain any = string(QualityUncertain)
	bad       any = string(QualityBad)
)

// publisher sends one device's events. Its args, its kwargs and what they point
// to are used again for every event, so that one costs no more than its encoding.
type publisher struct {
	d      *hosted
	r      realm
	args   [1]any
	kwargs wamp.Dict
	seq    int64
	stamp  string
	edge   [3]int64
	joined wamp.ID // the session that knows the device, 0 for none
	failed bool    // the last event could not be sent
}

// look notices that the session has been joined or lost.
func (p *publisher) look() {
	id := p.r.id()
	switch {
	case id == p.joined:
		return
	case id == 0:
		p.d.goOffline()
	default:
		p.d.goOnline()
	}
	p.joined = id
}

// serve sends what is queued, in order, until ctx ends, or, once the device is
// draining, until there is nothing more or nobody to send it to.
func (p *publisher) serve(ctx context.Context) {
	d := p.d
	for ctx.Err() == nil {
		p.look()
		wait := d.tick()
		e, ok, draining := d.next()
		if !ok {
			if draining {
				return
			}
			p.rest(ctx, wait)
			continue
		}
		err := p.send(ctx, &e)
		if err != nil && (ctx.Err() != nil || p.r.id() != p.joined) {
			d.goOffline(e)
			p.joined = 0
			continue
		}
		p.account(&e, err)
	}
}

// rest waits for something to do: for news, or, unless wait is 0, for a reading
// whose time has come.
func (p *publisher) rest(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-p.d.wake:
	case <-due:
	case <-ctx.Done():
	}
}

func (p *publisher) send(ctx context.Context, e *entry) error {
	if e.slot == alarmSlot {
		a := e.value.(alarmEvent)
		return p.r.publish(ctx, p.d.topics[a.slot]+".alarm", wamp.List{a.word()}, a.dict(), false)
	}
	if e.slot == statusSlot {
		s := e.value.(Status)
		return p.r.publish(ctx, p.d.base+".status", wamp.List{string(s.State)}, s.dict(), true)
	}
	clear(p.kwargs)
	for k, v := range e.extra {
		p.kwargs[k] = v
	}
	if e.edge.Seq > 0 {
		p.edge = [3]int64{e.edge.Seq, e.edge.Dropped, int64(e.edge.Clock)}
		p.kwargs["edge_seq"], p.kwargs["edge_dropped"], p.kwargs["edge_clock"] = &p.edge[0], &p.edge[1], &p.edge[2]
	}
	p.args[0] = e.value
	p.seq, p.stamp = e.seq, stamp(e.time)
	p.kwargs["unit"] = p.d.units[e.slot]
	p.kwargs["time"] = &p.stamp
	p.kwargs["seq"] = &p.seq
	switch e.quality {
	case QualityGood:
		p.kwargs["quality"] = good
	case QualityUncertain:
		p.kwargs["quality"] = uncertain
	default:
		p.kwargs["quality"] = bad
	}
	if e.reason != "" {
		p.kwargs["reason"] = e.reason
	}
	return p.r.publish(ctx, p.d.topics[e.slot], p.args[:], p.kwargs, false)
}

// account counts what became of e, and logs the first of a row of failures:
// such an event can never be sent, as when its extra arguments have no
// encoding.
func (p *publisher) account(e *entry, err error) {
	p.d.mu.Lock()
	switch {
	case err != nil:
		p.d.status.Dropped++
	case e.slot >= 0:
		p.d.status.Published++
	}
	p.d.mu.Unlock()
	if err != nil && !p.failed {
		p.d.log.Warn("device event not published", "reason", err)
	}
	p.failed = err != nil
}

// next takes the next entry to send.
func (d *hosted) next() (e entry, ok, draining bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.online {
		return entry{}, false, d.draining
	}
	if len(d.alarms) > 0 { // they overtake values
		a := d.alarms[0]
		d.alarms = d.alarms[1:]
		return entry{slot: alarmSlot, value: a}, true, false
	}
	if e, ok = d.queue.pop(); ok {
		return e, true, false
	}
	if d.statusPending {
		d.statusPending = false
		return entry{slot: statusSlot, value: d.statusLocked()}, true, false
	}
	return entry{}, false, d.draining
}

// goOnline queues what there is to say to a realm that may never have heard
// of the device: its state, and every value that could not be published.
func (d *hosted) goOnline() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.online { // it was away so shortly that nobody noticed
		d.statusPending = true
		return
	}
	d.online, d.statusPending = true, false
	d.queue.push(entry{slot: statusSlot, value: d.statusLocked()})
	var late []entry
	for slot, is := range d.pending {
		if is {
			late = append(late, d.latest[slot])
			d.pending[slot] = false
		}
	}
	slices.SortStableFunc(late, func(a, b entry) int { return a.time.Compare(b.time) })
	for _, e := range late {
		d.enqueue(e)
	}
}

// goOffline empties the queue: of each reading only the newest value is kept.
// taken is what was taken from the queue before, and not sent.
func (d *hosted) goOffline(taken ...entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.online = false
	for _, e := range taken {
		d.postpone(e)
	}
	for e, ok := d.queue.pop(); ok; e, ok = d.queue.pop() {
		d.postpone(e)
	}
}

func (d *hosted) postpone(e entry) {
	switch e.slot {
	case statusSlot:
		d.statusPending = true
		return
	case alarmSlot:
		d.alarms = slices.Insert(d.alarms, 0, e.value.(alarmEvent))
		return
	}
	if d.latest[e.slot].seq != e.seq {
		d.status.Coalesced++
	}
	d.pending[e.slot] = true
}
