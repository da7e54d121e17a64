package conformance

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// peer speaks WAMP in lists of plain values.
type peer struct {
	tb    testing.TB
	link  link
	codec codec.Codec
	// inside says that it is in a session: it has been welcomed, and nobody has
	// said goodbye.
	inside   bool
	barriers int64
}

// open connects over a transport; the connection ends with the test.
func open(tb testing.TB, g *gateway, transport string, c codec.Codec) *peer {
	tb.Helper()
	for _, t := range transports {
		if t.name != transport {
			continue
		}
		l, err := t.dial(g, c)
		if err != nil {
			tb.Fatalf("connect over %s: %v", transport, err)
		}
		tb.Cleanup(func() { _ = l.conn().Close() })
		return &peer{tb: tb, link: l, codec: c}
	}
	tb.Fatalf("no transport %s", transport)
	return nil
}

func (p *peer) say(message any) {
	p.tb.Helper()
	b, err := p.codec.AppendValue(nil, message)
	if err != nil {
		p.tb.Fatalf("encode %s: %v", show(message), err)
	}
	if kind := kindOf(message); kind == wamp.KindGoodbye || kind == wamp.KindAbort {
		p.inside = false
	}
	_ = p.link.send(b) // who was cut off hears so
}

// send says a message that is given as JSON.
func (p *peer) send(text string) {
	p.tb.Helper()
	v, err := parse(text)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.say(v)
}

// hear returns the next message, io.EOF at the end of the connection.
func (p *peer) hear() (any, error) {
	b, err := p.link.receive()
	if err != nil {
		p.inside = p.inside && !errors.Is(err, io.EOF)
		return nil, err
	}
	v, err := p.codec.DecodeValue(b)
	if err != nil {
		return nil, fmt.Errorf("the router sent %q: %w", b, err)
	}
	switch kindOf(v) {
	case wamp.KindWelcome:
		p.inside = true
	case wamp.KindGoodbye, wamp.KindAbort:
		p.inside = false
	}
	return v, nil
}

func kindOf(v any) wamp.Kind {
	list, _ := v.([]any)
	if len(list) == 0 {
		return 0
	}
	n, _ := wamp.ToInt(list[0])
	return wamp.Kind(n)
}

// expect hears one message that matches the text, and returns its names.
func (p *peer) expect(text string) names {
	p.tb.Helper()
	want, err := parse(text)
	if err != nil {
		p.tb.Fatal(err)
	}
	got, err := p.hear()
	if err != nil {
		p.tb.Fatalf("heard %v, want %s", err, text)
	}
	n := names{}
	if !n.match(want, got) {
		p.tb.Fatalf("heard %s, want %s", show(got), text)
	}
	return n
}

// over expects the connection's end.
func (p *peer) over() {
	p.tb.Helper()
	if got, err := p.hear(); err != io.EOF {
		p.tb.Fatalf("heard %s, %v; want the end", show(got), err)
	}
}

const allRoles = `{"caller":{},"callee":{},"publisher":{},"subscriber":{}}`

// joins enters a realm with all roles and returns the session's ID.
func (p *peer) joins(realm string) int64 {
	p.tb.Helper()
	p.send(fmt.Sprintf(`[1,%q,{"roles":%s}]`, realm, allRoles))
	n := p.expect(`[2,$session,{"...":0}]`)
	id, ok := wamp.ToInt(n["session"])
	if !ok {
		p.tb.Fatalf("WELCOME has the session ID %v", n["session"])
	}
	return id
}

// quiet checks that everything that the router had to say to a session has
// been heard. It calls what is not there: the answer comes after all that was
// said before.
func (p *peer) quiet() error {
	p.barriers++
	id := int64(1)<<52 + p.barriers
	p.say([]any{int64(wamp.KindCall), id, map[string]any{}, "conformance.barrier"})
	got, err := p.hear()
	if err != nil {
		return fmt.Errorf("heard %w, want nothing", err)
	}
	if !(names{}).match([]any{int64(wamp.KindError), int64(wamp.KindCall), id, "..."}, got) {
		return fmt.Errorf("heard %s, want nothing", show(got))
	}
	return nil
}

// served checks that the router still does what it is for: a call and an event
// between two sessions of their own.
func served(tb testing.TB, g *gateway, transport string, c codec.Codec) {
	tb.Helper()
	a, b := open(tb, g, transport, c), open(tb, g, transport, c)
	a.joins("realm1")
	b.joins("realm1")
	a.send(`[32,1,{},"conformance.witness"]`)
	sub := a.expect(`[33,1,$sub]`)["sub"]
	a.send(`[64,2,{"invoke":"last"},"conformance.witness"]`)
	a.expect(`[65,2,$_]`)
	b.send(`[16,1,{"acknowledge":true},"conformance.witness",[1]]`)
	b.expect(`[17,1,$_]`)
	got, err := a.hear()
	if err != nil || !(names{}).match([]any{int64(36), sub, nameMark + "_", map[string]any{}, []any{int64(1)}}, got) {
		tb.Fatalf("heard %s %v, want the event", show(got), err)
	}
	b.send(`[48,2,{},"conformance.witness",["question"]]`)
	n := a.expect(`[68,$id,$_,{},["question"]]`)
	a.say([]any{int64(70), n["id"], map[string]any{}, []any{"answer"}})
	b.expect(`[50,2,{},["answer"]]`)
	for _, p := range []*peer{a, b} {
		p.send(`[6,{},"wamp.close.close_realm"]`)
		p.expect(`[6,{},"wamp.close.goodbye_and_out"]`)
		p.over()
	}
}
