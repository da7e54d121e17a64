package bridge

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Guard watches the MQTT packets that arrive on a connection, because the
// libraries above it allocate what a packet's header claims. It looks at
// headers only.
type Guard struct {
	net.Conn
	// First and Max bound the first packet and those after it, in bytes after
	// the fixed header. Zero First means Max.
	First, Max int
	// Silence ends the connection when nothing arrives for so long after the
	// first packet; zero does not.
	Silence time.Duration

	reader *bufio.Reader
	reason atomic.Pointer[error]
	codes  atomic.Int64

	// The packet that is being read.
	state  guardState
	kind   byte
	left   int
	shift  uint
	passed bool // the first packet is through
}

type guardState uint8

const (
	atHeader guardState = iota
	atLength
	inBody
)

// ErrPacket is wrapped by the error of a Read that met a packet beyond the
// bounds.
var ErrPacket = errors.New("MQTT packet refused")

// Buffer has Read take from a buffer, for callers that read byte by byte.
func (g *Guard) Buffer() *Guard {
	g.reader = bufio.NewReaderSize(readerFunc(g.read), 16<<10)
	return g
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Subscribing says that a SUBACK with n return codes is to come. One with more
// is refused: paho panics over it.
func (g *Guard) Subscribing(n int) { g.codes.Store(int64(n)) }

// Abort closes the connection and has Read and Write say why.
func (g *Guard) Abort(reason error) {
	g.reason.CompareAndSwap(nil, &reason)
	_ = g.Conn.Close() // the reason is what matters
}

// errClosed is what Read and Write say after Close. It is not net.ErrClosed:
// paho takes that for a sign that all is well, and waits for ever.
var errClosed = errors.New("the connection is closed")

// Close closes the connection.
func (g *Guard) Close() error {
	g.reason.CompareAndSwap(nil, &errClosed)
	return g.Conn.Close()
}

// Read reads as the connection does.
func (g *Guard) Read(p []byte) (int, error) {
	if g.reader != nil {
		return g.reader.Read(p)
	}
	return g.read(p)
}

func (g *Guard) read(p []byte) (int, error) {
	if g.Silence > 0 && g.passed {
		if err := g.Conn.SetReadDeadline(time.Now().Add(g.Silence)); err != nil {
			return 0, g.explain(err)
		}
	}
	n, err := g.Conn.Read(p)
	if bad := g.inspect(p[:n]); bad != nil {
		return 0, bad
	}
	if err != nil && g.passed && g.Silence > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("nothing heard for %v", g.Silence)
	}
	return n, g.explain(err)
}

// Write writes as the connection does.
func (g *Guard) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	return n, g.explain(err)
}

func (g *Guard) explain(err error) error {
	if reason := g.reason.Load(); err != nil && reason != nil {
		return *reason
	}
	return err
}

// inspect follows the packets' headers (MQTT 3.1.1, 2.2).
func (g *Guard) inspect(b []byte) error {
	for len(b) > 0 {
		switch g.state {
		case atHeader:
			g.kind, g.left, g.shift, g.state = b[0]>>4, 0, 0, atLength
			b = b[1:]
		case atLength:
			g.left |= int(b[0]&0x7F) << g.shift
			more := b[0]&0x80 != 0
			g.shift += 7
			b = b[1:]
			if more && g.shift > 21 {
				return fmt.Errorf("%w: its length has more than four bytes", ErrPacket)
			}
			if more {
				continue
			}
			if limit := g.limit(); g.left > limit {
				return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrPacket, g.left, limit)
			}
			g.state = inBody
			if g.left == 0 {
				g.state, g.passed = atHeader, true
			}
		case inBody:
			n := min(g.left, len(b))
			b, g.left = b[n:], g.left-n
			if g.left == 0 {
				g.state, g.passed = atHeader, true
			}
		}
	}
	return nil
}

func (g *Guard) limit() int {
	const suback = 9
	switch {
	case !g.passed && g.First > 0:
		return g.First
	case g.kind == suback:
		return min(2+int(g.codes.Load()), g.Max)
	}
	return g.Max
}
