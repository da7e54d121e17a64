package gpio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	periph "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
)

// Line is one line of a GPIO chip. It implements periph's gpio.PinIO, and
// EdgeWaiter. Its levels are logical: High is the active level, which is the
// low electrical one when the line is active-low.
//
// The line is requested from the kernel by the first In, Out or Keep, and from
// then on held, so that nobody else can use it, until Close or the end of the
// process. Read, Function and String never change anything.
//
// All methods may be called at the same time; one wait is served at a time.
type Line struct {
	addr   Address
	cfg    LineConfig
	second *Address // the other line of a pair, nil for one alone

	mu      sync.Mutex // covers what follows; never held while waiting
	f       *os.File   // the request, nil before it
	conn    syscall.RawConn
	output  bool
	pull    periph.Pull
	halted  bool
	gen     uint64 // changes with every In, Out, Halt and Close
	seq     uint32 // of the last edge fetched
	dropped uint64
	soft    *debouncer // when the kernel does not debounce

	waiting sync.Mutex // held by the one who waits
	raw     [64 * eventSize]byte
}

var (
	_ periph.PinIO = (*Line)(nil)
	_ EdgeWaiter   = (*Line)(nil)
)

// In makes the line an input with a bias and edge detection, and forgets edges
// that were not fetched. PullNoChange leaves the bias as it is.
func (l *Line) In(pull periph.Pull, edge periph.Edge) error {
	var c uapiLineConfig
	c.flags = flagInput
	switch pull {
	case periph.PullUp:
		c.flags |= flagPullUp
	case periph.PullDown:
		c.flags |= flagPullDown
	case periph.Float:
		c.flags |= flagBiasDisabled
	}
	edges := edgeFlags(edge)
	c.flags |= edges
	if edges != 0 {
		switch l.cfg.Clock {
		case ClockRealtime:
			c.flags |= flagClockRealtime
		case ClockHardware:
			c.flags |= flagClockHTE
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt()
	l.halted = false
	l.soft = nil
	if err := l.configureInput(c, edge); err != nil {
		return err
	}
	l.output, l.pull = false, pull
	l.discard()
	return nil
}

func edgeFlags(edge periph.Edge) uint64 {
	switch edge {
	case periph.RisingEdge:
		return flagEdgeRising
	case periph.FallingEdge:
		return flagEdgeFalling
	case periph.BothEdges:
		return flagEdgeRising | flagEdgeFalling
	}
	return 0
}

// configureInput asks the kernel to debounce, and where it refuses sets the
// line up without, to debounce here: that needs both edges.
func (l *Line) configureInput(c uapiLineConfig, edge periph.Edge) error {
	if l.cfg.Debounce <= 0 {
		return l.configure(&c)
	}
	plain := c
	mask := uint64(1)
	if l.second != nil {
		mask = 3
	}
	c.attrs[0] = uapiConfigAttr{attr: uapiLineAttr{id: attrDebounce, value: uint64(l.cfg.Debounce / time.Microsecond)}, mask: mask}
	c.numAttrs = 1
	err := l.configure(&c)
	if err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EACCES) {
		return err
	}
	if l.second != nil {
		return l.configure(&plain) // who decodes pairs stands bouncing contacts
	}
	if plain.flags&(flagEdgeRising|flagEdgeFalling) != 0 {
		plain.flags |= flagEdgeRising | flagEdgeFalling
	}
	if l.configure(&plain) != nil {
		return err
	}
	v, err := l.value()
	if err != nil {
		return err
	}
	l.soft = newDebouncer(l.cfg.Debounce, edge, v, l.clock)
	return nil
}

// Out makes the line an output, if it is none yet, and drives the level. The
// line goes straight to that level: it never shows the other one in between.
func (l *Line) Out(level periph.Level) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out(level)
}

func (l *Line) out(level periph.Level) error {
	var bit uint64
	if level {
		bit = 1
	}
	if l.f != nil && l.output {
		if err := ioctl(l.conn, iocSetValues, &uapiLineValues{bits: bit, mask: 1}); err != nil {
			return fmt.Errorf("set GPIO line %s: %w", l.addr, err)
		}
		return nil
	}
	var c uapiLineConfig
	c.flags = flagOutput
	switch l.cfg.Drive {
	case OpenDrain:
		c.flags |= flagOpenDrain
	case OpenSource:
		c.flags |= flagOpenSource
	}
	c.attrs[0] = uapiConfigAttr{attr: uapiLineAttr{id: attrOutputValues, value: bit}, mask: 1}
	c.numAttrs = 1
	l.interrupt()
	if err := l.configure(&c); err != nil {
		return err
	}
	l.output, l.soft = true, nil
	l.discard()
	return nil
}

