package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/postern-iot/postern/wamp/transport"
)

// httpService answers HTTP: WAMP over WebSocket at /ws and, for clients that
// ask to upgrade, at /; over long-poll at /lp; MQTT over WebSocket
// at /mqtt; the page at /; the health report at /healthz.
type httpService struct {
	hosts    []string // that requests may be addressed to
	sockets  http.Handler
	polls    http.Handler // long-poll, at pollPath and below
	pollPath string       // empty for none
	mqtt     http.Handler // MQTT over WebSocket, at mqttPath
	mqttPath string       // empty for none
	health   *health
	metrics  http.HandlerFunc
	page     http.Handler
	settings pageSettings
	log      *slog.Logger
}

// pageSettings is what the page asks for first, as /postern.json.
type pageSettings struct {
	Version string `json:"version"`
	Realm   string `json:"realm"`
	Prefix  string `json:"prefix"` // of the devices' URIs
}

// The page loads nothing from elsewhere, runs no inline script, and cannot be
// framed.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *httpService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		r.TLS, _ = r.Context().Value(tlsKey{}).(*tls.ConnectionState)
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if err := transport.CheckHost(r, s.hosts); err != nil {
		s.log.Debug("refused HTTP request", "remote", r.RemoteAddr, "reason", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	switch {
	case r.URL.Path == "/ws", r.URL.Path == "/" && wantsWebSocket(r):
		s.upgrade(s.sockets, w, r)
	case s.mqttPath != "" && r.URL.Path == s.mqttPath:
		s.upgrade(s.mqtt, w, r)
	case s.pollPath != "" && strings.HasPrefix(r.URL.Path, s.pollPath+"/"):
		s.polls.ServeHTTP(w, r)
	case r.URL.Path == "/healthz":
		s.health.ServeHTTP(w, r)
	case r.URL.Path == "/metrics":
		s.metrics(w, r)
	case r.URL.Path == "/postern.json":
		h.Set("Cache-Control", "no-cache")
		writeJSON(w, http.StatusOK, s.settings)
	default:
		s.page.ServeHTTP(w, r)
	}
}

func (s *httpService) upgrade(sockets http.Handler, w http.ResponseWriter, r *http.Request) {
	if s.health.stopping() {
		http.Error(w, "the gateway is stopping", http.StatusServiceUnavailable)
		return
	}
	sockets.ServeHTTP(w, r)
}

func wantsWebSocket(r *http.Request) bool {
	for _, line := range r.Header.Values("Upgrade") {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "websocket") {
				return true
			}
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// An error here is the client's connection gone: there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// tlsKey is where the context of a request has the state of the TLS connection
// below, where the server does not know of it.
type tlsKey struct{}

// newServer bounds what a client may cost before it is known.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if state := transport.TLSState(conn); state != nil {
				return context.WithValue(ctx, tlsKey{}, state)
			}
			return ctx
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// httpTask serves HTTP on a listener until its context ends.
func httpTask(ln net.Listener, h http.Handler, log *slog.Logger) Task {
	return newTask("http "+ln.Addr().String(), func(ctx context.Context, ready func()) error {
		srv := newServer(h, log)
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(ln) }()
		ready()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		// Requests are short, and WebSockets are the router's: half a second
		// is enough to answer what has been asked.
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		defer cancel()
		if srv.Shutdown(bound) != nil {
			srv.Close()
		}
		<-ended
		return nil
	})
}
