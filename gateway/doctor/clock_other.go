//go:build !linux

package doctor

// synchronised is not known on this system.
func synchronised() (synchronised, known bool) { return false, false }
