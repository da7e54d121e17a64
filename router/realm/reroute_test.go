package realm_test

import (
	"strings"
	"testing"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
)

// busy is what a router says of a callee whose queue is full.
var busy = wamp.Errorf(wamp.ErrUnavailable, "the callee has too many calls waiting")

// sharing makes a realm in which two callees share com.a.
func sharing(t *testing.T) (r *realm.Realm, first, second, caller *realm.Session) {
	r = newRealm(t)
	first, second, caller = join(r, "call_canceling", "progressive_call_invocations"), join(r), join(r)
	for _, s := range []*realm.Session{first, second} {
		r.Step(s, &wamp.Register{Request: 1, Procedure: "com.a", Options: wamp.RegisterOptions{Invoke: "first"}}, 0)
	}
	return r, first, second, caller
}

// TestBusyCallee: a call that a callee has no room for goes to another one, and
// fails when none has; whether they announced call_reroute does not matter.
func TestBusyCallee(t *testing.T) {
	r, first, second, caller := sharing(t)
	inv := only[*wamp.Invocation](t, r.Step(caller, &wamp.Call{Request: 9, Procedure: "com.a", Payload: payload}, 0), first)
	again := only[*wamp.Invocation](t, r.Undeliverable(first, inv, busy, 0), second)
	if string(again.Args) != "[1]" || again.Registration != inv.Registration {
		t.Errorf("the second gets %+v", again)
	}
	failed := only[*wamp.ErrorMessage](t, r.Undeliverable(second, again, busy, 0), caller)
	if failed.URI != wamp.ErrUnavailable || failed.Request != 9 {
		t.Errorf("the caller gets %+v", failed)
	}
	if st := r.Stats(); st.PendingCalls != 0 || st.Rerouted != 1 {
		t.Errorf("afterwards: %+v", st)
	}
}

// TestUndeliverableElsewhere: what a callee cannot be sent for other reasons,
// or what only it can answer, goes to nobody else.
func TestUndeliverableElsewhere(t *testing.T) {
	r, first, _, caller := sharing(t)
	inv := only[*wamp.Invocation](t, r.Step(caller, call, 0), first)
	isCause(t, only[*wamp.ErrorMessage](t, r.Undeliverable(first, inv, cause, 0), caller))

	shard := &wamp.Call{Request: 9, Procedure: "com.a", Options: wamp.CallOptions{RunMode: "partition", RKey: "r"}}
	effects := r.Step(caller, shard, 0)
	inv = effects[0].Msg.(*wamp.Invocation)
	if m := only[*wamp.ErrorMessage](t, r.Undeliverable(effects[0].To, inv, busy, 0), caller); m.URI != wamp.ErrUnavailable {
		t.Errorf("the caller gets %+v", m)
	}
}

// TestUndeliverablePart: when a part of a call is lost, the whole call is; the
// callee is interrupted if it has had another part.
func TestUndeliverablePart(t *testing.T) {
	part := &wamp.Call{Request: 9, Procedure: "com.a", Options: wamp.CallOptions{Progress: true}}
	t.Run("first", func(t *testing.T) {
		r, first, _, caller := sharing(t)
		inv := only[*wamp.Invocation](t, r.Step(caller, part, 0), first)
		isCause(t, only[*wamp.ErrorMessage](t, r.Undeliverable(first, inv, cause, 0), caller))
		if more := r.Step(caller, part, 0); len(more) != 0 {
			t.Errorf("the next part: %+v", more)
		}
	})
	t.Run("second", func(t *testing.T) {
		r, first, _, caller := sharing(t)
		r.Step(caller, part, 0)
		inv := only[*wamp.Invocation](t, r.Step(caller, part, 0), first)
		effects := r.Undeliverable(first, inv, cause, 0)
		if len(effects) != 2 || effects[0].To != caller || effects[1].To != first {
			t.Fatalf("effects %+v, want ERROR and INTERRUPT", effects)
		}
		isCause(t, effects[0].Msg.(*wamp.ErrorMessage))
		if again := r.Undeliverable(first, inv, cause, 0); len(again) != 0 {
			t.Errorf("another part: %+v", again)
		}
	})
}

// TestLateParts: how many calls have ended before their last part is bounded,
// and only the oldest are forgotten.
func TestLateParts(t *testing.T) {
	r, first, _, caller := sharing(t)
	const n = 300
	part := func(id wamp.ID) *wamp.Call {
		return &wamp.Call{Request: id, Procedure: "com.a", Options: wamp.CallOptions{Progress: true}}
	}
	for id := range wamp.ID(n) {
		inv := only[*wamp.Invocation](t, r.Step(caller, part(id+1), 0), first)
		r.Step(first, &wamp.Yield{Request: inv.Request}, 0)
	}
	if effects := r.Step(caller, part(n), 0); len(effects) != 0 {
		t.Errorf("a late part of the last call: %+v", effects)
	}
	only[*wamp.Invocation](t, r.Step(caller, part(1), 0), first) // taken for a new one
}

// TestLongOptions: what the realm keeps of a call or registration is bounded.
func TestLongOptions(t *testing.T) {
	r, _, second, caller := sharing(t)
	long := strings.Repeat("x", wamp.MaxURI+1)
	for _, o := range []wamp.CallOptions{{RKey: long}, {PPT: wamp.Passthru{KeyID: long}}} {
		m := only[*wamp.ErrorMessage](t, r.Step(caller, &wamp.Call{Request: 9, Procedure: "com.a", Options: o}, 0), caller)
		if m.URI != wamp.ErrInvalidArgument {
			t.Errorf("CALL is answered with %+v", m)
		}
	}
	m := only[*wamp.ErrorMessage](t, r.Step(second, &wamp.Register{
		Request: 9, Procedure: "com.b", Options: wamp.RegisterOptions{NKey: long},
	}, 0), second)
	if m.URI != wamp.ErrInvalidArgument {
		t.Errorf("REGISTER is answered with %+v", m)
	}
}
