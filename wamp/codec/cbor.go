package codec

import (
	"encoding/binary"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// cborSyntax is CBOR as in RFC 8949.
//
// Tags are skipped and their content is taken, but for bignums, which read as
// integers when 64 bits hold them; larger ones, integers below -2^63 and
// unassigned simple values pass from CBOR to CBOR only. Undefined reads as
// null. Lists, dictionaries and strings of indefinite length are read and never
// written. Integers and lengths are written in their shortest form, floats in
// 64 bits.
type cborSyntax struct{}

// CBOR's major types.
const (
	cborUint   = 0 << 5
	cborNeg    = 1 << 5
	cborBinary = 2 << 5
	cborText   = 3 << 5
	cborList   = 4 << 5
	cborDict   = 5 << 5
	cborTag    = 6 << 5
	cborSimple = 7 << 5

	cborIndefinite = 31
	cborBreak      = 0xff

	// maxTags is how many tags one value may carry.
	maxTags = 8

	tagBignum    = 2
	tagNegBignum = 3
)

// head reads a token's first byte and its argument: the major type, the low
// five bits, the argument and where it ends, which is -1 on error.
func (cborSyntax) head(b []byte, pos int) (major, info byte, n uint64, end int) {
	if pos >= len(b) {
		return 0, 0, 0, -1
	}
	major, info = b[pos]&0xe0, b[pos]&0x1f
	pos++
	switch {
	case info < 24:
		return major, info, uint64(info), pos
	case info < 28:
		size := 1 << (info - 24)
		n, ok := bigEndian(b, pos, size)
		if !ok {
			return 0, 0, 0, -1
		}
		return major, info, n, pos + size
	case info == cborIndefinite && major != cborUint && major != cborNeg && major != cborTag:
		return major, info, 0, pos
	}
	return 0, 0, 0, -1
}

func (s cborSyntax) token(b []byte, pos int, at place) token {
	if at == atDone {
		return binaryDone(b, pos)
	}
	begin, tag, tags := pos, uint64(0), 0
	for {
		major, info, n, end := s.head(b, pos)
		if end < 0 {
			return failed(pos, whyHead)
		}
		if major == cborTag {
			if tags++; tags > maxTags {
				return failed(begin, whyTags)
			}
			tag, pos = n, end
			continue
		}
		if major == cborSimple && info == cborIndefinite {
			if !at.ending() || tags > 0 {
				return failed(pos, whyBreak)
			}
			return scalar(kindEnd, 0, end)
		}
		t := s.value(b, pos, major, info, n, end)
		switch {
		case t.kind == kindList || t.kind == kindDict:
			t.lo = begin // the tags are part of it
		case tags > 0 && (tag == tagBignum || tag == tagNegBignum) && t.kind == kindBinary:
			return bignum(b, t, tag == tagNegBignum)
		}
		return t
	}
}

func (s cborSyntax) value(b []byte, pos int, major, info byte, n uint64, end int) token {
	switch major {
	case cborUint:
		return scalar(kindUint, n, end)
	case cborNeg:
		return negative(n, end)
	case cborBinary, cborText:
		k := kindBinary
		if major == cborText {
			k = kindString
		}
		if info == cborIndefinite {
			return s.chunks(b, end, major, k)
		}
		return text(b, span(b, k, end, n))
	case cborList, cborDict:
		k := kindList
		if major == cborDict {
			k = kindDict
		}
		if info == cborIndefinite {
			n = openEnded
		} else if n == openEnded {
			return failed(pos, whyLength)
		}
		return container(k, n, pos, end)
	default:
		return simple(pos, info, n, end)
	}
}

// negative is the integer -1-n.
func negative(n uint64, end int) token {
	if n > math.MaxInt64 {
		return foreign(whyTooLow, end)
	}
	return scalar(kindNeg, ^n, end)
}

func bignum(b []byte, t token, neg bool) token {
	i := t.lo
	hi := int(t.n)
	for i < hi && b[i] == 0 {
		i++
	}
	n, ok := uint64(0), !t.coded && hi-i <= 8
	if ok {
		n, _ = bigEndian(b, i, hi-i)
	}
	switch {
	case !ok:
		return foreign(whyBignum, t.end)
	case neg:
		return negative(n, t.end)
	}
	return scalar(kindUint, n, t.end)
}

func simple(pos int, info byte, n uint64, end int) token {
	var v float64
	switch info {
	case 20, 21:
		return scalar(kindBool, n-20, end)
	case 22, 23:
		return scalar(kindNull, 0, end)
	case 25:
		v = half(uint16(n))
	case 26:
		v = float64(math.Float32frombits(uint32(n)))
	case 27:
		v = math.Float64frombits(n)
	default:
		if info == 24 && n < 32 {
			return failed(pos, whySimple)
		}
		return foreign(whyUnassigned, end)
	}
	return scalar(kindFloat, math.Float64bits(v), end)
}

// half is the value of a float of 16 bits.
func half(n uint16) float64 {
	sign, exponent, fraction := n>>15, int(n>>10&31), float64(n&1023)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(fraction, -24)
	case 31:
		if v = math.Inf(1); fraction != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(fraction+1024, exponent-25)
	}
	if sign == 1 {
		return -v
	}
	return v
}

