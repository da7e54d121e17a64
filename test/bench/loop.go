//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loop is the whole load: one thread that waits for all connections at once,
// reads what is there, and writes what came of it with one system call for each
// connection. It allocates nothing while it runs.
type loop struct {
	epoll, timer int
	conns        []*conn
	dirty        []*conn
	buf          []byte
	events       [512]unix.EpollEvent
	now          int64 // when the bytes at hand were read
	tick         func(n int)
	progress     int64 // anything that grows as long as all goes well
	err          error
}

// conn is one connection of the load.
type conn struct {
	loop *loop
	fd   int
	// size says how long the frame is that b begins with; 0 when b is too
	// short to tell.
	size func(b []byte) int
	// on handles a frame. Of a long one it sees the beginning only.
	on func(c *conn, frame []byte)

	rest    []byte // the beginning of a frame
	skip    int    // bytes of a long frame still to come; rest is its head
	out     []byte
	cuts    []cut // long pieces, which are written from where they lie
	queued  bool  // in dirty
	blocked bool
}

// cut is a long piece that belongs at a place in out.
type cut struct {
	at   int
	tail []byte
}

const (
	headSize = 512      // what a handler sees of a long frame
	longSize = 16 << 10 // from here on a frame is long
)

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{epoll: epoll, timer: -1, buf: make([]byte, 512<<10)}, nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd)
	}
	if l.timer >= 0 {
		_ = unix.Close(l.timer)
	}
	_ = unix.Close(l.epoll)
}

// add takes over a connection whose handshake is done.
func (l *loop) add(nc net.Conn, size func([]byte) int, on func(*conn, []byte)) (*conn, error) {
	defer nc.Close()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{loop: l, size: size, on: on, fd: -1}
	var duped error
	if err := raw.Control(func(fd uintptr) { c.fd, duped = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || duped != nil {
		return nil, errors.Join(err, duped)
	}
	l.conns = append(l.conns, c)
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(l.conns) - 1)}
	return c, unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &event)
}

// every has tick called with the number of intervals that have passed.
func (l *loop) every(interval time.Duration, tick func(n int)) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	l.timer, l.tick = fd, tick
	spec := unix.NsecToTimespec(interval.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: spec, Value: spec}, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
}

// stall is how long a run may see nothing before it fails.
const stall = 10 * time.Second

// run turns the loop for a while.
func (l *loop) run(d time.Duration) error {
	return l.until(time.Now().Add(d), func() bool { return false })
}

// until turns the loop until something is so, or the time has come.
func (l *loop) until(end time.Time, done func() bool) error {
	last, seen := time.Now(), l.progress
	l.stamp()
	l.flush()
	for l.err == nil && !done() {
		now := time.Now()
		if !now.Before(end) {
			break
		}
		if l.progress != seen {
			last, seen = now, l.progress
		} else if now.Sub(last) > stall {
			return fmt.Errorf("nothing has come for %v", stall)
		}
		wait := int(min(end.Sub(now), 100*time.Millisecond)/time.Millisecond) + 1
		n, err := unix.EpollWait(l.epoll, l.events[:], wait)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for i := range max(n, 0) {
			l.handle(&l.events[i])
		}
		l.flush()
	}
	return l.err
}

func (l *loop) stamp() { l.now = time.Now().UnixNano() }

func (l *loop) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *loop) handle(e *unix.EpollEvent) {
	if e.Fd < 0 {
		n, err := unix.Read(l.timer, l.buf[:8])
		if l.stamp(); err == nil && n == 8 {
			l.tick(int(binary.NativeEndian.Uint64(l.buf)))
		}
		return
	}
	c := l.conns[e.Fd]
	if e.Events&unix.EPOLLOUT != 0 {
		c.blocked = false
		c.watch(e.Fd, unix.EPOLLIN)
		c.mark()
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		c.read()
	}
}

func (c *conn) watch(index int32, events uint32) {
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: index}); err != nil {
		c.loop.fail(err)
	}
}

func (c *conn) read() {
	l := c.loop
	kept := 0
	if c.skip == 0 {
		kept = copy(l.buf, c.rest)
		c.rest = c.rest[:0]
	}
	n, err := unix.Read(c.fd, l.buf[kept:])
	l.stamp()
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		l.fail(fmt.Errorf("read: %w", err))
		return
	case n == 0:
		l.fail(fmt.Errorf("the server has closed the connection: %w", io.EOF))
		return
	}
	b := l.buf[:kept+n]
	if c.skip > 0 {
		if len(b) < c.skip {
			c.skip -= len(b)
			return
		}
		b, c.skip = b[c.skip:], 0
		c.on(c, c.rest)
		c.rest = c.rest[:0]
	}
	for len(b) > 0 && l.err == nil {
		size := c.size(b)
		switch {
		case size < 0:
			l.fail(fmt.Errorf("not understood: %.200q", b))
			return
		case size > 0 && len(b) >= size:
			c.on(c, b[:size])
			b = b[size:]
			continue
		case size > longSize && len(b) >= headSize:
			c.rest = append(c.rest[:0], b[:headSize]...)
			c.skip = size - len(b)
			return
		}
		c.rest = append(c.rest[:0], b...)
		return
	}
}

// mark says that there is something to write.
func (c *conn) mark() {
	if !c.queued && !c.blocked {
		c.queued = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// tail appends the last piece of a frame, which is not copied when it is long.
func (c *conn) tail(b []byte) {
	if len(b) >= longSize {
		c.cuts = append(c.cuts, cut{len(c.out), b})
	} else {
		c.out = append(c.out, b...)
	}
	c.mark()
}

func (l *loop) flush() {
	for _, c := range l.dirty {
		c.queued = false
		c.flush()
	}
	l.dirty = l.dirty[:0]
}

func (c *conn) flush() {
	if len(c.cuts) == 0 {
		n, err := unix.Write(c.fd, c.out)
		if c.written(err) {
			c.out = append(c.out[:0], c.out[max(n, 0):]...)
			c.wait()
		}
		return
	}
	var pieces [2 * 64][]byte
	all, from := pieces[:0], 0
	for _, cut := range c.cuts {
		all = append(all, c.out[from:cut.at], cut.tail)
		from = cut.at
	}
	all = append(all, c.out[from:])
	n, err := unix.Writev(c.fd, all)
	if !c.written(err) {
		return
	}
	var left []byte
	for _, p := range all {
		gone := min(max(n, 0), len(p))
		n -= gone
		left = append(left, p[gone:]...)
	}
	c.out, c.cuts = left, c.cuts[:0]
	c.wait()
}

// written reports whether a write went as it may.
func (c *conn) written(err error) bool {
	if err == nil || err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	c.loop.fail(fmt.Errorf("write: %w", err))
	return false
}

// wait has the rest written when there is room.
func (c *conn) wait() {
	if len(c.out) == 0 {
		return
	}
	for i, other := range c.loop.conns {
		if other == c {
			c.blocked = true
			c.watch(int32(i), unix.EPOLLIN|unix.EPOLLOUT)
		}
	}
}
