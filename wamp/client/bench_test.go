package client_test

import (
	"context"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// echo answers calls in the place of a router and a callee, at the least cost,
// so that the client is what is measured.
func echo(b *testing.B, conn transport.Conn) {
	c := conn.Info().Codec
	for {
		raw, err := conn.Read()
		if err != nil {
			return
		}
		m, err := c.Decode(raw, codec.Limits{})
		if err != nil {
			b.Error(err)
			return
		}
		var answer wamp.Message
		switch m := m.(type) {
		case *wamp.Hello:
			answer = &wamp.Welcome{Session: 1, Details: wamp.Dict{"roles": wamp.Dict{}}}
		case *wamp.Call:
			answer = &wamp.Result{Request: m.Request, Payload: m.Payload}
		case *wamp.Goodbye:
			answer = m
		default:
			continue
		}
		if raw, err = c.Append(nil, answer); err == nil {
			err = conn.Write(raw)
		}
		if err != nil {
			return
		}
	}
}

func benchSession(b *testing.B) *client.Session {
	ours, theirs := transport.Pipe(codec.CBOR)
	go echo(b, theirs)
	s, err := client.Join(b.Context(), func(context.Context) (transport.Conn, error) { return ours, nil }, client.Config{Realm: "realm1"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkCallOverPipe(b *testing.B) {
	s := benchSession(b)
	args := client.Args{21.5, "Cel"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(context.Background(), "com.f", args, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishOverPipe(b *testing.B) {
	s := benchSession(b)
	args, kwargs := client.Args{21.5}, client.KwArgs{"unit": "Cel", "seq": 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Publish(context.Background(), "com.t", args, kwargs); err != nil {
			b.Fatal(err)
		}
	}
}
