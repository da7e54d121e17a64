package paho

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/postern-iot/postern/bridge"
)

// conn is one client and its only connection.
type conn struct {
	client mqtt.Client
	guard  *bridge.Guard
	info   bridge.ConnInfo
	lost   chan error
	gone   chan struct{} // closed when a lost connection's goroutines have ended
	closed sync.Once
	before []uint16 // what the connection before left unreleased

	mu   sync.Mutex
	qos2 []*mqtt.PublishToken // of QoS 2, not complete when last looked at
}

// Info says what was agreed.
func (c *conn) Info() bridge.ConnInfo { return c.info }

// Lost receives why the connection was lost.
func (c *conn) Lost() <-chan error { return c.lost }

// Publish hands m to the client's writer.
func (c *conn) Publish(m bridge.Message) bridge.Token {
	t := c.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
	if p, ok := t.(*mqtt.PublishToken); ok && m.QoS == 2 {
		c.mu.Lock()
		c.qos2 = append(slices.DeleteFunc(c.qos2, complete), p)
		c.mu.Unlock()
	}
	return t
}

// complete reports whether the broker has said PUBCOMP.
func complete(t *mqtt.PublishToken) bool {
	select {
	case <-t.Done():
		return t.Error() == nil
	default:
		return false
	}
}

// unreleased are the packet identifiers that the broker may wait for a PUBREL
// for.
func (c *conn) unreleased() []uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []uint16
	for _, t := range c.qos2 {
		if id := t.MessageID(); !complete(t) && id != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// errLost is what waits on a connection get when it ends under them.
var errLost = errors.New("the connection was lost")

// Subscribe sends one SUBSCRIBE for all filters and waits for its answer.
func (c *conn) Subscribe(ctx context.Context, filters []bridge.Filter) error {
	wanted := make(map[string]byte, len(filters))
	for _, f := range filters {
		wanted[f.Topic] = f.QoS
	}
	c.guard.Subscribing(len(wanted))
	answer := make(chan mqtt.Token, 1)
	// The call itself may block for the write timeout on a lost connection, so
	// that this goroutine may outlive the connection by as much.
	go func() {
		t := c.client.SubscribeMultiple(wanted, nil)
		select {
		case <-t.Done():
			answer <- t
		case <-c.gone:
		}
	}()
	select {
	case t := <-answer:
		return subscribed(t)
	case <-c.gone:
		return errLost
	case <-ctx.Done():
		return errors.New("the broker does not answer")
	}
}

// Unsubscribe sends one UNSUBSCRIBE and waits for its answer.
func (c *conn) Unsubscribe(ctx context.Context, topics []string) error {
	answer := make(chan error, 1)
	go func() { // as in Subscribe
		t := c.client.Unsubscribe(topics...)
		select {
		case <-t.Done():
			answer <- t.Error()
		case <-c.gone:
		}
	}()
	select {
	case err := <-answer:
		return err
	case <-c.gone:
		return errLost
	case <-ctx.Done():
		return errors.New("the broker does not answer")
	}
}

func subscribed(t mqtt.Token) error {
	if err := t.Error(); err != nil {
		return err
	}
	var refused []string
	result := t.(*mqtt.SubscribeToken).Result()
	for _, topic := range slices.Sorted(maps.Keys(result)) {
		if result[topic] == refusedByBroker {
			refused = append(refused, topic)
		}
	}
	if len(refused) > 0 {
		return &bridge.SubscribeError{Refused: refused}
	}
	return nil
}

// refusedByBroker is SUBACK's return code for a failure.
const refusedByBroker = 0x80

// goneTimeout bounds the wait for the goroutines of a connection that is
// closed under them.
const goneTimeout = time.Second

// Close says DISCONNECT when ctx leaves time for it.
func (c *conn) Close(ctx context.Context) {
	c.closed.Do(func() {
		if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && c.client.IsConnectionOpen() {
			c.client.Disconnect(uint(max(time.Until(deadline).Milliseconds(), 1)))
			c.guard.Abort(errLost)
			return
		}
		c.guard.Abort(errLost)
		select {
		case <-c.gone:
		case <-time.After(goneTimeout):
		}
	})
}

// releases is the client's store: what must not be lost is in the bridge's
// queue, so it keeps nothing. What it seems to hold at the start are PUBRELs for
// what an earlier connection left unfinished at QoS 2. A persistent session
// keeps those in the broker, where they would count against its bounds, and
// where a new message with their identifier would pass for a repetition.
type releases struct{ ids []uint16 }

func (releases) Open()                             {}
func (releases) Put(string, packets.ControlPacket) {}
func (releases) Del(string)                        {}
func (releases) Close()                            {}
func (releases) Reset()                            {}

// All returns the keys of outgoing packets, in order.
func (r releases) All() []string {
	keys := make([]string, len(r.ids))
	for i, id := range r.ids {
		keys[i] = "o." + strconv.Itoa(int(id))
	}
	return keys
}

// Get returns the packet of a key.
func (r releases) Get(key string) packets.ControlPacket {
	id, err := strconv.ParseUint(strings.TrimPrefix(key, "o."), 10, 16)
	if err != nil || !slices.Contains(r.ids, uint16(id)) {
		return nil
	}
	p := packets.NewControlPacket(packets.Pubrel).(*packets.PubrelPacket)
	p.MessageID = uint16(id)
	return p
}
