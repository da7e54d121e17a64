// Package paho reaches MQTT brokers on the network with paho.mqtt.golang. It
// is the only package that imports it.
//
// Every connection is a fresh client without a store and without its own
// reconnecting: order, queueing and waiting are the bridge's. A client's
// goroutines end with its connection; Close waits for them.
//
// The library blocks in a few places on a connection that is lost (publish,
// subscribe): those are called so that a new connection need not wait for them.
package paho

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/postern-iot/postern/bridge"
)

const (
	connectTimeout = 10 * time.Second
	firstPacket    = 1024 // CONNACK has two bytes
	bridgeBit      = 0x84 // protocol level of MQTT 3.1.1 with the bridge bit
	plain          = 4
)

// Broker is one broker on the network. It implements bridge.Broker.
type Broker struct {
	cfg  bridge.BrokerConfig
	urls []*url.URL

	mu    sync.Mutex
	plain map[string]bool // URLs that refused the bridge bit
	last  *conn           // the latest connection
}

// New checks the URLs of cfg. It opens nothing: certificates are read at every
// attempt to connect, so that they can be renewed.
func New(cfg bridge.BrokerConfig) (*Broker, error) {
	b := &Broker{cfg: cfg, plain: map[string]bool{}}
	for _, raw := range cfg.URLs {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("broker %q: %w", cfg.Name, err)
		}
		b.urls = append(b.urls, u)
	}
	if len(b.urls) == 0 {
		return nil, fmt.Errorf("broker %q has no URL", cfg.Name)
	}
	return b, nil
}

// Connect tries the URLs in order. The error joins those of all.
func (b *Broker) Connect(ctx context.Context, receive func(bridge.Received) error) (bridge.Conn, error) {
	var failures []error
	for _, u := range b.urls {
		c, err := b.connectURL(ctx, u, receive)
		if err == nil {
			return c, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// connectURL speaks the bridge protocol where it is wanted and understood.
func (b *Broker) connectURL(ctx context.Context, u *url.URL, receive func(bridge.Received) error) (bridge.Conn, error) {
	b.mu.Lock()
	bit := b.cfg.Protocol == "bridge" && !b.plain[u.String()]
	b.mu.Unlock()
	if !bit {
		return b.connect(ctx, u, plain, receive)
	}
	c, err := b.connect(ctx, u, bridgeBit, receive)
	var refusal *refusedError
	if err == nil || ctx.Err() != nil || !errors.As(err, &refusal) || !refusal.maybeProtocol {
		return c, err
	}
	c, errPlain := b.connect(ctx, u, plain, receive)
	if errPlain != nil {
		return nil, errPlain
	}
	b.mu.Lock()
	b.plain[u.String()] = true
	b.mu.Unlock()
	return c, nil
}

func (b *Broker) connect(ctx context.Context, u *url.URL, version uint, receive func(bridge.Received) error) (bridge.Conn, error) {
	wire, err := b.open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", u.Redacted(), err)
	}
	guard := (&bridge.Guard{
		Conn: wire, First: firstPacket, Max: b.cfg.MaxPacket,
		Silence: b.cfg.KeepAlive * 3 / 2,
	}).Buffer()
	c := &conn{
		guard: guard, lost: make(chan error, 1), gone: make(chan struct{}),
		info: bridge.ConnInfo{URL: u.Redacted(), Protocol: "3.1.1"},
	}
	if version == bridgeBit {
		c.info.Protocol, c.info.NoLocal = "bridge", true
	}
	b.mu.Lock()
	if b.last != nil && b.cfg.Session == "persistent" {
		c.before = b.last.unreleased()
	}
	b.mu.Unlock()
	c.client = mqtt.NewClient(b.options(u, version, c, receive))
	token := c.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		guard.Abort(ctx.Err())
		<-token.Done()
	}
	if token.Error() != nil {
		return nil, b.refused(u, token.(*mqtt.ConnectToken), ctx)
	}
	c.info.SessionPresent = token.(*mqtt.ConnectToken).SessionPresent()
	b.mu.Lock()
	b.last = c
	b.mu.Unlock()
	return c, nil
}

func (b *Broker) options(u *url.URL, version uint, c *conn, receive func(bridge.Received) error) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{u}
	o.SetClientID(b.cfg.ClientID)
	o.SetUsername(b.cfg.Username)
	o.SetPassword(b.cfg.Password)
	o.SetCleanSession(b.cfg.Session != "persistent")
	o.SetProtocolVersion(version)
	o.SetKeepAlive(b.cfg.KeepAlive)
	o.SetPingTimeout(max(b.cfg.KeepAlive/2, time.Second))
	o.SetConnectTimeout(connectTimeout)
	o.SetWriteTimeout(b.cfg.KeepAlive)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetOrderMatters(true)
	o.SetAutoAckDisabled(true)
	o.SetStore(releases{c.before})
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return c.guard, nil })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		c.lost <- fmt.Errorf("connection to %s lost: %w", c.info.URL, plainly(err))
		close(c.gone)
	})
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		r := bridge.Received{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained()}
		if r.QoS > 0 {
			r.Ack = m.Ack
		}
		if err := receive(r); err != nil && r.QoS > 0 {
			c.guard.Abort(err)
		}
	})
	if w := b.cfg.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	} else if s := b.cfg.Status; s.Topic != "" {
		o.SetWill(s.Topic, s.Offline, 1, true)
	}
	return o
}

