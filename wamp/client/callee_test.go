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

// register registers procedure, expecting the message and answering with id.
func register(t *testing.T, s *client.Session, p *peer, request int, procedure string, id int, f client.Procedure) *client.Registration {
	t.Helper()
	c := async(func() *client.Registration {
		r, err := s.Register(context.Background(), procedure, f)
		if err != nil {
			t.Errorf("Register: %v", err)
		}
		return r
	})
	p.expect(fmt.Sprintf(`[64,%d,{},"%s"]`, request, procedure))
	p.send(fmt.Sprintf(`[65,%d,%d]`, request, id))
	return <-c
}

func TestProcedureAnswers(t *testing.T) {
	boom := errors.New("the password is 1234")
	answers := []struct {
		name   string
		f      client.Procedure
		want   string
		logged string
	}{
		{"result", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			n, err := inv.Int(0)
			return client.Return(2*n, inv.Procedure), err
		}, `[70,1,{},[42,"com.f"]]`, ""},
		{"nothing", func(context.Context, *client.Invocation) (*client.Result, error) {
			return nil, nil
		}, `[70,1,{}]`, ""},
		{"argument of the wrong type", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			_, err := inv.Text(0)
			return nil, err
		}, `[8,68,1,{},"wamp.error.invalid_argument",["argument 0: want a string, have the integer 21"]]`, ""},
		{"wrapped WAMP error", func(context.Context, *client.Invocation) (*client.Result, error) {
			return nil, fmt.Errorf("not this one: %w", &wamp.Error{URI: "com.error", Args: wamp.List{1}, KwArgs: wamp.Dict{"a": true}})
		}, `[8,68,1,{},"com.error",[1],{"a":true}]`, ""},
		{"other error", func(context.Context, *client.Invocation) (*client.Result, error) {
			return nil, boom
		}, `[8,68,1,{},"wamp.error.runtime_error",["procedure \"com.f\" failed; the log of its component says why"]]`, "the password is 1234"},
		{"panic", func(context.Context, *client.Invocation) (*client.Result, error) {
			panic(boom)
		}, `[8,68,1,{},"wamp.error.runtime_error",["procedure \"com.f\" failed; the log of its component says why"]]`, "callee_test.go"},
		{"result that cannot be encoded", func(context.Context, *client.Invocation) (*client.Result, error) {
			return client.Return(make(chan int)), nil
		}, `[8,68,1,{},"wamp.error.runtime_error",["procedure \"com.f\" failed; the log of its component says why"]]`, "chan int"},
		{"error arguments that cannot be encoded", func(context.Context, *client.Invocation) (*client.Result, error) {
			return nil, &wamp.Error{URI: "com.error", Args: wamp.List{make(chan int)}}
		}, `[8,68,1,{},"com.error"]`, ""},
	}
	for _, a := range answers {
		t.Run(a.name, func(t *testing.T) {
			joined(t, func(t *testing.T, s *client.Session, p *peer, n *network) {
				register(t, s, p, 1, "com.f", 77, a.f)
				p.send(`[68,1,77,{},[21]]`)
				p.expect(a.want)
				if a.logged != "" {
					n.wantLogged(a.logged)
				} else if n.log.Len() > 0 {
					t.Errorf("log says %s", n.log.String())
				}
			})
		})
	}
}

func TestRegisterOptions(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		c := async(func() error {
			_, err := s.Register(context.Background(), "com.sensor.", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
				return client.Return(inv.Procedure, inv.Details.CallerAuthID), nil
			}, client.RegisterPattern(wamp.MatchPrefix), client.Invoke("roundrobin"), client.Concurrency(2),
				client.DiscloseCaller(), client.ForceReregister(), client.ForwardTimeout())
			return err
		})
		p.expect(`[64,1,{"match":"prefix","invoke":"roundrobin","concurrency":2,"disclose_caller":true,"force_reregister":true,"forward_timeout":true},"com.sensor."]`)
		// The first invocation right behind REGISTERED finds its procedure.
		p.send(`[65,1,77]`, `[68,1,77,{"procedure":"com.sensor.a","caller_authid":"joe"}]`)
		p.expect(`[70,1,{},["com.sensor.a","joe"]]`)
		if err := <-c; err != nil {
			t.Error(err)
		}
	})
}

