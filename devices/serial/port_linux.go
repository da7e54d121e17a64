package serial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	tarm "github.com/tarm/serial"
	"golang.org/x/sys/unix"
)

// byID is where udev links serial adapters by what they are.
const byID = "/dev/serial/by-id"

// twin is a port opened twice. tarm's descriptor has set the line and holds
// the port, so that the settings stay; but it blocks, cannot tell a timeout
// from an unplugged adapter, and its Close waits for a pending Read. So the
// second, non-blocking descriptor of the same port does the input and output.
type twin struct {
	holder *tarm.Port
	file   *os.File
	conn   syscall.RawConn

	once sync.Once
	err  error
}

// openPort opens and sets up a port, and keeps others from opening it.
func openPort(p *Line) (port, error) {
	stop := tarm.Stop1
	if p.StopBits == 2 {
		stop = tarm.Stop2
	}
	holder, err := tarm.OpenPort(&tarm.Config{
		Name: p.Port, Baud: p.Baud, Size: byte(p.DataBits), Parity: tarm.Parity(parity[p.Parity]), StopBits: stop,
	})
	if err != nil {
		return nil, explain(p.Port, err)
	}
	t := &twin{holder: holder}
	if err := t.open(p.Port); err != nil {
		holder.Close()
		return nil, explain(p.Port, err)
	}
	if p.RS485 != nil {
		if err := t.setRS485(p.RS485); err != nil {
			t.Close()
			return nil, fmt.Errorf("open serial port %s: rs485: %w: the port's kernel driver cannot switch a transceiver; "+
				"leave rs485 away if the adapter switches by itself, as most on USB do", p.Port, err)
		}
	}
	return t, nil
}

func (t *twin) open(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return err
	}
	var step error
	err = conn.Control(func(fd uintptr) {
		// TIOCEXCL keeps others out, but not root; the lock keeps out those
		// who ask for it, as another gateway does.
		if step = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB); errors.Is(step, unix.EWOULDBLOCK) {
			step = unix.EBUSY
		}
		if step == nil {
			step = unix.IoctlSetInt(int(fd), unix.TIOCEXCL, 0)
		}
		if step == nil { // what came before the line was set up is garbage
			step = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
		}
	})
	if err = errors.Join(err, step); err != nil {
		f.Close()
		return err
	}
	t.file, t.conn = f, conn
	return nil
}

// rs485 is struct serial_rs485 of linux/serial.h.
type rs485 struct {
	flags, before, after uint32
	_                    [5]uint32
}

const (
	rs485Enabled      = 1 << 0
	rs485RTSOnSend    = 1 << 1
	rs485RTSAfterSend = 1 << 2
	rs485RXDuringTX   = 1 << 4
)

func newRS485(r *RS485) rs485 {
	x := rs485{flags: rs485Enabled, before: uint32(r.Before.Milliseconds()), after: uint32(r.After.Milliseconds())}
	if r.SendLevel == "high" {
		x.flags |= rs485RTSOnSend
	} else {
		x.flags |= rs485RTSAfterSend
	}
	if r.Echo {
		x.flags |= rs485RXDuringTX
	}
	return x
}

func (t *twin) setRS485(r *RS485) error {
	x := newRS485(r)
	var errno syscall.Errno
	err := t.conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCSRS485, uintptr(unsafe.Pointer(&x)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// drain waits until what was written is on the line. It asks the kernel every
// millisecond, as its own way to wait cannot be ended.
func (t *twin) drain(until time.Time) error {
	for {
		var left int
		var step error
		err := t.conn.Control(func(fd uintptr) { left, step = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		if err = errors.Join(err, step); err != nil || left == 0 {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d bytes are still to be sent: is flow control holding the line? %w", left, os.ErrDeadlineExceeded)
		}
		time.Sleep(time.Millisecond)
	}
}

// discard throws away what has arrived and was not read.
func (t *twin) discard() {
	t.conn.Control(func(fd uintptr) { unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH) })
}

func (t *twin) Read(p []byte) (int, error)         { return t.file.Read(p) }
func (t *twin) Write(p []byte) (int, error)        { return t.file.Write(p) }
func (t *twin) SetReadDeadline(d time.Time) error  { return t.file.SetReadDeadline(d) }
func (t *twin) SetWriteDeadline(d time.Time) error { return t.file.SetWriteDeadline(d) }

// Close implements port. What was not sent yet is thrown away: waiting for it
// would take as long as the other end likes.
func (t *twin) Close() error {
	t.once.Do(func() {
		t.conn.Control(func(fd uintptr) {
			unix.IoctlSetInt(int(fd), unix.TIOCNXCL, 0)
			unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
			if left, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err != nil || left > 0 {
				unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCOFLUSH)
			}
		})
		t.err = errors.Join(t.file.Close(), t.holder.Close())
	})
	return t.err
}

// explain says what to do about a port that cannot be opened.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("open serial port %s: %w: is the adapter plugged in? %s", name, err, present(byID))
	case errors.Is(err, fs.ErrPermission):
		group := "dialout"
		if st, statErr := os.Stat(name); statErr == nil {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Gid != 0 {
				group = strconv.Itoa(int(sys.Gid))
				if g, lookErr := user.LookupGroupId(group); lookErr == nil {
					group = g.Name
				}
			}
		}
		return fmt.Errorf("open serial port %s: %w: the gateway's user must be in the group %s (sudo usermod -aG %s USER, then start it again)", name, err, group, group)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("open serial port %s: %w: another program uses it; sudo lsof %s shows which", name, err, name)
	case errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("open serial port %s: %w: it is not a serial port", name, err)
	}
	return fmt.Errorf("open serial port %s: %w", name, err)
}

// present lists the adapters that are there.
func present(dir string) string {
	links, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(links) == 0 {
		return "There is none in " + dir + "."
	}
	return "There are " + strings.Join(links, ", ") + "."
}
