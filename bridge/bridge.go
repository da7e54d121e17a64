package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// Host is what a bridge gets from the gateway.
type Host struct {
	// Realm to join, and Dial, which opens connections to its router.
	Realm string
	Dial  client.Dialer
	// DialAs opens connections whose sessions have a role's rights only; without
	// it, commands from MQTT are refused.
	DialAs func(authid, role string) client.Dialer
	// URIs is how strictly the realm checks URIs.
	URIs wamp.URIRule
	// Brokers are the brokers by their names in the configuration; Embedded is
	// among them when there is one.
	Brokers map[string]Broker
	// Open makes an adapter for a connection beside those of Brokers; needed for
	// Sparkplug.
	Open func(BrokerConfig) (Broker, error)
	// StateDir is where queues are kept; empty for memory only.
	StateDir string
	// Version of the gateway, for those who are told of its devices.
	Version string
	Log     *slog.Logger
}

// Bridge is all brokers' tasks, with their status:
//
//   - events postern.bridge.<broker>.status at every change of state, with the
//     state as their argument and Status.Dict as keyword arguments
//   - postern.bridge.list() → list of broker names
//   - postern.bridge.status([broker]) → the broker's Status.Dict, or a list of all
//   - postern.bridge.pause(broker), postern.bridge.resume(broker): see Task.Pause
//   - postern.bridge.purge(broker[, map]) → how many messages that waited for the
//     broker were dropped
//   - postern.bridge.dead_letters(broker) → the last that could not be carried
//   - postern.bridge.sparkplug() → the status of all edge nodes, a list
//   - postern.bridge.found() → what the URIs of found devices begin with, a list
type Bridge struct {
	host    Host
	tasks   []*Task
	edges   []*edge
	join    func(ctx context.Context, name string) (session, error)
	changed chan struct{}

	ready     chan struct{}
	readyOnce sync.Once
}

// New makes the tasks of all brokers that have one in host and a map. Problems
// that are not fatal are logged.
func New(cfg Config, host Host) (*Bridge, error) {
	if host.Log == nil {
		host.Log = slog.Default()
	}
	if l, ok := host.Brokers[Embedded].(interface{ Listens() []string }); ok && cfg.EmbeddedAt == nil {
		cfg.EmbeddedAt = l.Listens()
	}
	var fatal []error
	for _, p := range cfg.Check(host.URIs) {
		if p.Fatal {
			fatal = append(fatal, fmt.Errorf("bridge.%s", p))
		} else {
			host.Log.Warn("bridge configuration", "path", p.Path, "problem", p.Message, "hint", p.Hint)
		}
	}
	if len(fatal) > 0 {
		return nil, errors.Join(fatal...)
	}
	b := &Bridge{host: host, changed: make(chan struct{}, 1), ready: make(chan struct{})}
	b.join = b.dial
	for _, c := range append(cfg.Brokers[:len(cfg.Brokers):len(cfg.Brokers)], embeddedConfig()) {
		broker := host.Brokers[c.Name]
		table, _ := NewTable(c.Name, cfg.Maps, host.URIs, codec.CBOR)
		if broker == nil {
			if c.Name != Embedded {
				return nil, fmt.Errorf("bridge: no adapter for broker %q", c.Name)
			}
			continue
		}
		t := newTask(c.Name, c, broker, table, host.Log)
		t.join = func(ctx context.Context, name string) (session, error) { return b.join(ctx, name) }
		t.useCalls(newCalls(c.Name, cfg.Calls, host.URIs))
		t.callAs = b.dialAs
		for _, h := range cfg.HomeAssistant {
			if h.Broker == c.Name {
				t.announce(h, cfg.DevicePrefix, host)
			}
		}
		for _, d := range cfg.Discovery {
			if d.Broker == c.Name {
				t.find(d)
			}
		}
		t.gauge.changed = b.tell
		if host.StateDir != "" && c.Name != Embedded { // nobody waits for the embedded broker
			t.dir = queueDir(host.StateDir, c.Name)
		}
		b.tasks = append(b.tasks, t)
	}
	for _, s := range cfg.Sparkplug {
		for _, c := range cfg.Brokers {
			if c.Name != s.Broker {
				continue
			}
			if host.Open == nil {
				return nil, errors.New("bridge: nobody opens connections for Sparkplug here")
			}
			e := newEdge(s, c, cfg.DevicePrefix, host)
			e.join = func(ctx context.Context, name string) (session, error) { return b.join(ctx, name) }
			e.callAs = b.dialAs
			b.edges = append(b.edges, e)
		}
	}
	if len(b.tasks) > 1 {
		all := &circles{}
		for _, t := range b.tasks {
			t.circles = all
		}
	}
	return b, nil
}

// embeddedConfig is how the task of the embedded broker behaves.
func embeddedConfig() BrokerConfig {
	var c BrokerConfig
	c.SetDefaults()
	c.Name = Embedded
	return c
}

