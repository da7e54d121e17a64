package router

import (
	"fmt"
	"slices"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
)

// Config is the section "router" of the gateway's configuration.
type Config struct {
	Realms  []RealmConfig `yaml:"realms" doc:"the realms; each is a namespace of its own"`
	Cookies CookieConfig  `yaml:"cookies" doc:"cookies with which browsers that have authenticated once join again"`
	Limits  Limits        `yaml:"limits" doc:"what connections may cost"`
}

// RealmConfig is one realm.
type RealmConfig struct {
	Name       string       `yaml:"name" required:"true" doc:"the name that clients give when they join"`
	URIs       string       `yaml:"uris" enum:"loose,strict" doc:"which URIs are valid: loose allows everything but white space and '#' between the dots, strict only a-z, 0-9 and _"`
	RequestIDs string       `yaml:"request_ids" enum:"any,ascending,sequential" doc:"which request IDs clients may use: any that is not in use, ascending ones, or 1, 2, 3 and so on as the specification has it; clients that send from several threads do not always keep to the stricter two"`
	Anonymous  string       `yaml:"anonymous" doc:"role of clients that do not authenticate; empty refuses them"`
	Local      string       `yaml:"local" doc:"role of programs that connect over the Unix socket as the gateway's own user or as root, and say nothing else of who they are; empty for no such right"`
	Roles      []RoleConfig `yaml:"roles" doc:"what clients may do, by their role"`
	Auth       AuthConfig   `yaml:"auth" doc:"how clients prove who they are; see authentication.md"`
	Limits     RealmLimits  `yaml:"limits" doc:"what the realm may hold"`
	Rates      RatesConfig  `yaml:"rates" doc:"how much clients may send in a second; the gateway's own sessions do not count"`
	Calls      CallsConfig  `yaml:"calls" doc:"how long calls may take"`

	History []HistoryConfig `yaml:"history" doc:"whose events are kept for clients that ask for them with wamp.subscription.get_events"`
}

// HistoryConfig is a topic or pattern whose events are kept.
type HistoryConfig struct {
	URI   string `yaml:"uri" doc:"topic or pattern; the empty prefix matches everything"`
	Match string `yaml:"match" enum:"exact,prefix,wildcard" doc:"how the pattern matches, as in permissions"`
	Limit int    `yaml:"limit" min:"1" doc:"how many events are kept; the oldest go first"`
	Bytes int    `yaml:"bytes" min:"1024" unit:"bytes" doc:"how much memory they may take"`

	MaxAge time.Duration `yaml:"max_age" min:"0s" doc:"how long an event is kept at most; 0s for as long as there is room"`
	Disk   bool          `yaml:"disk" doc:"whether the events are in files as well, under state_dir, and outlive a restart"`
}

// SetDefaults fills in what the configuration does not say.
func (c *HistoryConfig) SetDefaults() { c.Match, c.Limit, c.Bytes = "exact", 1000, 1<<20 }

// CallsConfig bounds calls in time.
type CallsConfig struct {
	DefaultTimeout time.Duration `yaml:"default_timeout" min:"0s" doc:"how long a call may take that names no timeout; 0s for as long as it does"`
	MaxTimeout     time.Duration `yaml:"max_timeout" min:"0s" doc:"how long any call may take; 0s for as long as it does"`
}

// RoleConfig is one role.
type RoleConfig struct {
	Name        string             `yaml:"name" required:"true" doc:"the role's name"`
	Permissions []PermissionConfig `yaml:"permissions" doc:"what the role may do; the most specific rule that matches a URI decides, and what none matches is denied"`

	RefuseDiscloseMe bool             `yaml:"refuse_disclose_me" doc:"whether calls and publications of the role that ask for being named (disclose_me) are refused; what a permission discloses is disclosed"`
	Authorizer       AuthorizerConfig `yaml:"authorizer" doc:"a procedure that decides where no permission of the role does; see authorization.md"`

	ForceReregister bool `yaml:"force_reregister" doc:"whether the role may register, with the option force_reregister, what another session has registered, which loses it"`
	TrustLevel      *int `yaml:"trust_level" min:"0" doc:"what callees are told about calls from the role, and subscribers about its events, 0 for the least trust; left out for nothing"`
}

