package router

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// ErrClosed is returned by what is asked of a router that is shutting down.
var ErrClosed = errors.New("the router is shutting down")

// Router is a set of realms and the sessions in them.
type Router struct {
	cfg    Config // what it runs by, see Reload
	agent  string
	log    *slog.Logger
	limits atomic.Pointer[Limits]

	throttle throttle
	meters   meters // of addresses
	cookies  *jar
	kdf      chan struct{}   // held while a password is hashed, for it takes a while
	halting  context.Context // ends when Shutdown begins
	halt     context.CancelFunc
	tasks    sync.WaitGroup // all goroutines, Attach's callers included

	reloading  sync.Mutex // held by Reload, and for cfg
	historyDir string     // of histories on disk; empty before KeepHistory

	mu        sync.Mutex
	closed    bool
	realms    map[string]*hall      // replaced as a whole, never changed
	sessions  map[*session]struct{} // connections in the handshake included
	addresses map[string]int        // connections of each remote address
	open      int                   // connections in all
	// The same of connections of which it is not known yet what they speak.
	beginners map[string]int
	beginning int

	counters counters
}

// counters count what happens outside of realms.
type counters struct {
	accepted, refused, acceptErrors atomic.Uint64
	strangers                       atomic.Uint64 // from none of a door's proxies
	handshakesFailed, panics        atomic.Uint64
	authFailed, authRefused         atomic.Uint64
}

// Option changes a Router before it begins.
type Option func(*Router) error

// WithLog sets where the router logs; the default is slog.Default.
func WithLog(l *slog.Logger) Option {
	return func(r *Router) error { r.log = l; return nil }
}

// WithAgent sets the name that the router gives itself in WELCOME; the default
// is "postern".
func WithAgent(agent string) Option {
	return func(r *Router) error {
		r.agent = agent
		for _, h := range r.realms {
			h.cfg.Agent = agent
		}
		return nil
	}
}

// WithAuthenticator offers a way to authenticate in a realm.
func WithAuthenticator(realmName string, a Authenticator) Option {
	return func(r *Router) error {
		h := r.realms[realmName]
		if h == nil {
			return fmt.Errorf("authenticator %q: there is no realm %q", a.Method(), realmName)
		}
		h.added = append(h.added, a)
		return nil
	}
}

// New makes a router. The error says everything that is wrong with cfg.
func New(cfg Config, opts ...Option) (*Router, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Router{
		cfg: cfg, agent: "postern", log: slog.Default(), realms: map[string]*hall{},
		sessions: map[*session]struct{}{}, addresses: map[string]int{}, beginners: map[string]int{},
		throttle: throttle{keys: map[string]*failures{}}, kdf: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	r.limits.Store(&cfg.Limits)
	for i := range cfg.Realms {
		r.realms[cfg.Realms[i].Name] = r.newHall(&cfg.Realms[i], &cfg.Limits)
	}
	for _, o := range opts {
		if err := o(r); err != nil {
			return nil, err
		}
	}
	var err error
	if r.cookies, err = newJar(cfg.Cookies, r.log); err != nil {
		return nil, err
	}
	r.cookies.valid = func(b baked) bool {
		h := r.hall(b.Realm)
		return h != nil && b.Stamp == h.door.Load().stampOf(&realm.Identity{AuthID: b.AuthID, AuthProvider: b.Provider})
	}
	for i := range cfg.Realms {
		if err := r.realms[cfg.Realms[i].Name].open(r, &cfg.Realms[i]); err != nil {
			return nil, err
		}
	}
	r.halting, r.halt = context.WithCancel(context.Background())
	r.tasks.Go(r.sweep)
	for _, h := range r.realms {
		r.tasks.Go(func() { h.watch(r.halting.Done()) })
	}
	return r, nil
}

// check says everything that is wrong with a configuration.
func (c *Config) check() error {
	var problems []string
	c.Validate(func(path, problem, hint string) {
		problems = append(problems, fmt.Sprintf("%s: %s (%s)", path, problem, hint))
	})
	if len(problems) > 0 {
		return fmt.Errorf("router configuration: %s", strings.Join(problems, "; "))
	}
	return nil
}

// newHall makes a realm into which nobody comes before open.
func (r *Router) newHall(c *RealmConfig, l *Limits) *hall {
	h := &hall{
		cfg: c.realm(), sessions: c.Limits.Sessions, perID: c.Limits.PerIdentity, endSlow: l.SlowConsumers == "end",
		timer: time.NewTimer(math.MaxInt64), gone: make(chan struct{}),
	}
	h.pacing.Store(newPacing(&c.Rates, l))
	h.cfg.Agent, h.cfg.Encoding, h.cfg.NewID = r.agent, codec.CBOR, newIDs()
	h.cfg.Wall = func(realm.Time) realm.Time { return realm.Time(time.Now().UnixNano()) }
	return h
}

// open makes what New and newHall leave out: the state, and how clients get in.
func (h *hall) open(r *Router, c *RealmConfig) error {
	d, err := h.newDoor(r, c)
	if err != nil {
		return err
	}
	h.door.Store(d)
	h.core, err = realm.New(h.cfg)
	return err
}

// hall is the realm of that name, nil for none.
func (r *Router) hall(name string) *hall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.realms[name]
}

// halls are all realms. They are not to be changed.
func (r *Router) halls() map[string]*hall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.realms
}

// newIDs draws IDs of the global scope: uniformly from [1, 2^53], seeded by the
// system's random source, so that nobody can guess another's. It is used under
// the realm's mutex.
func newIDs() func() wamp.ID {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	source := rand.New(rand.NewChaCha8(seed))
	return func() wamp.ID { return 1 + wamp.ID(source.Uint64N(uint64(wamp.MaxID))) }
}

