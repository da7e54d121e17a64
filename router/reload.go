package router

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// Reloaded says what a new configuration has changed.
type Reloaded struct {
	// Added, Removed and Changed are realms.
	Added, Removed, Changed []string
	// Ended counts the sessions that were told GOODBYE because they could not
	// join like this any more: their user is gone or not the same, their role is
	// gone, or the realm does not take anonymous clients.
	Ended int
	// Pending are the paths of settings, as in Validate, that hold from the next
	// start on.
	Pending []string
}

// Reload replaces the configuration while sessions go on: realms come and go,
// users, roles, permissions and limits change. When there is an error, which says
// everything that is wrong with cfg, nothing has changed.
//
// Subscriptions and registrations that a session's role does not allow any more
// are revoked. The limits of connections hold for those that come; what a realm
// holds beyond its new limits stays. What a realm is made with (uris, request_ids,
// history), and cookies, is left as it is, and named in the result.
func (r *Router) Reload(cfg Config) (*Reloaded, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r.reloading.Lock()
	defer r.reloading.Unlock()
	plan, err := r.plan(cfg)
	if err != nil {
		return nil, err
	}
	if !r.enterRealms(plan) {
		plan.discard()
		return nil, ErrClosed
	}
	done := &plan.Reloaded
	l := plan.cfg.Limits
	r.limits.Store(&l)
	for _, c := range plan.changes {
		done.Ended += r.reconfigure(&c)
	}
	for _, h := range plan.removed {
		h.close(wamp.CloseRealm, wamp.Errorf(wamp.ErrNoSuchRealm, "there is no realm %.200q any more", h.cfg.Name))
		close(h.gone)
		h.closeJournal()
	}
	r.cfg = plan.cfg
	return done, nil
}

// plan is a configuration with everything that can go wrong done.
type plan struct {
	Reloaded
	cfg     Config
	added   []*hall
	removed []*hall
	changes []change
}

// change is what becomes of a realm that stays.
type change struct {
	hall *hall
	cfg  realm.Config
	door *door
	// sessions, perID, pacing and endSlow are as the hall has them; roles says that these are
	// new.
	sessions, perID int
	pacing          *pacing
	endSlow, roles  bool
}

// discard ends what realms have that do not come about.
func (p *plan) discard() {
	for _, h := range p.added {
		h.closeJournal()
	}
}

