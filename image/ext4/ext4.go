// Package ext4 makes small ext4 file systems with a journal, in memory: what
// the appliance keeps its data on. The same files give the same bytes.
//
// The file system is one block group; the kernel's online resize makes it as
// large as the card. The layout is that of the kernel's documentation,
// Documentation/filesystems/ext4. The package writes new file systems and reads
// none; it has no goroutines and no state, and touches no disk.
package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"time"
)

// File is a file or folder of the file system. Folders that are not given are
// made for their owner only. All belong to root.
type File struct {
	// Name is its path, with "/" between folders: "config/postern.yaml".
	Name string
	// Mode is its permissions.
	Mode uint16
	Data []byte
	// Folder says that it is one.
	Folder bool
}

// MaxGrown is how large the kernel can make the file system, in bytes: what one
// block of group descriptors describes.
const MaxGrown = block / descriptor * group * block

// The geometry.
const (
	block        = 4096
	group        = 8 * block // blocks of a group
	inodes       = 1024      // of a group
	inodeSize    = 256
	descriptor   = 32
	journalSize  = 1024 // blocks, the least that JBD2 takes
	rootInode    = 2
	journalInode = 8
	firstInode   = 11 // lost+found
)

// Places in the group.
const (
	blockMap   = 2
	inodeMap   = 3
	inodeTable = 4
	firstData  = inodeTable + inodes*inodeSize/block
)

// Types: of an inode's mode, and of a folder's entry.
const (
	modeFile, modeFolder   = 0x8000, 0x4000
	entryFile, entryFolder = 1, 2
)

type writer struct {
	image  []byte
	time   uint32
	next   int    // the first free block
	inode  int    // the first free inode
	dirs   int    // folders
	backup []byte // the journal's blocks, for the superblock
}

// node is a file or folder of the tree.
type node struct {
	file  File
	inode int
	names []string
	below map[string]*node
}

