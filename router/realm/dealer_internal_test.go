package realm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// chaos is sessions that do everything a dealer knows of at random.
type chaos struct {
	t      *testing.T
	random *rand.Rand
	r      *Realm
	now    Time
	live   []*Session
	state  map[*Session]*peerState
}

type peerState struct {
	request wamp.ID
	calls   map[wamp.ID]bool   // that wait for their answer
	parts   map[wamp.ID]string // whose last part has not been sent, and their procedure
	invoked map[wamp.ID]bool   // that it may answer
}

// TestChaos: whatever happens, in whatever order, each call is answered exactly
// once, a session that does nothing wrong is not ended, and nothing is left
// behind when all have gone.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &chaos{t: t, random: rand.New(rand.NewPCG(seed, 7)), state: map[*Session]*peerState{}}
			var err error
			c.r, err = New(Config{
				Name: "realm1", Encoding: codec.JSON,
				NewID: func() wamp.ID { return 1 + wamp.ID(c.random.Uint64N(uint64(wamp.MaxID))) },
				Roles: []Role{{Name: "user", Takeover: true, Permissions: []Permission{{Match: wamp.MatchPrefix, Allow: AllActions}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			for range 3000 {
				c.step()
			}
			for _, s := range c.live {
				if waits := c.state[s].calls; len(waits) != len(s.calls) {
					t.Errorf("a session waits for %d answers, and the realm has %d calls of it", len(waits), len(s.calls))
				}
			}
			for len(c.live) > 0 {
				c.leave()
			}
			r := c.r
			if st := r.Stats(); st.PendingCalls != 0 || st.Registrations != 0 || st.Sessions != 0 || st.Aborted != 0 ||
				st.TimedOut == 0 || st.Rerouted == 0 {
				t.Errorf("afterwards: %+v", st)
			}
			if r.kept != 0 || len(r.deadlines) != 0 || len(r.registrations.exact) != 0 {
				t.Errorf("left behind: %d bytes kept, %d deadlines, %d registrations", r.kept, len(r.deadlines), len(r.registrations.exact))
			}
		})
	}
}

func (c *chaos) chance(percent int) bool { return c.random.IntN(100) < percent }

func (c *chaos) procedure() string { return fmt.Sprintf("com.p%d", c.random.IntN(4)) }

func (c *chaos) step() {
	if len(c.live) < 2 || c.chance(3) {
		c.join()
		return
	}
	s := c.live[c.random.IntN(len(c.live))]
	st := c.state[s]
	switch n := c.random.IntN(100); {
	case n < 2:
		c.leave()
	case n < 12:
		st.request++
		c.do(s, &wamp.Register{Request: st.request, Procedure: c.procedure(), Options: wamp.RegisterOptions{
			Invoke:      []string{"first", "last", "roundrobin", "random", "single"}[c.random.IntN(5)],
			Concurrency: uint64(c.random.IntN(4)), ForceReregister: c.chance(10), ForwardTimeout: c.chance(20),
		}})
	case n < 15:
		for _, id := range sortedKeys(s.registrations) {
			st.request++
			c.do(s, &wamp.Unregister{Request: st.request, Registration: id})
			break
		}
	case n < 20:
		c.now += Time(c.random.IntN(1000)) * millisecond
		c.effects(c.r.Tick(c.now))
	case n < 50:
		c.call(s, st)
	case n < 60:
		for _, id := range sortedKeys(st.parts) {
			c.part(s, st, id)
			break
		}
	case n < 65:
		for _, id := range sortedKeys(st.calls) {
			c.do(s, &wamp.Cancel{Request: id, Options: wamp.CancelOptions{Mode: []string{"skip", "kill", "killnowait"}[c.random.IntN(3)]}})
			break
		}
	default:
		c.answer(s, st)
	}
}

func (c *chaos) join() {
	features := wamp.Dict{}
	for _, f := range []string{"call_canceling", "progressive_call_invocations", "call_reroute", "registration_revocation"} {
		features[f] = c.chance(70)
	}
	s := &Session{Identity: Identity{AuthRole: "user"}, Roles: wamp.Dict{"callee": wamp.Dict{"features": features}}}
	c.state[s] = &peerState{calls: map[wamp.ID]bool{}, parts: map[wamp.ID]string{}, invoked: map[wamp.ID]bool{}}
	c.live = append(c.live, s)
	c.effects(c.r.Join(s, c.now))
}

func (c *chaos) leave() {
	at := c.random.IntN(len(c.live))
	s := c.live[at]
	c.live = slices.Delete(c.live, at, at+1)
	delete(c.state, s)
	c.effects(c.r.Leave(s, c.now))
}

func (c *chaos) call(s *Session, st *peerState) {
	st.request++
	m := &wamp.Call{Request: st.request, Procedure: c.procedure(), Options: wamp.CallOptions{
		Progress: c.chance(30), ReceiveProgress: c.chance(50),
	}}
	if c.chance(30) {
		m.Options.Timeout = uint64(1 + c.random.IntN(2000))
	}
	if c.chance(10) {
		m.Options.RunMode, m.Options.RKey = runModePartition, c.procedure()
	}
	st.calls[m.Request] = true
	if m.Options.Progress {
		st.parts[m.Request] = m.Procedure
	}
	c.do(s, m)
}

func (c *chaos) part(s *Session, st *peerState, id wamp.ID) {
	m := &wamp.Call{Request: id, Procedure: st.parts[id], Options: wamp.CallOptions{Progress: c.chance(70)}}
	if !m.Options.Progress {
		delete(st.parts, id)
	}
	c.do(s, m)
}

func (c *chaos) answer(s *Session, st *peerState) {
	ids := sortedKeys(st.invoked)
	if len(ids) == 0 {
		return
	}
	id := ids[c.random.IntN(len(ids))]
	switch n := c.random.IntN(10); {
	case n < 3:
		c.do(s, &wamp.Yield{Request: id, Options: wamp.YieldOptions{Progress: true}})
		return
	case n < 6:
		delete(st.invoked, id)
		c.do(s, &wamp.ErrorMessage{Type: wamp.KindInvocation, Request: id, URI: wamp.ErrUnavailable})
	default:
		delete(st.invoked, id)
		c.do(s, &wamp.Yield{Request: id})
	}
}

func (c *chaos) do(s *Session, m wamp.Message) { c.effects(c.r.Step(s, m, c.now)) }

// effects lets sessions take note of what they are sent; some invocations do
// not reach them.
func (c *chaos) effects(effects []Effect) {
	for _, e := range slices.Clone(effects) {
		st := c.state[e.To]
		if st == nil || e.End {
			c.t.Fatalf("%+v for a session that has left or has done nothing wrong", e)
		}
		switch m := e.Msg.(type) {
		case *wamp.Invocation:
			if c.chance(5) {
				c.effects(c.r.Undeliverable(e.To, m, wamp.Errorf(wamp.ErrUnavailable, "busy"), c.now))
				if e.To.invocations[m.Request] == nil {
					delete(st.invoked, m.Request)
				}
				continue
			}
			st.invoked[m.Request] = true
		case *wamp.Interrupt:
			if !e.To.canCancel {
				c.t.Fatalf("INTERRUPT for a callee that did not announce call canceling")
			}
		case *wamp.Result:
			c.answered(st, m.Request, m.Details.Progress)
		case *wamp.ErrorMessage:
			if m.Type == wamp.KindCall {
				c.answered(st, m.Request, false)
			}
		}
	}
}

func (c *chaos) answered(st *peerState, id wamp.ID, progress bool) {
	if !st.calls[id] {
		c.t.Fatalf("call %d is answered once more", id)
	}
	if !progress {
		delete(st.calls, id)
	}
}
