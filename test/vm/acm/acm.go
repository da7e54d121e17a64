//go:build vm

// Package acm is a USB serial adapter for the tests in the machine of test/vm:
// a gadget of the kernel's, plugged into the machine itself. The driver's end
// is a ttyACM, as of any Arduino, which /dev/serial/by-id has a link to; the
// device's end is a ttyGS.
package acm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/test/vm/tinyusb"
)

// Adapter is the gadget. There may be one at a time that is plugged in.
type Adapter struct {
	t   *testing.T
	dir string
	// ByID is the link to its port while it is plugged in.
	ByID string
}

// New makes an adapter with a serial number of its own, unplugged.
func New(t *testing.T, serial string) *Adapter {
	t.Helper()
	dir := "/sys/kernel/config/usb_gadget/" + serial
	a := &Adapter{t, dir, "/dev/serial/by-id/usb-Postern_Test_adapter_" + serial + "-if00"}
	for _, d := range []string{dir, dir + "/strings/0x409", dir + "/functions/acm.usb0", dir + "/configs/c.1"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatalf("%v: this test runs in the virtual machine only: go test -tags vm ./test/vm", err)
		}
	}
	a.write("idVendor", "0x1d6b")
	a.write("idProduct", "0x0104")
	a.write("strings/0x409/manufacturer", "Postern")
	a.write("strings/0x409/product", "Test adapter")
	a.write("strings/0x409/serialnumber", serial)
	if err := os.Symlink(dir+"/functions/acm.usb0", dir+"/configs/c.1/acm.usb0"); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *Adapter) write(name, value string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(value), 0); err != nil {
		a.t.Fatal(err)
	}
}

// Plug puts the adapter in and returns its port's name, which is not always
// the same.
func (a *Adapter) Plug() (port string) {
	a.t.Helper()
	a.write("UDC", "dummy_udc.1")
	tinyusb.Eventually(a.t, "there is a ttyACM and the link to it", func() bool {
		to, err := filepath.EvalSymlinks(a.ByID)
		port = to
		return err == nil
	})
	return port
}

// Unplug pulls it out, and returns at once.
func (a *Adapter) Unplug() { a.write("UDC", "\n") }

// Gone waits until the kernel has taken the port away, which is a moment after
// it hung up.
func (a *Adapter) Gone(port string) {
	a.t.Helper()
	tinyusb.Eventually(a.t, port+" is gone", func() bool {
		_, err := os.Stat(port)
		_, linkErr := os.Lstat(a.ByID)
		return err != nil && linkErr != nil
	})
}

// Far opens the device's end.
func (a *Adapter) Far() *os.File {
	a.t.Helper()
	n, err := os.ReadFile(a.dir + "/functions/acm.usb0/port_num")
	if err != nil {
		a.t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/ttyGS"+strings.TrimSpace(string(n)), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		a.t.Fatal(err)
	}
	var step error
	err = conn.Control(func(fd uintptr) {
		var term *unix.Termios
		if term, step = unix.IoctlGetTermios(int(fd), unix.TCGETS); step == nil {
			term.Iflag, term.Oflag, term.Lflag = 0, 0, 0
			step = unix.IoctlSetTermios(int(fd), unix.TCSETS, term)
		}
	})
	if err != nil || step != nil {
		a.t.Fatal(err, step)
	}
	return f
}
