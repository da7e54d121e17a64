package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func TestCall(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		c := call(s, "com.add", client.Args{2, 3}, client.Timeout(1500*time.Microsecond), client.DiscloseMe())
		p.expect(`[48,1,{"timeout":2,"disclose_me":true},"com.add",[2,3]]`)
		p.send(`[50,1,{},[5],{"exact":true}]`)
		o := <-c
		if o.err != nil {
			t.Fatal(o.err)
		}
		if n, err := o.r.Int(0); n != 5 || err != nil || !wamp.AsBool(o.r.KwArgs, "exact") {
			t.Errorf("result is %+v, %v", o.r, err)
		}

		c = call(s, "com.none", nil)
		p.expect(`[48,2,{},"com.none"]`)
		p.send(`[8,48,2,{},"wamp.error.no_such_procedure",["no callee"],{"k":1}]`)
		o = <-c
		wantURI(t, o.err, wamp.ErrNoSuchProcedure)
		wantText(t, o.err, `call "com.none": wamp.error.no_such_procedure: no callee`)
	})
}

func TestCallsAnsweredOutOfOrder(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		first := call(s, "com.a", nil)
		p.expect(`[48,1,{},"com.a"]`)
		second := call(s, "com.b", nil)
		p.expect(`[48,2,{},"com.b"]`)
		p.send(`[50,2,{},["b"]]`, `[50,1,{},["a"]]`)
		for want, c := range map[string]<-chan outcome{"a": first, "b": second} {
			if o := <-c; o.err != nil || o.r.Args[0] != want {
				t.Errorf("want %q, have %+v", want, o)
			}
		}
	})
}

func TestCallArgumentsThatCannotBeEncoded(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		_, err := s.Call(context.Background(), "com.f", client.Args{func() {}}, nil)
		wantText(t, err, `call "com.f": encode arguments as json`)
		// No request ID was used.
		c := call(s, "com.g", nil)
		p.expect(`[48,1,{},"com.g"]`)
		p.send(`[50,1,{}]`)
		if o := <-c; o.err != nil || len(o.r.Args) != 0 {
			t.Errorf("have %+v", o)
		}
	})
}

func TestCallCancelled(t *testing.T) {
	for _, can := range []bool{true, false} {
		t.Run(fmt.Sprint("router cancels ", can), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				w := welcome
				if !can {
					w = `[2,1,{"roles":{"dealer":{}}}]`
				}
				s, p := n.join(n.config(), w)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				c := async(func() error { _, err := s.Call(ctx, "com.slow", nil, nil); return err })
				p.expect(`[48,1,{},"com.slow"]`)
				began := time.Now()
				err := <-c
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if can {
					p.expect(`[49,1,{"mode":"killnowait"}]`)
					p.send(`[8,48,1,{},"wamp.error.canceled"]`)
				}
				p.send(`[50,1,{},["late"]]`) // must not harm
				closeBoth(t, s, p)
			})
		})
	}
}

func TestCallWithEndedContextSendsNothing(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, _ *peer, _ *network) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.Call(ctx, "com.f", nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("have %v", err)
		}
	})
}

func TestCallProgress(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		var got []any
		c := async(func() outcome {
			r, err := s.CallProgress(context.Background(), "com.count", nil, nil, func(r *client.Result) {
				got = append(got, r.Args[0])
			})
			return outcome{r, err}
		})
		p.expect(`[48,1,{"receive_progress":true},"com.count"]`)
		for i := range 100 {
			p.send(fmt.Sprintf(`[50,1,{"progress":true},[%d]]`, i))
		}
		p.send(`[50,1,{},["end"]]`)
		o := <-c
		if o.err != nil || o.r.Args[0] != "end" || len(got) != 100 {
			t.Fatalf("%d results, end %+v", len(got), o)
		}
		for i, v := range got {
			if v != int64(i) {
				t.Fatalf("result %d is %v", i, v)
			}
		}
	})
}

func TestCallProgressThatFallsBehind(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		hold := make(chan struct{})
		c := async(func() error {
			_, err := s.CallProgress(context.Background(), "com.flood", nil, nil, func(*client.Result) { <-hold })
			return err
		})
		p.expect(`[48,1,{"receive_progress":true},"com.flood"]`)
		big := strings.Repeat("x", 1<<20)
		for range 10 {
			p.send(`[50,1,{"progress":true},["` + big + `"]]`)
		}
		p.expect(`[49,1,{"mode":"killnowait"}]`)
		close(hold)
		wantText(t, <-c, "waiting for a slow callback")
	})
}

func TestRouterGoesAwayInMidCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var down error
		cfg := n.config()
		cfg.OnDown = func(err error) { down = err }
		s, p := n.join(cfg, welcome)
		c := call(s, "com.slow", nil)
		p.expect(`[48,1,{},"com.slow"]`)
		p.conn.Close()
		wantURI(t, (<-c).err, wamp.ErrNetworkFailure)
		<-s.Done()
		wantText(t, s.Err(), "connection lost: EOF")
		wantText(t, down, "connection lost: EOF")
		_, err := s.Call(context.Background(), "com.f", nil, nil)
		if !errors.Is(err, client.ErrClosed) || s.ID() != 0 {
			t.Errorf("ID %d, call after the end: %v", s.ID(), err)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("Close after the end: %v", err)
		}
	})
}

// A router that reads nothing makes senders wait, as long as their contexts
// allow, and then the rest goes its way.
func TestSendersWaitForTheRouter(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		big := strings.Repeat("x", 1<<20)
		sent := 0
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		for err == nil && sent < 100 {
			if err = s.Publish(ctx, "com.t", client.Args{big}, nil); err == nil {
				sent++
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) || sent < 4 || sent > 20 {
			t.Fatalf("%d sent, then %v", sent, err)
		}
		for i := range sent {
			if got, want := p.read(), fmt.Sprintf(`[16,%d,{},"com.t"`, i+1); !strings.HasPrefix(got, want) {
				t.Fatalf("client sent %.40s, want %s", got, want)
			}
		}
	})
}
