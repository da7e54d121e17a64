package bridge

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// The states of a task.
const (
	StateConnecting = "connecting" // trying
	StateOnline     = "online"     // messages flow
	StateOffline    = "offline"    // waiting to try again
	StateStopped    = "stopped"    // not running
)

// Status is what is known of one broker.
type Status struct {
	Broker   string
	State    string
	Since    time.Time
	Error    string // why it is not online, or what is wrong although it is
	URL      string // of the connection, "" while there is none
	Protocol string
	Connects uint64 // connections made so far
	In, Out  uint64 // messages passed on
	Queued   int    // messages that wait for the broker
	Bytes    int    // their size
	Dropped  map[string]uint64
}

// Dict is the status as WAMP carries it: broker, state, since (RFC 3339, UTC),
// error, url, protocol, connects, in, out, queued, queued_bytes, and dropped
// with a number for every reason that has occurred.
func (s Status) Dict() wamp.Dict {
	dropped := wamp.Dict{}
	for k, v := range s.Dropped {
		dropped[k] = int64(v)
	}
	return wamp.Dict{
		"broker": s.Broker, "state": s.State, "since": s.Since.UTC().Format(time.RFC3339Nano), "error": s.Error,
		"url": s.URL, "protocol": s.Protocol, "connects": int64(s.Connects), "in": int64(s.In), "out": int64(s.Out),
		"queued": int64(s.Queued), "queued_bytes": int64(s.Bytes), "dropped": dropped,
	}
}

// gauge is a task's state and counters.
type gauge struct {
	log     *slog.Logger
	changed func() // called after a change of state, without the lock

	in, out, connects atomic.Uint64
	dropped           [reasonCount]atomic.Uint64
	overrun           atomic.Pointer[overrun]
	disk              atomic.Pointer[error] // why there is no disk

	mu      sync.Mutex
	state   string
	since   time.Time
	err     string
	info    ConnInfo
	version int
	told    [reasonCount]telling
}

// overrun counts the events that the present session could not hold.
type overrun struct{ count func() uint64 }

// lost ends the present session's count.
func (g *gauge) lost(n uint64) {
	g.overrun.Store(nil)
	g.dropped[Overrun].Add(n)
}

// telling keeps one reason from filling the log.
type telling struct {
	next  time.Time
	quiet uint64 // not logged since
}

// tellEvery is how often one reason for dropping is logged.
const tellEvery = 10 * time.Second

// set changes the state, and logs it when it has changed.
func (g *gauge) set(state string, info ConnInfo, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	g.mu.Lock()
	same := g.state == state && g.err == text
	// Between two failures alike the state goes through connecting: that is
	// neither logged nor told.
	quiet := state == StateConnecting && g.state == StateOffline
	if same || quiet {
		g.mu.Unlock()
		return
	}
	g.state, g.since, g.err, g.info = state, time.Now(), text, info
	g.version++
	g.mu.Unlock()
	switch {
	case err != nil:
		g.log.Warn("bridge "+state, "url", info.URL, "error", text)
	case state == StateConnecting || state == StateStopped:
		g.log.Debug("bridge " + state)
	default:
		g.log.Info("bridge "+state, "url", info.URL, "protocol", info.Protocol)
	}
	g.changed()
}

// drop counts n messages, and logs it now and then. name is the topic or URI.
func (g *gauge) drop(why Reason, n int, m *Map, name string, err error) {
	if n == 0 {
		return
	}
	g.dropped[why].Add(uint64(n))
	if why == NoMap || why == Unchanged || why == Echo || why == Filtered {
		return // as configured, or as it should be
	}
	now := time.Now()
	g.mu.Lock()
	t := &g.told[why]
	t.quiet += uint64(n)
	quiet := t.quiet
	tell := !now.Before(t.next)
	if tell {
		t.quiet, t.next = 0, now.Add(tellEvery)
	}
	g.mu.Unlock()
	if !tell {
		return
	}
	args := []any{"reason", why.String(), "count", quiet, "name", clip(name)}
	if m != nil {
		args = append(args, "map", m.Name)
	}
	if err != nil {
		args = append(args, "error", err.Error())
	}
	g.log.Warn("bridge dropped messages", args...)
}

func (g *gauge) status(broker string, q *queue) (Status, int) {
	g.mu.Lock()
	s := Status{Broker: broker, State: g.state, Since: g.since, Error: g.err, URL: g.info.URL, Protocol: g.info.Protocol}
	version := g.version
	g.mu.Unlock()
	s.Connects, s.In, s.Out = g.connects.Load(), g.in.Load(), g.out.Load()
	d := q.depth()
	s.Queued, s.Bytes = d.messages, d.bytes
	s.Dropped = map[string]uint64{}
	for i := range g.dropped {
		if n := g.dropped[i].Load(); n > 0 {
			s.Dropped[reasonNames[i]] = n
		}
	}
	if o := g.overrun.Load(); o != nil {
		if n := o.count(); n > 0 {
			s.Dropped[reasonNames[Overrun]] += n
		}
	}
	return s, version
}
