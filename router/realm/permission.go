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
	// RefuseDiscloseMe answers calls and publications that ask for disclosure
	// (disclose_me) with an error; those that a rule discloses are.
	RefuseDiscloseMe bool
	// Authorizer decides where no permission does.
	Authorizer Authorizer
}

// Permission allows actions on the URIs that a pattern matches; the most
// specific pattern that matches a URI decides (exact before prefix before
// wildcard, longest first). What no pattern matches is denied.
type Permission struct {
	URI   string
	Match wamp.Match
	Allow Actions
	// DiscloseCaller names who calls to the callee, and DisclosePublisher who
	// publishes to the subscribers, whether they ask for it or not.
	DiscloseCaller, DisclosePublisher bool
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
	hidden     bool // may not ask for disclosure
	authorizer Authorizer
}

func newRole(c Role) (*role, error) {
	ro := &role{takeover: c.Takeover, trustLevel: c.TrustLevel, hidden: c.RefuseDiscloseMe, authorizer: c.Authorizer}
	if err := ro.authorizer.fill(); err != nil {
		return nil, err
	}
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

// allows reports whether the role may do something with one URI, which a
// pattern that the session has been granted matches. What no rule is about is up
// to the authorizer, if there is one, and that has been asked for the pattern.
func (ro *role) allows(what action, uri string) bool {
	if ro == nil {
		return false
	}
	if rule := ro.rule(uri); rule != nil {
		return rule.Allow.allow(what)
	}
	return ro.authorizer.Procedure != ""
}

// rule is the one that decides about a URI; nil for none.
func (ro *role) rule(uri string) *Permission {
	ro.scratch = ro.rules.appendMatches(ro.scratch[:0], uri)
	if len(ro.scratch) == 0 {
		return nil
	}
	return ro.scratch[0]
}

// ruleFor is the rule that decides about a whole pattern, nil for none: the most
// specific one that covers it. URIs within the pattern that a more specific rule
// denies are held back when an event or a call is about one of them.
func (ro *role) ruleFor(pattern string, match wamp.Match) *Permission {
	if match.Normal() == wamp.MatchExact {
		return ro.rule(pattern)
	}
	for _, p := range ro.ordered {
		if covers(p, pattern, match) {
			return p
		}
	}
	return nil
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

// grant is what is known of what a session may do with a URI.
type grant struct {
	allow    bool
	disclose bool // others are told who it is
}

func (p *Permission) grant(what action) grant {
	return grant{
		allow:    p.Allow.allow(what),
		disclose: what == actionCall && p.DiscloseCaller || what == actionPublish && p.DisclosePublisher,
	}
}

// authorize returns the error for a session that may not do what it asks, or
// that must wait until an authorizer has decided (errWait). Until it has been
// asked, a message must have no effect: it is handled once more then.
func (r *Realm) authorize(s *Session, what action, uri string, match wamp.Match) (grant, *wamp.Error) {
	var g grant
	if s.role != nil {
		if rule := s.role.ruleFor(uri, match); rule != nil {
			g = rule.grant(what)
		} else if s.role.authorizer.Procedure != "" {
			var fault *wamp.Error
			if g, fault = r.judgement(s, what, uri, match); fault != nil {
				return g, fault
			}
		}
	}
	if g.allow {
		return g, nil
	}
	r.stats.Denied++
	return g, wamp.Errorf(wamp.ErrNotAuthorized, "role %q may not %s %q", clip(s.Identity.AuthRole), what, clip(uri))
}

// discloses decides whether a session is named to those who get its call or
// event: where a rule or the authorizer says so, and where it asks for that and may.
func (r *Realm) discloses(s *Session, asked bool, g grant) (bool, *wamp.Error) {
	if asked && !g.disclose && s.role.hidden {
		r.stats.Denied++
		return false, wamp.Errorf(wamp.ErrDiscloseMeDisallowed, "role %q may not be disclosed", clip(s.Identity.AuthRole))
	}
	return asked || g.disclose, nil
}
