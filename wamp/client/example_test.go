package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// runRouter starts a router for an example; a gateway is at
// ws://localhost:8080/ws.
func runRouter() (url string, stop func()) {
	g, err := startGateway(slog.New(slog.DiscardHandler))
	if err != nil {
		log.Fatal(err)
	}
	return g.ws, g.stop
}

// mustJoin joins realm1.
func mustJoin(url string) *client.Session {
	s, err := client.Dial(context.Background(), url, client.Config{Realm: "realm1"})
	if err != nil {
		log.Fatal(err)
	}
	return s
}

func ExampleDial() {
	url, stop := runRouter()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	s, err := client.Dial(ctx, url, client.Config{Realm: "realm1"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("joined:", s.ID().Valid())
	if err := s.Close(ctx); err != nil {
		log.Fatal(err)
	}

	_, err = client.Dial(ctx, url, client.Config{Realm: "realm2"})
	var refused *wamp.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.URI)
	}
	// Output:
	// joined: true
	// wamp.error.no_such_realm
}

func ExampleSession_Register() {
	url, stop := runRouter()
	defer stop()
	ctx := context.Background()
	s := mustJoin(url)
	defer s.Close(ctx)

	_, err := s.Register(ctx, "com.example.pump.set", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		on, err := inv.Bool(0)
		if err != nil {
			return nil, err // tells the caller what is wrong with its argument
		}
		fmt.Println("pump on:", on)
		return client.Return(on), nil
	})
	if err != nil {
		log.Fatal(err)
	}

	caller := mustJoin(url)
	defer caller.Close(ctx)
	_, _ = caller.Call(ctx, "com.example.pump.set", client.Args{true}, nil)
	_, err = caller.Call(ctx, "com.example.pump.set", client.Args{"on"}, nil)
	fmt.Println(err)
	// Output:
	// pump on: true
	// call "com.example.pump.set": wamp.error.invalid_argument: argument 0: want a boolean, have the string "on"
}

func ExampleSession_Call() {
	url, stop := runRouter()
	defer stop()
	s := mustJoin(url)
	defer s.Close(context.Background())
	_, err := s.Register(context.Background(), "com.example.add", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		a, errA := inv.Int(0)
		b, errB := inv.Int(1)
		return client.Return(a + b), errors.Join(errA, errB)
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	result, err := s.Call(ctx, "com.example.add", client.Args{2, 3}, nil)
	if err != nil {
		log.Fatal(err)
	}
	sum, err := result.Int(0)
	fmt.Println(sum, err)

	_, err = s.Call(ctx, "com.example.subtract", client.Args{2, 3}, nil)
	var e *wamp.Error
	fmt.Println(errors.As(err, &e) && e.URI == wamp.ErrNoSuchProcedure)
	// Output:
	// 5 <nil>
	// true
}

func ExampleSession_CallProgress() {
	url, stop := runRouter()
	defer stop()
	ctx := context.Background()
	s := mustJoin(url)
	defer s.Close(ctx)
	_, err := s.Register(ctx, "com.example.download", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
		for _, chunk := range []string{"one", "two"} {
			if err := inv.Progress(client.Args{chunk}, nil); err != nil {
				return nil, err
			}
		}
		return client.Return("complete"), nil
	})
	if err != nil {
		log.Fatal(err)
	}

	result, err := s.CallProgress(ctx, "com.example.download", nil, nil, func(r *client.Result) {
		fmt.Println(r.Args[0])
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Args[0])
	// Output:
	// one
	// two
	// complete
}

func ExampleSession_Publish() {
	url, stop := runRouter()
	defer stop()
	ctx := context.Background()
	s := mustJoin(url)
	defer s.Close(ctx)

	// On its way when Publish returns.
	err := s.Publish(ctx, "com.example.boiler.temperature", client.Args{64.5}, client.KwArgs{"unit": "Cel"})
	fmt.Println(err)
	// Taken by the router when Publish returns.
	err = s.Publish(ctx, "com.example.boiler.alarm", client.Args{"too hot"}, nil, client.Acknowledge())
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

func ExampleSession_Subscribe() {
	url, stop := runRouter()
	defer stop()
	ctx := context.Background()
	s := mustJoin(url)
	defer s.Close(ctx)

	received := make(chan struct{})
	sub, err := s.Subscribe(ctx, "com.example..temperature", func(e *client.Event) {
		defer close(received)
		value, err := e.Float(0)
		if err != nil {
			log.Println(err)
			return
		}
		fmt.Println(e.Topic, value, e.KwArgs["unit"])
	}, client.Pattern(wamp.MatchWildcard))
	if err != nil {
		log.Fatal(err)
	}

	device := mustJoin(url)
	defer device.Close(ctx)
	_ = device.Publish(ctx, "com.example.boiler.temperature", client.Args{64.5}, client.KwArgs{"unit": "Cel"})
	<-received
	if err := sub.Unsubscribe(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// com.example.boiler.temperature 64.5 Cel
}

func ExampleConfig_reconnect() {
	url, stop := runRouter()
	defer stop()
	ctx := context.Background()

	// Registrations and subscriptions survive the loss of the connection. While
	// it is lost, requests fail with ErrNotConnected.
	s, err := client.Dial(ctx, url, client.Config{
		Realm:     "realm1",
		Reconnect: client.DefaultBackoff(),
		OnUp:      func() { fmt.Println("up") },
		OnDown:    func(err error) { fmt.Println("down:", err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	err = s.Publish(ctx, "com.example.hello", nil, nil)
	if errors.Is(err, client.ErrNotConnected) {
		err = s.WaitJoined(ctx)
	}
	fmt.Println(err, s.Close(ctx), s.Err())
	// Output:
	// up
	// <nil> <nil> <nil>
}
