package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// waiter is a call that waits for a device's answer.
type waiter struct {
	route *callRoute
	scope expr.Scope // of the call: its arguments and captures
	done  chan outcome
}

type outcome struct {
	result *client.Result
	err    error
}

// register offers the procedures that devices answer. What the realm refuses is
// told and left out; an error is a session that has failed.
func (c *calls) register(ctx context.Context, sess session, told func(procedure string, err error)) error {
	for _, r := range c.out {
		shape := route{wamp: r.procedure, mqtt: r.request}
		for _, s := range shape.subscriptions() {
			_, err := sess.Register(ctx, s.Pattern, func(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
				return c.ask(ctx, r, inv)
			}, client.RegisterPattern(s.Match))
			var refused *wamp.Error
			if errors.As(err, &refused) {
				told(r.Procedure, err)
			} else if err != nil {
				return fmt.Errorf("register %q: %w", r.Procedure, err)
			}
		}
	}
	return nil
}

// ask sends a call to its device and waits for the answer.
func (c *calls) ask(ctx context.Context, r *callRoute, inv *client.Invocation) (*client.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	v, err := c.captures(r, inv.Procedure)
	if err != nil {
		return nil, err
	}
	w := &waiter{route: r, done: make(chan outcome, 1)}
	w.scope = expr.Scope{URI: inv.Procedure, Now: time.Now(), Capture: v.get}
	if r.numbered() {
		w.scope.ID = c.nextID()
		v[idCapture] = []string{w.scope.ID}
	}
	m := Message{Topic: v.topic(&r.request), QoS: byte(r.QoS)}
	w.scope.Topic = m.Topic
	if m.Topic == "" {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "no MQTT topic is written as %s", inv.Procedure)
	}
	if m.Payload, err = r.payload(inv.Args, inv.KwArgs, &w.scope); err != nil {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "the arguments cannot be written as %s has it: %v", r.Name, err)
	}
	if r.available != nil && c.isAbsent(v.topic(r.available)) {
		return nil, wamp.Errorf(ErrDeviceUnavailable, "the device says on %s that it is away", v.topic(r.available))
	}
	key := ""
	if r.reply != nil {
		key = v.topic(r.reply)
		if r.id != nil {
			key += "\x00" + w.scope.ID
		}
	}
	lost, err := c.wait(key, w)
	if err != nil {
		return nil, err
	}
	defer c.forget(key, w)
	token := c.publish(m)
	if token == nil {
		return nil, wamp.Errorf(ErrDeviceUnavailable, "the MQTT broker %s is not connected", r.Broker)
	}
	return c.await(ctx, w, token, lost)
}

// await waits for the answer; without one to come, for the broker's
// acknowledgement.
func (c *calls) await(ctx context.Context, w *waiter, token Token, lost <-chan struct{}) (*client.Result, error) {
	acknowledged := token.Done()
	for {
		select {
		case o := <-w.done:
			return o.result, o.err
		case <-acknowledged:
			if token.Error() != nil {
				return nil, wamp.Errorf(ErrDeviceUnavailable, "the MQTT broker %s did not take the request", w.route.Broker)
			}
			c.gauge.out.Add(1)
			if w.route.reply == nil {
				return &client.Result{}, nil
			}
			acknowledged = nil
		case <-lost:
			return nil, wamp.Errorf(ErrDeviceUnavailable, "the connection to the MQTT broker %s was lost; whether the device has done it is not known", w.route.Broker)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, wamp.Errorf(wamp.ErrTimeout, "no answer to %s within %v", w.scope.Topic, w.route.Timeout)
			}
			return nil, wamp.Errorf(wamp.ErrCanceled, "the call was cancelled")
		}
	}
}

// payload is a request's payload; a call without arguments has an empty one,
// unless a template says otherwise.
func (r *callRoute) payload(args wamp.List, kwargs wamp.Dict, scope *expr.Scope) ([]byte, error) {
	if len(args)+len(kwargs) == 0 && r.write.template == nil {
		return nil, nil
	}
	return r.write.write(args, kwargs, scope)
}

