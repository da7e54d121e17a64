package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/postern-iot/postern/bridge/sparkplug"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// edge is a Sparkplug edge node at one broker, with the gateway's devices behind
// it. It has a connection of its own, since the node's death is that
// connection's last will and its sessions are clean, and a session of its own.
// What it knows of the devices it has from their procedure list and from their
// events, as any client could.
//
// Nothing of it is queued: a node that was away is born again with the values
// as they are then.
type edge struct {
	cfg     Sparkplug
	servers []BrokerConfig // one for each URL
	dial    func(BrokerConfig) (Broker, error)
	devices string // what their URIs begin with
	log     *slog.Logger
	join    func(ctx context.Context, name string) (session, error)
	callAs  func(ctx context.Context, c Call) (caller, error)

	wake     chan struct{} // holds a token when there is something to send
	looks    chan struct{} // holds a token when the devices are to be looked at
	received *inbox
	commands chan sparkplug.Command

	mu      sync.Mutex
	node    *sparkplug.Node
	pending []sparkplug.Change
	list    []sparkplug.Device
	listed  bool // there is a list
	news    bool // list has not been taken yet
	host    sparkplug.Host
	stats   edgeStats
}

// edgeStats is what is known of an edge node.
type edgeStats struct {
	state                            string
	url, err                         string
	births, sent, commanded, dropped uint64
}

// The states of an edge node, beside those of a task.
const (
	EdgeWaiting = "waiting" // connected; the primary host is not online
	EdgeBorn    = "born"    // the births are published
)

// Bounds of an edge node.
const (
	maxChanges   = 8192 // that wait to be sent
	maxCommands  = 64
	commandTime  = 5 * time.Second
	hostPatience = 30 * time.Second // with the primary host at one of several servers
)

func newEdge(cfg Sparkplug, broker BrokerConfig, devices string, host Host) *edge {
	e := &edge{
		cfg: cfg, dial: host.Open, devices: orElse(devices, "device"), log: host.Log.With("sparkplug", cfg.Group+"/"+cfg.Node),
		wake: make(chan struct{}, 1), looks: make(chan struct{}, 1), received: newInbox(),
		commands: make(chan sparkplug.Command, maxCommands), node: sparkplug.NewNode(cfg.Group, cfg.Node, host.Version),
	}
	e.stats.state = StateStopped
	for _, u := range broker.URLs {
		one := broker
		one.URLs, one.ClientID, one.Session, one.Protocol = []string{u}, cfg.ClientID, "clean", "3.1.1"
		one.Status = StatusConfig{}
		e.servers = append(e.servers, one)
	}
	return e
}

// run serves until ctx ends; the node's death is published then. The error is
// nil then, and not when the node cannot go on. It may be run again.
func (e *edge) run(outer context.Context) error {
	sess := e.attach(outer)
	if sess == nil {
		return nil
	}
	ctx, fail := context.WithCancelCause(outer)
	var wg sync.WaitGroup
	start := func(f func()) {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					fail(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
				}
			}()
			f()
		})
	}
	start(func() { e.look(ctx, sess) })
	start(func() { e.carryOut(ctx) })
	start(func() { e.connectAgain(ctx) })
	start(func() {
		select {
		case <-sess.Done():
			fail(errors.New("the WAMP session has ended for good"))
		case <-ctx.Done():
		}
	})
	wg.Wait()
	var failure error
	if outer.Err() == nil {
		failure = context.Cause(ctx)
	}
	fail(nil)
	e.set(StateStopped, "", failure)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	_ = sess.Close(bye) // it ends either way
	return failure
}

// attach joins the realm and subscribes; nil when ctx ended first.
func (e *edge) attach(ctx context.Context) session {
	wait := backoff{ReconnectConfig: ReconnectConfig{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3}}
	for ctx.Err() == nil {
		sess, err := e.join(ctx, "sparkplug")
		if err == nil {
			retained := func(o *wamp.SubscribeOptions) { o.GetRetained = true }
			if _, err = sess.Subscribe(ctx, e.devices+".", e.event, client.Pattern(wamp.MatchPrefix), retained); err == nil {
				return sess
			}
			_ = sess.Close(ctx) // the subscription's error says what happened
		}
		e.set(StateOffline, "", fmt.Errorf("join the realm: %w", err))
		wait.sleep(ctx)
	}
	return nil
}

func (e *edge) set(state, url string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stats.state != state {
		e.log.Info("edge node "+state, "url", url, "reason", err)
	}
	e.stats.state, e.stats.url, e.stats.err = state, url, ""
	if err != nil {
		e.stats.err = err.Error()
	}
}

// errHostOffline ends a connection whose primary host is not there.
var errHostOffline = errors.New("the primary host is offline")

// connectAgain connects, to one server after the other, until ctx ends.
func (e *edge) connectAgain(ctx context.Context) {
	wait := backoff{ReconnectConfig: e.servers[0].Reconnect}
	for n := 0; ctx.Err() == nil; n++ {
		server := e.servers[n%len(e.servers)]
		e.set(StateConnecting, server.URLs[0], nil)
		began := time.Now()
		err := e.connect(ctx, server)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= server.Reconnect.StableAfter {
			wait.reset()
		}
		e.set(StateOffline, server.URLs[0], err)
		wait.sleep(ctx)
	}
}

