package devices

import (
	"context"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// encodingRealm encodes each event as a session does, and forgets it.
type encodingRealm struct {
	*fakeRealm
	sent chan struct{}
}

func (r *encodingRealm) publish(_ context.Context, _ string, args wamp.List, kwargs wamp.Dict, _ bool) error {
	if _, err := wamp.NewPayload(codec.CBOR, args, kwargs); err != nil {
		return err
	}
	r.sent <- struct{}{}
	return nil
}

func (r *encodingRealm) register(context.Context, string, client.Procedure, bool) (func(context.Context) error, error) {
	return func(context.Context) error { return nil }, nil
}

// One value from Emit through queue and publisher to the encoded event, alone:
// the price of an edge before it reaches the session.
func BenchmarkEmit(b *testing.B) {
	h := testHost(b, DefaultConfig(), map[string]*scripted{"a": {readings: []Reading{{Name: "level", Type: "bool"}}}})
	d := h.devices[0]
	r := &run{d: d, ctx: context.Background()}
	p := &publisher{d: d, r: &encodingRealm{newFakeRealm(), make(chan struct{}, 1)}, kwargs: make(wamp.Dict, 8)}
	p.look()
	if e, ok, _ := d.next(); !ok || e.slot != statusSlot {
		b.Fatal("no state first")
	}
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Emit("level", i&1 == 0, Sample{Time: at, Edge: Edge{Seq: int64(i) + 1, Clock: time.Duration(i) * time.Millisecond}})
		e, ok, _ := d.next()
		if !ok {
			b.Fatal("nothing to publish")
		}
		if err := p.send(context.Background(), &e); err != nil {
			b.Fatal(err)
		}
		<-p.r.(*encodingRealm).sent
	}
}

// An edge costs what its event is made of and no more: its time as text, its
// encoding, and the list that the encoding is handed.
func TestEdgeAllocations(t *testing.T) {
	h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {readings: []Reading{{Name: "level", Type: "bool"}}}})
	d := h.devices[0]
	r := &run{d: d, ctx: context.Background()}
	p := &publisher{d: d, r: &encodingRealm{newFakeRealm(), make(chan struct{}, 1)}, kwargs: make(wamp.Dict, 8)}
	p.look()
	d.next() // the state
	seq := int64(0)
	allocs := testing.AllocsPerRun(1000, func() {
		seq++
		r.Emit("level", seq&1 == 0, Sample{Time: time.Unix(1_700_000_000, seq), Edge: Edge{Seq: seq << 32, Clock: time.Duration(seq) << 32}})
		e, _, _ := d.next()
		if err := p.send(context.Background(), &e); err != nil {
			t.Fatal(err)
		}
		<-p.r.(*encodingRealm).sent
	})
	if allocs > 3 {
		t.Errorf("%v allocations", allocs)
	}
}

// The host's own part of the above: without the encoding.
func BenchmarkEmitOnly(b *testing.B) {
	h := testHost(b, DefaultConfig(), map[string]*scripted{"a": {readings: []Reading{{Name: "level", Type: "bool"}}}})
	d := h.devices[0]
	r := &run{d: d, ctx: context.Background()}
	d.online = true
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Emit("level", i&1 == 0, Sample{})
		d.next()
	}
}

func BenchmarkBindArgs(b *testing.B) {
	declared := []Arg{{Name: "on", Type: "bool"}}
	args := wamp.List{true}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := bindArgs("device.relay.set", declared, args, nil); err != nil {
			b.Fatal(err)
		}
	}
}
