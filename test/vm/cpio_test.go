//go:build vm

package vm

import (
	"fmt"
	"io"
)

// The file types of a cpio entry's mode, as in stat.
const (
	cpioDir  = 0o040000
	cpioChar = 0o020000
	cpioFile = 0o100000
)

// cpioWriter writes the archive that an initramfs is, in the kernel's "newc"
// format (Documentation/driver-api/early-userspace/buffer-format.rst). Its
// first error stays and is reported by close.
type cpioWriter struct {
	w      io.Writer
	inode  int
	offset int
	err    error
}

func (c *cpioWriter) entry(name string, mode, major, minor int, data []byte) {
	c.inode++
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}

func (c *cpioWriter) dir(name string)               { c.entry(name, cpioDir|0o755, 0, 0, nil) }
func (c *cpioWriter) file(name string, data []byte) { c.entry(name, cpioFile|0o755, 0, 0, data) }
func (c *cpioWriter) char(name string, major, minor int) {
	c.entry(name, cpioChar|0o600, major, minor, nil)
}

func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}

func (c *cpioWriter) write(p []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(p)
		c.offset += len(p)
	}
}

// pad fills up to a multiple of four.
func (c *cpioWriter) pad() { c.write(make([]byte, (4-c.offset%4)%4)) }
