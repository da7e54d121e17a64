package gpio

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The GPIO character device's uAPI, version 2: include/uapi/linux/gpio.h of the
// kernel, since Linux 5.10. Its structs have the same layout on 32 and 64 bit,
// which the types below keep by having only fields of their natural alignment.

const (
	flagUsed          = 1 << 0
	flagActiveLow     = 1 << 1
	flagInput         = 1 << 2
	flagOutput        = 1 << 3
	flagEdgeRising    = 1 << 4
	flagEdgeFalling   = 1 << 5
	flagOpenDrain     = 1 << 6
	flagOpenSource    = 1 << 7
	flagPullUp        = 1 << 8
	flagPullDown      = 1 << 9
	flagBiasDisabled  = 1 << 10
	flagClockRealtime = 1 << 11
	flagClockHTE      = 1 << 12

	attrOutputValues = 2
	attrDebounce     = 3

	eventRisingEdge = 1
	eventSize       = 48 // of struct gpio_v2_line_event
)

type uapiChipInfo struct {
	name  [32]byte
	label [32]byte
	lines uint32
}

type uapiLineAttr struct {
	id    uint32
	_     uint32
	value uint64 // a union; the debounce period is its first 32 bits
}

type uapiConfigAttr struct {
	attr uapiLineAttr
	mask uint64
}

type uapiLineConfig struct {
	flags    uint64
	numAttrs uint32
	_        [5]uint32
	attrs    [10]uapiConfigAttr
}

type uapiLineRequest struct {
	offsets     [64]uint32
	consumer    [32]byte
	config      uapiLineConfig
	numLines    uint32
	eventBuffer uint32
	_           [5]uint32
	fd          int32
}

type uapiLineInfo struct {
	name     [32]byte
	consumer [32]byte
	offset   uint32
	_        uint32 // the number of attributes
	flags    uint64
	_        [10]uapiLineAttr
	_        [4]uint32
}

type uapiLineValues struct{ bits, mask uint64 }

// ioc is the kernel's _IOC for type 0xB4, in the encoding of arm, arm64, x86
// and riscv (mips and powerpc have another).
func ioc(dir, nr, size uintptr) uintptr { return dir<<30 | size<<16 | 0xB4<<8 | nr }

var (
	iocChipInfo  = ioc(2, 0x01, unsafe.Sizeof(uapiChipInfo{}))
	iocLineInfo  = ioc(3, 0x05, unsafe.Sizeof(uapiLineInfo{}))
	iocLine      = ioc(3, 0x07, unsafe.Sizeof(uapiLineRequest{}))
	iocSetConfig = ioc(3, 0x0D, unsafe.Sizeof(uapiLineConfig{}))
	iocGetValues = ioc(3, 0x0E, unsafe.Sizeof(uapiLineValues{}))
	iocSetValues = ioc(3, 0x0F, unsafe.Sizeof(uapiLineValues{}))
)

// ioctl calls the kernel through the file's own reference count, so that the
// descriptor cannot be closed and given to another file meanwhile. T has no
// pointers.
func ioctl[T any](c syscall.RawConn, request uintptr, arg *T) error {
	var errno unix.Errno
	err := c.Control(func(fd uintptr) {
		for {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(arg)))
			if errno != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// openChip opens a chip's character device; the caller closes it.
func openChip(path string) (*os.File, syscall.RawConn, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, c, nil
}

func lineInfoOf(c syscall.RawConn, offset uint32) (LineInfo, error) {
	u := uapiLineInfo{offset: offset}
	if err := ioctl(c, iocLineInfo, &u); err != nil {
		return LineInfo{}, err
	}
	return LineInfo{
		Name:     unix.ByteSliceToString(u.name[:]),
		Consumer: unix.ByteSliceToString(u.consumer[:]),
		Used:     u.flags&flagUsed != 0,
		Output:   u.flags&flagOutput != 0,
	}, nil
}
