package transport

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bareSocket is the descriptor of a connection that is nothing but a socket,
// which can be read and written without waiting; nil for any other.
func bareSocket(conn net.Conn) syscall.RawConn {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			return nil
		}
		return raw
	}
	return nil
}

// readSocket reads once. The error is syscall.EAGAIN when that would wait.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, syscall.EAGAIN
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeSocket writes once, as much as the kernel takes. The error is
// syscall.EAGAIN when it takes nothing without waiting.
func writeSocket(fd uintptr, pieces [][]byte) (n int, err error) {
	for {
		if len(pieces) == 1 {
			n, err = unix.Write(int(fd), pieces[0])
		} else {
			n, err = unix.Writev(int(fd), pieces[:min(len(pieces), mostPieces)])
		}
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, syscall.EAGAIN
		case err != nil:
			return 0, os.NewSyscallError("write", err)
		default:
			return n, nil
		}
	}
}
