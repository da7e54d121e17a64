//go:build system

package test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

const advancedSite = `
listen:
  http: 127.0.0.1:{{http}}
  rawsocket: 127.0.0.1:{{raw}}
  unix: {{unix}}
realms:
  - name: realm1
    anonymous: full
    history: [{match: prefix, uri: com.kept., limit: 10}]
mqtt: {listen: "127.0.0.1:{{mqtt}}"}
`

// features are the advanced features that TestAdvanced has each client use,
// where the client has them.
var features = []struct {
	name    string
	clients []string
	run     func(*scenario)
}{
	{"progressive call results, as caller", []string{"autobahn-js", "wampy", "python3-autobahn"}, func(s *scenario) { s.progress(s.c, s.partner) }},
	{"progressive call results, as callee", []string{"autobahn-js", "wampy", "python3-autobahn"}, func(s *scenario) { s.progress(s.partner, s.c) }},
	{"call cancelling (kill)", []string{"autobahn-js", "wampy"}, func(s *scenario) { s.cancelled("kill") }},
	{"call cancelling (skip, killnowait)", []string{"wampy"}, func(s *scenario) { s.cancelled("skip"); s.cancelled("killnowait") }},
	{"call timeout", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).timeout},
	{"shared registration", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).shared},
	{"pattern-based registration", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).pattern},
	{"retained events, published", []string{"autobahn-js", "python3-autobahn"}, func(s *scenario) { s.retained("out", s.c, s.partner) }},
	{"retained events, received", []string{"autobahn-js", "wampy", "python3-autobahn"}, func(s *scenario) { s.retained("in", s.partner, s.c) }},
	{"event history", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).history},
	{"session and registration meta API", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).meta},
	{"payload passthru", []string{"wampy"}, (*scenario).passthru},
	{"session testaments", []string{"autobahn-js", "wampy", "python3-autobahn"}, (*scenario).testament}, // the last: it leaves
}

// inOrder are the features for which a client sends messages right behind each
// other. Over long-poll autobahn-js posts each at once, in a request of its own,
// and so they may overtake each other: there these are not run.
var inOrder = []string{"progressive call results, as callee", "call cancelling (kill)"}

// TestAdvanced has every client use the advanced features that it has, over
// every codec and transport.
func TestAdvanced(t *testing.T) {
	g := run(t, advancedSite)
	partner := start(t, "autobahn.js")
	partner.connect(g.url("ws"), "json")
	partner.must("register", map[string]any{"uri": "com.example.partner"})
	defer func() { partner.t = t }()
	n := 0
	for _, kind := range kinds {
		for _, transport := range kind.transports {
			for _, codec := range kind.codecs {
				n++
				t.Run(fmt.Sprintf("%s/%s/%s", kind.name, transport, codec), func(t *testing.T) {
					c := start(t, kind.program)
					partner.t = t
					c.connect(g.url(transport), codec)
					for _, f := range features {
						if slices.Contains(f.clients, kind.name) && !(transport == "lp" && slices.Contains(inOrder, f.name)) {
							f.run(&scenario{t: t, n: n, c: c, partner: partner})
						}
					}
				})
			}
		}
	}
}

// progress: each part comes, in order, before the result.
func (s *scenario) progress(caller, callee *client) {
	uri := "com.example.partner"
	if callee == s.c {
		uri = fmt.Sprintf("com.parts%d", s.n)
		callee.must("register", map[string]any{"uri": uri})
	}
	r := caller.must("call", map[string]any{
		"uri": uri, "args": []any{"end"}, "kwargs": map[string]any{"parts": 3}, "options": map[string]any{"receive_progress": true},
	})
	same(s.t, "final result", r.Args, []any{"end"})
	for i := range 3 {
		e := caller.wait("a part", func(e event) bool { return e.Event == "progress" && e.Topic == uri })
		same(s.t, "part", e.Args, []any{i})
	}
}

// cancelled: a call that is not answered ends when it is cancelled.
func (s *scenario) cancelled(mode string) {
	a := s.c.do("cancel", map[string]any{"uri": "com.example.partner", "mode": mode})
	if a.OK || a.Error != "wamp.error.canceled" {
		s.t.Errorf("a call cancelled with %s: %+v", mode, a)
	}
}

// timeout: the router ends a call that is not answered.
func (s *scenario) timeout() {
	a := s.c.do("call", map[string]any{
		"uri": "com.example.partner", "args": []any{}, "kwargs": map[string]any{"hang": true}, "options": map[string]any{"timeout": 50},
	})
	if a.OK || a.Error != "wamp.error.timeout" {
		s.t.Errorf("a call with a timeout of 50 ms: %+v", a)
	}
}

