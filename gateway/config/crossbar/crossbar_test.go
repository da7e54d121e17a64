package crossbar_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/gateway/config/crossbar"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// TestSite translates a node with everything in it: what comes out is golden,
// is a sound configuration, and names what is missing.
func TestSite(t *testing.T) {
	in, err := os.ReadFile("testdata/site.json")
	if err != nil {
		t.Fatal(err)
	}
	out, notes, err := crossbar.Translate(in)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/site.yaml"
	if *rewrite {
		if err := os.WriteFile(golden, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != string(want) {
		t.Errorf("the translation differs from %s (-rewrite renews it):\n%s", golden, out)
	}
	var all string
	for _, n := range notes {
		all += n.String() + "\n"
	}
	for _, place := range []string{
		"workers[0].components", "workers[1]", "workers[0].transports[2]",
		"paths./", "dhparam", "pete", "authenticator-realm",
	} {
		if !strings.Contains(all, place) {
			t.Errorf("nothing is said of %s:\n%s", place, all)
		}
		if !strings.Contains(string(out), place) {
			t.Errorf("the file itself says nothing of %s", place)
		}
	}
	parse(t, out)
}

func parse(t *testing.T, yaml []byte) *config.Config {
	t.Helper()
	cfg, err := config.Parse("site.yaml", yaml, ".", all.Table())
	if err != nil {
		t.Fatalf("the translation is no sound configuration: %v\n%s", err, yaml)
	}
	return cfg
}

// TestUniversal: a universal transport stays one port.
func TestUniversal(t *testing.T) {
	out, _, err := crossbar.Translate([]byte(`{"version": 2, "workers": [{"type": "router",
		"realms": [{"name": "realm1", "roles": [{"name": "anonymous", "permissions": []}]}],
		"transports": [{"type": "universal", "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": 8086},
			"rawsocket": {"serializers": ["cbor"]}, "websocket": {"ws": {"type": "websocket"}}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := parse(t, out).Listen
	if got := l.Universal.Addresses; len(got) != 1 || got[0] != "127.0.0.1:8086" || len(l.HTTP.Addresses)+len(l.RawSocket.Addresses) > 0 {
		t.Errorf("%+v\n%s", l, out)
	}
}

// TestNotANode: what is no node configuration is refused, and says why.
func TestNotANode(t *testing.T) {
	for name, in := range map[string]string{
		"not JSON": "workers: []", "no workers": `{"version": 2}`, "workers of another type": `{"workers": {}}`,
		"too large": strings.Repeat(" ", crossbar.MaxBytes+1),
	} {
		if _, _, err := crossbar.Translate([]byte(in)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzTranslate: any node configuration becomes YAML that can be read, even
// where it makes no sense.
func FuzzTranslate(f *testing.F) {
	site, err := os.ReadFile("testdata/site.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(site)
	f.Add([]byte(`{"workers":[{"type":"router","realms":[{"name":"a\nb: c","roles":[{"name":"#","permissions":[{"uri":"*"}]}]}]}]}`))
	table := all.Table()
	f.Fuzz(func(t *testing.T, in []byte) {
		out, _, err := crossbar.Translate(in)
		if err != nil {
			return
		}
		if _, err := config.Parse("fuzz.yaml", out, ".", table); err != nil && strings.Contains(err.Error(), "unknown key") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
