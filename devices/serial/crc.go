package serial

import (
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// crc is a cyclic redundancy check in the terms of Williams' "A Painless Guide
// to CRC Error Detection Algorithms": width in bits, polynomial, first value,
// whether bits are taken from the low end, and what the result is xored with.
type crc struct {
	width     int
	poly      uint32
	first     uint32
	reflected bool
	last      uint32
}

// crcs are the checks by the names that data sheets use.
var crcs = map[string]crc{
	"crc-8":         {8, 0x07, 0, false, 0},
	"crc-8-maxim":   {8, 0x31, 0, true, 0},
	"crc-8-nrsc5":   {8, 0x31, 0xFF, false, 0},
	"crc-16-arc":    {16, 0x8005, 0, true, 0},
	"crc-16-modbus": {16, 0x8005, 0xFFFF, true, 0},
	"crc-16-ccitt":  {16, 0x1021, 0xFFFF, false, 0},
	"crc-16-xmodem": {16, 0x1021, 0, false, 0},
	"crc-16-kermit": {16, 0x1021, 0, true, 0},
	"crc-16-x25":    {16, 0x1021, 0xFFFF, true, 0xFFFF},
	"crc-32":        {32, 0x04C11DB7, 0xFFFFFFFF, true, 0xFFFFFFFF},
	"crc-32-mpeg2":  {32, 0x04C11DB7, 0xFFFFFFFF, false, 0},
}

// checkNone is the name of no check.
const checkNone = "none"

// checkNames are all names, for errors.
func checkNames() string {
	return strings.Join(append([]string{checkNone, "sum-8", "sum-8-neg", "sum-16", "xor-8"}, slices.Sorted(maps.Keys(crcs))...), ", ")
}

// checkSize is how many bytes a check has, -1 when there is none of this name.
func checkSize(name string) int {
	switch name {
	case checkNone:
		return 0
	case "sum-8", "sum-8-neg", "xor-8":
		return 1
	case "sum-16":
		return 2
	}
	if c, ok := crcs[name]; ok {
		return c.width / 8
	}
	return -1
}

// check computes the check of this name.
func check(name string, p []byte) uint32 {
	if c, ok := crcs[name]; ok {
		return c.of(p)
	}
	var sum, xor uint32
	for _, b := range p {
		sum += uint32(b)
		xor ^= uint32(b)
	}
	switch name {
	case "sum-8":
		return sum & 0xFF
	case "sum-8-neg":
		return -sum & 0xFF
	case "sum-16":
		return sum & 0xFFFF
	case "xor-8":
		return xor
	}
	return 0
}

// of goes bit by bit: frames are short and lines are slow.
func (c crc) of(p []byte) uint32 {
	v, top := c.first, uint32(1)<<(c.width-1)
	mask := top<<1 - 1
	if c.reflected {
		poly := bits.Reverse32(c.poly) >> (32 - c.width)
		for _, b := range p {
			v ^= uint32(b)
			for range 8 {
				v = v>>1 ^ poly&-(v&1)
			}
		}
		return v ^ c.last
	}
	for _, b := range p {
		v ^= uint32(b) << (c.width - 8)
		for range 8 {
			carry := v & top
			v <<= 1
			if carry != 0 {
				v ^= c.poly
			}
		}
	}
	return v&mask ^ c.last
}
