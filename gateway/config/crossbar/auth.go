package crossbar

import (
	"slices"
)

// auth takes over what one transport says of authentication.
func (t *translation) auth(o *object) {
	a := auth{path: o.path}
	methods := o.child("auth")
	if methods == nil {
		a.anonymous = "anonymous" // who may join where nothing is said
		t.auths = append(t.auths, a)
		return
	}
	for _, method := range methods.names() {
		m := methods.child(method)
		if m == nil {
			continue
		}
		switch kind := m.text("type"); {
		case method == "anonymous" && (kind == "static" || kind == ""):
			a.anonymous = m.text("role")
			if a.anonymous == "" {
				a.anonymous = "anonymous"
			}
			m.ignore("authid", "realm")
		case kind == "dynamic" && supported(method):
			a.dynamic = append(a.dynamic, dynamic{method, m.text("authenticator")})
			if m.take("authenticator-realm") != nil {
				t.note(m.path+".authenticator-realm", "the procedure is called in the realm that is joined")
			}
		case kind == "static" && supported(method):
			a.users = append(a.users, t.users(method, m)...)
			a.static = append(a.static, method)
		default:
			t.note(m.path, "authentication by %q of type %q is not taken over", method, kind)
			continue
		}
		m.rest()
	}
	methods.rest()
	t.auths = append(t.auths, a)
}

func supported(method string) bool {
	return slices.Contains([]string{"ticket", "wampcra", "scram", "cryptosign"}, method)
}

// users are called principals for some methods, users for others.
func (t *translation) users(method string, m *object) []user {
	var all []user
	for _, key := range []string{"principals", "users"} {
		list := m.child(key)
		if list == nil {
			continue
		}
		for _, name := range list.names() {
			p := list.child(name)
			if p == nil {
				continue
			}
			u := user{authid: name, role: p.text("role")}
			switch method {
			case "ticket":
				u.secret = p.text("ticket")
			case "wampcra":
				u.secret = p.text("secret")
				if p.take("salt") != nil {
					p.ignore("iterations", "keylen")
					t.note(p.path, "the secret is salted, so the password is not known: give user %q one with 'postern user add'", name)
					continue
				}
			case "scram":
				t.note(p.path, "SCRAM's keys do not tell the password: give user %q one with 'postern user add'", name)
				continue
			case "cryptosign":
				u.keys = p.texts("authorized_keys")
			}
			p.ignore("realm")
			p.rest()
			all = append(all, u)
		}
	}
	return all
}

// settle gives every realm the users whose role it has: there a transport
// authenticates for all realms, here a realm does.
func (t *translation) settle() {
	for _, a := range t.auths {
		placed := map[string]bool{}
		for _, r := range t.realms {
			has := func(name string) bool {
				return slices.ContainsFunc(r.roles, func(ro role) bool { return ro.name == name })
			}
			if a.anonymous != "" && has(a.anonymous) {
				switch r.anonymous {
				case "", a.anonymous:
					r.anonymous = a.anonymous
				default:
					t.note(a.path+".auth.anonymous", "realm %q lets anonymous clients in as %q; the role %q is for one transport only", r.name, r.anonymous, a.anonymous)
				}
			}
			for _, u := range a.users {
				if !has(u.role) {
					continue
				}
				placed[u.authid] = true
				t.place(r, u, a.path)
			}
			for _, d := range a.dynamic {
				if !slices.Contains(r.dynamic, d) {
					r.dynamic = append(r.dynamic, d)
				}
			}
		}
		for _, u := range a.users {
			if !placed[u.authid] {
				t.note(a.path+".auth", "user %q has the role %q, which no realm has", u.authid, u.role)
			}
		}
	}
}

// widened notes where a realm here lets in more, or others, than its transports
// did there: they authenticate apart, a realm does for all.
func (t *translation) widened() {
	for _, a := range t.auths {
		for _, r := range t.realms {
			if r.anonymous != "" && a.anonymous == "" {
				t.note(a.path+".auth", "anonymous clients may join realm %q over this listener too: a realm treats all listeners alike", r.name)
			}
			for _, d := range r.dynamic {
				if slices.Contains(a.static, d.method) {
					t.note(a.path+".auth."+d.method, "in realm %q the procedure %q decides for every listener, and the users listed here do not count", r.name, d.procedure)
				}
			}
		}
	}
}

// place adds a user to a realm, or what another method knows of the same user.
func (t *translation) place(r *realm, u user, path string) {
	i := slices.IndexFunc(r.users, func(have user) bool { return have.authid == u.authid })
	if i < 0 {
		r.users = append(r.users, u)
		return
	}
	have := &r.users[i]
	switch {
	case have.role != u.role:
		t.note(path+".auth", "user %q has two roles in realm %q; it keeps %q", u.authid, r.name, have.role)
		return
	case have.secret != "" && u.secret != "" && have.secret != u.secret:
		t.note(path+".auth", "user %q has two secrets in realm %q; it keeps the first", u.authid, r.name)
	case have.secret == "":
		have.secret = u.secret
	}
	for _, k := range u.keys {
		if !slices.Contains(have.keys, k) {
			have.keys = append(have.keys, k)
		}
	}
}
