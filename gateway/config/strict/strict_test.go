package strict

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// plant is a config with every kind of value.
type plant struct {
	Name    string            `yaml:"name" doc:"the plant's name" required:"true" example:"north"`
	Host    string            `yaml:"host" expand:"true"`
	Secret  string            `yaml:"password" secret:"true"`
	On      bool              `yaml:"on_grid"`
	Pumps   int               `yaml:"pumps" min:"0" max:"12"`
	Port    uint16            `yaml:"port"`
	Level   float64           `yaml:"level" min:"0" max:"1"`
	Every   time.Duration     `yaml:"every" min:"10ms"`
	Memory  int64             `yaml:"memory" unit:"bytes" max:"1GiB"`
	Mode    fs.FileMode       `yaml:"mode"`
	URL     *url.URL          `yaml:"url"`
	Match   *regexp.Regexp    `yaml:"match"`
	Colour  string            `yaml:"colour" enum:"red,green,blue"`
	Listen  []string          `yaml:"listen" single:"true"`
	Tanks   []tank            `yaml:"tanks"`
	Labels  map[string]string `yaml:"labels"`
	Any     any               `yaml:"anything"`
	Codec   codecSpec         `yaml:"codec"`
	Devices []device          `yaml:"devices"`
	Hidden  string            `yaml:"-"`
}

type tank struct {
	Low  int    `yaml:"low"`
	High int    `yaml:"high"`
	Unit string `yaml:"unit"`
}

func (t *tank) SetDefaults() { t.Unit = "l" }

func (t *tank) Validate(report func(path, problem, hint string)) {
	if t.Low > t.High {
		report("low", "is above high", "swap them")
	}
}

type codecSpec struct {
	Type   string `yaml:"type" short:"true" enum:"json,text"`
	Indent int    `yaml:"indent"`
}

type device struct {
	Name   string `yaml:"name" required:"true"`
	Type   string `yaml:"type" required:"true"`
	Params any    `yaml:",inline"`
}

type relay struct {
	Pin  string `yaml:"pin" required:"true" example:"GPIO17"`
	Safe string `yaml:"safe" enum:"off,on"`
}

func inline(owner any) (any, *Misfit) {
	switch d := owner.(*device); d.Type {
	case "relay":
		return &relay{Safe: "off"}, nil
	case "":
		return nil, nil
	default:
		return nil, &Misfit{"type", "unknown type " + d.Type, "the types are: relay"}
	}
}

func (p *plant) check(report func(path, problem, hint string), where func(string) string) {
	pins := map[string]int{}
	for i, d := range p.Devices {
		r, ok := d.Params.(*relay)
		if !ok || r.Pin == "" {
			continue
		}
		path := "devices[" + string(rune('0'+i)) + "].pin"
		if first, taken := pins[r.Pin]; taken {
			report(path, "is taken by device "+p.Devices[first].Name+" ("+where("devices["+string(rune('0'+first))+"].pin")+")", "choose another pin")
		}
		pins[r.Pin] = i
	}
}

func decode(dir, name, text string) (*plant, error) {
	p := &plant{Host: "{hostname}", Pumps: 3, Codec: codecSpec{Type: "json", Indent: 2}}
	err := Decode(name, []byte(text), p, Options{Dir: dir, Expand: map[string]string{"hostname": "box"}, Inline: inline, Check: p.check})
	return p, err
}

