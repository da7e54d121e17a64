package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	attrFolder = 0x10
	attrVolume = 0x08
	attrLong   = 0x0f
)

// entry is the 32 bytes of a file or folder.
type entry []byte

func (e entry) folder() bool { return e[11]&attrFolder != 0 }
func (e entry) size() int64  { return int64(binary.LittleEndian.Uint32(e[28:])) }
func (e entry) cluster() uint32 {
	return uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
}

// set says where the content is; the time is in the zone of now, as FAT has it.
func (e entry) set(cluster, size uint32, now time.Time) {
	day := uint16((max(now.Year(), 1980)-1980)<<9 | int(now.Month())<<5 | now.Day())
	clock := uint16(now.Hour()<<11 | now.Minute()<<5 | now.Second()/2)
	le := binary.LittleEndian
	if le.Uint16(e[16:]) == 0 {
		le.PutUint16(e[14:], clock)
		le.PutUint16(e[16:], day)
	}
	le.PutUint16(e[18:], day)
	le.PutUint16(e[20:], uint16(cluster>>16))
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], day)
	le.PutUint16(e[26:], uint16(cluster))
	le.PutUint32(e[28:], size)
}

// short is the name in 8.3.
func (e entry) short() string {
	name, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if ext != "" {
		return name + "." + ext
	}
	return name
}

// folder is the entries of a folder, with the clusters that they are in.
type folder struct {
	chain []uint32
	data  []byte
}

// find is the entry of a file or folder with a name, nil if there is none.
func (d *folder) find(name string) entry {
	var long []uint16
	var sum byte
	for i := 0; i+32 <= len(d.data); i += 32 {
		e := entry(d.data[i : i+32])
		switch {
		case e[0] == 0:
			return nil
		case e[0] == 0xE5:
			long = nil
		case e[11] == attrLong:
			// The last part comes first.
			if e[0]&0x40 != 0 {
				long, sum = nil, e[13]
			}
			if len(long) < 260 {
				long = append(letters(e), long...)
			}
		default:
			full := ""
			if long != nil && sum == checksum(e) {
				full = string(utf16.Decode(long))
			}
			long = nil
			if e[11]&attrVolume == 0 && (strings.EqualFold(full, name) || strings.EqualFold(e.short(), name)) {
				return e
			}
		}
	}
	return nil
}

// places are where a long entry has its letters.
var places = [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// letters are those of one entry of a long name, up to its end.
func letters(e entry) []uint16 {
	var out []uint16
	for _, p := range places {
		c := binary.LittleEndian.Uint16(e[p:])
		if c == 0 || c == 0xffff {
			break
		}
		out = append(out, c)
	}
	return out
}

// checksum ties a long name to the short entry that follows.
func checksum(e entry) byte {
	var sum byte
	for _, c := range e[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// add makes an entry, behind those of its long name. Nothing has the name yet.
func (d *folder) add(name string, attribute byte) (entry, error) {
	alias, err := d.alias(name)
	if err != nil {
		return nil, err
	}
	units := utf16.Encode([]rune(name))
	n := (len(units) + 12) / 13
	if len(units) == 0 || len(units) > 255 || strings.ContainsAny(name, "\\/:*?\"<>|") {
		return nil, fmt.Errorf("%q cannot be a name on FAT", name)
	}
	at, err := d.room(n + 1)
	if err != nil {
		return nil, err
	}
	e := entry(d.data[at+32*n : at+32*(n+1)])
	clear(e)
	copy(e, alias)
	e[11] = attribute
	sum := checksum(e)
	for i := range n {
		l := entry(d.data[at+32*i : at+32*(i+1)])
		clear(l)
		part := n - i // counted from 1, the last one first
		l[0], l[11], l[13] = byte(part), attrLong, sum
		if i == 0 {
			l[0] |= 0x40
		}
		for k, p := range places {
			c := uint16(0xffff)
			if at := 13*(part-1) + k; at < len(units) {
				c = units[at]
			} else if at == len(units) {
				c = 0
			}
			binary.LittleEndian.PutUint16(l[p:], c)
		}
	}
	return e, nil
}

// room is where so many entries in a row are free; the folder grows for them.
func (d *folder) room(n int) (int, error) {
	free, end := 0, false
	for i := 0; i+32 <= len(d.data); i += 32 {
		end = end || d.data[i] == 0
		if end || d.data[i] == 0xE5 {
			free++
		} else {
			free = 0
		}
		if free == n {
			return i - 32*(n-1), nil
		}
	}
	at := len(d.data) - 32*free
	size := len(d.data) / len(d.chain) // of a cluster
	grown := (32*(n-free) + size - 1) / size * size
	if len(d.data)+grown > maxFolder {
		return 0, errors.New("the folder is full")
	}
	d.data = append(d.data, make([]byte, grown)...)
	return at, nil
}

// alias is a free name in 8.3, padded with spaces to 11 letters.
func (d *folder) alias(name string) (string, error) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	base, ext = plain(base), plain(ext)
	ext = ext[:min(3, len(ext))]
	for i := 1; i < 1000; i++ {
		tail := fmt.Sprintf("~%d", i)
		short := base[:min(len(base), 8-len(tail))] + tail
		full := short
		if ext != "" {
			full += "." + ext
		}
		if d.find(full) == nil {
			return fmt.Sprintf("%-8s%-3s", short, ext), nil
		}
	}
	return "", errors.New("the folder has too many names that are alike")
}

// plain keeps what a short name may have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r == '.' || r == ' ':
			return -1
		}
		return '_'
	}, s)
}
