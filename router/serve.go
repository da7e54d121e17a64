package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// Serve accepts RawSocket connections on ln and runs their sessions, until ctx
// ends or the router shuts down; then it closes ln and returns nil. Sessions
// that it started go on until Shutdown. It survives the errors of Accept that
// pass, such as having no free file descriptor, and returns any other.
//
// The sizes and the handshake's timeout in opts are the router's own.
func (r *Router) Serve(ctx context.Context, ln net.Listener, opts transport.RawSocket) error {
	return r.accept(ctx, ln, func(conn net.Conn) { r.serveRaw(conn, opts, ownedByUs(conn)) })
}

// accept runs serve for every connection that ln accepts; see Serve.
func (r *Router) accept(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	defer ln.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closing := make(chan struct{})
	if !r.start(func() {
		defer close(closing)
		select {
		case <-ctx.Done():
		case <-r.halting.Done():
		}
		_ = ln.Close()
	}) {
		return ErrClosed
	}
	defer func() { cancel(); <-closing }()
	spare := openSpare()
	defer spare.close()
	var wait time.Duration
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil || r.halting.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			r.counters.acceptErrors.Add(1)
			if !passing(err) {
				return fmt.Errorf("accept on %v: %w", ln.Addr(), err)
			}
			if wait == 0 { // once, not at each of many attempts
				r.log.Warn("cannot accept connections; trying on", "listener", ln.Addr().String(), "error", err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			spare.shed(ln)
			select {
			case <-ctx.Done():
			case <-r.halting.Done():
			case <-time.After(wait):
			}
			continue
		}
		wait = 0
		if !r.start(func() { serve(conn) }) {
			_ = conn.Close()
			return nil
		}
	}
}

// serveRaw runs the session of a RawSocket connection. owned says that it comes
// from a process of the gateway's own user.
func (r *Router) serveRaw(conn net.Conn, opts transport.RawSocket, owned bool) {
	release, ok := r.admit(conn.RemoteAddr())
	if !ok {
		_ = transport.RejectRawSocket(conn)
		return
	}
	defer release()
	l := r.limits.Load()
	opts.ReadLimit, opts.MaxMessage, opts.HandshakeTimeout = l.HelloBytes, l.MessageBytes, l.HandshakeTimeout
	// Shutdown does not wait for a client to finish its handshake.
	stop := context.AfterFunc(r.halting, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	c, err := transport.AcceptRawSocket(conn, opts)
	if !stop() && err == nil {
		_ = c.Close()
		return
	}
	if err != nil {
		r.counters.handshakesFailed.Add(1)
		r.log.Debug("no RawSocket session", "reason", err.Error())
		return
	}
	_ = r.attach(context.Background(), &session{conn: c, owner: owned}) // which logs its error
}

// passing reports whether an error of Accept may be gone the next time.
func passing(err error) bool {
	var timeout interface{ Timeout() bool }
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &timeout) && timeout.Timeout()
}

// spareFile is a file descriptor in reserve. When there are no more, clients
// would wait in the listener's queue for ever; with it they are at least
// accepted and closed.
type spareFile struct{ f *os.File }

func openSpare() *spareFile {
	f, _ := os.Open(os.DevNull) // without it there is just no reserve
	return &spareFile{f}
}

func (s *spareFile) close() {
	if s.f != nil {
		_ = s.f.Close()
		s.f = nil
	}
}

// shed gives the reserve up for a moment, to take one client off the queue.
func (s *spareFile) shed(ln net.Listener) {
	deadline, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok || s.f == nil {
		if s.f == nil {
			*s = *openSpare()
		}
		return
	}
	s.close()
	_ = deadline.SetDeadline(time.Now().Add(time.Millisecond))
	if conn, err := ln.Accept(); err == nil {
		_ = conn.Close()
	}
	_ = deadline.SetDeadline(time.Time{})
	*s = *openSpare()
}

// Handler returns an http.Handler that makes WebSocket sessions of requests.
// The sizes in ws are the router's own.
func (r *Router) Handler(ws transport.WebSocket) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		release, ok := r.admit(remoteAddr(req.RemoteAddr))
		if !ok {
			w.Header().Set("Retry-After", "10")
			http.Error(w, "too many connections", http.StatusServiceUnavailable)
			return
		}
		cookie := r.cookies.offer(w, req)
		ws := ws
		ws.ReadLimit = r.limits.Load().HelloBytes
		conn, err := ws.Upgrade(w, req)
		if err != nil {
			release()
			r.counters.handshakesFailed.Add(1)
			r.log.Debug("no WebSocket session", "remote", req.RemoteAddr, "reason", err.Error())
			return
		}
		// The session does not stay on this goroutine, which holds what the HTTP
		// server needs for a request.
		if !r.start(func() {
			defer release()
			_ = r.attach(context.Background(), &session{conn: conn, cookie: cookie}) // which logs its error
		}) {
			release()
			_ = conn.Close()
		}
	})
}

// LongPoll returns an http.Handler that makes sessions of long-poll requests.
// The sizes in lp are the router's own.
func (r *Router) LongPoll(lp transport.LongPoll) http.Handler {
	lp.ReadLimit = r.limits.Load().HelloBytes
	return transport.NewPoller(lp, func(conn transport.Conn) bool {
		release, ok := r.admit(conn.Info().Remote)
		if !ok {
			return false
		}
		started := r.start(func() {
			defer release()
			_ = r.Attach(context.Background(), conn) // which logs its error
		})
		if !started {
			release()
		}
		return started
	})
}

// Local joins a session from within the process and returns its end of a pipe.
// Its client speaks HELLO like any other, for the given realm, but who it is is
// settled: nothing in HELLO changes that. When ctx ends the connection is
// closed.
func (r *Router) Local(ctx context.Context, identity realm.Identity, realmName string) (transport.Conn, error) {
	h := r.hall(realmName)
	if h == nil {
		return nil, fmt.Errorf("local session: there is no realm %q", realmName)
	}
	h.mu.Lock()
	known := h.core.HasRole(identity.AuthRole)
	h.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("local session: realm %q has no role %q", realmName, identity.AuthRole)
	}
	theirs, ours := transport.Pipe(codec.CBOR)
	if !r.start(func() {
		_ = r.attach(ctx, &session{conn: ours, imposed: &identity, imposedRealm: realmName}) // which logs its error
	}) {
		return nil, ErrClosed
	}
	return theirs, nil
}

// admit counts a connection; false when there are too many, in all or from its
// address. Those from the machine itself, and from where there are no
// addresses, count only in all.
func (r *Router) admit(remote net.Addr) (release func(), ok bool) {
	key := addressKey(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limits.Load()
	if r.open >= l.Connections || key != "" && r.addresses[key] >= l.ConnectionsPerAddress {
		r.counters.refused.Add(1)
		return nil, false
	}
	r.counters.accepted.Add(1)
	r.open++
	if key != "" {
		r.addresses[key]++
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
		if key == "" {
			return
		}
		if r.addresses[key]--; r.addresses[key] == 0 {
			delete(r.addresses, key)
		}
	}, true
}

// addressKey is what connections from one place have in common. Whoever has an
// IPv6 address has the whole /64.
func addressKey(remote net.Addr) string {
	if remote == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return ""
	}
	addr := ap.Addr().Unmap().WithZone("")
	switch {
	case addr.IsLoopback():
		return ""
	case addr.Is4():
		return addr.String()
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return p.String()
}

// remoteAddr is http.Request.RemoteAddr as an address.
type remoteAddr string

// Network implements net.Addr.
func (remoteAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a remoteAddr) String() string { return string(a) }
