package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A segment begins with magic and a salt of 8 random bytes, one for the whole
// log, and then has records without gaps:
//
//	mark    2 bytes   c5 9e: where a search for the next record stops
//	kind    1 byte    kindData or kindDone
//	length  4 bytes   of the body, little endian
//	crc     4 bytes   CRC-32C over salt, kind, length and body, little endian
//	body              data: sequence number (8 bytes, little endian), data
//	                  done: sequence numbers, 8 bytes each
//
// The salt keeps a message that has the bytes of a record in it from being taken
// for one where a search goes through it.
const (
	magic      = "POSTERN SPOOL 1\n"
	headerSize = len(magic) + 8
	prefixSize = 11
	mark0      = 0xC5
	mark1      = 0x9E

	kindData = 1
	kindDone = 2
)

// Overhead is what a data record takes beside its data.
const Overhead = prefixSize + 8

// MaxData bounds the data of one record.
const MaxData = 512 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type salt [8]byte

func appendHeader(dst []byte, s salt) []byte { return append(append(dst, magic...), s[:]...) }

// parseHeader reads the salt of a segment.
func parseHeader(b []byte) (s salt, ok bool) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return s, false
	}
	copy(s[:], b[len(magic):])
	return s, true
}

// appendRecord appends the record of a body, which fill writes.
func (s salt) appendRecord(dst []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(dst)
	dst = append(dst, mark0, mark1, kind, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = fill(dst)
	binary.LittleEndian.PutUint32(dst[at+3:], uint32(len(dst)-at-prefixSize))
	binary.LittleEndian.PutUint32(dst[at+7:], s.checksum(dst[at:]))
	return dst
}

func (s salt) appendData(dst []byte, seq uint64, data []byte) []byte {
	return s.appendRecord(dst, kindData, func(b []byte) []byte {
		return append(binary.LittleEndian.AppendUint64(b, seq), data...)
	})
}

func (s salt) appendDone(dst []byte, seqs []uint64) []byte {
	return s.appendRecord(dst, kindDone, func(b []byte) []byte {
		for _, seq := range seqs {
			b = binary.LittleEndian.AppendUint64(b, seq)
		}
		return b
	})
}

// checksum is that of a whole record.
func (s salt) checksum(record []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, record[2:7])
	return crc32.Update(sum, castagnoli, record[prefixSize:])
}

// parse reads the record at the beginning of b. It is nil when there is none,
// or not all of it.
func (s salt) parse(b []byte) (record []byte) {
	if len(b) < prefixSize || b[0] != mark0 || b[1] != mark1 || b[2] != kindData && b[2] != kindDone {
		return nil
	}
	length := binary.LittleEndian.Uint32(b[3:])
	if uint64(length) > uint64(len(b)-prefixSize) || length < 8 {
		return nil
	}
	record = b[:prefixSize+int(length)]
	if binary.LittleEndian.Uint32(record[7:]) != s.checksum(record) {
		return nil
	}
	return record
}

// scan calls f for every record of a segment, with its offset. Where there is
// none it looks for the next: damage costs the records that it hit, and no
// others. damaged says how many bytes belong to no record; end is where the last
// record ends, and what is behind it, a record that was cut off, is no damage.
func (s salt) scan(b []byte, f func(at int, kind byte, body []byte)) (end, damaged int) {
	end = min(headerSize, len(b))
	for at := end; at < len(b); {
		if r := s.parse(b[at:]); r != nil {
			f(at, r[2], r[prefixSize:])
			damaged += at - end
			at += len(r)
			end = at
			continue
		}
		next := bytes.Index(b[at+1:], []byte{mark0, mark1})
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return end, damaged
}
