package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/devices"
)

// terminal is a pty pair: the device opens the slave by its name, the test
// plays the other end.
type terminal struct {
	master *os.File
	name   string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	name := slave.Name()
	slave.Close()
	t.Cleanup(func() { master.Close() })
	return &terminal{master: master, name: name}
}

func (x *terminal) send(t *testing.T, s string) {
	t.Helper()
	if _, err := x.master.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, p Params) (dev *device, o *outlet, stop context.CancelFunc, result chan error) {
	t.Helper()
	dev, err := newDevice(p, func() (port, error) { return openPort(&p.Line) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o, result = newOutlet(), make(chan error, 1)
	go func() { result <- dev.Run(ctx, o) }()
	return dev, o, cancel, result
}

func await(t *testing.T, result chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not return")
		return nil
	}
}

func TestTerminal(t *testing.T) {
	x := newTerminal(t)
	p := with(formatCSV, Field{Name: "a"}, Field{Name: "b"})
	p.Port, p.Baud, p.DataBits, p.Parity, p.StopBits = x.name, 57600, 7, "even", 2
	dev, o, stop, result := run(t, p)
	o.until(t, "ready")
	x.send(t, "1,2\r\n3,")
	x.send(t, "4\n")
	if have := o.until(t, "b=4"); have != "a=1 b=2 a=3 b=4" {
		t.Errorf("%q", have)
	}

	// tarm has set the line, and it stays set.
	f, err := os.OpenFile(x.name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err == nil { // as root, whom TIOCEXCL lets through
		term, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		// A pty keeps CS8 and no parity whatever it is told.
		if term.Cflag&unix.CBAUD != unix.B57600 || term.Cflag&unix.CSTOPB == 0 || term.Lflag != 0 || term.Oflag != 0 {
			t.Errorf("termios %+v", term)
		}
		f.Close()
	}
	_, err = openPort(&p.Line)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), x.name) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a second open: %v", err)
	}

	if n, err := call(t, dev, "write", []byte("go")); err != nil || n != int64(3) {
		t.Errorf("write: %v, %v", n, err)
	}
	buf := make([]byte, 100)
	if n, err := x.master.Read(buf); err != nil || string(buf[:n]) != "go\n" {
		t.Errorf("the other end got %q, %v", buf[:n], err)
	}
	answered := make(chan error, 1)
	go func() {
		n, err := x.master.Read(buf)
		if err == nil && string(buf[:n]) == "ask\n" {
			_, err = x.master.Write([]byte("5,6\n"))
		}
		answered <- err
	}()
	if v, err := call(t, dev, "transact", []byte("ask")); err != nil || v != "5,6" {
		t.Errorf("transact: %v, %v", v, err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	stop()
	if err := await(t, result); err != nil {
		t.Error(err)
	}
	// It is free again.
	again, err := openPort(&p.Line)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	again.Close()
}

func TestTerminalNoise(t *testing.T) {
	x := newTerminal(t)
	p := with(formatJSON, Field{Name: "a"})
	p.Port = x.name
	_, o, stop, result := run(t, p)
	o.until(t, "ready")
	x.send(t, `{"a":1}`+"\n")
	o.until(t, "a=1")
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i*7 + i>>8)
	}
	go x.master.Write(append(noise, '\n'))
	o.until(t, "degraded")
	for i := 0; ; i++ { // the first may be the end of the noise
		x.send(t, fmt.Sprintf("{\"a\":%d}\n", 100+i))
		if i == 3 {
			break
		}
	}
	o.until(t, "a=103")
	stop()
	if err := await(t, result); err != nil {
		t.Error(err)
	}
}

