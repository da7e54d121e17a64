package bridge

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

// Broker is one MQTT broker, as an adapter reaches it.
type Broker interface {
	// Connect opens one connection. What arrives on it goes to receive, in
	// order and one at a time, beginning before Connect has returned; receive
	// only enqueues. When receive returns an error the message was not taken:
	// the adapter must neither acknowledge nor repeat it, and for QoS 1 and 2
	// must end the connection, so that the broker delivers it again.
	//
	// Connect has its own bounds in time and ends early with ctx.
	Connect(ctx context.Context, receive func(Received) error) (Conn, error)
}

// Conn is one connection to a broker. When it is lost, it is lost for good.
type Conn interface {
	// Subscribe asks for the topics that the filters match, all at once, beside
	// those asked for before.
	Subscribe(ctx context.Context, filters []Filter) error
	// Unsubscribe takes topics back that Subscribe was asked for.
	Unsubscribe(ctx context.Context, topics []string) error
	// Publish sends one message. It does not wait for the broker's
	// acknowledgement: the token says when that came. It may block while the
	// network does, and up to the adapter's write timeout on a connection that
	// is lost already.
	Publish(m Message) Token
	// Lost receives the reason, once, when the connection ends other than by
	// Close.
	Lost() <-chan error
	// Close ends the connection: orderly within ctx, else at once.
	Close(ctx context.Context)
	// Info says what was agreed; it does not change.
	Info() ConnInfo
}

// Token is a publication under way.
type Token interface {
	// Done is closed when the broker has acknowledged the message (QoS 0: when
	// it is written), or when it cannot any more.
	Done() <-chan struct{}
	// Error says why not, after Done.
	Error() error
}

// ConnInfo is what is known of a connection.
type ConnInfo struct {
	// URL that was reached.
	URL string
	// Protocol spoken: "bridge", "3.1.1" or "embedded".
	Protocol string
	// NoLocal says that the broker does not send back what the connection
	// itself publishes.
	NoLocal bool
	// SessionPresent says that the broker still knew the session, and so has
	// not been started anew.
	SessionPresent bool
}

// Message is one MQTT publication on its way out.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// size is what the message counts for in the queue.
func (m Message) size() int { return len(m.Topic) + len(m.Payload) + 64 }

// Received is one MQTT publication that arrived.
type Received struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Retained bool
	// Ack acknowledges it to the broker; nil when there is nothing to
	// acknowledge. It may block while the network does.
	Ack func()

	command bool // carried out already
}

// ErrBacklog is returned to an adapter that delivers faster than the realm
// takes.
var ErrBacklog = errors.New("more has arrived than the realm takes")

// Filter is one MQTT subscription.
type Filter struct {
	Topic string // with the wildcards + and #
	QoS   byte
}

// Matches reports whether the filter matches topic (MQTT 3.1.1, 4.7).
func (f Filter) Matches(topic string) bool {
	filter := f.Topic
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		flevel, frest, fmore := strings.Cut(filter, "/")
		tlevel, trest, tmore := strings.Cut(topic, "/")
		if flevel != "+" && flevel != tlevel {
			return false
		}
		if !tmore {
			return !fmore || frest == "#" // "a/#" matches its parent "a"
		}
		if !fmore {
			return false
		}
		filter, topic = frest, trest
	}
}

// covers reports whether f matches every topic that g matches.
func (f Filter) covers(g Filter) bool {
	return patternOfFilter(f.Topic).covers(patternOfFilter(g.Topic))
}

// validTopic reports whether topic can be published to (MQTT 3.1.1, 4.7.3).
func validTopic(topic string) bool {
	return topic != "" && len(topic) <= 65535 && !strings.ContainsAny(topic, "+#\x00") && utf8.ValidString(topic)
}
