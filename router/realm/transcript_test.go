package realm_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

var rewrite = flag.Bool("rewrite", false, "write what the realm does now into the transcripts")

// TestTranscripts replays testdata/*.txt. A transcript is read line by line:
//
//	# comment
//	config {"roles": …}       what the realm is like, in the first lines
//	identity alice {"authrole": "guest"}
//	alice joins               alice sends HELLO with all roles and no features
//	alice joins {"callee": …} or with these
//	alice -> [48, 1, {}, …]   alice sends a message
//	alice <- [50, 1, {}]      what the realm sends her because of it
//	alice <- welcome 1        she has joined as session 1
//	alice <- end              her connection is to be closed
//	alice gone                her connection is lost
//	close wamp.close.…        the realm closes
//	roles {"guest": […]}      what the named roles may do from here on
//	wait 1500ms               time passes
//
// Lines with "<-" are what is checked. IDs of the global scope count from
// 1000000001, in the order in which the realm draws them; whoever replays a
// transcript against a router whose IDs are random takes those for names. Times
// begin with the year 2000; a router has its own.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(text))
			if got == string(text) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s differs from what the realm does (go test ./router/realm -rewrite shows it as a diff):\n%s",
				file, firstDifference(string(text), got))
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		at := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return "(end)"
		}
		if at(w) != at(g) {
			return fmt.Sprintf("line %d\n want %s\n  got %s", i+1, at(w), at(g))
		}
	}
	return "no line"
}

// stage is one transcript being replayed.
type stage struct {
	t          *testing.T
	cfg        realm.Config
	realm      *realm.Realm
	sessions   map[string]*realm.Session
	identities map[string]realm.Identity
	brief      bool // WELCOME is not written out
	now        realm.Time
	out        strings.Builder
}

// start is when a transcript begins: with the clock of testing/synctest.
const start = realm.Time(946_684_800e9) // 2000-01-01

func replay(t *testing.T, text string) string {
	s := &stage{t: t, sessions: map[string]*realm.Session{}, identities: map[string]realm.Identity{}, now: start}
	s.cfg = testConfig()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.Contains(line, " <- ") && !strings.HasPrefix(line, "#") {
			continue
		}
		s.out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.do(line)
	}
	return s.out.String()
}

// testConfig is a realm with one role that may do everything.
func testConfig() realm.Config {
	next := wamp.ID(1_000_000_000)
	return realm.Config{
		Name: "realm1", Agent: "postern", Encoding: codec.JSON,
		NewID: func() wamp.ID { next++; return next },
		Wall:  func(now realm.Time) realm.Time { return max(now, start) }, // histories are older than the first line
		Roles: []realm.Role{everything("user")},
	}
}

func everything(role string) realm.Role {
	return realm.Role{Name: role, Permissions: []realm.Permission{{Match: wamp.MatchPrefix, Allow: realm.AllActions}}}
}

func (s *stage) do(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "config":
		s.configure(rest)
	case word == "identity":
		name, fields, _ := strings.Cut(rest, " ")
		var id struct{ AuthID, AuthRole, AuthMethod, AuthProvider string }
		s.decode(fields, &id)
		s.identities[name] = realm.Identity{AuthID: id.AuthID, AuthRole: id.AuthRole, AuthMethod: id.AuthMethod, AuthProvider: id.AuthProvider}
	case word == "close":
		s.effects(s.core().Close(rest, s.now))
	case word == "roles":
		s.setRoles(rest)
	case word == "wait":
		s.wait(s.now + s.span(rest))
	case rest == "joins" || strings.HasPrefix(rest, "joins "):
		roles := wamp.Dict{"caller": wamp.Dict{}, "callee": wamp.Dict{}, "publisher": wamp.Dict{}, "subscriber": wamp.Dict{}}
		if _, given, ok := strings.Cut(rest, " "); ok {
			roles = nil
			s.decode(given, &roles)
		}
		s.brief = true
		s.effects(s.core().Join(s.join(word, &wamp.Hello{Details: wamp.Dict{"roles": roles}}), s.now))
		s.brief = false
	case rest == "gone":
		s.effects(s.core().Leave(s.session(word), s.now))
	case strings.HasPrefix(rest, "-> "):
		m, err := codec.JSON.Decode([]byte(rest[3:]), codec.Limits{})
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		if hello, ok := m.(*wamp.Hello); ok && s.sessions[word] == nil {
			s.effects(s.core().Join(s.join(word, hello), s.now))
			return
		}
		s.effects(s.core().Step(s.session(word), m, s.now))
	default:
		s.t.Fatalf("%q is no line of a transcript", line)
	}
}

// span is a duration; "" is none.
func (s *stage) span(text string) realm.Time {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return realm.Time(d)
}

// wait lets time pass, with a Tick whenever one is due.
func (s *stage) wait(until realm.Time) {
	for {
		next := s.core().NextDeadline()
		if next == 0 || next > until {
			break
		}
		s.now = next
		s.effects(s.core().Tick(s.now))
	}
	s.now = until
}

func (s *stage) decode(text string, into any) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
}

