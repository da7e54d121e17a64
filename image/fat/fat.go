// Package fat makes FAT16 file systems in memory, with long names: what the
// Raspberry Pi's firmware boots from. The same files give the same bytes.
//
// It writes new file systems and reads none. It has no goroutines and no
// state, and touches no disk.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode/utf16"
)

// File is a file of the file system.
type File struct {
	// Name is its path, with "/" between folders: "overlays/disable-bt.dtbo".
	Name string
	Data []byte
}

// Volume is what a file system is beside its files.
type Volume struct {
	Label  string // at most 11 letters
	Serial uint32
	Size   int64     // bytes, a multiple of 64 KiB, from 4 MiB to 1 GiB
	Hidden uint32    // sectors before it on the disk
	Time   time.Time // of all files
}

// The geometry of a FAT16 file system, as in Microsoft's specification of FAT.
const (
	sector      = 512
	reserved    = 4
	tables      = 2
	rootEntries = 512
	entry       = 32
	media       = 0xf8
	endOfChain  = 0xffff
	maxClusters = 65524
)

// Attributes of an entry.
const (
	attrVolume = 0x08
	attrFolder = 0x10
	attrLong   = 0x0f
)

// writer is a file system that is being written.
type writer struct {
	volume  Volume
	image   []byte
	cluster int // bytes
	table   []uint16
	data    int // where cluster 2 is
	next    int // the first free cluster
}

// folder is a folder and what is in it.
type folder struct {
	entries []byte
	names   map[string]bool // short names taken
	folders map[string]*folder
	files   []File
	limit   int // bytes of entries, 0 for none
}

// Format makes a file system with the files, in the order in which they are
// given; their clusters follow one another.
func Format(v Volume, files []File) ([]byte, error) {
	if v.Size < 4<<20 || v.Size > 1<<30 || v.Size%(64<<10) != 0 {
		return nil, fmt.Errorf("a FAT16 file system of %d bytes: must be a multiple of 64 KiB from 4 MiB to 1 GiB", v.Size)
	}
	if len(v.Label) > 11 {
		return nil, fmt.Errorf("the label %q is longer than 11 letters", v.Label)
	}
	w := &writer{volume: v, image: make([]byte, v.Size), next: 2}
	w.layOut()
	root := newFolder()
	root.limit = rootEntries * entry
	for _, f := range files {
		if err := root.add(f); err != nil {
			return nil, err
		}
	}
	root.entries = append(root.entries, w.short(pad(v.Label, 11), attrVolume, 0, 0)...)
	if err := w.fill(root, 0); err != nil {
		return nil, err
	}
	copy(w.image[w.rootAt():], root.entries)
	w.writeTables()
	return w.image, nil
}

func newFolder() *folder {
	return &folder{names: map[string]bool{}, folders: map[string]*folder{}}
}

// add puts a file into the tree of folders.
func (f *folder) add(file File) error {
	head, rest, nested := strings.Cut(file.Name, "/")
	if head == "" || len(head) > 255 || strings.ContainsAny(head, `"*:<>?\|`) {
		return fmt.Errorf("%q cannot be a name on a FAT file system", file.Name)
	}
	if !nested {
		f.files = append(f.files, file)
		return nil
	}
	if f.folders[head] == nil {
		f.folders[head] = newFolder()
	}
	return f.folders[head].add(File{Name: rest, Data: file.Data})
}

// layOut chooses the size of clusters and writes the boot sector.
func (w *writer) layOut() {
	sectors := int(w.volume.Size / sector)
	perCluster, perTable := 1, 0
	for {
		room := sectors - reserved - rootEntries*entry/sector
		clusters := room / perCluster
		perTable = ((clusters+2)*2 + sector - 1) / sector
		clusters = (room - tables*perTable) / perCluster
		if clusters <= maxClusters {
			w.table = make([]uint16, clusters+2)
			break
		}
		perCluster *= 2
	}
	w.cluster = perCluster * sector
	w.data = (reserved+tables*perTable)*sector + rootEntries*entry
	b := w.image
	copy(b, "\xeb\x3c\x90POSTERN ")
	le := binary.LittleEndian
	le.PutUint16(b[11:], sector)
	b[13] = byte(perCluster)
	le.PutUint16(b[14:], reserved)
	b[16] = tables
	le.PutUint16(b[17:], rootEntries)
	if sectors < 1<<16 {
		le.PutUint16(b[19:], uint16(sectors))
	} else {
		le.PutUint32(b[32:], uint32(sectors))
	}
	b[21] = media
	le.PutUint16(b[22:], uint16(perTable))
	le.PutUint16(b[24:], 32) // sectors a track and heads: for whom still asks
	le.PutUint16(b[26:], 64)
	le.PutUint32(b[28:], w.volume.Hidden)
	b[36], b[38] = 0x80, 0x29
	le.PutUint32(b[39:], w.volume.Serial)
	copy(b[43:], pad(w.volume.Label, 11))
	copy(b[54:], "FAT16   ")
	b[510], b[511] = 0x55, 0xaa
	w.table[0], w.table[1] = 0xff00|media, endOfChain
}

func (w *writer) rootAt() int { return w.data - rootEntries*entry }

