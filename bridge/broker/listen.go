package broker

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/postern-iot/postern/wamp/transport"
)

// Listen opens the listeners. Run does it when it was not done before.
func (b *Broker) Listen() error {
	if len(b.listeners) > 0 {
		return nil
	}
	if err := b.listen(); err != nil {
		for _, l := range b.listeners {
			if l.ln != nil {
				_ = l.ln.Close() // the first error is the one to tell
			}
		}
		b.listeners = nil
		return fmt.Errorf("listen for MQTT clients: %w", err)
	}
	if b.upgrades != nil {
		b.listeners = append(b.listeners, b.upgrades)
	}
	return nil
}

func (b *Broker) listen() error {
	for _, a := range b.cfg.Listen {
		ln, err := b.open(a)
		if err != nil {
			return err
		}
		b.listeners = append(b.listeners, b.newListener("tcp", ln.Addr().String(), ln, b.cfg.anonymousAt(a)))
	}
	for _, a := range b.cfg.TLS.Listen {
		ln, err := b.openTLS(a, b.cfg.TLS.TLS, "mqtt")
		if err != nil {
			return err
		}
		b.listeners = append(b.listeners, b.newListener("tls", ln.Addr().String(), ln, b.cfg.anonymousAt(a)))
	}
	for _, a := range b.cfg.WebSocket.Listen {
		if err := b.listenWebSocket(a); err != nil {
			return err
		}
	}
	if path := b.cfg.Unix.Path; path != "" {
		ln, err := transport.ListenUnix(path, b.cfg.Unix.Mode)
		if err != nil {
			return err
		}
		b.listeners = append(b.listeners, b.newListener("unix", path, ln, b.cfg.anonymousFrom(true)))
	}
	return nil
}

// open opens an address.
func (b *Broker) open(address string) (net.Listener, error) {
	if b.host.Open != nil {
		return b.host.Open(address)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w; another broker may use the address: stop it, choose another one, or disable the embedded broker", err)
	}
	return ln, nil
}

func (b *Broker) openTLS(address string, secure transport.TLS, protocols ...string) (net.Listener, error) {
	config, err := secure.Listen(b.log, protocols...)
	if err != nil {
		return nil, err
	}
	ln, err := b.open(address)
	if err != nil {
		return nil, err
	}
	return transport.ListenTLS(ln, config), nil
}

// listenWebSocket opens an address for MQTT over WebSocket and nothing else.
func (b *Broker) listenWebSocket(address string) error {
	cfg := &b.cfg.WebSocket
	protocol := "ws"
	var ln net.Listener
	var err error
	if cfg.TLS.Enabled() {
		protocol = "wss"
		ln, err = b.openTLS(address, cfg.TLS, "http/1.1")
	} else {
		ln, err = b.open(address)
	}
	if err != nil {
		return err
	}
	l := b.newListener(protocol, ln.Addr().String(), ln, b.cfg.anonymousAt(address))
	ws := transport.NewWebSocket()
	ws.Origins, ws.AllowedHosts = cfg.Origins, cfg.AllowedHosts
	l.server = &http.Server{
		Handler: l.upgrade(b.bounded(ws)), ReadHeaderTimeout: helloTimeout, ReadTimeout: 2 * helloTimeout, WriteTimeout: 2 * helloTimeout,
		IdleTimeout: time.Minute, MaxHeaderBytes: helloLimit, ErrorLog: slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	b.listeners = append(b.listeners, l)
	return nil
}

// bounded bounds a WebSocket message of a client that is not known yet.
func (b *Broker) bounded(ws transport.WebSocket) transport.WebSocket {
	ws.ReadLimit = helloLimit + packetHeader
	return ws
}

// packetHeader is the longest fixed header of an MQTT packet.
const packetHeader = 5

// Handler makes MQTT clients of requests to the gateway's HTTP service; it is to
// be called before Listen. local says that only this machine reaches the
// service.
func (b *Broker) Handler(ws transport.WebSocket, local bool) http.Handler {
	b.upgrades = b.newListener("http", b.cfg.WebSocket.Path, nil, b.cfg.anonymousFrom(local))
	return b.upgrades.upgrade(b.bounded(ws))
}

// Listens are the addresses of the configuration.
func (b *Broker) Listens() []string { return b.cfg.Networks() }

// Addrs are the addresses on the network that are listened on.
func (b *Broker) Addrs() []net.Addr {
	var out []net.Addr
	for _, l := range b.listeners {
		if l.ln != nil && l.protocol != "unix" {
			out = append(out, l.ln.Addr())
		}
	}
	return out
}
