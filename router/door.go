package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/postern-iot/postern/wamp/transport"
)

// Door says who comes in by a listener on which it is not settled beforehand
// what a connection begins with.
type Door struct {
	// RawSocket is as in Serve; nil where RawSocket is not spoken.
	RawSocket *transport.RawSocket
	// HTTP takes a connection that speaks HTTP, false when it does not; nil where
	// HTTP is not spoken.
	HTTP func(net.Conn) bool
	// TLS is for connections that begin with it, and with Plain not all have to;
	// nil where TLS is not spoken.
	TLS   *tls.Config
	Plain bool
	// Proxies are from where connections may come, each beginning with a header of
	// the PROXY protocol; empty where they come from the clients themselves.
	Proxies []netip.Prefix
}

// ServeDoor is Serve for a listener whose connections' first bytes decide what
// becomes of them. They have as long for those, and for a PROXY header and a
// TLS handshake before, as for a handshake.
func (r *Router) ServeDoor(ctx context.Context, ln net.Listener, d Door) error {
	return r.accept(ctx, ln, func(conn net.Conn) { r.arrive(conn, &d) })
}

func (r *Router) arrive(accepted net.Conn, d *Door) {
	from := accepted.RemoteAddr()
	if !d.expects(from) {
		r.counters.strangers.Add(1)
		r.log.Debug("refused a connection that comes from none of the proxies of its listener",
			"listener", accepted.LocalAddr().String(), "remote", from.String())
		_ = accepted.Close()
		return
	}
	if len(d.Proxies) > 0 {
		from = nil // for whom it is comes in the header
	}
	begun, ok := r.begin(from)
	if !ok {
		_ = accepted.Close()
		return
	}
	conn, speaks, err := r.opening(accepted, d)
	begun()
	switch {
	case err != nil:
		r.counters.handshakesFailed.Add(1)
		r.log.Debug("no session", "remote", accepted.RemoteAddr().String(), "reason", err.Error())
		_ = accepted.Close()
	case speaks == transport.SpeaksRawSocket:
		r.serveRaw(conn, *d.RawSocket, ownedByUs(accepted))
	case !d.HTTP(conn):
		_ = accepted.Close()
	}
}

// expects reports whether a connection may come from an address.
func (d *Door) expects(from net.Addr) bool {
	if len(d.Proxies) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	addr := ap.Addr().Unmap().WithZone("")
	for _, p := range d.Proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// begin counts a connection of which it is not known yet what it speaks: of such
// there may be as many as there may be connections, in all and from one address.
func (r *Router) begin(remote net.Addr) (begun func(), ok bool) {
	key := addressKey(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limits.Load()
	if r.beginning >= l.Connections || key != "" && r.beginners[key] >= l.ConnectionsPerAddress {
		r.counters.refused.Add(1)
		return nil, false
	}
	r.beginning++
	if key != "" {
		r.beginners[key]++
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.beginning--
		if key == "" {
			return
		}
		if r.beginners[key]--; r.beginners[key] == 0 {
			delete(r.beginners, key)
		}
	}, true
}

// opening does with a connection all that comes before what it speaks.
func (r *Router) opening(accepted net.Conn, d *Door) (net.Conn, transport.Protocol, error) {
	timeout := r.limits.Load().HandshakeTimeout
	if err := accepted.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, "", err
	}
	// Shutdown does not wait for it.
	stop := context.AfterFunc(r.halting, func() { _ = accepted.SetDeadline(time.Unix(1, 0)) })
	conn, speaks, err := d.look(accepted)
	switch stopped := stop(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, "", fmt.Errorf("it did not say within %v what it speaks: %w", timeout, err)
	case err == nil && !stopped:
		err = ErrClosed
	}
	if err != nil {
		return nil, "", err
	}
	return conn, speaks, accepted.SetDeadline(time.Time{})
}

// look finds out what a connection speaks.
func (d *Door) look(conn net.Conn) (net.Conn, transport.Protocol, error) {
	var err error
	if len(d.Proxies) > 0 {
		if conn, err = transport.ReadProxy(conn); err != nil {
			return nil, "", err
		}
	}
	conn, speaks, err := transport.Sniff(conn)
	switch {
	case err != nil:
		return nil, "", err
	case speaks == transport.SpeaksTLS && d.TLS == nil:
		return nil, "", errors.New("it begins with TLS, and the listener has no certificate")
	case speaks == transport.SpeaksTLS:
		secure := tls.Server(conn, d.TLS)
		if err := secure.Handshake(); err != nil {
			return nil, "", fmt.Errorf("TLS: %w", err)
		}
		if conn, speaks, err = transport.Sniff(secure); err != nil {
			return nil, "", err
		}
	case d.TLS != nil && !d.Plain:
		if speaks == transport.SpeaksHTTP {
			_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nThis port speaks TLS: use https or wss.\n"))
		}
		return nil, "", fmt.Errorf("it begins with %s, without TLS", speaks)
	}
	if speaks == transport.SpeaksRawSocket && d.RawSocket == nil || speaks == transport.SpeaksHTTP && d.HTTP == nil || speaks == transport.SpeaksTLS {
		return nil, "", fmt.Errorf("it speaks %s, and the listener does not", speaks)
	}
	return conn, speaks, nil
}
