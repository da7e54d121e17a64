package client_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// FuzzRouter lets a hostile router say anything, before and after WELCOME: the
// session must end in order, with whatever error.
func FuzzRouter(f *testing.F) {
	for _, script := range []string{
		`[2,1,{}]`,
		"[2,1,{}]\n[33,1,5]\n[65,2,77]\n[36,5,1,{},[1]]\n[68,1,77,{\"receive_progress\":true,\"timeout\":1}]\n[69,1,{}]\n[50,3,{}]",
		"[2,1,{}]\n[35,0,{\"subscription\":5}]\n[67,0,{\"registration\":77}]\n[8,64,2,{},\"a.b\"]\n[8,48,3,{},\"c.d\",[1]]",
		"[2,1,{}]\n[50,3,{\"progress\":true},[1]]\n[6,{},\"wamp.close.normal\"]",
		"[2,1,{}]\n[68,1,77,{}]\n[68,1,77,{}]",
		"[4,\"ticket\",{}]\n[3,{},\"x\"]",
		"[2,1,{}]\n[3,{\"message\":1},\"x\",[1],{\"a\":2}]",
		"[2,1,{}]\n[17,1,1]", "[1,2,3]", "\xff", "",
	} {
		f.Add([]byte(script))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) { hostile(t, bytes.SplitN(script, []byte("\n"), 100)) })
	})
}

// hostile joins at a router that answers HELLO with the first message and
// sends the others when four requests are under way.
func hostile(t *testing.T, script [][]byte) {
	ours, theirs := transport.Pipe(codec.JSON)
	defer theirs.Close()
	_ = theirs.Write(script[0])
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := client.Join(ctx, func(context.Context) (transport.Conn, error) { return ours, nil },
		client.Config{Realm: "realm1", Log: silent()})
	if err != nil {
		return
	}
	for _, request := range []func(){
		func() { _, _ = s.Subscribe(ctx, "com.t", func(e *client.Event) { _, _ = e.Int(0) }) },
		func() {
			_, _ = s.Register(ctx, "com.f", func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
				return nil, inv.Progress(inv.Args, inv.KwArgs)
			})
		},
		func() {
			_, _ = s.CallProgress(ctx, "com.g", nil, nil, func(r *client.Result) { _, _ = r.Text(0) })
		},
		func() { _ = s.Publish(ctx, "com.t", nil, nil, client.Acknowledge()) },
	} {
		go request()
		synctest.Wait() // for the request IDs to be always the same
	}
	for _, m := range script[1:] {
		_ = theirs.Write(m)
	}
	synctest.Wait()
	_ = theirs.Close()
	<-s.Done()
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close after the end: %v", err)
	}
}
