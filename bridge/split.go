package bridge

import (
	"fmt"
	"slices"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
)

// maxLeaves bounds the events that one message is split into.
const maxLeaves = 256

// leaf is a value within an object, and the keys on the way to it.
type leaf struct {
	path  []string
	value any
}

// leavesOf appends the values of an object, in the order of their keys. A list
// is one value.
func leavesOf(dst []leaf, path []string, v any) ([]leaf, error) {
	d, ok := v.(map[string]any)
	if !ok {
		if len(dst) == maxLeaves {
			return nil, fmt.Errorf("it has more than %d values", maxLeaves)
		}
		return append(dst, leaf{slices.Clone(path), v}), nil
	}
	keys := make([]string, 0, len(d))
	for k := range d {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var err error
	for _, k := range keys {
		if dst, err = leavesOf(dst, append(path, k), d[k]); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// split appends an event for every value in v, which must be an object. Values
// whose URI is no URI, or that the map excepts or filters, are left out.
func (t *Table) split(dst []Event, r *route, topic string, caps *[maxCaptures]span, v any, retain bool, scope *expr.Scope) ([]Event, Decision) {
	if _, ok := v.(map[string]any); !ok {
		return dst, Decision{Reason: BadPayload, Map: &r.Map, Err: errNoObject}
	}
	leaves, err := leavesOf(nil, nil, v)
	if err != nil {
		return dst, Decision{Reason: BadPayload, Map: &r.Map, Err: err}
	}
	last := Decision{Map: &r.Map}
	before := len(dst)
	levels := appendCut(nil, topic, '/')
	for _, l := range leaves {
		all := append(levels[:len(levels):len(levels)], l.path...)
		caps[r.leaves] = span{len(levels), len(all)}
		uri := t.uri(r, all, caps)
		switch {
		case !t.rule.ValidURI(uri) || wamp.Reserved(uri):
			last = Decision{Reason: BadTopic, Map: &r.Map, Err: errNoURIOfTopic}
			continue
		case len(r.except) > 0 && r.excepts(appendCut(nil, uri, '.')):
			continue
		}
		scope.URI = uri
		var d Decision
		if dst, d = t.append(dst, r, Event{Topic: uri, Retain: retain}, wamp.List{l.value}, nil, scope); d.Reason != Mapped {
			last = d
		}
	}
	if len(dst) > before {
		last = Decision{Map: &r.Map}
	}
	return dst, last
}

// capturesOf is what the captures of a message stand for, as topics have them.
// It looks only when somebody asks.
func (r *route) capturesOf(topic, uri string, a *alphabet) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if s, ok := r.mqtt.captured(name, appendCut(nil, topic, '/')); ok {
			return s, true
		}
		if uri == "" {
			return "", false
		}
		components := appendCut(nil, uri, '.')
		for i, c := range components {
			level, ok := a.appendLevel(nil, c)
			if !ok {
				return "", false
			}
			components[i] = string(level)
		}
		return r.wamp.captured(name, components)
	}
}