// plainly leaves out the addresses, which differ each time.
func plainly(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the broker has closed it")
	}
	return err
}

// refusedError is an answer of the broker, or the lack of one.
type refusedError struct {
	text string
	// maybeProtocol says that the protocol level may be what the broker minds.
	maybeProtocol bool
}

func (e *refusedError) Error() string { return e.text }

func (b *Broker) refused(u *url.URL, token *mqtt.ConnectToken, ctx context.Context) error {
	at := fmt.Sprintf("connect to %s as client %q", u.Redacted(), b.cfg.ClientID)
	switch token.ReturnCode() {
	case packets.ErrRefusedBadProtocolVersion:
		return &refusedError{at + ": the broker refuses MQTT 3.1.1", true}
	case packets.ErrRefusedIDRejected:
		return &refusedError{at + ": the broker refuses the client identifier; choose another client_id", false}
	case packets.ErrRefusedServerUnavailable:
		return &refusedError{at + ": the broker is not available", false}
	case packets.ErrRefusedBadUsernameOrPassword:
		return &refusedError{fmt.Sprintf("%s: bad user name or password for user %q; check username and password", at, b.cfg.Username), false}
	case packets.ErrRefusedNotAuthorised:
		return &refusedError{fmt.Sprintf("%s: user %q is not authorised; check username, password and the broker's access rules", at, b.cfg.Username), false}
	}
	err := token.Error()
	var timeout net.Error
	silent := errors.As(err, &timeout) && timeout.Timeout()
	if silent {
		return &refusedError{fmt.Sprintf("%s: no answer within %v", at, connectTimeout), false}
	}
	return &refusedError{fmt.Sprintf("%s: %v", at, plainly(err)), ctx.Err() == nil}
}

// open opens the connection below MQTT.
func (b *Broker) open(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	switch u.Scheme {
	case "tcp", "mqtt":
		return dialer.DialContext(ctx, "tcp", hostPort(u, "1883"))
	case "unix":
		return dialer.DialContext(ctx, "unix", u.Host+u.Path)
	case "tls", "ssl", "mqtts":
		cfg, err := b.tlsConfig(u)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{NetDialer: &dialer, Config: cfg}).DialContext(ctx, "tcp", hostPort(u, "8883"))
	case "ws":
		return websocket(ctx, u, nil)
	case "wss":
		cfg, err := b.tlsConfig(u)
		if err != nil {
			return nil, err
		}
		return websocket(ctx, u, cfg)
	}
	return nil, fmt.Errorf("unknown scheme %q", u.Scheme)
}

// websocket opens a WebSocket. The library's way knows no context: when ctx
// ends first it is left behind, and ends within connectTimeout.
func websocket(ctx context.Context, u *url.URL, cfg *tls.Config) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	opened := make(chan result)
	go func() {
		c, err := mqtt.NewWebsocket(u.String(), cfg, connectTimeout, nil, nil)
		select {
		case opened <- result{c, err}:
		case <-ctx.Done():
			if err == nil {
				_ = c.Close() // nobody wants it any more
			}
		}
	}()
	select {
	case r := <-opened:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func hostPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (b *Broker) tlsConfig(u *url.URL) (*tls.Config, error) {
	t := b.cfg.TLS
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, NextProtos: t.ALPN}
	if cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificates to trust: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%q has no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("read the gateway's certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
