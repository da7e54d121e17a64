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
	"github.com/postern-iot/postern/wamp/codec"
)

// subscribe subscribes to topic, expecting the message and answering with id.
func subscribe(t *testing.T, s *client.Session, p *peer, request int, topic string, id int, h client.EventHandler) *client.Subscription {
	t.Helper()
	c := async(func() *client.Subscription {
		sub, err := s.Subscribe(context.Background(), topic, h)
		if err != nil {
			t.Errorf("Subscribe: %v", err)
		}
		return sub
	})
	p.expect(fmt.Sprintf(`[32,%d,{},"%s"]`, request, topic))
	p.send(fmt.Sprintf(`[33,%d,%d]`, request, id))
	return <-c
}

func TestPublish(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		ctx := context.Background()
		if err := s.Publish(ctx, "com.t", client.Args{1.5, nil, []byte{1, 2}}, client.KwArgs{"unit": "Cel"}); err != nil {
			t.Fatal(err)
		}
		p.expect(`[16,1,{},"com.t",[1.5,null,"\u0000AQI="],{"unit":"Cel"}]`)
		c := async(func() error {
			return s.Publish(ctx, "com.t", nil, nil, client.Acknowledge(), client.Retain(), client.ExcludeMe(false), client.DisclosePublisher(),
				client.Exclude(5), client.ExcludeAuthID("joe"), client.ExcludeAuthRole("guest"),
				client.Eligible(), client.EligibleAuthID("ann"), client.EligibleAuthRole("admin"))
		})
		p.expect(`[16,2,{"acknowledge":true,"exclude_me":false,"disclose_me":true,"exclude":[5],"exclude_authid":["joe"],"exclude_authrole":["guest"],` +
			`"eligible":[],"eligible_authid":["ann"],"eligible_authrole":["admin"],"retain":true},"com.t"]`)
		p.send(`[17,2,99]`)
		if err := <-c; err != nil {
			t.Error(err)
		}
		c = async(func() error { return s.Publish(ctx, "wamp.t", nil, nil, client.Acknowledge()) })
		p.expect(`[16,3,{"acknowledge":true},"wamp.t"]`)
		p.send(`[8,16,3,{},"wamp.error.not_authorized"]`)
		err := <-c
		wantURI(t, err, wamp.ErrNotAuthorized)
		wantText(t, err, `publish to "wamp.t"`)
	})
}

func TestPublishPayload(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		payload, err := wamp.NewPayload(codec.CBOR, wamp.List{7, []byte{1, 2}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PublishPayload(context.Background(), "com.t", payload); err != nil {
			t.Fatal(err)
		}
		p.expect(`[16,1,{},"com.t",[7,"\u0000AQI="]]`)
		// {1: 2} has no expression in JSON.
		bad := wamp.Payload{Enc: codec.CBOR, Args: []byte{0x81, 0xa1, 1, 2}}
		var e *codec.TranscodeError
		if err := s.PublishPayload(context.Background(), "com.t", bad); !errors.As(err, &e) {
			t.Errorf("have %v", err)
		}
	})
}

func TestSubscribe(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		var got []string
		c := async(func() error {
			_, err := s.Subscribe(context.Background(), "com..temperature", func(e *client.Event) {
				v, err := e.Float(0)
				got = append(got, fmt.Sprintf("%s %d %v %v %v %t", e.Topic, e.Publication, v, err, e.KwArgs["unit"], e.Details.Retained))
			}, client.Pattern(wamp.MatchWildcard), client.GetRetained())
			return err
		})
		p.expect(`[32,1,{"match":"wildcard","get_retained":true},"com..temperature"]`)
		// The first event right behind SUBSCRIBED finds its handler.
		p.send(`[33,1,5]`, `[36,5,70,{"topic":"com.a.temperature","retained":true},[21.5],{"unit":"Cel"}]`, `[36,5,71,{"topic":"com.b.temperature"},[3]]`, `[36,6,72,{}]`)
		if err := <-c; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := "[com.a.temperature 70 21.5 <nil> Cel true com.b.temperature 71 3 <nil> <nil> false]"; fmt.Sprint(got) != want {
			t.Errorf("have %v\nwant %v", got, want)
		}
	})
}

func TestSubscribeRefused(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		c := async(func() error {
			_, err := s.Subscribe(context.Background(), "com.t", func(*client.Event) {})
			return err
		})
		p.expect(`[32,1,{},"com.t"]`)
		p.send(`[8,32,1,{},"wamp.error.not_authorized"]`)
		wantURI(t, <-c, wamp.ErrNotAuthorized)
	})
}

