package codec

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// msgpackSyntax is MessagePack, version 5 of its specification.
//
// Of the extension types, a timestamp (-1) reads as an RFC 3339 string in UTC
// and type 0 with one zero byte, which JavaScript clients send for undefined,
// as null. The others pass from MessagePack to MessagePack only. Integers are
// written in their shortest form, floats in 64 bits.
type msgpackSyntax struct{}

func (s msgpackSyntax) token(b []byte, pos int, at place) token {
	if at == atDone {
		return binaryDone(b, pos)
	}
	if pos >= len(b) {
		return failed(pos, whyShort)
	}
	c := b[pos]
	switch {
	case c <= 0x7f:
		return scalar(kindUint, uint64(c), pos+1)
	case c <= 0x8f:
		return container(kindDict, uint64(c&0x0f), pos, pos+1)
	case c <= 0x9f:
		return container(kindList, uint64(c&0x0f), pos, pos+1)
	case c <= 0xbf:
		return text(b, span(b, kindString, pos+1, uint64(c&0x1f)))
	case c >= 0xe0:
		return scalar(kindNeg, uint64(int64(int8(c))), pos+1)
	case c == 0xc0:
		return scalar(kindNull, 0, pos+1)
	case c == 0xc1:
		return failed(pos, whyCode)
	case c <= 0xc3:
		return scalar(kindBool, uint64(c&1), pos+1)
	case c >= 0xd4 && c <= 0xd8:
		return s.extension(b, pos+1, 1<<(c-0xd4))
	}
	return s.sized(b, pos)
}

// msgpackSizes are the bytes after the codes c4 to df that hold a number.
var msgpackSizes = [...]uint8{
	1, 2, 4, // bin, from c4
	0xc7 - 0xc4: 1, 0xc8 - 0xc4: 2, 0xc9 - 0xc4: 4, // ext
	0xca - 0xc4: 4, 0xcb - 0xc4: 8, // float
	0xcc - 0xc4: 1, 0xcd - 0xc4: 2, 0xce - 0xc4: 4, 0xcf - 0xc4: 8, // uint
	0xd0 - 0xc4: 1, 0xd1 - 0xc4: 2, 0xd2 - 0xc4: 4, 0xd3 - 0xc4: 8, // int
	0xd9 - 0xc4: 1, 0xda - 0xc4: 2, 0xdb - 0xc4: 4, // str
	0xdc - 0xc4: 2, 0xdd - 0xc4: 4, // array
	0xde - 0xc4: 2, 0xdf - 0xc4: 4, // map
}

// sized reads the tokens whose code is followed by a number.
func (s msgpackSyntax) sized(b []byte, pos int) token {
	c := b[pos]
	size := int(msgpackSizes[c-0xc4])
	n, ok := bigEndian(b, pos+1, size)
	if !ok {
		return failed(pos, whyShort)
	}
	end := pos + 1 + size
	switch {
	case c <= 0xc6:
		return span(b, kindBinary, end, n)
	case c <= 0xc9:
		return s.extension(b, end, n)
	case c == 0xca:
		v := float64(math.Float32frombits(uint32(n)))
		return scalar(kindFloat, math.Float64bits(v), end)
	case c == 0xcb:
		return scalar(kindFloat, n, end)
	case c <= 0xcf:
		return scalar(kindUint, n, end)
	case c <= 0xd3:
		return integer(n, size, end)
	case c <= 0xdb:
		return text(b, span(b, kindString, end, n))
	case c <= 0xdd:
		return container(kindList, n, pos, end)
	default:
		return container(kindDict, n, pos, end)
	}
}

// extension reads the type and the n bytes of content at b[pos:].
func (s msgpackSyntax) extension(b []byte, pos int, n uint64) token {
	if pos >= len(b) {
		return failed(pos, whyShort)
	}
	t := span(b, kindForeign, pos+1, n)
	if t.kind == kindError {
		return t
	}
	data := t.in(b)
	switch kind := int8(b[pos]); {
	case kind == 0 && n == 1 && data[0] == 0:
		t.kind = kindNull
	case kind == -1:
		if _, ok := msgpackTime(data); ok {
			t.kind, t.coded = kindString, true
			return t
		}
		fallthrough
	default:
		t.why = whyExtension
	}
	return t
}

