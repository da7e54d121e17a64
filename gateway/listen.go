package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// listenTCP binds an address. The error says who to look for.
func listenTCP(what, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		return ln, nil
	}
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s cannot listen on %s: another program does; 'ss -ltnp sport = :%s' says which. Stop it, or choose another address", what, address, port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s cannot listen on %s: ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a port above", what, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s cannot listen on %s: this machine has no such address; 'ip addr' lists those it has", what, address)
	}
	return nil, fmt.Errorf("%s cannot listen on %s: %w", what, address, err)
}

// listenUnix binds a Unix socket. A socket that nobody listens on any more is
// replaced; anything else at the path is left alone.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("rawsocket cannot listen on %q: there is something else than a socket", path)
	case err == nil:
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("rawsocket cannot listen on %q: another program does; 'ss -lxp src %s' says which", path, path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("rawsocket cannot listen on %q: whether it is in use cannot be told: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("rawsocket cannot replace the stale socket: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("rawsocket cannot listen on a Unix socket: %w", err)
	}
	ln, err := bindPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("rawsocket cannot listen on %q: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, fmt.Errorf("set the mode of the Unix socket: %w", err)
	}
	return ln, nil
}

// remote reports whether an address can be reached from other machines.
func remote(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	if host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback()
}
