package realm

import "github.com/postern-iot/postern/wamp"

// MayPublish and MaySubscribe report whether a role's permissions allow that for
// every URI that a pattern matches, as Step would decide for a session with the
// role: for what comes by another protocol. An authorizer is not asked, so what
// only it could allow is not.
func (r *Realm) MayPublish(role, pattern string, match wamp.Match) bool {
	return r.may(role, actionPublish, pattern, match)
}

// MaySubscribe is to subscribing what MayPublish is to publishing.
func (r *Realm) MaySubscribe(role, pattern string, match wamp.Match) bool {
	return r.may(role, actionSubscribe, pattern, match)
}

func (r *Realm) may(role string, what action, pattern string, match wamp.Match) bool {
	ro := r.roles[role]
	if ro == nil {
		return false
	}
	rule := ro.ruleFor(pattern, match)
	return rule != nil && rule.Allow.allow(what)
}