// Format makes a file system of size bytes, from 6 MiB to 128 MiB.
func Format(label string, size int64, at time.Time, files []File) ([]byte, error) {
	if size < 6<<20 || size > group*block || size%block != 0 {
		return nil, fmt.Errorf("an ext4 file system of %d bytes: must be a multiple of %d from 6 MiB to 128 MiB", size, block)
	}
	if len(label) > 16 {
		return nil, fmt.Errorf("the label %q is longer than 16 letters", label)
	}
	w := &writer{image: make([]byte, size), time: uint32(at.Unix()), next: firstData, inode: firstInode}
	root := &node{file: File{Mode: 0o700, Folder: true}, below: map[string]*node{}, inode: rootInode}
	root.child("lost+found", File{Mode: 0o700, Folder: true})
	for _, f := range files {
		if err := root.add(strings.Split(path.Clean(f.Name), "/"), f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	w.number(root)
	if w.inode > inodes {
		return nil, fmt.Errorf("%d files: no more than %d have room", w.inode, inodes-firstInode)
	}
	if err := w.write(root, root); err != nil {
		return nil, err
	}
	if err := w.journal(label); err != nil {
		return nil, err
	}
	w.maps()
	w.superblock(label)
	return w.image, nil
}

// add puts a file into the tree.
func (n *node) add(names []string, f File) error {
	name := names[0]
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return fmt.Errorf("%q cannot be a name", name)
	}
	if len(names) == 1 {
		if old := n.below[name]; old != nil {
			if !old.file.Folder || !f.Folder {
				return fmt.Errorf("it is there twice")
			}
			old.file.Mode = f.Mode
			return nil
		}
		n.child(name, f)
		return nil
	}
	sub := n.below[name]
	if sub == nil {
		sub = n.child(name, File{Mode: 0o700, Folder: true})
	}
	if !sub.file.Folder {
		return fmt.Errorf("%s is a file", name)
	}
	return sub.add(names[1:], f)
}

func (n *node) child(name string, f File) *node {
	c := &node{file: f, below: map[string]*node{}}
	n.below[name] = c
	n.names = append(n.names, name)
	return c
}

// number gives inodes to what is below a folder; lost+found is the first.
func (w *writer) number(n *node) {
	if n.inode != rootInode {
		sort.Strings(n.names)
	} else {
		slices.SortStableFunc(n.names[1:], strings.Compare)
	}
	for _, name := range n.names {
		n.below[name].inode = w.inode
		w.inode++
	}
	for _, name := range n.names {
		w.number(n.below[name])
	}
}

// write writes a file or folder with all below it.
func (w *writer) write(n, above *node) error {
	data, mode, links := n.file.Data, modeFile|n.file.Mode&0o777, 1
	if n.file.Folder {
		w.dirs++
		data, mode, links = n.entries(above), modeFolder|n.file.Mode&0o777, 2
		for _, c := range n.below {
			if c.file.Folder {
				links++
			}
		}
	}
	if _, err := w.put(n.inode, mode, links, data); err != nil {
		return err
	}
	for _, name := range n.names {
		if err := w.write(n.below[name], n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// entries are a folder's blocks: inode, length, name, in a linear list; no
// entry crosses a block.
func (n *node) entries(above *node) []byte {
	var b []byte
	last := 0
	put := func(name string, inode int, kind byte) {
		size := (8 + len(name) + 3) &^ 3
		if used := len(b) % block; used+size > block || len(b) == 0 {
			if len(b) > 0 { // the last entry of a block reaches to its end
				binary.LittleEndian.PutUint16(b[last+4:], uint16(block-last%block))
				b = append(b, make([]byte, block-used)...)
			}
		}
		last = len(b)
		e := make([]byte, size)
		binary.LittleEndian.PutUint32(e, uint32(inode))
		binary.LittleEndian.PutUint16(e[4:], uint16(size))
		e[6], e[7] = byte(len(name)), kind
		copy(e[8:], name)
		b = append(b, e...)
	}
	put(".", n.inode, entryFolder)
	put("..", above.inode, entryFolder)
	for _, name := range n.names {
		kind := byte(entryFile)
		if n.below[name].file.Folder {
			kind = entryFolder
		}
		put(name, n.below[name].inode, kind)
	}
	binary.LittleEndian.PutUint16(b[last+4:], uint16(block-last%block))
	return append(b, make([]byte, (block-len(b)%block)%block)...)
}

// put writes an inode and its data, blocks in a row in one extent, and returns
// the inode's bytes.
func (w *writer) put(number int, mode uint16, links int, data []byte) ([]byte, error) {
	blocks := (len(data) + block - 1) / block
	if w.next+blocks > len(w.image)/block {
		return nil, fmt.Errorf("the file system is full")
	}
	b := w.image[inodeTable*block+(number-1)*inodeSize:][:inodeSize]
	le := binary.LittleEndian
	le.PutUint16(b, mode)
	le.PutUint32(b[4:], uint32(len(data)))
	for _, at := range []int{8, 12, 16, 144} { // read, changed, written, made
		le.PutUint32(b[at:], w.time)
	}
	le.PutUint16(b[26:], uint16(links))
	le.PutUint32(b[28:], uint32(blocks*block/512))
	le.PutUint32(b[32:], 0x80000) // its map is extents
	le.PutUint16(b[40:], 0xf30a)
	le.PutUint16(b[44:], 4)
	if blocks > 0 {
		le.PutUint16(b[42:], 1)
		le.PutUint16(b[56:], uint16(blocks))
		le.PutUint32(b[60:], uint32(w.next))
	}
	le.PutUint16(b[128:], 32)
	copy(w.image[w.next*block:], data)
	w.next += blocks
	return b, nil
}

// journal writes an empty journal: JBD2's superblock, in the order of bytes of
// networks.
func (w *writer) journal(label string) error {
	data := make([]byte, journalSize*block)
	be := binary.BigEndian
	for i, v := range []uint32{0xc03b3998, 4, 0, block, journalSize, 1, 1, 0} {
		be.PutUint32(data[4*i:], v)
	}
	id := identity(label)
	copy(data[48:], id[:])
	be.PutUint32(data[64:], 1)
	inode, err := w.put(journalInode, modeFile|0o600, 1, data)
	if err != nil {
		return err
	}
	w.backup = inode
	return nil
}

// maps writes which blocks and inodes are taken, and the group's descriptor.
func (w *writer) maps() {
	total := len(w.image) / block
	used := w.image[blockMap*block:][:block]
	for i := range group {
		if i < w.next || i >= total {
			used[i/8] |= 1 << (i % 8)
		}
	}
	taken := w.image[inodeMap*block:][:block]
	for i := range 8 * block {
		if i < w.inode-1 || i >= inodes {
			taken[i/8] |= 1 << (i % 8)
		}
	}
	le := binary.LittleEndian
	d := w.image[block:]
	le.PutUint32(d, blockMap)
	le.PutUint32(d[4:], inodeMap)
	le.PutUint32(d[8:], inodeTable)
	le.PutUint16(d[12:], uint16(total-w.next))
	le.PutUint16(d[14:], uint16(inodes-(w.inode-1)))
	le.PutUint16(d[16:], uint16(w.dirs))
}

// identity is the file system's UUID. One name, one UUID: images must not
// differ.
func identity(label string) [16]byte {
	sum := sha256.Sum256([]byte("postern ext4 " + label))
	id := [16]byte(sum[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func (w *writer) superblock(label string) {
	s := w.image[1024:]
	le := binary.LittleEndian
	total := uint32(len(w.image) / block)
	id := identity(label)
	for at, v := range map[int]uint32{
		0: inodes, 4: total, 12: total - uint32(w.next), 16: uint32(inodes - (w.inode - 1)),
		24: 2, 28: 2, 32: group, 36: group, 40: inodes, 48: w.time, 64: w.time, 76: 1, 84: firstInode,
		92:  0x4,        // has a journal
		96:  0x2 | 0x40, // types in entries, extents
		100: 0x1 | 0x2 | 0x40,
		224: journalInode, 236: le.Uint32(id[:]), 240: le.Uint32(id[4:]), 244: le.Uint32(id[8:]), 248: le.Uint32(id[12:]),
		264: w.time, 352: 1,
	} {
		le.PutUint32(s[at:], v)
	}
	for at, v := range map[int]uint16{
		54: 0xffff, 56: 0xef53, 58: 1,
		60: 2, // after an error it is read only
		88: inodeSize, 348: 32, 350: 32,
	} {
		le.PutUint16(s[at:], v)
	}
	copy(s[104:], id[:])
	copy(s[120:], label)
	s[252], s[253] = 1, 1 // hash of names; the journal's blocks follow
	copy(s[268:], w.backup[40:100])
	le.PutUint32(s[268+64:], le.Uint32(w.backup[4:]))
}
