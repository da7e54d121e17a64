package i2c

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's uAPI: include/uapi/linux/i2c-dev.h and i2c.h.
const (
	iocSlave = 0x0703
	iocFuncs = 0x0705
	iocSMBus = 0x0720

	funcQuick    = 0x00010000
	funcReadByte = 0x00020000

	smbusWrite = 0
	smbusRead  = 1
	smbusQuick = 0
	smbusByte  = 1
)

type smbusCall struct {
	readWrite byte
	command   byte
	size      uint32
	data      unsafe.Pointer
}

// Probe asks every address of a bus whether somebody is there, each with the
// access that does the least harm. path is the bus's device. It takes some
// hundredths of a second; ctx ends it between two addresses, and with what is
// known until then.
func Probe(ctx context.Context, path string) ([]Answer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	var can uintptr // an unsigned long
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), iocFuncs, uintptr(unsafe.Pointer(&can))); errno != 0 {
		return nil, fmt.Errorf("%s is no I2C bus: %w", path, errno)
	}
	var all []Answer
	for a := Address(firstAddress); a <= lastAddress; a++ {
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		switch err := unix.IoctlSetInt(fd, iocSlave, int(a)); {
		case errors.Is(err, unix.EBUSY):
			all = append(all, Answer{Address: a, Kernel: true})
			continue
		case err != nil:
			return all, fmt.Errorf("%s, address %v: %w", path, a, err)
		}
		there, err := ask(fd, a, can)
		if err != nil {
			return all, fmt.Errorf("%s hangs at address %v: SDA or SCL may be held low: %w", path, a, err)
		}
		if there {
			all = append(all, Answer{Address: a})
		}
	}
	return all, nil
}

// ask asks one address. The error is of a bus on which nothing can be asked.
func ask(fd int, a Address, can uintptr) (bool, error) {
	var data [34]byte // union i2c_smbus_data
	c := smbusCall{readWrite: smbusWrite, size: smbusQuick}
	switch {
	case can&funcReadByte != 0 && (readsByte(a) || can&funcQuick == 0):
		c = smbusCall{readWrite: smbusRead, size: smbusByte, data: unsafe.Pointer(&data)}
	case can&funcQuick == 0 || readsByte(a):
		return false, nil // it cannot be asked without harm
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), iocSMBus, uintptr(unsafe.Pointer(&c)))
	if errno == unix.ETIMEDOUT {
		return false, errno
	}
	return errno == 0, nil
}
