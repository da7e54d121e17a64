//go:build !linux

package serial

import (
	"errors"
	"fmt"
	"runtime"
)

func openPort(p *Line) (port, error) {
	return nil, fmt.Errorf("open serial port %s: not on %s, only on Linux: %w", p.Port, runtime.GOOS, errors.ErrUnsupported)
}
