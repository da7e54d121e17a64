package router

import (
	"net"
	"os"
	"syscall"
)

// ownedByUs reports whether a connection is over a Unix socket, from a process
// of this one's user or of root (unix(7), SO_PEERCRED).
func ownedByUs(conn net.Conn) bool {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	ours := false
	_ = raw.Control(func(fd uintptr) { // an error leaves it at no
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		ours = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Getuid())
	})
	return ours
}
