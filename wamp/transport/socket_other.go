//go:build !linux

package transport

import (
	"net"
	"syscall"
)

// bareSocket knows no way to read and write without waiting here.
func bareSocket(net.Conn) syscall.RawConn { return nil }

func readSocket(uintptr, []byte) (int, error)    { return 0, syscall.ENOTSUP }
func writeSocket(uintptr, [][]byte) (int, error) { return 0, syscall.ENOTSUP }
