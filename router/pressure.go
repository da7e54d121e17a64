package router

import (
	"time"

	"github.com/postern-iot/postern/router/realm"
)

// pressureSpacing is how often a realm's limits are in the log at most.
const pressureSpacing = time.Minute

// pressure knows what has been logged of limits that were reached. It belongs to
// the sweeping goroutine.
type pressure struct {
	realms  map[string]said
	router  said
	refused uint64

	strangers     uint64
	strangersSaid realm.Time
}

// said is when something was logged last, and what the counters were then.
type said struct {
	at    realm.Time
	stats RealmStats
}

// tell logs which limits were reached since the last time, each realm's as one
// line. What each case was, the clients have been told.
func (p *pressure) tell(r *Router) {
	at := now()
	due := func(s said) bool { return s.at == 0 || at-s.at >= realm.Time(pressureSpacing) }
	if n := r.counters.refused.Load(); n > p.refused && due(p.router) {
		r.log.Warn("limits were reached", "connections_refused", n-p.refused)
		p.refused, p.router.at = n, at
	}
	if n := r.counters.strangers.Load(); n > p.strangers && due(said{at: p.strangersSaid}) {
		r.log.Warn("connections came from none of the proxies of their listener, and were closed; with the level debug the log has their addresses", "connections", n-p.strangers)
		p.strangers, p.strangersSaid = n, at
	}
	realms := map[string]said{}
	for name, h := range r.halls() {
		last := p.realms[name]
		st := h.snapshot()
		var attrs []any
		for _, c := range []struct {
			name     string
			now, was uint64
		}{
			{"requests_refused", st.OverLimit, last.stats.OverLimit},
			{"joins_refused", st.JoinsRefused, last.stats.JoinsRefused},
			{"messages_slowed", st.Slowed, last.stats.Slowed},
			{"sessions_ended_for_rate", st.RateEnded, last.stats.RateEnded},
			{"events_dropped", st.EventsDropped, last.stats.EventsDropped},
			{"calls_refused", st.CallsRefused, last.stats.CallsRefused},
			{"slow_sessions_ended", st.SlowEnded, last.stats.SlowEnded},
		} {
			if c.now > c.was {
				attrs = append(attrs, c.name, c.now-c.was)
			}
		}
		if len(attrs) > 0 && due(last) {
			r.log.Warn("limits were reached", append([]any{"realm", name}, attrs...)...)
			last = said{at: at, stats: st}
		}
		realms[name] = last
	}
	p.realms = realms
}
