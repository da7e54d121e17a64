package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// errBusy answers a command that comes while too many others are under way.
var errBusy = wamp.Errorf(ErrDeviceUnavailable, "too many commands are under way")

// command carries out a command from MQTT, or says why not. It does not block:
// the call has a goroutine of its own, which ends with its timeout.
func (c *calls) command(r *callRoute, v values, m Received) {
	if m.Retained { // it may be a year old
		c.gauge.drop(Stale, 1, nil, m.Topic, errors.New("a retained message is no command"))
		return
	}
	scope := expr.Scope{Topic: m.Topic, Now: time.Now(), Capture: v.get}
	a := answerer{calls: c, route: r, values: v}
	if id, ok := v[idCapture]; ok {
		scope.ID = id[0]
	}
	var args wamp.List
	var kwargs wamp.Dict
	var err error
	if len(m.Payload) > 0 {
		if r.id != nil {
			doc, _ := r.write.doc.DecodeValue(m.Payload)
			a.id, _ = r.id.Get(&expr.Scope{Doc: doc})
			scope.ID = idText(a.id)
		}
		args, kwargs, err = r.write.read(m.Payload, &scope)
	}
	if scope.ID != "" && c.repeated(r, scope.ID, scope.Now) {
		c.gauge.drop(Repeated, 1, nil, m.Topic, nil)
		return
	}
	uri := v.uri(&r.procedure, alphabetOf(c.rule))
	switch {
	case err != nil:
		c.gauge.drop(BadPayload, 1, nil, m.Topic, err)
		c.dead(deadLetter{Topic: m.Topic, Map: r.Name, Reason: err.Error(), Payload: base64.StdEncoding.EncodeToString(m.Payload)})
		c.spawn(func(context.Context) {
			a.fail(wamp.Errorf(wamp.ErrInvalidArgument, "the command cannot be read: %v", err))
		})
		return
	case !c.rule.ValidURI(uri) || wamp.Reserved(uri):
		c.gauge.drop(BadTopic, 1, nil, m.Topic, errNoURIOfTopic)
		return
	}
	c.mu.Lock()
	full := c.opened[r] >= r.MaxOpen
	if !full {
		c.opened[r]++
	}
	c.mu.Unlock()
	if full {
		// The answer would be one more of what there is too much of.
		c.gauge.drop(Backlog, 1, nil, m.Topic, errBusy)
		return
	}
	a.scope = scope
	started := c.spawn(func(ctx context.Context) {
		defer c.release(r)
		a.call(ctx, uri, args, kwargs)
	})
	if !started {
		c.release(r)
	}
}

func (c *calls) release(r *callRoute) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened[r]--
}

// spawn starts a goroutine that the task waits for; not when the task ends.
func (c *calls) spawn(f func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.work == nil || c.work.Err() != nil {
		return false
	}
	ctx := c.work
	c.running.Go(func() { f(ctx) })
	return true
}

// repeated reports whether a command with the id came before, within the time
// for which ids are remembered.
func (c *calls) repeated(r *callRoute, id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Name + "\x00" + id
	if until, ok := c.seen[key]; ok && now.Before(until) {
		return true
	}
	if len(c.seen) >= maxRemembered {
		for k, until := range c.seen {
			if !now.Before(until) {
				delete(c.seen, k)
			}
		}
		for k := range c.seen {
			if len(c.seen) < maxRemembered {
				break
			}
			delete(c.seen, k)
		}
	}
	c.seen[key] = now.Add(r.OncePerID)
	return false
}

// answerer answers one command.
type answerer struct {
	calls  *calls
	route  *callRoute
	values values
	scope  expr.Scope
	id     any // within the payload, as it came
}

func (a *answerer) call(ctx context.Context, uri string, args wamp.List, kwargs wamp.Dict) {
	ctx, cancel := context.WithTimeout(ctx, a.route.Timeout)
	defer cancel()
	caller := a.calls.callers[a.route]
	if caller == nil {
		a.fail(wamp.Errorf(ErrDeviceUnavailable, "the gateway cannot call for %s", a.route.Name))
		return
	}
	result, err := caller.Call(ctx, uri, args, kwargs, client.Timeout(a.route.Timeout))
	var refused *wamp.Error
	switch {
	case err == nil:
		a.calls.gauge.in.Add(1)
		a.succeed(result)
	case errors.As(err, &refused):
		a.calls.gauge.drop(Refused, 1, nil, a.scope.Topic, err)
		a.fail(refused)
	case ctx.Err() != nil:
		a.calls.gauge.drop(Refused, 1, nil, a.scope.Topic, err)
		a.fail(wamp.Errorf(wamp.ErrTimeout, "no answer within %v", a.route.Timeout))
	default:
		a.calls.gauge.drop(Refused, 1, nil, a.scope.Topic, err)
		a.fail(wamp.Errorf(ErrDeviceUnavailable, "the gateway's router cannot be reached"))
	}
}

// succeed publishes the result: as reply_codec writes it, or, where the payload
// carries the id, as {"id": …, "result": …}.
func (a *answerer) succeed(result *client.Result) {
	if a.route.reply == nil {
		return
	}
	var b []byte
	var err error
	switch {
	case a.id != nil && a.route.read.template == nil:
		var v any
		if v, err = a.route.read.gather(result.Args, result.KwArgs); err == nil {
			b, err = codec.JSON.AppendValue(nil, wamp.Dict{"id": a.id, "result": v})
		}
	case len(result.Args)+len(result.KwArgs) > 0 || a.route.read.template != nil:
		b, err = a.route.read.write(result.Args, result.KwArgs, &a.scope)
	}
	if err != nil {
		a.fail(wamp.Errorf(wamp.ErrInvalidArgument, "the result cannot be written: %v", err))
		return
	}
	a.publish(b)
}

// fail publishes an error: {"error": uri, "message": text}, with the id where
// the payload carries it.
func (a *answerer) fail(e *wamp.Error) {
	if a.route.reply == nil {
		return
	}
	d := wamp.Dict{"error": e.URI}
	if len(e.Args) > 0 {
		d["message"] = fmt.Sprint(e.Args[0])
	}
	if a.id != nil {
		d["id"] = a.id
	}
	b, err := codec.JSON.AppendValue(nil, d)
	if err != nil {
		a.calls.gauge.drop(BadPayload, 1, nil, a.scope.Topic, err)
		return
	}
	a.publish(b)
}

func (a *answerer) publish(b []byte) {
	m := Message{Topic: a.values.topic(a.route.reply), Payload: b, QoS: byte(a.route.QoS)}
	if m.Topic == "" {
		a.calls.gauge.drop(BadURI, 1, nil, a.scope.Topic, errNoTopicOfURI)
		return
	}
	if a.calls.publish(m) == nil {
		a.calls.gauge.drop(Offline, 1, nil, m.Topic, nil)
	}
}