// Keep makes the line an output at the level that it has, whatever drives it
// there now: firmware, a pull, or this gateway's process before the last
// restart. It returns that level.
func (l *Line) Keep() (periph.Level, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		// Neither input nor output: the kernel leaves the line as it is.
		if err := l.configure(&uapiLineConfig{}); err != nil {
			return false, err
		}
	}
	v, err := l.value()
	if err != nil {
		return false, fmt.Errorf("read GPIO line %s: %w", l.addr, err)
	}
	return periph.Level(v), l.out(periph.Level(v))
}

// configure requests the line, or changes the request. The caller has l.mu.
func (l *Line) configure(c *uapiLineConfig) error {
	if l.cfg.ActiveLow {
		c.flags |= flagActiveLow
	}
	if l.f != nil {
		if err := ioctl(l.conn, iocSetConfig, c); err != nil {
			l.output = false // unknown now: the next Out sets everything up
			return fmt.Errorf("set up GPIO line %s: %w", l.addr, err)
		}
		return nil
	}
	chip, conn, err := openChip(l.addr.Path)
	if err != nil {
		return fmt.Errorf("request GPIO line %s: %w", l.addr, explainAccess(l.addr.Path, err))
	}
	defer chip.Close()
	r := uapiLineRequest{numLines: 1, eventBuffer: uint32(l.cfg.Buffer), config: *c}
	r.offsets[0] = l.addr.Offset
	if l.second != nil {
		r.offsets[1], r.numLines = l.second.Offset, 2
	}
	copy(r.consumer[:len(r.consumer)-1], l.cfg.Consumer)
	if err := ioctl(conn, iocLine, &r); err != nil {
		if errors.Is(err, unix.EBUSY) {
			if info, infoErr := lineInfoOf(conn, l.addr.Offset); l.second != nil && infoErr == nil && !info.Used {
				return explainBusy(*l.second, conn, err)
			}
			return explainBusy(l.addr, conn, err)
		}
		return fmt.Errorf("request GPIO line %s: %w", l.addr, err)
	}
	// Non-blocking before os.NewFile, so that the runtime's poller takes it:
	// deadlines then work, and Close ends a pending read.
	if err := unix.SetNonblock(int(r.fd), true); err != nil {
		unix.Close(int(r.fd))
		return fmt.Errorf("request GPIO line %s: %w", l.addr, err)
	}
	f := os.NewFile(uintptr(r.fd), l.addr.String())
	if l.conn, err = f.SyscallConn(); err != nil {
		f.Close()
		return fmt.Errorf("request GPIO line %s: %w", l.addr, err)
	}
	l.f, l.seq = f, 0
	return nil
}

// Level reads the line; the error is os.ErrClosed before it was requested.
func (l *Line) Level() (periph.Level, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, err := l.value()
	return periph.Level(v), err
}

func (l *Line) value() (bool, error) {
	if l.f == nil {
		return false, os.ErrClosed
	}
	v := uapiLineValues{mask: 1}
	err := ioctl(l.conn, iocGetValues, &v)
	return v.bits&1 != 0, err
}

// Levels reads both lines of a pair.
func (l *Line) Levels() (first, second bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return false, false, os.ErrClosed
	}
	v := uapiLineValues{mask: 3}
	err = ioctl(l.conn, iocGetValues, &v)
	return v.bits&1 != 0, v.bits&2 != 0, err
}

// Read implements gpio.PinIn: Level, with Low for an error.
func (l *Line) Read() periph.Level {
	v, _ := l.Level()
	return v
}

// WaitForEdge implements gpio.PinIn: it waits for one edge, for ever when
// timeout is negative, and not at all when it is 0. It returns false when there
// was none, or when In, Out, Halt or Close was called meanwhile.
func (l *Line) WaitForEdge(timeout time.Duration) bool {
	var deadline time.Time
	if timeout >= 0 {
		deadline = time.Now().Add(timeout)
	}
	var one [1]Event
	n, err := l.WaitEdges(deadline, one[:])
	return err == nil && n > 0
}

// WaitEdges implements EdgeWaiter.
func (l *Line) WaitEdges(deadline time.Time, buf []Event) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	l.waiting.Lock()
	defer l.waiting.Unlock()
	l.mu.Lock()
	gen, soft := l.gen, l.soft
	l.mu.Unlock()
	if soft == nil {
		return l.fetch(gen, deadline, buf)
	}
	fetch := func(deadline time.Time, buf []Event) (int, error) { return l.fetch(gen, deadline, buf) }
	return soft.wait(deadline, buf, fetch, func() (bool, error) {
		v, err := l.Level()
		return bool(v), err
	})
}

