package codec

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// writer writes values and their surroundings in one serialization. Its error
// sticks, so that callers may check once at the end.
type writer struct {
	codec  *codec
	syntax tokenWriter
	text   bool // JSON: commas and colons, no NaN, a leading NUL marks binary
	dst    []byte
	n      int  // elements or entries written in the list or dictionary that is open
	member bool // a key has been written, its value comes next
	err    error
}

func (w *writer) init(c *codec, dst []byte) {
	w.codec, w.syntax, w.text, w.dst = c, c.syntax, !c.binary, dst
}

// mark is an open list or dictionary.
type mark struct {
	kind  kind
	at    int // where it begins
	outer int // the count of what surrounds it
}

func (w *writer) fail(format string, a ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, a...)
	}
}

// item prepares for a value.
func (w *writer) item() {
	if w.member {
		w.member = false
		return
	}
	if w.text && w.n > 0 {
		w.dst = append(w.dst, ',')
	}
	w.n++
}

func (w *writer) open(k kind) mark {
	w.item()
	m := mark{kind: k, at: len(w.dst), outer: w.n}
	w.dst = w.syntax.appendOpen(w.dst, k)
	w.n = 0
	return m
}

func (w *writer) close(m mark) {
	w.dst = w.syntax.appendClose(w.dst, m.kind, m.at, w.n)
	w.n = m.outer
}

func (w *writer) key(key string) {
	w.item()
	w.dst = w.syntax.appendString(w.dst, valid(key))
	w.afterKey()
}

func (w *writer) afterKey() {
	if w.text {
		w.dst = append(w.dst, ':')
	}
	w.member = true
}

// raw writes one value that is encoded already.
func (w *writer) raw(b []byte) {
	w.item()
	w.dst = append(w.dst, b...)
}

func (w *writer) null() {
	w.item()
	w.dst = w.syntax.appendNull(w.dst)
}

func (w *writer) bool(v bool) {
	w.item()
	w.dst = w.syntax.appendBool(w.dst, v)
}

func (w *writer) uint(v uint64) {
	w.item()
	w.dst = w.syntax.appendUint(w.dst, v)
}

func (w *writer) int(v int64) {
	w.item()
	w.dst = w.syntax.appendInt(w.dst, v)
}

func (w *writer) float(v float64) {
	if w.text && (math.IsNaN(v) || math.IsInf(v, 0)) {
		w.fail("%v is not a JSON number", v)
		return
	}
	w.item()
	w.dst = w.syntax.appendFloat(w.dst, v)
}

// whyNUL: in JSON, a string that begins with NUL is binary data (advanced
// profile, "Binary support in JSON"), so other strings must not.
const whyNUL = "a string that begins with NUL, which JSON peers take for binary data"

func (w *writer) string(s string) {
	if w.text && s != "" && s[0] == 0 {
		w.fail(whyNUL)
		return
	}
	w.item()
	w.dst = w.syntax.appendString(w.dst, valid(s))
}

func (w *writer) binary(v []byte) {
	w.item()
	w.dst = w.syntax.appendBinary(w.dst, v)
}

// valid is s with what is not UTF-8 replaced, as encoding/json does: text that
// a device sent garbled must not make a message undeliverable.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// setHeader replaces the one-byte header at dst[at] by the header that stands
// at dst[end:], which is cut off: the length of what lies between was not
// known when it was begun.
func setHeader(dst []byte, at, end int) []byte {
	var header [9]byte
	n := copy(header[:], dst[end:])
	if n > 1 {
		copy(dst[at+n:], dst[at+1:end])
	}
	copy(dst[at:], header[:n])
	return dst[:end+n-1]
}

// transcode copies one value, token by token, from another serialization.
func (w *writer) transcode(r *reader) {
	var room [usualDepth]mark
	marks := room[:0]
	for r.err == nil && w.err == nil {
		key := r.frame().at.key()
		t := r.next()
		switch {
		case t.kind == kindEnd:
			last := len(marks) - 1
			w.close(marks[last])
			marks = marks[:last]
		case key:
			w.copyKey(r, t)
			continue
		case t.kind == kindList || t.kind == kindDict:
			marks = append(marks, w.open(t.kind))
		default:
			w.copyScalar(r, t)
		}
		if len(marks) == 0 {
			return
		}
	}
}

func (w *writer) copyKey(r *reader, t token) {
	if t.kind != kindString {
		if r.err == nil {
			w.fail("%s as the key of a dictionary", t.kind)
		}
		return
	}
	w.copyString(r, t, true)
	w.afterKey()
}

func (w *writer) copyScalar(r *reader, t token) {
	switch t.kind {
	case kindNull:
		w.null()
	case kindBool:
		w.bool(t.n == 1)
	case kindUint:
		w.uint(t.n)
	case kindNeg:
		w.int(int64(t.n))
	case kindFloat:
		v, ok := r.syntax.float(r.b, t)
		if !ok {
			w.fail("number out of range")
			return
		}
		w.float(v)
	case kindString, kindBinary:
		w.copyString(r, t, false)
	case kindForeign:
		w.fail("%s", t.why)
	}
}

// copyString writes a string or binary. Coded content is first laid down at
// dst's end, then encoded behind that, then moved over it: no buffer needed.
func (w *writer) copyString(r *reader, t token, key bool) {
	w.item()
	at := len(w.dst)
	content, k := t.in(r.b), t.kind
	if t.coded {
		w.dst, k = r.syntax.content(w.dst, r.b, t)
		content = w.dst[at:]
	}
	behind := len(w.dst)
	switch {
	case k == kindBinary:
		w.dst = w.syntax.appendBinary(w.dst, content)
	case w.text && !key && len(content) > 0 && content[0] == 0:
		w.fail(whyNUL)
	default:
		w.dst = w.syntax.appendText(w.dst, content)
	}
	if t.coded {
		w.dst = append(w.dst[:at], w.dst[behind:]...)
	}
}
