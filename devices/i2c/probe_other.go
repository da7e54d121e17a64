//go:build !linux

package i2c

import (
	"context"
	"errors"
)

// Probe reports that this system has no I2C busses.
func Probe(context.Context, string) ([]Answer, error) { return nil, errors.ErrUnsupported }
