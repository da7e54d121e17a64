package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp/transport"
)

// listeners are the addresses that have been opened, as tasks that serve them.
type listeners struct {
	open      []io.Closer
	http, raw []Task
	errs      []error
}

// Close closes what has been opened.
func (l *listeners) Close() error {
	var errs []error
	for _, ln := range l.open {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// bindListeners opens the addresses of the section listen.
func (g *Gateway) bindListeners() *listeners {
	l := &listeners{}
	cfg := &g.cfg.Listen
	for _, a := range cfg.HTTP.Addresses {
		e := entry{what: "http", address: a, tls: cfg.HTTP.TLS, proxies: cfg.HTTP.Proxies, http: true}
		g.bound.HTTP = append(g.bound.HTTP, l.tcp(g, e)...)
	}
	for _, a := range cfg.RawSocket.Addresses {
		e := entry{what: "rawsocket", address: a, tls: cfg.RawSocket.TLS, proxies: cfg.RawSocket.Proxies, raw: true}
		g.bound.RawSocket = append(g.bound.RawSocket, l.tcp(g, e)...)
	}
	for _, a := range cfg.Universal.Addresses {
		e := entry{what: "universal", address: a, tls: cfg.Universal.TLS, plain: cfg.Universal.Plain, proxies: cfg.Universal.Proxies, http: true, raw: true}
		g.bound.Universal = append(g.bound.Universal, l.tcp(g, e)...)
	}
	if path := cfg.Unix.Path; path != "" {
		if ln, err := transport.ListenUnix(path, cfg.Unix.Mode); err != nil {
			l.errs = append(l.errs, err)
		} else {
			l.open, g.bound.Unix = append(l.open, ln), path
			l.serve(g, entry{what: "unix", address: path, http: cfg.Unix.HTTP, raw: true}, ln)
		}
	}
	return l
}

// entry is an address and what is spoken there.
type entry struct {
	what, address string
	http, raw     bool
	tls           transport.TLS
	plain         bool // TLS is not a must
	proxies       []string
}

// tcp opens an address and has it served; it returns the address that came of it,
// none when that fails.
func (l *listeners) tcp(g *Gateway, e entry) []net.Addr {
	ln, err := listenTCP(e.what, e.address)
	if err != nil {
		l.errs = append(l.errs, err)
		return nil
	}
	l.open = append(l.open, ln)
	l.serve(g, e, ln)
	return []net.Addr{ln.Addr()}
}

// serve makes the tasks that serve a listener. Where it is settled what a
// connection begins with, it goes straight to who serves it.
func (l *listeners) serve(g *Gateway, e entry, ln net.Listener) {
	var secure *tls.Config
	var protocols []string
	if e.http {
		protocols = []string{"http/1.1"}
	}
	proxies, err := config.ParseProxies(e.proxies)
	if err == nil && e.tls.Enabled() {
		if secure, err = e.tls.Listen(g.log, protocols...); err != nil {
			err = fmt.Errorf("listen.%s.tls: %w", e.what, err)
		}
	}
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	settled := e.http != e.raw && len(proxies) == 0
	if settled && secure != nil {
		ln = transport.ListenTLS(ln, secure)
	}
	name, raw := e.what+" "+ln.Addr().String(), g.cfg.Listen.RawSocket.RawSocket
	switch {
	case settled && e.http:
		l.http = append(l.http, httpTask(ln, g.http, g.log))
	case settled:
		l.raw = append(l.raw, serveTask(name, func(ctx context.Context) error { return g.router.Serve(ctx, ln, raw) }))
	default:
		door := router.Door{TLS: secure, Plain: e.plain, Proxies: proxies}
		if e.raw {
			door.RawSocket = &raw
		}
		if e.http {
			to := newHanded(ln.Addr())
			door.HTTP = to.hand
			l.http = append(l.http, httpTask(to, g.http, g.log))
		}
		l.raw = append(l.raw, serveTask(name, func(ctx context.Context) error { return g.router.ServeDoor(ctx, ln, door) }))
	}
}

// serveTask is the task of a listener that the router serves.
func serveTask(name string, serve func(context.Context) error) Task {
	return newTask(name, func(ctx context.Context, ready func()) error {
		ready()
		return serve(ctx)
	})
}

// handed is a listener of connections that somebody else has accepted.
type handed struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand passes a connection on; false when nobody takes it any more.
func (h *handed) hand(conn net.Conn) bool {
	select {
	case h.conns <- conn:
		return true
	case <-h.closed:
		return false
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }

// listenTCP binds an address, or takes it over from systemd. The error says who
// to look for.
func listenTCP(what, address string) (net.Listener, error) {
	if name, ours := strings.CutPrefix(address, config.Systemd); ours {
		return inherited(what, name)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, explainListen(what, address, err)
	}
	return ln, nil
}

func explainListen(what, address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s cannot listen on %s: another program does; 'ss -ltnp sport = :%s' says which. Stop it, or choose another address", what, address, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s cannot listen on %s: ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a port above", what, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s cannot listen on %s: this machine has no such address; 'ip addr' lists those it has", what, address)
	}
	return fmt.Errorf("%s cannot listen on %s: %w", what, address, err)
}