func (s *stage) configure(text string) {
	var c struct {
		URIs             string
		RequestIDs       string `json:"request_ids"`
		Limits           struct{ Subscriptions, Registrations, Calls, Retained, Testaments int }
		Roles            map[string][]rule
		Takeover         []string // roles
		RefuseDiscloseMe []string `json:"refuse_disclose_me"`
		Authorizers      map[string]struct{ Procedure, Timeout, Cache string }
		Timeouts         struct{ Default, Max string }
		TrustLevel       map[string]int `json:"trust_level"` // of roles
		History          []realm.History
	}
	s.decode(text, &c)
	if c.URIs == "strict" {
		s.cfg.URIs = wamp.StrictURIs
	}
	s.cfg.RequestIDs = map[string]realm.RequestIDs{
		"": realm.AnyRequestIDs, "ascending": realm.AscendingRequestIDs, "sequential": realm.SequentialRequestIDs,
	}[c.RequestIDs]
	s.cfg.Limits = realm.Limits{
		Subscriptions: c.Limits.Subscriptions, Registrations: c.Limits.Registrations,
		PendingCalls: c.Limits.Calls, Retained: c.Limits.Retained, Testaments: c.Limits.Testaments,
	}
	s.cfg.History = c.History
	for name, rules := range c.Roles {
		s.cfg.Roles = append(s.cfg.Roles, realm.Role{Name: name, Permissions: s.permissions(rules)})
	}
	s.cfg.Timeouts = realm.Timeouts{Default: s.span(c.Timeouts.Default), Max: s.span(c.Timeouts.Max)}
	for i := range s.cfg.Roles {
		role := &s.cfg.Roles[i]
		role.Takeover = slices.Contains(c.Takeover, role.Name)
		role.RefuseDiscloseMe = slices.Contains(c.RefuseDiscloseMe, role.Name)
		a := c.Authorizers[role.Name]
		role.Authorizer = realm.Authorizer{Procedure: a.Procedure, Timeout: s.span(a.Timeout), Keep: s.span(a.Cache)}
		if level, ok := c.TrustLevel[role.Name]; ok {
			n := int64(level)
			role.TrustLevel = &n
		}
	}
}

// rule is a permission as transcripts have it.
type rule struct {
	URI, Match      string
	Allow, Disclose []string
}

func (s *stage) permissions(rules []rule) (out []realm.Permission) {
	for _, p := range rules {
		allow := realm.Actions{}
		for _, a := range p.Allow {
			switch a {
			case "call":
				allow.Call = true
			case "register":
				allow.Register = true
			case "publish":
				allow.Publish = true
			case "subscribe":
				allow.Subscribe = true
			default:
				s.t.Fatalf("unknown action %q", a)
			}
		}
		out = append(out, realm.Permission{
			URI: p.URI, Match: wamp.Match(p.Match), Allow: allow,
			DiscloseCaller: slices.Contains(p.Disclose, "caller"), DisclosePublisher: slices.Contains(p.Disclose, "publisher"),
		})
	}
	return out
}

func (s *stage) setRoles(text string) {
	var given map[string][]rule
	s.decode(text, &given)
	for i := range s.cfg.Roles {
		if rules, named := given[s.cfg.Roles[i].Name]; named {
			s.cfg.Roles[i].Permissions = s.permissions(rules)
		}
	}
	effects, err := s.core().SetRoles(s.cfg.Roles, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	s.effects(effects)
}

func (s *stage) core() *realm.Realm {
	if s.realm == nil {
		r, err := realm.New(s.cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		s.realm = r
	}
	return s.realm
}

func (s *stage) join(name string, hello *wamp.Hello) *realm.Session {
	id := realm.Identity{AuthID: name, AuthRole: "user", AuthMethod: "anonymous", AuthProvider: "static"}
	if given, ok := s.identities[name]; ok {
		for _, f := range []struct{ field, given *string }{
			{&id.AuthID, &given.AuthID},
			{&id.AuthRole, &given.AuthRole},
			{&id.AuthMethod, &given.AuthMethod},
			{&id.AuthProvider, &given.AuthProvider},
		} {
			if *f.given != "" {
				*f.field = *f.given
			}
		}
	}
	s.sessions[name] = &realm.Session{Identity: id, Roles: wamp.AsDict(hello.Details, "roles"), Tag: name}
	return s.sessions[name]
}

func (s *stage) session(name string) *realm.Session {
	if s.sessions[name] == nil {
		s.t.Fatalf("%s has not joined", name)
	}
	return s.sessions[name]
}

func (s *stage) effects(effects []realm.Effect) {
	for _, e := range effects {
		if welcome, ok := e.Msg.(*wamp.Welcome); ok && s.brief {
			fmt.Fprintf(&s.out, "%s <- welcome %d\n", e.To.Tag, welcome.Session)
		} else if e.Msg != nil {
			b, err := codec.JSON.Append(nil, e.Msg)
			if err != nil {
				s.t.Fatalf("encode %v: %v", e.Msg.Kind(), err)
			}
			fmt.Fprintf(&s.out, "%s <- %s\n", e.To.Tag, b)
		}
		if e.End {
			fmt.Fprintf(&s.out, "%s <- end\n", e.To.Tag)
		}
	}
}
