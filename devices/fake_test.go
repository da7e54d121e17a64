package devices

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices/pipeline"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// published is one event that a fakeRealm took.
type published struct {
	topic  string
	args   wamp.List
	kwargs wamp.Dict
	retain bool
}

// fakeRealm is a realm that records. Its zero ID means that it is away.
type fakeRealm struct {
	mu       sync.Mutex
	session  wamp.ID
	events   []published
	order    []string // what happened, events and unregistrations
	procs    map[string]client.Procedure
	refuse   func(topic string) error // nil accepts
	gate     chan struct{}            // when not nil, publish waits for it
	ended    chan struct{}
	handlers map[string]func(wamp.List)
	gone     map[wamp.ID]bool
	why      error
}

func newFakeRealm() *fakeRealm {
	return &fakeRealm{session: 1, procs: map[string]client.Procedure{}, ended: make(chan struct{}), handlers: map[string]func(wamp.List){}, gone: map[wamp.ID]bool{}}
}

func (f *fakeRealm) id() wamp.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

func (f *fakeRealm) done() <-chan struct{} { return f.ended }
func (f *fakeRealm) err() error            { return f.why }

func (f *fakeRealm) join(id wamp.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session = id
}

func (f *fakeRealm) publish(ctx context.Context, topic string, args wamp.List, kwargs wamp.Dict, retain bool) error {
	f.mu.Lock()
	gate, refuse := f.gate, f.refuse
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == 0 {
		return errors.New("not connected")
	}
	if refuse != nil {
		if err := refuse(topic); err != nil {
			return err
		}
	}
	kwargs = maps.Clone(kwargs)
	for k, v := range kwargs {
		switch v := v.(type) {
		case *int64:
			kwargs[k] = *v
		case *string:
			kwargs[k] = *v
		}
	}
	f.events = append(f.events, published{topic, slices.Clone(args), kwargs, retain})
	f.order = append(f.order, "event "+topic)
	return nil
}

func (f *fakeRealm) register(_ context.Context, uri string, p client.Procedure, _ bool) (func(context.Context) error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == 0 {
		return nil, errors.New("not connected")
	}
	if f.procs[uri] != nil {
		return nil, wamp.Errorf(wamp.ErrProcedureAlreadyExists, "%s", uri)
	}
	f.procs[uri] = p
	return func(context.Context) error {
		f.note("unregister " + uri)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.procs, uri)
		return nil
	}, nil
}

func (f *fakeRealm) subscribe(_ context.Context, topic string, h func(wamp.List)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[topic] = h
	return nil
}

func (f *fakeRealm) joined(_ context.Context, session wamp.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone[session] {
		return wamp.Errorf(wamp.ErrNoSuchSession, "%d", session)
	}
	return nil
}

func (f *fakeRealm) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = append(f.order, what)
}

// call calls a registered procedure as a client would.
func (f *fakeRealm) call(uri string, args wamp.List, kwargs wamp.Dict) (any, error) {
	return f.callCtx(context.Background(), uri, args, kwargs)
}

func (f *fakeRealm) callCtx(ctx context.Context, uri string, args wamp.List, kwargs wamp.Dict) (any, error) {
	f.mu.Lock()
	p := f.procs[uri]
	f.mu.Unlock()
	if p == nil {
		return nil, wamp.Errorf(wamp.ErrNoSuchProcedure, "%s", uri)
	}
	res, err := p(ctx, &client.Invocation{Values: client.Values{Args: args, KwArgs: kwargs}, Procedure: uri})
	if err != nil || len(res.Args) == 0 {
		return nil, err
	}
	return res.Args[0], nil
}

// of returns the events of a topic.
func (f *fakeRealm) of(topic string) []published {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []published
	for _, e := range f.events {
		if e.topic == topic {
			found = append(found, e)
		}
	}
	return found
}

// values returns the arguments of a topic's events.
func (f *fakeRealm) values(topic string) []any {
	var v []any
	for _, e := range f.of(topic) {
		v = append(v, e.args[0])
	}
	return v
}

// scripted is a device whose methods are given by the test.
type scripted struct {
	readings   []Reading
	stages     map[string]pipeline.Config // what the entry says of the readings
	procedures []Procedure
	run        func(ctx context.Context, out Outlet) error
	halt       func() error
}

func (s *scripted) Readings() []Reading     { return s.readings }
func (s *scripted) Procedures() []Procedure { return s.procedures }

func (s *scripted) Run(ctx context.Context, out Outlet) error {
	if s.run == nil {
		out.Ready()
		<-ctx.Done()
		return nil
	}
	return s.run(ctx, out)
}

func (s *scripted) Halt() error {
	if s.halt == nil {
		return nil
	}
	return s.halt()
}

type noParams struct{}

// quiet is a logger for tests that break things on purpose.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// testHost makes a host of scripted devices, in the order of their names.
func testHost(t testing.TB, cfg Config, devs map[string]*scripted) *Host {
	t.Helper()
	var drivers []Driver
	for _, name := range slices.Sorted(maps.Keys(devs)) {
		dev := devs[name]
		drivers = append(drivers, Driver{
			Type: name, Summary: "scripted", Doc: "scripted", Example: "name: x\ntype: " + name + "\n",
			NewParams: func() any { return &noParams{} },
			Open:      func(Env, any) (Device, error) { return dev, nil },
		})
		cfg.List = append(cfg.List, Entry{Name: name, Type: name, Readings: dev.stages})
	}
	table, err := NewTable(drivers...)
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHost(cfg, table, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// running is a host that runs in a synctest bubble.
type running struct {
	*Host
	t      testing.TB
	realm  *fakeRealm
	cancel context.CancelFunc
	result chan error
}

func start(t testing.TB, h *Host, r *fakeRealm) *running {
	ctx, cancel := context.WithCancel(context.Background())
	rn := &running{Host: h, t: t, realm: r, cancel: cancel, result: make(chan error, 1)}
	go func() { rn.result <- h.run(ctx, r) }()
	synctest.Wait()
	return rn
}

// stop ends the host and returns what Run returned.
func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

// device returns the status of a device.
func (r *running) device(name string) Status {
	for _, s := range r.Status() {
		if s.Device == name {
			return s
		}
	}
	r.t.Fatalf("there is no device %q", name)
	return Status{}
}

// after lets time pass and everything settle.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func float(name string) []Reading { return []Reading{{Name: name, Type: "float", Unit: "Cel"}} }
