package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
)

const siteConfig = `listen:
  http: {addresses: ["127.0.0.1:0"]}
  rawsocket: {addresses: []}
  unix: {path: %s}
mqtt: {enabled: false}
realms:
  - name: realm1
    anonymous: guest
    roles:
      - name: guest
        permissions:
          - {uri: com., match: prefix, allow: [call, register, publish, subscribe]}
  - name: postern
    local: trusted
    auth:
      users:
        - {authid: admin, role: admin, secret: s3cret}
        - {authid: other, role: other, secret: s3cret}
    roles:
      - name: admin
        permissions:
          - {uri: postern., match: prefix, allow: [call]}
      - {name: other}
`

// site is a gateway with a file.
type site struct {
	*up
	file   string
	hangup chan os.Signal
	level  *slog.LevelVar
}

func startSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{file: filepath.Join(dir, "postern.yaml"), hangup: make(chan os.Signal, 1), level: new(slog.LevelVar)}
	s.write(t, fmt.Sprintf(siteConfig, filepath.Join(dir, "p.sock")))
	cfg, err := config.Load(s.file, all.Table())
	if err != nil {
		t.Fatal(err)
	}
	s.up = startWith(t, cfg, Options{Level: s.level, File: s.file, Hangup: s.hangup})
	return s
}

func (s *site) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change replaces text in the file.
func (s *site) change(t *testing.T, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%q is not in the file, %v", old, err)
	}
	s.write(t, strings.Replace(string(text), old, replacement, 1))
}

// manage joins the services realm over the Unix socket, or as a user.
func (s *site) manage(t *testing.T, authid string) (*client.Session, error) {
	t.Helper()
	cfg := client.Config{Realm: ServicesRealm, AuthID: authid}
	url := "unix://" + s.Addresses().Unix
	if authid != "" {
		url = "ws" + strings.TrimPrefix(s.url("/ws"), "http")
		cfg.Auth = []client.Authenticator{auth.Ticket("s3cret")}
	}
	m, err := client.Dial(t.Context(), url, cfg)
	if err == nil {
		t.Cleanup(func() { m.Close(context.Background()) })
	}
	return m, err
}

func TestReloadBySignal(t *testing.T) {
	s := startSite(t)
	events := make(chan *client.Event, 10)
	guest := dial(t, "ws"+strings.TrimPrefix(s.url("/ws"), "http"))
	if _, err := guest.Subscribe(t.Context(), "com.a", func(e *client.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	s.change(t, "uri: com.,", "uri: com.other.,")
	s.change(t, "mqtt:", "log: {level: debug}\nmqtt:")
	s.change(t, "enabled: false", "enabled: true")
	s.hangup <- syscall.SIGHUP
	for { // until it has been read
		err := guest.Publish(t.Context(), "com.a", nil, nil, client.Acknowledge())
		if err != nil && strings.Contains(err.Error(), wamp.ErrNotAuthorized) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for s.reloads.counts().Reloads == 0 { // it goes on after the rights are gone
		select {
		case <-t.Context().Done():
			t.Fatal("the reload does not end")
		case <-time.After(time.Millisecond):
		}
	}
	if s.level.Level() != slog.LevelDebug {
		t.Errorf("the log's level is %v", s.level.Level())
	}
	_, body := get(t, s.url("/metrics"), nil)
	for _, line := range []string{"postern_reloads_total 1", "postern_reloads_failed_total 0", "postern_config_pending 1", `postern_realm_revoked_total{realm="realm1"} 1`} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if p := s.Health().Problems; len(p) != 1 || p[0].State != "needs a restart" || !strings.Contains(p[0].Reason, "mqtt.enabled (") || !strings.Contains(p[0].Reason, "postern.yaml:6:") {
		t.Errorf("problems %+v", p)
	}
}

func TestReloadByProcedure(t *testing.T) {
	s := startSite(t)
	reload := func(m *client.Session) (wamp.Dict, error) {
		r, err := m.Call(t.Context(), "postern.reload", nil, nil)
		if err != nil {
			return nil, err
		}
		return r.Args[0].(map[string]any), nil
	}
	local, err := s.manage(t, "")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := s.manage(t, "admin")
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.manage(t, "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url("/ws"), "http"), client.Config{Realm: ServicesRealm}); err == nil {
		t.Error("somebody joined the services realm over the network without authentication")
	}
	if _, err := reload(other); err == nil || !strings.Contains(err.Error(), wamp.ErrNotAuthorized) {
		t.Errorf("another role: %v", err)
	}
	guest := dial(t, "ws"+strings.TrimPrefix(s.url("/ws"), "http"))
	if _, err := reload(guest); err == nil {
		t.Error("the procedure is in realm1 too")
	}
	if d, err := reload(local); err != nil || fmt.Sprint(d) != "map[added:[] changed:[] ended:0 removed:[] restart:[]]" {
		t.Errorf("the gateway's own user: %v, %v", d, err)
	}

	// A realm more, and a user less.
	s.change(t, "  - name: postern\n", "  - {name: com.second, anonymous: full}\n  - name: postern\n")
	s.change(t, "        - {authid: other, role: other, secret: s3cret}\n", "")
	d, err := reload(admin)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d); got != "map[added:[com.second] changed:[postern] ended:1 removed:[] restart:[]]" {
		t.Errorf("reloaded: %s", got)
	}
	<-other.Done()
	second, err := client.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url("/ws"), "http"), client.Config{Realm: "com.second"})
	if err != nil {
		t.Fatal(err)
	}
	second.Close(context.Background())
}

