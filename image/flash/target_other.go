//go:build !linux

package flash

import (
	"errors"
	"os"
)

var errLinux = errors.New("disks can be written on Linux only; a plain file can be written here")

func dropCache(*os.File) {}

// OpenDisk is for Linux.
func (s System) OpenDisk(*Disk) (OpenTarget, error) { return nil, errLinux }

// ReadDisk is for Linux.
func (s System) ReadDisk(*Disk) (OpenTarget, error) { return nil, errLinux }

// Unmount is for Linux.
func (s System) Unmount(*Disk) error { return errLinux }

// Reread is for Linux.
func Reread(OpenTarget) {}