// PermissionConfig allows actions on the URIs that a pattern matches.
type PermissionConfig struct {
	URI   string   `yaml:"uri" doc:"URI or pattern; the empty prefix matches everything"`
	Match string   `yaml:"match" enum:"exact,prefix,wildcard" doc:"how the pattern matches: exact, prefix (a string prefix), or wildcard (an empty component stands for any one)"`
	Allow []string `yaml:"allow" enum:"call,register,publish,subscribe" doc:"what is allowed; an empty list denies everything"`
	// Disclose names sessions to others.
	Disclose []string `yaml:"disclose" enum:"caller,publisher" doc:"who is always named to the other side: caller to the callee, publisher to the subscribers"`
}

// AuthorizerConfig is a dynamic authorizer.
type AuthorizerConfig struct {
	Procedure string        `yaml:"procedure" doc:"URI of the procedure, which somebody registers in the realm; empty for none"`
	Timeout   time.Duration `yaml:"timeout" min:"100ms" doc:"how long it may take; nothing is allowed without an answer"`
	CacheTime time.Duration `yaml:"cache_time" min:"1s" doc:"how long an answer holds that says it may be cached"`
}

// SetDefaults fills in what the configuration does not say.
func (c *AuthorizerConfig) SetDefaults() { c.Timeout, c.CacheTime = 5*time.Second, 5*time.Minute }

// RealmLimits bounds what a realm holds.
type RealmLimits struct {
	Sessions      int `yaml:"sessions" min:"1" doc:"sessions in the realm"`
	PerIdentity   int `yaml:"sessions_per_identity" min:"1" doc:"sessions with the same authid; the gateway's own do not count"`
	Subscriptions int `yaml:"subscriptions" min:"1" doc:"subscriptions of one session"`
	Registrations int `yaml:"registrations" min:"1" doc:"registrations of one session"`
	PendingCalls  int `yaml:"pending_calls" min:"1" doc:"calls of one session that wait for their answer"`
	Retained      int `yaml:"retained" min:"1" doc:"topics with a retained event"`
	RetainedBytes int `yaml:"retained_bytes" min:"1" unit:"bytes" doc:"size of all retained events"`

	Testaments     int `yaml:"testaments" min:"1" doc:"testaments of one session"`
	TestamentBytes int `yaml:"testament_bytes" min:"1" unit:"bytes" doc:"size of one session's testaments"`
}

// Limits bounds what connections cost.
type Limits struct {
	Connections           int           `yaml:"connections" min:"1" doc:"connections in all"`
	ConnectionsPerAddress int           `yaml:"connections_per_address" min:"1" doc:"connections from one address (IPv6: from one /64); those from the machine itself do not count"`
	AddressRate           RateConfig    `yaml:"address_rate" doc:"what all connections from one address (IPv6: from one /64) may send in a second together; rates.excess of the realm says what becomes of more, and those from the machine itself do not count"`
	MessageBytes          int           `yaml:"message_bytes" min:"512" unit:"bytes" doc:"largest message that is accepted"`
	HelloBytes            int           `yaml:"hello_bytes" min:"512" unit:"bytes" doc:"largest message that is accepted from a client that has not joined yet"`
	HandshakeTimeout      time.Duration `yaml:"handshake_timeout" min:"100ms" doc:"time for the transport's handshake, for HELLO, and for each answer to an authentication challenge"`
	QueueBytes            int           `yaml:"queue_bytes" min:"65536" unit:"bytes" doc:"what may wait to be sent to one session"`
	QueueMessages         int           `yaml:"queue_messages" min:"64" doc:"how many messages may wait to be sent to one session"`
	QueueAge              time.Duration `yaml:"queue_age" min:"1s" doc:"how long a message may wait before the session is ended, because it does not read"`
	SlowConsumers         string        `yaml:"slow_consumers" enum:"drop,end" doc:"what happens to an event for a session whose queue is full: drop the event (counted), or end the session"`
}

