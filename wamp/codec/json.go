package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonSyntax is JSON as in RFC 8259, strictly, in UTF-8.
//
// A string that begins with "\u0000" and goes on as Base64 with padding is
// binary data. A number without fraction and exponent is an integer, exact to
// 64 bits and a float beyond; floats are written with a fraction or an
// exponent, so that 1.0 stays a float. A surrogate escape without its other
// half, which JavaScript produces when it cuts a string, reads as U+FFFD.
type jsonSyntax struct{}

func jsonSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\n' || b[pos] == '\r' || b[pos] == '\t') {
		pos++
	}
	return pos
}

func (s jsonSyntax) token(b []byte, pos int, at place) token {
	pos = jsonSpace(b, pos)
	if pos == len(b) {
		if at == atDone {
			return scalar(kindEnd, 0, pos)
		}
		return failed(pos, whyShort)
	}
	c := b[pos]
	switch at {
	case atDone:
		return failed(pos, whyTrailing)
	case atMember:
		if c != ':' {
			return failed(pos, whyColon)
		}
		pos = jsonSpace(b, pos+1)
	case atFirst, atFirstKey:
		if c == jsonEnd(at) {
			return scalar(kindEnd, 0, pos+1)
		}
	case atNext, atNextKey:
		if c == jsonEnd(at) {
			return scalar(kindEnd, 0, pos+1)
		}
		if c != ',' {
			return failed(pos, whyComma)
		}
		pos = jsonSpace(b, pos+1)
	}
	if pos == len(b) {
		return failed(pos, whyShort)
	}
	if at.key() && b[pos] != '"' {
		return failed(pos, whyKey)
	}
	return s.value(b, pos, at.key())
}

func jsonEnd(at place) byte {
	if at.key() {
		return '}'
	}
	return ']'
}

func (jsonSyntax) value(b []byte, pos int, key bool) token {
	switch c := b[pos]; c {
	case '"':
		return jsonString(b, pos, key)
	case '[':
		return container(kindList, openEnded, pos, pos+1)
	case '{':
		return container(kindDict, openEnded, pos, pos+1)
	case 'n':
		return jsonWord(b, pos, "null", kindNull, 0)
	case 't':
		return jsonWord(b, pos, "true", kindBool, 1)
	case 'f':
		return jsonWord(b, pos, "false", kindBool, 0)
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return jsonNumber(b, pos)
		}
		return failed(pos, whyValue)
	}
}

func jsonWord(b []byte, pos int, word string, k kind, n uint64) token {
	if len(b)-pos < len(word) || string(b[pos:pos+len(word)]) != word {
		return failed(pos, whyValue)
	}
	return scalar(k, n, pos+len(word))
}

func jsonNumber(b []byte, begin int) token {
	pos, negative := begin, b[begin] == '-'
	if negative {
		pos++
	}
	first, n, big := pos, uint64(0), false
	for ; pos < len(b) && b[pos]-'0' <= 9; pos++ {
		hi, lo := bits.Mul64(n, 10)
		sum, carry := bits.Add64(lo, uint64(b[pos]-'0'), 0)
		n, big = sum, big || hi+carry > 0
	}
	if pos == first || b[first] == '0' && pos > first+1 {
		return failed(begin, whyNumber)
	}
	float := big || negative && n > 1<<63
	if pos < len(b) && b[pos] == '.' {
		if pos, float = digits(b, pos+1), true; pos < 0 {
			return failed(begin, whyNumber)
		}
	}
	if pos < len(b) && (b[pos] == 'e' || b[pos] == 'E') {
		if pos++; pos < len(b) && (b[pos] == '+' || b[pos] == '-') {
			pos++
		}
		if pos, float = digits(b, pos), true; pos < 0 {
			return failed(begin, whyNumber)
		}
	}
	switch {
	case float:
		return content(kindFloat, false, begin, pos, pos)
	case negative && n > 0:
		return scalar(kindNeg, -n, pos)
	}
	return scalar(kindUint, n, pos)
}

// digits is where the digits at b[pos:] end; -1 when there are none.
func digits(b []byte, pos int) int {
	begin := pos
	for pos < len(b) && b[pos]-'0' <= 9 {
		pos++
	}
	if pos == begin {
		return -1
	}
	return pos
}

func (jsonSyntax) float(b []byte, t token) (float64, bool) {
	v, err := strconv.ParseFloat(string(t.in(b)), 64)
	return v, err == nil
}

// special marks the bytes of w that a JSON string cannot hold as they are:
// quote, backslash and control characters. Above the lowest mark there may be
// false ones.
func special(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, slash := w^ones*'"', w^ones*'\\'
	return ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*0x20)&^w) & tops
}