// dial joins the realm for a task, or for the bridge itself.
func (b *Bridge) dial(ctx context.Context, name string) (session, error) {
	return client.Join(ctx, b.host.Dial, client.Config{
		Realm:     b.host.Realm,
		Reconnect: &client.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3},
		Log:       b.host.Log.With("bridge", name),
	})
}

// dialAs joins the realm for the commands of one entry of calls.
func (b *Bridge) dialAs(ctx context.Context, c Call) (caller, error) {
	if b.host.DialAs == nil {
		return nil, errors.New("the bridge may not act for others here")
	}
	return client.Join(ctx, b.host.DialAs("bridge."+c.Name, c.Role), client.Config{
		Realm:     b.host.Realm,
		Reconnect: &client.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3},
		Log:       b.host.Log.With("call", c.Name),
	})
}

// String is the bridge's name in logs.
func (b *Bridge) String() string { return "bridge" }

// Ready is closed when all tasks have their subscriptions in the realm. It does
// not wait for any broker.
func (b *Bridge) Ready() <-chan struct{} { return b.ready }

// Status is that of all brokers, in the order of the configuration.
func (b *Bridge) Status() []Status {
	out := make([]Status, len(b.tasks))
	for i, t := range b.tasks {
		out[i] = t.Status()
	}
	return out
}

// Run serves until ctx ends, and then as long as the tasks take for their
// farewells, some three seconds at most. A task that fails is started again.
func (b *Bridge) Run(ctx context.Context) error {
	var tasks, teller sync.WaitGroup
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	attached := make(chan struct{})
	teller.Go(func() { b.tellAll(ctx, work, attached) })
	for _, t := range b.tasks {
		tasks.Go(func() { keepRunning(ctx, t.log, t.Run) })
	}
	for _, e := range b.edges {
		tasks.Go(func() { keepRunning(ctx, e.log, e.run) })
	}
	tasks.Go(func() {
		for _, t := range b.tasks {
			select {
			case <-t.Ready():
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-attached:
			b.readyOnce.Do(func() { close(b.ready) })
		case <-ctx.Done():
		}
	})
	tasks.Wait()
	<-ctx.Done() // with no broker there are no tasks, and that is no failure
	stop()
	teller.Wait()
	return nil
}

func keepRunning(ctx context.Context, log *slog.Logger, run func(context.Context) error) {
	wait := backoff{ReconnectConfig: ReconnectConfig{Min: time.Second, Max: time.Minute, Jitter: 0.3}}
	for ctx.Err() == nil {
		if err := run(ctx); err != nil {
			log.Error("bridge task failed", "error", err)
			wait.sleep(ctx)
		}
	}
}

func (b *Bridge) tell() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// tellAll has a session of its own, so that tasks can carry the status, too. It
// publishes every task's status when its state has changed; the last time when
// the tasks have ended.
func (b *Bridge) tellAll(ctx, work context.Context, attached chan struct{}) {
	sess, err := b.attach(ctx)
	if err != nil {
		b.host.Log.Error("the bridge's status cannot be seen in the realm", "error", err)
	}
	close(attached)
	if sess == nil {
		return
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
		defer cancel()
		_ = sess.Close(bye) // it ends either way
	}()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	told := make([]int, len(b.tasks))
	for {
		for i, t := range b.tasks {
			s, version := t.gauge.status(t.name, t.queue)
			if version == told[i] {
				continue
			}
			told[i] = version
			p, err := wamp.NewPayload(codec.CBOR, wamp.List{s.State}, s.Dict())
			if err == nil {
				timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
				err = sess.PublishPayload(timeout, "postern.bridge."+t.name+".status", p, client.Retain())
				cancel()
			}
			if err != nil {
				b.host.Log.Debug("bridge status not published", "broker", t.name, "error", err)
			}
		}
		select {
		case <-b.changed:
			continue
		case now := <-ticker.C:
			for i, t := range b.tasks {
				if t.gauge.count(now) {
					told[i] = -1
				}
			}
			continue
		case <-work.Done():
		}
		select {
		case <-b.changed: // the last one
		default:
			return
		}
	}
}

// attach joins the realm and offers the procedures; the session is nil when ctx
// ended first.
func (b *Bridge) attach(ctx context.Context) (session, error) {
	wait := backoff{ReconnectConfig: ReconnectConfig{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3}}
	for {
		sess, err := b.join(ctx, "status")
		if err == nil {
			for name, procedure := range b.procedures() {
				if _, err = sess.Register(ctx, "postern.bridge."+name, procedure); err != nil {
					break
				}
			}
			if err == nil {
				return sess, nil
			}
			_ = sess.Close(ctx) // the registration's error says what happened
			var refused *wamp.Error
			if errors.As(err, &refused) {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		b.host.Log.Debug("bridge cannot join the realm yet", "error", err)
		wait.sleep(ctx)
	}
}
