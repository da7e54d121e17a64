package devices

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// errorOf returns the WAMP error that err is.
func errorOf(t *testing.T, err error) *wamp.Error {
	t.Helper()
	var e *wamp.Error
	if !errors.As(err, &e) {
		t.Fatalf("have error %v, want a *wamp.Error", err)
	}
	return e
}

func TestArguments(t *testing.T) {
	declared := []Arg{
		{Name: "on", Type: "bool"},
		{Name: "level", Type: "float", Optional: true},
		{Name: "count", Type: "int", Optional: true},
		{Name: "text", Type: "string", Optional: true},
		{Name: "data", Type: "bytes", Optional: true},
		{Name: "more", Type: "dict", Optional: true},
	}
	type (
		l = wamp.List
		d = wamp.Dict
	)
	for _, c := range []struct {
		name   string
		args   l
		kwargs d
		list   l
		dict   d
		fault  string // part of the error's text
		at     string // the argument that it names
	}{
		{"by position", l{true}, nil, l{true, nil, nil, nil, nil, nil}, d{"on": true}, "", ""},
		{"by keyword", nil, d{"on": false}, l{false, nil, nil, nil, nil, nil}, d{"on": false}, "", ""},
		{"mixed", l{true}, d{"count": int64(3)}, l{true, nil, int64(3), nil, nil, nil}, d{"on": true, "count": int64(3)}, "", ""},
		{
			"all",
			l{true, 1.5, int64(2), "x", []byte{3}, d{"a": int64(1)}},
			nil,
			l{true, 1.5, int64(2), "x", []byte{3}, d{"a": int64(1)}},
			d{"on": true, "level": 1.5, "count": int64(2), "text": "x", "data": []byte{3}, "more": d{"a": int64(1)}},
			"", "",
		},
		{"whole float is an int", l{true, nil, 7.0}, nil, l{true, nil, int64(7), nil, nil, nil}, d{"on": true, "count": int64(7)}, "", ""},
		{"int is a float", l{true, int64(7)}, nil, l{true, 7.0, nil, nil, nil, nil}, d{"on": true, "level": 7.0}, "", ""},
		{"text is bytes", l{true}, d{"data": "hi"}, l{true, nil, nil, nil, []byte("hi"), nil}, d{"on": true, "data": []byte("hi")}, "", ""},
		{"null is left out", l{true, nil}, d{"count": nil}, l{true, nil, nil, nil, nil, nil}, d{"on": true}, "", ""},
		{"null then keyword", l{nil}, d{"on": true}, l{true, nil, nil, nil, nil, nil}, d{"on": true}, "", ""},
		{"missing", nil, nil, nil, nil, `argument "on": is missing`, "on"},
		{"null for a needed one", l{nil}, nil, nil, nil, `argument "on": is missing`, "on"},
		{"wrong type", l{"yes"}, nil, nil, nil, `argument "on": want bool, have string`, "on"},
		{"number for bool", l{int64(1)}, nil, nil, nil, "want bool, have int", "on"},
		{"fraction for int", l{true}, d{"count": 1.5}, nil, nil, `argument "count": want int, have float`, "count"},
		{"list for dict", l{true}, d{"more": l{}}, nil, nil, `argument "more": want dict, have list`, "more"},
		{"twice", l{true}, d{"on": true}, nil, nil, "by position and by keyword", "on"},
		{"unknown", l{true}, d{"of": 1}, nil, nil, `argument "of": is unknown`, "of"},
		{"too many", l{true, nil, nil, nil, nil, nil, nil}, nil, nil, nil, "at most 6 arguments, have 7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, dict, err := bindArgs("device.a.set", declared, c.args, c.kwargs)
			if c.fault != "" {
				e := errorOf(t, err)
				if e.URI != wamp.ErrInvalidArgument || !strings.Contains(e.Error(), c.fault) || !strings.Contains(e.Error(), "device.a.set") {
					t.Errorf("have %v, want %q", e, c.fault)
				}
				if wamp.AsString(e.KwArgs, "argument") != c.at {
					t.Errorf("have %v, want argument %q", e.KwArgs, c.at)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(list, c.list) || !reflect.DeepEqual(dict, c.dict) {
				t.Errorf("have %v %v, want %v %v", list, dict, c.list, c.dict)
			}
		})
	}
}

// callee is a device with procedures of every temper, ready when up is closed.
func callee(up <-chan struct{}) *scripted {
	return &scripted{
		run: func(ctx context.Context, out Outlet) error {
			select {
			case <-up:
			case <-ctx.Done():
				return nil
			}
			out.Ready()
			<-ctx.Done()
			return nil
		},
		procedures: []Procedure{
			{Name: "add", Args: []Arg{{Name: "a", Type: "int"}, {Name: "b", Type: "int"}}, Call: func(_ context.Context, args wamp.List, kwargs wamp.Dict) (any, error) {
				return args[0].(int64) + kwargs["b"].(int64), nil
			}},
			{Name: "nothing", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) { return nil, nil }},
			{Name: "refuse", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) {
				return nil, wamp.Errorf("com.example.busy", "busy")
			}},
			{Name: "fail", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) { return nil, errUnplugged }},
			{Name: "odd", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) { return struct{}{}, nil }},
			{Name: "crash", Call: func(context.Context, wamp.List, wamp.Dict) (any, error) { panic("boom") }},
			{Name: "wait", Call: func(ctx context.Context, _ wamp.List, _ wamp.Dict) (any, error) { <-ctx.Done(); return nil, ctx.Err() }},
		},
	}
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := make(chan struct{})
		f := newFakeRealm()
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": callee(up)}), f)

		// Registered, but the device is not there yet.
		_, err := f.call("device.a.nothing", nil, nil)
		e := errorOf(t, err)
		if e.URI != ErrDeviceUnavailable || e.KwArgs["state"] != "opening" || e.KwArgs["device"] != "a" {
			t.Errorf("have %v %v", e, e.KwArgs)
		}
		close(up)
		synctest.Wait()
		if v, err := f.call("device.a.add", wamp.List{1.0}, wamp.Dict{"b": int64(2)}); err != nil || v != int64(3) {
			t.Errorf("add: have %v, %v", v, err)
		}
		if v, err := f.call("device.a.nothing", nil, nil); err != nil || v != nil {
			t.Errorf("nothing: have %v, %v", v, err)
		}
		if _, err := f.call("device.a.refuse", nil, nil); errorOf(t, err).URI != "com.example.busy" {
			t.Errorf("refuse: have %v", err)
		}
		// The client makes a runtime_error of it, without its text.
		if _, err := f.call("device.a.fail", nil, nil); !errors.Is(err, errUnplugged) {
			t.Errorf("fail: have %v", err)
		}
		if _, err := f.call("device.a.odd", nil, nil); err == nil || !strings.Contains(err.Error(), "cannot be sent") {
			t.Errorf("odd: have %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error, 1)
		go func() { _, err := f.callCtx(ctx, "device.a.wait", nil, nil); gone <- err }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("wait: have %v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A crash restarts the device, and those that wait hear of it.
func TestCrashInProcedure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := make(chan struct{})
		close(up)
		f := newFakeRealm()
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": callee(up)}), f)
		gone := make(chan error, 1)
		go func() { _, err := f.call("device.a.wait", nil, nil); gone <- err }()
		synctest.Wait()
		_, err := f.call("device.a.crash", nil, nil)
		if e := errorOf(t, err); e.URI != ErrDeviceUnavailable || !strings.Contains(e.Error(), "boom") {
			t.Errorf("crash: have %v", err)
		}
		if e := errorOf(t, <-gone); e.URI != ErrDeviceUnavailable {
			t.Errorf("wait: have %v", e)
		}
		synctest.Wait()
		if s := r.device("a"); s.State != StateBackOff || s.Panics != 1 {
			t.Errorf("have %+v", s)
		}
		_, err = f.call("device.a.nothing", nil, nil)
		if e := errorOf(t, err); e.KwArgs["state"] != "back-off" || !strings.Contains(e.KwArgs["reason"].(string), "boom") {
			t.Errorf("have %v %v", e, e.KwArgs)
		}
		after(time.Second)
		if _, err := f.call("device.a.nothing", nil, nil); err != nil {
			t.Errorf("after the restart: %v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestHostProcedures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		dev := &scripted{
			readings: []Reading{{Name: "t", Doc: "of the room", Unit: "Cel", Type: "float"}, {Name: "n", Type: "int"}},
			procedures: []Procedure{{
				Name: "set", Doc: "Sets.", Returns: "bool", Args: []Arg{{Name: "on", Type: "bool", Doc: "or off", Optional: true}},
				Call: func(context.Context, wamp.List, wamp.Dict) (any, error) { return true, nil },
			}},
			run: func(ctx context.Context, out Outlet) error {
				out.Ready()
				out.Emit("t", 20.5, Sample{})
				select {
				case <-fail:
					return errUnplugged
				case <-ctx.Done():
					return nil
				}
			},
		}
		f := newFakeRealm()
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": dev, "b": {}}), f)
		now := stamp(time.Now())
		sample := wamp.Dict{"value": 20.5, "unit": "Cel", "time": now, "seq": int64(1), "quality": "good"}
		none := wamp.Dict{"value": nil, "unit": "", "seq": int64(0), "quality": "bad", "reason": "there is no value yet"}
		check := func(uri string, args wamp.List, kwargs wamp.Dict, want any) {
			t.Helper()
			have, err := f.call(uri, args, kwargs)
			if err != nil {
				t.Errorf("%s: %v", uri, err)
			} else if !reflect.DeepEqual(have, want) {
				t.Errorf("%s:\nhave %v\nwant %v", uri, have, want)
			}
		}
		check("device.a.get", nil, nil, wamp.Dict{"t": sample, "n": none})
		check("device.a.get", wamp.List{"t"}, nil, sample)
		check("device.a.get", nil, wamp.Dict{"reading": "n"}, none)
		check("device.b.get", nil, nil, wamp.Dict{})
		described := func(name string, readings, procedures wamp.List) wamp.Dict {
			return wamp.Dict{
				"name": name, "type": name, "summary": "scripted", "state": "ready", "reason": "", "since": now,
				"readings": readings, "procedures": procedures, "alarms": wamp.List{},
			}
		}
		a := described("a", wamp.List{
			wamp.Dict{"name": "t", "doc": "of the room", "type": "float", "value": 20.5, "unit": "Cel", "time": now, "seq": int64(1), "quality": "good"},
			wamp.Dict{"name": "n", "doc": "", "type": "int", "value": nil, "unit": "", "seq": int64(0), "quality": "bad", "reason": "there is no value yet"},
		}, wamp.List{wamp.Dict{
			"name": "set", "doc": "Sets.", "returns": "bool",
			"args": wamp.List{wamp.Dict{"name": "on", "type": "bool", "doc": "or off", "optional": true}},
		}})
		check("device.a.describe", nil, nil, a)
		check("device.list", nil, nil, wamp.List{a, described("b", wamp.List{}, wamp.List{})})
		check("device.a.status", nil, nil, wamp.Dict{
			"name": "a", "type": "a", "state": "ready", "since": now, "reason": "", "attempts": int64(1), "panics": int64(0),
			"published": int64(1), "dropped": int64(0), "coalesced": int64(0), "faults": int64(0), "filtered": int64(0), "queued": int64(0), "alarms": wamp.List{},
		})

		// They answer while the device is down.
		close(fail)
		synctest.Wait()
		got, err := f.call("device.a.get", wamp.List{"t"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s := got.(wamp.Dict); s["value"] != nil || s["quality"] != "bad" || s["reason"] != "unplugged" {
			t.Errorf("have %v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestHostProceduresCheckArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": {}}), f)
		for _, c := range []struct {
			uri  string
			args wamp.List
		}{
			{"device.a.get", wamp.List{"x"}},
			{"device.a.get", wamp.List{int64(1)}},
			{"device.a.describe", wamp.List{int64(1)}},
			{"device.a.status", wamp.List{int64(1)}},
			{"device.list", wamp.List{int64(1)}},
		} {
			if _, err := f.call(c.uri, c.args, nil); errorOf(t, err).URI != wamp.ErrInvalidArgument {
				t.Errorf("%s%v: have %v", c.uri, c.args, err)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A value of a device that was stopped is of the past.
func TestQualityAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		r, out := outletOf(t, DefaultConfig(), float("t"), f)
		out.Emit("t", 1.0, Sample{})
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		got, err := f.call("device.a.get", wamp.List{"t"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s := got.(wamp.Dict); s["value"] != 1.0 || s["quality"] != "uncertain" || s["reason"] != "the device is stopped" {
			t.Errorf("have %v", s)
		}
	})
}

// A procedure that somebody else has is left out, the others work.
func TestRegistrationRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRealm()
		f.procs["device.a.describe"] = (&Host{prefix: "other"}).list
		r := start(t, testHost(t, DefaultConfig(), map[string]*scripted{"a": {}}), f)
		select {
		case <-r.Ready():
		default:
			t.Error("the host is not ready")
		}
		for _, uri := range []string{"device.list", "device.a.get", "device.a.status"} {
			if _, err := f.call(uri, nil, nil); err != nil {
				t.Errorf("%s: %v", uri, err)
			}
		}
		if v, err := f.call("device.a.describe", nil, nil); err != nil || fmt.Sprint(v) != "[]" {
			t.Errorf("have %v, %v, want the other one's answer", v, err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
