package crossbar

import (
	"fmt"
	"maps"
	"slices"
)

// object is a JSON object that knows which of its keys have been looked at.
type object struct {
	t    *translation
	path string
	m    map[string]any
	seen map[string]bool
}

func (t *translation) object(path string, m map[string]any) *object {
	return &object{t, path, m, map[string]bool{}}
}

func (o *object) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// names are the keys in their order.
func (o *object) names() []string { return slices.Sorted(maps.Keys(o.m)) }

// take returns the value of a key, nil when there is none.
func (o *object) take(key string) any {
	o.seen[key] = true
	return o.m[key]
}

// ignore passes over keys that mean nothing here.
func (o *object) ignore(keys ...string) {
	for _, k := range keys {
		o.seen[k] = true
	}
}

func (o *object) text(key string) string {
	v := o.take(key)
	s, ok := v.(string)
	if !ok && v != nil {
		o.t.note(o.at(key), "it should be a string, and is passed over")
	}
	return s
}

func (o *object) flag(key string) bool {
	b, _ := o.take(key).(bool)
	return b
}

func (o *object) texts(key string) []string {
	list, _ := o.take(key).([]any)
	var all []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// child returns an object below, nil when there is none.
func (o *object) child(key string) *object {
	v := o.take(key)
	m, ok := v.(map[string]any)
	if !ok {
		if v != nil {
			o.t.note(o.at(key), "it should be an object, and is passed over")
		}
		return nil
	}
	return o.t.object(o.at(key), m)
}

// objects returns the objects of a list below.
func (o *object) objects(key string) []*object {
	list, _ := o.take(key).([]any)
	var all []*object
	for i, v := range list {
		path := fmt.Sprintf("%s[%d]", o.at(key), i)
		if m, ok := v.(map[string]any); ok {
			all = append(all, o.t.object(path, m))
		} else {
			o.t.note(path, "it should be an object, and is passed over")
		}
	}
	return all
}

// rest notes what nobody has looked at.
func (o *object) rest() {
	for _, key := range o.names() {
		if !o.seen[key] {
			o.t.note(o.at(key), "not taken over")
		}
	}
}
