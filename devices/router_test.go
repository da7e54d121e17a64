package devices_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/sim"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

// The host as it is in the gateway: a client of the real router.

const patience = 10 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// site is a router, and sessions in it.
type site struct {
	t      testing.TB
	router *router.Router
}

func newSite(t testing.TB) *site {
	t.Helper()
	r, err := router.New(router.DefaultConfig(), router.WithLog(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return &site{t, r}
}

// join makes a session that reconnects; cut breaks its connection.
func (s *site) join() (session *client.Session, cut func()) {
	s.t.Helper()
	var mu sync.Mutex
	var last transport.Conn
	dial := func(ctx context.Context) (transport.Conn, error) {
		conn, err := s.router.Local(context.Background(), realm.Identity{AuthID: "test", AuthRole: router.RoleTrusted}, "realm1")
		mu.Lock()
		last = conn
		mu.Unlock()
		return conn, err
	}
	session, err := client.Join(s.t.Context(), dial, client.Config{
		Realm: "realm1", Log: quiet, Reconnect: &client.Backoff{Min: time.Millisecond, Max: time.Millisecond},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := session.Close(ctx); err != nil {
			s.t.Error(err)
		}
	})
	return session, func() {
		mu.Lock()
		defer mu.Unlock()
		_ = last.Close()
	}
}

// events subscribes to everything below "device.".
func (s *site) events(session *client.Session) <-chan *client.Event {
	s.t.Helper()
	events := make(chan *client.Event, 10_000)
	_, err := session.Subscribe(s.t.Context(), "device.", func(e *client.Event) { events <- e }, client.Pattern(wamp.MatchPrefix))
	if err != nil {
		s.t.Fatal(err)
	}
	return events
}

// await returns the next event that ok accepts.
func (s *site) await(events <-chan *client.Event, what string, ok func(*client.Event) bool) *client.Event {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-events:
			if ok(e) {
				return e
			}
		case <-timeout:
			s.t.Fatalf("no event: %s", what)
		}
	}
}

func table(t testing.TB, extra ...devices.Driver) *devices.Table {
	t.Helper()
	tab, err := devices.NewTable(append(extra, sim.Relay(), sim.Sine())...)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// run runs the host until the test ends or stop is called.
func (s *site) run(h *devices.Host, session *client.Session) (stop func() error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, session) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	s.t.Cleanup(func() { _ = stop() })
	select {
	case <-h.Ready():
	case <-time.After(patience):
		s.t.Fatal("the host does not become ready")
	}
	return stop
}

func TestOnRealRouter(t *testing.T) {
	s := newSite(t)
	cfg := devices.DefaultConfig()
	cfg.List = []devices.Entry{
		{Name: "relay", Type: "sim-relay"},
		{Name: "thermometer", Type: "sim-sine", Params: &sim.SineParams{
			Signal: sim.Signal{Reading: "temperature", Unit: "Cel", Interval: 5 * time.Millisecond, Decimals: 1}, Offset: 20, Period: time.Second,
		}},
	}
	h, err := devices.NewHost(cfg, table(t), quiet)
	if err != nil {
		t.Fatal(err)
	}
	user, _ := s.join()
	events := s.events(user)
	own, cut := s.join()
	stop := s.run(h, own)

	is := func(topic string) func(*client.Event) bool {
		return func(e *client.Event) bool { return e.Topic == topic }
	}
	e := s.await(events, "a temperature", is("device.thermometer.temperature"))
	if e.Args[0] != 20.0 || e.KwArgs["unit"] != "Cel" || e.KwArgs["quality"] != "good" || e.KwArgs["seq"] != int64(1) {
		t.Errorf("have %v %v", e.Args, e.KwArgs)
	}
	if at, err := time.Parse(time.RFC3339, wamp.AsString(e.KwArgs, "time")); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("have time %v: %v", e.KwArgs["time"], err)
	}
	if _, err := user.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
		t.Fatal(err)
	}
	s.await(events, "the relay is on", func(e *client.Event) bool { return e.Topic == "device.relay.on" && e.Args[0] == true })
	_, err = user.Call(t.Context(), "device.relay.set", client.Args{"on"}, nil)
	if e := (*wamp.Error)(nil); !errors.As(err, &e) || e.URI != wamp.ErrInvalidArgument || e.KwArgs["argument"] != "on" || e.KwArgs["expected"] != "bool" {
		t.Errorf("a wrong argument: have %v", err)
	}
	res, err := user.Call(t.Context(), "device.list", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []any
	for _, d := range res.Args[0].([]any) {
		names = append(names, d.(map[string]any)["name"])
	}
	if !reflect.DeepEqual(names, []any{"relay", "thermometer"}) {
		t.Errorf("have %v", names)
	}

	// A lost connection: the state is told again, calls work again, and the
	// numbers go on.
	cut()
	s.await(events, "the state again", is("device.relay.status"))
	for deadline := time.Now().Add(patience); ; {
		_, err := user.Call(t.Context(), "device.relay.toggle", nil, nil)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the relay does not come back: %v", err)
		}
	}
	s.await(events, "the relay is off", func(e *client.Event) bool { return e.Topic == "device.relay.on" && e.Args[0] == false })
	if _, err := user.Call(t.Context(), "device.relay.set", nil, client.KwArgs{"on": true}); err != nil {
		t.Fatal(err)
	}

	s.stopsSafely(user, events, stop)
}

