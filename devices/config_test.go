package devices

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string // path: part of the problem
	}{
		{"the default", func(*Config) {}, nil},
		{"hostname", func(c *Config) { c.Prefix = "site.{hostname}" }, nil},
		{"unknown variable", func(c *Config) { c.Prefix = "{host}" }, []string{"prefix: unknown variable"}},
		{"no prefix", func(c *Config) { c.Prefix = "" }, []string{"prefix: is not a URI"}},
		{"space", func(c *Config) { c.Prefix = "my device" }, []string{"prefix: is not a URI"}},
		{"reserved", func(c *Config) { c.Prefix = "wamp.device" }, []string{"prefix: is reserved"}},
		{"queue", func(c *Config) { c.Queue = 0 }, []string{"queue: out of range"}},
		{"restart", func(c *Config) { c.Restart = Restart{Min: 0, Max: -1, StableAfter: -1} }, []string{
			"restart.min: too short", "restart.max: shorter than min", "restart.stable_after: negative",
		}},
		{"names", func(c *Config) {
			c.List = []Entry{{Name: "a"}, {Name: "Boiler"}, {Name: "a"}, {Name: ""}, {Name: "x.y"}, {Name: "x-y"}, {Name: strings.Repeat("x", 65)}, {Name: "ü"}}
		}, []string{
			"list[1].name: not allowed", "list[2].name: also the name of list[0]", "list[3].name: empty", "list[4].name: not allowed",
			"list[5].name: not allowed", "list[6].name: too long", "list[7].name: not allowed",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.change(&cfg)
			var have []string
			cfg.Validate(func(path, problem, _ string) { have = append(have, path+": "+problem) })
			if len(have) != len(c.want) {
				t.Fatalf("have %q, want %q", have, c.want)
			}
			for i, w := range c.want {
				path, part, _ := strings.Cut(w, ": ")
				if !strings.HasPrefix(have[i], path+": ") || !strings.Contains(have[i], part) {
					t.Errorf("have %q, want %q", have[i], w)
				}
			}
		})
	}
}

type claims []string

func (c *claims) Claims() []string { return *c }