// DefaultConfig has one realm, realm1, that nobody may join but local sessions:
// whoever opens it says to whom.
func DefaultConfig() Config {
	c := Config{
		Realms: []RealmConfig{{Name: "realm1"}},
		Limits: Limits{
			Connections:           16_384,
			ConnectionsPerAddress: 512,
			MessageBytes:          1 << 20,
			HelloBytes:            16 << 10,
			HandshakeTimeout:      5 * time.Second,
			QueueBytes:            4 << 20,
			QueueMessages:         16_384,
			QueueAge:              10 * time.Second,
			SlowConsumers:         "drop",
		},
	}
	c.Realms[0].SetDefaults()
	return c
}

// SetDefaults fills in what a realm that the configuration names does not say.
func (c *RealmConfig) SetDefaults() {
	d := realm.DefaultLimits
	c.URIs, c.RequestIDs, c.Rates.Excess = "loose", "any", "wait"
	c.Limits = RealmLimits{
		Sessions: 16_384, PerIdentity: 16_384, Subscriptions: d.Subscriptions, Registrations: d.Registrations,
		PendingCalls: d.PendingCalls, Retained: d.Retained, RetainedBytes: d.RetainedBytes,
		Testaments: d.Testaments, TestamentBytes: d.TestamentBytes,
	}
}

// SetDefaults makes a permission exact.
func (c *PermissionConfig) SetDefaults() { c.Match = "exact" }

// OpenRealm is a realm in which everybody may do everything without
// authentication.
func OpenRealm(name string) RealmConfig {
	c := RealmConfig{Name: name}
	c.SetDefaults()
	c.Anonymous = "anonymous"
	c.Roles = []RoleConfig{{Name: "anonymous", ForceReregister: true, Permissions: []PermissionConfig{{
		Match: "prefix", Allow: []string{"call", "register", "publish", "subscribe"},
	}}}}
	return c
}

// RoleTrusted is a role that every realm has, and that may do everything,
// unless the realm's configuration defines it otherwise. It is meant for the
// gateway's own sessions; nothing but the configuration gives it to others.
const RoleTrusted = "trusted"

// RealmServices is the realm in which the gateway itself is managed. The router
// knows it only as a realm that is nobody's to be anonymous in.
const RealmServices = "postern"

var actionNames = []string{"call", "register", "publish", "subscribe"}

// Validate reports what types cannot say.
func (c *Config) Validate(report func(path, problem, hint string)) {
	if len(c.Realms) == 0 {
		report("realms", "there is no realm", "name at least one, such as realm1")
	}
	seen := map[string]bool{}
	for i := range c.Realms {
		at := fmt.Sprintf("realms[%d]", i)
		if name := c.Realms[i].Name; seen[name] {
			report(at+".name", fmt.Sprintf("realm %q is there twice", name), "give each its own name")
		}
		seen[c.Realms[i].Name] = true
		c.Realms[i].validate(func(path, problem, hint string) { report(at+"."+path, problem, hint) })
		c.Realms[i].Rates.Session.validate(at+".rates.session", c.Limits.MessageBytes, report)
		c.Realms[i].Rates.Identity.validate(at+".rates.identity", c.Limits.MessageBytes, report)
	}
	l := &c.Limits
	if l.HelloBytes > l.MessageBytes {
		report("limits.hello_bytes", fmt.Sprintf("%d is more than message_bytes, %d", l.HelloBytes, l.MessageBytes), "make it smaller")
	}
	if l.QueueBytes < l.MessageBytes {
		report("limits.queue_bytes", fmt.Sprintf("%d is less than message_bytes, %d", l.QueueBytes, l.MessageBytes),
			"make it several times as large")
	}
	l.AddressRate.validate("limits.address_rate", l.MessageBytes, report)
	c.Cookies.validate(report)
	positive := []struct {
		path string
		n    int64
	}{
		{"connections", int64(l.Connections)},
		{"connections_per_address", int64(l.ConnectionsPerAddress)},
		{"message_bytes", int64(l.MessageBytes)},
		{"hello_bytes", int64(l.HelloBytes)},
		{"handshake_timeout", int64(l.HandshakeTimeout)},
		{"queue_bytes", int64(l.QueueBytes)},
		{"queue_messages", int64(l.QueueMessages)},
		{"queue_age", int64(l.QueueAge)},
	}
	for _, p := range positive {
		if p.n <= 0 {
			report("limits."+p.path, "it is not more than 0", "leave it out for the default")
		}
	}
	oneOf(report, "limits.slow_consumers", l.SlowConsumers, "drop", "end")
}

