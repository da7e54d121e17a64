// Package boot edits the boot partition of a card image that exists: files in
// the FAT32 file system of its first partition. It finds them by name in any
// case, replaces them, and makes new ones with long names.
//
// What it reads is not trusted: chains, folders and sizes are bounded. It has no
// goroutines. Nothing but the content of files reaches the image before Flush.
// The formats are those of Microsoft's "FAT: General Overview of On-Disk Format",
// version 1.03.
package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Image is what is edited.
type Image interface {
	io.ReaderAt
	io.WriterAt
}

const (
	sector    = 512
	maxTable  = 32 << 20 // bytes of a FAT: that of 32 GiB in clusters of 4 KiB
	maxFolder = 1 << 20  // bytes of a folder
	endMark   = 0x0ffffff8
	mask      = 0x0fffffff // of an entry of the table
)

// FS is a FAT32 file system.
type FS struct {
	image     Image
	base      int64 // where it begins in the image
	table     []byte
	tables    int   // copies
	tableAt   int64 // from base
	tableSize int64 // bytes
	data      int64 // where cluster 2 is, from base
	cluster   int64 // bytes
	clusters  uint32
	root      uint32
	info      int64 // FSInfo's place from base, 0 for none
	next      uint32
	changed   bool
	now       time.Time
}

// OpenPartition opens the file system of the image's first partition. now is
// the time that changed files get.
func OpenPartition(image Image, now time.Time) (*FS, error) {
	mbr := make([]byte, sector)
	if _, err := image.ReadAt(mbr, 0); err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xAA {
		return nil, errors.New("the image has no partition table: is it one of a card?")
	}
	first := mbr[446:462]
	if kind := first[4]; kind != 0x0b && kind != 0x0c {
		return nil, fmt.Errorf("the first partition is of type 0x%02x and not FAT32 (0x0b or 0x0c): is it an image for a Raspberry Pi?", kind)
	}
	return Open(image, int64(binary.LittleEndian.Uint32(first[8:]))*sector, now)
}

// Open opens the file system that begins at a byte of the image.
func Open(image Image, base int64, now time.Time) (*FS, error) {
	b := make([]byte, sector)
	if _, err := image.ReadAt(b, base); err != nil {
		return nil, fmt.Errorf("read the boot partition: %w", err)
	}
	le := binary.LittleEndian
	perCluster, reserved, tables := int64(b[13]), int64(le.Uint16(b[14:])), int(b[16])
	total, size := int64(le.Uint32(b[32:])), int64(le.Uint32(b[36:]))*sector
	switch {
	case b[510] != 0x55 || b[511] != 0xAA || le.Uint16(b[11:]) != sector || le.Uint16(b[17:]) != 0 || le.Uint16(b[22:]) != 0:
		return nil, errors.New("the boot partition is not FAT32 with sectors of 512 bytes")
	case perCluster == 0 || perCluster&(perCluster-1) != 0 || reserved == 0 || tables == 0 || tables > 4 || size == 0 || size > maxTable:
		return nil, errors.New("the boot partition's FAT32 is broken: its first sector has values that cannot be")
	}
	f := &FS{
		image: image, base: base, tables: tables, tableAt: reserved * sector, tableSize: size,
		cluster: perCluster * sector, root: le.Uint32(b[44:]), next: 2, now: now,
	}
	f.data = f.tableAt + int64(tables)*size
	if at := int64(le.Uint16(b[48:])); at > 0 && at < reserved {
		f.info = at * sector
	}
	n := (total*sector - f.data) / f.cluster
	if n <= 0 || n > size/4-2 {
		return nil, errors.New("the boot partition's FAT32 is broken: its size and its table do not go together")
	}
	f.clusters = uint32(n)
	f.table = make([]byte, size)
	if _, err := image.ReadAt(f.table, base+f.tableAt); err != nil {
		return nil, fmt.Errorf("read the boot partition's table: %w", err)
	}
	if !f.valid(f.root) {
		return nil, errors.New("the boot partition's FAT32 is broken: it has no root folder")
	}
	return f, nil
}