// stopsSafely stops the host, whose relay is on, and looks at what a user sees.
func (s *site) stopsSafely(user *client.Session, events <-chan *client.Event, stop func() error) {
	t := s.t
	t.Helper()
	if err := stop(); err != nil {
		t.Error(err)
	}
	s.await(events, "the relay is safe", func(e *client.Event) bool { return e.Topic == "device.relay.on" && e.Args[0] == false })
	s.await(events, "the relay is stopped", func(e *client.Event) bool {
		return e.Topic == "device.relay.status" && e.Args[0] == "stopped"
	})
	_, err := user.Call(t.Context(), "device.relay.set", client.Args{true}, nil)
	if e := (*wamp.Error)(nil); !errors.As(err, &e) || e.URI != wamp.ErrNoSuchProcedure {
		t.Errorf("after the end: have %v", err)
	}
	// Who comes late hears the last state.
	late, _ := s.join()
	seen := make(chan *client.Event, 1)
	_, err = late.Subscribe(t.Context(), "device.relay.status", func(e *client.Event) { seen <- e }, func(o *wamp.SubscribeOptions) { o.GetRetained = true })
	if err != nil {
		t.Fatal(err)
	}
	if e := s.await(seen, "the retained state", func(*client.Event) bool { return true }); e.Args[0] != "stopped" {
		t.Errorf("have %v", e.Args)
	}
}

// pulser is a device that emits as fast as it is told to.
type pulser struct{ out chan devices.Outlet }

func (p *pulser) Readings() []devices.Reading     { return []devices.Reading{{Name: "n", Type: "int"}} }
func (p *pulser) Procedures() []devices.Procedure { return nil }
func (p *pulser) Halt() error                     { return nil }

func (p *pulser) Run(ctx context.Context, out devices.Outlet) error {
	out.Ready()
	p.out <- out
	<-ctx.Done()
	return nil
}

func (p *pulser) driver() devices.Driver {
	return devices.Driver{
		Type: "pulser", Summary: "emits", Doc: "emits", Example: "name: p\ntype: pulser\n",
		NewParams: func() any { return &struct{}{} },
		Open:      func(devices.Env, any) (devices.Device, error) { return p, nil },
	}
}

// startPulser runs a host with a pulser over a real router.
func (s *site) startPulser() devices.Outlet {
	s.t.Helper()
	p := &pulser{out: make(chan devices.Outlet, 1)}
	cfg := devices.DefaultConfig()
	cfg.List = []devices.Entry{{Name: "p", Type: "pulser"}}
	h, err := devices.NewHost(cfg, table(s.t, p.driver()), quiet)
	if err != nil {
		s.t.Fatal(err)
	}
	session, _ := s.join()
	s.run(h, session)
	return <-p.out
}

// A burst within the queue arrives whole and in order.
func TestBurstOnRealRouter(t *testing.T) {
	s := newSite(t)
	user, _ := s.join()
	events := s.events(user)
	out := s.startPulser()
	const n = 1000
	for i := range n {
		out.Emit("n", i, devices.Sample{})
	}
	for i := range n {
		e := s.await(events, "a value", func(e *client.Event) bool { return strings.HasSuffix(e.Topic, ".n") })
		if e.Args[0] != int64(i) || e.KwArgs["seq"] != int64(i+1) {
			t.Fatalf("event %d: have %v %v", i, e.Args, e.KwArgs)
		}
	}
}

// From Emit to the subscriber's handler, through client, pipe and router.
func BenchmarkEmitToSubscriber(b *testing.B) {
	s := newSite(b)
	user, _ := s.join()
	events := s.events(user)
	out := s.startPulser()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out.Emit("n", i, devices.Sample{})
		for (<-events).Topic != "device.p.n" {
		}
	}
}

// Over the real router: the relay falls when the session that switched it on
// leaves, and not when another does.
func TestControllerLeavesTheRouter(t *testing.T) {
	s := newSite(t)
	cfg := devices.DefaultConfig()
	cfg.List = []devices.Entry{{Name: "relay", Type: "sim-relay", Control: devices.Control{Hold: true, Lease: time.Minute}}}
	h, err := devices.NewHost(cfg, table(t), quiet)
	if err != nil {
		t.Fatal(err)
	}
	watcher, _ := s.join()
	events := s.events(watcher)
	own, _ := s.join()
	stop := s.run(h, own)
	user, cut := s.join()
	other, _ := s.join()
	if _, err := user.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Call(t.Context(), "device.relay.renew", nil, nil); err == nil {
		t.Error("renewed by another session")
	}
	if res, err := user.Call(t.Context(), "device.relay.renew", nil, nil); err != nil || res.Args[0] != int64(60_000) {
		t.Errorf("renew: %v, %v", res, err)
	}
	is := func(on bool) func(*client.Event) bool {
		return func(e *client.Event) bool { return e.Topic == "device.relay.on" && e.Args[0] == on }
	}
	s.await(events, "the relay is on", is(true))
	begin := time.Now()
	cut()
	s.await(events, "the relay is off", is(false))
	t.Logf("safe %v after the connection broke", time.Since(begin))
	if err := stop(); err != nil {
		t.Error(err)
	}
}
