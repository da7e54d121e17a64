package bridge

import (
	"context"
	"strings"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// procedures are what the bridge offers in the realm, by the last component of
// their URIs.
func (b *Bridge) procedures() map[string]client.Procedure {
	return map[string]client.Procedure{
		"list":         b.list,
		"status":       b.status,
		"pause":        b.forBroker(func(t *Task, _ *client.Invocation) (any, error) { t.Pause(true); return nil, nil }),
		"resume":       b.forBroker(func(t *Task, _ *client.Invocation) (any, error) { t.Pause(false); return nil, nil }),
		"purge":        b.forBroker(purge),
		"dead_letters": b.forBroker(deadLetters),
		"found":        b.found,
		"sparkplug":    b.sparkplug,
	}
}

func answer(v any) *client.Result {
	return &client.Result{Values: client.Values{Args: wamp.List{v}}}
}

func (b *Bridge) list(context.Context, *client.Invocation) (*client.Result, error) {
	names := wamp.List{}
	for _, t := range b.tasks {
		names = append(names, t.name)
	}
	return answer(names), nil
}

func (b *Bridge) found(context.Context, *client.Invocation) (*client.Result, error) {
	uris := wamp.List{}
	for _, t := range b.tasks {
		if t.finder != nil {
			uris = append(uris, t.finder.cfg.URI)
		}
	}
	return answer(uris), nil
}

func (b *Bridge) sparkplug(context.Context, *client.Invocation) (*client.Result, error) {
	all := wamp.List{}
	for _, e := range b.edges {
		all = append(all, e.dict())
	}
	return answer(all), nil
}

func (b *Bridge) status(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
	if len(inv.Args) > 0 {
		return b.forBroker(func(t *Task, _ *client.Invocation) (any, error) { return t.Status().Dict(), nil })(ctx, inv)
	}
	all := wamp.List{}
	for _, s := range b.Status() {
		all = append(all, s.Dict())
	}
	return answer(all), nil
}

// forBroker makes a procedure of a function that has the broker named by the
// first argument.
func (b *Bridge) forBroker(f func(*Task, *client.Invocation) (any, error)) client.Procedure {
	return func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		name := ""
		if len(inv.Args) > 0 {
			name, _ = inv.Args[0].(string)
		}
		for _, t := range b.tasks {
			if t.name != name {
				continue
			}
			v, err := f(t, inv)
			if err != nil {
				return nil, err
			}
			return answer(v), nil
		}
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "there is no broker %q; postern.bridge.list tells which there are", clip(strings.ToValidUTF8(name, "")))
	}
}

func purge(t *Task, inv *client.Invocation) (any, error) {
	if len(inv.Args) < 2 {
		n := t.queue.purge("", true)
		t.gauge.drop(Purged, n, nil, "", nil)
		return int64(n), nil
	}
	name, _ := inv.Args[1].(string)
	m := t.maps[name]
	if m == nil {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "broker %q has no map %q", t.name, clip(strings.ToValidUTF8(name, "")))
	}
	n := t.queue.purge(name, false)
	t.gauge.drop(Purged, n, m, "", nil)
	return int64(n), nil
}

func deadLetters(t *Task, _ *client.Invocation) (any, error) {
	t.gauge.mu.Lock()
	defer t.gauge.mu.Unlock()
	all := wamp.List{}
	for _, d := range t.gauge.letters {
		all = append(all, wamp.Dict{
			"topic": d.Topic, "uri": d.URI, "map": d.Map, "reason": d.Reason, "payload": d.Payload, "time": d.Time,
		})
	}
	return all, nil
}