// shared: client and partner take turns.
func (s *scenario) shared() {
	uri, options := fmt.Sprintf("com.shared%d", s.n), map[string]any{"invoke": "roundrobin"}
	s.c.must("register", map[string]any{"uri": uri, "options": options, "answer": "client"})
	s.partner.must("register", map[string]any{"uri": uri, "options": options, "answer": "partner"})
	var got []any
	for range 4 {
		got = append(got, s.c.call(uri).Args...)
	}
	same(s.t, "answers in turn", got, []any{"client", "partner", "client", "partner"})
}

// pattern: calls go to the most exact registration.
func (s *scenario) pattern() {
	uri := fmt.Sprintf("com.pattern%d", s.n)
	for _, r := range []struct{ uri, match string }{{uri, "prefix"}, {uri + "..done", "wildcard"}, {uri + ".a.done", "exact"}} {
		fields := map[string]any{"uri": r.uri, "answer": r.match}
		if r.match != "exact" {
			fields["options"] = map[string]any{"match": r.match}
		}
		s.c.must("register", fields)
	}
	for _, call := range []struct{ uri, want string }{{".a.done", "exact"}, {".b.c", "prefix"}} {
		same(s.t, "who answered "+call.uri, s.partner.call(uri+call.uri).Args, []any{call.want})
	}
}

// retained: an event from before the subscription comes.
func (s *scenario) retained(way string, from, to *client) {
	topic := fmt.Sprintf("com.retained%d.%s", s.n, way)
	from.must("publish", map[string]any{
		"uri": topic, "args": []any{"kept", s.n}, "kwargs": map[string]any{}, "options": map[string]any{"retain": true},
	})
	to.must("subscribe", map[string]any{"uri": topic, "options": map[string]any{"get_retained": true}})
	e := to.wait("the retained event", func(e event) bool { return e.Topic == topic })
	same(s.t, "retained event", e.Args, []any{"kept", s.n})
}

// history: what was published is given out again, the newest first.
func (s *scenario) history() {
	topic := fmt.Sprintf("com.kept.t%d", s.n)
	s.c.subscribe(topic, "exact")
	for i := range 3 {
		s.partner.must("publish", map[string]any{"uri": topic, "args": []any{i}, "kwargs": map[string]any{}})
	}
	id := s.c.call("wamp.subscription.lookup", "com.kept.", map[string]any{"match": "prefix"}).Args[0]
	r := s.c.must("call", map[string]any{"uri": "wamp.subscription.get_events", "args": []any{id}, "kwargs": map[string]any{"limit": 2, "reverse": true, "topic": topic}})
	got := fmt.Sprint(r.Args, r.KwArgs)
	if len(r.Args) == 1 {
		if list, ok := r.Args[0].([]any); ok {
			r.Args = list
		}
	}
	if len(r.Args) != 2 {
		s.t.Fatalf("2 of 3 events were asked for, and came: %s", got)
	}
	seen := map[any]bool{}
	for _, e := range r.Args {
		e, _ := e.(map[string]any)
		args, _ := e["args"].([]any)
		if len(args) == 1 {
			seen[args[0]] = true
		}
	}
	if !reflect.DeepEqual(seen, map[any]bool{1.0: true, 2.0: true}) {
		s.t.Errorf("the last two events are %s", got)
	}
}

// meta: sessions are told of, and events of registrations come.
func (s *scenario) meta() {
	count := s.c.call("wamp.session.count").Args
	if n, ok := count[0].(float64); !ok || n < 2 {
		s.t.Errorf("wamp.session.count with two sessions: %v", count)
	}
	s.c.subscribe("wamp.registration.on_create", "exact")
	uri := fmt.Sprintf("com.meta%d", s.n)
	s.partner.must("register", map[string]any{"uri": uri})
	s.c.wait("wamp.registration.on_create", func(e event) bool {
		if e.Topic != "wamp.registration.on_create" || len(e.Args) != 2 {
			return false
		}
		d, _ := e.Args[1].(map[string]any)
		return d["uri"] == uri
	})
}

// passthru: packed arguments come out as they went in, there and back.
func (s *scenario) passthru() {
	uri := fmt.Sprintf("com.packed%d", s.n)
	s.c.must("register", map[string]any{"uri": uri})
	r := s.c.must("call", map[string]any{
		"uri": uri, "args": []any{"a", 1}, "kwargs": map[string]any{"k": true}, "options": map[string]any{"ppt_scheme": "x_test"},
	})
	same(s.t, "packed arguments", r.Args, []any{"a", 1})
	same(s.t, "packed keyword arguments", r.KwArgs, map[string]any{"k": true})
}

// testament: it is published when the session has left.
func (s *scenario) testament() {
	topic := fmt.Sprintf("com.testament%d", s.n)
	s.partner.subscribe(topic, "exact")
	s.c.call("wamp.session.add_testament", topic, []any{"gone"}, map[string]any{"n": s.n})
	s.c.do("close", nil)
	e := s.partner.wait("the testament", func(e event) bool { return e.Topic == topic })
	same(s.t, "testament", e.Args, []any{"gone"})
}
