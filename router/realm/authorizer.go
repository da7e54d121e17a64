package realm

import (
	"errors"
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// Authorizer is a procedure in the realm that decides what sessions of a role
// may do where no permission of the role does. It is called as Crossbar.io calls
// its dynamic authorizers, of which the specification has nothing: with the
// details of the session, the URI, the action ("call", "register", "publish",
// "subscribe") and some of the options. It answers true or false, or a dictionary
// with "allow", "disclose" and "cache". Whatever else happens, nothing is allowed.
//
// Until it has answered, a session's messages wait, so that their order is kept;
// only answers to invocations do not. They are refused beyond a bound. What was
// answered with "cache" holds for everybody with the same authid and role, for the
// same action on the same URI with the same matching policy, and is forgotten
// after a while, when somebody registers the procedure, and when roles change.
type Authorizer struct {
	// Procedure is its URI; empty for none.
	Procedure string
	// Timeout is how long it may take; 0 means the default of 5 s.
	Timeout Time
	// Keep is how long what it said is remembered, where it allows that; 0
	// means the default of 5 minutes.
	Keep Time
}

const second = 1000 * millisecond

const (
	// maxVerdicts is how many are remembered.
	maxVerdicts = 10_000
	// maxParked and maxParkedBytes bound what a session may send while it waits.
	maxParked      = 1024
	maxParkedBytes = 1 << 20
)

func (a *Authorizer) fill() error {
	if a.Procedure == "" {
		return nil
	}
	if !wamp.LooseURIs.ValidURI(a.Procedure) || wamp.Reserved(a.Procedure) {
		return fmt.Errorf("authorizer %q is no URI of a procedure that can be registered", a.Procedure)
	}
	if a.Timeout <= 0 {
		a.Timeout = 5 * second
	}
	if a.Keep <= 0 {
		a.Keep = 300 * second
	}
	return nil
}

// errWait is no error: the message has to wait for an authorizer.
var errWait = wamp.Errorf(wamp.ErrAuthorizationFailed, "the authorizer has not answered yet")

// question is what an authorizer is asked, apart from the session and options.
type question struct {
	authID, authRole string
	what             action
	uri              string
	match            wamp.Match
}

// verdict is an answer that is remembered.
type verdict struct {
	grant
	until Time
}

// waiting is a session's message, and the question that it waits for.
type waiting struct {
	session   *Session
	procedure string
	question  question
	message   wamp.Message
	failed    *wamp.Error // instead of an answer
}

// newJudge makes the session in whose name authorizers are called. It is no
// member, and may call everything, so that asking raises no question.
func newJudge() *Session {
	everything := &Permission{Match: wamp.MatchPrefix, Allow: AllActions}
	ro := &role{ordered: []*Permission{everything}}
	ro.rules.put(wamp.MatchPrefix, "", everything)
	return &Session{Identity: Identity{AuthID: "postern.authorizer", AuthRole: "trusted"}, state: joined, role: ro}
}

func (s *Session) asks(what action, uri string, match wamp.Match) question {
	return question{
		authID: s.Identity.AuthID, authRole: s.Identity.AuthRole,
		what: what, uri: uri, match: match.Normal(),
	}
}

// judgement returns what an authorizer has said; errWait when it has to be asked.
func (r *Realm) judgement(s *Session, what action, uri string, match wamp.Match) (grant, *wamp.Error) {
	q := s.asks(what, uri, match)
	if v, known := r.verdicts[q]; known && r.now < v.until {
		return v.grant, nil
	}
	if g, told := s.told[q]; told {
		return g, nil
	}
	if s.again && s.waits != nil && s.waits.failed != nil && s.waits.question == q {
		r.stats.Denied++
		return grant{}, s.waits.failed
	}
	r.need = &q
	return grant{}, errWait
}

// take handles a message of a member, or lets it wait.
func (r *Realm) take(s *Session, m wamp.Message) {
	if s.waits != nil {
		switch m.(type) {
		case *wamp.Yield, *wamp.ErrorMessage, *wamp.Abort:
		default:
			r.park(s, m)
			return
		}
	}
	r.step(s, m)
	r.ask(s, m)
}

// park keeps what a session sends while it waits.
func (r *Realm) park(s *Session, m wamp.Message) {
	size := 256
	if p, ok := m.(interface{ Size() int }); ok {
		size += p.Size()
	}
	if len(s.parked) < maxParked && s.weight+size <= maxParkedBytes {
		s.parked = append(s.parked, m)
		s.weight += size
		return
	}
	r.abort(s, ErrLimitExceeded, "too many messages while an authorizer is being asked")
}

// ask calls the authorizer if the message that was handled needs it.
func (r *Realm) ask(s *Session, m wamp.Message) {
	q := r.need
	r.need = nil
	if q == nil || s.state != joined {
		return
	}
	a := &s.role.authorizer
	s.waits = &waiting{session: s, procedure: a.Procedure, question: *q, message: m}
	call := &wamp.Call{Procedure: a.Procedure}
	call.Options.Timeout = uint64((a.Timeout + millisecond - 1) / millisecond)
	call.Payload = r.encode(wamp.List{s.details(), q.uri, q.what.name(), askedOptions(q.what, m)})
	r.judge.lastRequest++
	if r.judge.lastRequest > wamp.MaxID {
		r.judge.lastRequest = 1
	}
	call.Request = r.judge.lastRequest
	r.asked[call.Request] = s.waits
	r.call(r.judge, call)
}

func (a action) name() string {
	return [...]string{"call", "register", "publish", "subscribe"}[a]
}

// askedOptions are those that an authorizer may want to know.
func askedOptions(what action, m wamp.Message) wamp.Dict {
	switch m := m.(type) {
	case *wamp.Subscribe:
		return wamp.Dict{"match": string(m.Options.Match.Normal()), "get_retained": m.Options.GetRetained}
	case *wamp.Register:
		return wamp.Dict{
			"match": string(m.Options.Match.Normal()), "invoke": policy(m),
			"force_reregister": m.Options.ForceReregister, "disclose_caller": m.Options.DiscloseCaller,
		}
	case *wamp.Publish:
		return wamp.Dict{"acknowledge": m.Options.Acknowledge, "disclose_me": m.Options.DiscloseMe, "retain": m.Options.Retain}
	case *wamp.Call:
		if what != actionCall { // for a procedure of the router's own
			break
		}
		return wamp.Dict{"disclose_me": m.Options.DiscloseMe, "receive_progress": m.Options.ReceiveProgress}
	}
	return wamp.Dict{}
}

// done ends a step: it goes on with the messages whose authorizer has answered,
// which may ask again.
func (r *Realm) done() []Effect {
	for len(r.answers) > 0 {
		m := r.answers[0]
		r.answers[0] = nil
		r.answers = r.answers[1:]
		switch m := m.(type) {
		case *wamp.Result:
			r.answer(m.Request, m.Payload, "")
		case *wamp.ErrorMessage:
			r.answer(m.Request, m.Payload, m.URI)
		}
	}
	return r.out
}

// answer takes an authorizer's answer, or the URI of its error.
func (r *Realm) answer(request wamp.ID, p wamp.Payload, uri string) {
	w := r.asked[request]
	delete(r.asked, request)
	if w == nil || w.session.waits != w {
		return // who asked is gone
	}
	s := w.session
	g, cache, err := readVerdict(p)
	switch {
	case s.role == nil || s.role.authorizer.Procedure != w.procedure: // roles have changed
	case uri != "" || err != nil:
		if uri == "" {
			uri = err.Error()
		}
		w.failed = wamp.Errorf(wamp.ErrAuthorizationFailed, "the authorizer has not decided about %s %q: %s",
			w.question.what.name(), clip(w.question.uri), clip(uri))
	default:
		if s.told == nil {
			s.told = map[question]grant{}
		}
		s.told[w.question] = g
		if cache {
			if len(r.verdicts) >= maxVerdicts {
				clear(r.verdicts)
			}
			r.verdicts[w.question] = verdict{grant: g, until: r.now + s.role.authorizer.Keep}
		}
	}
	s.again = true
	r.step(s, w.message)
	s.again = false
	if s.waits = nil; r.need == nil {
		s.told = nil
	}
	r.ask(s, w.message)
	r.unpark(s)
}

// unpark goes on with what came while s waited, until it has to wait again.
func (r *Realm) unpark(s *Session) {
	parked := s.parked
	s.parked, s.weight = nil, 0
	for i, m := range parked {
		if s.state != joined {
			return
		}
		if s.waits != nil {
			for _, m := range parked[i:] {
				r.park(s, m)
			}
			return
		}
		r.step(s, m)
		r.ask(s, m)
	}
}

// readVerdict reads an answer: a boolean, or a dictionary.
func readVerdict(p wamp.Payload) (g grant, cache bool, err error) {
	args, _, err := p.Values()
	if err != nil {
		return grant{}, false, err
	}
	if len(args) != 1 {
		return grant{}, false, fmt.Errorf("it answers %d values instead of one", len(args))
	}
	if allow, ok := args[0].(bool); ok {
		return grant{allow: allow}, false, nil
	}
	d, ok := args[0].(map[string]any)
	if !ok {
		return grant{}, false, errors.New("it answers neither a boolean nor a dictionary")
	}
	for key, field := range map[string]*bool{"allow": &g.allow, "disclose": &g.disclose, "cache": &cache} {
		value, isBool := d[key].(bool)
		if !isBool && (d[key] != nil || key == "allow") {
			return grant{}, false, fmt.Errorf("its %s is not true or false", key)
		}
		*field = value
	}
	return g, cache, nil
}

// forgetVerdicts forgets what authorizers have said when one of them is
// registered: it may think otherwise.
func (r *Realm) forgetVerdicts(procedure string) {
	if len(r.verdicts) == 0 {
		return
	}
	for _, ro := range r.roles {
		if ro.authorizer.Procedure == procedure {
			clear(r.verdicts)
			return
		}
	}
}
