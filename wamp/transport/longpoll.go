package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LongPoll says how to accept WAMP over plain HTTP requests ("HTTP Longpoll
// Transport"). It is a config section as well; NewLongPoll gives the defaults.
type LongPoll struct {
	Path           string        `yaml:"path" short:"true" doc:"path below which clients open, receive, send and close; empty turns long-poll off"`
	ReceiveTimeout time.Duration `yaml:"receive_timeout" min:"100ms" max:"25s" doc:"a request that waits for messages is answered, without one, after this time; autobahn-js gives up after 12 s"`
	IdleTimeout    time.Duration `yaml:"idle_timeout" min:"1s" doc:"a session that nobody asks for messages for this long is ended"`
	Sessions       int           `yaml:"sessions" min:"1" doc:"sessions over long-poll in all"`
	// Origins and AllowedHosts are as in WebSocket.
	Origins      []string `yaml:"-"`
	AllowedHosts []string `yaml:"-"`
	// WriteTimeout is how long a client may leave the messages for it where
	// they are once they are too many; 0 means 10 s.
	WriteTimeout time.Duration `yaml:"-"`
	// ReadLimit is the first read limit of every connection, in bytes; 0 means
	// 16 KiB. A batch may be no larger than that either.
	ReadLimit int `yaml:"-"`
}

// NewLongPoll returns the defaults.
func NewLongPoll() LongPoll {
	return LongPoll{
		Path: "/lp", ReceiveTimeout: 8 * time.Second, IdleTimeout: 30 * time.Second, Sessions: 1024,
		WriteTimeout: writeTimeout, ReadLimit: firstReadLimit,
	}
}

// Validate reports a path that cannot be one.
func (lp *LongPoll) Validate(report func(path, problem, hint string)) {
	if p := lp.Path; p != "" && (!strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "?#% ")) {
		report("path", fmt.Sprintf("%q is no path for long-poll", p), "write one such as /lp, without a slash at its end, or nothing for no long-poll")
	}
}

// longPollQueue is how many bytes may wait for a client before Write waits.
const longPollQueue = 256 << 10

// longPollLinger is how long a session that has ended is still known.
const longPollLinger = 10 * time.Second

// longPollConn is the server's end of a session over HTTP requests, each of
// which comes and goes on a goroutine of the HTTP server's.
type longPollConn struct {
	id      string
	info    Info
	batched bool
	batch   batching
	opts    LongPoll
	limit   atomic.Int64

	in      chan arrived  // from the request that sends to Read
	sending chan struct{} // holds the token of the request that sends
	closing chan struct{} // Close has begun
	done    chan struct{} // nothing is received or sent any more

	readErr error // what every further Read returns; the reader's own

	mu      sync.Mutex
	queue   [][]byte
	queued  int           // bytes
	wrote   time.Time     // when the last of them came
	room    chan struct{} // told when the queue gets shorter
	waiting *polling      // the request that receives
	idle    *time.Timer
	why     error // of the end
	forget  func()

	begin, end sync.Once
}

type arrived struct {
	message []byte
	err     error
}

// polling is one request that waits for messages.
type polling struct {
	wake     chan struct{} // there is one
	replaced chan struct{} // by another request
}

func newLongPollConn(id string, info Info, batched bool, opts LongPoll) *longPollConn {
	c := &longPollConn{
		id: id, info: info, batched: batched, opts: opts,
		in: make(chan arrived), sending: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}), room: make(chan struct{}, 1),
	}
	c.batch.binary = info.Codec.Binary()
	c.SetReadLimit(positive(opts.ReadLimit, firstReadLimit))
	idle := positive(opts.IdleTimeout, 30*time.Second)
	c.idle = time.AfterFunc(idle, func() {
		c.finish(fmt.Errorf("the client has not asked for messages for %v", idle))
	})
	return c
}

// Info implements Conn.
func (c *longPollConn) Info() *Info { return &c.info }

// SetReadLimit implements Conn.
func (c *longPollConn) SetReadLimit(bytes int) {
	c.limit.Store(int64(positive(bytes, DefaultReadLimit)))
}

// Read implements Conn.
func (c *longPollConn) Read() ([]byte, error) {
	if c.readErr != nil {
		return nil, c.readErr
	}
	select {
	case <-c.closing:
		c.readErr = io.EOF
	case a := <-c.in:
		if a.err == nil {
			return a.message, nil
		}
		c.readErr = a.err
	case <-c.done:
		c.mu.Lock()
		c.readErr = c.why
		c.mu.Unlock()
	}
	return nil, c.readErr
}

