package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/postern-iot/postern/bridge"
)

const (
	helloTimeout = 5 * time.Second // for the CONNECT packet
	helloLimit   = 16 << 10        // its size, last will included
	// silentMost is how many connections more than clients there may be: those
	// that have not said CONNECT yet.
	silentMost = 64
	acceptWait = 50 * time.Millisecond // after a temporary error
)

// listener accepts connections. The library's own would allocate what a packet
// claims before anybody is authenticated, wait for CONNECT without end, stop
// for good at a temporary error, and end the process at a panic.
type listener struct {
	id        string
	ln        net.Listener
	anonymous bool
	log       *slog.Logger
	maxPacket int
	maxConns  int

	stop chan struct{}
	wg   sync.WaitGroup // Serve, and the clients

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func newListener(id string, ln net.Listener, b *Broker) *listener {
	return &listener{
		id: id, ln: ln, anonymous: b.cfg.anonymousAt(ln.Addr().String()), log: b.log,
		maxPacket: b.cfg.MaxPacket, maxConns: b.cfg.MaxClients + silentMost, stop: make(chan struct{}),
		conns: map[net.Conn]struct{}{},
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
func (l *listener) Address() string { return l.ln.Addr().String() }

// Protocol is "tcp".
func (l *listener) Protocol() string { return "tcp" }

// Serve accepts until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	defer l.wg.Done()
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
		if !l.add(c) {
			_ = c.Close() // refused
			continue
		}
		l.wg.Go(func() {
			defer l.remove(c)
			l.serve(c, establish)
		})
	}
}

func (l *listener) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.conns) >= l.maxConns {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *listener) remove(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *listener) serve(c net.Conn, establish listeners.EstablishFn) {
	defer func() {
		if v := recover(); v != nil {
			_ = c.Close() // the client sees that
			l.log.Error("mqtt client ended by a panic", "remote", c.RemoteAddr().String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		_ = c.Close() // gone already
		return
	}
	err := establish(l.id, &bridge.Guard{Conn: c, First: helloLimit, Max: l.maxPacket})
	l.log.Debug("mqtt client gone", "remote", c.RemoteAddr().String(), "reason", err)
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
	_ = l.ln.Close() // Serve sees that
	disconnect(l.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // its goroutine sees that
	}
}
