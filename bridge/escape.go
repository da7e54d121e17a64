package bridge

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

// alphabet writes one MQTT topic level as one URI component, reversibly: a
// level's component is unique, and what is no level's component is refused on
// the way back. The escape character alone stands for the empty level; before
// two hexadecimal digits, for a byte.
type alphabet struct {
	escape byte
	hex    string
	// plain reports whether r stands for itself.
	plain func(r rune) bool
}

// loose is for URIs under wamp.LooseURIs: "%" and whatever a loose URI does not
// allow is escaped.
var loose = alphabet{escape: '%', hex: "0123456789ABCDEF", plain: func(r rune) bool {
	switch {
	case r == '%', r == '.', r == '#', r == utf8.RuneError, r == 0xFEFF:
		return false
	case r < 0x80:
		return r > ' ' && r != 0x7F
	}
	return !unicode.IsSpace(r) && !unicode.IsControl(r)
}}

// strict is for URIs under wamp.StrictURIs, whose components have a-z, 0-9 and
// "_" only: everything else, "_" included, is escaped with "_".
var strict = alphabet{escape: '_', hex: "0123456789abcdef", plain: func(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
}}

func alphabetOf(rule wamp.URIRule) *alphabet {
	if rule == wamp.StrictURIs {
		return &strict
	}
	return &loose
}

// appendComponent appends the component that level is written as. The level
// must be valid UTF-8.
func (a *alphabet) appendComponent(dst []byte, level string) []byte {
	if level == "" {
		return append(dst, a.escape)
	}
	for i, r := range level {
		if a.plain(r) {
			dst = utf8.AppendRune(dst, r)
			continue
		}
		for _, b := range []byte(level[i : i+utf8.RuneLen(r)]) {
			dst = append(dst, a.escape, a.hex[b>>4], a.hex[b&15])
		}
	}
	return dst
}

// appendLevel appends the level that component stands for; ok is false when no
// level is written as component.
func (a *alphabet) appendLevel(dst []byte, component string) (_ []byte, ok bool) {
	if len(component) == 1 && component[0] == a.escape {
		return dst, true
	}
	if strings.IndexByte(component, a.escape) < 0 {
		for _, r := range component {
			if !a.plain(r) || r == '/' || r == '+' {
				return dst, false
			}
		}
		return append(dst, component...), component != ""
	}
	start := len(dst)
	for i := 0; i < len(component); i++ {
		c := component[i]
		if c != a.escape {
			dst = append(dst, c)
			continue
		}
		if i+2 >= len(component) {
			return dst, false
		}
		hi, lo := strings.IndexByte(a.hex, component[i+1]), strings.IndexByte(a.hex, component[i+2])
		if hi < 0 || lo < 0 {
			return dst, false
		}
		dst = append(dst, byte(hi<<4|lo))
		i += 2
	}
	level := string(dst[start:])
	if !utf8.ValidString(level) || strings.ContainsAny(level, "/+#\x00") {
		return dst, false
	}
	// Two components must not stand for one level: only the form that
	// appendComponent writes is accepted.
	return dst, string(a.appendComponent(nil, level)) == component
}