// plainJSON is where the first special byte at or after pos stands, or len(b);
// high has its top bits set when there are bytes above ASCII before it.
func plainJSON[T string | []byte](b T, pos int) (end int, high byte) {
	for ; pos < len(b); pos++ {
		c := b[pos]
		if c < 0x20 || c == '"' || c == '\\' {
			return pos, high
		}
		high |= c
	}
	return pos, high
}

func jsonString(b []byte, pos int, key bool) token {
	k, coded, begin := kindString, false, pos+1
	var high uint64
	for pos = begin; ; {
		for len(b)-pos >= 8 {
			w := binary.LittleEndian.Uint64(b[pos:])
			if m := special(w); m != 0 {
				n := bits.TrailingZeros64(m) &^ 7
				high |= w & (1<<n - 1)
				pos += n / 8
				break
			}
			high |= w
			pos += 8
		}
		end, h := plainJSON(b, pos)
		high |= uint64(h)
		pos = end
		if pos == len(b) {
			return failed(pos, whyQuote)
		}
		switch b[pos] {
		case '"':
			if high&0x8080808080808080 != 0 && !utf8.Valid(b[begin:pos]) {
				return failed(begin, whyUTF8)
			}
			return content(k, coded, begin, pos, pos+1)
		case '\\':
			n := jsonEscape(b[pos:])
			if n == 0 {
				return failed(pos, whyEscape)
			}
			if !key && pos == begin && string(b[pos:pos+n]) == `\u0000` {
				k = kindBinary // if the rest is Base64: see content
			}
			coded = true
			pos += n
		default:
			return failed(pos, whyControl)
		}
	}
}

// jsonEscape is the length of the escape sequence that b begins with, 0 when
// it is malformed.
func jsonEscape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

// hex4 is the UTF-16 code unit in the escape sequence \uXXXX that b begins with.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (jsonSyntax) content(dst, b []byte, t token) ([]byte, kind) {
	s := t.in(b)
	if t.kind == kindBinary {
		code := s[len(`\u0000`):]
		if bytes.IndexByte(code, '\\') >= 0 {
			// Some writers escape the slash, which Base64 uses.
			code = bytes.ReplaceAll(code, []byte(`\/`), []byte(`/`))
		}
		if d, err := base64.StdEncoding.AppendDecode(dst, code); err == nil {
			return d, kindBinary
		}
	}
	for len(s) > 0 {
		n := bytes.IndexByte(s, '\\')
		if n < 0 {
			return append(dst, s...), kindString
		}
		dst = append(dst, s[:n]...)
		s = s[n:]
		if s[1] != 'u' {
			dst = append(dst, unescaped(s[1]))
			s = s[2:]
			continue
		}
		r, _ := hex4(s)
		s = s[6:]
		if utf16.IsSurrogate(r) {
			low, _ := hex4(s)
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				s = s[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, kindString
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func (jsonSyntax) appendNull(dst []byte) []byte             { return append(dst, "null"...) }
func (jsonSyntax) appendBool(dst []byte, v bool) []byte     { return strconv.AppendBool(dst, v) }
func (jsonSyntax) appendUint(dst []byte, v uint64) []byte   { return strconv.AppendUint(dst, v, 10) }
func (jsonSyntax) appendInt(dst []byte, v int64) []byte     { return strconv.AppendInt(dst, v, 10) }
func (jsonSyntax) appendString(dst []byte, s string) []byte { return appendJSONString(dst, s) }
func (jsonSyntax) appendText(dst, s []byte) []byte          { return appendJSONString(dst, s) }

func (jsonSyntax) appendFloat(dst []byte, v float64) []byte {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, v, format, -1, 64)
	if format == 'f' && bytes.IndexByte(dst[at:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst
}

func appendJSONString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for pos := 0; ; {
		end, _ := plainJSON(s, pos)
		dst = append(dst, s[pos:end]...)
		if end == len(s) {
			return append(dst, '"')
		}
		switch c := s[end]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		pos = end + 1
	}
}

func (jsonSyntax) appendBinary(dst, v []byte) []byte {
	dst = append(dst, `"\u0000`...)
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, '"')
}

func (jsonSyntax) appendOpen(dst []byte, k kind) []byte {
	if k == kindDict {
		return append(dst, '{')
	}
	return append(dst, '[')
}

func (jsonSyntax) appendClose(dst []byte, k kind, _, _ int) []byte {
	if k == kindDict {
		return append(dst, '}')
	}
	return append(dst, ']')
}

// appendGo goes through CBOR: encoding/json would turn nested binary data into
// plain Base64 strings, and the CBOR library honours the same struct tags.
func (jsonSyntax) appendGo(dst []byte, v any) ([]byte, error) {
	b, err := cborGo.Marshal(v)
	if err != nil {
		return dst, err
	}
	return transcode(dst, b, cborCodec, jsonCodec)
}
