package realm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func newRealm(tb testing.TB) *realm.Realm {
	tb.Helper()
	r, err := realm.New(testConfig())
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func join(r *realm.Realm, features ...string) *realm.Session {
	d := wamp.Dict{}
	for _, f := range features {
		d[f] = true
	}
	s := &realm.Session{
		Identity: realm.Identity{AuthID: "test", AuthRole: "user"},
		Roles:    wamp.Dict{"callee": wamp.Dict{"features": d}},
	}
	r.Join(s, 0)
	return s
}

// only returns the one message among effects, which is for to.
func only[M wamp.Message](tb testing.TB, effects []realm.Effect, to *realm.Session) M {
	tb.Helper()
	if len(effects) != 1 || effects[0].To != to {
		tb.Fatalf("effects %+v, want one for %d", effects, to.ID)
	}
	m, ok := effects[0].Msg.(M)
	if !ok {
		tb.Fatalf("effect is %T, want %T", effects[0].Msg, m)
	}
	return m
}

func TestNewRefuses(t *testing.T) {
	for want, change := range map[string]func(*realm.Config){
		"Encoding":            func(c *realm.Config) { c.Encoding = nil },
		"NewID":               func(c *realm.Config) { c.NewID = nil },
		"not a valid URI":     func(c *realm.Config) { c.Name = "two words" },
		"role \"user\" is":    func(c *realm.Config) { c.Roles = append(c.Roles, realm.Role{Name: "user"}) },
		"not a valid pattern": func(c *realm.Config) { c.Roles[0].Permissions[0] = realm.Permission{URI: "com..a"} },
		"(prefix) is there tw": func(c *realm.Config) {
			c.Roles[0].Permissions = append(c.Roles[0].Permissions, c.Roles[0].Permissions[0])
		},
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := realm.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestJoinDrawsAnUnusedID(t *testing.T) {
	cfg := testConfig()
	ids := []wamp.ID{7, 7, 7, 8}
	cfg.NewID = func() wamp.ID { id := ids[0]; ids = ids[1:]; return id }
	r, err := realm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := join(r), join(r); a.ID != 7 || b.ID != 8 {
		t.Errorf("sessions %d and %d, want 7 and 8", a.ID, b.ID)
	}
	s := join(newRealm(t))
	if got := r.Join(s, 0); len(got) != 0 {
		t.Errorf("joining twice has effects: %+v", got)
	}
}

// TestInvalidRequestIDs: a codec may let them through, the realm does not.
func TestInvalidRequestIDs(t *testing.T) {
	for _, m := range []wamp.Message{
		&wamp.Subscribe{Request: 0, Topic: "com.a"},
		&wamp.Call{Request: wamp.MaxID + 1, Procedure: "com.a"},
	} {
		r := newRealm(t)
		s := join(r)
		abort := only[*wamp.Abort](t, r.Step(s, m, 0), s)
		if abort.Reason != wamp.ErrProtocolViolation {
			t.Errorf("%s %v", abort.Reason, abort.Details)
		}
		if st := r.Stats(); st.Sessions != 0 || st.Aborted != 1 {
			t.Errorf("afterwards: %+v", st)
		}
	}
}

// TestThousandsPending: however many calls a callee leaves unanswered, each
// caller is told, in order, with its own request ID.
func TestThousandsPending(t *testing.T) {
	const n = 3000
	r := newRealm(t)
	callee, caller := join(r), join(r)
	r.Step(callee, &wamp.Register{Request: 1, Procedure: "com.slow"}, 0)
	for i := range wamp.ID(n) {
		only[*wamp.Invocation](t, r.Step(caller, &wamp.Call{Request: i + 1, Procedure: "com.slow"}, 0), callee)
	}
	effects := r.Leave(callee, 0)
	if len(effects) != n {
		t.Fatalf("%d effects, want %d", len(effects), n)
	}
	for i, e := range effects {
		m, ok := e.Msg.(*wamp.ErrorMessage)
		if !ok || e.To != caller || m.Request != wamp.ID(i+1) || m.URI != wamp.ErrCanceled || m.Type != wamp.KindCall {
			t.Fatalf("effect %d is %+v", i, e.Msg)
		}
	}
	if st := r.Stats(); st.PendingCalls != 0 || st.Registrations != 0 || st.Sessions != 1 {
		t.Errorf("afterwards: %+v", st)
	}
}

// TestOrphansAreBounded: a callee that never answers calls whose callers have
// gone costs no more memory with each, and its late answers do no harm.
func TestOrphansAreBounded(t *testing.T) {
	r := newRealm(t)
	callee := join(r)
	r.Step(callee, &wamp.Register{Request: 1, Procedure: "com.slow"}, 0)
	const n = 5000
	for range n {
		caller := join(r)
		r.Step(caller, &wamp.Call{Request: 1, Procedure: "com.slow"}, 0)
		r.Leave(caller, 0)
	}
	for id := range wamp.ID(n) {
		if got := r.Step(callee, &wamp.Yield{Request: id + 1}, 0); len(got) != 0 {
			t.Fatalf("late answer to %d: %+v", id+1, got)
		}
	}
	// What never was is still a violation.
	if abort := only[*wamp.Abort](t, r.Step(callee, &wamp.Yield{Request: n + 1}, 0), callee); abort.Reason != wamp.ErrProtocolViolation {
		t.Errorf("reason %s", abort.Reason)
	}
	if st := r.Stats(); st.PendingCalls != 0 {
		t.Errorf("afterwards: %+v", st)
	}
}

// TestSharedEvent: the subscribers of one subscription get the same message,
// one after the other, so that it is encoded once.
func TestSharedEvent(t *testing.T) {
	r := newRealm(t)
	publisher := join(r)
	for range 3 {
		s := join(r)
		r.Step(s, &wamp.Subscribe{Request: 1, Topic: "com.a"}, 0)
		r.Step(s, &wamp.Subscribe{Request: 2, Topic: "com.", Options: wamp.SubscribeOptions{Match: wamp.MatchPrefix}}, 0)
	}
	effects := r.Step(publisher, &wamp.Publish{Request: 1, Topic: "com.a"}, 0)
	if len(effects) != 6 {
		t.Fatalf("%d effects, want 6", len(effects))
	}
	for i, e := range effects {
		if (e.Msg == effects[0].Msg) != (i < 3) || (e.Msg == effects[3].Msg) != (i >= 3) {
			t.Errorf("effect %d has message %p", i, e.Msg)
		}
	}
}

var (
	cause   = wamp.Errorf(wamp.ErrPayloadSizeExceeded, "too large")
	payload = wamp.Payload{Enc: codec.JSON, Args: []byte("[1]")}
	call    = &wamp.Call{Request: 9, Procedure: "com.a", Options: wamp.CallOptions{ReceiveProgress: true}}
)

func setup(t *testing.T) (r *realm.Realm, callee, caller *realm.Session) {
	r = newRealm(t)
	callee, caller = join(r, "call_canceling"), join(r)
	r.Step(callee, &wamp.Register{Request: 1, Procedure: "com.a"}, 0)
	return r, callee, caller
}

func isCause(t *testing.T, m *wamp.ErrorMessage) {
	t.Helper()
	if m.Type != wamp.KindCall || m.Request != 9 || m.URI != cause.URI {
		t.Errorf("answer %+v", m)
	}
}

func TestUndeliverable(t *testing.T) {
	t.Run("invocation", func(t *testing.T) {
		r, callee, caller := setup(t)
		inv := only[*wamp.Invocation](t, r.Step(caller, call, 0), callee)
		isCause(t, only[*wamp.ErrorMessage](t, r.Undeliverable(callee, inv, cause, 0), caller))
		if st := r.Stats(); st.PendingCalls != 0 {
			t.Errorf("afterwards: %+v", st)
		}
		if again := r.Undeliverable(callee, inv, cause, 0); len(again) != 0 {
			t.Errorf("a second time: %+v", again)
		}
	})
	t.Run("result", func(t *testing.T) {
		r, callee, caller := setup(t)
		r.Step(caller, call, 0)
		result := only[*wamp.Result](t, r.Step(callee, &wamp.Yield{Request: 1, Payload: payload}, 0), caller)
		isCause(t, only[*wamp.ErrorMessage](t, r.Undeliverable(caller, result, cause, 0), caller))
		r.Leave(caller, 0)
		if after := r.Undeliverable(caller, result, cause, 0); len(after) != 0 {
			t.Errorf("after it has left: %+v", after)
		}
	})
	t.Run("progressive result", func(t *testing.T) {
		r, callee, caller := setup(t)
		r.Step(caller, call, 0)
		progress := &wamp.Yield{Request: 1, Options: wamp.YieldOptions{Progress: true}, Payload: payload}
		result := only[*wamp.Result](t, r.Step(callee, progress, 0), caller)
		effects := r.Undeliverable(caller, result, cause, 0)
		if len(effects) != 2 || effects[0].To != callee || effects[1].To != caller {
			t.Fatalf("effects %+v, want INTERRUPT and ERROR", effects)
		}
		isCause(t, effects[1].Msg.(*wamp.ErrorMessage))
		if more := r.Step(callee, progress, 0); len(more) != 0 {
			t.Errorf("more progress: %+v", more)
		}
		if again := r.Undeliverable(caller, result, cause, 0); len(again) != 0 {
			t.Errorf("another progressive result: %+v", again)
		}
	})
	t.Run("error", func(t *testing.T) {
		r, callee, caller := setup(t)
		r.Step(caller, call, 0)
		full := only[*wamp.ErrorMessage](t, r.Step(callee,
			&wamp.ErrorMessage{Type: wamp.KindInvocation, Request: 1, URI: "com.error", Payload: payload}, 0), caller)
		bare := only[*wamp.ErrorMessage](t, r.Undeliverable(caller, full, cause, 0), caller)
		if bare.URI != "com.error" || bare.Request != 9 || bare.Size() != 0 || full.Size() == 0 {
			t.Errorf("instead of %+v: %+v", full, bare)
		}
		// Who cannot even take that is let go.
		effects := r.Undeliverable(caller, bare, cause, 0)
		if len(effects) != 1 || !effects[0].End || effects[0].To != caller || r.Stats().Sessions != 1 {
			t.Errorf("effects %+v", effects)
		}
	})
	t.Run("event, interrupt", func(t *testing.T) {
		r, callee, _ := setup(t)
		for _, m := range []wamp.Message{&wamp.Event{}, &wamp.Interrupt{}} {
			if effects := r.Undeliverable(callee, m, cause, 0); len(effects) != 0 {
				t.Errorf("%T: %+v", m, effects)
			}
		}
	})
	t.Run("anything else", func(t *testing.T) {
		r, callee, _ := setup(t)
		if effects := r.Undeliverable(callee, &wamp.Registered{}, cause, 0); len(effects) != 1 || !effects[0].End {
			t.Errorf("effects %+v", effects)
		}
		r.Close(wamp.CloseSystemShutdown, 0)
		if st := r.Stats(); st.Registrations != 0 {
			t.Errorf("afterwards: %+v", st)
		}
	})
}

// TestAbortWhileClosing: once GOODBYE was sent, nothing but the end follows.
func TestAbortWhileClosing(t *testing.T) {
	r := newRealm(t)
	s := join(r)
	only[*wamp.Goodbye](t, r.Close(wamp.CloseSystemShutdown, 0), s)
	effects := r.Abort(s, wamp.ErrProtocolViolation, "junk", 0)
	if len(effects) != 1 || effects[0].Msg != nil || !effects[0].End {
		t.Errorf("effects %+v", effects)
	}
	if effects := r.Abort(s, wamp.ErrProtocolViolation, "junk", 0); len(effects) != 0 {
		t.Errorf("a second time: %+v", effects)
	}
}

func TestAbort(t *testing.T) {
	r := newRealm(t)
	s, caller := join(r), join(r)
	r.Step(s, &wamp.Register{Request: 1, Procedure: "com.a"}, 0)
	r.Step(caller, &wamp.Call{Request: 1, Procedure: "com.a"}, 0)
	effects := r.Abort(s, wamp.ErrPayloadSizeExceeded, "too large", 0)
	if len(effects) != 2 || effects[0].To != caller || effects[1].To != s || !effects[1].End ||
		effects[1].Msg.(*wamp.Abort).Reason != wamp.ErrPayloadSizeExceeded {
		t.Errorf("effects %+v", effects)
	}
}

// TestRetainedBytes: what is retained is bounded in bytes and does not hold on
// to the frame that brought it.
func TestRetainedBytes(t *testing.T) {
	cfg := testConfig()
	cfg.Limits.RetainedBytes = 10_000
	r, err := realm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, sub := join(r), join(r)
	frame := []byte(`["` + strings.Repeat("x", 4000) + `"]`)
	for i := range wamp.ID(5) {
		r.Step(s, &wamp.Publish{
			Request: i + 1, Topic: fmt.Sprintf("com.t%d", i), Options: wamp.PublishOptions{Retain: true},
			Payload: wamp.Payload{Enc: codec.JSON, Args: frame},
		}, 0)
	}
	frame[2] = 'y'
	st := r.Stats()
	if st.Retained != 2 || st.RetainDeclined != 3 || st.RetainedBytes > 10_000 {
		t.Errorf("%+v", st)
	}
	effects := r.Step(sub, &wamp.Subscribe{Request: 1, Topic: "com.t0", Options: wamp.SubscribeOptions{GetRetained: true}}, 0)
	if len(effects) != 2 || string(effects[1].Msg.(*wamp.Event).Args[:3]) != `["x` {
		t.Errorf("effects %+v", effects)
	}
	// A topic whose new event does not fit has no retained event.
	r.Step(s, &wamp.Publish{
		Request: 9, Topic: "com.t0", Options: wamp.PublishOptions{Retain: true},
		Payload: wamp.Payload{Enc: codec.JSON, Args: make([]byte, 20_000)},
	}, 0)
	if st := r.Stats(); st.Retained != 1 {
		t.Errorf("%+v", st)
	}
}

// TestRevocation: a subscription that is taken away is gone, and so is what a
// role may do no more; who announced that it understands is told.
func TestRevocation(t *testing.T) {
	r := newRealm(t)
	told := &realm.Session{Identity: realm.Identity{AuthRole: "user"}, Roles: wamp.Dict{
		"subscriber": wamp.Dict{"features": wamp.Dict{"subscription_revocation": true}},
		"callee":     wamp.Dict{"features": wamp.Dict{"registration_revocation": true}},
	}}
	r.Join(told, 0)
	plain := join(r)
	for i, s := range []*realm.Session{told, plain} {
		r.Step(s, &wamp.Subscribe{Request: 1, Topic: "com.a"}, 0)
		r.Step(s, &wamp.Subscribe{Request: 2, Topic: "com.b", Options: wamp.SubscribeOptions{Match: wamp.MatchPrefix}}, 0)
		r.Step(s, &wamp.Register{Request: 3, Procedure: fmt.Sprintf("com.p%d", i)}, 0)
	}
	texts := func(effects []realm.Effect) string {
		var lines []string
		for _, e := range effects {
			b, err := codec.JSON.Append(nil, e.Msg)
			if err != nil {
				t.Fatal(err)
			}
			if e.To != told {
				lines = append(lines, "another heard")
			}
			lines = append(lines, string(b))
		}
		return strings.Join(lines, " ")
	}
	if got, want := texts(r.Revoke(told, 1, "because", 0)), `[35,0,{"subscription":1,"reason":"because"}]`; got != want {
		t.Errorf("revoked: %s, want %s", got, want)
	}
	if got := r.Revoke(told, 1, "again", 0); len(got) != 0 {
		t.Errorf("revoked twice: %v", got)
	}
	if got := r.Revoke(plain, 1, "because", 0); len(got) != 0 {
		t.Errorf("a session that does not understand heard %v", got)
	}

	if _, err := r.SetRoles([]realm.Role{everything("user"), everything("user")}, 0); err == nil {
		t.Error("a role that is there twice was accepted")
	}
	less := realm.Role{Name: "user", Permissions: []realm.Permission{
		{URI: "com.b", Match: wamp.MatchPrefix, Allow: realm.Actions{Publish: true}},
		{URI: "com.p1", Allow: realm.Actions{Register: true}},
	}}
	effects, err := r.SetRoles([]realm.Role{less}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := `[35,0,{"subscription":2,"reason":"no longer authorized"}] [67,0,{"registration":1,"reason":"no longer authorized"}]`
	if got := texts(effects); got != want {
		t.Errorf("with less rights: %s, want %s", got, want)
	}
	if st := r.Stats(); st.Subscriptions != 0 || st.Registrations != 1 {
		t.Errorf("%d subscriptions and %d registrations are left, want none and 1", st.Subscriptions, st.Registrations)
	}
	if got := r.Step(plain, &wamp.Publish{Request: 4, Topic: "com.b"}, 0); len(got) != 0 {
		t.Errorf("an event after the revocation: %v", got)
	}
}

// TestWall: timestamps are by people's clock, however often it is set.
func TestWall(t *testing.T) {
	cfg := testConfig()
	cfg.History = []realm.History{{URI: "com.a"}}
	wall := realm.Time(1_000_000_000e9) // 2001-09-09T01:46:40
	cfg.Wall = func(realm.Time) realm.Time { return wall }
	r, err := realm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := join(r)
	answer := func(request wamp.ID, procedure string) string {
		t.Helper()
		m := only[*wamp.Result](t, r.Step(s, &wamp.Call{
			Request: request, Procedure: procedure, Payload: wamp.Payload{Enc: codec.JSON, Args: []byte("[1]")},
		}, 5), s)
		return string(m.Args)
	}
	if got := answer(1, "wamp.subscription.get"); !strings.Contains(got, `"created":"2001-09-09T01:46:40.000Z"`) {
		t.Errorf("the history's subscription: %s", got)
	}
	wall += 1e9
	r.Step(s, &wamp.Publish{Request: 2, Topic: "com.a"}, 5)
	if got := answer(3, "wamp.subscription.get_events"); !strings.Contains(got, `"timestamp":"2001-09-09T01:46:41.000Z"`) {
		t.Errorf("the event: %s", got)
	}
}