func TestCheckClaims(t *testing.T) {
	entries := []Entry{
		{Name: "a", Params: &claims{"gpio:GPIO17", "gpio:GPIO17"}}, // twice by one device is its own affair
		{Name: "b"},
		{Name: "c", Params: &claims{"serial:/dev/ttyUSB0", "gpio:GPIO17"}},
		{Name: "d", Params: &noParams{}},
		{Name: "e", Params: &claims{"gpio:GPIO17", "serial:/dev/ttyUSB0"}},
	}
	want := []Conflict{{Claim: "gpio:GPIO17", First: 0, Second: 2}, {Claim: "gpio:GPIO17", First: 0, Second: 4}, {Claim: "serial:/dev/ttyUSB0", First: 2, Second: 4}}
	if have := CheckClaims(entries); !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

// shares is a line and how it is set.
type shares [2]string

func (s *shares) Shares() (claim, terms string) { return s[0], s[1] }

func TestCheckShares(t *testing.T) {
	const line = "serial:/dev/ttyUSB0"
	entries := []Entry{
		{Name: "a", Params: &shares{line, "9600"}},
		{Name: "b", Params: &shares{line, "9600"}},
		{Name: "c", Params: &shares{line, "19200"}},
		{Name: "d", Params: &claims{line}},
		{Name: "e", Params: &shares{"", "9600"}},
		{Name: "f", Params: &shares{"", "19200"}},
	}
	want := []Conflict{{Claim: line, First: 0, Second: 2, Terms: [2]string{"9600", "19200"}}, {Claim: line, First: 0, Second: 3}}
	if have := CheckClaims(entries); !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

// onBus is a device on a bus, for which the header has lines.
type onBus string

func (o *onBus) Claims() []string       { return []string{"bus:" + string(*o)} }
func (o *onBus) Occupies() []Occupation { return HeaderLines(string(*o)) }

func TestCheckOccupations(t *testing.T) {
	bus := func(node string) *onBus { b := onBus(node); return &b }
	entries := []Entry{
		{Name: "a", Params: bus("/dev/spidev0.0")},
		{Name: "b", Params: bus("/dev/spidev0.1")}, // together
		{Name: "c", Params: &claims{"gpio:GPIO10"}},
		{Name: "d", Params: &claims{"gpio:GPIO3"}},
		{Name: "e", Params: bus("/dev/i2c-1")},
		{Name: "f", Params: &claims{"gpio:GPIO7", "gpio:other:GPIO8"}},
		{Name: "g", Params: bus("/dev/i2c-7")}, // not of the header
	}
	want := []Conflict{
		{Claim: "gpio:GPIO10", First: 0, Second: 2, As: [2]string{"MOSI of /dev/spidev0.0", ""}},
		{Claim: "gpio:GPIO3", First: 3, Second: 4, As: [2]string{"", "SCL of /dev/i2c-1"}},
		{Claim: "gpio:GPIO7", First: 1, Second: 5, As: [2]string{"CE1 of /dev/spidev0.1", ""}},
	}
	if have := CheckClaims(entries); !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func row(typ string) Driver {
	return Driver{
		Type: typ, Summary: "s", Doc: "d", Example: "e",
		NewParams: func() any { return &noParams{} },
		Open:      func(Env, any) (Device, error) { return &scripted{}, nil },
	}
}

func TestNewTable(t *testing.T) {
	with := func(change func(*Driver)) []Driver {
		d := row("a")
		change(&d)
		return []Driver{d}
	}
	type untagged struct{ Pin string }
	type undocumented struct {
		Pin string `yaml:"pin"`
	}
	type common struct {
		Name string `yaml:"name" doc:"x"`
	}
	for _, c := range []struct {
		name string
		rows []Driver
		want []string
	}{
		{"fine", []Driver{row("a"), row("gpio-input2")}, nil},
		{"twice", []Driver{row("a"), row("b"), row("a")}, []string{`driver "a" (row 2): the type is there already`}},
		{"type", []Driver{row("GPIO in")}, []string{"the type must be of"}},
		{"empty row", []Driver{{}}, []string{"the type must be", "no summary", "no doc", "no example", "no Open", "no NewParams"}},
		{"params by value", with(func(d *Driver) { d.NewParams = func() any { return noParams{} } }), []string{"not a pointer to a struct"}},
		{"nil params", with(func(d *Driver) { d.NewParams = func() any { return nil } }), []string{"not a pointer to a struct"}},
		{"untagged", with(func(d *Driver) { d.NewParams = func() any { return &untagged{} } }), []string{"field Pin has no yaml tag"}},
		{"undocumented", with(func(d *Driver) { d.NewParams = func() any { return &undocumented{} } }), []string{`"pin" has no doc tag`}},
		{"name", with(func(d *Driver) { d.NewParams = func() any { return &common{} } }), []string{`"name" is a key of every device`}},
		{"readings", with(func(d *Driver) {
			d.Readings = []Reading{{Name: "t", Type: "float"}, {Name: "t", Type: "float"}, {Name: "status", Type: "int"}, {Name: "T", Type: "int"}, {Name: "u", Type: "number"}}
		}), []string{`"t" is there twice`, `"status" is there twice, or is the host's own`, `"T" has a character`, `unknown type "number"`}},
		{"procedures", with(func(d *Driver) {
			d.Procedures = []Procedure{{Name: "get"}, {Name: "a b"}, {Name: "set", Call: noCall}, {Name: "x", Args: []Arg{{Name: "n", Type: "number"}}}}
		}), []string{`"get" is there twice, or is the host's own`, `"a b" has a character`, `"set" has a Call`, `argument "n" of type "number"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := NewTable(c.rows...)
			if (err == nil) != (len(c.want) == 0) || (table == nil) != (err != nil) {
				t.Fatalf("have %v, %v", table, err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("have %v, want %q", err, w)
				}
			}
		})
	}
	table, err := NewTable(row("b"), row("a"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(table.Types(), []string{"b", "a"}) || table.Driver("a").Type != "a" || table.Driver("c") != nil {
		t.Errorf("have %v", table.Types())
	}
}

func TestNewHostErrors(t *testing.T) {
	failing, crashing, clashing := row("failing"), row("crashing"), row("clashing")
	failing.Open = func(Env, any) (Device, error) { return nil, errors.New("no such bus") }
	crashing.Open = func(Env, any) (Device, error) { panic("boom") }
	clashing.Open = func(Env, any) (Device, error) {
		return &scripted{readings: []Reading{{Name: "status", Type: "int"}}}, nil
	}
	table, err := NewTable(row("fine"), failing, crashing, clashing)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Prefix = "site.{hostname}"
	cfg.List = []Entry{
		{Name: "a", Type: "fine"},
		{Name: "b", Type: "failing"},
		{Name: "c", Type: "crashing"},
		{Name: "d", Type: "clashing"},
		{Name: "e", Type: "unheard-of"},
		{Name: "f", Type: "fine", Params: &claims{"x"}},
		{Name: "g", Type: "fine", Params: &claims{"x"}},
		{Name: "a", Type: "fine"},
	}
	h, err := NewHost(cfg, table, quiet)
	if h != nil || err == nil {
		t.Fatalf("have %v, %v", h, err)
	}
	for _, w := range []string{
		"{hostname} is not replaced", `"f" and "g" both claim x`, `"a" is also the name of list[0]`,
		`device "b": no such bus`, `device "c": the driver crashed: boom`, `device "d": reading "status"`,
		`device "e": there is no driver "unheard-of"; the drivers are fine, failing`, `device "f": driver "fine" takes *devices.noParams, not *devices.claims`,
	} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in:\n%v", w, err)
		}
	}
}

type element struct {
	Unit string `yaml:"unit" doc:"the unit"`
	Type string `yaml:"type" doc:"the type"`
}

func (e *element) SetDefaults() { e.Type = "float" }

type everything struct {
	Port     string             `yaml:"port" required:"true" doc:"a | b\nc"`
	Wait     time.Duration      `yaml:"wait" doc:"how long"`
	On       bool               `yaml:"on" doc:"whether"`
	Count    uint8              `yaml:"count" doc:"how many"`
	Ratio    *float64           `yaml:"ratio" doc:"how much"`
	Words    []string           `yaml:"words" doc:"which"`
	Fields   []element          `yaml:"fields" doc:"the fields"`
	By       map[string]element `yaml:"by" doc:"by name"`
	Free     any                `yaml:"free" doc:"anything"`
	Internal int                `yaml:"-"`
	_        int
	Embedded `yaml:",inline"`
}

// Embedded is part of everything.
type Embedded struct {
	Inner int `yaml:"inner" doc:"from within"`
}

func TestReference(t *testing.T) {
	d := row("x-y")
	half := 0.5
	d.NewParams = func() any {
		return &everything{Wait: 90 * time.Minute, Count: 3, Ratio: &half, Words: []string{"a", "b"}, Embedded: Embedded{Inner: 1}}
	}
	d.Example = "name: a\ntype: x-y\n"
	d.Readings = []Reading{{Name: "t", Type: "float", Unit: "Cel", Doc: "warmth"}}
	d.Procedures = []Procedure{{Name: "set", Doc: "Sets.", Returns: "bool", Args: []Arg{{Name: "on", Type: "bool", Doc: "or off"}, {Name: "n", Type: "int", Optional: true}}}}
	table, err := NewTable(d)
	if err != nil {
		t.Fatal(err)
	}
	text := string(Reference(table))
	for _, w := range []string{
		"| [`x-y`](#x-y) | s |", "\n## x-y\n", "```yaml\n- name: a\n  type: x-y\n```",
		"| `port` | text | required | a \\| b c |", "| `wait` | duration | `1h30m` | how long |", "| `on` | true or false | `false` |",
		"| `count` | integer | `3` |", "| `ratio` | number | `0.5` |", "| `words` | list of text | `[a, b]` |",
		"| `fields` | list of mapping |  |", "| `fields[].unit` | text |  |", "| `fields[].type` | text | `float` |",
		"| `by` | mapping to mapping |  |", "| `by.*.type` | text | `float` |", "| `free` | any |  |", "| `inner` | integer | `1` |",
		"| `t` | float | Cel | warmth |", "| `set(on bool, [n int])` | bool | Sets.<br>`on`: or off |", "| `describe()` | dict |",
	} {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing", w)
		}
	}
	if strings.Contains(text, "nternal") || strings.Contains(text, "element") {
		t.Error("fields without a key are shown")
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Second: "1m30s",
		time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s", 20 * time.Hour: "20h",
	} {
		if have := shortDuration(d); have != want {
			t.Errorf("%v: have %q, want %q", d, have, want)
		}
	}
}

func ExampleCheckClaims() {
	entries := []Entry{
		{Name: "pump", Params: &claims{"gpio:GPIO17"}},
		{Name: "lamp", Params: &claims{"gpio:GPIO17"}},
	}
	for _, c := range CheckClaims(entries) {
		fmt.Println(entries[c.First].Name, "and", entries[c.Second].Name, "both want", c.Claim)
	}
	// Output: pump and lamp both want gpio:GPIO17
}
