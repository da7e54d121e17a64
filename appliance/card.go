//go:build linux

package appliance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/ext4"
	"github.com/postern-iot/postern/image/layout"
)

// card is the disk that the appliance lives on.
type card struct {
	name  string // of its device: "mmcblk0"
	table layout.Table
	size  int64
	boot  sync.Mutex // held while a partition is mounted at /boot
}

// cardWait bounds the search for the card: USB takes some seconds.
const cardWait = 20 * time.Second

// findCard waits for the card, and spreads its partitions when it starts for
// the first time.
func findCard(logf func(string, ...any), pet func()) (*card, error) {
	for end := time.Now().Add(cardWait); ; time.Sleep(100 * time.Millisecond) {
		pet()
		names, _ := filepath.Glob("/sys/class/block/*")
		for _, path := range names {
			if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
				continue
			}
			c := &card{name: filepath.Base(path)}
			if c.read() != nil || !c.table.Ours() {
				continue
			}
			if err := c.spread(logf); err != nil {
				logf("the card's partitions stay as they are: %v", err)
			}
			return c, c.waitFor(layout.Data, end)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("no disk with an appliance's partitions after %v", cardWait)
		}
	}
}

// read reads the card's table and its size.
func (c *card) read() error {
	f, err := os.Open("/dev/" + c.name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, c.table[:]); err != nil {
		return err
	}
	c.size, err = f.Seek(0, io.SeekEnd)
	return err
}

// spread makes slot B and the room for data: one sector is written, so that a
// power cut leaves the old table or the new one.
func (c *card) spread(logf func(string, ...any)) error {
	table := c.table
	if !table.Spread(c.size, ext4.MaxGrown) {
		return nil
	}
	f, err := os.OpenFile("/dev/"+c.name, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(table[:], 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// Somebody may look at the partitions just now.
	for range 20 {
		if err = unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("read the new partitions: %w", err)
	}
	c.table = table
	_, data := table.Partition(layout.Data)
	logf("the card of %d MB has room for %d MB of data and for updates", c.size>>20, data>>20)
	return nil
}

// device is a partition's device.
func (c *card) device(n int) string {
	separator := ""
	if last := c.name[len(c.name)-1]; last >= '0' && last <= '9' {
		separator = "p"
	}
	return "/dev/" + c.name + separator + strconv.Itoa(n)
}

func (c *card) waitFor(n int, end time.Time) error {
	for {
		if _, err := os.Stat(c.device(n)); err == nil {
			return nil
		} else if time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mountData mounts the data. The kernel replays the journal when the power was
// cut.
func (c *card) mountData(at string) error {
	if err := unix.Mount(c.device(layout.Data), at, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount the data: %w", err)
	}
	return nil
}

// ioctlResize is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64).
const ioctlResize = 1<<30 | 8<<16 | 'f'<<8 | 16

// grow makes the data's file system as large as its partition.
func (c *card) grow(logf func(string, ...any)) {
	_, size := c.table.Partition(layout.Data)
	blocks := uint64(size / 4096)
	f, err := os.Open(dataDir)
	if err != nil {
		logf("make the data larger: %v", err)
		return
	}
	defer f.Close()
	var before, after unix.Statfs_t
	_ = unix.Fstatfs(int(f.Fd()), &before)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlResize, uintptr(unsafe.Pointer(&blocks))); e != 0 {
		logf("make the data larger: %v", e)
		return
	}
	if unix.Fstatfs(int(f.Fd()), &after) == nil && after.Blocks != before.Blocks {
		logf("the data has %d MB now", int64(after.Blocks)*int64(after.Bsize)>>20)
	}
}

// restartWith restarts the machine and tells the firmware how.
func restartWith(how string) error {
	arg, err := unix.BytePtrFromString(how)
	if err != nil {
		return err
	}
	_, _, e := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(arg)), 0, 0)
	return e
}
