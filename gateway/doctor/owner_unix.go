//go:build unix

package doctor

import (
	"io/fs"
	"syscall"
)

// owner is whose a file is.
func owner(info fs.FileInfo) (uid, gid int) {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid), int(sys.Gid)
	}
	return 0, 0
}