// TestReloadBroken: the old configuration serves, and the file's problem is told
// with its place.
func TestReloadBroken(t *testing.T) {
	s := startSite(t)
	admin, err := s.manage(t, "admin")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, broken, want string }{
		{"anonymous: guest", "anonymous: gest", "postern.yaml:8:16"},
		{"realms:", "realmz:", "postern.yaml:6:1"},
		{"match: prefix", "match: prefx", "postern.yaml:12:"},
		{"- name: realm1\n", "- name: realm2\n", `realm "realm1" is gone`},
		{"listen:\n", "listen: [\n", "postern.yaml:"},
		{string(text), "\n", "postern.yaml is empty"},
	} {
		s.change(t, c.old, c.broken)
		_, err := admin.Call(t.Context(), "postern.reload", nil, nil)
		if err == nil || !strings.Contains(err.Error(), ErrInvalidConfiguration) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.broken, err, c.want)
		}
		guest := dial(t, "ws"+strings.TrimPrefix(s.url("/ws"), "http"))
		if _, err := guest.Subscribe(t.Context(), "com.a", func(*client.Event) {}); err != nil {
			t.Errorf("%s: %v", c.broken, err)
		}
		if p := s.Health().Problems; len(p) != 1 || p[0].State != "not reloaded" {
			t.Errorf("problems %+v", p)
		}
		s.write(t, string(text))
	}
	if _, err := admin.Call(t.Context(), "postern.reload", nil, nil); err != nil {
		t.Errorf("mended: %v", err)
	}
	if p := s.Health().Problems; len(p) != 0 {
		t.Errorf("problems %+v", p)
	}
}

// TestRealmsAtRunTime: a role that may creates and removes them.
func TestRealmsAtRunTime(t *testing.T) {
	s := startSite(t)
	admin, err := s.manage(t, "admin")
	if err != nil {
		t.Fatal(err)
	}
	call := func(procedure string, arg any) (*client.Result, error) {
		return admin.Call(t.Context(), procedure, wamp.List{arg}, nil)
	}
	realm := wamp.Dict{"name": "com.lab", "anonymous": "user", "roles": wamp.List{
		wamp.Dict{"name": "user", "permissions": wamp.List{wamp.Dict{"uri": "com.", "match": "prefix", "allow": wamp.List{"publish"}}}},
	}}
	if _, err := call("postern.realm.create", realm); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]any{
		"twice":      realm,
		"own":        wamp.Dict{"name": "postern"},
		"unknown":    wamp.Dict{"name": "com.x", "colour": "red"},
		"no dict":    "com.x",
		"no role":    wamp.Dict{"name": "com.x", "anonymous": "nobody"},
		"a file":     wamp.Dict{"name": "com.x", "auth": wamp.Dict{"users_file": "/etc/passwd"}},
		"on disk":    wamp.Dict{"name": "com.x", "history": wamp.List{wamp.Dict{"uri": "com.a", "disk": true}}},
		"a secret":   wamp.Dict{"name": "com.x", "auth": wamp.Dict{"cryptosign_key": "!file /etc/shadow"}},
		"in a list":  wamp.List{realm},
		"no name":    wamp.Dict{},
		"a bad name": wamp.Dict{"name": "a b"},
	} {
		if _, err := call("postern.realm.create", bad); err == nil || !strings.Contains(err.Error(), ErrInvalidConfiguration) {
			t.Errorf("%s: %v", what, err)
		}
	}
	url := "ws" + strings.TrimPrefix(s.url("/ws"), "http")
	lab, err := client.Dial(t.Context(), url, client.Config{Realm: "com.lab"})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close(context.Background())
	// A reload leaves it; the file may not have it too.
	if _, err := admin.Call(t.Context(), "postern.reload", nil, nil); err != nil {
		t.Error(err)
	}
	s.change(t, "  - name: postern\n", "  - {name: com.lab}\n  - name: postern\n")
	if _, err := admin.Call(t.Context(), "postern.reload", nil, nil); err == nil || !strings.Contains(err.Error(), "postern.yaml:13:") {
		t.Errorf("twice: %v", err)
	}
	r, err := admin.Call(t.Context(), "postern.realm.list", nil, nil)
	if err != nil || r.Args[0].(map[string]any)["com.lab"] == nil {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := call("postern.realm.remove", "com.lab"); err != nil {
		t.Error(err)
	}
	select {
	case <-lab.Done():
	case <-time.After(5 * time.Second):
		t.Error("the session goes on")
	}
	if _, err := call("postern.realm.remove", "realm1"); err == nil || !strings.Contains(err.Error(), wamp.ErrNoSuchRealm) {
		t.Errorf("a realm of the file: %v", err)
	}
}

// TestReloadWithoutFile: there is nothing to read.
func TestReloadWithoutFile(t *testing.T) {
	u := start(t, demo(t))
	m, err := client.Dial(t.Context(), "unix://"+u.Addresses().Unix, client.Config{Realm: ServicesRealm})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(context.Background())
	if _, err := m.Call(t.Context(), "postern.reload", nil, nil); err == nil || !strings.Contains(err.Error(), "without a configuration file") {
		t.Errorf("%v", err)
	}
	if r, err := m.Call(t.Context(), "postern.health", nil, nil); err != nil || r.Args[0].(map[string]any)["status"] != StateOK {
		t.Errorf("%v, %v", r, err)
	}
}
