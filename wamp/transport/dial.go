package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postern-iot/postern/wamp/codec"
)

// DialOptions are the client's choices; the zero value is good.
type DialOptions struct {
	// TLS configures wss and rss; nil trusts the system's authorities.
	TLS *tls.Config
	// Header is sent with a WebSocket request.
	Header http.Header
	// ReadLimit is the largest message to accept, in bytes; 0 means
	// DefaultReadLimit. RawSocket rounds down to a power of two when it tells
	// the router.
	ReadLimit int
	// WriteTimeout is how long the router may take no data; 0 means 10 s.
	WriteTimeout time.Duration
	// PingInterval and PingTimeout are as in WebSocket: 0 means no pings, as
	// the router sends its own.
	PingInterval, PingTimeout time.Duration
	// Batched asks for a batched WebSocket subprotocol, where many messages
	// share a frame.
	Batched bool
	// HandshakeTimeout bounds connecting, besides the context; 0 means 10 s.
	HandshakeTimeout time.Duration
}

const dialTimeout = 10 * time.Second

// Dial connects to a router. The URL's scheme chooses the transport:
//
//	ws://host[:port]/path    WebSocket           wss:// over TLS
//	rs://host:port           RawSocket over TCP  rss:// over TLS
//	unix:///path             RawSocket over a Unix socket
//
// Errors say what was tried and what to do about it.
func Dial(ctx context.Context, rawURL string, c codec.Codec, opts DialOptions) (Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("connect to %q: not a URL: %w", rawURL, err)
	}
	switch u.Scheme {
	case "ws", "wss":
		return DialWebSocket(ctx, rawURL, c, opts)
	case "rs", "rss":
		if u.Port() == "" {
			return nil, fmt.Errorf("connect to %q: no port: write %s://%s:8081, with the port of the RawSocket listener", rawURL, u.Scheme, u.Hostname())
		}
		network := "tcp"
		if u.Scheme == "rss" {
			network = "tls"
		}
		return DialRawSocket(ctx, network, u.Host, c, opts)
	case "unix":
		if u.Host != "" || u.Path == "" {
			return nil, fmt.Errorf("connect to %q: no absolute path: write unix:///run/postern.sock, with three slashes", rawURL)
		}
		return DialRawSocket(ctx, "unix", u.Path, c, opts)
	default:
		return nil, fmt.Errorf("connect to %q: unknown scheme %q: use ws, wss, rs, rss or unix, such as ws://127.0.0.1:8080/ws", rawURL, u.Scheme)
	}
}

// DialWebSocket connects to a ws or wss URL and speaks c.
func DialWebSocket(ctx context.Context, rawURL string, c codec.Codec, opts DialOptions) (Conn, error) {
	var subprotocol string
	for _, s := range serializations {
		if s.codec == c {
			subprotocol = s.subprotocol
		}
	}
	if subprotocol == "" {
		return nil, fmt.Errorf("connect to %s: no WebSocket subprotocol for codec %v", rawURL, c)
	}
	if opts.Batched {
		subprotocol += batchSuffix
	}
	ctx, cancel := context.WithTimeout(ctx, positive(opts.HandshakeTimeout, dialTimeout))
	defer cancel()

	conn := &webSocketConn{}
	var stop func() bool
	dial := func(network string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			nc, err := dialNetwork(ctx, network, address, opts.TLS)
			if err != nil {
				return nil, err
			}
			// The library looks at the context's deadline, not at its end.
			stop = context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
			conn.init(nc, opts.WriteTimeout, opts.ReadLimit)
			return &lent{nc, &conn.source}, nil
		}
	}
	dialer := websocket.Dialer{
		NetDialContext:    dial("tcp"),
		NetDialTLSContext: dial("tls"),
		Subprotocols:      []string{subprotocol},
		WriteBufferPool:   noBuffers{},
	}
	wire, response, err := dialer.DialContext(ctx, rawURL, opts.Header)
	if stop != nil && !stop() && err == nil {
		_ = wire.Close()
		err = context.Cause(ctx)
	}
	if err == nil && wire.Subprotocol() != subprotocol {
		err = fmt.Errorf("the server speaks WebSocket but did not choose %s (it said %q): is it a WAMP router that knows this serialization?", subprotocol, wire.Subprotocol())
		_ = wire.Close()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // of which what the library says is a consequence
		}
		return nil, fmt.Errorf("connect to %s: %w", rawURL, explainHTTP(response, err))
	}
	conn.info.Transport, conn.info.Codec = "websocket", c
	conn.batched = opts.Batched
	if t, ok := conn.conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		conn.info.TLS = &state
	}
	conn.open(true)
	conn.startKeepAlive(opts.PingInterval, opts.PingTimeout, conn.control(websocket.PingMessage, nil))
	return conn, nil
}

