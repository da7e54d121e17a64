//go:build vm

package i2c

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
)

// These tests run as root in the machine of test/vm. A raw USB gadget, plugged
// into the machine itself, plays the adapter that the kernel's driver
// i2c-tiny-usb knows: the bus is a real /dev/i2c-N, its chips are the models.

// adapter is the gadget.
type adapter struct {
	fd    int
	done  chan struct{}
	mu    sync.Mutex
	chips map[Address]model
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

func plug(t *testing.T) *adapter {
	t.Helper()
	fd, err := unix.Open("/dev/raw-gadget", unix.O_RDWR, 0)
	if err != nil {
		t.Fatalf("%v: this test runs in the virtual machine only: go test -tags vm ./test/vm", err)
	}
	a := &adapter{fd: fd, done: make(chan struct{}), chips: map[Address]model{}}
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

// unplug ends the gadget: the kernel takes its bus away.
func (a *adapter) unplug() {
	unix.Close(a.fd)
}

func (a *adapter) ioctl(request uintptr, b []byte) (int, error) {
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
func (a *adapter) serve() {
	// A signal, as Go sends them to its threads, would lose a request.
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
	defer close(a.done)
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

func (a *adapter) send(p []byte, limit int) {
	p = p[:min(len(p), limit)]
	b := make([]byte, 8+max(1, len(p)))
	binary.NativeEndian.PutUint32(b[4:], uint32(len(p)))
	copy(b[8:], p)
	a.ioctl(rawEP0Write, b)
}

func (a *adapter) receive(n int) []byte {
	b := make([]byte, 8+max(1, n))
	binary.NativeEndian.PutUint32(b[4:], uint32(n))
	a.ioctl(rawEP0Read, b)
	return b[8 : 8+n]
}

// control answers one request: those of every USB device, then those of
// drivers/i2c/busses/i2c-tiny-usb.c.
func (a *adapter) control(s []byte) {
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
		a.transfer(Address(index), kind&0x80 != 0, length)
	default:
		a.ioctl(rawEP0Stall, nil)
	}
}

func (a *adapter) transfer(addr Address, in bool, n int) {
	a.mu.Lock()
	m := a.chips[addr]
	a.mu.Unlock()
	a.acked = 2
	if in {
		p := make([]byte, n)
		if m != nil && m.read(p) {
			a.acked = 1
		}
		a.send(p, n)
		return
	}
	if p := a.receive(n); m != nil && m.write(p) {
		a.acked = 1
	}
}

func (a *adapter) set(addr Address, m model) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m == nil {
		delete(a.chips, addr)
	} else {
		a.chips[addr] = m
	}
}

// until waits until the device has said it.
func (r *running) until(what string) {
	r.t.Helper()
	for start := time.Now(); ; unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) {
		r.mu.Lock()
		said := strings.Join(r.said, " ")
		if strings.Contains(said, what) {
			r.said = nil
		}
		r.mu.Unlock()
		if strings.Contains(said, what) {
			return
		}
		if time.Since(start) > 10*time.Second {
			r.t.Fatalf("it does not say %q, but %q", what, said)
		}
	}
}

func awaitBus(t *testing.T, there bool) {
	t.Helper()
	for start := time.Now(); ; unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) {
		_, err := busNumber("/", "tiny-usb")
		if (err == nil) == there {
			if found, _ := filepath.Glob("/dev/i2c-*"); (len(found) > 0) == there {
				return
			}
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("the bus is there: %v", !there)
		}
	}
}

func TestVMBus(t *testing.T) {
	a := plug(t)
	a.set(0x76, newBoschModel(true))
	a.set(0x44, &sht3xModel{t: 0x6666, h: 0x7333})
	a.set(0x18, newMCP9808Model())
	awaitBus(t, true)
	b := bench{t, Drivers(gpio.NewChips())}
	fast := func(c *Common) { c.Bus, c.Interval = "tiny-usb", 10*time.Millisecond }
	open := func(typ string) devices.Device {
		return b.open(typ, func(params any) {
			switch p := params.(type) {
			case *BME280Params:
				fast(&p.Common)
			case *SHT3xParams:
				fast(&p.Common)
			case *MCP9808Params:
				fast(&p.Common)
			}
		})
	}
	air, house, cold := start(t, open("bme280")), start(t, open("sht3x")), start(t, open("mcp9808"))
	air.until("ready temperature=25.08 pressure=100653.27 humidity=")
	house.until("ready temperature=25 humidity=45")
	cold.until("ready temperature=25")

	// A chip that goes is told from a bus that goes; the neighbours go on.
	a.set(0x76, nil)
	if err := <-air.result; err == nil || !isNACK(err) || !strings.Contains(err.Error(), "nothing answers at address 0x76") {
		t.Errorf("no chip: %v", err)
	}
	house.until("temperature=25 humidity=45")
	a.set(0x76, newBoschModel(true))
	air = start(t, open("bme280"))
	air.until("pressure=100653.27")

	a.unplug()
	for name, r := range map[string]*running{"air": air, "house": house, "cold": cold} {
		select {
		case err := <-r.result:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			t.Logf("%s: %v", name, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not notice", name)
		}
	}
	awaitBus(t, false)
	if err := <-start(t, open("sht3x")).result; err == nil || !strings.Contains(err.Error(), "no I2C bus is named") {
		t.Errorf("no adapter: %v", err)
	}
	if _, err := openBus(defaultBus); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bus: %v", err)
	}
	<-a.done

	again := plug(t)
	again.set(0x44, &sht3xModel{t: 0x6666, h: 0x7333})
	awaitBus(t, true)
	house = start(t, open("sht3x"))
	house.until("temperature=25 humidity=45")
	// The gadget's thread sleeps in the kernel until there is a request: it
	// notices that its file is closed only while somebody measures.
	again.unplug()
	<-again.done
	if err := <-house.result; err == nil {
		t.Error("no error after the adapter was unplugged again")
	}
}
