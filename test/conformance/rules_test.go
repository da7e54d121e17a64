package conformance

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// rules are what routers get wrong. Each is shown by conversations that name
// it, or by the tests of inGo.
var rules = map[int]string{
	1:  "IDs of sessions and publications are random over [1, 2^53]; those of requests count from 1, INVOCATION's too",
	2:  "YIELD, ERROR, CANCEL, UNSUBSCRIBE and UNREGISTER are accepted only from the session that owns the thing",
	3:  "request IDs: the rule of the realm is kept, and one that is pending is never used twice",
	4:  "undecodable bytes, messages out of state and answers to nothing: ABORT protocol_violation, and all that the session had goes",
	5:  "ABORT is never answered; the answer to GOODBYE is flushed before the close; nothing follows GOODBYE",
	6:  "HELLO needs a role; WELCOME's roles are dictionaries; details are never null",
	7:  "the callee goes: canceled, for all of thousands; the caller goes: INTERRUPT to callees that know it only",
	8:  "kill waits for the callee, and a result may win; late answers after skip and killnowait are dropped",
	9:  "progressive results work with callees that announce too little",
	10: "timeouts are the dealer's, and answered with wamp.error.timeout",
	11: "exact, then the longest prefix, then the wildcard with the longest literal run; a prefix is a string prefix",
	12: "one EVENT for each subscription that matches, with one publication ID",
	13: "an empty eligible list is nobody; wamp. is reserved; unacknowledged failures are silent; denials are not_authorized",
	14: "order per publisher and subscriber; bursts lose nothing",
	15: "binary crosses codecs",
}

// inGo names the tests that show a rule without a conversation.
var inGo = map[int][]string{
	1:  {"TestRandomIDs"},
	4:  {"TestUndecodable"},
	5:  {"TestShutdown", "TestGoodbyeIsLast"},
	7:  {"TestThousandsPending"},
	14: {"TestBursts"},
	15: {"TestBinaryCrossesCodecs"},
}

// everywhere runs a test over each transport and codec of one gateway.
func everywhere(t *testing.T, g *gateway, test func(t *testing.T, dial func() *peer)) {
	t.Helper()
	for _, tr := range transports {
		for _, c := range tr.codecs {
			t.Run(tr.name+"/"+c.Name(), func(t *testing.T) {
				test(t, func() *peer { t.Helper(); return open(t, g, tr.name, c) })
			})
		}
	}
}

func TestRandomIDs(t *testing.T) {
	g := run(t, config(nil))
	const n = 64
	check := func(what string, ids []int64) {
		slices.Sort(ids)
		if len(slices.Compact(ids)) != n || ids[0] < 1 || ids[n-1] > 1<<53 {
			t.Errorf("%s: %d different ones of %d, from %d to %d", what, len(slices.Compact(ids)), n, ids[0], ids[n-1])
		}
		// The chance of 64 random ones not reaching that far is 2^-64 each.
		if ids[0] > 1<<52 || ids[n-1] < 1<<52 {
			t.Errorf("%s are not spread over [1, 2^53]: from %d to %d", what, ids[0], ids[n-1])
		}
	}
	var sessions, publications []int64
	for range n {
		p := open(t, g, "rawsocket", codec.MessagePack)
		sessions = append(sessions, p.joins("realm1"))
		p.send(`[16,1,{"acknowledge":true},"com.a"]`)
		id, _ := wamp.ToInt(p.expect(`[17,1,$p]`)["p"])
		publications = append(publications, id)
	}
	check("sessions", sessions)
	check("publications", publications)
}

// TestUndecodable sends bytes that are no message to sessions which have
// something to lose.
func TestUndecodable(t *testing.T) {
	g := run(t, config(nil))
	everywhere(t, g, func(t *testing.T, dial func() *peer) {
		witness := dial()
		witness.joins("realm1")
		for _, junk := range [][]byte{{0xc1}, []byte("[48,1,{},\"com.x\"}"), {0xff, 0xff}, {}, []byte("[48,1"), bytes.Repeat([]byte{0x91}, 5000)} {
			p := dial()
			p.joins("realm1")
			p.send(`[64,1,{},"com.lost"]`)
			p.expect(`[65,1,$_]`)
			if err := p.link.send(junk); err != nil {
				t.Fatal(err)
			}
			p.expect(`[3,{"message":$_},"wamp.error.protocol_violation"]`)
			p.over()
			witness.send(`[48,1,{},"com.lost"]`)
			witness.expect(`[8,48,1,{},"wamp.error.no_such_procedure",$_]`)
		}
	})
}