// fetch reads edges from the kernel, in the generation in which the wait began.
func (l *Line) fetch(gen uint64, deadline time.Time, buf []Event) (int, error) {
	l.mu.Lock()
	if l.gen != gen || l.halted {
		l.mu.Unlock()
		return 0, ErrInterrupted
	}
	f, conn := l.f, l.conn
	if f == nil {
		l.mu.Unlock()
		return 0, os.ErrClosed
	}
	// Under the lock, so that an interrupt comes either before the check above
	// or after this, and then wins.
	f.SetReadDeadline(deadline)
	l.mu.Unlock()

	raw := l.raw[:eventSize*min(len(buf), len(l.raw)/eventSize)]
	n, err := f.Read(raw)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gen != gen || l.halted {
		// These edges are from before In, which has forgotten the others.
		if n >= eventSize && l.f == f {
			l.seq = max(l.seq, binary.NativeEndian.Uint32(raw[n-eventSize+16:]))
		}
		return 0, ErrInterrupted
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// A deadline in the past ends Read before it looks.
		if n = readNow(conn, raw); n > 0 {
			err = nil
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, fmt.Errorf("wait for GPIO line %s: %w", l.addr, err)
	}
	return l.decode(raw[:n], buf), nil
}

// readNow reads what is there without waiting.
func readNow(conn syscall.RawConn, buf []byte) (n int) {
	conn.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
	return max(n, 0)
}

func (l *Line) decode(raw []byte, buf []Event) int {
	now, clock := time.Now(), l.clock()
	n := len(raw) / eventSize
	for i := range n {
		b := raw[i*eventSize:]
		stamp := binary.NativeEndian.Uint64(b)
		seq := binary.NativeEndian.Uint32(b[16:])
		l.dropped += uint64(seq - l.seq - 1) // both wrap
		l.seq = seq
		e := Event{
			Rising:  binary.NativeEndian.Uint32(b[8:]) == eventRisingEdge,
			Clock:   time.Duration(stamp),
			Seq:     seq,
			Dropped: l.dropped,
			Second:  l.second != nil && binary.NativeEndian.Uint32(b[12:]) == l.second.Offset,
			Time:    now,
		}
		switch l.cfg.Clock {
		case ClockMonotonic:
			e.Time = now.Add(-(clock - e.Clock))
		case ClockRealtime:
			e.Time = time.Unix(0, int64(stamp))
		}
		buf[i] = e
	}
	return n
}

// clock reads CLOCK_MONOTONIC, as the kernel does for events.
func (l *Line) clock() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// interrupt ends the wait that is under way. The caller has l.mu.
func (l *Line) interrupt() {
	l.gen++
	if l.f != nil {
		l.f.SetReadDeadline(time.Unix(1, 0))
	}
}

// discard forgets the edges that the kernel keeps; they are not counted as
// dropped. The caller has l.mu.
func (l *Line) discard() {
	var raw [16 * eventSize]byte
	for {
		n := readNow(l.conn, raw[:])
		if n < eventSize {
			return
		}
		l.seq = binary.NativeEndian.Uint32(raw[n-eventSize+16:])
	}
}

// Halt implements conn.Resource: it ends a wait, and those to come until the
// next In. It does not touch the line.
func (l *Line) Halt() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halted = true
	l.interrupt()
	return nil
}

// Close gives the line back to the kernel, which may then let go of its level.
// In, Out and Keep request it again.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f, l.conn, l.output, l.soft = nil, nil, false, nil
	return err
}

// Address says where the line was found.
func (l *Line) Address() Address { return l.addr }

// String is like "GPIO17 (/dev/gpiochip0 line 17)".
func (l *Line) String() string { return l.addr.String() }

// Name is the line's name, "" when the kernel gives it none.
func (l *Line) Name() string { return l.addr.Name }

// Number is 17 for a line named GPIO17, and otherwise the offset on its chip.
func (l *Line) Number() int {
	if n, ok := gpioNumber(l.addr.Name); ok {
		return n
	}
	return int(l.addr.Offset)
}

// Function is what the line is now: "In/High", "Out/Low"; "IN" or "OUT" while
// it is not ours; "" when it cannot be told.
func (l *Line) Function() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, err := l.value(); err == nil {
		switch {
		case l.output && v:
			return string(periph.OUT_HIGH)
		case l.output:
			return string(periph.OUT_LOW)
		case v:
			return string(periph.IN_HIGH)
		}
		return string(periph.IN_LOW)
	}
	f, conn, err := openChip(l.addr.Path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := lineInfoOf(conn, l.addr.Offset)
	switch {
	case err != nil:
		return ""
	case info.Output:
		return string(periph.OUT)
	}
	return string(periph.IN)
}

// Pull is the bias that In has set.
func (l *Line) Pull() periph.Pull {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil || l.output {
		return periph.PullNoChange
	}
	return l.pull
}

// DefaultPull is not known to the kernel.
func (l *Line) DefaultPull() periph.Pull { return periph.PullNoChange }

// PWM is not what a character device line can do.
func (l *Line) PWM(periph.Duty, physic.Frequency) error {
	return fmt.Errorf("GPIO line %s: no PWM on a plain line; use a PWM channel of the kernel or a PWM chip", l.addr)
}
