package gateway

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenTCP binds an address. The error says who to look for.
func listenTCP(what, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, explainListen(what, address, err)
	}
	return ln, nil
}

func explainListen(what, address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s cannot listen on %s: another program does; 'ss -ltnp sport = :%s' says which. Stop it, or choose another address", what, address, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s cannot listen on %s: ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a port above", what, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s cannot listen on %s: this machine has no such address; 'ip addr' lists those it has", what, address)
	}
	return fmt.Errorf("%s cannot listen on %s: %w", what, address, err)
}
