package bridge

import (
	"log/slog"
	"maps"
	"slices"
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
	StatePaused     = "paused"     // disconnected, because somebody asked for it
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

	// InRate and OutRate are messages a second, over the last seconds.
	InRate, OutRate float64
	// OldestAge is how long the oldest message has waited.
	OldestAge time.Duration
	// DiskBytes is what the queue takes on disk; DiskWritten and DiskSyncs what
	// it has cost the disk; DiskDamaged how many bytes were unreadable at the
	// start; DiskError why messages wait in memory although they should not.
	DiskBytes, DiskDamaged int
	DiskWritten, DiskSyncs uint64
	DiskError              string
	// Maps are those that something has come through, by their names.
	Maps []MapStatus
}

// MapStatus is what is known of one map at a broker. The bridge's own messages
// have an empty name.
type MapStatus struct {
	Map              string
	In, Out, Dropped uint64
	Queued, Bytes    int
}

// Dict is the status as WAMP carries it: broker, state, since (RFC 3339, UTC),
// error, url, protocol, connects, in, out, in_rate and out_rate (messages a
// second), queued, queued_bytes, oldest (seconds), disk_bytes, disk_error,
// dropped with a number for every reason that has occurred, and maps, a list with
// map, in, out, dropped, queued and queued_bytes of each.
func (s Status) Dict() wamp.Dict {
	dropped := wamp.Dict{}
	for k, v := range s.Dropped {
		dropped[k] = int64(v)
	}
	maps := wamp.List{}
	for _, m := range s.Maps {
		maps = append(maps, wamp.Dict{
			"map": m.Map, "in": int64(m.In), "out": int64(m.Out), "dropped": int64(m.Dropped),
			"queued": int64(m.Queued), "queued_bytes": int64(m.Bytes),
		})
	}
	return wamp.Dict{
		"broker": s.Broker, "state": s.State, "since": s.Since.UTC().Format(time.RFC3339Nano), "error": s.Error,
		"url": s.URL, "protocol": s.Protocol, "connects": int64(s.Connects), "in": int64(s.In), "out": int64(s.Out),
		"in_rate": s.InRate, "out_rate": s.OutRate, "queued": int64(s.Queued), "queued_bytes": int64(s.Bytes),
		"oldest": s.OldestAge.Seconds(), "disk_bytes": int64(s.DiskBytes), "disk_error": s.DiskError,
		"dropped": dropped, "maps": maps,
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
	maps    map[string]*mapGauge
	letters []deadLetter // the last ones
	tick    tick
	state   string
	since   time.Time
	err     string
	info    ConnInfo
	version int
	told    [reasonCount]telling
}

// mapGauge counts what came through one map.
type mapGauge struct{ in, dropped uint64 }

// tick is where rates are counted from.
type tick struct {
	at              time.Time
	in, out         uint64
	inRate, outRate float64
}

// tickEvery is how often rates are counted, and the status is published while
// something crosses.
const tickEvery = 5 * time.Second

// count updates the rates. It reports whether anything has crossed since the
// last time.
func (g *gauge) count(now time.Time) bool {
	in, out := g.in.Load(), g.out.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.tick
	g.tick = tick{at: now, in: in, out: out}
	if d := now.Sub(before.at).Seconds(); !before.at.IsZero() && d > 0 {
		g.tick.inRate, g.tick.outRate = float64(in-before.in)/d, float64(out-before.out)/d
	}
	return in != before.in || out != before.out || before.inRate+before.outRate > 0
}

// passed counts a message that the realm has taken.
func (g *gauge) passed(m *Map) {
	g.in.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of(m).in++
}

func (g *gauge) of(m *Map) *mapGauge {
	name := ""
	if m != nil {
		name = m.Name
	}
	c := g.maps[name]
	if c == nil {
		c = &mapGauge{}
		if g.maps == nil {
			g.maps = map[string]*mapGauge{}
		}
		g.maps[name] = c
	}
	return c
}

// maxLetters is how many dead letters are kept to be looked at, and
// maxLetterPayload how much of their payload in base64.
const maxLetters, maxLetterPayload = 100, 4096

func (g *gauge) letter(d deadLetter) {
	d.Payload = d.Payload[:min(len(d.Payload), maxLetterPayload)]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.letters) == maxLetters {
		g.letters = g.letters[1:]
	}
	g.letters = append(g.letters, d)
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
	if why != NoMap {
		g.mu.Lock()
		g.of(m).dropped += uint64(n)
		g.mu.Unlock()
	}
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
	s.InRate, s.OutRate = g.tick.inRate, g.tick.outRate
	version := g.version
	byName := map[string]MapStatus{}
	for name, c := range g.maps {
		byName[name] = MapStatus{Map: name, In: c.in, Dropped: c.dropped}
	}
	g.mu.Unlock()
	s.Connects, s.In, s.Out = g.connects.Load(), g.in.Load(), g.out.Load()
	d := q.depth()
	s.Queued, s.Bytes = d.messages, d.bytes
	if !d.oldest.IsZero() {
		s.OldestAge = max(0, time.Since(d.oldest))
	}
	s.DiskBytes, s.DiskDamaged, s.DiskWritten, s.DiskSyncs = int(d.disk.bytes), d.disk.hurt, d.disk.written, d.disk.syncs
	if err := d.disk.err; err != nil {
		s.DiskError = err.Error()
	} else if none := g.disk.Load(); none != nil {
		s.DiskError = (*none).Error()
	}
	for _, l := range d.lanes {
		m := byName[l.name]
		m.Map, m.Out, m.Queued, m.Bytes = l.name, l.sent, l.messages, l.bytes
		byName[l.name] = m
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s.Maps = append(s.Maps, byName[name])
	}
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
