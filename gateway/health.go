package gateway

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// The states of the gateway.
const (
	StateStarting = "starting"
	StateOK       = "ok"
	StateStopping = "stopping"
)

// Problem is something that does not work as configured, while the rest does.
type Problem struct {
	// Part is what does not work: "device pump", "broker plant", a task.
	Part string `json:"part"`
	// State is the part's own word for it, such as "back-off"; may be empty.
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Health is the health report.
type Health struct {
	State    string    `json:"status"`
	Version  string    `json:"version,omitempty"`
	Uptime   float64   `json:"uptime_s"`
	Problems []Problem `json:"problems"`
}

// health makes the health report.
type health struct {
	version string
	started time.Time
	// problems asks the parts.
	problems func() []Problem

	mu     sync.Mutex
	state  string
	failed []Problem // tasks that ended before their time
}

func newHealth(version string) *health {
	return &health{version: version, started: time.Now(), state: StateStarting}
}

// become sets the state; stopping is final.
func (h *health) become(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != StateStopping {
		h.state = state
	}
}

func (h *health) stopping() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == StateStopping
}

// fail records that a task has ended.
func (h *health) fail(p Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, p)
}

func (h *health) report() Health {
	h.mu.Lock()
	r := Health{State: h.state, Version: h.version, Uptime: time.Since(h.started).Round(time.Millisecond).Seconds()}
	r.Problems = append([]Problem{}, h.failed...)
	h.mu.Unlock()
	if h.problems != nil {
		r.Problems = append(r.Problems, h.problems()...)
	}
	return r
}

// ServeHTTP answers 200 while the gateway serves, 503 before and after. What
// is wrong in detail is for those on the machine itself only.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := h.report()
	if !fromHere(r) {
		report.Version, report.Problems = "", nil
	}
	status := http.StatusOK
	if report.State != StateOK {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, report)
}

// fromHere reports whether a request comes from the machine itself.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
