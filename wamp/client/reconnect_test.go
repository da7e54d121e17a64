package client_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// reconnecting is a config with waits that the tests can foretell, whose OnUp
// and OnDown write into events.
func (n *network) reconnecting(events *[]string) client.Config {
	cfg := n.config()
	cfg.Reconnect = &client.Backoff{Min: time.Second, Max: 8 * time.Second}
	cfg.OnUp = func() { *events = append(*events, "up") }
	cfg.OnDown = func(err error) { *events = append(*events, "down: "+err.Error()) }
	return cfg
}

func TestReconnectPutsEverythingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		if fmt.Sprint(events) != "[up]" {
			t.Errorf("after Join: %q", events)
		}
		got := 0
		sub := subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) { got++ })
		gone := subscribe(t, s, p, 2, "com.gone", 6, func(*client.Event) { t.Error("event") })
		reg := register(t, s, p, 3, "com.f", 77, func(context.Context, *client.Invocation) (*client.Result, error) {
			return client.Return("here"), nil
		})
		pending := call(s, "com.slow", nil)
		p.expect(`[48,4,{},"com.slow"]`)

		lost := time.Now()
		p.conn.Close()
		wantURI(t, (<-pending).err, wamp.ErrNetworkFailure)
		synctest.Wait()
		ctx := context.Background()
		if _, err := s.Call(ctx, "com.f", nil, nil); !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("Call without a connection: %v", err)
		}
		if err := s.Publish(ctx, "com.t", nil, nil); !errors.Is(err, client.ErrNotConnected) || s.ID() != 0 || s.Err() != nil {
			t.Errorf("Publish without a connection: %v, ID %d, Err %v", err, s.ID(), s.Err())
		}
		if err := gone.Unsubscribe(ctx); err != nil {
			t.Errorf("Unsubscribe without a connection: %v", err)
		}
		waiting := async(func() error { return s.WaitJoined(ctx) })

		p = <-n.peers
		if d := time.Since(lost); d != time.Second {
			t.Errorf("reconnected after %v", d)
		}
		p.hello(`[2,4321,{"roles":{}}]`)
		p.expect(`[32,1,{},"com.t"]`)
		p.expect(`[64,2,{},"com.f"]`)
		synctest.Wait()
		if len(events) != 2 {
			t.Errorf("up before everything is in place: %q", events)
		}
		p.send(`[33,1,9]`, `[65,2,78]`)
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if want := "[up down: connection lost: EOF up]"; fmt.Sprint(events) != want {
			t.Errorf("have %v, want %s", events, want)
		}
		// The same handles work on.
		p.send(`[36,9,70,{}]`, `[36,5,71,{}]`, `[68,1,78,{}]`)
		p.expect(`[70,1,{},["here"]]`)
		synctest.Wait()
		if got != 1 || s.ID() != 4321 {
			t.Errorf("%d events, ID %d", got, s.ID())
		}
		c := async(func() error { return errors.Join(sub.Unsubscribe(ctx), reg.Unregister(ctx)) })
		p.expect(`[34,3,9]`)
		p.send(`[35,3]`)
		p.expect(`[66,4,78]`)
		p.send(`[67,4]`)
		if err := <-c; err != nil {
			t.Error(err)
		}
		closeBoth(t, s, p)
		if len(events) != 3 {
			t.Errorf("after Close: %q", events)
		}
	})
}

// The waits double up to the maximum, are the maximum after a refusal, and
// begin anew only when the connection lasted.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		last := time.Now()
		wait := func(want time.Duration) {
			t.Helper()
			p = <-n.peers
			if d := time.Since(last); d != want {
				t.Errorf("waited %v, want %v", d, want)
			}
			last = time.Now()
		}
		p.conn.Close()
		for _, want := range []time.Duration{1, 2, 4, 8, 8} {
			wait(want * time.Second)
			p.read()
			p.conn.Close()
		}
		wait(8 * time.Second)
		p.hello(`[3,{},"wamp.error.no_such_realm"]`)
		wait(8 * time.Second)
		n.wantLogged("no_such_realm")
		if c := strings.Count(n.log.String(), "cannot join again yet"); c != 2 {
			t.Errorf("%d lines for 2 reasons:\n%s", c, n.log.String())
		}

		p.hello(welcome)
		time.Sleep(7 * time.Second)
		p.send(`[6,{},"wamp.close.system_shutdown"]`) // too early to begin anew
		last = time.Now()
		wait(8 * time.Second)
		p.hello(welcome)
		time.Sleep(9 * time.Second)
		p.conn.Close()
		last = time.Now()
		wait(time.Second)
		p.hello(welcome)
		synctest.Wait()
		closeBoth(t, s, p)
		if got := strings.Count(fmt.Sprint(events), "down: router closed the session: wamp.close.system_shutdown"); got != 1 || len(events) != 7 {
			t.Errorf("events: %q", events)
		}
	})
}

func TestBackoffJitterAndDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.Reconnect = &client.Backoff{Jitter: 0.5}
		s, p := n.join(cfg, welcome)
		var waits []time.Duration
		for range 20 {
			lost := time.Now()
			p.conn.Close()
			p = <-n.peers
			waits = append(waits, time.Since(lost))
		}
		late := waits[10:]
		sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
		if waits[0] < 250*time.Millisecond || waits[0] > 500*time.Millisecond || late[0] < 15*time.Second || late[9] > 30*time.Second || late[0] == late[9] {
			t.Errorf("waits are %v", waits)
		}
		p.hello(welcome)
		synctest.Wait()
		closeBoth(t, s, p)
	})
}

