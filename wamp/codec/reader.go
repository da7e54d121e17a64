package codec

import (
	"math"
	"strconv"

	"github.com/postern-iot/postern/wamp"
)

// maxDepth is the deepest nesting that Limits can allow: up to here, building
// Go values may recurse.
const maxDepth = 1000

// usualDepth is the nesting for which a reader brings its own room.
const usualDepth = 64

// frame is one list or dictionary that the reader is in; the outermost frame
// is the top level with its one value.
type frame struct {
	left int32 // elements or entries to come; -1 when open-ended
	dict bool
	at   place
}

// reader walks the tokens of one input under Limits. Its error sticks: after
// it, every token is a kindError, so that callers may check once at the end.
type reader struct {
	codec    *codec
	syntax   tokenReader
	b        []byte
	pos      int
	elements int // what is left of the budget
	maxDepth int
	depth    int                   // how many lists and dictionaries are open
	frames   [usualDepth + 1]frame // by depth; the first is the top level
	deeper   []frame               // those for which frames has no room
	err      *Error
}

func (r *reader) init(c *codec, b []byte, lim Limits) {
	r.codec, r.syntax, r.b = c, c.syntax, b
	if lim.Depth <= 0 {
		lim.Depth = DefaultLimits.Depth
	}
	if lim.Elements <= 0 {
		lim.Elements = DefaultLimits.Elements
	}
	r.maxDepth = min(lim.Depth, maxDepth)
	r.elements = min(lim.Elements, math.MaxInt32)
	r.frames[0].left = 1
}

func (r *reader) frame() *frame {
	if r.depth < len(r.frames) {
		return &r.frames[r.depth]
	}
	return &r.deeper[r.depth-len(r.frames)]
}

func (r *reader) fail(pos int, reason string) {
	if r.err == nil {
		r.err = &Error{Codec: r.codec.name, Offset: pos, Reason: reason}
	}
}

// next reads one token. A list or dictionary of declared length gets a
// kindEnd like an open-ended one; so does the input, after its one value.
func (r *reader) next() token {
	if r.err != nil {
		return token{}
	}
	f := r.frame()
	if f.left == 0 {
		if r.depth > 0 {
			r.depth--
			return scalar(kindEnd, 0, r.pos)
		}
		f.at = atDone
	}
	t := r.syntax.token(r.b, r.pos, f.at)
	switch {
	case t.kind == kindError:
		r.fail(t.end, t.why.String())
		return token{}
	case t.kind == kindEnd:
		r.pos = t.end
		r.depth = max(r.depth-1, 0)
		return t
	case f.at.key():
		if t.kind == kindList || t.kind == kindDict {
			r.fail(r.pos, t.kind.String()+" as the key of a dictionary")
			return token{}
		}
		f.at = atMember
		r.pos = t.end
		return t
	}
	f.step(r)
	r.pos = t.end
	if t.kind == kindList || t.kind == kindDict {
		r.enter(t)
	}
	if r.err != nil {
		return token{}
	}
	return t
}

// step notes that one value of the frame has been read.
func (f *frame) step(r *reader) {
	if f.left < 0 {
		// Elements of a declared length were charged when it was declared.
		r.charge(1)
		f.at = atNext
		if f.dict {
			f.at = atNextKey
		}
		return
	}
	f.left--
	f.at = atItem
	if f.dict {
		f.at = atKey
	}
}

func (r *reader) charge(n uint64) {
	if n > uint64(r.elements) {
		r.fail(r.pos, "more elements than allowed in one message")
		return
	}
	r.elements -= int(n)
}

// enter begins the list or dictionary t.
func (r *reader) enter(t token) {
	if r.depth >= r.maxDepth {
		r.fail(t.lo, "nested deeper than "+strconv.Itoa(r.maxDepth)+" levels")
		return
	}
	f := frame{left: -1, dict: t.kind == kindDict, at: atFirst}
	if f.dict {
		f.at = atFirstKey
	}
	if t.n != openEnded {
		// Every element takes a byte at least, every entry two.
		room := uint64(len(r.b) - t.end)
		if f.dict {
			room /= 2
		}
		if t.n > room {
			r.fail(t.lo, whyLength.String())
			return
		}
		if r.charge(t.n); r.err != nil {
			return
		}
		f.left, f.at = int32(t.n), atItem
		if f.dict {
			f.at = atKey
		}
	}
	if r.depth++; r.depth-len(r.frames) == len(r.deeper) {
		r.deeper = append(r.deeper, f)
		return
	}
	*r.frame() = f
}

