package realm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Role is a set of permissions that sessions have by their AuthRole.
type Role struct {
	Name        string
	Permissions []Permission
	// Takeover lets sessions register with force_reregister what others have
	// registered, who lose it.
	Takeover bool
	// TrustLevel is what callees are told of calls and subscribers of events
	// ("Call Trust Levels", "Publication Trust Levels"); nil for nothing.
	TrustLevel *int64
}

// Permission allows actions on the URIs that a pattern matches; the most
// specific pattern that matches a URI decides (exact before prefix before
// wildcard, longest first). What no pattern matches is denied.
type Permission struct {
	URI   string
	Match wamp.Match
	Allow Actions
}

// Actions are the four things a session can do with a URI.
type Actions struct{ Call, Register, Publish, Subscribe bool }

// AllActions allows everything.
var AllActions = Actions{Call: true, Register: true, Publish: true, Subscribe: true}

type action uint8

const (
	actionCall action = iota
	actionRegister
	actionPublish
	actionSubscribe
)

func (a action) String() string {
	return [...]string{"call", "register", "publish to", "subscribe to"}[a]
}

func (a Actions) allow(what action) bool {
	switch what {
	case actionCall:
		return a.Call
	case actionRegister:
		return a.Register
	case actionPublish:
		return a.Publish
	case actionSubscribe:
		return a.Subscribe
	}
	return false
}

// role is a Role in the form in which questions are answered: the index finds
// a rule about as fast as a cache of answers would, and never goes stale.
type role struct {
	rules index[Permission]
	// ordered are the rules from the most to the least specific, for patterns.
	ordered []*Permission
	scratch []*Permission

	takeover   bool
	trustLevel *int64
}

func newRole(c Role) (*role, error) {
	ro := &role{takeover: c.Takeover, trustLevel: c.TrustLevel}
	for i := range c.Permissions {
		p := c.Permissions[i]
		p.Match = p.Match.Normal()
		if !wamp.LooseURIs.ValidPattern(p.URI, p.Match) {
			return nil, fmt.Errorf("permission %q is not a valid pattern for match policy %q", p.URI, p.Match)
		}
		if ro.rules.get(p.Match, p.URI) != nil {
			return nil, fmt.Errorf("permission %q (%s) is there twice", p.URI, p.Match)
		}
		ro.rules.put(p.Match, p.URI, &p)
		ro.ordered = append(ro.ordered, &p)
	}
	slices.SortStableFunc(ro.ordered, func(a, b *Permission) int { return compareRules(a, b) })
	return ro, nil
}

// compareRules orders the more specific rule first. Two wildcard patterns
// compare component by component, a literal before a wildcard; for patterns
// that can match the same URI, which are equally long, that is the order of
// appendMatches.
func compareRules(a, b *Permission) int {
	rank := func(p *Permission) int {
		return slices.Index([]wamp.Match{wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard}, p.Match)
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	if a.Match != wamp.MatchWildcard {
		return len(b.URI) - len(a.URI)
	}
	as, bs := strings.Split(a.URI, "."), strings.Split(b.URI, ".")
	for i := range min(len(as), len(bs)) {
		switch {
		case as[i] != "" && bs[i] == "":
			return -1
		case as[i] == "" && bs[i] != "":
			return 1
		}
	}
	return len(as) - len(bs)
}

// allows reports whether the role may do something with one URI.
func (ro *role) allows(what action, uri string) bool {
	if ro == nil {
		return false
	}
	ro.scratch = ro.rules.appendMatches(ro.scratch[:0], uri)
	return len(ro.scratch) > 0 && ro.scratch[0].Allow.allow(what)
}

// allowsPattern reports whether the role may subscribe or register a pattern:
// the most specific rule that covers the whole pattern decides. URIs within
// the pattern that a more specific rule denies are held back when an event or
// a call is about one of them.
func (ro *role) allowsPattern(what action, pattern string, match wamp.Match) bool {
	if match.Normal() == wamp.MatchExact {
		return ro.allows(what, pattern)
	}
	if ro == nil {
		return false
	}
	for _, p := range ro.ordered {
		if covers(p, pattern, match) {
			return p.Allow.allow(what)
		}
	}
	return false
}

// covers reports whether rule matches every URI that the pattern matches.
func covers(rule *Permission, pattern string, match wamp.Match) bool {
	switch {
	case rule.Match == wamp.MatchPrefix && match == wamp.MatchPrefix:
		return strings.HasPrefix(pattern, rule.URI)
	case rule.Match == wamp.MatchPrefix && match == wamp.MatchWildcard:
		return strings.HasPrefix(literalStart(pattern), rule.URI)
	case rule.Match == wamp.MatchWildcard && match == wamp.MatchWildcard:
		rules, patterns := strings.Split(rule.URI, "."), strings.Split(pattern, ".")
		if len(rules) != len(patterns) {
			return false
		}
		for i, c := range rules {
			if c != "" && c != patterns[i] {
				return false
			}
		}
		return true
	}
	return false
}

// literalStart is how every URI begins that a wildcard pattern matches.
func literalStart(pattern string) string {
	at := 0
	for at < len(pattern) && pattern[at] != '.' {
		dot := strings.IndexByte(pattern[at:], '.')
		if dot < 0 {
			return pattern
		}
		at += dot + 1
	}
	return pattern[:at]
}

// authorize returns the error for a session that may not do what it asks.
func (r *Realm) authorize(s *Session, what action, uri string, match wamp.Match) *wamp.Error {
	if s.role.allowsPattern(what, uri, match) {
		return nil
	}
	r.stats.Denied++
	return wamp.Errorf(wamp.ErrNotAuthorized, "role %q may not %s %q", clip(s.Identity.AuthRole), what, clip(uri))
}
