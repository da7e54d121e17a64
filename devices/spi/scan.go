package spi

import (
	"path/filepath"
	"slices"
)

// Ports are the SPI ports of the machine, such as /dev/spidev0.0. root is /, or
// the folder that stands for it. What is connected to them cannot be asked for.
func Ports(root string) []string {
	paths, _ := filepath.Glob(filepath.Join(root, portPrefix+"*"))
	all := make([]string, len(paths))
	for i, p := range paths {
		all[i] = "/dev/" + filepath.Base(p)
	}
	slices.Sort(all)
	return all
}
