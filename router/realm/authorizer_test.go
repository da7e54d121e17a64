package realm_test

import (
	"testing"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func judged(t *testing.T) (r *realm.Realm, app, judge *realm.Session) {
	t.Helper()
	cfg := testConfig()
	cfg.Roles = append(cfg.Roles, realm.Role{Name: "app", Authorizer: realm.Authorizer{Procedure: "com.judge"}})
	r, err := realm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	app = &realm.Session{Identity: realm.Identity{AuthID: "a", AuthRole: "app"}}
	r.Join(app, 0)
	judge = join(r)
	r.Step(judge, &wamp.Register{Request: 1, Procedure: "com.judge"}, 0)
	return r, app, judge
}

func TestAuthorizerIsNoReservedProcedure(t *testing.T) {
	cfg := testConfig()
	cfg.Roles[0].Authorizer.Procedure = "wamp.session.count"
	if _, err := realm.New(cfg); err == nil {
		t.Error("accepted")
	}
}

// TestWaitingIsBounded: who floods while an authorizer is being asked is ended,
// and what it has sent is forgotten.
func TestWaitingIsBounded(t *testing.T) {
	for name, payload := range map[string]wamp.Payload{
		"messages": {},
		"bytes":    {Enc: codec.JSON, Args: make([]byte, 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			r, app, judge := judged(t)
			ended := false
			for i := wamp.ID(1); i < 2000 && !ended; i++ {
				for _, e := range r.Step(app, &wamp.Publish{Request: i, Topic: "com.t", Payload: payload}, 0) {
					ended = ended || e.End && e.To == app
				}
			}
			if st := r.Stats(); !ended || st.Sessions != 1 {
				t.Errorf("ended %v, %+v", ended, st)
			}
			yes := wamp.Payload{Enc: codec.JSON, Args: []byte("[true]")}
			if got := r.Step(judge, &wamp.Yield{Request: 1, Payload: yes}, 0); len(got) != 0 {
				t.Errorf("afterwards: %+v", got)
			}
			if st := r.Stats(); st.Publications != 0 || st.PendingCalls != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestRolesChangeUnderAuthorizer: what one authorizer has allowed holds as long
// as the role has that one.
func TestRolesChangeUnderAuthorizer(t *testing.T) {
	r, app, judge := judged(t)
	r.Step(app, &wamp.Subscribe{Request: 1, Topic: "com.t"}, 0)
	yes := wamp.Payload{Enc: codec.JSON, Args: []byte(`[{"allow":true,"cache":true}]`)}
	only[*wamp.Subscribed](t, r.Step(judge, &wamp.Yield{Request: 1, Payload: yes}, 0), app)
	set := func(procedure string) {
		t.Helper()
		roles := []realm.Role{everything("user"), {Name: "app", Authorizer: realm.Authorizer{Procedure: procedure}}}
		if _, err := r.SetRoles(roles, 0); err != nil {
			t.Fatal(err)
		}
	}
	set("com.judge")
	if st := r.Stats(); st.Subscriptions != 1 {
		t.Errorf("with the same authorizer: %+v", st)
	}
	// What was cached has to be asked again.
	only[*wamp.Invocation](t, r.Step(app, &wamp.Subscribe{Request: 2, Topic: "com.t"}, 0), judge)
	set("com.other")
	if st := r.Stats(); st.Subscriptions != 0 {
		t.Errorf("with another one: %+v", st)
	}
	// The answer of the one that does not decide any more counts for nothing.
	fault := only[*wamp.ErrorMessage](t, r.Step(judge, &wamp.Yield{Request: 2, Payload: yes}, 0), app)
	if fault.URI != wamp.ErrAuthorizationFailed {
		t.Errorf("%+v", fault)
	}
}
