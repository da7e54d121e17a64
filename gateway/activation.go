package gateway

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/postern-iot/postern/gateway/config"
)

const (
	firstInherited = 3
	maxInherited   = 64
)

// inherited returns the listening socket that systemd opened under a name
// (FileDescriptorName= of its .socket unit; sd_listen_fds(3)). The descriptor
// is taken over: a second call for the name fails.
func inherited(what, name string) (net.Listener, error) {
	names, err := inheritedNames()
	if err != nil {
		return nil, fmt.Errorf("%s cannot listen on %s%s: %w", what, config.Systemd, name, err)
	}
	i := slices.Index(names, name)
	if i < 0 {
		return nil, fmt.Errorf("%s cannot listen on %s%s: the sockets from systemd are %q; set FileDescriptorName=%s in the .socket unit", what, config.Systemd, name, names, name)
	}
	syscall.CloseOnExec(firstInherited + i)
	f := os.NewFile(uintptr(firstInherited+i), name)
	defer f.Close() // the listener has a copy
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("%s cannot listen on %s%s: it is no listening stream socket: %w", what, config.Systemd, name, err)
	}
	return ln, nil
}

// inheritedNames are the names of the descriptors from 3 on.
func inheritedNames() ([]string, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("systemd has passed no sockets to this process: start it by its .socket unit")
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > maxInherited {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number from 1 to %d", os.Getenv("LISTEN_FDS"), maxInherited)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	return names[:min(n, len(names))], nil
}
