package codec

import (
	"math"
	"slices"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// The methods of form in the first half of this file say, for every dictionary
// of options or details, which key is which field. The body of their loop is
// run once to write a dictionary, and once per key to read one. Fields with
// their zero value are not written; null reads as an absent key, since
// JavaScript clients send it for undefined.

func (f *form) publishOptions(o *wamp.PublishOptions) {
	for f.keys("options", &o.Extra) {
		f.bool("acknowledge", &o.Acknowledge)
		f.optionalBool("exclude_me", &o.ExcludeMe)
		f.bool("disclose_me", &o.DiscloseMe)
		f.ids("exclude", &o.Exclude)
		f.names("exclude_authid", &o.ExcludeAuthID)
		f.names("exclude_authrole", &o.ExcludeAuthRole)
		f.ids("eligible", &o.Eligible)
		f.names("eligible_authid", &o.EligibleAuthID)
		f.names("eligible_authrole", &o.EligibleAuthRole)
		f.bool("retain", &o.Retain)
		f.text("rkey", &o.RKey)
		f.passthru(&o.PPT)
	}
}

func (f *form) subscribeOptions(o *wamp.SubscribeOptions) {
	for f.keys("options", &o.Extra) {
		f.text("match", (*string)(&o.Match))
		f.bool("get_retained", &o.GetRetained)
		f.text("nkey", &o.NKey)
	}
}

func (f *form) eventDetails(d *wamp.EventDetails) {
	for f.keys("details", &d.Extra) {
		f.optionalID("publisher", &d.Publisher)
		f.text("publisher_authid", &d.PublisherAuthID)
		f.text("publisher_authrole", &d.PublisherAuthRole)
		f.text("topic", &d.Topic)
		f.optionalInt("trustlevel", &d.TrustLevel)
		f.bool("retained", &d.Retained)
		f.passthru(&d.PPT)
	}
}

func (f *form) callOptions(o *wamp.CallOptions) {
	for f.keys("options", &o.Extra) {
		f.count("timeout", &o.Timeout)
		f.bool("receive_progress", &o.ReceiveProgress)
		f.bool("progress", &o.Progress)
		f.bool("disclose_me", &o.DiscloseMe)
		f.text("runmode", &o.RunMode)
		f.text("rkey", &o.RKey)
		f.passthru(&o.PPT)
	}
}

func (f *form) cancelOptions(o *wamp.CancelOptions) {
	for f.keys("options", &o.Extra) {
		f.text("mode", &o.Mode)
	}
}

func (f *form) resultDetails(d *wamp.ResultDetails) {
	for f.keys("details", &d.Extra) {
		f.bool("progress", &d.Progress)
		f.optionalID("callee", &d.Callee)
		f.text("callee_authid", &d.CalleeAuthID)
		f.text("callee_authrole", &d.CalleeAuthRole)
		f.passthru(&d.PPT)
	}
}

func (f *form) registerOptions(o *wamp.RegisterOptions) {
	for f.keys("options", &o.Extra) {
		f.text("match", (*string)(&o.Match))
		f.text("invoke", &o.Invoke)
		f.count("concurrency", &o.Concurrency)
		f.bool("disclose_caller", &o.DiscloseCaller)
		f.bool("force_reregister", &o.ForceReregister)
		f.bool("forward_timeout", &o.ForwardTimeout)
		f.text("nkey", &o.NKey)
	}
}

func (f *form) invocationDetails(d *wamp.InvocationDetails) {
	for f.keys("details", &d.Extra) {
		f.optionalID("caller", &d.Caller)
		f.text("caller_authid", &d.CallerAuthID)
		f.text("caller_authrole", &d.CallerAuthRole)
		f.text("procedure", &d.Procedure)
		f.optionalInt("trustlevel", &d.TrustLevel)
		f.count("timeout", &d.Timeout)
		f.bool("receive_progress", &d.ReceiveProgress)
		f.bool("progress", &d.Progress)
		f.text("rkey", &d.RKey)
		f.passthru(&d.PPT)
	}
}

func (f *form) interruptOptions(o *wamp.InterruptOptions) {
	for f.keys("options", &o.Extra) {
		f.text("mode", &o.Mode)
		f.text("reason", &o.Reason)
	}
}

func (f *form) yieldOptions(o *wamp.YieldOptions) {
	for f.keys("options", &o.Extra) {
		f.bool("progress", &o.Progress)
		f.passthru(&o.PPT)
	}
}

func (f *form) errorDetails(d *wamp.ErrorDetails) {
	for f.keys("details", &d.Extra) {
		f.passthru(&d.PPT)
	}
}

func (f *form) revokedDetails(d *wamp.RevokedDetails) {
	for f.keys("details", &d.Extra) {
		f.optionalID("subscription", &d.Subscription)
		f.optionalID("registration", &d.Registration)
		f.text("reason", &d.Reason)
	}
}

func (f *form) passthru(p *wamp.Passthru) {
	f.text("ppt_scheme", &p.Scheme)
	f.text("ppt_serializer", &p.Serializer)
	f.text("ppt_cipher", &p.Cipher)
	f.text("ppt_keyid", &p.KeyID)
}

// options is where form stands in a dictionary of options or details.
type options struct {
	open  bool
	name  string // of the dictionary, for errors
	mark  mark   // writing
	key   []byte // reading: the key, its value's first token,
	value token
	taken bool // and whether a field was found for it
}

// keys begins or goes on with the dictionary called name: the loop over it
// runs its body once when writing, and once per key when reading.
func (f *form) keys(name string, extra *wamp.Dict) bool {
	if f.w != nil {
		return f.writeKeys(extra)
	}
	if !f.open {
		t := f.element(name)
		if t.kind != kindDict {
			f.wrong(name, t, "a dictionary")
			return false
		}
		f.open, f.name, f.taken = true, name, true
	}
	if !f.taken {
		f.unknownKey(extra)
	}
	t := f.r.next()
	if t.kind == kindEnd || f.r.err != nil {
		f.open = false
		return false
	}
	if t.kind != kindString {
		f.r.fail(f.r.pos, f.kind.String()+": "+name+" have "+t.kind.String()+" as a key, want a string")
		return false
	}
	if f.key = t.in(f.r.b); t.coded {
		f.key, _ = f.r.syntax.content(nil, f.r.b, t)
	}
	f.value, f.taken = f.r.next(), false
	return f.r.err == nil
}

// unknownKey keeps the keys reserved for implementations and applications and
// ignores the others ("Extensibility").
func (f *form) unknownKey(extra *wamp.Dict) {
	key := string(f.key)
	if !reservedForm(key) {
		f.r.rest(f.value)
		return
	}
	if *extra == nil {
		*extra = wamp.Dict{}
	}
	(*extra)[key] = f.r.value(f.value)
}

func reservedForm(key string) bool {
	return strings.HasPrefix(key, "_") || strings.HasPrefix(key, "x_")
}

func (f *form) writeKeys(extra *wamp.Dict) bool {
	if !f.open {
		f.open, f.mark = true, f.w.open(kindDict)
		return true
	}
	if len(*extra) > 0 {
		f.writeExtra(*extra)
	}
	f.w.close(f.mark)
	f.open = false
	return false
}

func (f *form) writeExtra(extra wamp.Dict) {
	keys := make([]string, 0, len(extra))
	for key := range extra {
		if !reservedForm(key) {
			f.w.fail("key %q among the extra options: want one that begins with x_ or _", key)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		f.w.key(key)
		f.w.value(extra[key], 0)
	}
}

// at reports whether the field of the given key is to be read now.
func (f *form) at(key string) bool {
	if f.taken || string(f.key) != key {
		return false
	}
	f.taken = true
	return f.value.kind != kindNull
}

func (f *form) wrongValue(key string, t token, want string) {
	f.wrong(f.name+" "+key, t, want)
}

func (f *form) bool(key string, v *bool) {
	if f.w != nil {
		if *v {
			f.w.key(key)
			f.w.bool(true)
		}
	} else if f.at(key) {
		f.readBool(key, v)
	}
}

func (f *form) readBool(key string, v *bool) {
	if f.value.kind != kindBool {
		f.wrongValue(key, f.value, "a boolean")
		f.r.rest(f.value)
	}
	*v = f.value.n == 1
}

func (f *form) optionalBool(key string, v **bool) {
	if f.w != nil {
		if *v != nil {
			f.w.key(key)
			f.w.bool(**v)
		}
	} else if f.at(key) {
		*v = new(bool)
		f.readBool(key, *v)
	}
}

func (f *form) text(key string, v *string) {
	if f.w != nil {
		if *v != "" {
			f.w.key(key)
			f.w.string(*v)
		}
	} else if f.at(key) {
		*v = f.readText(key, f.value)
	}
}

func (f *form) readText(key string, t token) string {
	s, ok := f.r.text(t)
	if !ok {
		f.wrongValue(key, t, "a string")
	}
	return s
}

func (f *form) count(key string, v *uint64) {
	if f.w != nil {
		if *v != 0 {
			f.w.key(key)
			f.w.uint(*v)
		}
	} else if f.at(key) {
		var ok bool
		if *v, ok = f.r.integer(f.value); !ok {
			f.wrongValue(key, f.value, "a non-negative integer")
		}
	}
}

func (f *form) optionalInt(key string, v **int64) {
	if f.w != nil {
		if *v != nil {
			f.w.key(key)
			f.w.int(**v)
		}
	} else if f.at(key) {
		n, ok := f.r.integer(f.value)
		if f.value.kind == kindNeg {
			n, ok = f.value.n, true
		} else if n > math.MaxInt64 {
			ok = false
		}
		if !ok {
			f.wrongValue(key, f.value, "an integer")
		}
		i := int64(n)
		*v = &i
	}
}

// optionalID is an ID, or absent when 0.
func (f *form) optionalID(key string, id *wamp.ID) {
	if f.w != nil {
		if *id != 0 {
			f.w.key(key)
			f.w.uint(uint64(*id))
		}
	} else if f.at(key) {
		*id = f.readID(key, f.value)
	}
}

func (f *form) readID(key string, t token) wamp.ID {
	n, ok := f.r.integer(t)
	if !ok || !wamp.ID(n).Valid() {
		f.wrongValue(key, t, wantID)
	}
	return wamp.ID(n)
}

// ids is a list of IDs; nil is absent, and empty is not.
func (f *form) ids(key string, v *[]wamp.ID) {
	if f.w != nil {
		if *v != nil {
			f.w.key(key)
			writeList(f.w, *v, func(id wamp.ID) { f.w.uint(uint64(id)) })
		}
	} else if f.at(key) {
		*v = readList(f, key, f.readID)
	}
}

// names is a list of strings; nil is absent, and empty is not.
func (f *form) names(key string, v *[]string) {
	if f.w != nil {
		if *v != nil {
			f.w.key(key)
			writeList(f.w, *v, f.w.string)
		}
	} else if f.at(key) {
		*v = readList(f, key, f.readText)
	}
}

func readList[E any](f *form, key string, read func(string, token) E) []E {
	if f.value.kind != kindList {
		f.wrongValue(key, f.value, "a list")
		return nil
	}
	l := []E{}
	for t := f.r.next(); t.kind != kindEnd && f.r.err == nil; t = f.r.next() {
		l = append(l, read(key, t))
	}
	return l
}