func (f *FS) valid(c uint32) bool { return c >= 2 && c < f.clusters+2 }

func (f *FS) get(c uint32) uint32 { return binary.LittleEndian.Uint32(f.table[4*c:]) & mask }

// set keeps the four highest bits, which are not the table's.
func (f *FS) set(c, v uint32) {
	old := binary.LittleEndian.Uint32(f.table[4*c:])
	binary.LittleEndian.PutUint32(f.table[4*c:], old&^mask|v)
	f.changed = true
}

func (f *FS) at(c uint32) int64 { return f.base + f.data + int64(c-2)*f.cluster }

// chain is the clusters of a file or folder of at most so many bytes.
func (f *FS) chain(c uint32, most int64) ([]uint32, error) {
	if c == 0 { // of an empty file
		return nil, nil
	}
	var out []uint32
	for f.valid(c) {
		if int64(len(out))*f.cluster >= most {
			return nil, errors.New("it is larger than it may be, or its chain is a circle")
		}
		out = append(out, c)
		c = f.get(c)
	}
	if c < endMark {
		return nil, errors.New("its chain of clusters is broken")
	}
	return out, nil
}

func (f *FS) read(chain []uint32) ([]byte, error) {
	out := make([]byte, int64(len(chain))*f.cluster)
	for i, c := range chain {
		if _, err := f.image.ReadAt(out[int64(i)*f.cluster:int64(i+1)*f.cluster], f.at(c)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (f *FS) write(chain []uint32, data []byte) error {
	for i, c := range chain {
		b := make([]byte, f.cluster)
		copy(b, data[min(int64(len(data)), int64(i)*f.cluster):])
		if _, err := f.image.WriteAt(b, f.at(c)); err != nil {
			return err
		}
	}
	return nil
}

// allocate makes a chain for so many bytes.
func (f *FS) allocate(size int) ([]uint32, error) {
	n := (int64(size) + f.cluster - 1) / f.cluster
	chain := make([]uint32, 0, n)
	for c := f.next; c < f.clusters+2 && int64(len(chain)) < n; c++ {
		if f.get(c) == 0 {
			chain = append(chain, c)
		}
	}
	if int64(len(chain)) < n {
		return nil, errors.New("the boot partition is full")
	}
	for i, c := range chain {
		if i+1 < len(chain) {
			f.set(c, chain[i+1])
		} else {
			f.set(c, mask)
			f.next = c + 1
		}
	}
	return chain, nil
}

func (f *FS) free(chain []uint32) {
	for _, c := range chain {
		f.set(c, 0)
		f.next = min(f.next, c)
	}
}

// Flush writes the table's copies and what they say of free space.
func (f *FS) Flush() error {
	if !f.changed {
		return nil
	}
	for i := range f.tables {
		if _, err := f.image.WriteAt(f.table, f.base+f.tableAt+int64(i)*f.tableSize); err != nil {
			return fmt.Errorf("write the boot partition's table: %w", err)
		}
	}
	if f.info > 0 {
		info := make([]byte, sector)
		if _, err := f.image.ReadAt(info, f.base+f.info); err != nil {
			return fmt.Errorf("read the boot partition: %w", err)
		}
		if string(info[:4]) == "RRaA" && string(info[484:488]) == "rrAa" {
			free := uint32(0)
			for c := uint32(2); c < f.clusters+2; c++ {
				if f.get(c) == 0 {
					free++
				}
			}
			binary.LittleEndian.PutUint32(info[488:], free)
			binary.LittleEndian.PutUint32(info[492:], 0xffffffff) // no hint
			if _, err := f.image.WriteAt(info, f.base+f.info); err != nil {
				return fmt.Errorf("write the boot partition: %w", err)
			}
		}
	}
	f.changed = false
	return nil
}

// ReadFile reads a file of at most so many bytes. One that is not there is
// fs.ErrNotExist.
func (f *FS) ReadFile(path string, most int64) ([]byte, error) {
	dir, name, err := f.parent(path, false)
	if err != nil {
		return nil, err
	}
	e := dir.find(name)
	switch {
	case e == nil:
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	case e.folder() || e.size() > most:
		return nil, fmt.Errorf("read %s: it is a folder, or has more than %d bytes", path, most)
	}
	chain, err := f.chain(e.cluster(), e.size()+1)
	var b []byte
	if err == nil {
		b, err = f.read(chain)
	}
	if err == nil && int64(len(b)) < e.size() {
		err = errors.New("its chain of clusters is too short")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b[:e.size()], nil
}

// WriteFile makes a file, with the folders that lead to it, or replaces its
// content.
func (f *FS) WriteFile(path string, data []byte) error {
	dir, name, err := f.parent(path, true)
	if err == nil {
		err = f.put(dir, name, data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (f *FS) put(dir *folder, name string, data []byte) error {
	e := dir.find(name)
	if e != nil && e.folder() {
		return errors.New("it is a folder")
	}
	if e != nil {
		old, err := f.chain(e.cluster(), max(e.size()+1, f.cluster))
		if err != nil {
			return err
		}
		f.free(old)
	}
	chain, err := f.allocate(len(data))
	if err == nil {
		err = f.write(chain, data)
	}
	if err != nil {
		return err
	}
	first := uint32(0)
	if len(chain) > 0 {
		first = chain[0]
	}
	if e == nil {
		if e, err = dir.add(name, 0x20); err != nil {
			return err
		}
	}
	e.set(first, uint32(len(data)), f.now)
	return f.save(dir)
}

// parent is the folder of a path and the name in it; make says that folders
// which are not there are made.
func (f *FS) parent(path string, make bool) (*folder, string, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	dir, err := f.folder(f.root)
	for _, p := range parts[:len(parts)-1] {
		if err != nil {
			return nil, "", err
		}
		e := dir.find(p)
		switch {
		case e != nil && e.folder():
			dir, err = f.folder(e.cluster())
		case e == nil && make:
			dir, err = f.makeFolder(dir, p)
		default:
			err = fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
	}
	return dir, parts[len(parts)-1], err
}

// folder reads a folder. Cluster 0 is the root's name in ".." entries.
func (f *FS) folder(c uint32) (*folder, error) {
	if c == 0 {
		c = f.root
	}
	chain, err := f.chain(c, maxFolder)
	if err != nil {
		return nil, fmt.Errorf("a folder: %w", err)
	}
	if len(chain) == 0 {
		return nil, errors.New("a folder has no content")
	}
	b, err := f.read(chain)
	if err != nil {
		return nil, fmt.Errorf("a folder: %w", err)
	}
	return &folder{chain: chain, data: b}, nil
}

func (f *FS) makeFolder(in *folder, name string) (*folder, error) {
	chain, err := f.allocate(int(f.cluster))
	if err != nil {
		return nil, err
	}
	dir := &folder{chain: chain, data: make([]byte, f.cluster)}
	self, up := entry(dir.data[:32]), entry(dir.data[32:64])
	above := in.chain[0]
	if above == f.root {
		above = 0
	}
	for _, x := range []struct {
		e       entry
		name    string
		cluster uint32
	}{{self, ".          ", chain[0]}, {up, "..         ", above}} {
		copy(x.e, x.name)
		x.e[11] = attrFolder
		x.e.set(x.cluster, 0, f.now)
	}
	e, err := in.add(name, attrFolder)
	if err != nil {
		return nil, err
	}
	e.set(chain[0], 0, f.now)
	if err := f.save(in); err != nil {
		return nil, err
	}
	return dir, f.save(dir)
}

// save writes a folder, which may have grown.
func (f *FS) save(dir *folder) error {
	if missing := int64(len(dir.data)) - int64(len(dir.chain))*f.cluster; missing > 0 {
		more, err := f.allocate(int(missing))
		if err != nil {
			return err
		}
		f.set(dir.chain[len(dir.chain)-1], more[0])
		dir.chain = append(dir.chain, more...)
	}
	return f.write(dir.chain, dir.data)
}
