package router

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// TestTranscripts replays the realm's transcripts, whose format is described
// there, through whole sessions in each codec: each session must receive the
// same messages in the same order, and nothing else.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("realm/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		transcript, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range codecs {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+c.Name(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { newStage(t, c).replay(string(transcript)) })
			})
		}
	}
}

type stage struct {
	t          *testing.T
	codec      codec.Codec
	cfg        RealmConfig
	router     *Router
	identities map[string]realm.Identity
	actors     map[string]*actor
}

func newStage(t *testing.T, c codec.Codec) *stage {
	s := &stage{t: t, codec: c, identities: map[string]realm.Identity{}, actors: map[string]*actor{}}
	s.cfg = OpenRealm("realm1")
	s.cfg.Roles[0].Name, s.cfg.Anonymous = "user", "user"
	return s
}

// actor is a session of a transcript: it hears until it is asked what it heard.
type actor struct {
	conn   transport.Conn
	listen sync.WaitGroup

	mu    sync.Mutex
	heard []string
}

func (a *actor) hear(t *testing.T, c codec.Codec) {
	for {
		b, err := a.conn.Read()
		line := "end"
		if err == nil {
			m, err := c.Decode(b, codec.Limits{})
			if err != nil {
				t.Errorf("decode %q: %v", b, err)
				return
			}
			line = text(t, m)
		} else if err != io.EOF {
			t.Errorf("read: %v", err)
		}
		a.mu.Lock()
		a.heard = append(a.heard, line)
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *stage) replay(transcript string) {
	lines := strings.Split(transcript, "\n")
	for i := 0; i < len(lines); {
		line := lines[i]
		i++
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		gone := s.do(line)
		synctest.Wait()
		want := map[string][]string{}
		for ; i < len(lines) && strings.Contains(lines[i], " <- "); i++ {
			name, what, _ := strings.Cut(lines[i], " <- ")
			want[name] = append(want[name], what)
		}
		for name, a := range s.actors {
			s.compare(line, name, a.take(), want[name], name == gone)
		}
	}
	for _, a := range s.actors {
		_ = a.conn.Close()
		a.listen.Wait()
	}
	if s.router != nil {
		if err := s.router.Shutdown(context.Background()); err != nil {
			s.t.Error(err)
		}
	}
}

func (a *actor) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	heard := a.heard
	a.heard = nil
	return heard
}

func (s *stage) compare(line, name string, heard, want []string, gone bool) {
	s.t.Helper()
	if gone { // it hangs up itself
		want = append(want, "end")
	}
	if len(want) == 1 && len(heard) == 1 {
		if id, ok := strings.CutPrefix(want[0], "welcome "); ok && strings.HasPrefix(heard[0], "[2,"+id+",") {
			return
		}
	}
	if got, want := timeless(heard), timeless(want); got != want {
		s.t.Fatalf("after %s\n%s heard\n%s\nwant\n%s", line, name, got, want)
	}
}

var created = regexp.MustCompile(`"created":"[^"]+"`)

// timeless joins lines without the times of a clock that is not the
// transcript's.
func timeless(lines []string) string {
	return created.ReplaceAllString(strings.Join(lines, "\n"), `"created":"then"`)
}

// do does what one line says. It returns who hung up by it.
func (s *stage) do(line string) (gone string) {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "config":
		s.configure(rest)
	case word == "identity":
		name, fields, _ := strings.Cut(rest, " ")
		var id realm.Identity
		s.decode(fields, &id)
		s.identities[name] = id
	case word == "close":
		s.hall().close(rest, errShuttingDown)
	case word == "roles":
		s.hall()
		cfg := s.router.cfg
		cfg.Realms = []RealmConfig{cfg.Realms[0]}
		var roles map[string][]PermissionConfig
		s.decode(rest, &roles)
		c := &cfg.Realms[0]
		c.Roles = slices.Clone(c.Roles)
		for i := range c.Roles {
			if rules, given := roles[c.Roles[i].Name]; given {
				c.Roles[i].Permissions = rules
			}
		}
		if _, err := s.router.Reload(cfg); err != nil {
			s.t.Fatal(err)
		}
	case word == "wait":
		<-time.After(s.span(rest)) // of the bubble's clock
	case rest == "gone":
		if a := s.actors[word]; a != nil {
			_ = a.conn.Close()
			a.listen.Wait()
			if len(a.heard) > 0 {
				gone = word
			}
		}
	case rest == "joins" || strings.HasPrefix(rest, "joins "):
		h := hello("realm1")
		if _, given, ok := strings.Cut(rest, " "); ok {
			var roles wamp.Dict
			s.decode(given, &roles)
			h.Details = wamp.Dict{"roles": roles}
		}
		s.send(word, h)
	default:
		m, err := codec.JSON.Decode([]byte(strings.TrimPrefix(rest, "-> ")), codec.Limits{})
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		s.send(word, m)
	}
	return gone
}

