package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/postern-iot/postern/bridge"
)

// hook is where the library asks and tells.
type hook struct {
	mqtt.HookBase
	broker *Broker
	users  map[string]user
	conn   atomic.Pointer[conn]

	dropped, unkept, refused, denied atomic.Uint64

	sessions sync.RWMutex // guards owners
	owners   map[string]*owner

	mu       sync.Mutex
	kept     int // retained messages of clients and the bridge, at most
	keptSize int // their bytes, at most
	told     map[string]time.Time
}

// ID is the hook's name.
func (h *hook) ID() string { return "postern" }

// Provides lists what the hook handles.
func (h *hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnClientExpired,
		mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWill, mqtt.OnWillSent, mqtt.OnPublishDropped, mqtt.OnPacketIDExhausted,
	}, b)
}

// OnPublish passes a client's message to the bridge. One that must arrive is
// acknowledged, and goes to other clients, when the realm has taken it.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	aliased := pk.Properties.TopicAliasFlag // and has not been looked at
	if !cl.Net.Inline && (!h.pace(cl) || pk.TopicName == "" || aliased && !h.OnACLCheck(cl, pk.TopicName, true)) {
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Retain && !h.keep(pk) {
		h.unkept.Add(1)
		h.tell("unkept", "mqtt message not retained: there are too many", "topic", pk.TopicName, "total", h.unkept.Load())
		pk.FixedHeader.Retain = false
	}
	if cl.Net.Inline { // the bridge's own
		return pk, nil
	}
	c := h.conn.Load()
	if c == nil {
		return pk, nil
	}
	qos, wanted := c.wants(pk.TopicName)
	if !wanted {
		return pk, nil
	}
	r := bridge.Received{Topic: pk.TopicName, Payload: pk.Payload, QoS: min(qos, pk.FixedHeader.Qos), Retained: pk.FixedHeader.Retain}
	if r.QoS == 0 {
		_ = c.receive(r) // what it drops it counts
		return pk, nil
	}
	taken := make(chan struct{})
	r.Ack = func() { close(taken) }
	if c.receive(r) != nil {
		return pk, packets.ErrRejectPacket
	}
	timer := time.NewTimer(takenTimeout)
	defer timer.Stop()
	select {
	case <-taken:
		return pk, nil
	case <-timer.C:
	case <-c.closed:
	case <-h.broker.stop:
	}
	return pk, packets.ErrRejectPacket
}

// OnWillSent passes a client's last will to the bridge.
func (h *hook) OnWillSent(_ *mqtt.Client, pk packets.Packet) {
	c := h.conn.Load()
	if c == nil || pk.TopicName == "" {
		return
	}
	if qos, wanted := c.wants(pk.TopicName); wanted {
		_ = c.receive(bridge.Received{ // what it drops it counts
			Topic: pk.TopicName, Payload: pk.Payload, QoS: min(qos, pk.FixedHeader.Qos), Retained: pk.FixedHeader.Retain,
		})
	}
}

// OnPublishDropped counts what a slow client does not get.
func (h *hook) OnPublishDropped(cl *mqtt.Client, pk packets.Packet) {
	h.dropped.Add(1)
	h.tell("dropped", "mqtt client is too slow; messages dropped", "client", cl.ID, "topic", pk.TopicName, "total", h.dropped.Load())
}

// OnPacketIDExhausted counts the same.
func (h *hook) OnPacketIDExhausted(cl *mqtt.Client, pk packets.Packet) { h.OnPublishDropped(cl, pk) }

// keep reports whether there is room for a retained message, and counts it.
func (h *hook) keep(pk packets.Packet) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.broker.server.Topics.Retained.Get(pk.TopicName)
	count, size := 0, 0
	if known {
		count, size = -1, -weight(before)
	}
	if len(pk.Payload) > 0 {
		count, size = count+1, size+weight(pk)
		if !h.room(count, size) {
			h.recount() // the library lets some expire without a word
			if !h.room(count, size) {
				return false
			}
		}
	}
	h.kept += count
	h.keptSize += size
	return true
}

func (h *hook) room(count, size int) bool {
	cfg := &h.broker.cfg
	return h.kept+count <= cfg.MaxRetained && h.keptSize+size <= cfg.MaxRetainedBytes
}

// recount counts what is retained, but for the broker's own $SYS topics.
func (h *hook) recount() {
	h.kept, h.keptSize = 0, 0
	for topic, pk := range h.broker.server.Topics.Retained.GetAll() {
		if topic == "" || topic[0] != '$' {
			h.kept++
			h.keptSize += weight(pk)
		}
	}
}

func weight(pk packets.Packet) int { return len(pk.TopicName) + len(pk.Payload) + 256 }

// tell logs one kind of thing every ten seconds at most.
func (h *hook) tell(kind, text string, args ...any) {
	now := time.Now()
	h.mu.Lock()
	if h.told == nil {
		h.told = map[string]time.Time{}
	}
	quiet := now.Before(h.told[kind])
	if !quiet {
		h.told[kind] = now.Add(10 * time.Second)
	}
	h.mu.Unlock()
	if !quiet {
		h.broker.log.Warn(text, args...)
	}
}

// quiet takes the library's log at debug level, and without packets: those
// hold payloads and passwords.
type quiet struct{ slog.Handler }

// Enabled reports whether anybody wants debug messages.
func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle passes a record on.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, "mqtt broker: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "pk" && a.Key != "packet" {
			out.AddAttrs(a)
		}
		return true
	})
	return q.Handler.Handle(ctx, out)
}

// WithAttrs and WithGroup keep the handler what it is.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup does as WithAttrs.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
