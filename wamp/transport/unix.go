package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// unixProbe is how long a process has to accept the probe of its socket.
const unixProbe = time.Second

// ListenUnix listens on a Unix socket, which is removed when the listener is
// closed. A mode of 0 means 0660. A socket that was left behind by a process
// that died is replaced; one that somebody listens on is an error, and so is
// any file that is no socket.
func ListenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = 0o660
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on unix socket %q: %w", path, err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		// On Linux the file is made with the descriptor's mode, so there is no
		// moment at which others could connect. Where that does not work, the
		// Chmod below still does.
		return rc.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode.Perm())) })
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w (make the folder first)", err)
		}
		return nil, fmt.Errorf("listen on unix socket %q: %w", path, err)
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on unix socket %q: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket on which nobody listens.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is there: move it away, or choose another path")
	}
	probe, err := net.DialTimeout("unix", path, unixProbe)
	switch {
	case err == nil:
		_ = probe.Close()
		return errors.New("another process listens on it: is the gateway running already?")
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the socket that was left behind: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("a socket is there, and it is not known whether anybody listens on it: %w", err)
	}
}