// Subscriptions to the same topic are one to the router, which must hear of
// the last one's end only.
func TestSubscriptionsToOneTopic(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		ctx := context.Background()
		var a, b int
		first := subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) { a++ })
		second := subscribe(t, s, p, 2, "com.t", 5, func(*client.Event) { b++ })
		p.send(`[36,5,70,{}]`)
		synctest.Wait()
		if err := first.Unsubscribe(ctx); err != nil {
			t.Error(err)
		}
		p.send(`[36,5,71,{}]`)
		synctest.Wait()
		if a != 1 || b != 2 {
			t.Errorf("a had %d events, b %d", a, b)
		}
		// While a third is being asked for, the second's end is none to the router.
		third := async(func() *client.Subscription {
			sub, _ := s.Subscribe(ctx, "com.t", func(*client.Event) { a++ })
			return sub
		})
		p.expect(`[32,3,{},"com.t"]`)
		if err := second.Unsubscribe(ctx); err != nil {
			t.Error(err)
		}
		p.send(`[33,3,5]`, `[36,5,72,{}]`)
		sub := <-third
		synctest.Wait()
		if a != 2 || b != 2 {
			t.Errorf("a had %d events, b %d", a, b)
		}
		c := async(func() error { return sub.Unsubscribe(ctx) })
		p.expect(`[34,4,5]`)
		p.send(`[35,4]`)
		if err := <-c; err != nil {
			t.Error(err)
		}
		if err := sub.Unsubscribe(ctx); err != nil {
			t.Errorf("second Unsubscribe: %v", err)
		}
	})
}

func TestSubscribeAbandoned(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.Subscribe(ctx, "com.t", func(*client.Event) { t.Error("event") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("have %v", err)
		}
		p.expect(`[32,1,{},"com.t"]`)
		p.send(`[33,1,5]`, `[36,5,70,{}]`)
		p.expect(`[34,2,5]`)
		p.send(`[35,2]`)
	})
}

func TestSubscriptionRevoked(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, n *network) {
		sub := subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) { t.Error("event") })
		p.send(`[35,0,{"subscription":5,"reason":"not any more"}]`, `[36,5,70,{}]`)
		synctest.Wait()
		n.wantLogged("not any more")
		if err := sub.Unsubscribe(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestEventHandlerPanics(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, n *network) {
		events := 0
		subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) {
			if events++; events == 1 {
				panic("oh")
			}
		})
		p.send(`[36,5,70,{}]`, `[36,5,71,{}]`)
		synctest.Wait()
		if events != 2 {
			t.Errorf("%d events", events)
		}
		n.wantLogged("pubsub_test.go")
	})
}

// Events are dropped, counted and logged when a handler is too slow, while
// answers still come through, also to the handler itself.
func TestEventFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		cfg := n.config()
		cfg.EventBuffer = 1 << 20
		s, p := n.join(cfg, welcome)
		var got []int64
		subscribe(t, s, p, 1, "com.t", 5, func(e *client.Event) {
			if len(got) == 0 {
				if _, err := s.Call(context.Background(), "com.f", nil, nil); err != nil {
					t.Error(err)
				}
			}
			i, err := e.Int(0)
			if err != nil {
				t.Error(err)
			}
			got = append(got, i)
		})
		const sent = 10_000
		for i := range sent {
			p.send(fmt.Sprintf(`[36,5,%d,{},[%d]]`, i+1, i))
		}
		synctest.Wait()
		p.expect(`[48,2,{},"com.f"]`)
		p.send(`[50,2,{}]`)
		synctest.Wait()
		dropped := int(s.DroppedEvents())
		if len(got)+dropped != sent || dropped == 0 || len(got) < 3000 {
			t.Errorf("%d events handled, %d dropped, of %d", len(got), dropped, sent)
		}
		for i, v := range got {
			if v != int64(i) {
				t.Fatalf("event %d is %d", i, v)
			}
		}
		n.wantLogged("their handler is too slow")
		n.wantLogged(fmt.Sprintf("count=%d", dropped))
		if lines := strings.Count(n.log.String(), "\n"); lines != 2 {
			t.Errorf("%d lines in the log", lines)
		}
		closeBoth(t, s, p)
	})
}

// A burst within the bounds loses nothing.
func TestEventBurst(t *testing.T) {
	joined(t, func(t *testing.T, s *client.Session, p *peer, _ *network) {
		events := 0
		subscribe(t, s, p, 1, "com.t", 5, func(*client.Event) { events++; time.Sleep(time.Millisecond) })
		for i := range 5000 {
			p.send(fmt.Sprintf(`[36,5,%d,{},["a reading"]]`, i+1))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if events != 5000 || s.DroppedEvents() != 0 {
			t.Errorf("%d events, %d dropped", events, s.DroppedEvents())
		}
	})
}
