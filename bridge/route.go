package bridge

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

// route is one map, ready for use.
type route struct {
	Map
	index  int // in the configuration
	mqtt   pattern
	wamp   pattern
	except []pattern
	codec  *payloadCodec
	filter *filter // nil for none
	scoped bool    // the codec or the filter may ask for captures
	leaves int     // the slot of the capture that split fills
}

// Problem is something about a configuration that people should know. A Fatal
// one keeps it from being used.
type Problem struct {
	Path    string // of the key, such as "maps[2].mqtt"
	Message string
	Hint    string
	Fatal   bool
}

// String joins the three.
func (p Problem) String() string {
	s := p.Path + " " + p.Message
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

func (m *Map) isFor(broker string) bool {
	return len(m.Brokers) == 0 || slices.Contains(m.Brokers, broker)
}

// compile makes a map ready; the route is nil when a problem is fatal.
func compile(index int, m Map, uris wamp.URIRule) (*route, []Problem) {
	var problems []Problem
	fatal := func(key, hint, format string, a ...any) {
		problems = append(problems, Problem{fmt.Sprintf("maps[%d].%s", index, key), fmt.Sprintf(format, a...), hint, true})
	}
	r := &route{Map: m, index: index}
	var err error
	if r.mqtt, err = parsePattern(m.MQTT, "/"); err != nil {
		fatal("mqtt", "", "%q %v", m.MQTT, err)
	} else if bad := r.mqtt.badLevel(); bad != "" {
		fatal("mqtt", "write {x} for one level and {x...} for all that remain", "has %q, which no topic has", bad)
	}
	if r.wamp, err = parsePattern(m.WAMP, "."); err != nil {
		fatal("wamp", "", "%q %v", m.WAMP, err)
	} else {
		checkURI("wamp", r.wamp, uris, fatal)
	}
	for i, text := range m.Except {
		p, err := parsePattern(text, ".")
		if err != nil {
			fatal(fmt.Sprintf("except[%d]", i), "it is a URI, whatever the direction", "%q %v", text, err)
			continue
		}
		r.except = append(r.except, p)
	}
	captured := func(name string) bool { return r.mqtt.captures(name) || name != m.Split && r.wamp.captures(name) }
	if r.codec, err = newPayloadCodec(m.Codec, m.Into, captured); err != nil {
		fatal("codec", "", "%v", err)
	}
	if m.OnlyIf != (OnlyIf{}) {
		if r.filter, err = newFilter(m.OnlyIf, captured); err != nil {
			fatal("only_if.expression", "", "%v", err)
		}
	}
	r.scoped = m.Codec.Template != nil || r.filter != nil
	r.checkShape(fatal)
	if len(problems) == 0 {
		r.assignSlots(fatal)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return r, nil
}

// checkShape refuses what can be written down but makes no sense.
func (r *route) checkShape(fatal func(key, hint, format string, a ...any)) {
	outwards := r.Direction != In
	if r.Direction == Both && r.Codec.Template != nil {
		fatal("codec.template", "write one map for each direction", "builds one way, but the map goes both ways")
	}
	if outwards && r.codec != nil && r.codec.field != nil && !r.codec.field.Builds() {
		fatal("codec.field", "use a template", "%q cannot be written: a list has to be built whole", r.Codec.Field)
	}
	if r.Split == "" {
		return
	}
	last := segment{}
	if n := len(r.wamp.segs); n > 0 {
		last = r.wamp.segs[n-1]
	}
	switch {
	case outwards:
		fatal("split", "", "splits what arrives; the map needs direction: in")
	case last.kind != rest || last.text != r.Split:
		fatal("split", "such as site.{dev}.{"+r.Split+"...}", "names {%s...}, with which wamp must end", r.Split)
	case r.mqtt.captures(r.Split):
		fatal("split", "", "names {%s}, which mqtt captures", r.Split)
	case r.Into != IntoArgs || r.Codec.Template != nil:
		fatal("split", "", "makes an event with one argument of each value: it needs into: args, and no template")
	}
}

func (p *pattern) badLevel() string {
	for _, s := range p.segs {
		if s.kind == literal && (strings.ContainsAny(s.text, "+#\x00") || !utf8.ValidString(s.text)) {
			return s.text
		}
	}
	return ""
}

func checkURI(key string, p pattern, uris wamp.URIRule, fatal func(key, hint, format string, a ...any)) {
	for i, s := range p.segs {
		switch {
		case s.kind != literal:
		case i == 0 && s.text == "wamp":
			fatal(key, "use another prefix", "begins with wamp., which belongs to the router")
		case !uris.ValidURI(s.text):
			fatal(key, "a component is not empty and has no space and no #", "has %q, which no URI has", s.text)
		}
	}
}

// assignSlots gives captures of one name one slot, and checks that the side
// that is built has only captures that the other side provides.
func (r *route) assignSlots(fatal func(key, hint, format string, a ...any)) {
	slots := map[string]int{}
	kinds := map[string]segmentKind{}
	for _, p := range []*pattern{&r.mqtt, &r.wamp} {
		for i := range p.segs {
			s := &p.segs[i]
			if s.kind == literal {
				continue
			}
			if _, ok := slots[s.text]; !ok {
				slots[s.text] = len(slots) % maxCaptures
				kinds[s.text] = s.kind
			}
			s.slot = slots[s.text]
			if s.text == r.Split {
				r.leaves = s.slot
			}
			if kinds[s.text] != s.kind {
				fatal("wamp", "use the same form on both sides", "has {%s} where mqtt has {%s...}, or the reverse", s.text, s.text)
			}
		}
	}
	lacks := func(key string, built, given *pattern) {
		for _, s := range built.segs {
			if s.kind != literal && !given.captures(s.text) && s.text != r.Split {
				fatal(key, "", "has {%s}, which %q does not capture", s.text, given.text)
			}
		}
	}
	if r.Direction != Out {
		lacks("wamp", &r.wamp, &r.mqtt)
	}
	if r.Direction != In {
		lacks("mqtt", &r.mqtt, &r.wamp)
	}
}

func (p *pattern) captures(name string) bool {
	return slices.ContainsFunc(p.segs, func(s segment) bool { return s.kind != literal && s.text == name })
}

// matchTopic matches a topic's levels; a wildcard at the head does not match
// what begins with "$" (MQTT 3.1.1, 4.7.2).
func (r *route) matchTopic(levels []string, caps *[maxCaptures]span) bool {
	if strings.HasPrefix(levels[0], "$") && r.mqtt.segs[0].kind != literal {
		return false
	}
	return r.mqtt.match(levels, caps)
}

func (r *route) excepts(components []string) bool {
	var caps [maxCaptures]span
	for i := range r.except {
		if r.except[i].match(components, &caps) {
			return true
		}
	}
	return false
}

func (r *route) retain(flag bool) bool {
	switch r.Retain {
	case RetainAlways:
		return true
	case RetainDrop:
		return false
	}
	return flag
}

// overlaps tells of maps that match the same names: the first decides, which
// may or may not be meant.
func (t *Table) overlaps(broker string) []Problem {
	var out []Problem
	tell := func(key string, first, second *route, covered bool) {
		p := Problem{Path: fmt.Sprintf("maps[%d].%s", second.index, key)}
		if covered {
			p.Message = fmt.Sprintf("is never reached for broker %q: map %q, before it, takes all that %q matches", broker, first.Name, second.Name)
			p.Hint = "put the narrower map first"
		} else {
			p.Message = fmt.Sprintf("overlaps with that of map %q, which comes first and decides for broker %q", first.Name, broker)
		}
		out = append(out, p)
	}
	for j, b := range t.in {
		for _, a := range t.in[:j] {
			if len(a.except) == 0 && a.mqtt.overlaps(b.mqtt) {
				tell("mqtt", a, b, a.mqtt.covers(b.mqtt))
			}
		}
	}
	for j, b := range t.out {
		for _, a := range t.out[:j] {
			excepted := slices.ContainsFunc(a.except, func(e pattern) bool { return e.covers(b.wamp) })
			if !excepted && a.wamp.overlaps(b.wamp) {
				tell("wamp", a, b, len(a.except) == 0 && a.wamp.covers(b.wamp))
			}
		}
	}
	return append(out, t.overlappingFilters(broker)...)
}

// overlappingFilters tells of subscriptions for which a broker may deliver a
// message twice: once for a broker, however many they are.
func (t *Table) overlappingFilters(broker string) []Problem {
	filters := t.MQTTFilters()
	pairs, first := 0, ""
	for i, f := range filters {
		for _, g := range filters[:i] {
			if patternOfFilter(f.Topic).overlaps(patternOfFilter(g.Topic)) {
				if pairs++; pairs == 1 {
					first = fmt.Sprintf("%q and %q", g.Topic, f.Topic)
				}
			}
		}
	}
	switch pairs {
	case 0:
		return nil
	case 1:
		return []Problem{{Path: "maps", Message: fmt.Sprintf("need the subscriptions %s of broker %q, which overlap: it may deliver a message twice", first, broker)}}
	}
	return []Problem{{Path: "maps", Message: fmt.Sprintf("need subscriptions of broker %q which overlap, %d pairs, such as %s: it may deliver a message twice", broker, pairs, first)}}
}

// MQTTFilters are the subscriptions that the table needs at the broker, none
// of which covers another.
func (t *Table) MQTTFilters() []Filter {
	var all []Filter
	for _, r := range t.in {
		all = append(all, Filter{Topic: r.mqtt.filter(), QoS: byte(r.QoS)})
	}
	return widestFilters(all)
}

// widestFilters leaves out the filters that another covers.
func widestFilters(all []Filter) []Filter {
	for i := range all { // what covers another asks for as much as that one did
		for _, g := range all {
			if all[i].covers(g) {
				all[i].QoS = max(all[i].QoS, g.QoS)
			}
		}
	}
	return widest(all, Filter.covers)
}

// WAMPPatterns are the subscriptions that the table needs in the realm. They
// may overlap; Owner says which one is to handle an event.
func (t *Table) WAMPPatterns() []Subscription {
	var all []Subscription
	for _, r := range t.out {
		all = append(all, r.subscriptions()...)
	}
	return widest(all, Subscription.covers)
}

// Owns reports whether, of all the subscriptions that match uri, the i-th is
// the one to handle the event: a realm sends one for each.
func Owns(all []Subscription, i int, uri string) bool {
	for _, s := range all[:i] {
		if s.Match.Matches(s.Pattern, uri) {
			return false
		}
	}
	return true
}

// widest leaves out what something else covers, and all but the first of equals.
func widest[T any](all []T, covers func(a, b T) bool) []T {
	var out []T
	for i, a := range all {
		covered := false
		for j, b := range all {
			if j != i && covers(b, a) && (j < i || !covers(a, b)) {
				covered = true
				break
			}
		}
		if !covered {
			out = append(out, a)
		}
	}
	return out
}

// subscriptions are those that receive what the route's URI pattern matches.
func (r *route) subscriptions() []Subscription {
	head, n := r.wamp.head()
	fixed, open := r.wamp.fixed()
	switch {
	case n == len(r.wamp.segs):
		return []Subscription{{head, wamp.MatchExact}}
	case open && n == fixed: // literals, then the rest
		if n == 0 {
			return []Subscription{{"", wamp.MatchPrefix}}
		}
		prefix := Subscription{head + ".", wamp.MatchPrefix}
		if len(r.mqtt.segs) == 1 && r.mqtt.segs[0].kind == rest {
			return []Subscription{prefix} // the parent level would be an empty topic
		}
		return []Subscription{{head, wamp.MatchExact}, prefix}
	case open: // single captures and the rest: more than any policy can say
		if n == 0 {
			return []Subscription{{"", wamp.MatchPrefix}}
		}
		return []Subscription{{head + ".", wamp.MatchPrefix}}
	}
	parts := make([]string, len(r.wamp.segs))
	for i, s := range r.wamp.segs {
		if s.kind == literal {
			parts[i] = s.text
		}
	}
	return []Subscription{{strings.Join(parts, "."), wamp.MatchWildcard}}
}

// covers reports whether s receives all that o does.
func (s Subscription) covers(o Subscription) bool {
	switch {
	case s == o:
		return true
	case o.Match == wamp.MatchExact:
		return s.Match.Matches(s.Pattern, o.Pattern)
	case s.Match != wamp.MatchPrefix:
		return false
	case o.Match == wamp.MatchPrefix:
		return strings.HasPrefix(o.Pattern, s.Pattern)
	}
	// The literal part of a wildcard pattern ends before its first empty component.
	literalPart := o.Pattern
	if i := strings.Index("."+o.Pattern+".", ".."); i >= 0 {
		literalPart = o.Pattern[:i]
	}
	return strings.HasPrefix(literalPart, s.Pattern)
}