// captures are those of a procedure, as topics have them.
func (c *calls) captures(r *callRoute, procedure string) (values, error) {
	levels := appendCut(nil, procedure, '.')
	v, ok := r.procedure.take(levels)
	if !ok {
		return nil, wamp.Errorf(wamp.ErrNoSuchProcedure, "there is no procedure %s", procedure)
	}
	a := alphabetOf(c.rule)
	for name, components := range v {
		out := make([]string, len(components))
		for i, component := range components {
			level, ok := a.appendLevel(nil, component)
			if !ok {
				return nil, wamp.Errorf(wamp.ErrInvalidArgument, "no MQTT topic is written as %s", procedure)
			}
			out[i] = string(level)
		}
		v[name] = out
	}
	return v, nil
}

func (c *calls) nextID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	return strconv.FormatInt(c.number, 10)
}

// wait puts a waiter in place; its channel is closed when the connection is
// lost.
func (c *calls) wait(key string, w *waiter) (lost <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		return nil, wamp.Errorf(ErrDeviceUnavailable, "the MQTT broker %s is not connected", w.route.Broker)
	}
	if c.opened[w.route] >= w.route.MaxOpen {
		return nil, wamp.Errorf(ErrDeviceUnavailable, "%d calls of %s wait for an answer already", w.route.MaxOpen, w.route.Name)
	}
	c.opened[w.route]++
	if key != "" {
		c.open[key] = append(c.open[key], w)
	}
	return c.lost, nil
}

func (c *calls) forget(key string, w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened[w.route]--
	c.open[key] = slices.DeleteFunc(c.open[key], func(o *waiter) bool { return o == w })
	if len(c.open[key]) == 0 {
		delete(c.open, key)
	}
}

// answered gives a message to the call that it answers, if there is one: the
// oldest of those that wait for it.
func (c *calls) answered(r *callRoute, m Received) {
	key := m.Topic
	if r.id != nil {
		doc, _ := r.read.doc.DecodeValue(m.Payload) // what is no document answers nothing
		id, ok := r.id.Get(&expr.Scope{Doc: doc})
		if !ok {
			return
		}
		key += "\x00" + idText(id)
	}
	c.mu.Lock()
	waiting := slices.Clone(c.open[key])
	c.mu.Unlock()
	for _, w := range waiting {
		if w.route != r {
			continue
		}
		if o, ok := r.outcome(w, m.Payload); ok {
			select {
			case w.done <- o:
				return
			default: // it has one
			}
		}
	}
}

// outcome reads a reply for a call; ok is false when it is none for it.
func (r *callRoute) outcome(w *waiter, payload []byte) (o outcome, ok bool) {
	scope := w.scope
	doc, _ := r.read.doc.DecodeValue(payload)
	if r.fault != nil {
		scope.Doc = doc
		if v, found := r.fault.Get(&scope); found && v != nil {
			return outcome{err: deviceError(v)}, true
		}
	}
	var args wamp.List
	var kwargs wamp.Dict
	var err error
	if len(payload) > 0 {
		args, kwargs, err = r.read.read(payload, &scope)
	}
	if doc != nil {
		scope.Doc = doc
	}
	if r.replyIf != nil && !r.replyIf.Holds(&scope) {
		return outcome{}, false
	}
	if err != nil {
		return outcome{err: wamp.Errorf(ErrDeviceRefused, "the device's answer cannot be read: %v", err)}, true
	}
	return outcome{result: &client.Result{Values: client.Values{Args: args, KwArgs: kwargs}}}, true
}

// deviceError is what a device says of its failure: the text, or the message
// and code within an object.
func deviceError(v any) *wamp.Error {
	text := "the device refused"
	switch v := v.(type) {
	case string:
		text = v
	case map[string]any:
		if m, ok := v["message"].(string); ok {
			text = m
		}
	}
	e := wamp.Errorf(ErrDeviceRefused, "%s", text)
	// Not "error": autobahn for Python cannot take that.
	e.KwArgs = wamp.Dict{"detail": v}
	return e
}

func idText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	}
	return ""
}

func (c *calls) noteAvailability(r *callRoute, m Received) {
	here := true
	if len(m.Payload) > 0 {
		v, err := r.present.value(m.Payload, &expr.Scope{})
		if err != nil {
			return
		}
		here = v != false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if here {
		delete(c.absent, m.Topic)
	} else if len(c.absent) < maxRemembered {
		c.absent[m.Topic] = true
	}
}

func (c *calls) isAbsent(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent[topic]
}
