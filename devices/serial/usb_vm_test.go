//go:build vm

package serial

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests run as root in the machine of test/vm, whose kernel has a USB
// serial gadget plugged into itself: the driver's end is a ttyACM, as of any
// Arduino, and the device's end is /dev/ttyGS0.

// adapter is the gadget.
type adapter struct{ t *testing.T }

const gadget = "/sys/kernel/config/usb_gadget/postern"

func newAdapter(t *testing.T) adapter {
	t.Helper()
	a := adapter{t}
	for _, dir := range []string{gadget, gadget + "/functions/acm.usb0", gadget + "/configs/c.1"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatalf("%v: this test runs in the virtual machine only: go test -tags vm ./test/vm", err)
		}
	}
	a.write("idVendor", "0x1d6b")
	a.write("idProduct", "0x0104")
	if err := os.Symlink(gadget+"/functions/acm.usb0", gadget+"/configs/c.1/acm.usb0"); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a adapter) write(name, value string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(gadget, name), []byte(value), 0); err != nil {
		a.t.Fatal(err)
	}
}

// plug puts the adapter in and returns its port's name, which is not always
// the same.
func (a adapter) plug() string {
	a.t.Helper()
	a.write("UDC", "dummy_udc.1")
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		if names, _ := filepath.Glob("/dev/ttyACM*"); len(names) == 1 {
			return names[0]
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	a.t.Fatal("no ttyACM appears")
	return ""
}

func (a adapter) unplug() { a.write("UDC", "\n") }

// far opens the device's end.
func (a adapter) far() *os.File {
	a.t.Helper()
	f, err := os.OpenFile("/dev/ttyGS0", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		a.t.Fatal(err)
	}
	conn.Control(func(fd uintptr) {
		var term *unix.Termios
		if term, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			term.Iflag, term.Oflag, term.Lflag = 0, 0, 0
			err = unix.IoctlSetTermios(int(fd), unix.TCSETS, term)
		}
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return f
}

func TestVMUnplug(t *testing.T) {
	const rounds = 50
	a := newAdapter(t)
	before := 0
	var noticed, back time.Duration
	for round := range rounds {
		plugged := time.Now()
		name := a.plug()
		far := a.far()
		p := with(formatCSV, Field{Name: "n", Type: "int"})
		p.Port, p.Baud = name, 115200
		dev, o, stop, result := run(t, p)
		for ready := false; !ready; {
			select {
			case <-o.news:
				ready = true
			case err := <-result: // the node is there a moment before the port
				stop()
				if time.Since(plugged) > 5*time.Second {
					t.Fatalf("round %d: %v", round, err)
				}
				unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
				dev, o, stop, result = run(t, p)
			}
		}
		lines := bufio.NewReader(far)
		fmt.Fprintf(far, "%d\n", round)
		o.until(t, fmt.Sprintf("n=%d", round))
		back = max(back, time.Since(plugged))
		if _, err := call(t, dev, "write", []byte("hello")); err != nil {
			t.Fatalf("write: %v", err)
		}
		far.SetReadDeadline(time.Now().Add(5 * time.Second))
		if line, err := lines.ReadString('\n'); err != nil || line != "hello\n" {
			t.Fatalf("the device got %q, %v", line, err)
		}

		unplugged := time.Now()
		a.unplug()
		err := await(t, result)
		noticed = max(noticed, time.Since(unplugged))
		if err == nil || !strings.Contains(err.Error(), "unplugged") || !strings.Contains(err.Error(), name) {
			t.Fatalf("Run: %v", err)
		}
		stop()
		far.Close()
		// The kernel takes the node away a moment after it hung up.
		for start := time.Now(); ; unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) {
			if _, err := os.Stat(name); err != nil {
				break
			}
			if time.Since(start) > 5*time.Second {
				t.Fatalf("%s is still there", name)
			}
		}
		if round == 0 {
			before = descriptors(t)
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors after the first round, %d after the last", before, after)
	}
	t.Logf("%d rounds: unplugging noticed within %v, readings back within %v of plugging in", rounds, noticed.Round(time.Millisecond), back.Round(time.Millisecond))
	if noticed > time.Second || back > 3*time.Second {
		t.Error("too slow")
	}

	p := textParams()
	p.Port = "/dev/ttyACM0"
	if _, err := openPort(&p.Line); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "plugged in") {
		t.Errorf("open without an adapter: %v", err)
	}
}