// span is a duration; "" is none.
func (s *stage) span(text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *stage) decode(text string, into any) {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
}

func (s *stage) configure(text string) {
	var c struct {
		URIs       string
		RequestIDs string `json:"request_ids"`
		Limits     struct{ Subscriptions, Registrations, Calls, Retained, Testaments int }
		Roles      map[string][]PermissionConfig
		Takeover   []string

		RefuseDiscloseMe []string `json:"refuse_disclose_me"`
		Authorizers      map[string]struct{ Procedure, Timeout, Cache string }
		Timeouts         struct{ Default, Max string }
		TrustLevel       map[string]int `json:"trust_level"`
		History          []struct {
			URI, Match    string
			Events, Bytes int
			Age           time.Duration
			Disk          bool
		}
	}
	s.decode(text, &c)
	set := func(field *int, value int) {
		if value > 0 {
			*field = value
		}
	}
	set(&s.cfg.Limits.Subscriptions, c.Limits.Subscriptions)
	set(&s.cfg.Limits.Registrations, c.Limits.Registrations)
	set(&s.cfg.Limits.PendingCalls, c.Limits.Calls)
	set(&s.cfg.Limits.Retained, c.Limits.Retained)
	set(&s.cfg.Limits.Testaments, c.Limits.Testaments)
	if c.URIs != "" {
		s.cfg.URIs = c.URIs
	}
	if c.RequestIDs != "" {
		s.cfg.RequestIDs = c.RequestIDs
	}
	s.cfg.Calls = CallsConfig{DefaultTimeout: s.span(c.Timeouts.Default), MaxTimeout: s.span(c.Timeouts.Max)}
	for _, h := range c.History {
		kept := HistoryConfig{URI: h.URI}
		kept.SetDefaults()
		kept.MaxAge, kept.Disk = h.Age, h.Disk
		set(&kept.Limit, h.Events)
		set(&kept.Bytes, h.Bytes)
		if h.Match != "" {
			kept.Match = h.Match
		}
		s.cfg.History = append(s.cfg.History, kept)
	}
	for name, rules := range c.Roles {
		s.cfg.Roles = append(s.cfg.Roles, RoleConfig{Name: name, Permissions: rules})
	}
	for i := range s.cfg.Roles {
		role := &s.cfg.Roles[i]
		role.ForceReregister = slices.Contains(c.Takeover, role.Name)
		role.RefuseDiscloseMe = slices.Contains(c.RefuseDiscloseMe, role.Name)
		if a, ok := c.Authorizers[role.Name]; ok {
			role.Authorizer = AuthorizerConfig{Procedure: a.Procedure, Timeout: s.span(a.Timeout), CacheTime: s.span(a.Cache)}
		}
		if level, ok := c.TrustLevel[role.Name]; ok {
			role.TrustLevel = &level
		}
	}
}

// hall makes the router when it is first needed, with IDs that count.
func (s *stage) hall() *hall {
	if s.router == nil {
		cfg := DefaultConfig()
		// Of the sessions in a transcript one may have no role.
		s.cfg.Roles = append(s.cfg.Roles, RoleConfig{Name: "no_such_role"})
		cfg.Realms = []RealmConfig{s.cfg}
		next := wamp.ID(1_000_000_000)
		r, err := New(cfg, WithLog(discard), func(r *Router) error {
			r.realms["realm1"].cfg.NewID = func() wamp.ID { next++; return next }
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.router = r
	}
	return s.router.realms["realm1"]
}

func (s *stage) send(name string, m wamp.Message) {
	s.hall()
	a := s.actors[name]
	if a == nil {
		a = s.enter(name)
	}
	b, err := s.codec.Append(nil, m)
	if err != nil {
		s.t.Fatalf("encode %s: %v", text(s.t, m), err)
	}
	_ = a.conn.Write(b) // what is said after the end is not heard
}

func (s *stage) enter(name string) *actor {
	id := realm.Identity{AuthID: name, AuthRole: "user", AuthMethod: "anonymous", AuthProvider: "static"}
	if given := s.identities[name]; given.AuthRole != "" {
		id.AuthRole = given.AuthRole
	}
	if given := s.identities[name]; given.AuthID != "" {
		id.AuthID = given.AuthID
	}
	theirs, ours := transport.Pipe(s.codec)
	if !s.router.start(func() {
		_ = s.router.attach(context.Background(), &session{conn: ours, imposed: &id, imposedRealm: "realm1"})
	}) {
		s.t.Fatal("the router is closed")
	}
	a := &actor{conn: theirs}
	a.listen.Go(func() { a.hear(s.t, s.codec) })
	s.actors[name] = a
	return a
}
