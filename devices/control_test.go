package devices

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// lamp is an actuator that can be released.
type lamp struct {
	scripted
	on       bool
	released int
	refuse   error
}

func (l *lamp) Release() error {
	l.on = false
	l.released++
	return l.refuse
}

// controlled starts a host with one lamp, "a".
func controlled(t *testing.T, c Control) (*running, *lamp) {
	l := &lamp{}
	l.procedures = []Procedure{{Name: "set", Args: []Arg{{Name: "on", Type: "bool"}}, Call: func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		l.on = args[0].(bool)
		return l.on, nil
	}}}
	table, err := NewTable(Driver{
		Type: "lamp", Summary: "lamp", Doc: "lamp", Example: "name: x\ntype: lamp\n",
		NewParams: func() any { return &noParams{} },
		Open:      func(Env, any) (Device, error) { return l, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.List = []Entry{{Name: "a", Type: "lamp", Control: c}}
	h, err := NewHost(cfg, table, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, h, newFakeRealm()), l
}

// callAs calls as a session does.
func (f *fakeRealm) callAs(session wamp.ID, uri string, args ...any) error {
	f.mu.Lock()
	p := f.procs[uri]
	f.mu.Unlock()
	if p == nil {
		return errors.New("no procedure " + uri)
	}
	inv := &client.Invocation{Values: client.Values{Args: args}, Procedure: uri}
	inv.Details.Caller = session
	_, err := p(context.Background(), inv)
	return err
}

func (f *fakeRealm) leave(session wamp.ID) {
	f.mu.Lock()
	h := f.handlers[topicOnLeave]
	f.gone[session] = true
	f.mu.Unlock()
	h(wamp.List{int64(session), "x", "y"})
}

func TestLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := controlled(t, Control{Lease: 10 * time.Second})
		as := func(session wamp.ID, uri string, args ...any) {
			t.Helper()
			if err := r.realm.callAs(session, uri, args...); err != nil {
				t.Error(err)
			}
		}
		after(time.Minute)
		if l.released != 0 {
			t.Error("released although nobody commanded it")
		}
		as(7, "device.a.set", true)
		after(9 * time.Second)
		as(7, "device.a.renew")
		after(9 * time.Second)
		if !l.on {
			t.Error("released before the renewed lease has ended")
		}
		if err := r.realm.callAs(8, "device.a.renew"); err == nil || !strings.Contains(err.Error(), wamp.ErrNotAuthorized) {
			t.Errorf("renewed by another session: %v", err)
		}
		after(time.Second)
		if l.on || l.released != 1 {
			t.Errorf("the lease has ended: on %v, released %d times", l.on, l.released)
		}
		if err := r.realm.callAs(7, "device.a.renew"); err == nil {
			t.Error("a lease that has ended was renewed")
		}
		as(8, "device.a.set", true) // obeyed again
		as(8, "device.a.release")
		if l.on || l.released != 2 {
			t.Error("not released by its controller")
		}
		after(time.Minute)
		if l.released != 2 || r.device("a").State != StateReady {
			t.Errorf("released %d times, %+v", l.released, r.device("a"))
		}
		r.stop()
	})
}

func TestControllerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := controlled(t, Control{Hold: true})
		r.realm.callAs(7, "device.a.set", true)
		r.realm.callAs(8, "device.a.set", true)
		r.realm.leave(7) // not the last that commanded it
		after(time.Hour)
		if !l.on {
			t.Error("released when another session left")
		}
		r.realm.leave(8)
		synctest.Wait()
		if l.on || l.released != 1 {
			t.Errorf("its controller has left: on %v, released %d times", l.on, l.released)
		}
		// Its command was on the way.
		if err := r.realm.callAs(8, "device.a.set", true); err == nil || l.on {
			t.Errorf("a session that has left commanded it: %v", err)
		}
		// The event that says so is lost.
		r.realm.callAs(9, "device.a.set", true)
		after(3 * askEvery)
		if !l.on {
			t.Error("released while its controller is joined")
		}
		r.realm.mu.Lock()
		r.realm.gone[9] = true
		r.realm.mu.Unlock()
		after(askEvery)
		if l.on {
			t.Error("nobody asked for the controller")
		}
		if err := r.realm.callAs(0, "device.a.set", true); err == nil {
			t.Error("commanded by nobody")
		}
		r.stop()
	})
}

// A command that is still under way when its session leaves cannot undo the
// safe state.
func TestCommandTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := controlled(t, Control{Hold: true})
		gate := make(chan struct{})
		l.procedures[0].Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
			<-gate
			l.on = true
			return nil, nil
		}
		go r.realm.callAs(7, "device.a.set", true)
		synctest.Wait()
		r.realm.leave(7)
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if l.on || l.released != 2 {
			t.Errorf("on %v, released %d times", l.on, l.released)
		}
		r.stop()
	})
}

// A device that cannot be released is halted.
func TestReleaseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := controlled(t, Control{Lease: time.Second})
		halted := 0
		l.halt = func() error { halted++; return nil }
		l.refuse = errors.New("stuck")
		l.run = func(ctx context.Context, out Outlet) error { out.Ready(); <-ctx.Done(); return nil }
		r.realm.callAs(7, "device.a.set", true)
		after(1100 * time.Millisecond)
		if halted != 1 || !strings.Contains(r.device("a").Reason, "stuck") {
			t.Errorf("halted %d times, %+v", halted, r.device("a"))
		}
		r.stop()
	})
}

func TestControlOfASensor(t *testing.T) {
	cfg := DefaultConfig()
	cfg.List = []Entry{{Name: "a", Type: "a", Control: Control{Lease: time.Millisecond}}}
	var paths []string
	cfg.Validate(func(path, _, _ string) { paths = append(paths, path) })
	if strings.Join(paths, " ") != "list[0].control.lease" {
		t.Errorf("%q", paths)
	}
	cfg.List[0].Control = Control{Hold: true}
	table, err := NewTable(Driver{
		Type: "a", Summary: "a", Doc: "a", Example: "name: x\ntype: a\n", NewParams: func() any { return &noParams{} },
		Open: func(Env, any) (Device, error) { return &scripted{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewHost(cfg, table, quiet); err == nil || !strings.Contains(err.Error(), "nothing to control") {
		t.Errorf("%v", err)
	}
}
