package realm

import (
	"errors"
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// metaCall is a call of one of the router's own procedures.
type metaCall struct {
	caller *Session
	args   wamp.List
	kwargs wamp.Dict
	about  wamp.Dict // keyword arguments of the result
}

// metaProcedure answers one with a list of results.
type metaProcedure func(*Realm, *metaCall) (wamp.List, *wamp.Error)

// metaProcedures are the procedures that the router itself provides. It is no
// variable because some of them lead back to it.
func metaProcedures() map[string]metaProcedure {
	all := map[string]metaProcedure{
		"wamp.session.count":            (*Realm).sessionCount,
		"wamp.session.list":             (*Realm).sessionList,
		"wamp.session.get":              (*Realm).sessionGet,
		"wamp.session.kill":             (*Realm).sessionKill,
		"wamp.session.kill_by_authid":   (*Realm).sessionKillByAuthID,
		"wamp.session.kill_by_authrole": (*Realm).sessionKillByAuthRole,
		"wamp.session.kill_all":         (*Realm).sessionKillAll,
		"wamp.session.add_testament":    (*Realm).sessionAddTestament,
		"wamp.session.flush_testaments": (*Realm).sessionFlushTestaments,

		"wamp.subscription.list":              (*Realm).subscriptionList,
		"wamp.subscription.lookup":            (*Realm).subscriptionLookup,
		"wamp.subscription.match":             (*Realm).subscriptionMatch,
		"wamp.subscription.get":               (*Realm).subscriptionGet,
		"wamp.subscription.list_subscribers":  (*Realm).subscriptionListSubscribers,
		"wamp.subscription.count_subscribers": (*Realm).subscriptionCountSubscribers,
		"wamp.subscription.get_events":        (*Realm).subscriptionGetEvents,

		"wamp.registration.list":          (*Realm).registrationList,
		"wamp.registration.lookup":        (*Realm).registrationLookup,
		"wamp.registration.match":         (*Realm).registrationMatch,
		"wamp.registration.get":           (*Realm).registrationGet,
		"wamp.registration.list_callees":  (*Realm).registrationListCallees,
		"wamp.registration.count_callees": (*Realm).registrationCountCallees,
	}
	reflectionProcedures(all)
	return all
}

// The topics of the router's own events.
const (
	metaOnJoin        = "wamp.session.on_join"
	metaOnLeave       = "wamp.session.on_leave"
	metaOnSubCreate   = "wamp.subscription.on_create"
	metaOnSubscribe   = "wamp.subscription.on_subscribe"
	metaOnUnsubscribe = "wamp.subscription.on_unsubscribe"
	metaOnSubDelete   = "wamp.subscription.on_delete"
	metaOnRegCreate   = "wamp.registration.on_create"
	metaOnRegister    = "wamp.registration.on_register"
	metaOnUnregister  = "wamp.registration.on_unregister"
	metaOnRegDelete   = "wamp.registration.on_delete"
)

// callMeta answers a call in the namespace that is reserved for the router. It
// needs a permission like any other; true while that is being asked for.
func (r *Realm) callMeta(s *Session, m *wamp.Call) (waits bool) {
	fault := r.checkURI(m.Procedure, wamp.MatchExact)
	if fault == nil {
		_, fault = r.authorize(s, actionCall, m.Procedure, wamp.MatchExact)
	}
	procedure := r.meta[m.Procedure]
	if fault == errWait {
		return true
	}
	if fault == nil && procedure == nil {
		fault = wamp.Errorf(wamp.ErrNoSuchProcedure, "the router has no procedure %q", clip(m.Procedure))
	}
	c := &metaCall{caller: s}
	if fault == nil {
		var err error
		if m.Options.PPT != (wamp.Passthru{}) {
			err = errors.New("the router cannot read a payload in passthru mode")
		} else {
			c.args, c.kwargs, err = m.Payload.Values()
		}
		if err != nil {
			fault = wamp.Errorf(wamp.ErrInvalidArgument, "%v", err)
		}
	}
	var results wamp.List
	if fault == nil {
		if results, fault = procedure(r, c); fault == errWait {
			return true
		}
		r.stats.Calls++
	}
	if fault != nil {
		r.refuse(s, wamp.KindCall, m.Request, fault)
		return false
	}
	r.send(s, &wamp.Result{Request: m.Request, Payload: r.payload(&wamp.Error{Args: results, KwArgs: c.about})})
	return false
}

// encode encodes values that the realm itself made.
func (r *Realm) encode(args wamp.List) wamp.Payload {
	p, err := wamp.NewPayload(r.cfg.Encoding, args, nil)
	if err != nil {
		return wamp.Payload{} // they are all plain
	}
	return p
}

// heard reports whether anybody would hear an event of the router's own. It
// keeps what nobody listens to from costing anything.
func (r *Realm) heard(topic string) bool {
	r.matchedSubs = r.subscriptions.appendMatches(r.matchedSubs[:0], topic)
	defer clear(r.matchedSubs)
	return len(r.matchedSubs) > 0
}

// announce publishes an event of the router's own to those who have subscribed
// to it and may.
func (r *Realm) announce(topic string, args ...any) {
	p := publication{id: r.cfg.NewID(), topic: topic, payload: r.encode(args)}
	r.matchedSubs = r.subscriptions.appendMatches(r.matchedSubs[:0], topic)
	for _, sub := range r.matchedSubs {
		r.dispatch(&p, sub)
	}
	clear(r.matchedSubs)
}

func (c *metaCall) arg(i int) any {
	if i < len(c.args) {
		return c.args[i]
	}
	return nil
}

// id returns an argument that is an ID.
func (c *metaCall) id(i int) (wamp.ID, *wamp.Error) {
	n, ok := wamp.ToInt(c.arg(i))
	if !ok || n < 0 {
		return 0, wamp.Errorf(wamp.ErrInvalidArgument, "argument %d must be an ID", i+1)
	}
	return wamp.ID(n), nil
}

// text returns an argument that is a string; what says of what.
func (c *metaCall) text(i int, what string) (string, *wamp.Error) {
	s, ok := c.arg(i).(string)
	if !ok {
		return "", wamp.Errorf(wamp.ErrInvalidArgument, "argument %d must be a string, the %s", i+1, what)
	}
	return s, nil
}

// match returns the matching policy of an optional argument with the options
// of SUBSCRIBE or REGISTER.
func (c *metaCall) match(i int) (wamp.Match, *wamp.Error) {
	options, ok := c.arg(i).(map[string]any)
	if !ok && c.arg(i) != nil {
		return "", wamp.Errorf(wamp.ErrInvalidArgument, "argument %d must be a dictionary of options", i+1)
	}
	match := wamp.Match(wamp.AsString(options, "match")).Normal()
	switch match {
	case wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard:
		return match, nil
	}
	return "", wamp.Errorf(wamp.ErrInvalidArgument, "match %q is none of exact, prefix, wildcard", clip(string(match)))
}

// byMatch sorts the IDs of what is kept by ID into lists by matching policy.
func byMatch[E any](all map[wamp.ID]E, match func(E) wamp.Match) wamp.Dict {
	lists := map[wamp.Match]wamp.List{wamp.MatchExact: {}, wamp.MatchPrefix: {}, wamp.MatchWildcard: {}}
	for _, id := range sortedKeys(all) {
		m := match(all[id])
		lists[m] = append(lists[m], id)
	}
	d := wamp.Dict{}
	for m, ids := range lists {
		d[string(m)] = ids
	}
	return d
}

// iso8601 writes a time as the meta API has it: UTC, to the millisecond. The
// calendar is that of Hinnant's "chrono-Compatible Low-Level Date Algorithms",
// with years that begin in March so that leap days come last.
func (t Time) iso8601() string {
	const day = 24 * 60 * 60 * 1000
	ms := int64(t / 1e6)
	days := ms / day
	if ms -= days * day; ms < 0 {
		ms += day
		days--
	}
	days += 719_468 // from 0000-03-01
	era := days / 146_097
	if days < 0 {
		era = (days - 146_096) / 146_097
	}
	ofEra := days - era*146_097
	year := (ofEra - ofEra/1460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*year + year/4 - year/100)
	month := (5*ofYear + 2) / 153
	date := ofYear - (153*month+2)/5 + 1
	year += era * 400
	if month += 3; month > 12 {
		month -= 12
		year++
	}
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
		year, month, date, ms/3_600_000, ms/60_000%60, ms/1000%60, ms%1000)
}