// Write implements Conn.
func (c *longPollConn) Write(messages ...[]byte) error {
	timeout := positive(c.opts.WriteTimeout, writeTimeout)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for _, m := range messages {
		m = bytes.Clone(m)
		for !c.enqueue(m) {
			select {
			case <-c.room:
			case <-c.closing:
			case <-c.done:
			case <-timer.C:
				err := fmt.Errorf("the peer took no data for %v", timeout)
				c.finish(err)
				return err
			}
			if c.over() {
				break
			}
		}
		if c.over() {
			return fmt.Errorf("write: %w", net.ErrClosed)
		}
	}
	return nil
}

// over says whether Close has begun, or all is over.
func (c *longPollConn) over() bool {
	select {
	case <-c.closing:
		return true
	case <-c.done:
		return true
	default:
		return false
	}
}

// enqueue takes a message for the client, unless too many wait for it.
func (c *longPollConn) enqueue(m []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued > 0 && c.queued+len(m) > longPollQueue {
		return false
	}
	c.queue, c.queued, c.wrote = append(c.queue, m), c.queued+len(m), time.Now()
	if c.waiting != nil {
		select {
		case c.waiting.wake <- struct{}{}:
		default: // it has been woken
		}
	}
	return true
}

// take removes what p's answer is made of: one message, or a batch of those
// that wait.
func (c *longPollConn) take(p *polling) (body []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != p || len(c.queue) == 0 {
		return nil, false
	}
	n := 1
	if c.batched {
		for n = 0; n < len(c.queue) && (n == 0 || len(body)+len(c.queue[n]) < batchSize); n++ {
			body = c.batch.append(body, c.queue[n])
		}
	} else {
		body = c.queue[0]
	}
	for _, m := range c.queue[:n] {
		c.queued -= len(m)
	}
	clear(c.queue[:n])
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	select {
	case c.room <- struct{}{}:
	default:
	}
	return body, true
}

// poll begins a request that receives, and ends the one before.
func (c *longPollConn) poll() *polling {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != nil {
		close(c.waiting.replaced)
	}
	c.waiting = &polling{wake: make(chan struct{}, 1), replaced: make(chan struct{})}
	c.idle.Stop()
	return c.waiting
}

func (c *longPollConn) polled(p *polling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != p {
		return
	}
	c.waiting = nil
	select {
	case <-c.done:
	default:
		c.idle.Reset(positive(c.opts.IdleTimeout, 30*time.Second))
	}
}

// deliver hands to Read what a request sent.
func (c *longPollConn) deliver(a arrived, gone <-chan struct{}) error {
	timer := time.NewTimer(positive(c.opts.ReceiveTimeout, 8*time.Second))
	defer timer.Stop()
	select {
	case c.in <- a:
		return nil
	case <-c.closing:
		return errEnded
	case <-c.done:
		return errEnded
	case <-gone:
		return io.ErrUnexpectedEOF
	case <-timer.C:
		return errBusy
	}
}

var (
	errEnded = errors.New("the session has ended")
	errBusy  = errors.New("the session takes no more messages for now")
)

// finish ends the connection; why is what Read returns.
func (c *longPollConn) finish(why error) {
	c.end.Do(func() {
		c.mu.Lock()
		c.why = why
		c.idle.Stop()
		close(c.done)
		if c.forget != nil {
			// Not at once: autobahn-js closes what has ended with GOODBYE, and
			// wants an answer to that.
			time.AfterFunc(longPollLinger, c.forget)
		}
		c.mu.Unlock()
	})
}

// Close implements Conn: the client has a second to fetch what was written,
// from when it was; one that has had that long is not waited for again.
func (c *longPollConn) Close() error {
	c.begin.Do(func() { close(c.closing) })
	c.mu.Lock()
	left := closeGrace - time.Since(c.wrote)
	c.mu.Unlock()
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		c.mu.Lock()
		empty := len(c.queue) == 0
		c.mu.Unlock()
		if empty {
			break
		}
		select {
		case <-c.room:
			continue
		case <-c.done:
		case <-timer.C:
		}
		break
	}
	c.finish(io.EOF)
	return nil
}
