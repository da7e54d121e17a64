package router

import (
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// TestKilledSessionIsEnded kills a session that does not answer GOODBYE.
func TestKilledSessionIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, logged := start(t, openConfig())
		p, victim := pipe(t, r, codec.JSON).joins(), pipe(t, r, codec.JSON)
		victim.send(hello("realm1"))
		id := expect[*wamp.Welcome](victim).Session
		p.send(&wamp.Call{Request: 1, Procedure: "wamp.session.kill", Payload: p.payload(id)})
		expect[*wamp.Result](p)
		if g := expect[*wamp.Goodbye](victim); g.Reason != wamp.CloseKilled {
			t.Errorf("the reason is %q", g.Reason)
		}
		victim.ended()
		synctest.Wait()
		if !logged.has("did not leave") {
			t.Error("why it was ended is not logged")
		}
		p.send(&wamp.Call{Request: 2, Procedure: "wamp.session.count"})
		args, _, err := expect[*wamp.Result](p).Values()
		if n, _ := wamp.ToInt(args[0]); err != nil || n != 1 {
			t.Errorf("there are %v sessions, %v", args, err)
		}
	})
}
