package spool

import (
	"io"
	"os"
)

// File is an open segment.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// FS is one directory, and what a log does there. Names have no separators.
type FS interface {
	// List returns the names of all files.
	List() ([]string, error)
	// Read returns a whole file.
	Read(name string) ([]byte, error)
	// Open opens a file for reading and writing, and makes it if need be.
	Open(name string) (File, error)
	Remove(name string) error
	// Sync makes durable which files there are.
	Sync() error
}

// Dir is a directory of the operating system: only the gateway's user can look
// into it, and only one process at a time has it.
type Dir struct {
	root *os.Root
	lock *os.File
}

// OpenDir makes the directory if need be. The error says so when another
// process has it.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root}
	if d.lock, err = root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		err = lock(d.lock)
	}
	if err != nil {
		_ = d.Close() // the first error is the one to tell
		return nil, err
	}
	return d, nil
}

// Close gives the directory free.
func (d *Dir) Close() error {
	if d.lock != nil {
		_ = d.lock.Close() // nothing was written
	}
	return d.root.Close()
}

// List returns the names of all files.
func (d *Dir) List() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Read returns a whole file.
func (d *Dir) Read(name string) ([]byte, error) { return d.root.ReadFile(name) }

// Open opens a file for reading and writing.
func (d *Dir) Open(name string) (File, error) {
	return d.root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}

// Remove removes a file.
func (d *Dir) Remove(name string) error { return d.root.Remove(name) }

// Sync makes durable which files there are.
func (d *Dir) Sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
