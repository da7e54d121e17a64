//go:build linux

package appliance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/layout"
	"github.com/postern-iot/postern/update"
)

// withPartition mounts a FAT partition for the time of a function.
func (c *card) withPartition(n int, do func(dir string) error) error {
	const dir = "/boot"
	c.boot.Lock()
	defer c.boot.Unlock()
	if err := unix.Mount(c.device(n), dir, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_SYNCHRONOUS, ""); err != nil {
		return fmt.Errorf("mount partition %d: %w", n, err)
	}
	err := do(dir)
	unix.Sync()
	return errors.Join(err, unix.Unmount(dir, 0))
}

// overwrite replaces a file's bytes by as many others, in place and at once.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != int64(len(data)) {
		err = fmt.Errorf("%s has %d bytes, and would have %d", path, info.Size(), len(data))
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// bootSlot is the slot that boots when nothing is tried.
func (c *card) bootSlot() (slot int, err error) {
	err = c.withPartition(layout.Boot, func(dir string) error {
		text, err := os.ReadFile(filepath.Join(dir, "autoboot.txt"))
		if err == nil {
			slot, err = layout.ParseAutoboot(text)
		}
		return err
	})
	return slot, err
}

// setBootSlot says which slot boots from now on.
func (c *card) setBootSlot(slot int) error {
	return c.withPartition(layout.Boot, func(dir string) error {
		return overwrite(filepath.Join(dir, "autoboot.txt"), layout.Autoboot(slot))
	})
}

// hasSlots says whether the card has both slots.
func (c *card) hasSlots() bool {
	_, b := c.table.Partition(layout.SlotB)
	return b > 0
}

// slotWord is the word of a command line that names a slot.
func slotWord(slot int) string { return layout.SlotWord + strconv.Itoa(slot) }

// renumber writes a slot's number into the command line of its partition.
func renumber(dir string, slot int) error {
	path := filepath.Join(dir, "cmdline.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	was := slotWord(layout.Other(slot))
	if !strings.Contains(string(text), was) {
		if strings.Contains(string(text), slotWord(slot)) {
			return nil
		}
		return fmt.Errorf("%s does not say which slot it is", path)
	}
	return overwrite(path, []byte(strings.Replace(string(text), was, slotWord(slot), 1)))
}

// lastFile is where the state directory has what became of the last update.
const lastFile = "update.json"

func lastPath() string { return filepath.Join(dataDir, layout.StateDir, lastFile) }

// last reads what became of the last update, nil when there was none.
func last() *update.Last {
	text, err := os.ReadFile(lastPath())
	l := &update.Last{}
	if err != nil || json.Unmarshal(text, l) != nil {
		return nil
	}
	return l
}

// note writes what became of an update.
func note(l update.Last) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return replace(lastPath(), append(text, '\n'))
}