// TestGoodbyeIsLast leaves while much is under way.
func TestGoodbyeIsLast(t *testing.T) {
	g := run(t, config(nil))
	n := 0
	everywhere(t, g, func(t *testing.T, dial func() *peer) {
		a, b := dial(), dial()
		n++
		never := fmt.Sprint("com.never.", n) // nothing waits for the last b's end
		a.joins("realm1")
		b.joins("realm1")
		a.send(`[32,1,{},"com.flood"]`)
		a.expect(`[33,1,$_]`)
		b.send(fmt.Sprintf(`[64,1,{},%q]`, never))
		b.expect(`[65,1,$_]`)
		for i := range 200 {
			a.send(fmt.Sprintf(`[48,%d,{},%q]`, i+2, never))
			b.send(`[16,1,{},"com.flood",["x"]]`)
		}
		a.send(`[6,{},"wamp.close.close_realm"]`)
		last := wamp.Kind(0)
		for {
			m, err := a.hear()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			last = kindOf(m)
		}
		if last != wamp.KindGoodbye {
			t.Errorf("the last message is %v, want GOODBYE", last)
		}
		b.link.conn().Close()
	})
}

// TestShutdown ends the process under its sessions: each hears so, the
// process ends well.
func TestShutdown(t *testing.T) {
	g := run(t, config(nil))
	var all []*peer
	for _, tr := range transports {
		for _, c := range tr.codecs {
			p := open(t, g, tr.name, c)
			p.joins("realm1")
			all = append(all, p)
		}
	}
	var ended sync.WaitGroup
	for _, p := range all {
		ended.Go(func() {
			for {
				m, err := p.hear()
				if err != nil {
					t.Errorf("ended with %v before GOODBYE", err)
					return
				}
				if kindOf(m) == wamp.KindGoodbye {
					if !(names{}).match([]any{int64(6), nameMark + "_", wamp.CloseSystemShutdown}, m) {
						t.Errorf("heard %s, want system_shutdown", show(m))
					}
					p.say([]any{int64(6), map[string]any{}, wamp.CloseGoodbyeAndOut})
					return
				}
			}
		})
	}
	start := time.Now()
	if err := g.terminate(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	ended.Wait()
}

// TestThousandsPending has a callee leave with thousands of calls unanswered.
func TestThousandsPending(t *testing.T) {
	g := run(t, config(nil))
	const n = 5000
	for _, c := range codecs {
		t.Run(c.Name(), func(t *testing.T) {
			callee, caller := open(t, g, "rawsocket", c), open(t, g, "websocket", c)
			callee.joins("realm1")
			caller.joins("realm1")
			callee.send(`[64,1,{},"com.never"]`)
			callee.expect(`[65,1,$_]`)
			go func() {
				for i := range n {
					caller.say([]any{int64(48), int64(i + 1), map[string]any{}, "com.never"})
				}
			}()
			for i := range n {
				callee.expect(fmt.Sprintf(`[68,%d,$_,{}]`, i+1))
			}
			callee.link.conn().Close()
			seen := map[int64]bool{}
			for range n {
				n := caller.expect(`[8,48,$id,{},"wamp.error.canceled",$_]`)
				id, _ := wamp.ToInt(n["id"])
				seen[id] = true
			}
			if len(seen) != n {
				t.Errorf("%d calls have been answered, want %d", len(seen), n)
			}
		})
	}
}

// TestBursts: a client that reads loses nothing of a burst, in its order.
func TestBursts(t *testing.T) {
	g := run(t, config(nil))
	const n = 5000
	everywhere(t, g, func(t *testing.T, dial func() *peer) {
		pub, sub := dial(), dial()
		pub.joins("realm1")
		sub.joins("realm1")
		sub.send(`[32,1,{},"com.burst"]`)
		sub.expect(`[33,1,$_]`)
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := range n {
				pub.say([]any{int64(16), int64(i + 1), map[string]any{}, "com.burst", []any{int64(i)}})
			}
		})
		for i := range n {
			sub.expect(fmt.Sprintf(`[36,$_,$_,{},[%d]]`, i))
		}
		sending.Wait()
	})
}

// TestBinaryCrossesCodecs sends bytes from each codec to each.
func TestBinaryCrossesCodecs(t *testing.T) {
	g := run(t, config(nil))
	blob := []byte{0, 1, 2, 254, 255}
	for _, from := range codecs {
		for _, to := range codecs {
			t.Run(from.Name()+"-"+to.Name(), func(t *testing.T) {
				pub, sub := open(t, g, "unix", from), open(t, g, "websocket", to)
				pub.joins("realm1")
				sub.joins("realm1")
				sub.send(`[32,1,{},"com.blob"]`)
				sub.expect(`[33,1,$_]`)
				pub.say([]any{int64(16), int64(1), map[string]any{}, "com.blob", []any{blob, []any{}}, map[string]any{"b": blob}})
				got, err := sub.hear()
				want := []any{int64(36), nameMark + "_", nameMark + "_", map[string]any{}, []any{blob, []any{}}, map[string]any{"b": blob}}
				if err != nil || !(names{}).match(want, got) {
					t.Errorf("heard %s %v", show(got), err)
				}
			})
		}
	}
}
