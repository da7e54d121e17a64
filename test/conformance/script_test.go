package conformance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

// script is one conversation, read line by line:
//
//	# feature: broker.event_retention   what it shows; as many as it likes
//	# rule: 5                           a rule of rules_test.go
//	# a remark
//	config {"request_ids": "strict"}    keys of its realm in the configuration
//	alice joins                         alice enters the realm with all roles
//	alice joins {"callee": {}}          or with these; $alice is her session
//	alice -> [32,1,{},"com.x"]          alice sends a message
//	alice <- [33,1,$sub]                what she hears because of it
//	alice <- end                        her connection is ended
//	alice gone                          she hangs up
//	realm becomes {"anonymous": "b"}    its configuration is this from now on
//
// A message is JSON in which $names stand for what is not known beforehand; see
// names.match. $realm is the realm's name. After each step everybody must have
// heard what stands there, and nothing else (which can only be seen later where
// the realm insists on request IDs without gaps).
type script struct {
	name            string
	features, rules []string
	config          string
	lines           []string
}

func scripts(tb testing.TB) []script {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no conversations: %v", err)
	}
	var out []script
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		s := script{name: strings.TrimSuffix(filepath.Base(file), ".txt"), config: `"anonymous": "full"`}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if feature, ok := strings.CutPrefix(line, "# feature: "); ok {
				s.features = append(s.features, feature)
			} else if rule, ok := strings.CutPrefix(line, "# rule: "); ok {
				s.rules = append(s.rules, rule)
			} else if config, ok := strings.CutPrefix(line, "config "); ok {
				s.config = strings.TrimSuffix(strings.TrimPrefix(config, "{"), "}")
			} else if line != "" && !strings.HasPrefix(line, "#") {
				s.lines = append(s.lines, line)
			}
		}
		out = append(out, s)
	}
	return out
}

// config is a gateway's configuration in which each conversation has a realm
// of its own, besides realm1 for everything else.
func config(all []script) string {
	text := "mqtt: {enabled: false}\nrealms:\n  - {name: realm1, anonymous: full}\n"
	for _, s := range all {
		text += s.yaml()
	}
	return text
}

// yaml is the line of the configuration that makes the realm.
func (s *script) yaml() string { return fmt.Sprintf("  - {name: %s, %s}\n", s.realm(), s.config) }

func (s *script) realm() string { return "test." + s.name }

// TestConversations has every conversation over every transport in every
// serialization.
func TestConversations(t *testing.T) {
	all := scripts(t)
	for _, tr := range transports {
		for _, c := range tr.codecs {
			t.Run(tr.name+"/"+c.Name(), func(t *testing.T) {
				t.Parallel()
				g := run(t, config(all))
				announced := welcomed(t, g)
				for _, s := range all {
					if !s.applies(announced) {
						continue // TestFeatures lists those
					}
					t.Run(s.name, func(t *testing.T) {
						st := stage{t: t, g: g, script: &s, transport: tr.name, codec: c, names: names{"realm": s.realm()}, peers: map[string]*peer{}}
						st.gapless = strings.Contains(s.config, "request_ids")
						st.play(s.lines)
						for _, p := range st.peers {
							_ = p.link.conn().Close()
						}
					})
				}
			})
		}
	}
}

type stage struct {
	t         *testing.T
	g         *gateway
	script    *script
	transport string
	codec     codec.Codec
	names     names
	peers     map[string]*peer
	gapless   bool
}

func (s *stage) play(lines []string) {
	for i := 0; i < len(lines); {
		line := lines[i]
		i++
		want := map[string][]string{}
		for ; i < len(lines) && strings.Contains(lines[i], " <- "); i++ {
			name, what, _ := strings.Cut(lines[i], " <- ")
			want[name] = append(want[name], what)
		}
		var actor string
		if config, ok := strings.CutPrefix(line, "realm becomes "); ok {
			s.becomes(config)
		} else {
			actor = s.do(line)
		}
		others := make([]string, 0, len(s.peers))
		for name := range s.peers {
			if name != actor {
				others = append(others, name)
			}
		}
		slices.Sort(others)
		for _, name := range append([]string{actor}, others...) {
			if s.peers[name] == nil {
				continue // has hung up
			}
			if err := s.hears(name, want[name]); err != nil {
				s.t.Fatalf("after %s\n%s: %v", line, name, err)
			}
			delete(want, name)
		}
		if len(want) > 0 {
			s.t.Fatalf("after %s: nobody is called %v", line, want)
		}
	}
}

// becomes gives the realm another configuration while the gateway runs, as an
// operator does: the file is written and the gateway told to read it.
func (s *stage) becomes(config string) {
	old := *s.script
	s.script.config = strings.TrimSuffix(strings.TrimPrefix(config, "{"), "}")
	s.g.reload(old.yaml(), s.script.yaml())
}

// do does what one line says, and returns who did it.
func (s *stage) do(line string) (actor string) {
	actor, what, _ := strings.Cut(line, " ")
	p := s.peers[actor]
	if p == nil {
		p = open(s.t, s.g, s.transport, s.codec)
		s.peers[actor] = p
	}
	switch text, isMessage := strings.CutPrefix(what, "-> "); {
	case isMessage:
		v, err := parse(text)
		if err == nil {
			v, err = s.names.fill(v)
		}
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		p.say(v)
	case what == "gone":
		if err := p.link.hangUp(); err != nil {
			s.t.Fatal(err)
		}
		for { // to its end: the router has noticed
			if _, err := p.hear(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
		}
		delete(s.peers, actor)
	case what == "joins" || strings.HasPrefix(what, "joins "):
		roles := strings.TrimPrefix(strings.TrimPrefix(what, "joins"), " ")
		if roles == "" {
			roles = allRoles
		}
		p.send(fmt.Sprintf(`[1,%q,{"roles":%s}]`, s.names["realm"], roles))
		s.names[actor] = p.expect(`[2,$session,{"roles":{"...":0},"...":0}]`)["session"]
	default:
		s.t.Fatalf("%q is not understood", line)
	}
	return actor
}

// hears checks what somebody hears because of a step.
func (s *stage) hears(name string, want []string) error {
	p := s.peers[name]
	for _, text := range want {
		got, err := p.hear()
		if text == "end" {
			if err != io.EOF {
				return fmt.Errorf("heard %s, %v; want the end", show(got), err)
			}
			delete(s.peers, name)
			continue
		}
		if err != nil {
			return fmt.Errorf("heard %w, want %s", err, text)
		}
		pattern, err := parse(text)
		if err != nil {
			return err
		}
		if !s.names.match(pattern, got) {
			return fmt.Errorf("heard %s\nwant  %s", show(got), text)
		}
	}
	if s.gapless || !p.inside {
		return nil
	}
	return p.quiet()
}