// What the router refuses at first, because it has not yet noticed that our
// last connection is gone, is asked for again.
func TestReconnectAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) {})
		register(t, s, p, 2, "com.f", 77, nil)
		dropped := register(t, s, p, 3, "com.g", 78, nil)
		p.conn.Close()
		p = <-n.peers
		p.hello(welcome)
		p.expect(`[32,1,{},"com.t"]`)
		p.expect(`[64,2,{},"com.f"]`)
		p.expect(`[64,3,{},"com.g"]`)
		p.send(`[33,1,5]`, `[8,64,2,{},"wamp.error.procedure_already_exists"]`, `[8,64,3,{},"wamp.error.procedure_already_exists"]`)
		synctest.Wait()
		if len(events) != 3 {
			t.Errorf("events: %q", events)
		}
		n.wantLogged("procedure_already_exists")
		began := time.Now()
		p.expect(`[64,4,{},"com.f"]`)
		p.expect(`[64,5,{},"com.g"]`)
		if d := time.Since(began); d != time.Second {
			t.Errorf("asked again after %v", d)
		}
		p.send(`[8,64,4,{},"wamp.error.procedure_already_exists"]`, `[8,64,5,{},"wamp.error.procedure_already_exists"]`)
		synctest.Wait()
		if err := dropped.Unregister(context.Background()); err != nil {
			t.Error(err)
		}
		p.expect(`[64,6,{},"com.f"]`)
		p.send(`[65,6,79]`)
		synctest.Wait()
		n.wantLogged("has everything in place again")
		if c := strings.Count(n.log.String(), "procedure_already_exists"); c != 2 {
			t.Errorf("%d lines for 2 refusals:\n%s", c, n.log.String())
		}
		closeBoth(t, s, p)
	})
}

// A handle that is ended while it is being put back is taken back.
func TestHandleEndedWhileItIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		sub := subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) {})
		reg := register(t, s, p, 2, "com.f", 77, nil)
		p.conn.Close()
		p = <-n.peers
		p.hello(welcome)
		p.expect(`[32,1,{},"com.t"]`)
		p.expect(`[64,2,{},"com.f"]`)
		if err := errors.Join(sub.Unsubscribe(context.Background()), reg.Unregister(context.Background())); err != nil {
			t.Error(err)
		}
		p.send(`[33,1,9]`, `[65,2,78]`)
		p.expect(`[34,3,9]`)
		p.expect(`[66,4,78]`)
		p.send(`[35,3]`, `[67,4]`)
		synctest.Wait()
		closeBoth(t, s, p)
	})
}

// The connection can be lost at any point of coming back.
func TestLostWhilePuttingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) {})
		p.conn.Close()
		p = <-n.peers // lost before WELCOME
		p.conn.Close()
		p = <-n.peers // lost before SUBSCRIBED
		p.hello(welcome)
		p.expect(`[32,1,{},"com.t"]`)
		p.conn.Close()
		p = <-n.peers
		p.hello(welcome)
		p.expect(`[32,1,{},"com.t"]`)
		p.send(`[33,1,5]`)
		synctest.Wait()
		if want := "[up down: connection lost: EOF up]"; fmt.Sprint(events) != want {
			t.Errorf("have %v, want %s", events, want)
		}
		closeBoth(t, s, p)
	})
}

func TestFirstJoinWithReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		cfg := n.reconnecting(&events)
		// A refusal is final at first.
		joining := async(func() error { _, err := client.Join(context.Background(), n.dial, cfg); return err })
		p := <-n.peers
		p.hello(`[3,{},"wamp.error.no_such_realm"]`)
		wantURI(t, <-joining, wamp.ErrNoSuchRealm)

		// A router that is not there yet is waited for.
		n.setDown(errors.New("connection refused"))
		time.AfterFunc(5*time.Second, func() { n.setDown(nil) })
		began := time.Now()
		s, p := n.join(cfg, welcome)
		if d := time.Since(began); d != 7*time.Second {
			t.Errorf("joined after %v", d)
		}
		closeBoth(t, s, p)

		// As long as the context lasts.
		n.setDown(errors.New("connection refused"))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := client.Join(ctx, n.dial, cfg)
		wantText(t, err, "connection refused")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("have %v", err)
		}
	})
}

func TestCloseWhileReconnecting(t *testing.T) {
	for _, stage := range []string{"waiting", "dialling", "joining", "putting back"} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				var events []string
				cfg := n.reconnecting(&events)
				s, p := n.join(cfg, welcome)
				subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) {})
				p.conn.Close()
				switch stage {
				case "dialling":
					n.setDown(errors.New("connection refused"))
					time.Sleep(2 * time.Second)
				case "joining":
					p = <-n.peers
					p.read()
				case "putting back":
					p = <-n.peers
					p.hello(welcome)
					p.expect(`[32,1,{},"com.t"]`)
				}
				synctest.Wait()
				if stage == "putting back" {
					closeBoth(t, s, p)
				} else if err := s.Close(context.Background()); err != nil || s.Err() != nil {
					t.Errorf("Close: %v, Err: %v", err, s.Err())
				}
				<-s.Done()
				if err := s.WaitJoined(context.Background()); !errors.Is(err, client.ErrClosed) {
					t.Errorf("WaitJoined after Close: %v", err)
				}
				if len(events) != 2 {
					t.Errorf("events: %q", events)
				}
			})
		})
	}
}

func TestWaitJoinedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var events []string
		s, p := n.join(n.reconnecting(&events), welcome)
		if err := s.WaitJoined(context.Background()); err != nil {
			t.Error(err)
		}
		n.setDown(errors.New("connection refused"))
		p.conn.Close()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.WaitJoined(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("have %v", err)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