// fill writes what is in a folder, and makes the folder's entries; own is the
// folder's first cluster.
func (w *writer) fill(f *folder, own int) error {
	names := make([]string, 0, len(f.folders))
	for n := range f.folders {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		sub := f.folders[n]
		size := 2 * entry
		for _, inner := range sub.files {
			size += entriesOf(inner.Name) * entry
		}
		for inner := range sub.folders {
			size += entriesOf(inner) * entry
		}
		at, err := w.allocate(size)
		if err != nil {
			return err
		}
		sub.entries = append(w.short(pad(".", 11), attrFolder, at, 0), w.short(pad("..", 11), attrFolder, own, 0)...)
		if err := w.fill(sub, at); err != nil {
			return err
		}
		copy(w.image[w.offset(at):], sub.entries)
		if err := f.name(w, n, attrFolder, at, 0); err != nil {
			return err
		}
	}
	for _, file := range f.files {
		at := 0
		if len(file.Data) > 0 {
			var err error
			if at, err = w.allocate(len(file.Data)); err != nil {
				return fmt.Errorf("%s: %w", file.Name, err)
			}
			copy(w.image[w.offset(at):], file.Data)
		}
		if err := f.name(w, file.Name, 0, at, len(file.Data)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) offset(cluster int) int { return w.data + (cluster-2)*w.cluster }

var errFull = errors.New("the file system is full")

// allocate takes clusters in a row for so many bytes.
func (w *writer) allocate(size int) (int, error) {
	n := (size + w.cluster - 1) / w.cluster
	if w.next+n > len(w.table) {
		return 0, errFull
	}
	at := w.next
	w.next += n
	for i := at; i < w.next-1; i++ {
		w.table[i] = uint16(i + 1)
	}
	w.table[w.next-1] = endOfChain
	return at, nil
}

func (w *writer) writeTables() {
	size := (w.rootAt() - reserved*sector) / tables
	for t := range tables {
		b := w.image[reserved*sector+t*size:]
		for i, v := range w.table {
			binary.LittleEndian.PutUint16(b[2*i:], v)
		}
	}
}

// entriesOf is how many entries a name takes: its short one, and one for 13
// letters of its long one.
func entriesOf(name string) int { return 1 + (len(utf16.Encode([]rune(name)))+12)/13 }

// name adds the entries of a file or folder: the long name, last part first,
// and a short one that is made up.
func (f *folder) name(w *writer, name string, attributes byte, cluster, size int) error {
	short := f.alias(name)
	sum := byte(0)
	for i := range short {
		sum = sum>>1 | sum<<7 + short[i]
	}
	units := utf16.Encode([]rune(name))
	parts := (len(units) + 12) / 13
	for p := parts; p >= 1; p-- {
		e := make([]byte, entry)
		e[0] = byte(p)
		if p == parts {
			e[0] |= 0x40
		}
		e[11], e[13] = attrLong, sum
		for i := range 13 {
			unit := uint16(0xffff)
			if k := (p-1)*13 + i; k < len(units) {
				unit = units[k]
			} else if k == len(units) {
				unit = 0
			}
			binary.LittleEndian.PutUint16(e[place(i):], unit)
		}
		f.entries = append(f.entries, e...)
	}
	f.entries = append(f.entries, w.short(short, attributes, cluster, size)...)
	if f.limit > 0 && len(f.entries) > f.limit-2*entry {
		return fmt.Errorf("%s: %w: the root folder has no more than %d entries", name, errFull, rootEntries)
	}
	return nil
}

// place is where a letter of a long name is in its entry.
func place(i int) int {
	switch {
	case i < 5:
		return 1 + 2*i
	case i < 11:
		return 14 + 2*(i-5)
	}
	return 28 + 2*(i-11)
}

// alias makes a short name that is free in the folder.
func (f *folder) alias(name string) string {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	clean := func(s string, n int) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
				return r
			}
			return -1
		}, s)
		return s[:min(n, len(s))]
	}
	plain := clean(base, 8) + "." + clean(ext, 3)
	if strings.EqualFold(strings.TrimSuffix(plain, "."), name) && !f.names[plain] {
		f.names[plain] = true
		return pad(clean(base, 8), 8) + pad(clean(ext, 3), 3)
	}
	for i := 1; ; i++ {
		tail := fmt.Sprintf("~%d", i)
		short := clean(base, 8-len(tail)) + tail
		if key := short + "." + clean(ext, 3); !f.names[key] {
			f.names[key] = true
			return pad(short, 8) + pad(clean(ext, 3), 3)
		}
	}
}

// short makes the entry of a short name of 11 letters.
func (w *writer) short(name string, attributes byte, cluster, size int) []byte {
	e := make([]byte, entry)
	copy(e, name)
	e[11] = attributes
	t := w.volume.Time.UTC()
	clock := uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	day := uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	le := binary.LittleEndian
	le.PutUint16(e[14:], clock)
	le.PutUint16(e[16:], day)
	le.PutUint16(e[18:], day)
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], day)
	le.PutUint16(e[26:], uint16(cluster))
	le.PutUint32(e[28:], uint32(size))
	return e
}

func pad(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
