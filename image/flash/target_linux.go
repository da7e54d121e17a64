package flash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// dropCache asks the kernel to forget the file's pages; it may decline.
func dropCache(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// OpenDisk opens a disk for writing, alone: the kernel refuses one that is in
// use. The disk must still be the one that d describes.
func (s System) OpenDisk(d *Disk) (OpenTarget, error) {
	return s.openDisk(d, unix.O_RDWR|unix.O_EXCL)
}

// ReadDisk opens a disk to compare it.
func (s System) ReadDisk(d *Disk) (OpenTarget, error) { return s.openDisk(d, unix.O_RDONLY) }

func (s System) openDisk(d *Disk, flags int) (OpenTarget, error) {
	path := s.path(d.Path)
	fd, err := unix.Open(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%s is in use by the kernel: something on it is mounted or opened", d.Path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be opened: it needs root; put sudo before the command", d.Path)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", d.Path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := s.still(d, fd); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &device{File: f, sector: d.Sector}, nil
}

// still says with an error that what was opened is another disk, or that its
// medium was changed, since it was described.
func (s System) still(d *Disk, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", d.Path, err)
	}
	now, err := s.Find(d.Path)
	if err != nil {
		return err
	}
	opened := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || opened != d.device || !d.Same(now) {
		return fmt.Errorf("%s is not the disk any more that it was: %q then, %q now", d.Path, d.Title(), now.Title())
	}
	return nil
}

// Unmount unmounts what is mounted of a disk.
func (s System) Unmount(d *Disk) error {
	for i := len(d.Mounts) - 1; i >= 0; i-- { // sorted: what is within comes after
		if err := unix.Unmount(s.path(d.Mounts[i]), unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", d.Mounts[i], err)
		}
	}
	return nil
}

// Reread tells the kernel that the partition table is another. It is not an
// error when it does not: pulling the card out does the same.
func Reread(t OpenTarget) {
	if d, ok := t.(*device); ok {
		_ = unix.IoctlSetInt(int(d.Fd()), unix.BLKRRPART, 0)
	}
}
