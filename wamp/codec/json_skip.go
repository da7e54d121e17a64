package codec

// skipJSON finds the end of the list or dictionary that begins at b[pos], with
// at most depth of them open at a time and elements values in it. used is how
// many there were. It is not ok when something is wrong or beyond the bounds:
// the reader, token by token, finds out what, and the two agree on what is
// sound. Arguments, which nobody decodes on their way, are most of a message.
func skipJSON(b []byte, pos, depth, elements int) (end, used int, ok bool) {
	var dicts uint64 // the open ones, the innermost lowest: whether it is a dictionary
	open := 0
	for { // a value begins at pos, or space before it
		if pos = jsonSpace(b, pos); pos == len(b) {
			return 0, 0, false
		}
		if open > 0 {
			if used++; used > elements {
				return 0, 0, false
			}
		}
		empty := false
		switch c := b[pos]; c {
		case '[', '{':
			if open == min(depth, 64) {
				return 0, 0, false
			}
			open++
			if dicts <<= 1; c == '{' {
				dicts |= 1
			}
			if pos = jsonSpace(b, pos+1); pos == len(b) {
				return 0, 0, false
			}
			if empty = b[pos] == jsonEnds[dicts&1]; empty {
				break
			}
			if dicts&1 == 1 {
				if pos, ok = skipKey(b, pos); !ok {
					return 0, 0, false
				}
			}
			continue
		default:
			t := jsonSyntax{}.value(b, pos, false)
			if t.kind == kindError {
				return 0, 0, false
			}
			pos = t.end
		}
		for { // a value has ended, or the innermost list or dictionary is about to
			if !empty {
				if pos = jsonSpace(b, pos); pos == len(b) {
					return 0, 0, false
				}
				if b[pos] == ',' {
					break
				}
			}
			empty = false
			if b[pos] != jsonEnds[dicts&1] {
				return 0, 0, false
			}
			pos++
			dicts >>= 1
			if open--; open == 0 {
				return pos, used, true
			}
		}
		pos++ // the comma
		if dicts&1 == 1 {
			if pos, ok = skipKey(b, jsonSpace(b, pos)); !ok {
				return 0, 0, false
			}
		}
	}
}

// jsonEnds is what a list and a dictionary end with.
var jsonEnds = [2]byte{']', '}'}

// skipKey skips a key and the colon after it.
func skipKey(b []byte, pos int) (end int, ok bool) {
	if pos == len(b) || b[pos] != '"' {
		return 0, false
	}
	t := jsonString(b, pos, true)
	if t.kind == kindError {
		return 0, false
	}
	if pos = jsonSpace(b, t.end); pos == len(b) || b[pos] != ':' {
		return 0, false
	}
	return pos + 1, true
}
