package realm_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// onDisk is a realm with two histories on disk that share events, and one in
// memory.
func onDisk(t *testing.T) *realm.Realm {
	t.Helper()
	cfg := testConfig()
	cfg.History = []realm.History{
		{URI: "com.", Match: wamp.MatchPrefix, Events: 3, Disk: true},
		{URI: "com.a", Events: 2, Disk: true},
		{URI: "com.b"},
	}
	r, err := realm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// told writes changes down: "+1 com.a" and "-1".
func told(changes []realm.HistoryChange) (out []string) {
	for _, c := range changes {
		if c.Kept != nil {
			out = append(out, fmt.Sprintf("+%d %s", c.Kept.Seq, c.Kept.Topic))
		} else {
			out = append(out, fmt.Sprintf("-%d", c.Gone))
		}
	}
	return out
}

// TestHistoryChanges: each event is written once, and given up when the last
// history has.
func TestHistoryChanges(t *testing.T) {
	r := onDisk(t)
	s := join(r)
	for i, tt := range []struct {
		topic   string
		options wamp.PublishOptions
		want    []string
	}{
		{topic: "com.a", want: []string{"+1 com.a"}},
		{topic: "com.b", want: []string{"+2 com.b"}},
		{topic: "org.c"},
		{topic: "com.a", options: wamp.PublishOptions{Exclude: []wamp.ID{7}}},
		{topic: "com.a", options: wamp.PublishOptions{EligibleAuthRole: []string{}}, want: []string{"+3 com.a"}},
		{topic: "com.c", want: []string{"+4 com.c"}}, // the first is still in com.a's
		{topic: "com.c", want: []string{"-2", "+5 com.c"}},
		{topic: "com.a", want: []string{"-1", "+6 com.a"}},
	} {
		r.Step(s, &wamp.Publish{Request: wamp.ID(i + 1), Topic: tt.topic, Options: tt.options}, 5)
		if got := told(r.TakeChanges()); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("event %d, %s: %q, want %q", i, tt.topic, got, tt.want)
		}
	}
	if st := r.Stats(); st.HistoryEvents != 3+2+1 || st.HistoryBytes == 0 {
		t.Errorf("%d events of %d bytes", st.HistoryEvents, st.HistoryBytes)
	}
}

// TestHistoryRestore: what was written comes back, with who may see it and in
// its place, and what no history wants any more is given up.
func TestHistoryRestore(t *testing.T) {
	r := onDisk(t)
	s := join(r)
	payload, err := wamp.NewPayload(codec.JSON, wamp.List{"x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var written []realm.Kept
	for i, o := range []wamp.PublishOptions{
		{}, {EligibleAuthID: []string{"other"}}, {ExcludeAuthRole: []string{"user"}}, {DiscloseMe: true, PPT: wamp.Passthru{}}, {},
	} {
		r.Step(s, &wamp.Publish{Request: wamp.ID(i + 1), Topic: "com.a", Options: o, Payload: payload}, realm.Time(i)*1e9)
		for _, c := range r.TakeChanges() {
			if c.Kept != nil {
				written = append(written, *c.Kept)
			}
		}
	}
	written[0].Topic = "org.gone" // nobody keeps it any more
	again := onDisk(t)
	again.Restore(written, 7, 10e9)
	if got, want := told(again.TakeChanges()), []string{"-1", "-2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("given up: %q, want %q", got, want)
	}
	s = join(again)
	ask := func(subscription int) string {
		p, err := wamp.NewPayload(codec.JSON, wamp.List{subscription}, nil)
		if err != nil {
			t.Fatal(err)
		}
		effects := again.Step(s, &wamp.Call{Request: wamp.ID(100 + subscription), Procedure: "wamp.subscription.get_events", Payload: p}, 11e9)
		result := effects[0].Msg.(*wamp.Result)
		events, about, err := result.Payload.Values()
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(about["is_limit_reached"])
		for _, e := range events {
			d := e.(map[string]any)
			text += fmt.Sprint(" ", d["timestamp"], d["args"], len(d["details"].(map[string]any)))
		}
		return text
	}
	// Of the five, one is kept from the role, and one is for another.
	if got, want := ask(1), "false 2000-01-01T00:00:00.000Z[x] 4 2000-01-01T00:00:00.000Z[x] 1"; got != want {
		t.Errorf("of the prefix: %s, want %s", got, want)
	}
	if got, want := ask(2), "false 2000-01-01T00:00:00.000Z[x] 3 2000-01-01T00:00:00.000Z[x] 0"; got != want {
		t.Errorf("of the topic: %s, want %s", got, want)
	}
	again.Step(s, &wamp.Publish{Request: 200, Topic: "com.b"}, 12e9)
	if got, want := told(again.TakeChanges()), []string{"-3", "+8 com.b"}; !reflect.DeepEqual(got, want) {
		t.Errorf("goes on with %q, want %q", got, want)
	}
}
