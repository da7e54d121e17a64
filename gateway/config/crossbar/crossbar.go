// Package crossbar translates the node configuration of Crossbar.io
// (.crossbar/config.json) into a configuration of the gateway: realms, roles
// and permissions, listeners, users and authenticators. What it cannot take
// over it names, by its place in the file; nothing is left out silently.
//
// It is pure: bytes in, bytes and notes out.
package crossbar

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// MaxBytes is the largest configuration that is read.
const MaxBytes = 1 << 20

// Note says what has not been taken over, or not as it was.
type Note struct {
	// Path is the place in Crossbar's file, such as "workers[0].transports[1].paths".
	Path string
	// Text is for people.
	Text string
}

// String joins the two.
func (n Note) String() string { return n.Path + ": " + n.Text }

// Translate returns the configuration in YAML, and what it lacks of the
// original. The error says why the input is no node configuration.
func Translate(config []byte) ([]byte, []Note, error) {
	if len(config) > MaxBytes {
		return nil, nil, fmt.Errorf("%d bytes are more than a node configuration has; the limit is %d", len(config), MaxBytes)
	}
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if _, ok := root["workers"].([]any); !ok {
		return nil, nil, fmt.Errorf(`it has no list "workers", so it is not the configuration of a Crossbar.io node`)
	}
	t := &translation{}
	top := t.object("", root)
	top.ignore("version", "$schema", "controller")
	for _, w := range top.objects("workers") {
		t.worker(w)
	}
	top.rest()
	t.settle()
	t.widened()
	return t.yaml(), t.notes, nil
}

// translation is what has been understood so far.
type translation struct {
	notes      []Note
	realms     []*realm
	http       []string
	raw        []string
	universals []string
	unix       string
	tls        map[string]*tlsFiles // by "http" and "rawsocket"
	auths      []auth
}

type tlsFiles struct{ cert, key string }

type realm struct {
	name      string
	anonymous string
	roles     []role
	users     []user
	dynamic   []dynamic
	history   []history
}

type role struct {
	name       string
	rules      []rule
	authorizer string
}

type rule struct {
	uri, match      string
	allow, disclose []string
}

type history struct {
	uri, match string
	limit      int
}

type user struct {
	authid, role, secret string
	keys                 []string
}

type dynamic struct{ method, procedure string }

// auth is what one transport says of authentication; it belongs to realms only
// once all of them are known.
type auth struct {
	path      string
	anonymous string
	users     []user
	static    []string // the methods that users are listed for
	dynamic   []dynamic
}

func (t *translation) note(path, format string, a ...any) {
	t.notes = append(t.notes, Note{path, fmt.Sprintf(format, a...)})
}

func (t *translation) worker(w *object) {
	w.ignore("id")
	kind := w.text("type")
	switch kind {
	case "router":
		for _, r := range w.objects("realms") {
			t.realm(r)
		}
		for _, tr := range w.objects("transports") {
			t.transport(tr)
		}
	default:
		t.note(w.path, "a worker of type %q is not taken over: start it beside the gateway, as a client of it", kind)
		return
	}
	w.rest()
}

func (t *translation) realm(o *object) {
	o.ignore("id")
	r := &realm{name: o.text("name")}
	if i := slices.IndexFunc(t.realms, func(have *realm) bool { return have.name == r.name }); i >= 0 {
		t.note(o.path, "realm %q is there twice; its roles are joined", r.name)
		r = t.realms[i]
	} else {
		t.realms = append(t.realms, r)
	}
	for _, ro := range o.objects("roles") {
		ro.ignore("id")
		got := role{name: ro.text("name")}
		for _, p := range ro.objects("permissions") {
			got.rules = append(got.rules, t.permission(p))
		}
		if got.authorizer = ro.text("authorizer"); got.authorizer != "" && len(got.rules) > 0 {
			t.note(ro.at("permissions"), "the authorizer decides alone there; the rules are not taken over")
			got.rules = nil
		}
		ro.rest()
		r.roles = append(r.roles, got)
	}
	if s := o.child("store"); s != nil {
		t.store(s, r)
	}
	o.rest()
}

// store takes over which events are kept.
func (t *translation) store(o *object, r *realm) {
	if kind := o.text("type"); kind != "memory" {
		t.note(o.at("type"), "the events of a store of type %q are kept in memory, and are gone after a restart", kind)
	}
	for _, e := range o.objects("event-history") {
		h := history{uri: e.text("uri"), match: e.text("match")}
		if h.match == "" {
			h.match = "exact"
		}
		if n, ok := e.take("limit").(float64); ok && n >= 1 && n < 1e9 && n == float64(int(n)) {
			h.limit = int(n)
		}
		e.rest()
		r.history = append(r.history, h)
	}
	o.rest()
}