// plan prepares a configuration. r.reloading is held.
func (r *Router) plan(cfg Config) (*plan, error) {
	p, err := r.prepare(cfg)
	if err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// prepare returns what there is to discard with its error.
func (r *Router) prepare(cfg Config) (*plan, error) {
	cfg.Realms = slices.Clone(cfg.Realms)
	p := &plan{cfg: cfg} // whose realms change below
	if cfg.Cookies != r.cfg.Cookies {
		p.Pending = append(p.Pending, "cookies")
		cfg.Cookies = r.cfg.Cookies
	}
	halls := r.halls()
	for i := range cfg.Realms {
		c := &cfg.Realms[i]
		j := slices.IndexFunc(r.cfg.Realms, func(o RealmConfig) bool { return o.Name == c.Name })
		if j < 0 {
			h := r.newHall(c, &cfg.Limits)
			if err := h.open(r, c); err != nil {
				return p, err
			}
			if err := h.keepHistory(r, c); err != nil {
				return p, err
			}
			p.added, p.Added = append(p.added, h), append(p.Added, c.Name)
			continue
		}
		old := &r.cfg.Realms[j]
		p.Pending = append(p.Pending, c.keep(old, fmt.Sprintf("realms[%d]", i))...)
		if err := p.change(r, halls[c.Name], old, c); err != nil {
			return p, err
		}
	}
	for i := range r.cfg.Realms {
		name := r.cfg.Realms[i].Name
		if !slices.ContainsFunc(cfg.Realms, func(c RealmConfig) bool { return c.Name == name }) {
			p.removed, p.Removed = append(p.removed, halls[name]), append(p.Removed, name)
		}
	}
	p.cfg = cfg // with the cookies and the realms' parts that stay
	return p, nil
}

// keep takes over from the realm's old configuration what only a restart
// changes, and returns the paths of what differs.
func (c *RealmConfig) keep(old *RealmConfig, at string) (pending []string) {
	if c.URIs != old.URIs {
		pending = append(pending, at+".uris")
	}
	if c.RequestIDs != old.RequestIDs {
		pending = append(pending, at+".request_ids")
	}
	if !slices.Equal(c.History, old.History) {
		pending = append(pending, at+".history")
	}
	c.URIs, c.RequestIDs, c.History = old.URIs, old.RequestIDs, old.History
	return pending
}

// change prepares what becomes of a realm that stays. The users of its file are
// looked at although nothing else may have changed.
func (p *plan) change(r *Router, h *hall, old, c *RealmConfig) error {
	ch := change{
		hall: h, cfg: c.realm(), door: h.door.Load(), sessions: c.Limits.Sessions, perID: c.Limits.PerIdentity,
		pacing: newPacing(&c.Rates, &p.cfg.Limits), endSlow: p.cfg.Limits.SlowConsumers == "end",
		roles: !reflect.DeepEqual(old.Roles, c.Roles),
	}
	trial := h.cfg // without anything of the realm's own that could be drawn from
	trial.Roles, trial.NewID = ch.cfg.Roles, func() wamp.ID { return 1 }
	if _, err := realm.New(trial); err != nil {
		return err
	}
	if c.Anonymous == old.Anonymous && c.Local == old.Local && reflect.DeepEqual(c.Auth, old.Auth) {
		if err := ch.door.users.reread(); err != nil {
			return fmt.Errorf("realm %q: %w", c.Name, err)
		}
	} else {
		d, err := h.newDoor(r, c)
		if err != nil {
			return err
		}
		ch.door = d
	}
	if !reflect.DeepEqual(old, c) {
		p.Changed = append(p.Changed, c.Name)
	}
	p.changes = append(p.changes, ch)
	return nil
}

// enterRealms makes the realms of a plan those that there are; false when the
// router is shutting down.
func (r *Router) enterRealms(p *plan) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	realms := map[string]*hall{}
	for name, h := range r.realms {
		if !slices.Contains(p.removed, h) {
			realms[name] = h
		}
	}
	for _, h := range p.added {
		realms[h.cfg.Name] = h
		r.tasks.Go(func() { h.watch(r.halting.Done()) })
	}
	r.realms = realms
	return true
}

// reconfigure changes a realm, and returns how many sessions it has ended.
func (r *Router) reconfigure(c *change) (ended int) {
	h := c.hall
	h.mu.Lock()
	h.door.Store(c.door) // from here on nobody joins who has come by the old one
	h.mu.Unlock()
	var leaving []*session
	for _, s := range r.snapshot(nil) {
		if s.hall.Load() == h && !c.suits(s) {
			leaving = append(leaving, s)
		}
	}
	at := now()
	h.lock(nil)
	defer h.mu.Unlock()
	h.sessions, h.perID, h.endSlow = c.sessions, c.perID, c.endSlow
	h.pacing.Store(c.pacing)
	h.core.SetBounds(c.cfg.Limits, c.cfg.Timeouts)
	for _, s := range leaving {
		effects := h.core.Kill(&s.member, wamp.CloseKilled, "the configuration has changed: you could not join like this any more", at)
		if len(effects) > 0 { // else it was leaving anyway
			ended++
		}
		h.deliver(effects, at)
	}
	if c.roles {
		effects, _ := h.core.SetRoles(c.cfg.Roles, at) // plan has tried them
		h.deliver(effects, at)
	}
	return ended
}

// suits reports whether a session could join again as it has.
func (c *change) suits(s *session) bool {
	id := &s.member.Identity
	if !slices.ContainsFunc(c.cfg.Roles, func(ro realm.Role) bool { return ro.Name == id.AuthRole }) {
		return false
	}
	if s.imposed != nil || id.AuthProvider != "static" {
		return true
	}
	if id.AuthMethod == methodLocal {
		return c.door.local == id.AuthRole
	}
	if id.AuthMethod != auth.MethodAnonymous {
		return c.door.stampOf(id) == s.stamp
	}
	return slices.ContainsFunc(c.door.authenticators, func(a Authenticator) bool {
		open, ok := a.(anonymous)
		return ok && open.role == id.AuthRole
	})
}
