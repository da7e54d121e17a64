// Package broker is the MQTT broker in the gateway, on mochi-mqtt. It is the
// only package that imports it. MQTT 3.1, 3.1.1 and 5 clients connect to it; the
// bridge's task reaches it without a network, through bridge.Broker.
//
// Who clients are and what they may do, an Authority says, which the realm is;
// the broker's own users are checked here. A client identifier is its user's.
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
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/postern-iot/postern/bridge"
)

// Broker is the embedded broker. It implements bridge.Broker.
type Broker struct {
	cfg    Config
	host   Host
	log    *slog.Logger
	server *mqtt.Server
	hook   *hook

	listeners []*listener
	upgrades  *listener // of the gateway's HTTP service, nil for none
	serving   atomic.Bool
	ready     chan struct{}
	stop      chan struct{} // closed when Run ends
}

// takenTimeout bounds how long a client waits for the realm to take its
// message; then it is not acknowledged, and the client sends it again.
const takenTimeout = 10 * time.Second

// New makes a broker that does not listen yet.
func New(cfg Config, host Host, log *slog.Logger) (*Broker, error) {
	if log == nil {
		log = slog.Default()
	}
	b := &Broker{cfg: cfg, host: host, log: log, ready: make(chan struct{}), stop: make(chan struct{})}
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
	b.hook = &hook{broker: b, users: map[string]user{}, owners: map[string]*owner{}}
	for _, u := range cfg.Users {
		b.hook.users[u.Name] = user{sha256.Sum256([]byte(u.Password)), u.Role}
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
		b.log.Info("mqtt broker listening", "protocol", l.protocol, "address", l.address, "anonymous", l.anonymous)
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
	Sessions int    // kept, those of clients that are away included
	Retained int    // messages kept
	Waiting  int    // messages of QoS 1 and 2 that clients have not acknowledged
	Received uint64 // messages
	Sent     uint64 // messages
	Dropped  uint64 // messages dropped for slow clients
	Unkept   uint64 // retained messages beyond the bounds
	Refused  uint64 // connections refused: credentials, bounds
	Denied   uint64 // publications, subscriptions and wills that a role may not
}

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	b.hook.mu.Lock()
	defer b.hook.mu.Unlock()
	b.hook.recount()
	info := b.server.Info
	return Stats{
		Clients: int(atomic.LoadInt64(&info.ClientsConnected)), Sessions: b.server.Clients.Len() - 1, Retained: b.hook.kept,
		Waiting: int(atomic.LoadInt64(&info.Inflight)), Received: uint64(atomic.LoadInt64(&info.MessagesReceived)), Sent: uint64(atomic.LoadInt64(&info.MessagesSent)),
		Dropped: b.hook.dropped.Load() + uint64(atomic.LoadInt64(&info.InflightDropped)), Unkept: b.hook.unkept.Load(), Refused: b.hook.refused.Load(), Denied: b.hook.denied.Load(),
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
