package router

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

func validate(c Config) (paths []string) {
	c.Validate(func(path, problem, _ string) {
		if problem == "" {
			problem = "(no problem)"
		}
		paths = append(paths, path)
	})
	return paths
}

func TestDefaultConfig(t *testing.T) {
	if got := validate(DefaultConfig()); got != nil {
		t.Errorf("problems at %q", got)
	}
	if got := validate(openConfig()); got != nil {
		t.Errorf("open realm: problems at %q", got)
	}
	// Nobody but local sessions gets into a realm that does not say who may.
	r, _ := start(t, DefaultConfig())
	p := pipe(t, r, codec.JSON)
	p.send(hello("realm1"))
	p.aborted("wamp.error.authentication_required")
	conn, err := r.Local(t.Context(), user, "realm1")
	if err != nil {
		t.Fatal(err)
	}
	newPeer(t, conn).joins().register(1, "com.a")
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"realms":                    func(c *Config) { c.Realms = nil },
		"realms[1].name":            func(c *Config) { c.Realms = append(c.Realms, c.Realms[0]) },
		"realms[0].name":            func(c *Config) { c.Realms[0].Name = "" },
		"realms[0].uris":            func(c *Config) { c.Realms[0].URIs = "odd" },
		"realms[0].request_ids":     func(c *Config) { c.Realms[0].RequestIDs = "" },
		"realms[0].anonymous":       func(c *Config) { c.Realms[0].Anonymous = "nobody" },
		"realms[0].limits.sessions": func(c *Config) { c.Realms[0].Limits.Sessions = 0 },
		"realms[0].calls.default_timeout": func(c *Config) {
			c.Realms[0].Calls.DefaultTimeout = -1
		},
		"realms[0].calls.max_timeout": func(c *Config) { c.Realms[0].Calls.MaxTimeout = -1 },
		"realms[0].roles[0].trust_level": func(c *Config) {
			level := -1
			c.Realms[0].Roles[0].TrustLevel = &level
		},
		"realms[0].roles[0].name": func(c *Config) { c.Realms[0].Roles[0].Name, c.Realms[0].Anonymous = "", "" },
		"realms[0].roles[1].name": func(c *Config) { c.Realms[0].Roles = append(c.Realms[0].Roles, c.Realms[0].Roles[0]) },
		"realms[0].roles[0].permissions[0].disclose[0]": func(c *Config) {
			c.Realms[0].Roles[0].Permissions[0].Disclose = []string{"callee"}
		},
		"realms[0].roles[0].authorizer": func(c *Config) { c.Realms[0].Roles[0].Authorizer.Timeout = -1 },
		"realms[0].roles[0].authorizer.procedure": func(c *Config) {
			c.Realms[0].Roles[0].Authorizer.Procedure = "wamp.session.count"
		},
		"realms[0].limits.testaments": func(c *Config) { c.Realms[0].Limits.Testaments = 0 },
		"realms[0].roles[0].permissions[0].match": func(c *Config) {
			c.Realms[0].Roles[0].Permissions[0] = PermissionConfig{URI: "com.a", Match: "regex"}
		},
		"realms[0].roles[0].permissions[0].uri": func(c *Config) {
			c.Realms[0].Roles[0].Permissions[0] = PermissionConfig{URI: "com..a", Match: "exact"}
		},
		"realms[0].roles[0].permissions[1].uri": func(c *Config) {
			p := &c.Realms[0].Roles[0].Permissions
			*p = append(*p, (*p)[0])
		},
		"realms[0].roles[0].permissions[0].allow[1]": func(c *Config) {
			c.Realms[0].Roles[0].Permissions[0].Allow = []string{"call", "everything"}
		},
		"limits.hello_bytes":    func(c *Config) { c.Limits.HelloBytes = c.Limits.MessageBytes + 1 },
		"limits.queue_bytes":    func(c *Config) { c.Limits.QueueBytes = c.Limits.MessageBytes - 1 },
		"limits.queue_messages": func(c *Config) { c.Limits.QueueMessages = 0 },
		"limits.slow_consumers": func(c *Config) { c.Limits.SlowConsumers = "wait" },
	} {
		c := openConfig()
		change(&c)
		got := validate(c)
		if !slices.Contains(got, want) {
			t.Errorf("problems at %q, want one at %s", got, want)
		}
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want one at %s", err, want)
		}
	}
}

// TestTrustedRole: a configuration may give it less, and may give it to
// others.
func TestTrustedRole(t *testing.T) {
	c := DefaultConfig()
	c.Realms[0].Anonymous = RoleTrusted
	if got := validate(c); got != nil {
		t.Errorf("problems at %q", got)
	}
	c.Realms[0].Roles = []RoleConfig{{Name: RoleTrusted}}
	r, _ := start(t, c)
	p := pipe(t, r, codec.JSON).joins()
	p.send(hello("x")) // whatever it is, it is a violation now
	p.aborted("wamp.error.protocol_violation")
	if !r.realms["realm1"].core.HasRole(RoleTrusted) {
		t.Error("the role is gone")
	}
}