// DialRawSocket connects over network "tcp", "tls" or "unix" and speaks c.
func DialRawSocket(ctx context.Context, network, address string, c codec.Codec, opts DialOptions) (Conn, error) {
	timeout := positive(opts.HandshakeTimeout, dialTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := dialNetwork(ctx, network, address, opts.TLS)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to RawSocket %s %s: %w", network, address, explain(err))
	}
	limit := positive(opts.ReadLimit, DefaultReadLimit)
	conn := newRawSocket(nc, opts.WriteTimeout, limit)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	err = conn.offer(c, limit, timeout)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to RawSocket %s %s: %w", network, address, explain(err))
	}
	conn.ready(opts.PingInterval, opts.PingTimeout)
	return conn, nil
}

// dialNetwork connects over "tcp", "tls" or "unix".
func dialNetwork(ctx context.Context, network, address string, config *tls.Config) (net.Conn, error) {
	switch network {
	case "tls":
		d := tls.Dialer{Config: config}
		return d.DialContext(ctx, "tcp", address)
	case "tcp", "unix":
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	default:
		return nil, fmt.Errorf("unknown network %q: use tcp, tls or unix", network)
	}
}

// explain adds to a network's error what to do about it.
func explain(err error) error {
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var hint string
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nobody listens there: is the gateway running, and is this its address?"
	case errors.Is(err, fs.ErrNotExist):
		hint = "there is no such socket: is the gateway running, and is this its path?"
	case errors.Is(err, fs.ErrPermission):
		hint = "this user may not open it: join the group that owns the socket"
	case errors.As(err, &dns):
		hint = "the name is not known: check its spelling, or use the address"
	case errors.As(err, &record):
		hint = "the server does not speak TLS there: use ws or rs, or the port of its TLS listener"
	case errors.As(err, &certificate):
		hint = "its certificate is not trusted: add the authority that signed it to the TLS options, and use the name that it was made for"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		hint = "it did not answer in time: is it the right address, and does a firewall let it through?"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}

// explainHTTP says what a server answered in the place of a WebSocket.
func explainHTTP(r *http.Response, err error) error {
	if r == nil || r.StatusCode == http.StatusSwitchingProtocols {
		return explain(err)
	}
	var text [256]byte
	n, _ := r.Body.Read(text[:]) // as much of a reason as there is
	reason, _, _ := bytes.Cut(text[:n], []byte("\n"))
	var hint string
	switch r.StatusCode {
	case http.StatusNotFound:
		hint = ": there is no WebSocket at this path; the gateway serves /ws and /"
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = ": the server does not let us in"
	case http.StatusBadRequest, http.StatusUpgradeRequired:
		hint = ": the server does not take it for a WAMP WebSocket"
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		hint = ": it has moved to " + strings.ToValidUTF8(r.Header.Get("Location"), "?")
	}
	if len(reason) == 0 {
		return fmt.Errorf("the server answered %q%s", r.Status, hint)
	}
	return fmt.Errorf("the server answered %q%s; it says %q", r.Status, hint, reason)
}