// msgpackTime decodes the content of a timestamp; false when its form is
// unknown or RFC 3339 has no room for it.
func msgpackTime(data []byte) (time.Time, bool) {
	var sec int64
	var nsec uint64
	switch len(data) {
	case 4:
		sec = int64(binary.BigEndian.Uint32(data))
	case 8:
		n := binary.BigEndian.Uint64(data)
		sec, nsec = int64(n&(1<<34-1)), n>>34
	case 12:
		nsec, sec = uint64(binary.BigEndian.Uint32(data)), int64(binary.BigEndian.Uint64(data[4:]))
	default:
		return time.Time{}, false
	}
	const year0, year10000 = -62167219200, 253402300800
	if nsec >= 1e9 || sec < year0 || sec >= year10000 {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(nsec)).UTC(), true
}

func (msgpackSyntax) content(dst, b []byte, t token) ([]byte, kind) {
	when, _ := msgpackTime(t.in(b))
	return when.AppendFormat(dst, time.RFC3339Nano), kindString
}

func (msgpackSyntax) float(_ []byte, t token) (float64, bool) { return math.Float64frombits(t.n), true }

// binaryDone is the token at the top level after its value, in serializations
// without white space.
func binaryDone(b []byte, pos int) token {
	if pos < len(b) {
		return failed(pos, whyTrailing)
	}
	return scalar(kindEnd, 0, pos)
}

// text is t, provided that its content is UTF-8.
func text(b []byte, t token) token {
	if t.kind == kindString && !utf8.Valid(t.in(b)) {
		return failed(t.lo, whyUTF8)
	}
	return t
}

func (msgpackSyntax) appendNull(dst []byte) []byte { return append(dst, 0xc0) }

func (msgpackSyntax) appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

func (msgpackSyntax) appendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

func (s msgpackSyntax) appendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return s.appendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

func (msgpackSyntax) appendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
}

func (msgpackSyntax) appendString(dst []byte, s string) []byte {
	return append(msgpackText(dst, len(s)), s...)
}

func (msgpackSyntax) appendText(dst, s []byte) []byte {
	return append(msgpackText(dst, len(s)), s...)
}

func msgpackText(dst []byte, n int) []byte {
	if n <= 31 {
		return append(dst, 0xa0|byte(n))
	}
	if n <= math.MaxUint8 {
		return append(dst, 0xd9, byte(n))
	}
	return msgpackLength(dst, 0xda, n)
}

func (msgpackSyntax) appendBinary(dst, v []byte) []byte {
	if n := len(v); n <= math.MaxUint8 {
		dst = append(dst, 0xc4, byte(n))
	} else {
		dst = msgpackLength(dst, 0xc5, n)
	}
	return append(dst, v...)
}

// msgpackLength writes n in 16 bits with code, or in 32 bits with code + 1.
func msgpackLength(dst []byte, code byte, n int) []byte {
	if n <= math.MaxUint16 {
		return binary.BigEndian.AppendUint16(append(dst, code), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, code+1), uint32(n))
}

func (msgpackSyntax) appendOpen(dst []byte, _ kind) []byte { return append(dst, 0) }

func (msgpackSyntax) appendClose(dst []byte, k kind, at, n int) []byte {
	short, long := byte(0x90), byte(0xdc)
	if k == kindDict {
		short, long = 0x80, 0xde
	}
	if n <= 15 {
		dst[at] = short | byte(n)
		return dst
	}
	end := len(dst)
	return setHeader(msgpackLength(dst, long, n), at, end)
}

// appendGo lets structs have the same keys as in the other serializations.
func (msgpackSyntax) appendGo(dst []byte, v any) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	enc := msgpack.NewEncoder(out)
	enc.SetCustomStructTag("json")
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(v); err != nil {
		return dst, err
	}
	return out.Bytes(), nil
}
