package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

// The errors of calls, beside WAMP's own.
const (
	ErrDeviceUnavailable = "postern.error.device_unavailable" // the broker or the device is away
	ErrDeviceRefused     = "postern.error.refused"            // the device answered with an error
)

// idCapture is the name of the capture that tells one request from another.
const idCapture = "id"

// callRoute is one entry of calls, ready for use.
type callRoute struct {
	Call
	request, procedure pattern
	reply, available   *pattern // nil for none
	write, read        *payloadCodec
	present            *payloadCodec // of the availability topic
	replyIf            *expr.Condition
	id, fault          *expr.Path // within payloads; nil for none
}

// numbered reports whether requests carry an id.
func (r *callRoute) numbered() bool { return r.id != nil || r.request.captures(idCapture) }

func compileCall(index int, c Call, uris wamp.URIRule) (*callRoute, []Problem) {
	var problems []Problem
	fatal := func(key, hint, format string, a ...any) {
		problems = append(problems, Problem{fmt.Sprintf("calls[%d].%s", index, key), fmt.Sprintf(format, a...), hint, true})
	}
	r := &callRoute{Call: c}
	topic := func(key, text string) *pattern {
		p, err := parsePattern(text, "/")
		if err != nil {
			fatal(key, "", "%q %v", text, err)
		} else if bad := p.badLevel(); bad != "" {
			fatal(key, "write {x} for one level", "has %q, which no topic has", bad)
		}
		return &p
	}
	r.request = *topic("request", c.Request)
	if c.Reply != "" {
		r.reply = topic("reply", c.Reply)
	}
	if c.Availability.Topic != "" {
		r.available = topic("availability.topic", c.Availability.Topic)
	}
	var err error
	if r.procedure, err = parsePattern(c.Procedure, "."); err != nil {
		fatal("procedure", "", "%q %v", c.Procedure, err)
	} else {
		checkURI("procedure", r.procedure, uris, fatal)
	}
	for _, p := range []*pattern{&r.request, &r.procedure, r.reply, r.available} {
		p.number()
	}
	if len(problems) == 0 {
		r.compileParts(fatal)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return r, nil
}

// compileParts makes the codecs and expressions, and checks what they need.
func (r *callRoute) compileParts(fatal func(key, hint, format string, a ...any)) {
	captured := func(name string) bool { return r.request.captures(name) || r.procedure.captures(name) }
	into := func(c Codec, args string) string {
		if c.Template != nil && args == IntoKwArgs {
			return IntoArgs // the template says it all
		}
		return args
	}
	var err error
	if r.write, err = newPayloadCodec(r.Codec, into(r.Codec, r.Args), captured); err != nil {
		fatal("codec", "", "%v", err)
	}
	if r.read, err = newPayloadCodec(r.ReplyCodec, IntoArgs, captured); err != nil {
		fatal("reply_codec", "", "%v", err)
	}
	if r.present, err = newPayloadCodec(r.Availability.Codec, IntoArgs, captured); err != nil {
		fatal("availability.codec", "", "%v", err)
	}
	path := func(key, text string) *expr.Path {
		if text == "" {
			return nil
		}
		p, err := expr.ParsePath(text)
		if err == nil && !p.IntoDoc() {
			err = fmt.Errorf("begins elsewhere than with $., which is the payload")
		}
		if err != nil {
			fatal(key, "", "%q %v", text, err)
		}
		return p
	}
	r.id, r.fault = path("correlation", r.Correlation), path("error", r.Error)
	if r.ReplyIf != "" {
		if r.replyIf, err = expr.ParseCondition(r.ReplyIf, captured); err != nil {
			fatal("reply_if", "", "%q %v", r.ReplyIf, err)
		}
	}
	if r.QoS < 0 || r.QoS > 1 {
		fatal("qos", "2 takes two more messages, in which a command grows old", "%d is not 0 or 1", r.QoS)
	}
	lacks := func(key string, built *pattern, given pattern, id bool) {
		if built == nil {
			return
		}
		for _, s := range built.segs {
			if s.kind != literal && !given.captures(s.text) && !(id && s.text == idCapture && s.kind == single) {
				fatal(key, "", "has {%s}, which %q does not capture", s.text, given.text)
			}
		}
	}
	switch r.Direction {
	case In:
		lacks("procedure", &r.procedure, r.request, false)
		lacks("reply", r.reply, r.request, false)
		if r.Role == "" {
			fatal("role", "give one that the realm has, with the permissions that the command's senders may have", "is missing: it says what whoever can publish %q may call", r.Request)
		}
	case Out:
		lacks("request", &r.request, r.procedure, true)
		lacks("reply", r.reply, r.procedure, true)
		lacks("availability.topic", r.available, r.procedure, false)
		if r.Role != "" {
			fatal("role", "the realm's permissions say who may call the procedure", "is only for direction: in")
		}
		if r.reply == nil && (r.replyIf != nil || r.id != nil || r.fault != nil) {
			fatal("reply", "", "is missing, but there is something to be looked for in replies")
		}
	default:
		fatal("direction", "in: MQTT asks and WAMP answers; out: WAMP calls and MQTT answers", "%q is not known", r.Direction)
	}
}

// values are a pattern's captures, as topics have them.
type values map[string][]string

// number gives every capture a slot of its own.
func (p *pattern) number() {
	if p == nil {
		return
	}
	slot := 0
	for i := range p.segs {
		if p.segs[i].kind != literal {
			p.segs[i].slot = slot
			slot++
		}
	}
}

func (p *pattern) take(levels []string) (values, bool) {
	var caps [maxCaptures]span
	if !p.match(levels, &caps) {
		return nil, false
	}
	out := values{}
	for _, s := range p.segs {
		if s.kind != literal {
			out[s.text] = levels[caps[s.slot].from:caps[s.slot].to]
		}
	}
	return out, true
}

// topic builds the topic of a pattern; "" when there is none.
func (v values) topic(p *pattern) string {
	var out []string
	for _, s := range p.segs {
		if s.kind == literal {
			out = append(out, s.text)
			continue
		}
		for _, level := range v[s.text] {
			if strings.ContainsAny(level, "/+#\x00") {
				return ""
			}
			out = append(out, level)
		}
	}
	topic := strings.Join(out, "/")
	if !validTopic(topic) || topic[0] == '$' && !spelledDollar(p.segs[0]) {
		return ""
	}
	return topic
}

// uri builds the URI of a pattern.
func (v values) uri(p *pattern, a *alphabet) string {
	var b []byte
	first := true
	add := func() {
		if !first {
			b = append(b, '.')
		}
		first = false
	}
	for _, s := range p.segs {
		if s.kind == literal {
			add()
			b = append(b, s.text...)
			continue
		}
		for _, level := range v[s.text] {
			add()
			b = a.appendComponent(b, level)
		}
	}
	return string(b)
}

// get is for scopes.
func (v values) get(name string) (string, bool) {
	levels, ok := v[name]
	return strings.Join(levels, "/"), ok
}

// caller is what a command needs of a *client.Session.
type caller interface {
	Call(ctx context.Context, procedure string, args client.Args, kwargs client.KwArgs, opts ...client.CallOption) (*client.Result, error)
	Close(ctx context.Context) error
}

// calls is one broker's remote procedures, both ways: those that it offers in
// the realm and answers by asking a device (out.go), and those that a device
// calls by sending a command (in.go). What arrives is looked at as it arrives,
// before the inbox, so that nothing makes an answer or a command wait.
type calls struct {
	out, in []*callRoute
	rule    wamp.URIRule
	gauge   *gauge
	conn    atomic.Pointer[Conn]
	echoes  *echoes
	takes   func(topic string) bool

	mu     sync.Mutex
	number int64
	open   map[string][]*waiter // by reply topic and id
	opened map[*callRoute]int
	absent map[string]bool // availability topics that say so
	seen   map[string]time.Time
	lost   chan struct{} // closed with the connection

	running sync.WaitGroup
	work    context.Context
	callers map[*callRoute]caller
	dead    func(deadLetter)
}

func newCalls(broker string, list []Call, rule wamp.URIRule) *calls {
	c := &calls{rule: rule, open: map[string][]*waiter{}, opened: map[*callRoute]int{}, absent: map[string]bool{}, seen: map[string]time.Time{}, callers: map[*callRoute]caller{}}
	c.number = time.Now().UnixNano() & (1<<30 - 1) // ids of an earlier run do not come again soon
	for i, one := range list {
		if one.Broker != broker {
			continue
		}
		r, _ := compileCall(i, one, rule)
		switch {
		case r == nil:
		case r.Direction == In:
			c.in = append(c.in, r)
		default:
			c.out = append(c.out, r)
		}
	}
	return c
}

// filters are the subscriptions that calls need at the broker. Commands are
// asked for at QoS 0: the broker keeps none for a gateway that is away.
func (c *calls) filters() []Filter {
	var all []Filter
	for _, r := range c.in {
		all = append(all, Filter{Topic: r.request.filter()})
	}
	for _, r := range c.out {
		if r.reply != nil {
			all = append(all, Filter{Topic: r.reply.filter(), QoS: byte(r.QoS)})
		}
		if r.available != nil {
			all = append(all, Filter{Topic: r.available.filter(), QoS: 1})
		}
	}
	return all
}

// useCalls gives a task its calls.
func (t *Task) useCalls(c *calls) {
	c.gauge, c.echoes, c.takes, c.dead = t.gauge, &t.echoes, t.table.takes, t.deadLetter
	t.calls = c
}

// begin joins the realm for every entry of direction in. ctx is that of the
// goroutines for commands.
func (c *calls) begin(ctx context.Context, t *Task) {
	callers := map[*callRoute]caller{}
	for _, r := range c.in {
		joining, cancel := context.WithTimeout(ctx, takenTimeout)
		who, err := t.callAs(joining, r.Call)
		cancel()
		if err != nil {
			t.log.Error("commands from MQTT cannot be carried out", "call", r.Name, "role", r.Role, "error", err)
			continue
		}
		callers[r] = who
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work, c.callers = ctx, callers
}

// end waits for the goroutines of commands, whose context has ended, and leaves
// the realm.
func (c *calls) end() {
	c.mu.Lock()
	c.work = nil
	c.mu.Unlock()
	c.running.Wait()
	for _, who := range c.callers {
		bye, cancel := context.WithTimeout(context.Background(), farewellTimeout)
		_ = who.Close(bye) // it ends either way
		cancel()
	}
	c.callers = nil
}

// connected and disconnected tell of the broker's connection; the latter ends
// every call that waits for an answer on it.
func (c *calls) connected(conn Conn) {
	c.mu.Lock()
	c.lost = make(chan struct{})
	c.mu.Unlock()
	c.conn.Store(&conn)
}

func (c *calls) disconnected() {
	if c.conn.Swap(nil) != nil {
		c.mu.Lock()
		close(c.lost)
		c.lost = nil
		c.mu.Unlock()
	}
}

// arrived looks at a message as it arrives; it does not block. It reports
// whether the message is a command, and so nothing for the maps.
func (c *calls) arrived(m Received) (command bool) {
	if len(c.in)+len(c.out) == 0 {
		return false
	}
	levels := appendCut(nil, m.Topic, '/')
	for _, r := range c.in {
		if v, ok := r.request.take(levels); ok {
			c.command(r, v, m)
			return true
		}
	}
	for _, r := range c.out {
		if r.available != nil {
			if _, ok := r.available.take(levels); ok {
				c.noteAvailability(r, m)
			}
		}
		if r.reply != nil {
			if _, ok := r.reply.take(levels); ok {
				c.answered(r, m)
			}
		}
	}
	return false
}

// publish sends a call's message past the queue: it is worth something now or
// not at all. The token is nil when there is no connection.
func (c *calls) publish(m Message) Token {
	conn := c.conn.Load()
	if conn == nil {
		return nil
	}
	var e *echo
	if !(*conn).Info().NoLocal && c.takes(m.Topic) {
		e = c.echoes.sent(m)
	}
	token := (*conn).Publish(m)
	c.echoes.acknowledged(e, time.Now())
	return token
}

// checkCalls says what is wrong with the calls, and refuses circles.
func (c *Config) checkCalls(uris wamp.URIRule, tables []brokerTable) []Problem {
	var problems []Problem
	var in, out []*callRoute
	for i, one := range c.Calls {
		r, ps := compileCall(i, one, uris)
		problems = append(problems, ps...)
		if r == nil {
			continue
		}
		problems = append(problems, r.checkAgainst(i, tables)...)
		if one.Direction == In {
			in = append(in, r)
		} else {
			out = append(out, r)
		}
	}
	find := func(name string) *brokerTable {
		i := slices.IndexFunc(tables, func(t brokerTable) bool { return t.name == name })
		if i < 0 {
			return nil
		}
		return &tables[i]
	}
	for _, a := range in {
		for _, b := range out {
			x, y := find(a.Broker), find(b.Broker)
			if x != nil && y != nil && (x == y || x.sameAs(y)) && a.request.overlaps(b.request) && a.procedure.overlaps(b.procedure) {
				problems = append(problems, Problem{
					Path:    "calls",
					Message: fmt.Sprintf("%q and %q send commands around in a loop: %q calls %s, which publishes it again", a.Name, b.Name, a.Request, b.Procedure),
					Hint:    "use another topic, or another procedure, for one of them", Fatal: true,
				})
			}
		}
	}
	return problems
}

// checkAgainst refuses commands that a map's subscription would have the broker
// keep for later.
func (r *callRoute) checkAgainst(index int, tables []brokerTable) []Problem {
	if r.Direction != In || r.Broker == Embedded {
		return nil
	}
	for _, t := range tables {
		if t.name != r.Broker {
			continue
		}
		for _, f := range t.MQTTFilters() {
			if f.QoS > 0 && patternOfFilter(f.Topic).overlaps(r.request) {
				return []Problem{{
					Path:    fmt.Sprintf("calls[%d].request", index),
					Message: fmt.Sprintf("%q is also in the maps' subscription %q, for which the broker keeps messages while the gateway is away: a command would be carried out late", r.Request, f.Topic),
					Hint:    "give that map qos: 0, or a narrower topic", Fatal: true,
				}}
			}
		}
	}
	return nil
}
