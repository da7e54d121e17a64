package wamp

import "strings"

// MaxURI is the longest URI or pattern accepted, in bytes. The specification
// sets no limit; a gateway must.
const MaxURI = 2048

// ReservedPrefix begins the URIs that only the router itself may publish to
// or register (basic profile, "URIs").
const ReservedPrefix = "wamp."

// URIRule says how strictly URIs are checked.
type URIRule uint8

// The two rule sets of the basic profile, "URIs".
const (
	// LooseURIs allows every character in a component but white space, "#"
	// and, because it separates components, ".".
	LooseURIs URIRule = iota
	// StrictURIs allows only a-z, 0-9 and "_".
	StrictURIs
)

// ValidURI reports whether uri is one or more non-empty components separated
// by dots, each valid under rule.
func (rule URIRule) ValidURI(uri string) bool { return rule.valid(uri, false) }

// ValidPattern reports whether uri is acceptable as a pattern of the given
// match policy: a prefix may end with a dot or be empty, a wildcard pattern
// may have empty components, each of which stands for exactly one component.
func (rule URIRule) ValidPattern(uri string, match Match) bool {
	switch match {
	case "", MatchExact:
		return rule.valid(uri, false)
	case MatchPrefix:
		return uri == "" || rule.valid(strings.TrimSuffix(uri, "."), false)
	case MatchWildcard:
		return rule.valid(uri, true)
	}
	return false
}

func (rule URIRule) valid(uri string, emptyOK bool) bool {
	if len(uri) > MaxURI || uri == "" && !emptyOK {
		return false
	}
	start := 0
	for i := 0; i <= len(uri); i++ {
		if i == len(uri) || uri[i] == '.' {
			if i == start && !emptyOK {
				return false
			}
			start = i + 1
			continue
		}
		c := uri[i]
		if rule == StrictURIs {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
				return false
			}
		} else if c == '#' || c == ' ' || c >= '\t' && c <= '\r' || c >= 0x1c && c <= 0x1f || c == 0 {
			return false
		}
	}
	return rule == StrictURIs || validLooseText(uri)
}

// validLooseText rejects what the byte loop above cannot see: Unicode white
// space (regular expression class \s) and bytes that are not UTF-8.
func validLooseText(uri string) bool {
	for _, r := range uri {
		switch {
		case r < 0x80: // checked by the caller
		case r == 0x85, r == 0xA0, r == 0x1680, r >= 0x2000 && r <= 0x200a,
			r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000, r == 0xFFFD:
			return false
		}
	}
	return true
}

// Reserved reports whether uri lies in the namespace reserved for the router.
func Reserved(uri string) bool { return strings.HasPrefix(uri, ReservedPrefix) || uri == "wamp" }

// Matches reports whether uri is matched by pattern under match.
func (match Match) Matches(pattern, uri string) bool {
	switch match {
	case "", MatchExact:
		return pattern == uri
	case MatchPrefix:
		return strings.HasPrefix(uri, pattern)
	case MatchWildcard:
		for {
			p, prest, pmore := strings.Cut(pattern, ".")
			u, urest, umore := strings.Cut(uri, ".")
			if p != "" && p != u || pmore != umore {
				return false
			}
			if !pmore {
				return true
			}
			pattern, uri = prest, urest
		}
	}
	return false
}
