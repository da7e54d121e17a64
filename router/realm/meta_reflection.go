package realm

import (
	"maps"
	"slices"

	"github.com/postern-iot/postern/wamp"
)

// Reflection: which procedures, topics and errors there are, and what those who
// provide them say of them. "Interface Reflection" is a sketch that names
// procedures and topics and no more; it is read like this. A session describes a
// URI with wamp.reflect.define(uri, description), by keyword argument type as a
// "procedure" (the default), "topic" or "error"; a description that is null takes
// it back. It must be allowed to register the procedure or to publish to the
// topic, and the description is there as long as the session.
// wamp.reflection.<type>.list() is what is described or registered or subscribed
// to by its exact URI; wamp.reflection.<type>.describe(uri) is a dictionary, or null
// for what there is not, and wamp.reflect.describe(uri) has one for each type. Each
// caller is told of what its role's permissions let it use or provide; what only an
// authorizer could decide is left out. wamp.reflect.on_define and on_undefine tell
// the type, the URI and the session.

// described is something of which a session has said what it is.
type described struct{ kind, uri string }

type description struct {
	of      described
	by      *Session
	payload wamp.Payload // a list with the description
}

// The types of what can be described.
const (
	reflectProcedure = "procedure"
	reflectTopic     = "topic"
	reflectError     = "error"
)

const (
	metaOnDefine   = "wamp.reflect.on_define"
	metaOnUndefine = "wamp.reflect.on_undefine"

	// maxDescriptions and maxDescriptionBytes bound what a session describes.
	maxDescriptions     = 256
	maxDescriptionBytes = 128 << 10
)

func (d *description) size() int { return len(d.of.uri) + d.payload.Size() }

func reflectionProcedures(all map[string]metaProcedure) {
	all["wamp.reflect.define"] = (*Realm).reflectDefine
	all["wamp.reflect.describe"] = (*Realm).reflectDescribe
	for _, kind := range []string{reflectProcedure, reflectTopic, reflectError} {
		all["wamp.reflection."+kind+".list"] = func(r *Realm, c *metaCall) (wamp.List, *wamp.Error) {
			return wamp.List{r.reflectionList(c.caller, kind)}, nil
		}
		all["wamp.reflection."+kind+".describe"] = func(r *Realm, c *metaCall) (wamp.List, *wamp.Error) {
			uri, fault := c.text(0, "URI")
			if fault != nil {
				return nil, fault
			}
			if d := r.reflection(c.caller, described{kind, uri}); d != nil {
				return wamp.List{d}, nil
			}
			return wamp.List{nil}, nil
		}
	}
}

// reflectDefine is wamp.reflect.define.
func (r *Realm) reflectDefine(c *metaCall) (wamp.List, *wamp.Error) {
	of, fault := r.toDescribe(c)
	if fault != nil {
		return nil, fault
	}
	s, have := c.caller, r.descriptions[of]
	if have != nil && have.by != s {
		return nil, wamp.Errorf(wamp.ErrNotAuthorized, "another session has described %s %q", of.kind, clip(of.uri))
	}
	if c.arg(1) == nil {
		if have != nil {
			r.undefine(have)
		}
		return nil, nil
	}
	d := &description{of: of, by: s, payload: r.encode(wamp.List{c.arg(1)})}
	count, size := len(s.described)+1, s.describedBytes+d.size()
	if have != nil {
		count, size = count-1, size-have.size()
	}
	if count > maxDescriptions || size > maxDescriptionBytes {
		return nil, r.overLimit("a session may describe %d things in %d bytes", maxDescriptions, maxDescriptionBytes)
	}
	if have == nil {
		s.described = append(s.described, of)
	}
	s.describedBytes = size
	r.descriptions[of] = d
	if r.heard(metaOnDefine) {
		r.announce(metaOnDefine, of.kind, of.uri, s.ID)
	}
	return nil, nil
}