func (c *RealmConfig) validate(report func(path, problem, hint string)) {
	if !wamp.LooseURIs.ValidURI(c.Name) {
		report("name", fmt.Sprintf("%q is not a valid URI", c.Name), "write components joined by dots, such as com.example.site1")
	}
	oneOf(report, "uris", c.URIs, "loose", "strict")
	oneOf(report, "request_ids", c.RequestIDs, "any", "ascending", "sequential")
	oneOf(report, "rates.excess", c.Rates.Excess, "wait", "end")
	roles := map[string]bool{RoleTrusted: true}
	defined := map[string]bool{}
	for i, ro := range c.Roles {
		at := fmt.Sprintf("roles[%d]", i)
		switch {
		case ro.Name == "":
			report(at+".name", "it is empty", "give the role a name")
		case defined[ro.Name]:
			report(at+".name", fmt.Sprintf("role %q is there twice", ro.Name), "join the two")
		}
		if ro.TrustLevel != nil && *ro.TrustLevel < 0 {
			report(at+".trust_level", "it is less than 0", "write 0 or more, or leave it out")
		}
		if p := ro.Authorizer.Procedure; p != "" && (!wamp.LooseURIs.ValidURI(p) || wamp.Reserved(p)) {
			report(at+".authorizer.procedure", fmt.Sprintf("%q is no URI of a procedure that can be registered", p),
				"write components joined by dots, such as com.example.authorize")
		}
		if ro.Authorizer.Timeout < 0 || ro.Authorizer.CacheTime < 0 {
			report(at+".authorizer", "timeout or cache_time is less than 0s", "leave it out for the default")
		}
		roles[ro.Name], defined[ro.Name] = true, true
		for j := range ro.Permissions {
			ro.Permissions[j].validate(fmt.Sprintf("%s.permissions[%d]", at, j), ro.Permissions[:j], report)
		}
	}
	if c.Anonymous != "" && !roles[c.Anonymous] {
		report("anonymous", fmt.Sprintf("there is no role %q", c.Anonymous), "define it under roles")
	}
	if c.Local != "" && !roles[c.Local] {
		report("local", fmt.Sprintf("there is no role %q", c.Local), "define it under roles")
	}
	if c.Anonymous != "" && c.Name == RealmServices {
		report("anonymous", "whoever joins this realm manages the gateway", "leave it out; users, or local, say who may")
	}
	for _, p := range []struct {
		path string
		d    time.Duration
	}{
		{"default_timeout", c.Calls.DefaultTimeout},
		{"max_timeout", c.Calls.MaxTimeout},
	} {
		if p.d < 0 {
			report("calls."+p.path, "it is less than 0s", "leave it out for no timeout")
		}
	}
	c.Auth.validate(roles, report)
	for i, h := range c.History {
		at := fmt.Sprintf("history[%d]", i)
		oneOf(report, at+".match", h.Match, "exact", "prefix", "wildcard")
		if !wamp.LooseURIs.ValidPattern(h.URI, wamp.Match(h.Match)) {
			report(at+".uri", fmt.Sprintf("%q is not a valid pattern for match %q", h.URI, h.Match), "write components joined by dots")
		}
		same := func(o HistoryConfig) bool { return o.URI == h.URI && o.Match == h.Match }
		if slices.ContainsFunc(c.History[:i], same) {
			report(at+".uri", fmt.Sprintf("there is another history of %q", h.URI), "join the two")
		}
		if h.Limit <= 0 || h.Bytes <= 0 {
			report(at, "limit or bytes is not more than 0", "leave it out for the default")
		}
		if h.MaxAge < 0 {
			report(at+".max_age", "it is less than 0s", "leave it out for no bound")
		}
	}
	l := c.Limits
	for _, p := range []struct {
		path string
		n    int
	}{
		{"sessions", l.Sessions},
		{"sessions_per_identity", l.PerIdentity},
		{"subscriptions", l.Subscriptions},
		{"registrations", l.Registrations},
		{"pending_calls", l.PendingCalls},
		{"retained", l.Retained},
		{"retained_bytes", l.RetainedBytes},
		{"testaments", l.Testaments},
		{"testament_bytes", l.TestamentBytes},
	} {
		if p.n <= 0 {
			report("limits."+p.path, "it is not more than 0", "leave it out for the default")
		}
	}
}

