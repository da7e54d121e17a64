//go:build vm

// Package tinyusb is an I2C bus for the tests in the machine of test/vm: a raw
// USB gadget, plugged into the machine itself, plays the adapter that the
// kernel's driver i2c-tiny-usb knows. The bus is a real /dev/i2c-N, its chips
// are models.
package tinyusb

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chip is a model as its bus sees it. A false result is no acknowledgement.
type Chip interface {
	Write(p []byte) bool
	Read(p []byte) bool
}

// Adapter is the gadget.
type Adapter struct {
	fd    int
	Done  chan struct{} // closed when the gadget has ended
	mu    sync.Mutex
	chips map[byte]Chip
	acked byte // the status of the last transfer, as the protocol has it
}

// Requests of /dev/raw-gadget, linux/usb/raw_gadget.h.
const (
	rawInit      = 1<<30 | 257<<16 | 'U'<<8 | 0
	rawRun       = 'U'<<8 | 1
	rawFetch     = 2<<30 | 8<<16 | 'U'<<8 | 2
	rawEP0Write  = 1<<30 | 8<<16 | 'U'<<8 | 3
	rawEP0Read   = 3<<30 | 8<<16 | 'U'<<8 | 4
	rawConfigure = 'U'<<8 | 9
	rawEP0Stall  = 'U'<<8 | 12
)

// Plug makes the adapter and plugs it in; the kernel then takes its time.
func Plug(t *testing.T) *Adapter {
	t.Helper()
	fd, err := unix.Open("/dev/raw-gadget", unix.O_RDWR, 0)
	if err != nil {
		t.Fatalf("%v: this test runs in the virtual machine only: go test -tags vm ./test/vm", err)
	}
	a := &Adapter{fd: fd, Done: make(chan struct{}), chips: map[byte]Chip{}}
	setup := make([]byte, 257) // driver, device, speed
	copy(setup, "dummy_udc")
	copy(setup[128:], "dummy_udc.0")
	setup[256] = 3 // high speed
	if _, err := a.ioctl(rawInit, setup); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ioctl(rawRun, nil); err != nil {
		t.Fatal(err)
	}
	go a.serve()
	return a
}

// Unplug ends the gadget: the kernel takes its bus away. The gadget itself ends
// with the next transfer.
func (a *Adapter) Unplug() {
	unix.Close(a.fd)
}

func (a *Adapter) ioctl(request uintptr, b []byte) (int, error) {
	var p unsafe.Pointer
	if b != nil {
		p = unsafe.Pointer(&b[0])
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(a.fd), request, uintptr(p))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// serve answers the host's requests until the gadget is closed.
func (a *Adapter) serve() {
	// A signal, as Go sends them to its threads, would lose a request.
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
	defer close(a.Done)
	for {
		event := make([]byte, 8+64) // type, length, data
		binary.NativeEndian.PutUint32(event[4:], 64)
		if _, err := a.ioctl(rawFetch, event); err != nil {
			return
		}
		if binary.NativeEndian.Uint32(event) == 2 { // a control request
			a.control(event[8:16])
		}
	}
}

func (a *Adapter) send(p []byte, limit int) {
	p = p[:min(len(p), limit)]
	b := make([]byte, 8+max(1, len(p)))
	binary.NativeEndian.PutUint32(b[4:], uint32(len(p)))
	copy(b[8:], p)
	a.ioctl(rawEP0Write, b)
}

func (a *Adapter) receive(n int) []byte {
	b := make([]byte, 8+max(1, n))
	binary.NativeEndian.PutUint32(b[4:], uint32(n))
	a.ioctl(rawEP0Read, b)
	return b[8 : 8+n]
}

// control answers one request: those of every USB device, then those of
// drivers/i2c/busses/i2c-tiny-usb.c.
func (a *Adapter) control(s []byte) {
	kind, request := s[0], s[1]
	value, index, length := binary.LittleEndian.Uint16(s[2:]), binary.LittleEndian.Uint16(s[4:]), int(binary.LittleEndian.Uint16(s[6:]))
	if kind&0x60 == 0 {
		switch {
		case request == 6 && value>>8 == 1: // vendor 0x0403, product 0xc631
			a.send([]byte{18, 1, 0, 2, 0xFF, 0, 0, 64, 0x03, 0x04, 0x31, 0xC6, 0, 1, 0, 0, 0, 1}, length)
		case request == 6 && value>>8 == 2:
			a.send([]byte{9, 2, 18, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 0, 0xFF, 0, 0, 0}, length)
		case request == 9:
			a.ioctl(rawConfigure, nil)
			a.receive(0)
		case request == 11:
			a.receive(0)
		default:
			a.ioctl(rawEP0Stall, nil)
		}
		return
	}
	switch {
	case request == 1: // what it can: I2C, SMBus over it
		a.send([]byte{0x01, 0x00, 0xFF, 0x0E}, length)
	case request == 2: // the clock
		a.receive(0)
	case request == 3:
		a.send([]byte{a.acked}, length)
	case request&^3 == 4: // a transfer, with or without begin and end
		a.transfer(byte(index), kind&0x80 != 0, length)
	default:
		a.ioctl(rawEP0Stall, nil)
	}
}

func (a *Adapter) transfer(addr byte, in bool, n int) {
	p := make([]byte, n)
	if !in {
		p = a.receive(n)
	}
	a.acked = 2
	a.mu.Lock()
	// Without data, as a quick write has none, the address is all that is there
	// to acknowledge.
	if m := a.chips[addr]; m != nil && (n == 0 || in && m.Read(p) || !in && m.Write(p)) {
		a.acked = 1
	}
	a.mu.Unlock()
	if in {
		a.send(p, n)
	}
}

// Set puts a chip on the bus, or takes it off when it is nil.
func (a *Adapter) Set(addr byte, m Chip) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m == nil {
		delete(a.chips, addr)
	} else {
		a.chips[addr] = m
	}
}

// Do does something with the chips while the bus is idle.
func (a *Adapter) Do(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// Number is that of the kernel's bus, and whether there is one.
func Number() (int, bool) {
	names, _ := filepath.Glob("/sys/class/i2c-dev/i2c-*/name")
	for _, path := range names {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "tiny-usb") {
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "i2c-"))
		if _, statErr := os.Stat("/dev/i2c-" + strconv.Itoa(n)); err == nil && statErr == nil {
			return n, true
		}
	}
	return 0, false
}

// Await waits until the kernel has the bus, or has it no more.
func Await(t *testing.T, there bool) {
	t.Helper()
	Eventually(t, "the bus is there: "+strconv.FormatBool(there), func() bool {
		_, have := Number()
		return have == there
	})
}

// Eventually waits until something is so.
func Eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for start := time.Now(); !so(); unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) {
		if time.Since(start) > time.Minute {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}