// chunks reads the pieces of a string of indefinite length.
func (s cborSyntax) chunks(b []byte, pos int, want byte, k kind) token {
	for begin := pos; ; {
		if pos < len(b) && b[pos] == cborBreak {
			return content(k, true, begin, pos, pos+1)
		}
		major, info, n, end := s.head(b, pos)
		if end < 0 || major != want || info == cborIndefinite {
			return failed(pos, whyPiece)
		}
		piece := text(b, span(b, k, end, n))
		if piece.kind == kindError {
			return piece
		}
		pos = piece.end
	}
}

func (s cborSyntax) content(dst, b []byte, t token) ([]byte, kind) {
	for pos := t.lo; pos < int(t.n); {
		_, _, n, end := s.head(b, pos)
		pos = end + int(n)
		dst = append(dst, b[end:pos]...)
	}
	return dst, t.kind
}

func (cborSyntax) float(_ []byte, t token) (float64, bool) { return math.Float64frombits(t.n), true }

// appendHead writes a major type with its argument.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func (cborSyntax) appendNull(dst []byte) []byte { return append(dst, cborSimple|22) }

func (cborSyntax) appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, cborSimple|21)
	}
	return append(dst, cborSimple|20)
}

func (cborSyntax) appendUint(dst []byte, v uint64) []byte { return appendHead(dst, cborUint, v) }

func (cborSyntax) appendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return appendHead(dst, cborNeg, ^uint64(v))
	}
	return appendHead(dst, cborUint, uint64(v))
}

func (cborSyntax) appendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, cborSimple|27), math.Float64bits(v))
}

func (cborSyntax) appendString(dst []byte, s string) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

func (cborSyntax) appendText(dst, s []byte) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

func (cborSyntax) appendBinary(dst, v []byte) []byte {
	return append(appendHead(dst, cborBinary, uint64(len(v))), v...)
}

func (cborSyntax) appendOpen(dst []byte, _ kind) []byte { return append(dst, 0) }

func (cborSyntax) appendClose(dst []byte, k kind, at, n int) []byte {
	major := byte(cborList)
	if k == kindDict {
		major = cborDict
	}
	end := len(dst)
	return setHeader(appendHead(dst, major, uint64(n)), at, end)
}

// cborGo encodes Go values by reflection.
var cborGo = mustCBOR(cbor.EncOptions{
	Sort:          cbor.SortBytewiseLexical,
	Time:          cbor.TimeRFC3339Nano,
	TextMarshaler: cbor.TextMarshalerTextString,
	OmitEmpty:     cbor.OmitEmptyGoValue,
})

func mustCBOR(o cbor.EncOptions) cbor.EncMode {
	m, err := o.EncMode()
	if err != nil {
		panic(err) // options that contradict each other: fails at the first start
	}
	return m
}

func (cborSyntax) appendGo(dst []byte, v any) ([]byte, error) {
	b, err := cborGo.Marshal(v)
	return append(dst, b...), err
}
