package bridge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// Explanation says what becomes of one topic or URI, and why.
type Explanation struct {
	// Considered are the maps of the direction in their order, up to the one
	// that decides.
	Considered []Considered
	Decision   Decision
	// Messages or Events are what comes of it; a message without payload shows
	// the names only.
	Messages []Message
	Events   []Event
}

// Considered is what one map has to do with a name.
type Considered struct {
	Map      *Map
	Decides  bool
	Captures string // such as "dev = kitchen"
	Why      string // it does not decide
}

// ExplainTopic says what an MQTT message on topic becomes. payload nil is none
// known; filters are asked as for the first message.
func (t *Table) ExplainTopic(topic string, payload []byte, retained bool, now time.Time) Explanation {
	var x Explanation
	var caps [maxCaptures]span
	r, uri, d := t.findTopic(topic, &caps)
	x.Decision = d
	if !validTopic(topic) {
		return x
	}
	levels := appendCut(nil, topic, '/')
	for _, o := range t.in {
		c := Considered{Map: &o.Map, Decides: d.Map == &o.Map}
		switch {
		case c.Decides:
			c.Captures = o.mqtt.describe(levels)
		case o.matchTopic(levels, &caps):
			c.Why = fmt.Sprintf("matches, but except leaves out %s", t.uri(o, levels, &caps))
		case strings.HasPrefix(topic, "$") && o.mqtt.segs[0].kind != literal:
			c.Why = "a topic that begins with $ crosses only where a map spells the $"
		default:
			c.Why = o.mqtt.mismatch(levels)
		}
		x.Considered = append(x.Considered, c)
		if c.Decides {
			break
		}
	}
	switch {
	case d.Reason != Mapped:
	case payload == nil:
		if uri == "" {
			uri = t.withoutLeaves(r, levels)
		}
		x.Events = []Event{{Topic: uri, Retain: r.retain(retained)}}
	default:
		x.Events, x.Decision = t.ToWAMP(nil, topic, payload, retained, now)
	}
	return x
}

// withoutLeaves is the URI of a map that splits, its last part unknown.
func (t *Table) withoutLeaves(r *route, levels []string) string {
	var caps [maxCaptures]span
	r.mqtt.match(levels, &caps)
	caps[r.leaves] = span{}
	return t.uri(r, levels, &caps) + ".{" + r.Split + "...}"
}

// ExplainURI says what an event with the URI becomes. p nil is none known;
// filters are asked as for the first event.
func (t *Table) ExplainURI(uri string, p *wamp.Payload, retained bool, now time.Time) Explanation {
	var x Explanation
	var m Message
	known := p != nil
	if !known {
		p = &wamp.Payload{}
	}
	m, x.Decision = t.ToMQTT(uri, *p, retained, now)
	if x.Decision.Reason == Mapped {
		if !known {
			m.Payload = nil
		}
		x.Messages = []Message{m}
	}
	if wamp.Reserved(uri) || !t.rule.ValidURI(uri) {
		return x
	}
	components := appendCut(nil, uri, '.')
	var caps [maxCaptures]span
	for _, o := range t.out {
		c := Considered{Map: &o.Map, Decides: x.Decision.Map == &o.Map}
		switch {
		case c.Decides:
			c.Captures = o.wamp.describe(components)
		case o.wamp.match(components, &caps):
			c.Why = "matches, but except leaves it out"
		default:
			c.Why = o.wamp.mismatch(components)
		}
		x.Considered = append(x.Considered, c)
		if c.Decides {
			break
		}
	}
	return x
}

// ExplainCalls says what the calls of one broker have to do with a topic or a
// URI, a line each.
func (c *Config) ExplainCalls(broker, name string, uris wamp.URIRule) []string {
	var out []string
	levels, components := appendCut(nil, name, '/'), appendCut(nil, name, '.')
	for i, one := range c.Calls {
		r, _ := compileCall(i, one, uris)
		if r == nil || one.Broker != broker {
			continue
		}
		if v, ok := r.request.take(levels); ok && r.Direction == In {
			out = append(out, fmt.Sprintf("call %s: a command, calls %s as %s", r.Name, v.uri(&r.procedure, alphabetOf(uris)), r.Role))
		}
		if r.Direction != Out {
			continue
		}
		if _, ok := r.procedure.take(components); ok {
			v, err := (&calls{rule: uris}).captures(r, name)
			if err != nil {
				continue
			}
			v[idCapture] = []string{"{" + idCapture + "}"}
			line := fmt.Sprintf("call %s: a procedure, asks on %s", r.Name, v.topic(&r.request))
			if r.reply != nil {
				line += ", answered on " + v.topic(r.reply)
			}
			out = append(out, line)
		}
		for what, p := range map[string]*pattern{"the answer": r.reply, "the availability": r.available} {
			if p == nil {
				continue
			}
			if _, ok := p.take(levels); ok {
				out = append(out, fmt.Sprintf("call %s: may be %s for %s", r.Name, what, r.Procedure))
			}
		}
	}
	slices.Sort(out)
	return out
}

// describe writes down what the captures take.
func (p *pattern) describe(levels []string) string {
	var out []string
	for _, s := range p.segs {
		if s.kind == literal {
			continue
		}
		if i := slices.IndexFunc(p.segs, func(o segment) bool { return o == s }); i <= len(levels) {
			taken := levels[i:]
			if s.kind == single {
				taken = levels[i : i+1]
			}
			out = append(out, fmt.Sprintf("%s = %s", s.text, strings.Join(taken, p.sep)))
		}
	}
	return strings.Join(out, ", ")
}

// mismatch says where levels part from the pattern.
func (p *pattern) mismatch(levels []string) string {
	for i, s := range p.segs {
		switch {
		case i >= len(levels):
			return fmt.Sprintf("%q goes on with %q", p.text, strings.Join(segmentTexts(p.segs[i:]), p.sep))
		case s.kind == literal && s.text != levels[i]:
			return fmt.Sprintf("%q has %q where the name has %q", p.text, s.text, levels[i])
		}
	}
	return fmt.Sprintf("%q ends before %q", p.text, strings.Join(levels[len(p.segs):], p.sep))
}

func segmentTexts(segs []segment) []string {
	out := make([]string, len(segs))
	for i, s := range segs {
		switch s.kind {
		case single:
			out[i] = "{" + s.text + "}"
		case rest:
			out[i] = "{" + s.text + "...}"
		default:
			out[i] = s.text
		}
	}
	return out
}
