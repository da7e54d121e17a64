package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp/transport"
)

const (
	helloTimeout = 5 * time.Second // for the CONNECT packet
	helloLimit   = 16 << 10        // its size, last will included
	// silentMost is how many connections more than clients there may be: those
	// that have not said CONNECT yet.
	silentMost = 64
	acceptWait = 50 * time.Millisecond // after a temporary error
)

// listener takes connections, from a socket or of HTTP requests. The library's
// own would allocate what a packet claims before anybody is authenticated, wait
// for CONNECT without end, stop for good at a temporary error, and end the
// process at a panic.
type listener struct {
	id        string
	address   string
	protocol  string       // tcp, tls, ws, wss or unix
	ln        net.Listener // nil where requests come from the gateway's HTTP service
	server    *http.Server // takes requests from ln, for WebSocket; nil for none
	anonymous bool
	authority Authority
	log       *slog.Logger
	maxPacket int
	maxConns  int

	stop chan struct{}
	wg   sync.WaitGroup // Serve, and the clients

	mu        sync.Mutex
	closed    bool
	establish listeners.EstablishFn // once Serve is called
	conns     map[net.Conn]struct{}
}

func (b *Broker) newListener(protocol, address string, ln net.Listener, anonymous bool) *listener {
	return &listener{
		id: fmt.Sprintf("%s%d", protocol, len(b.listeners)), address: address, protocol: protocol, ln: ln, anonymous: anonymous,
		authority: b.host.Authority, log: b.log, maxPacket: b.cfg.MaxPacket, maxConns: b.cfg.MaxClients + silentMost,
		stop: make(chan struct{}), conns: map[net.Conn]struct{}{},
	}
}

// Init is called before Serve.
func (l *listener) Init(*slog.Logger) error {
	l.wg.Add(1)
	return nil
}

// ID names the listener.
func (l *listener) ID() string { return l.id }

// Address is the address that is listened on.
func (l *listener) Address() string { return l.address }

// Protocol is what is spoken below MQTT.
func (l *listener) Protocol() string { return l.protocol }

// Serve takes connections until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	defer l.wg.Done()
	l.mu.Lock()
	l.establish = establish
	l.mu.Unlock()
	switch {
	case l.server != nil:
		if err := l.server.Serve(l.ln); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("mqtt over WebSocket cannot be served any more", "address", l.address, "error", err)
		}
	case l.ln != nil:
		l.accept()
	}
	<-l.stop
}

func (l *listener) accept() {
	for {
		c, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("mqtt broker cannot accept", "address", l.Address(), "error", err)
			select {
			case <-time.After(acceptWait):
				continue
			case <-l.stop:
				return
			}
		}
		state := func() *tls.ConnectionState { return nil }
		if secure, ok := c.(*tls.Conn); ok {
			state = func() *tls.ConnectionState {
				s := secure.ConnectionState()
				return &s
			}
		}
		if !l.take(c, state) {
			_ = c.Close() // refused
		}
	}
}

// upgrade makes MQTT clients of HTTP requests.
func (l *listener) upgrade(ws transport.WebSocket) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		serving := l.establish != nil && !l.closed
		l.mu.Unlock()
		if !serving {
			http.Error(w, "the MQTT broker is not there", http.StatusServiceUnavailable)
			return
		}
		c, err := ws.UpgradeStream(w, r, "mqtt")
		if err != nil {
			l.log.Debug("no MQTT over WebSocket", "remote", r.RemoteAddr, "reason", err.Error())
			return
		}
		if !l.take(c, func() *tls.ConnectionState { return r.TLS }) {
			_ = c.Close() // refused
		}
	})
}

// take serves a connection; false when there are too many.
func (l *listener) take(c net.Conn, state func() *tls.ConnectionState) bool {
	release := func() {}
	if l.authority != nil {
		var ok bool
		if release, ok = l.authority.Admit(c.RemoteAddr()); !ok {
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.establish == nil || len(l.conns) >= l.maxConns {
		release()
		return false
	}
	l.conns[c] = struct{}{}
	establish := l.establish
	l.wg.Go(func() {
		defer l.remove(c)
		defer release()
		l.serve(&peer{Guard: bridge.Guard{Conn: c, First: helloLimit, Max: l.maxPacket}, listener: l, tls: state}, establish)
	})
	return true
}

func (l *listener) remove(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// peer is a client's connection, and what is known of who it is.
type peer struct {
	bridge.Guard
	listener *listener
	tls      func() *tls.ConnectionState

	// Of the client's reader only.
	leave   func()    // gives up the client identifier
	abandon func()    // does what the library leaves undone when it panics
	next    time.Time // when the next message may come
}

func (l *listener) serve(p *peer, establish listeners.EstablishFn) {
	remote := p.RemoteAddr().String()
	defer func() {
		// The library's decoder runs beyond the end of some malformed packets.
		if v := recover(); v != nil {
			_ = p.Close() // the client sees that
			l.log.Error("mqtt client ended by a panic", "remote", remote, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if p.abandon != nil {
				p.abandon()
			}
		}
		if p.leave != nil {
			p.leave()
		}
	}()
	if err := p.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		_ = p.Close() // gone already
		return
	}
	err := establish(l.id, p)
	l.log.Debug("mqtt client gone", "remote", remote, "reason", err)
}

// Close stops accepting, and disconnects the clients: orderly those that are
// known to the broker, and then whoever has not said CONNECT.
func (l *listener) Close(disconnect listeners.CloseFn) {
	l.mu.Lock()
	before := l.closed
	l.closed = true
	l.mu.Unlock()
	if before {
		return
	}
	close(l.stop)
	if l.server != nil {
		_ = l.server.Close() // Serve sees that
	}
	if l.ln != nil {
		_ = l.ln.Close() // Serve sees that
	}
	disconnect(l.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // its goroutine sees that
	}
}