// rest skips what is left of the value that begins with t and returns the
// value's bytes when it is a list or a dictionary.
func (r *reader) rest(t token) []byte {
	if t.kind != kindList && t.kind != kindDict {
		return nil
	}
	if r.codec == jsonCodec && r.err == nil {
		if end, used, ok := skipJSON(r.b, t.lo, 1+r.maxDepth-r.depth, r.elements); ok {
			r.pos = end
			r.elements -= used
			r.depth--
			return r.b[t.lo:end:end]
		}
	}
	for outer := r.depth - 1; r.depth > outer && r.err == nil; {
		r.next()
	}
	if r.err != nil {
		return nil
	}
	return r.b[t.lo:r.pos:r.pos]
}

// finish checks that nothing follows the one value at the top level.
func (r *reader) finish() error {
	r.next()
	if r.err != nil {
		return r.err
	}
	return nil
}

// text is the content of a string token.
func (r *reader) text(t token) (string, bool) {
	if t.kind == kindString && !t.coded {
		return string(t.in(r.b)), true
	}
	if t.coded {
		if s, k := r.syntax.content(nil, r.b, t); k == kindString {
			return string(s), true
		}
	}
	return "", false
}

// integer is the value of a token that stands for a non-negative integer. A
// float without a fraction is one too: the MessagePack and CBOR writers that
// JavaScript clients use (msgpackr, cbor-x) put integers above 32 bits, such
// as session IDs, into floats.
func (r *reader) integer(t token) (uint64, bool) {
	switch t.kind {
	case kindUint:
		return t.n, true
	case kindFloat:
		if v, ok := r.syntax.float(r.b, t); ok && v >= 0 && v <= float64(wamp.MaxID) && v == math.Trunc(v) {
			return uint64(v), true
		}
	}
	return 0, false
}

// value builds the Go value that begins with t, of canonical types. The
// recursion is bounded by maxDepth.
func (r *reader) value(t token) any {
	switch t.kind {
	case kindNull:
		return nil
	case kindBool:
		return t.n == 1
	case kindUint:
		if t.n > math.MaxInt64 {
			return t.n
		}
		return int64(t.n)
	case kindNeg:
		return int64(t.n)
	case kindFloat:
		v, ok := r.syntax.float(r.b, t)
		if !ok {
			r.fail(t.lo, "number out of range")
		}
		return v
	case kindString, kindBinary:
		return r.stringOrBinary(t)
	case kindList:
		return r.list(t)
	case kindDict:
		return r.dict(t)
	case kindForeign:
		r.fail(r.pos, t.why.String()+" has no counterpart among WAMP's types")
	}
	return nil
}

func (r *reader) stringOrBinary(t token) any {
	content, k := t.in(r.b), t.kind
	if t.coded {
		content, k = r.syntax.content([]byte{}, r.b, t)
	}
	if k == kindString {
		return string(content)
	}
	if t.coded {
		return content
	}
	return append(make([]byte, 0, len(content)), content...)
}

// firstRoom is the room made for a list or dictionary of unknown length.
const firstRoom = 4

func (r *reader) list(t token) any {
	room := firstRoom
	if t.n != openEnded {
		room = int(t.n) // within the element budget
	}
	l := make([]any, 0, room)
	for t = r.next(); t.kind != kindEnd && r.err == nil; t = r.next() {
		l = append(l, r.value(t))
	}
	return l
}

func (r *reader) dict(t token) map[string]any {
	room := firstRoom
	if t.n != openEnded {
		room = int(t.n)
	}
	d := make(map[string]any, room)
	for t = r.next(); t.kind != kindEnd && r.err == nil; t = r.next() {
		key, ok := r.text(t)
		if !ok {
			r.fail(r.pos, t.kind.String()+" as the key of a dictionary, want a string")
			return nil
		}
		v := r.next()
		d[key] = r.value(v)
	}
	return d
}