// toDescribe reads what a session wants to describe, and whether it may.
func (r *Realm) toDescribe(c *metaCall) (of described, fault *wamp.Error) {
	if of.uri, fault = c.text(0, "URI"); fault != nil {
		return of, fault
	}
	if fault := r.checkURI(of.uri, wamp.MatchExact); fault != nil {
		return of, fault
	}
	if wamp.Reserved(of.uri) {
		return of, wamp.Errorf(wamp.ErrInvalidURI, "%q is reserved for the router", clip(of.uri))
	}
	switch c.kwargs["type"] {
	case nil, reflectProcedure:
		of.kind = reflectProcedure
		_, fault = r.authorize(c.caller, actionRegister, of.uri, wamp.MatchExact)
	case reflectTopic:
		of.kind = reflectTopic
		_, fault = r.authorize(c.caller, actionPublish, of.uri, wamp.MatchExact)
	case reflectError:
		of.kind = reflectError
	default:
		fault = wamp.Errorf(wamp.ErrInvalidArgument, "type is none of procedure, topic, error")
	}
	return of, fault
}

// undefine takes a description back.
func (r *Realm) undefine(d *description) {
	delete(r.descriptions, d.of)
	s := d.by
	s.described = slices.DeleteFunc(s.described, func(of described) bool { return of == d.of })
	s.describedBytes -= d.size()
	if r.heard(metaOnUndefine) {
		r.announce(metaOnUndefine, d.of.kind, d.of.uri, s.ID)
	}
}

// undefineAll takes back what a session has described that is leaving.
func (r *Realm) undefineAll(s *Session) {
	for _, of := range slices.Clone(s.described) {
		r.undefine(r.descriptions[of])
	}
}

// concerns reports whether a session may use or provide what is described.
func (s *Session) concerns(of described) bool {
	if of.kind == reflectError {
		return true
	}
	if s.role == nil {
		return false
	}
	rule := s.role.rule(of.uri)
	switch {
	case rule == nil:
		return false
	case of.kind == reflectTopic:
		return rule.Allow.Subscribe || rule.Allow.Publish
	}
	return rule.Allow.Call || rule.Allow.Register
}

func (r *Realm) reflectionList(s *Session, kind string) wamp.List {
	all := map[string]bool{}
	add := func(kindOf, uri string) {
		if kindOf == kind && !all[uri] && s.concerns(described{kind, uri}) {
			all[uri] = true
		}
	}
	for of := range r.descriptions {
		add(of.kind, of.uri)
	}
	switch kind {
	case reflectProcedure:
		for _, reg := range r.registrationByID {
			if reg.match == wamp.MatchExact {
				add(kind, reg.procedure)
			}
		}
		for uri := range r.meta {
			add(kind, uri)
		}
	case reflectTopic:
		for _, sub := range r.subscriptionByID {
			if sub.match == wamp.MatchExact && !wamp.Reserved(sub.topic) {
				add(kind, sub.topic)
			}
		}
	}
	list := wamp.List{}
	for _, uri := range slices.Sorted(maps.Keys(all)) {
		list = append(list, uri)
	}
	return list
}

// reflection is what there is to say; nil when there is no such thing for s.
func (r *Realm) reflection(s *Session, of described) wamp.Dict {
	if !s.concerns(of) {
		return nil
	}
	there := false
	d := wamp.Dict{"uri": of.uri, "type": of.kind}
	if have := r.descriptions[of]; have != nil {
		there = true
		d["session"] = have.by.ID
		if values, _, err := have.payload.Values(); err == nil && len(values) == 1 {
			d["description"] = values[0]
		}
	}
	switch of.kind {
	case reflectProcedure:
		there = there || r.meta[of.uri] != nil
		if reg := r.registrations.get(wamp.MatchExact, of.uri); reg != nil {
			there, d["registration"] = true, reg.id
		}
	case reflectTopic:
		if sub := r.subscriptions.get(wamp.MatchExact, of.uri); sub != nil {
			there, d["subscription"] = true, sub.id
		}
	}
	if !there {
		return nil
	}
	return d
}

// reflectDescribe is wamp.reflect.describe.
func (r *Realm) reflectDescribe(c *metaCall) (wamp.List, *wamp.Error) {
	uri, fault := c.text(0, "URI")
	if fault != nil {
		return nil, fault
	}
	all := wamp.Dict{}
	for _, kind := range []string{reflectProcedure, reflectTopic, reflectError} {
		if d := r.reflection(c.caller, described{kind, uri}); d != nil {
			all[kind] = d
		}
	}
	return wamp.List{all}, nil
}
