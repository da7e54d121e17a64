//go:build !linux

package gpio

import (
	"errors"
	"fmt"
	"runtime"

	periph "periph.io/x/conn/v3/gpio"
)

// Line is a line of the Linux kernel's GPIO character device. There is none on
// this system: Open always fails.
type Line struct{ periph.PinIO }

// Open reports that this system has no GPIO character device.
func Open(pin, chip string, cfg LineConfig) (*Line, error) {
	return nil, fmt.Errorf("open GPIO line %q: %s has no GPIO character device, only Linux has; set chip: sim to try things out: %w", pin, runtime.GOOS, errors.ErrUnsupported)
}

// Scan finds no chips.
func Scan(string) ([]Chip, []error) { return nil, nil }

// Levels does nothing.
func (l *Line) Levels() (first, second bool, err error) { return false, false, errors.ErrUnsupported }

func openPair(a, _, chip string, cfg LineConfig) (*Line, error) { return Open(a, chip, cfg) }

// Close does nothing.
func (l *Line) Close() error { return nil }
