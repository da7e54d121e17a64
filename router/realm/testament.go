package realm

import (
	"github.com/postern-iot/postern/wamp"
)

// testaments are what a session leaves behind ("Session Testament"): events that
// are published when it has ended, however that came about. Each scope has its
// own in the order in which they were added. Sessions are not resumed here, so
// that both scopes are published at the end, "detached" before "destroyed".
type testaments struct {
	detached, destroyed []testament
	bytes               int
}

type testament struct {
	publish *wamp.Publish
	size    int
	told    map[question]grant // by an authorizer, which is not asked for who is gone
}

// The scopes of testaments.
const (
	scopeDetached  = "detached"
	scopeDestroyed = "destroyed"
)

func (t *testaments) count() int { return len(t.detached) + len(t.destroyed) }

// scope returns the testaments that the keyword argument scope names.
func (t *testaments) scope(c *metaCall) (*[]testament, *wamp.Error) {
	switch v := c.kwargs["scope"]; v {
	case nil, scopeDestroyed:
		return &t.destroyed, nil
	case scopeDetached:
		return &t.detached, nil
	}
	return nil, wamp.Errorf(wamp.ErrInvalidArgument, "scope is none of %s, %s", scopeDetached, scopeDestroyed)
}

// testamentOverhead is what a testament costs beside its topic and payload,
// roughly.
const testamentOverhead = 512

// sessionAddTestament is wamp.session.add_testament. What could not be published
// now is refused now; whether it may be is asked again when it is published.
func (r *Realm) sessionAddTestament(c *metaCall) (wamp.List, *wamp.Error) {
	s := c.caller
	bucket, fault := s.testaments.scope(c)
	if fault != nil {
		return nil, fault
	}
	m, size, fault := r.newTestament(c)
	if fault == nil && passes(&m.Options.PPT) && !s.passthru.publisher {
		fault = wamp.Errorf(wamp.ErrInvalidArgument, "publish_options: ppt_scheme is for publishers that announced payload_passthru_mode")
	}
	disclose := false
	if fault == nil {
		disclose, fault = r.mayPublish(s, m)
	}
	if fault != nil {
		return nil, fault
	}
	if s.testaments.count() >= r.cfg.Limits.Testaments || s.testaments.bytes+size > r.cfg.Limits.TestamentBytes {
		return nil, r.overLimit("the session may have %d testaments, of about %d bytes in all",
			r.cfg.Limits.Testaments, r.cfg.Limits.TestamentBytes)
	}
	t := testament{publish: m, size: size}
	if s.role.rule(m.Topic) == nil {
		t.told = map[question]grant{s.asks(actionPublish, m.Topic, wamp.MatchExact): {allow: true, disclose: disclose}}
	}
	*bucket = append(*bucket, t)
	s.testaments.bytes += size
	return nil, nil
}

// newTestament reads the arguments of add_testament.
func (r *Realm) newTestament(c *metaCall) (m *wamp.Publish, size int, fault *wamp.Error) {
	m = &wamp.Publish{}
	if m.Topic, fault = c.text(0, "topic"); fault != nil {
		return nil, 0, fault
	}
	args, isList := c.arg(1).([]any)
	kwargs, isDict := c.arg(2).(map[string]any)
	options, areDict := c.kwargs["publish_options"].(map[string]any)
	switch {
	case !isList && c.arg(1) != nil:
		return nil, 0, wamp.Errorf(wamp.ErrInvalidArgument, "argument 2 must be a list, the event's arguments")
	case !isDict && c.arg(2) != nil:
		return nil, 0, wamp.Errorf(wamp.ErrInvalidArgument, "argument 3 must be a dictionary, the event's keyword arguments")
	case !areDict && c.kwargs["publish_options"] != nil:
		return nil, 0, wamp.Errorf(wamp.ErrInvalidArgument, "publish_options must be a dictionary")
	}
	if m.Options, fault = publishOptions(options); fault != nil {
		return nil, 0, fault
	}
	var err error
	if m.Payload, err = wamp.NewPayload(r.cfg.Encoding, args, kwargs); err != nil {
		return nil, 0, wamp.Errorf(wamp.ErrInvalidArgument, "%v", err)
	}
	size = testamentOverhead + len(m.Topic) + m.Size()
	o := &m.Options
	for _, ids := range [][]wamp.ID{o.Eligible, o.Exclude} {
		size += 8 * len(ids)
	}
	for _, names := range [][]string{o.EligibleAuthID, o.EligibleAuthRole, o.ExcludeAuthID, o.ExcludeAuthRole} {
		for _, name := range names {
			size += 16 + len(name)
		}
	}
	return m, size, nil
}