func (t *translation) permission(o *object) rule {
	r := rule{uri: o.text("uri"), match: o.text("match")}
	// The old spelling of a prefix.
	if p, ok := strings.CutSuffix(r.uri, "*"); ok && r.match == "" {
		r.uri, r.match = p, "prefix"
	}
	if r.match == "" {
		r.match = "exact"
	}
	if allow := o.child("allow"); allow != nil {
		for _, action := range []string{"call", "register", "publish", "subscribe"} {
			if allow.flag(action) {
				r.allow = append(r.allow, action)
			}
		}
		allow.rest()
	}
	for _, action := range []string{"call", "register", "publish", "subscribe"} { // before version 17
		if o.flag(action) && !slices.Contains(r.allow, action) {
			r.allow = append(r.allow, action)
		}
	}
	if d := o.child("disclose"); d != nil {
		for _, who := range []string{"caller", "publisher"} {
			if d.flag(who) {
				r.disclose = append(r.disclose, who)
			}
		}
		d.rest()
	}
	o.ignore("cache") // answers are never stale here
	o.rest()
	return r
}

func (t *translation) transport(o *object) {
	o.ignore("id")
	switch kind := o.text("type"); kind {
	case "websocket":
		t.listen(o, &t.http, "http")
		t.auth(o)
		o.ignore("url")
	case "rawsocket":
		t.listen(o, &t.raw, "rawsocket")
		t.auth(o)
	case "web":
		t.listen(o, &t.http, "http")
		t.paths(o)
	case "universal":
		t.universal(o)
	default:
		t.note(o.path, "a transport of type %q is not taken over", kind)
		return
	}
	if o.take("serializers") != nil {
		t.note(o.path+".serializers", "every client may choose among JSON, MessagePack and CBOR")
	}
	if o.take("options") != nil {
		t.note(o.path+".options", "left at the gateway's own defaults; see limits and listen in its reference")
	}
	o.rest()
}

// universal is one port for everything.
func (t *translation) universal(o *object) {
	t.listen(o, &t.universals, "universal")
	if raw := o.child("rawsocket"); raw != nil {
		raw.ignore("serializers")
		t.auth(raw)
		raw.rest()
	}
	for _, key := range []string{"websocket", "web"} {
		c := o.child(key)
		if c == nil {
			continue
		}
		if key == "web" {
			t.paths(c)
		} else {
			for _, name := range c.names() {
				p := c.child(name)
				if p == nil {
					continue
				}
				p.ignore("type", "serializers", "url")
				t.auth(p)
				p.rest()
			}
		}
		c.rest()
	}
}

func (t *translation) paths(o *object) {
	paths := o.child("paths")
	if paths == nil {
		return
	}
	for _, name := range paths.names() {
		p := paths.child(name)
		if p == nil {
			continue
		}
		switch kind := p.text("type"); kind {
		case "websocket":
			if name != "ws" && name != "/" {
				t.note(p.path, "WebSocket is at /ws and at /, not at /%s", name)
			}
			p.ignore("serializers", "url", "options")
			t.auth(p)
			p.rest()
		default:
			t.note(p.path, "a web service of type %q is not taken over", kind)
		}
	}
	paths.rest()
}

func (t *translation) listen(o *object, to *[]string, kind string) {
	e := o.child("endpoint")
	if e == nil {
		t.note(o.path, "it has no endpoint")
		return
	}
	e.ignore("backlog", "shared")
	switch e.text("type") {
	case "unix":
		path := e.text("path")
		if kind != "rawsocket" || t.unix != "" {
			t.note(e.path, "the Unix socket %q is not taken over: there is one, for RawSocket", path)
			break
		}
		t.unix = path
	default:
		host := e.text("interface")
		port, ok := e.take("port").(float64)
		if !ok || port != float64(int(port)) {
			t.note(e.path+".port", "it is no number")
			break
		}
		if host == "" {
			host = "0.0.0.0" // what it means there
		}
		*to = append(*to, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	if c := e.child("tls"); c != nil {
		if t.tls == nil {
			t.tls = map[string]*tlsFiles{}
		}
		t.tls[kind] = &tlsFiles{cert: c.text("certificate"), key: c.text("key")}
		c.rest()
	}
	e.rest()
}