// sweep ends sessions that have not read for too long, or that were told
// GOODBYE and do not leave, and says what limits have cost.
func (r *Router) sweep() {
	l := r.limits.Load()
	tick := time.NewTicker(max(l.QueueAge/4, 10*time.Millisecond))
	defer tick.Stop()
	var all []*session
	var told pressure
	for {
		select {
		case <-r.halting.Done():
			return
		case <-tick.C:
		}
		if fresh := r.limits.Load(); fresh != l {
			l = fresh
			tick.Reset(max(l.QueueAge/4, 10*time.Millisecond))
		}
		all = r.snapshot(all[:0])
		limit := now() - realm.Time(l.QueueAge)
		for _, s := range all {
			if at, waiting := s.out.waitingSince(); waiting && at < limit {
				s.fail(slog.LevelWarn, fmt.Errorf("slow consumer: a message has waited for longer than %v", l.QueueAge))
				s.hangup()
			} else if at := realm.Time(s.dismissed.Load()); at > 0 && at < now()-realm.Time(l.HandshakeTimeout) {
				s.fail(slog.LevelInfo, errors.New("it was told GOODBYE and did not leave"))
				s.hangup()
			}
		}
		clear(all)
		told.tell(r)
		r.meters.forget(now())
		for _, h := range r.halls() {
			h.meters.forget(now())
			h.expire()
		}
	}
}

func (r *Router) snapshot(dst []*session) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		dst = append(dst, s)
	}
	return dst
}

// enter counts a session in; false when the router is shutting down.
func (r *Router) enter(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.tasks.Add(1)
	r.sessions[s] = struct{}{}
	return true
}

func (r *Router) exit(s *session) {
	r.mu.Lock()
	delete(r.sessions, s)
	r.mu.Unlock()
	r.tasks.Done()
}

// start runs a task of the router's own; false when it is shutting down.
func (r *Router) start(task func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.tasks.Go(task)
	return true
}

// startFor runs a task for a session that has not ended yet, which keeps
// Shutdown waiting.
func (r *Router) startFor(s *session, task func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, running := r.sessions[s]; running {
		r.tasks.Go(task)
	}
}

// goodbyeGrace is how long Shutdown waits for clients to answer GOODBYE.
const goodbyeGrace = time.Second

// Shutdown stops accepting, says GOODBYE wamp.close.system_shutdown to every
// session, gives them a second to answer, ends those that did not, and returns
// when all goroutines are gone. When ctx ends first it closes every connection
// at once, and its error is ctx's if even that did not end them.
func (r *Router) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.halt()
	for _, h := range r.halls() {
		h.close(wamp.CloseSystemShutdown, errShuttingDown)
		defer h.closeJournal() // when all have left
	}
	for _, s := range r.snapshot(nil) {
		if s.hall.Load() == nil { // still in its handshake
			s.refuse(wamp.CloseSystemShutdown, "the router is shutting down")
		}
	}
	gone := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(gone)
	}()
	grace := time.NewTimer(goodbyeGrace)
	defer grace.Stop()
	select {
	case <-gone:
		return nil
	case <-grace.C:
	case <-ctx.Done():
	}
	for _, s := range r.snapshot(nil) {
		s.hangup()
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	// Closing takes the transports a moment; that is not ctx's to cut.
	last := time.NewTimer(2 * goodbyeGrace)
	defer last.Stop()
	select {
	case <-gone:
		return nil
	case <-last.C:
		return fmt.Errorf("router shutdown: %d sessions have not ended: %w", len(r.snapshot(nil)), ctx.Err())
	}
}

// Stats is what a router holds, and what it has done since it began.
type Stats struct {
	Connections      int    // now, those in the handshake included
	Sessions         int    // now, in all realms, connections in the handshake included
	Accepted         uint64 // connections
	Refused          uint64 // connections beyond the limits
	AcceptErrors     uint64 // of listeners, such as no free file descriptor
	HandshakesFailed uint64
	AuthFailed       uint64 // clients that did not prove who they are
	AuthRefused      uint64 // attempts that were refused after too many failed
	Panics           uint64 // each ended one session
	Realms           map[string]RealmStats
}

// RealmStats is the part of one realm.
type RealmStats struct {
	realm.Stats
	JoinsRefused  uint64 // sessions beyond the limits
	Slowed        uint64 // messages that had to wait for their time
	RateEnded     uint64 // sessions that sent too much
	EventsDropped uint64 // for sessions with a full queue
	CallsRefused  uint64 // for callees with a full queue
	SlowEnded     uint64 // sessions ended because their queue was full
	Undeliverable uint64 // messages that a session could not take

	HistoryDiskBytes int    // of files
	HistoryUnwritten int    // changes that wait for the disk
	HistoryFailing   int    // 1 while the disk fails
	HistoryLost      uint64 // events that are not on disk although they should be
}

// Stats returns the counters as they are now.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	st := Stats{Connections: r.open, Sessions: len(r.sessions)}
	r.mu.Unlock()
	st.Accepted = r.counters.accepted.Load()
	st.Refused = r.counters.refused.Load()
	st.AcceptErrors = r.counters.acceptErrors.Load()
	st.HandshakesFailed = r.counters.handshakesFailed.Load()
	st.AuthFailed = r.counters.authFailed.Load()
	st.AuthRefused = r.counters.authRefused.Load()
	st.Panics = r.counters.panics.Load()
	realms := r.halls()
	st.Realms = make(map[string]RealmStats, len(realms))
	for name, h := range realms {
		st.Realms[name] = h.snapshot()
	}
	return st
}
