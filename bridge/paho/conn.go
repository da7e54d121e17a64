package paho

import (
	"context"
	"errors"
	"maps"
	"slices"
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
}

// Info says what was agreed.
func (c *conn) Info() bridge.ConnInfo { return c.info }

// Lost receives why the connection was lost.
func (c *conn) Lost() <-chan error { return c.lost }

// Publish hands m to the client's writer.
func (c *conn) Publish(m bridge.Message) bridge.Token {
	return c.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
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

// noStore keeps nothing: what must not be lost is in the bridge's queue.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
