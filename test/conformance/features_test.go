package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// welcomed is what a gateway announces to its clients, as "role.feature".
func welcomed(tb testing.TB, g *gateway) []string {
	tb.Helper()
	p := open(tb, g, "rawsocket", codec.JSON)
	p.send(fmt.Sprintf(`[1,"realm1",{"roles":%s}]`, allRoles))
	n := p.expect(`[2,$_,{"roles":$roles,"...":0}]`)
	roles, _ := n["roles"].(map[string]any)
	var out []string
	for role, details := range roles {
		dict, ok := details.(map[string]any)
		if !ok {
			tb.Fatalf("WELCOME's role %s is %v, want a dictionary", role, details)
		}
		for feature, there := range wamp.AsDict(dict, "features") {
			if there == true {
				out = append(out, role+"."+feature)
			}
		}
	}
	slices.Sort(out)
	return out
}

// byConfiguration are features that only some realms announce.
var byConfiguration = []string{"dealer.call_trustlevels", "broker.publication_trustlevels", "broker.event_history"}

// applies reports whether all that a conversation is about is announced.
func (s *script) applies(announced []string) bool {
	return !slices.ContainsFunc(s.features, func(f string) bool {
		return !slices.Contains(announced, f) && !slices.Contains(byConfiguration, f)
	})
}

// TestFeatures holds what WELCOME announces against the conversations: each
// feature has one, and each role is there as a dictionary.
func TestFeatures(t *testing.T) {
	announced := welcomed(t, run(t, config(nil)))
	tested := map[string]bool{}
	for _, s := range scripts(t) {
		for _, f := range s.features {
			tested[f] = true
		}
		if !s.applies(announced) {
			t.Logf("not announced, and not tried: %s (%s)", s.name, strings.Join(s.features, ", "))
		}
	}
	for _, f := range byConfiguration {
		if slices.Contains(announced, f) {
			t.Errorf("%s is announced by a realm whose configuration has nothing of it", f)
		}
		if !tested[f] {
			t.Errorf("no conversation in testdata shows %s", f)
		}
	}
	for _, f := range announced {
		if !tested[f] {
			t.Errorf("%s is announced, and no conversation in testdata shows it", f)
		}
	}
	t.Logf("announced: %s", strings.Join(announced, " "))
}

// TestRules holds the list of rules against what shows them.
func TestRules(t *testing.T) {
	shown := map[int][]string{}
	for _, s := range scripts(t) {
		for _, r := range s.rules {
			n, err := strconv.Atoi(r)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			shown[n] = append(shown[n], s.name)
		}
	}
	for n, test := range inGo {
		shown[n] = append(shown[n], test...)
	}
	for n := range shown {
		if rules[n] == "" {
			t.Errorf("%v: there is no rule %d", shown[n], n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		if len(shown[n]) == 0 {
			t.Errorf("nothing shows rule %d: %s", n, rules[n])
		}
	}
}
