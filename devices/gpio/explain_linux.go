package gpio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// explainBusy names who holds the line, as only the kernel knows.
func explainBusy(a Address, conn syscall.RawConn, err error) error {
	holder := "somebody who gave no name"
	if info, infoErr := lineInfoOf(conn, a.Offset); infoErr == nil && info.Consumer != "" {
		holder = strconv.Quote(info.Consumer)
	}
	return fmt.Errorf("request GPIO line %s: it is held by %s; if that is a program, stop it (sudo lsof %s shows its process); "+
		"if it is a driver of the kernel, remove its overlay from the boot configuration; or use another pin: %w", a, holder, a.Path, err)
}

// explainAccess says whose group opens the device.
func explainAccess(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open GPIO chip %s: %w", path, err)
	}
	group := "gpio"
	if st, statErr := os.Stat(path); statErr == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Gid != 0 && st.Mode().Perm()&0o060 == 0o060 {
			group = strconv.Itoa(int(sys.Gid))
			if g, lookErr := user.LookupGroupId(group); lookErr == nil {
				group = g.Name
			}
		} else if ok {
			return fmt.Errorf("open GPIO chip %s: %w: only root may; give the device to a group, such as gpio, by a udev rule "+
				`(SUBSYSTEM=="gpio", GROUP="gpio", MODE="0660") and run the gateway in that group`, path, err)
		}
	}
	return fmt.Errorf("open GPIO chip %s: %w: the gateway's user must be in the group %s (sudo usermod -aG %s USER, then start it again)", path, err, group, group)
}
