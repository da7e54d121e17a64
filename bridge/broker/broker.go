// Package broker is the MQTT broker in the gateway, on mochi-mqtt. It is the
// only package that imports it. MQTT 3.1, 3.1.1 and 5 clients connect to it; the
// bridge's task reaches it without a network, through bridge.Broker.
//
// The broker keeps its sessions and retained messages in memory. A client's
// message of QoS 1 or 2 that the bridge's maps concern is acknowledged when the
// realm has taken it: not acknowledging is the back-pressure.
//
// Goroutines: two per client and one per listener, which Run waits for, and one
// for the server's housekeeping, which ends with Run. The library's log goes to
// slog at debug level, without packets.
package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/postern-iot/postern/bridge"
)

// Broker is the embedded broker. It implements bridge.Broker.
type Broker struct {
	cfg    Config
	log    *slog.Logger
	server *mqtt.Server
	hook   *hook

	listeners []*listener
	serving   atomic.Bool
	ready     chan struct{}
	stop      chan struct{} // closed when Run ends
}

// takenTimeout bounds how long a client waits for the realm to take its
// message; then it is not acknowledged, and the client sends it again.
const takenTimeout = 10 * time.Second

// New makes a broker that does not listen yet.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	if log == nil {
		log = slog.Default()
	}
	b := &Broker{cfg: cfg, log: log, ready: make(chan struct{}), stop: make(chan struct{})}
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClients = int64(cfg.MaxClients)
	limits.MaximumPacketSize = uint32(cfg.MaxPacket)
	limits.MaximumInflight = uint16(cfg.MaxInFlight)
	limits.ReceiveMaximum = uint16(min(cfg.MaxInFlight, 1024))
	limits.MaximumClientWritesPending = int32(cfg.MaxPending)
	limits.MaximumSessionExpiryInterval = 24 * 60 * 60
	limits.MaximumMessageExpiryInterval = 0 // retained messages stay
	limits.TopicAliasMaximum = 64
	b.server = mqtt.New(&mqtt.Options{
		Capabilities: limits, InlineClient: true, SysTopicResendInterval: 60,
		Logger: slog.New(quiet{log.Handler()}),
	})
	b.hook = &hook{broker: b, users: map[string][32]byte{}}
	for _, u := range cfg.Users {
		b.hook.users[u.Name] = sha256.Sum256([]byte(u.Password))
	}
	if err := b.server.AddHook(b.hook, nil); err != nil {
		return nil, fmt.Errorf("set up the MQTT broker: %w", err)
	}
	return b, nil
}

// String is the broker's name in logs.
func (b *Broker) String() string { return "mqtt broker" }

// Ready is closed when the broker listens.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Listen opens the listeners. Run does it when it was not done before.
func (b *Broker) Listen() error {
	if len(b.listeners) > 0 {
		return nil
	}
	for i, address := range b.cfg.Listen {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range b.listeners {
				_ = l.ln.Close() // the first error is the one to tell
			}
			b.listeners = nil
			return fmt.Errorf("listen for MQTT clients: %w; another broker may use the address: stop it, choose another one, or disable the embedded broker", err)
		}
		b.listeners = append(b.listeners, newListener(fmt.Sprintf("tcp%d", i), ln, b))
	}
	return nil
}

// Listens are the addresses of the configuration.
func (b *Broker) Listens() []string { return b.cfg.Listen }

// Addrs are the addresses that are listened on.
func (b *Broker) Addrs() []net.Addr {
	var out []net.Addr
	for _, l := range b.listeners {
		out = append(out, l.ln.Addr())
	}
	return out
}

// Run serves until ctx ends and all clients are disconnected. It can be run
// once.
func (b *Broker) Run(ctx context.Context) error {
	if !b.serving.CompareAndSwap(false, true) {
		return errors.New("the MQTT broker has been run before")
	}
	if err := b.Listen(); err != nil {
		return err
	}
	for _, l := range b.listeners {
		if err := b.server.AddListener(l); err != nil {
			return fmt.Errorf("start the MQTT broker: %w", err)
		}
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("start the MQTT broker: %w", err)
	}
	for _, l := range b.listeners {
		b.log.Info("mqtt broker listening", "address", l.ln.Addr().String(), "anonymous", l.anonymous)
	}
	close(b.ready)
	<-ctx.Done()
	close(b.stop)
	err := b.server.Close()
	for _, l := range b.listeners {
		l.wg.Wait()
	}
	if err != nil {
		return fmt.Errorf("stop the MQTT broker: %w", err)
	}
	return nil
}

// Stats are what the broker has counted.
type Stats struct {
	Clients  int    // connected now
	Retained int    // messages kept
	Dropped  uint64 // messages dropped for slow clients
	Unkept   uint64 // retained messages beyond the bounds
	Refused  uint64 // connections refused: credentials, bounds
}

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	b.hook.mu.Lock()
	defer b.hook.mu.Unlock()
	b.hook.recount()
	return Stats{
		Clients: int(atomic.LoadInt64(&b.server.Info.ClientsConnected)), Retained: b.hook.kept,
		Dropped: b.hook.dropped.Load(), Unkept: b.hook.unkept.Load(), Refused: b.hook.refused.Load(),
	}
}

// Connect attaches the bridge's task. There is one at a time; a later one takes
// the place of an earlier one.
func (b *Broker) Connect(_ context.Context, receive func(bridge.Received) error) (bridge.Conn, error) {
	c := &conn{broker: b, receive: receive, closed: make(chan struct{})}
	if before := b.hook.conn.Swap(c); before != nil {
		before.close()
	}
	return c, nil
}
