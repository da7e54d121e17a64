//go:build unix

package system

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskUsage measures the disk that holds path, as df does.
func diskUsage(path string) (disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return disk{}, fmt.Errorf("measure the disk of %q: %w", path, err)
	}
	// The fields' types differ between systems.
	block := uint64(st.Bsize)
	total, free, available := uint64(st.Blocks), uint64(st.Bfree), uint64(st.Bavail)
	if free > total {
		return disk{}, fmt.Errorf("measure the disk of %q: more is free than there is", path)
	}
	return disk{used: (total - free) * block, available: available * block}, nil
}