// connect opens a connection and serves it until it is lost, or ctx ends.
func (e *edge) connect(ctx context.Context, server BrokerConfig) error {
	e.mu.Lock()
	will := e.node.Begin(time.Now())
	e.host = sparkplug.Host{} // whether it is there this server says anew
	e.mu.Unlock()
	server.Will = &Message{Topic: will.Topic, Payload: will.Payload, QoS: will.QoS}
	e.received.takeAll(nil) // of an earlier connection
	broker, err := e.dial(server)
	if err != nil {
		return err
	}
	conn, err := broker.Connect(ctx, e.receive)
	if err != nil {
		return err
	}
	err = e.serve(ctx, conn, server.URLs[0])
	now, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cancel()
	conn.Close(now)
	return err
}

func (e *edge) serve(ctx context.Context, conn Conn, url string) error {
	node, devices := e.node.Commands()
	filters := []Filter{{Topic: node, QoS: 1}}
	if e.cfg.Role != "" {
		filters = append(filters, Filter{Topic: devices, QoS: 1})
	}
	if e.cfg.PrimaryHost != "" {
		filters = append(filters, Filter{Topic: sparkplug.StateTopic(e.cfg.PrimaryHost), QoS: 1})
	}
	timeout, cancel := context.WithTimeout(ctx, subscribeTimeout)
	err := conn.Subscribe(timeout, filters)
	cancel()
	if err != nil {
		return fmt.Errorf("subscribe at the broker: %w", err)
	}
	e.set(EdgeWaiting, url, nil)
	born, rebirth := false, false
	patience := time.NewTimer(hostPatience)
	defer patience.Stop()
	for {
		if (!born || rebirth) && e.mayBear() {
			e.bear(conn)
			if !born {
				e.set(EdgeBorn, url, nil)
			}
			born, rebirth = true, false
		}
		if born {
			e.send(conn)
		}
		select {
		case err := <-conn.Lost():
			return err
		case <-e.wake:
		case <-e.received.wake:
			for _, r := range e.received.takeAll(nil) {
				again, err := e.arrived(r)
				if err != nil && born {
					e.farewell(ctx, conn)
				}
				if err != nil && (born || len(e.servers) > 1) {
					return err
				}
				rebirth = rebirth || again
			}
		case <-patience.C:
			if !born && e.cfg.PrimaryHost != "" && len(e.servers) > 1 {
				return errHostOffline
			}
		case <-ctx.Done():
			if born {
				e.farewell(ctx, conn)
			}
			return nil
		}
	}
}

// mayBear reports whether the births may be published: the devices are known,
// and the primary host is there (tck-id-message-flow-edge-node-birth-publish-phid-wait).
func (e *edge) mayBear() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listed && (e.cfg.PrimaryHost == "" || e.host.Online)
}

// bear publishes the births, which have the latest values.
func (e *edge) bear(conn Conn) {
	e.mu.Lock()
	e.node.Update(e.list, time.Now())
	e.news, e.pending = false, e.pending[:0]
	messages := e.node.Births(time.Now())
	e.stats.births++
	e.mu.Unlock()
	e.publish(conn, messages)
}

// send publishes what is new.
func (e *edge) send(conn Conn) {
	e.mu.Lock()
	// A device's data come before its death.
	messages := e.node.Data(e.pending, time.Now())
	e.pending = e.pending[:0]
	if e.news {
		messages = append(messages, e.node.Update(e.list, time.Now())...)
		e.news = false
	}
	e.mu.Unlock()
	e.publish(conn, messages)
}

func (e *edge) publish(conn Conn, messages []sparkplug.Message) {
	for _, m := range messages {
		conn.Publish(Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS})
	}
	e.mu.Lock()
	e.stats.sent += uint64(len(messages))
	e.mu.Unlock()
}

// farewell publishes the node's death, and says DISCONNECT
// (tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311).
func (e *edge) farewell(ctx context.Context, conn Conn) {
	e.mu.Lock()
	m := e.node.Death(time.Now())
	e.mu.Unlock()
	token := conn.Publish(Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS})
	select {
	case <-token.Done():
	case <-time.After(farewellTimeout):
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	conn.Close(bye)
}

// receive is called by the adapter: it only enqueues.
func (e *edge) receive(r Received) error {
	err := e.received.push(r)
	if err != nil {
		e.drop(1)
	}
	return err
}

func (e *edge) drop(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.dropped += uint64(n)
}

// arrived looks at a message. The error says that the primary host has gone.
func (e *edge) arrived(r Received) (rebirth bool, err error) {
	if r.Ack != nil {
		defer r.Ack()
	}
	if e.cfg.PrimaryHost != "" && r.Topic == sparkplug.StateTopic(e.cfg.PrimaryHost) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if err := e.host.Hear(r.Payload); err != nil {
			e.log.Warn("the primary host's state is not understood", "reason", err)
			return false, nil
		}
		if !e.host.Online {
			return false, errHostOffline
		}
		return false, nil
	}
	if r.Retained {
		e.drop(1) // a command is never retained
		return false, nil
	}
	e.mu.Lock()
	rebirth, calls, err := e.node.Command(r.Topic, r.Payload)
	e.mu.Unlock()
	if err != nil {
		e.drop(1)
		e.log.Info("a command is left out", "topic", clip(r.Topic), "reason", clip(err.Error()))
	}
	for _, c := range calls {
		select {
		case e.commands <- c:
		default:
			e.drop(1)
		}
	}
	return rebirth, nil
}
