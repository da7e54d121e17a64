package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/postern-iot/postern/bridge"
)

// conn is the bridge's task attached to the broker.
type conn struct {
	broker  *Broker
	receive func(bridge.Received) error
	mu      sync.Mutex // held while filters change
	filters atomic.Pointer[[]bridge.Filter]
	once    sync.Once
	closed  chan struct{}
}

// Info says what the connection is.
func (c *conn) Info() bridge.ConnInfo {
	return bridge.ConnInfo{URL: "embedded", Protocol: "embedded", NoLocal: true}
}

// Lost never receives: the connection lives as long as the broker.
func (c *conn) Lost() <-chan error { return nil }

// Subscribe has what the filters match delivered, beginning with the retained
// messages there are.
func (c *conn) Subscribe(_ context.Context, filters []bridge.Filter) error {
	c.mu.Lock()
	all := slices.Clone(filters)
	if before := c.filters.Load(); before != nil {
		all = append(all, *before...)
	}
	c.filters.Store(&all)
	c.mu.Unlock()
	for _, f := range filters {
		for _, pk := range c.broker.server.Topics.Messages(f.Topic) {
			_ = c.receive(bridge.Received{Topic: pk.TopicName, Payload: pk.Payload, Retained: true}) // counted there
		}
	}
	return nil
}

// Unsubscribe has nothing more delivered that only these filters match.
func (c *conn) Unsubscribe(_ context.Context, topics []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.filters.Load(); before != nil {
		left := slices.DeleteFunc(slices.Clone(*before), func(f bridge.Filter) bool { return slices.Contains(topics, f.Topic) })
		c.filters.Store(&left)
	}
	return nil
}

// wants is the QoS with which a topic is subscribed to.
func (c *conn) wants(topic string) (qos byte, ok bool) {
	filters := c.filters.Load()
	if filters == nil {
		return 0, false
	}
	for _, f := range *filters {
		if f.Matches(topic) {
			qos, ok = max(qos, f.QoS), true
		}
	}
	return qos, ok
}

// Publish passes m to the subscribed clients' queues.
func (c *conn) Publish(m bridge.Message) bridge.Token {
	return token{c.broker.server.Publish(m.Topic, m.Payload, m.Retain, m.QoS)}
}

// Close detaches the task.
func (c *conn) Close(context.Context) {
	c.broker.hook.conn.CompareAndSwap(c, nil)
	c.close()
}

func (c *conn) close() { c.once.Do(func() { close(c.closed) }) }

// token is done when it is made.
type token struct{ err error }

var done = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done is closed.
func (token) Done() <-chan struct{} { return done }

// Error says why the message was not taken.
func (t token) Error() error { return t.err }
