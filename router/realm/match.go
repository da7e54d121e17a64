package realm

import (
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// index finds the entries (subscriptions, registrations, rules) whose URI or
// pattern matches a URI. The cost of a lookup grows with the URI and with the
// entries found, not with those that are there.
type index[E any] struct {
	exact    map[string]*E
	prefix   radix[E]
	wildcard components[E]
}

func (x *index[E]) get(match wamp.Match, pattern string) *E {
	switch match {
	case wamp.MatchPrefix:
		if n := x.prefix.find(pattern); n != nil {
			return n.entry
		}
		return nil
	case wamp.MatchWildcard:
		if n := x.wildcard.find(pattern); n != nil {
			return n.entry
		}
		return nil
	}
	return x.exact[pattern]
}

func (x *index[E]) put(match wamp.Match, pattern string, e *E) {
	switch match {
	case wamp.MatchPrefix:
		x.prefix.put(pattern, e)
	case wamp.MatchWildcard:
		x.wildcard.put(pattern, e)
	default:
		if x.exact == nil {
			x.exact = map[string]*E{}
		}
		x.exact[pattern] = e
	}
}

func (x *index[E]) remove(match wamp.Match, pattern string) {
	switch match {
	case wamp.MatchPrefix:
		x.prefix.remove(pattern)
	case wamp.MatchWildcard:
		x.wildcard.remove(pattern)
	default:
		delete(x.exact, pattern)
	}
}

// appendMatches appends every entry that matches uri, the most specific first:
// the exact one, prefixes from the longest, wildcards from the one with the
// longest run of literal components before each wildcard (advanced profile,
// "Pattern-based Registrations").
func (x *index[E]) appendMatches(dst []*E, uri string) []*E {
	if e := x.exact[uri]; e != nil {
		dst = append(dst, e)
	}
	from := len(dst)
	dst = x.prefix.appendPrefixes(dst, uri)
	slices.Reverse(dst[from:])
	return x.wildcard.appendMatches(dst, uri)
}

// radix is a tree of strings in which the path from the root spells the key.
// The zero value is an empty tree.
type radix[E any] struct {
	label string
	entry *E
	next  []*radix[E] // in order of their labels' first bytes, which all differ
}

// child returns where the child whose label begins with c is, or belongs.
func (n *radix[E]) child(c byte) (at int, there bool) {
	lo, hi := 0, len(n.next)
	for lo < hi {
		mid := (lo + hi) / 2
		if n.next[mid].label[0] < c {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(n.next) && n.next[lo].label[0] == c
}

func (n *radix[E]) find(key string) *radix[E] {
	for key != "" {
		at, there := n.child(key[0])
		if !there || !strings.HasPrefix(key, n.next[at].label) {
			return nil
		}
		n = n.next[at]
		key = key[len(n.label):]
	}
	return n
}

func (n *radix[E]) put(key string, e *E) {
	for key != "" {
		at, there := n.child(key[0])
		if !there {
			n.next = slices.Insert(n.next, at, &radix[E]{label: key, entry: e})
			return
		}
		c := n.next[at]
		same := commonPrefix(key, c.label)
		if same < len(c.label) {
			// Part the edge where the two differ.
			c = &radix[E]{label: c.label[:same], next: []*radix[E]{c}}
			c.next[0].label = c.next[0].label[same:]
			n.next[at] = c
		}
		n, key = c, key[same:]
	}
	n.entry = e
}

func (n *radix[E]) remove(key string) {
	if key == "" {
		n.entry = nil
		return
	}
	at, there := n.child(key[0])
	if !there || !strings.HasPrefix(key, n.next[at].label) {
		return
	}
	c := n.next[at]
	c.remove(key[len(c.label):])
	switch {
	case c.entry != nil || len(c.next) > 1:
	case len(c.next) == 0:
		n.next = slices.Delete(n.next, at, at+1)
	default: // one child left: join the two edges
		only := c.next[0]
		only.label = c.label + only.label
		n.next[at] = only
	}
}

// appendPrefixes appends the entries whose key is a prefix of s, the shortest
// first.
func (n *radix[E]) appendPrefixes(dst []*E, s string) []*E {
	for {
		if n.entry != nil {
			dst = append(dst, n.entry)
		}
		if s == "" {
			return dst
		}
		at, there := n.child(s[0])
		if !there || !strings.HasPrefix(s, n.next[at].label) {
			return dst
		}
		n = n.next[at]
		s = s[len(n.label):]
	}
}

// appendUnder appends the entries whose key begins with prefix, in the order
// of their keys.
func (n *radix[E]) appendUnder(dst []*E, prefix string) []*E {
	for prefix != "" {
		at, there := n.child(prefix[0])
		if !there {
			return dst
		}
		n = n.next[at]
		same := commonPrefix(prefix, n.label)
		if same < len(prefix) && same < len(n.label) {
			return dst
		}
		prefix = prefix[same:]
	}
	return n.appendAll(dst)
}

func (n *radix[E]) appendAll(dst []*E) []*E {
	if n.entry != nil {
		dst = append(dst, n.entry)
	}
	for _, c := range n.next {
		dst = c.appendAll(dst)
	}
	return dst
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// components is a tree of wildcard patterns, one level a component. The zero
// value is an empty tree.
type components[E any] struct {
	literal map[string]*components[E]
	any     *components[E] // the empty component, which stands for each one
	entry   *E             // of the pattern that ends here
}

func (n *components[E]) find(pattern string) *components[E] {
	for more := true; more && n != nil; {
		var c string
		c, pattern, more = strings.Cut(pattern, ".")
		if c == "" {
			n = n.any
		} else {
			n = n.literal[c]
		}
	}
	return n
}

func (n *components[E]) put(pattern string, e *E) {
	for more := true; more; {
		var c string
		c, pattern, more = strings.Cut(pattern, ".")
		if c == "" {
			if n.any == nil {
				n.any = &components[E]{}
			}
			n = n.any
			continue
		}
		child := n.literal[c]
		if child == nil {
			child = &components[E]{}
			if n.literal == nil {
				n.literal = map[string]*components[E]{}
			}
			n.literal[c] = child
		}
		n = child
	}
	n.entry = e
}

func (n *components[E]) remove(pattern string) {
	c, rest, more := strings.Cut(pattern, ".")
	child := n.any
	if c != "" {
		child = n.literal[c]
	}
	if child == nil {
		return
	}
	if more {
		child.remove(rest)
	} else {
		child.entry = nil
	}
	if child.entry == nil && child.any == nil && len(child.literal) == 0 {
		if c == "" {
			n.any = nil
		} else {
			delete(n.literal, c)
		}
	}
}

// appendMatches visits the literal child before the wildcard at each level.
// All patterns it finds have literals and wildcards over the same components,
// so that is the order of the longest literal runs.
func (n *components[E]) appendMatches(dst []*E, uri string) []*E {
	if n.any == nil && n.literal == nil {
		return dst
	}
	c, rest, more := strings.Cut(uri, ".")
	for _, child := range [2]*components[E]{n.literal[c], n.any} {
		switch {
		case child == nil:
		case more:
			dst = child.appendMatches(dst, rest)
		case child.entry != nil:
			dst = append(dst, child.entry)
		}
	}
	return dst
}