func TestDecode(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := decode(dir, "good.yaml", `
x-common: &common {low: 1, high: 9}
name: north
host: gw-{hostname}
password: !file pass
on_grid: true
pumps: 0x0C
port: 65_535
level: 1
every: 1m30s
memory: 1.5KiB
mode: 0640
url: tcp://10.0.0.1:1883
match: "^a+$"
colour: green
listen: 127.0.0.1:80
tanks:
  - <<: *common
    high: 10
  - {low: 2, high: 2, unit: gal}
labels: {a: b, "c d": "1"}
anything:
  list: [1, 2.5, x, null, true]
  text: |
    two
    lines
codec: text
devices:
- {name: r, type: relay, pin: GPIO4}
- name: s
  safe: on
  pin: GPIO5
  type: relay
`)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("tcp://10.0.0.1:1883")
	want := &plant{
		Name: "north", Host: "gw-box", Secret: "s3cret", On: true, Pumps: 12, Port: 65535, Level: 1, Every: 90 * time.Second,
		Memory: 1536, Mode: 0o640, URL: u, Match: regexp.MustCompile("^a+$"), Colour: "green", Listen: []string{"127.0.0.1:80"},
		Tanks:  []tank{{1, 10, "l"}, {2, 2, "gal"}},
		Labels: map[string]string{"a": "b", "c d": "1"},
		Any:    map[string]any{"list": []any{int64(1), 2.5, "x", nil, true}, "text": "two\nlines\n"},
		Codec:  codecSpec{"text", 2},
		Devices: []device{
			{"r", "relay", &relay{"GPIO4", "off"}}, {"s", "relay", &relay{"GPIO5", "on"}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyFileKeepsDefaults(t *testing.T) {
	for _, text := range []string{"name: n", "---\nname: n\n...\n", "\ufeffname: n\n", "name: n\ntanks:\ncodec:\r\n"} {
		got, err := decode("", "f", text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got.Host != "box" || got.Pumps != 3 || got.Codec.Indent != 2 {
			t.Errorf("%q: defaults are lost: %+v", text, got)
		}
	}
}

// TestProblems decodes every testdata/*.yaml and compares what is said of it
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
			_, err = decode("testdata", filepath.Base(file), string(text))
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("want Problems, have %v", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := ps.Error() + "\n"; got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("open", "x", 0o644)
	write("group-writes", "x", 0o660)
	write("group", "x", 0o640)
	write("empty", "\n", 0o600)
	write("large", strings.Repeat("x", maxSecret+1), 0o600)
	for name, want := range map[string]string{
		"open": "mode 0644", "group-writes": "mode 0660", "empty": "is empty", "large": "more than", "absent": "cannot be read",
		".": "no plain file", "group": "", filepath.Join(dir, "group"): "",
	} {
		_, err := decode(dir, "f", "name: n\npassword: !file "+name+"\n")
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q in the error, have %v", name, want, err)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	for _, text := range []string{
		"name: n\npassword: [hunter2]\n", "name: n\npassword: 12345\n", "name: n\npassword: {hunter2: 12345}\n",
		"{name: n, password: hunter2, pumps: x}\n", "name: n\npassword: \"hunter2\n", "name: n\n\"password\": hunter2: 12345\n",
		"name: n\npassword: hunter2\npassword: hunter2\n", "password: hunter2\n\tname: n\n",
	} {
		_, err := decode("", "f", text)
		if err == nil {
			t.Errorf("%q: no error", text)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "12345") {
			t.Errorf("%q: the secret is shown:\n%v", text, err)
		}
	}
}

func TestBounds(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 10), ",") + "]\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"billion laughs": {"name: n\nanything:\n  " + strings.ReplaceAll(bomb, "\n", "\n  "), "more than 100000 values"},
		"merges":         {"name: n\nanything:\n  a: &a {x: 1}\n  b: &b {<<: [" + strings.Repeat("*a,", 300) + "*a]}\n  c: &c {<<: [" + strings.Repeat("*b,", 400) + "*b]}\n  d: {<<: [" + strings.Repeat("*c,", 400) + "*c]}\n", "more than 100000 values"},
		"self":           {"name: n\nanything: &a [*a]\n", "contains itself"},
		"deep flow":      {"name: n\nanything: " + strings.Repeat("[", 1000), "deeper than"},
		"deep block":     {"name: n\nanything:\n" + strings.Repeat("- ", 1000) + "x", "deeper than"},
		"deep keys":      {strings.Repeat("? ", 10000), "deeper than"},
		"deep maps":      {deepMaps(100), "deeper than"},
		"tags":           {"name: " + strings.Repeat("!t ", 10000) + "x", "deeper than"},
		"size":           {strings.Repeat("# x\n", MaxSize/4+1), "at most"},
		"lines":          {strings.Repeat("\n", MaxLines), "more than 10000 lines"},
		"blank block":    {"a: |\n  " + strings.Repeat("\n", MaxLines-2), "unknown key"},
		"tokens":         {"name: " + strings.Repeat("%", MaxSize-10), "more than 50000 words"},
		"long text":      {"name: \"" + strings.Repeat("x", MaxSize-10), "close the quote"},
		"many problems":  {"name: n\nanything: 1\n" + manyKeys(5000), "… and 950 more"},
	} {
		_, err := decode("", "f", c.text)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q in:\n%.400s", name, c.want, err.Error())
		}
	}
}

func deepMaps(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := decode("testdata", "f", text)
		if err == nil {
			return
		}
		var ps Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("not Problems: %v", err)
		}
		lines := strings.Count(text, "\n") + 1
		for _, p := range ps {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" {
				t.Fatalf("%+v in a file of %d lines", p, lines)
			}
		}
		_ = ps.Error()
	})
}

func TestWriteYAMLGivesTheSameBack(t *testing.T) {
	u, _ := url.Parse("tcp://h:1")
	want := &plant{
		Name: "true", Host: "h", Secret: "a: b", On: true, Pumps: 3, Level: 0.25, Every: time.Hour, Memory: 3 << 20, Mode: 0o640, URL: u,
		Match: regexp.MustCompile(`\d"`), Colour: "red", Listen: []string{"a", "1"}, Tanks: []tank{{1, 2, "l"}, {3, 4, "*"}},
		Labels: map[string]string{"x y": "z", "a": "- b"}, Any: map[string]any{"k": []any{int64(1), "2"}}, Codec: codecSpec{"text", 1},
		Devices: []device{{Name: "r", Type: "none"}},
	}
	var b strings.Builder
	if err := WriteYAML(&b, want); err != nil {
		t.Fatal(err)
	}
	got := &plant{}
	opts := Options{Inline: func(any) (any, *Misfit) { return nil, nil }}
	if err := Decode("written.yaml", []byte(b.String()), got, opts); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	got.Match, want.Match = nil, nil // a compiled expression compares by its program's pointers
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, want, b.String())
	}
}