func TestUnplug(t *testing.T) {
	before := descriptors(t)
	for range 50 {
		x := newTerminal(t)
		p := textParams()
		p.Port = x.name
		dev, o, stop, result := run(t, p)
		o.until(t, "ready")
		x.send(t, "a\n")
		o.until(t, "line=a")
		start := time.Now()
		x.master.Close()
		err := await(t, result)
		if err == nil || !strings.Contains(err.Error(), "unplugged") || !strings.Contains(err.Error(), x.name) {
			t.Fatalf("Run: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("noticed after %v", took)
		}
		if _, err := call(t, dev, "write", []byte("x")); err == nil {
			t.Error("write to a port that is gone")
		}
		stop()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A device that holds off the line ends a write, and Close does not wait for
// what was not sent.
func TestStuckWriteEnds(t *testing.T) {
	x := newTerminal(t)
	p := textParams()
	p.Port, p.Baud, p.MaxLine = x.name, 4_000_000, maxMaxLine
	dev, o, stop, result := run(t, p)
	o.until(t, "ready")
	if _, err := call(t, dev, "write", make([]byte, maxMaxLine)); err == nil || !strings.Contains(err.Error(), "wamp.error.timeout") {
		t.Errorf("write: %v", err)
	}
	start := time.Now()
	stop()
	if err := await(t, result); err != nil || time.Since(start) > time.Second {
		t.Errorf("Run: %v after %v", err, time.Since(start))
	}
}

// The safe state goes to the port that is open, or to one that is opened for
// it, and is on the line when that is closed again.
func TestSafeStateOnTerminal(t *testing.T) {
	x := newTerminal(t)
	p := textParams()
	p.Port, p.Safe, p.Delimiter = x.name, "OFF", "crlf"
	dev, o, stop, result := run(t, p)
	got := func(when string) {
		t.Helper()
		buf := make([]byte, 64)
		n, err := x.master.Read(buf)
		for errors.Is(err, unix.EIO) { // nobody has the other end open yet
			n, err = x.master.Read(buf)
		}
		if err != nil || string(buf[:n]) != "OFF\r\n" {
			t.Errorf("%s: %q, %v", when, buf[:n], err)
		}
	}
	o.until(t, "ready")
	actuator, ok := dev.guard().(devices.Releaser)
	if !ok {
		t.Fatal("with a safe state it is no actuator")
	}
	if err := actuator.Release(); err != nil {
		t.Error(err)
	}
	got("released")
	stop()
	if err := await(t, result); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- dev.Halt() }() // a terminal's end takes it only when it is read
	got("halted")
	if err := <-done; err != nil {
		t.Error(err)
	}
	x.master.Close()
	if err := dev.Halt(); err == nil || !strings.Contains(err.Error(), "the safe state is not sent") {
		t.Errorf("without the port: %v", err)
	}
	p.Safe = ""
	plain, err := newDevice(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := plain.guard().(devices.Releaser); ok || plain.Halt() != nil {
		t.Error("without a safe state it is an actuator")
	}
}

// struct serial_rs485 is what the kernel's include/uapi/linux/serial.h says: 32
// bytes, of which the first three words are the flags and the two delays in
// milliseconds.
func TestRS485(t *testing.T) {
	if size := unsafe.Sizeof(rs485{}); size != 32 {
		t.Errorf("the structure has %d bytes", size)
	}
	for _, c := range []struct {
		r    RS485
		want [3]uint32
	}{
		{RS485{SendLevel: "high"}, [3]uint32{0b00011, 0, 0}},
		{RS485{SendLevel: "low"}, [3]uint32{0b00101, 0, 0}},
		{RS485{SendLevel: "high", Before: 2 * time.Millisecond, After: 5 * time.Millisecond, Echo: true}, [3]uint32{0b10011, 2, 5}},
	} {
		x := newRS485(&c.r)
		if have := [3]uint32(unsafe.Slice((*uint32)(unsafe.Pointer(&x)), 8)); have != c.want {
			t.Errorf("%+v: %v, want %v", c.r, have, c.want)
		}
	}
	x := newTerminal(t)
	p := textParams()
	p.Port, p.RS485 = x.name, &RS485{SendLevel: "high"}
	if _, err := openPort(&p.Line); !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "leave rs485 away") {
		t.Errorf("a terminal that cannot: %v", err)
	}
	p.RS485 = nil
	free, err := openPort(&p.Line)
	if err != nil {
		t.Fatalf("the port is not free again: %v", err)
	}
	free.Close()
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := textParams()
	p.Port = "/dev/does-not-exist"
	if _, err := openPort(&p.Line); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), p.Port) || !strings.Contains(err.Error(), "/dev/serial/by-id") {
		t.Errorf("missing: %v", err)
	}
	p.Port = plain
	if _, err := openPort(&p.Line); !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "not a serial port") {
		t.Errorf("a file: %v", err)
	}
	if err := explain(plain, fs.ErrPermission); !strings.Contains(err.Error(), "in the group") {
		t.Errorf("no access: %v", err)
	}
	if have := present(dir); have != "There are "+plain+"." {
		t.Errorf("%q", have)
	}
	if have := present(filepath.Join(dir, "none")); !strings.HasPrefix(have, "There is none in ") {
		t.Errorf("%q", have)
	}
	if err := explain("/dev/ttyX", syscall.EINVAL); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "/dev/ttyX") {
		t.Errorf("other: %v", err)
	}
}
