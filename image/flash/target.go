package flash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"
)

// alignment is what direct I/O wants of memory: no disk has larger sectors.
const alignment = 4096

// aligned is a buffer that direct I/O takes.
func aligned(n int) []byte {
	b := make([]byte, n+alignment)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (alignment - 1))
	return b[skip : skip+n : skip+n]
}

// File is a plain file as a target.
type File struct{ *os.File }

// CreateFile opens a plain file to be written, with the image's size; what is in
// it stays, for a write that goes on.
func CreateFile(path string, size int64) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the file: %w", err)
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("make room for the image: %w", err), f.Close())
	}
	return &File{f}, nil
}

// Sync has the file written, and read from the disk the next time.
func (f *File) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	dropCache(f.File)
	return nil
}

// device is a disk, opened so that the kernel's memory is not between: its
// reads and writes are whole sectors.
type device struct {
	*os.File
	sector int64
}

func (d *device) whole(n int) int {
	return int((int64(n) + d.sector - 1) / d.sector * d.sector)
}

// WriteAt writes zeros after the image's end, up to the end of the sector.
func (d *device) WriteAt(b []byte, at int64) (int, error) {
	n := d.whole(len(b))
	if n == len(b) {
		return d.File.WriteAt(b, at)
	}
	full := aligned(n)
	copy(full, b)
	m, err := d.File.WriteAt(full, at)
	return min(m, len(b)), err
}

// ReadAt reads whole sectors.
func (d *device) ReadAt(b []byte, at int64) (int, error) {
	n := d.whole(len(b))
	if n == len(b) {
		return d.File.ReadAt(b, at)
	}
	full := aligned(n)
	m, err := d.File.ReadAt(full, at)
	if m >= len(b) {
		err = nil
	}
	return copy(b, full[:m]), err
}

// OpenTarget is a target that is closed after use.
type OpenTarget interface {
	Target
	io.Closer
}
