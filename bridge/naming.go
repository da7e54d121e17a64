package bridge

import (
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// Naming says under which URIs the realm's permissions judge the topics of a
// broker. It is pure, and may be used by several goroutines.
//
// A topic goes by the URI of the first map that carries it inwards, and by those
// of all maps that could have sent it outwards: whoever may see or write it must
// have the right to all of them. A topic that no map carries goes by mqtt.
// and its levels, as without a configuration.
type Naming struct {
	rule    wamp.URIRule
	in, out []*route
}

// foreignName is what the URIs of topics without a map begin with.
const foreignName = "mqtt"

// NewNaming makes the naming of one broker; maps that cannot be used are left
// out.
func NewNaming(broker string, maps []Map, uris wamp.URIRule) *Naming {
	t, _ := NewTable(broker, maps, uris, nil)
	return &Naming{rule: uris, in: t.in, out: t.out}
}

// Names are the URIs, or patterns of URIs, of a topic or of all that an MQTT
// filter matches, but for the parent a of a/#; nil when there is none for one of
// them, and nobody can have the right.
func (n *Naming) Names(filter string) []Subscription {
	if filter == "" || len(filter) > wamp.MaxURI || !validTopic(strings.NewReplacer("+", "p", "#", "h").Replace(filter)) {
		return nil
	}
	f := patternOfFilter(filter)
	var names []Subscription
	covered, sound := false, true
	take := func(r *route) {
		s := n.image(r, f)
		sound = sound && n.valid(s)
		if !slices.Contains(names, s) {
			names = append(names, s)
		}
		covered = covered || len(r.except) == 0 && r.mqtt.covers(f)
	}
	for _, r := range n.in {
		if r.mqtt.overlaps(f) {
			if take(r); covered {
				break
			}
		}
	}
	for _, r := range n.out {
		if r.mqtt.overlaps(f) {
			take(r)
		}
	}
	if !covered {
		s := n.foreign(f)
		sound = sound && n.valid(s)
		names = append(names, s)
	}
	if !sound {
		return nil
	}
	return names
}

func (n *Naming) valid(s Subscription) bool {
	return len(s.Pattern) <= wamp.MaxURI && n.rule.ValidPattern(s.Pattern, s.Match) && !wamp.Reserved(s.Pattern)
}

// image is what a map makes of the topics that both it and f match.
func (n *Naming) image(r *route, f pattern) Subscription {
	var slots [maxCaptures][]segment
	open := false // f's rest stands for what the map spells
	for i, s := range r.mqtt.segs {
		at := segment{kind: single}
		switch {
		case open:
		case i < len(f.segs) && f.segs[i].kind == rest:
			open = true
		case i < len(f.segs):
			at = f.segs[i]
		}
		switch {
		case s.kind == rest && open:
			slots[s.slot] = []segment{{kind: rest}}
		case s.kind == rest && i < len(f.segs):
			slots[s.slot] = f.segs[i:]
		case s.kind == single:
			slots[s.slot] = []segment{at}
		}
	}
	if r.Split != "" {
		slots[r.leaves] = []segment{{kind: rest}}
	}
	var out []segment
	for _, s := range r.wamp.segs {
		if s.kind == literal {
			out = append(out, s)
			continue
		}
		for _, level := range slots[s.slot] {
			out = append(out, n.component(level))
		}
	}
	return asSubscription(out)
}

func (n *Naming) component(level segment) segment {
	if level.kind == literal {
		level.text = string(alphabetOf(n.rule).appendComponent(nil, level.text))
	}
	return level
}

// foreign is the image of the map that there is without a configuration.
func (n *Naming) foreign(f pattern) Subscription {
	out := []segment{{text: foreignName}}
	for _, level := range f.segs {
		out = append(out, n.component(level))
	}
	return asSubscription(out)
}

// asSubscription is the pattern that matches what components stand for, or more:
// without the parent of what is open, which the URI itself is judged by when a
// message comes.
func asSubscription(components []segment) Subscription {
	var parts []string
	head, wild, open := 0, false, false
	for _, c := range components {
		if c.kind == rest {
			open = true
			break
		}
		if c.kind == single {
			wild = true
			parts = append(parts, "")
			continue
		}
		parts = append(parts, c.text)
		if !wild {
			head = len(parts)
		}
	}
	literalHead := strings.Join(parts[:head], ".")
	switch {
	case !open && !wild:
		return Subscription{literalHead, wamp.MatchExact}
	case !open:
		return Subscription{strings.Join(parts, "."), wamp.MatchWildcard}
	case head == 0:
		return Subscription{"", wamp.MatchPrefix}
	}
	return Subscription{literalHead + ".", wamp.MatchPrefix}
}
