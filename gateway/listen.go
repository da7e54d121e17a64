package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/postern-iot/postern/gateway/config"
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
		if ln := l.tcp(g, "http", a, cfg.HTTP.TLS, "http/1.1"); ln != nil {
			g.bound.HTTP = append(g.bound.HTTP, ln.Addr())
			l.http = append(l.http, httpTask(ln, g.http, g.log))
		}
	}
	for _, a := range cfg.RawSocket.Addresses {
		if ln := l.tcp(g, "rawsocket", a, cfg.RawSocket.TLS); ln != nil {
			g.bound.RawSocket = append(g.bound.RawSocket, ln.Addr())
			l.raw = append(l.raw, g.serve("rawsocket "+ln.Addr().String(), ln))
		}
	}
	if path := cfg.Unix.Path; path != "" {
		if ln, err := transport.ListenUnix(path, cfg.Unix.Mode); err != nil {
			l.errs = append(l.errs, err)
		} else {
			l.open, g.bound.Unix = append(l.open, ln), path
			l.raw = append(l.raw, g.serve("unix "+path, ln))
		}
	}
	return l
}

// tcp opens an address, with TLS where the section has it; nil when that fails.
func (l *listeners) tcp(g *Gateway, what, address string, secure transport.TLS, protocols ...string) net.Listener {
	ln, err := listenTCP(what, address)
	if err != nil {
		l.errs = append(l.errs, err)
		return nil
	}
	l.open = append(l.open, ln)
	if !secure.Enabled() {
		return ln
	}
	config, err := secure.Listen(g.log, protocols...)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("listen.%s.tls: %w", what, err))
		return nil
	}
	return transport.ListenTLS(ln, config)
}

// serve is the task of a RawSocket listener.
func (g *Gateway) serve(name string, ln net.Listener) Task {
	return newTask(name, func(ctx context.Context, ready func()) error {
		ready()
		return g.router.Serve(ctx, ln, g.cfg.Listen.RawSocket.RawSocket)
	})
}

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
