package codec

import "encoding/binary"

// A serialization is described to the rest of the package by its tokens: how
// one is read (tokenReader) and how one is written (tokenWriter). Both are
// stateless; where a token stands is known to reader and writer, which are the
// same for all serializations.

// kind says what a token is.
type kind uint8

const (
	kindError   kind = iota // malformed; why says how
	kindEnd                 // the end of a list, a dictionary or the input
	kindNull                //
	kindBool                // n is 0 or 1
	kindUint                // n
	kindNeg                 // int64(n), negative
	kindFloat               // tokenReader.float
	kindString              // b[lo:n], or tokenReader.content when coded
	kindBinary              // likewise
	kindList                // n elements, or openEnded
	kindDict                // n entries, or openEnded
	kindForeign             // sound, but known to this serialization only; why names it
)

var kindNames = [...]string{
	kindError: "malformed bytes", kindEnd: "the end", kindNull: "null", kindBool: "a boolean",
	kindUint: "an integer", kindNeg: "a negative integer", kindFloat: "a float", kindString: "a string",
	kindBinary: "binary data", kindList: "a list", kindDict: "a dictionary", kindForeign: "an extension",
}

func (k kind) String() string { return kindNames[k] }

// openEnded is the length of a list or dictionary that ends with a token of
// its own instead of declaring a length.
const openEnded = ^uint64(0)

// token is one token of the input. The compiler keeps it in registers because
// it has no more than four fields, which makes scanning twice as fast.
type token struct {
	what
	n   uint64 // see the kinds; of strings, where the content ends
	lo  int    // where the content begins; of lists and dictionaries, where the token does
	end int    // where the token ends; of an error, where it is
}

type what struct {
	kind  kind
	coded bool // a string or binary whose content is not simply b[lo:n]
	why   why  // of an error or a foreign token
}

// in is the content of a string, binary or JSON number, as it stands in b.
func (t token) in(b []byte) []byte { return b[t.lo:t.n] }

func scalar(k kind, n uint64, end int) token { return token{what: what{kind: k}, n: n, end: end} }

func container(k kind, n uint64, begin, end int) token {
	return token{what: what{kind: k}, n: n, lo: begin, end: end}
}

func content(k kind, coded bool, lo, hi, end int) token {
	return token{what: what{kind: k, coded: coded}, n: uint64(hi), lo: lo, end: end}
}

func failed(pos int, reason why) token {
	return token{what: what{kind: kindError, why: reason}, end: pos}
}

func foreign(reason why, end int) token {
	return token{what: what{kind: kindForeign, why: reason}, end: end}
}

// why is a reason in whyText: a string in its place would make every reader
// escape to the heap.
type why uint8

const (
	whyUnknown why = iota
	whyShort
	whyLength
	whyTrailing
	whyUTF8
	whyValue
	whyNumber
	whyKey
	whyColon
	whyComma
	whyQuote
	whyEscape
	whyControl
	whyCode
	whyHead
	whyTags
	whyBreak
	whyPiece
	whySimple
	whyExtension
	whyTooLow
	whyBignum
	whyUnassigned
)

var whyText = [...]string{
	whyUnknown:  "malformed",
	whyShort:    "unexpected end",
	whyLength:   "declared length exceeds the bytes that are left",
	whyTrailing: "bytes after the end",
	whyUTF8:     "string is not UTF-8",
	whyValue:    "want a value",
	whyNumber:   "malformed number",
	whyKey:      "want a string as the key",
	whyColon:    "want ':' after the key",
	whyComma:    "want ',' or the end of the list or dictionary",
	whyQuote:    "string without end",
	whyEscape:   "malformed escape in a string",
	whyControl:  "control character in a string",
	whyCode:     "byte c1 is not MessagePack",
	whyHead:     "malformed or cut off",
	whyTags:     "too many tags on one value",
	whyBreak:    "break outside of a list or dictionary",
	whyPiece:    "malformed piece of a string",
	whySimple:   "malformed simple value",
	// Of foreign tokens:
	whyExtension:  "a MessagePack extension type",
	whyTooLow:     "an integer below -2^63",
	whyBignum:     "an integer of more than 64 bits",
	whyUnassigned: "a CBOR simple value",
}

func (w why) String() string { return whyText[w] }

// place says where in its surroundings a token stands. Serializations with
// separators need it, those with length prefixes hardly do.
type place uint8

const (
	atItem     place = iota // the top level, an element of a list of declared length
	atMember                // the value to a key
	atDone                  // the top level, after its only value: nothing may follow
	atKey                   // a key of a dictionary of declared length
	atFirstKey              // the first key of an open-ended dictionary, or its end
	atNextKey               // a further key, or the end
	atFirst                 // the first element of an open-ended list, or its end
	atNext                  // a further element, or the end
)

func (p place) key() bool { return p >= atKey && p <= atNextKey }

// ending reports whether an open-ended list or dictionary may end here.
func (p place) ending() bool { return p >= atFirstKey }

// tokenReader reads the tokens of one serialization.
type tokenReader interface {
	// token scans the token at b[pos:], with what separates it from the one
	// before. It allocates nothing and never looks past one token: declared
	// lengths of strings are checked here, those of lists and dictionaries,
	// nesting and counts by the reader.
	token(b []byte, pos int, at place) token
	// content appends the content of a coded string or binary token to dst. It
	// also says which of the two it is, since in JSON only the content tells.
	content(dst, b []byte, t token) ([]byte, kind)
	// float is the value of a float token; false means out of range.
	float(b []byte, t token) (float64, bool)
}

// tokenWriter writes the tokens of one serialization. Its methods append to
// dst; writer cares for order, separators and what cannot be expressed.
type tokenWriter interface {
	appendNull(dst []byte) []byte
	appendBool(dst []byte, v bool) []byte
	appendUint(dst []byte, v uint64) []byte
	appendInt(dst []byte, v int64) []byte
	appendFloat(dst []byte, v float64) []byte
	appendString(dst []byte, s string) []byte
	appendText(dst, s []byte) []byte // appendString for bytes
	appendBinary(dst, v []byte) []byte
	// appendOpen begins a list or dictionary whose length is not yet known;
	// appendClose ends the one that was opened at dst[at:] and has n elements
	// or entries.
	appendOpen(dst []byte, k kind) []byte
	appendClose(dst []byte, k kind, at, n int) []byte
	// appendGo appends any Go value, by reflection.
	appendGo(dst []byte, v any) ([]byte, error)
}

// syntax is one serialization in full.
type syntax interface {
	tokenReader
	tokenWriter
}

// span is the string or binary token whose n bytes of content begin at pos.
func span(b []byte, k kind, pos int, n uint64) token {
	if n > uint64(len(b)-pos) {
		return failed(pos, whyLength)
	}
	end := pos + int(n)
	return content(k, false, pos, end, end)
}

// bigEndian is the size-byte number at b[pos:]; false means that the input
// ends before it does.
func bigEndian(b []byte, pos, size int) (uint64, bool) {
	if len(b)-pos < size {
		return 0, false
	}
	switch b = b[pos:]; size {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), true
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), true
	case 8:
		return binary.BigEndian.Uint64(b), true
	}
	var n uint64
	for _, c := range b[:size] {
		n = n<<8 | uint64(c)
	}
	return n, true
}

// integer is the token of a two's complement number of size bytes.
func integer(n uint64, size, end int) token {
	shift := 64 - 8*size
	if v := int64(n<<shift) >> shift; v < 0 {
		return scalar(kindNeg, uint64(v), end)
	}
	return scalar(kindUint, n, end)
}
