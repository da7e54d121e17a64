package router

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
)

// RateConfig bounds what comes in a second. What a second allows may come at
// once.
type RateConfig struct {
	Messages int `yaml:"messages" min:"0" doc:"messages in a second; 0 for any number"`
	Bytes    int `yaml:"bytes" min:"0" unit:"bytes" doc:"bytes in a second, of messages as they are sent; 0 for any number"`
}

// RatesConfig bounds what clients of a realm may send.
type RatesConfig struct {
	Session  RateConfig `yaml:"session" doc:"what one session may send"`
	Identity RateConfig `yaml:"identity" doc:"what all sessions with the same authid may send together"`
	Excess   string     `yaml:"excess" enum:"wait,end" doc:"what becomes of a session that sends more: nothing is read from it until its time has come, or it is ended"`
}

// longestPace is how long a message may have to wait for its time. A session
// that has one which would have to wait longer is ended.
const longestPace = 10 * time.Second

func (c *RateConfig) validate(at string, largest int, report func(path, problem, hint string)) {
	if c.Messages < 0 || c.Bytes < 0 {
		report(at, "messages or bytes is less than 0", "leave it out for any number")
	}
	if slowest := int(longestPace / time.Second); c.Bytes > 0 && c.Bytes < largest/slowest {
		report(at+".bytes", fmt.Sprintf("a message of %d bytes, which limits.message_bytes allows, would have to wait for longer than %v", largest, longestPace),
			fmt.Sprintf("write %d or more, or make limits.message_bytes smaller", (largest+slowest-1)/slowest))
	}
}

// meter measures what comes from a session, or from several that share it. The
// zero one has measured nothing.
type meter struct {
	mu              sync.Mutex
	messages, bytes float64 // that may come now; below 0 what has come too early
	at              realm.Time
	sessions        int // that use it; of the table that it is in
}

// take notes a message, and returns how long it is too early.
func (m *meter) take(rate RateConfig, size int, at realm.Time) (wait realm.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	elapsed := max(0, float64(at-m.at)/float64(time.Second))
	m.at = max(m.at, at)
	for _, b := range []struct {
		level      *float64
		rate, cost int
	}{{&m.messages, rate.Messages, 1}, {&m.bytes, rate.Bytes, size}} {
		if b.rate == 0 {
			*b.level = 0
			continue
		}
		*b.level = min(float64(b.rate), *b.level+elapsed*float64(b.rate)) - float64(b.cost)
		wait = max(wait, realm.Time(-*b.level/float64(b.rate)*float64(time.Second)))
	}
	return wait
}

// meters are those of identities, or of addresses.
type meters struct {
	mu sync.Mutex
	of map[string]*meter
}

// use returns the meter of key, for one session more.
func (t *meters) use(key string) *meter {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.of[key]
	if m == nil {
		if t.of == nil {
			t.of = map[string]*meter{}
		}
		m = &meter{}
		t.of[key] = m
	}
	m.sessions++
	return m
}

func (t *meters) release(m *meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m.sessions--
}

// forget drops those that nobody uses and that have nothing more to remember: who
// leaves and joins again goes on with what it has sent before.
func (t *meters) forget(at realm.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, m := range t.of {
		m.mu.Lock()
		over := m.sessions == 0 && at-m.at > realm.Time(longestPace+2*time.Second)
		m.mu.Unlock()
		if over {
			delete(t.of, key)
		}
	}
}

// pacing is what a realm's sessions may send. It is replaced as a whole.
type pacing struct {
	session, identity, address RateConfig
	end                        bool
}

// newPacing is nil where nothing is bounded.
func newPacing(c *RatesConfig, l *Limits) *pacing {
	p := &pacing{session: c.Session, identity: c.Identity, address: l.AddressRate, end: c.Excess == "end"}
	if p.session == (RateConfig{}) && p.identity == (RateConfig{}) && p.address == (RateConfig{}) {
		return nil
	}
	return p
}

// measured are the meters of a session, nil for none.
type measured struct {
	own               meter
	identity, address *meter
}

// pace holds a message back that comes too early, as long as that is; false when
// the session has ended. The gateway's own sessions may send what they want.
func (s *session) pace(h *hall, m wamp.Message, size int) bool {
	p := h.pacing.Load()
	if p == nil || s.imposed != nil {
		return true
	}
	switch m.(type) {
	case *wamp.Goodbye, *wamp.Abort:
		return true
	}
	if s.measured == nil {
		s.measured = &measured{identity: h.meters.use(s.member.Identity.AuthID)}
		if key := addressKey(s.conn.Info().Remote); key != "" {
			s.measured.address = s.router.meters.use(key)
		}
	}
	at := now()
	wait, of := s.measured.own.take(p.session, size, at), "session"
	for _, shared := range []struct {
		meter *meter
		rate  RateConfig
		name  string
	}{{s.measured.identity, p.identity, "identity"}, {s.measured.address, p.address, "address"}} {
		if shared.meter == nil {
			continue
		}
		if w := shared.meter.take(shared.rate, size, at); w > wait {
			wait, of = w, shared.name
		}
	}
	if wait == 0 {
		return true
	}
	if p.end || wait > realm.Time(longestPace) {
		h.rateEnded.Add(1)
		h.abort(s, realm.ErrLimitExceeded, fmt.Sprintf("more messages or bytes in a second than the %s may send", of))
		s.fail(slog.LevelInfo, wamp.Errorf(realm.ErrLimitExceeded, "it sends more in a second than the %s may", of))
		return false
	}
	h.slowed.Add(1)
	s.settle()
	s.at = 0
	return s.out.pause(time.Duration(wait))
}

// unmeasured gives the session's meters back.
func (s *session) unmeasured() {
	if s.measured == nil {
		return
	}
	s.hall.Load().meters.release(s.measured.identity)
	if s.measured.address != nil {
		s.router.meters.release(s.measured.address)
	}
}

// pause waits for a while; false when the session has ended by then.
func (o *outbox) pause(d time.Duration) bool {
	over := false
	timer := time.AfterFunc(d, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		over = true
		o.changed.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !over && !o.ending && !o.dead {
		o.changed.Wait()
	}
	return !o.ending && !o.dead
}
