package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config/strict"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files, the reference and the documentation anew")

const repository = "../.."

// golden compares a generated file with the committed one.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		i := 0
		for i < min(len(a), len(b))-1 && a[i] == b[i] {
			i++
		}
		t.Errorf("%s is stale, from line %d on: renew it with 'go test ./gateway/config -rewrite'\n  is     %s\n  should %s", file, i+1, b[i], a[i])
	}
}

const referenceHead = `# Every key of the configuration, with its default. A file needs to hold only
# what differs from it. Generated: go test ./gateway/config -rewrite
#
# Secrets may be read from files that nobody else can read: !file path, relative
# to this file. Durations have a unit (500ms, 5s, 1h30m), sizes may have one
# (64KiB, 4MiB). Keys at the top that begin with x- are ignored, for anchors.

`

func TestReferenceIsTheDefaults(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	if err := strict.WriteYAML(&b, Default()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(repository, "configs/reference.yaml")
	golden(t, file, b.Bytes())
	got, err := Load(file, all.Table())
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("empty.yaml", nil, "", all.Table())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := show(got), show(want); a != b {
		t.Errorf("the reference is not the defaults:\n%s\n%s", a, b)
	}
}

// show writes a configuration so that empty and missing lists look alike.
func show(c *Config) string { return fmt.Sprintf("%+v", *c) }

const documentationHead = `<!-- Generated from the code: go test ./gateway/config -rewrite -->
# Configuration

One YAML file, given with ` + "`postern run -c FILE`" + `. It needs to hold only what differs from the defaults. ` + "`postern check -c FILE`" + `
says everything that is wrong with it at once, each with its line and what to do about it; unknown keys are errors.
[configs/reference.yaml](../configs/reference.yaml) has all keys with their defaults in one file,
[configs/examples](../configs/examples) has whole configurations, ` + "`postern init`" + ` writes one to start from.

Without a file, simulated devices run, and everybody on the machine may do everything
([configs/demo.yaml](../configs/demo.yaml)). With a file, nobody has any right that the file does not give.

* **Durations** have their unit: ` + "`500ms`, `5s`, `1h30m`" + `. **Sizes** may have one: ` + "`64KiB`, `4MiB`" + ` (of 1024), ` + "`64kB`" + ` (of 1000).
* **Secrets** are text, or ` + "`!file path`" + `: the content of a file, relative to the configuration, that nobody but its owner
  can write and nobody but its owner and group can read (mode 0600 or 0640). They are never shown or logged.
* **` + "`{hostname}`" + `** stands for the machine's name where the meaning of a key says so.
* YAML's anchors, aliases and merges (` + "`&a`, `*a`, `<<: *a`" + `) work; keys at the top that begin with ` + "`x-`" + ` are there to hold them.
* A file has at most 256 KiB, 10,000 lines, 32 levels, and 100,000 values, aliases followed.

## Keys

`

func TestDocumentationIsFresh(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(documentationHead)
	if err := strict.WriteMarkdown(&b, Default()); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(repository, "docs/configuration.md"), b.Bytes())
}

func TestDemoFileIsTheDemo(t *testing.T) {
	got, err := Load(filepath.Join(repository, "configs/demo.yaml"), all.Table())
	if err != nil {
		t.Fatal(err)
	}
	want := Demo()
	if len(got.Devices.List) != len(want.Devices.List) {
		t.Fatalf("%d devices, want %d", len(got.Devices.List), len(want.Devices.List))
	}
	for i, d := range want.Devices.List {
		if !reflect.DeepEqual(got.Devices.List[i], d) {
			t.Errorf("device %d is\n%+v %+v, want\n%+v %+v", i, got.Devices.List[i], got.Devices.List[i].Params, d, d.Params)
		}
	}
	got.Devices.List, want.Devices.List = nil, nil
	// The file goes through the expansion of {hostname}.
	fresh, err := Parse("empty.yaml", nil, "", all.Table())
	if err != nil {
		t.Fatal(err)
	}
	want.Bridge, want.Devices = fresh.Bridge, fresh.Devices
	if a, b := show(got), show(want); a != b {
		t.Errorf("the demo file is not the demo:\n%s\n%s", a, b)
	}
}

func TestExamplesParse(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "configs/examples/*.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatal("no examples", err)
	}
	files = append(files, filepath.Join(repository, "cmd/postern/starter.yaml"))
	for _, file := range files {
		if _, err := Load(file, all.Table()); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// TestDriverExamplesParse reads the example of every driver as a device.
func TestDriverExamplesParse(t *testing.T) {
	for _, d := range all.Table().Drivers() {
		text, lead := "devices:\n  list:\n", "    - "
		for line := range strings.Lines(strings.TrimSpace(d.Example) + "\n") {
			text += lead + line
			lead = "      "
		}
		cfg, err := Parse(d.Type+".yaml", []byte(text), "", all.Table())
		if err != nil {
			t.Errorf("the example of %s:\n%v", d.Type, err)
			continue
		}
		// It can be tried on a laptop.
		e := cfg.Devices.List[0]
		e.Params.(devices.Simulator).Simulate()
		if _, err := d.Open(devices.Env{Name: e.Name}, e.Params); err != nil {
			t.Errorf("the example of %s, simulated: %v", d.Type, err)
		}
	}
}

// TestProblems parses every testdata/*.yaml and compares what is said of it
// with the .txt file beside it.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), text, "testdata", all.Table())
			var ps strict.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("want Problems, have %v", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(ps.Error()+"\n"))
		})
	}
}

func TestLoadSaysWhatIsWrongWithTheFile(t *testing.T) {
	for path, want := range map[string]string{"testdata/none.yaml": "no such file", "testdata": "is a folder"} {
		if _, err := Load(path, all.Table()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q in the error, have %v", path, want, err)
		}
	}
}

func TestAnonymousRights(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
	}{
		{"nothing said", "", ""},
		{"full on loopback", "realms: [{name: realm1, anonymous: full}]", ""},
		{"full for all networks", "realms: [{name: realm1, anonymous: full}]\nlisten: {http: '0.0.0.0:8080'}", "everybody who reaches 0.0.0.0:8080"},
		{"IPv6", "realms: [{name: realm1, anonymous: full}]\nlisten: {rawsocket: '[::]:8081'}", "everybody who reaches [::]:8081"},
		{"a name", "realms: [{name: realm1, anonymous: full}]\nlisten: {http: 'gateway.lan:8080'}", "everybody"},
		{"meant", "realms: [{name: realm1, anonymous: full}]\nlisten: {http: '0.0.0.0:8080', allow_anonymous_remote: true}", ""},
		{"nobody", "listen: {http: '0.0.0.0:8080'}", ""},
		{"IPv6 loopback", "realms: [{name: realm1, anonymous: full}]\nlisten: {http: '[::1]:8080'}", ""},
	} {
		_, err := Parse("f.yaml", []byte(c.text), "", all.Table())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: want %q, have %v", c.name, c.want, err)
		}
	}
	if def := Default(); def.Router.Realms[0].Anonymous != "" {
		t.Error("anonymous sessions have rights without a file saying so")
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	examples, _ := filepath.Glob(filepath.Join(repository, "configs/*/*.yaml"))
	for _, file := range append(files, examples...) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	drivers := all.Table()
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Parse("f", []byte(text), "testdata", drivers)
		var ps strict.Problems
		if err != nil && (!errors.As(err, &ps) || len(ps) == 0 || cfg != nil) {
			t.Fatalf("not Problems: %v", err)
		}
		for _, p := range ps {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Fatalf("%+v", p)
			}
		}
	})
}