// publishOptions reads options of PUBLISH that came as an argument. That nobody
// is there for an acknowledgement makes it one of those that mean nothing.
func publishOptions(d wamp.Dict) (o wamp.PublishOptions, fault *wamp.Error) {
	bad := func(key, want string) {
		fault = wamp.Errorf(wamp.ErrInvalidArgument, "publish_options: %s must be %s", key, want)
	}
	if v := d["exclude_me"]; v != nil {
		exclude, ok := v.(bool)
		if !ok {
			bad("exclude_me", "true or false")
		}
		o.ExcludeMe = &exclude
	}
	for key, field := range map[string]*bool{"disclose_me": &o.DiscloseMe, "retain": &o.Retain} {
		if v, ok := d[key].(bool); ok {
			*field = v
		} else if d[key] != nil {
			bad(key, "true or false")
		}
	}
	for key, field := range map[string]*string{
		"rkey": &o.RKey, "ppt_scheme": &o.PPT.Scheme, "ppt_serializer": &o.PPT.Serializer,
		"ppt_cipher": &o.PPT.Cipher, "ppt_keyid": &o.PPT.KeyID,
	} {
		if v, ok := d[key].(string); ok {
			*field = v
		} else if d[key] != nil {
			bad(key, "a string")
		}
	}
	for key, field := range map[string]*[]wamp.ID{"exclude": &o.Exclude, "eligible": &o.Eligible} {
		list, ok := d[key].([]any)
		if d[key] == nil {
			continue
		}
		*field = make([]wamp.ID, 0, len(list)) // empty is not the same as none
		for _, v := range list {
			id, isID := wamp.ToInt(v)
			ok = ok && isID && id > 0
			*field = append(*field, wamp.ID(id))
		}
		if !ok {
			bad(key, "a list of session IDs")
		}
	}
	for key, field := range map[string]*[]string{
		"exclude_authid": &o.ExcludeAuthID, "exclude_authrole": &o.ExcludeAuthRole,
		"eligible_authid": &o.EligibleAuthID, "eligible_authrole": &o.EligibleAuthRole,
	} {
		list, ok := d[key].([]any)
		if d[key] == nil {
			continue
		}
		*field = make([]string, 0, len(list))
		for _, v := range list {
			name, isText := v.(string)
			ok = ok && isText
			*field = append(*field, name)
		}
		if !ok {
			bad(key, "a list of strings")
		}
	}
	return o, fault
}

// sessionFlushTestaments is wamp.session.flush_testaments.
func (r *Realm) sessionFlushTestaments(c *metaCall) (wamp.List, *wamp.Error) {
	bucket, fault := c.caller.testaments.scope(c)
	if fault != nil {
		return nil, fault
	}
	for _, t := range *bucket {
		c.caller.testaments.bytes -= t.size
	}
	*bucket = nil
	return nil, nil
}

// bequeath publishes what s, which is not a member any more, has left.
func (r *Realm) bequeath(s *Session) {
	left := s.testaments
	s.testaments = testaments{}
	for _, t := range append(left.detached, left.destroyed...) {
		s.told = t.told
		r.publish(s, t.publish)
	}
	s.told, r.need = nil, nil
}