func TestRegisterRefused(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		c := async(func() error { _, err := s.Register(context.Background(), "com.f", nil); return err })
		p.expect(`[64,1,{},"com.f"]`)
		p.send(`[8,64,1,{},"wamp.error.procedure_already_exists"]`)
		err := <-c
		wantURI(t, err, wamp.ErrProcedureAlreadyExists)
		wantText(t, err, `register "com.f"`)
	})
}

// A registration that nobody waits for any more is given back when it comes.
func TestRegisterAbandoned(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.Register(ctx, "com.f", nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("have %v", err)
		}
		p.expect(`[64,1,{},"com.f"]`)
		p.send(`[65,1,77]`)
		p.expect(`[66,2,77]`)
		p.send(`[67,2]`)
	})
}

func TestUnregister(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		r := register(t, s, p, 1, "com.f", 77, func(context.Context, *client.Invocation) (*client.Result, error) {
			return client.Return("still here"), nil
		})
		c := async(func() error { return r.Unregister(context.Background()) })
		p.expect(`[66,2,77]`)
		// What the router sent before it knew is answered.
		p.send(`[68,1,77,{}]`)
		p.expect(`[70,1,{},["still here"]]`)
		p.send(`[67,2]`)
		if err := <-c; err != nil {
			t.Error(err)
		}
		p.send(`[68,2,77,{}]`)
		p.expect(`[8,68,2,{},"wamp.error.no_such_registration",["registration 77 is not known here"]]`)
		if err := r.Unregister(context.Background()); err != nil {
			t.Errorf("second Unregister: %v", err)
		}
	})
}

func TestRegistrationRevoked(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, n *network) {
		r := register(t, s, p, 1, "com.f", 77, nil)
		p.send(`[67,0,{"registration":77,"reason":"moved"}]`, `[68,1,77,{}]`)
		p.expect(`[8,68,1,{},"wamp.error.no_such_registration",["registration 77 is not known here"]]`)
		n.wantLogged("moved")
		if err := r.Unregister(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// slow is a procedure that answers when its context ends or hold is closed.
func slow(hold <-chan struct{}) client.Procedure {
	return func(ctx context.Context, _ *client.Invocation) (*client.Result, error) {
		select {
		case <-hold:
			return client.Return("done"), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestInterrupt(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		register(t, s, p, 1, "com.slow", 77, slow(nil))
		p.send(`[68,1,77,{}]`, `[69,1,{"mode":"kill"}]`, `[69,99,{}]`)
		p.expect(`[8,68,1,{},"wamp.error.canceled",["the call was cancelled"]]`)
	})
}

func TestInvocationIDInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		register(t, s, p, 1, "com.slow", 77, slow(nil))
		p.send(`[68,1,77,{}]`, `[68,1,77,{}]`)
		p.expect(`[3,{"message":"INVOCATION with request ID 1, which is in use"},"wamp.error.protocol_violation"]`)
		p.gone()
		<-s.Done()
		wantText(t, s.Err(), "router broke the protocol")
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestForwardedTimeout(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		hold := make(chan struct{})
		register(t, s, p, 1, "com.deaf", 77, func(ctx context.Context, _ *client.Invocation) (*client.Result, error) {
			<-hold // looks at no context
			return client.Return(context.Cause(ctx).Error()), nil
		})
		began := time.Now()
		p.send(`[68,1,77,{"timeout":1500}]`)
		p.expect(`[8,68,1,{},"wamp.error.timeout",["no answer within 1.5s"]]`)
		if d := time.Since(began); d != 1500*time.Millisecond {
			t.Errorf("answered after %v", d)
		}
		close(hold) // and its late answer is not sent: GOODBYE is next
		synctest.Wait()
	})
}

func TestProgress(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		over := make(chan error, 1)
		register(t, s, p, 1, "com.count", 77, func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			for i := range 3 {
				time.Sleep(time.Second)
				if err := inv.Progress(client.Args{i}, client.KwArgs{"of": 3}); err != nil {
					return nil, err
				}
			}
			go func(inv client.Invocation) {
				time.Sleep(time.Second)
				over <- inv.Progress(nil, nil)
			}(*inv)
			return client.Return("end"), nil
		})
		// The timeout counts from one result to the next.
		p.send(`[68,1,77,{"timeout":1500,"receive_progress":true}]`)
		for i := range 3 {
			p.expect(fmt.Sprintf(`[70,1,{"progress":true},[%d],{"of":3}]`, i))
		}
		p.expect(`[70,1,{},["end"]]`)
		if err := <-over; err == nil {
			t.Error("Progress after the end: no error")
		}
		// To a caller who has not asked for it nothing is sent.
		p.send(`[68,2,77,{}]`)
		p.expect(`[70,2,{},["end"]]`)
		if err := <-over; err != nil {
			t.Errorf("Progress that nobody wants: %v", err)
		}
	})
}

func TestInvocationsBeyondTheLimitWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.MaxConcurrent = 2
		s, p := n.join(cfg, welcome)
		hold := make(chan struct{})
		register(t, s, p, 1, "com.slow", 77, slow(hold))
		const room = 2 + 2*16
		for i := range room + 1 {
			p.send(fmt.Sprintf(`[68,%d,77,{}]`, i+1))
		}
		p.expect(fmt.Sprintf(`[8,68,%d,{},"wamp.error.unavailable",["too many calls at the same time"]]`, room+1))
		// One that waits and is cancelled does not run.
		p.send(`[69,3,{}]`)
		synctest.Wait()
		close(hold)
		answers := map[string]int{}
		for range room {
			var kind, id int
			got := p.read()
			if _, err := fmt.Sscanf(got, "[%d,%d,", &kind, &id); err != nil {
				t.Fatal(err)
			}
			if kind == 8 {
				got = `[8,68,3,{},"wamp.error.canceled",["the call was cancelled"]]`
			}
			answers[got]++
		}
		if len(answers) != room || answers[`[8,68,3,{},"wamp.error.canceled",["the call was cancelled"]]`] != 1 {
			t.Errorf("answers: %v", answers)
		}
		closeBoth(t, s, p)
	})
}

func TestLargeInvocationsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.MaxConcurrent = 1
		s, p := n.join(cfg, welcome)
		hold := make(chan struct{})
		register(t, s, p, 1, "com.slow", 77, slow(hold))
		big := strings.Repeat("x", 5<<20)
		for i := range 5 { // one runs, three wait
			p.send(fmt.Sprintf(`[68,%d,77,{},["%s"]]`, i+1, big))
		}
		p.expect(`[8,68,5,{},"wamp.error.unavailable",["too many calls at the same time"]]`)
		close(hold)
		for i := range 4 {
			p.expect(fmt.Sprintf(`[70,%d,{},["done"]]`, i+1))
		}
		closeBoth(t, s, p)
	})
}

// A router that sends but does not read cannot make the client collect what it
// has to say to it for ever.
func TestRouterThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		sent := 0
		for ; sent < 1_000_000; sent++ {
			if p.conn.Write([]byte(fmt.Sprintf(`[68,%d,77,{}]`, sent+1))) != nil {
				break
			}
		}
		<-s.Done()
		wantText(t, s.Err(), "router does not read")
		if sent < 100_000 || sent > 500_000 {
			t.Errorf("given up after %d messages", sent)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// The handlers' contexts end with the connection, and their answers, for which
// there is nobody, are forgotten.
func TestProceduresEndWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s, p := n.join(n.config(), welcome)
		ended := make(chan error, 1)
		register(t, s, p, 1, "com.slow", 77, func(ctx context.Context, _ *client.Invocation) (*client.Result, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		})
		p.send(`[68,1,77,{}]`)
		synctest.Wait()
		p.conn.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("context: %v", err)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