func (c *PermissionConfig) validate(at string, before []PermissionConfig, report func(path, problem, hint string)) {
	oneOf(report, at+".match", c.Match, "exact", "prefix", "wildcard")
	if !wamp.LooseURIs.ValidPattern(c.URI, wamp.Match(c.Match)) {
		report(at+".uri", fmt.Sprintf("%q is not a valid pattern for match %q", c.URI, c.Match), "write components joined by dots")
	}
	for _, other := range before {
		if other.URI == c.URI && other.Match == c.Match {
			report(at+".uri", fmt.Sprintf("there is another rule for %q", c.URI), "join the two")
		}
	}
	for i, a := range c.Allow {
		oneOf(report, fmt.Sprintf("%s.allow[%d]", at, i), a, actionNames...)
	}
	for i, d := range c.Disclose {
		oneOf(report, fmt.Sprintf("%s.disclose[%d]", at, i), d, "caller", "publisher")
	}
}

func oneOf(report func(path, problem, hint string), path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		report(path, fmt.Sprintf("%q is not known", value), fmt.Sprintf("write one of %q", allowed))
	}
}

// realm translates the configuration; it has been validated.
func (c *RealmConfig) realm() realm.Config {
	out := realm.Config{
		Name: c.Name,
		Limits: realm.Limits{
			Subscriptions: c.Limits.Subscriptions, Registrations: c.Limits.Registrations,
			PendingCalls: c.Limits.PendingCalls, Retained: c.Limits.Retained, RetainedBytes: c.Limits.RetainedBytes,
			Testaments: c.Limits.Testaments, TestamentBytes: c.Limits.TestamentBytes,
		},
		Timeouts: realm.Timeouts{Default: realm.Time(c.Calls.DefaultTimeout), Max: realm.Time(c.Calls.MaxTimeout)},
	}
	if c.URIs == "strict" {
		out.URIs = wamp.StrictURIs
	}
	switch c.RequestIDs {
	case "ascending":
		out.RequestIDs = realm.AscendingRequestIDs
	case "sequential":
		out.RequestIDs = realm.SequentialRequestIDs
	}
	for _, h := range c.History {
		out.History = append(out.History, realm.History{URI: h.URI, Match: wamp.Match(h.Match), Events: h.Limit, Bytes: h.Bytes, Age: realm.Time(h.MaxAge), Disk: h.Disk})
	}
	trusted := false
	for _, ro := range c.Roles {
		trusted = trusted || ro.Name == RoleTrusted
		out.Roles = append(out.Roles, ro.role())
	}
	if !trusted {
		out.Roles = append(out.Roles, realm.Role{Name: RoleTrusted, Takeover: true, Permissions: []realm.Permission{
			{Match: wamp.MatchPrefix, Allow: realm.AllActions},
		}})
	}
	return out
}

func (c *RoleConfig) role() realm.Role {
	a := c.Authorizer
	out := realm.Role{
		Name: c.Name, Takeover: c.ForceReregister, RefuseDiscloseMe: c.RefuseDiscloseMe,
		Authorizer: realm.Authorizer{Procedure: a.Procedure, Timeout: realm.Time(a.Timeout), Keep: realm.Time(a.CacheTime)},
	}
	if c.TrustLevel != nil {
		level := int64(*c.TrustLevel)
		out.TrustLevel = &level
	}
	for _, p := range c.Permissions {
		may := func(action string) bool { return slices.Contains(p.Allow, action) }
		out.Permissions = append(out.Permissions, realm.Permission{
			URI: p.URI, Match: wamp.Match(p.Match),
			Allow: realm.Actions{
				Call: may("call"), Register: may("register"),
				Publish: may("publish"), Subscribe: may("subscribe"),
			},
			DiscloseCaller: slices.Contains(p.Disclose, "caller"), DisclosePublisher: slices.Contains(p.Disclose, "publisher"),
		})
	}
	return out
}
