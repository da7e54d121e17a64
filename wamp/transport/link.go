package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// How long Close waits for the peer to read what it was sent, and how much it
// reads from the peer meanwhile.
const (
	closeGrace = time.Second
	closeDrain = 16 << 20
)

// link is what the network transports have in common: the two halves of a
// connection, its limits, and its end.
type link struct {
	sender
	source source
	alive  keepAlive
	info   Info
	limit  atomic.Int64

	closed atomic.Bool
	lost   atomic.Pointer[error] // why keep-alive closed it

	reading sync.Mutex // held by Read, and by Close once Read has left
	readErr error      // what every further Read returns

	closing  sync.Once
	closeErr error
}

func (l *link) init(conn net.Conn, timeout time.Duration, readLimit int) {
	l.info.Local, l.info.Remote = conn.LocalAddr(), conn.RemoteAddr()
	conn, ahead := through(conn)
	l.sender.init(conn, positive(timeout, writeTimeout))
	l.source.init(conn, &l.alive)
	l.source.putBack(ahead)
	l.SetReadLimit(readLimit)
	keepAliveTCP(conn)
}

// keepAliveTCP lets the kernel notice within a minute or so that the other
// machine is gone.
func keepAliveTCP(conn net.Conn) {
	below, _ := through(underTLS(conn))
	if c, ok := below.(*net.TCPConn); ok {
		// It is a second line of defence: where the system has no such
		// options, pings and write timeouts remain.
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
		})
	}
}

// underTLS is the connection below a TLS one, and any other itself.
func underTLS(conn net.Conn) net.Conn {
	if c, ok := conn.(*tls.Conn); ok {
		return c.NetConn()
	}
	return conn
}

// Info implements Conn.
func (l *link) Info() *Info { return &l.info }

// SetReadLimit implements Conn.
func (l *link) SetReadLimit(bytes int) { l.limit.Store(int64(positive(bytes, DefaultReadLimit))) }

// OnWait implements Direct.
func (l *link) OnWait(f func()) { l.source.idle = f }

// Write implements Conn.
func (l *link) Write(messages ...[]byte) error {
	if err := l.fits(messages); err != nil {
		return err
	}
	return l.send(messages)
}

// TryWrite implements Direct.
func (l *link) TryWrite(messages ...[]byte) (sent bool, err error) {
	if err := l.fits(messages); err != nil {
		return false, err
	}
	return l.try(messages)
}

// fits says which message is more than the peer accepts.
func (l *link) fits(messages [][]byte) error {
	if most := l.info.MaxWrite; most > 0 {
		for _, m := range messages {
			if len(m) > most {
				return fmt.Errorf("%w for the peer: %d bytes, it accepts %d", ErrTooLarge, len(m), most)
			}
		}
	}
	return nil
}

// read runs next, a transport's way to read a message, for Read. wait says that
// it has none at hand.
func (l *link) read(wait bool, next func() ([]byte, error)) ([]byte, error) {
	if l.closed.Load() {
		return nil, io.EOF
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.readErr != nil {
		return nil, l.readErr
	}
	// A session spends its life here, and its stack is no smaller than what it
	// uses in this moment: so this is not left to next.
	var m []byte
	var err error
	if wait {
		err = l.source.await()
	}
	if err == nil {
		m, err = next()
	}
	if err != nil {
		l.source.release()
		l.readErr = l.whyEnded(err)
		return nil, l.readErr
	}
	return m, nil
}

// whyEnded turns the error of a read into what Read promises.
func (l *link) whyEnded(err error) error {
	lost := l.lost.Load()
	switch {
	case l.closed.Load():
		return io.EOF
	case lost != nil:
		return *lost
	default:
		return err
	}
}

// startKeepAlive begins to ping, with ping's frame.
func (l *link) startKeepAlive(interval, timeout time.Duration, ping []byte) {
	l.alive.start(interval, positive(timeout, pingTimeout),
		func() bool { return l.tryFrame(ping) },
		func(silence time.Duration) {
			err := fmt.Errorf("the peer has been silent for %v and did not answer a ping", silence)
			l.lost.Store(&err)
			_ = underTLS(l.conn).Close() // the reader reports it
		})
}

// close ends the connection. farewell makes the last frame, nil for none.
//
// A TCP connection that is closed while there are bytes from the peer which
// nobody read is reset, and what was under way to the peer may be lost. So
// first only the sending half is closed, and the peer's bytes are read, for a
// moment, until it closes too.
func (l *link) close(farewell func() []byte) error {
	l.closing.Do(func() {
		l.closed.Store(true)
		l.hurry(closeGrace)
		_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // Read leaves
		var last []byte
		if farewell != nil {
			last = farewell()
		}
		conn := l.conn
		if l.last(last) && closeWrite(conn) {
			l.reading.Lock()
			_ = conn.SetReadDeadline(time.Now().Add(closeGrace))
			_, _ = io.CopyN(io.Discard, conn, closeDrain)
			l.reading.Unlock()
		} else {
			conn = underTLS(conn) // whose own farewell would wait for the peer
		}
		if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
			l.closeErr = err
		}
		l.alive.stop()
	})
	return l.closeErr
}

// closeWrite closes the sending half, where the connection has halves.
func closeWrite(conn net.Conn) bool {
	c, ok := conn.(interface{ CloseWrite() error })
	return ok && c.CloseWrite() == nil
}
