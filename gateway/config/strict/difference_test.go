package strict

import (
	"reflect"
	"testing"
	"time"
)

func TestDifferences(t *testing.T) {
	type inner struct {
		Name string        `yaml:"name"`
		For  time.Duration `yaml:"for"`
	}
	type shared struct {
		Port int `yaml:"port"`
	}
	type config struct {
		Shared shared            `yaml:",inline"`
		List   []inner           `yaml:"list"`
		Words  []string          `yaml:"words"`
		Map    map[string]string `yaml:"map"`
		Level  *int              `yaml:"level"`
		More   any               `yaml:",inline"`
		Own    int               `yaml:"-"`
	}
	one, two := 1, 2
	base := func() *config {
		return &config{List: []inner{{"a", 1}, {"b", 2}}, Map: map[string]string{"k": "v"}, Level: &one, More: &inner{Name: "x"}}
	}
	for name, c := range map[string]struct {
		change func(*config)
		want   []string
	}{
		"nothing":        {func(c *config) { c.Own = 7; c.Words = []string{} }, nil},
		"a leaf":         {func(c *config) { c.List[1].For = 3 }, []string{"list[1].for"}},
		"a list":         {func(c *config) { c.List = c.List[:1] }, []string{"list"}},
		"several":        {func(c *config) { c.List[0].Name, c.Words = "z", []string{"w"} }, []string{"list[0].name", "words"}},
		"inline":         {func(c *config) { c.Shared.Port = 1 }, []string{"port"}},
		"a map":          {func(c *config) { c.Map["k"] = "w" }, []string{"map"}},
		"a pointer":      {func(c *config) { c.Level = &two }, []string{"level"}},
		"no pointer":     {func(c *config) { c.Level = nil }, []string{"level"}},
		"further keys":   {func(c *config) { c.More = &inner{Name: "y"} }, []string{"name"}},
		"of other types": {func(c *config) { c.More = &shared{} }, []string{""}},
	} {
		b := base()
		c.change(b)
		if got := Differences(base(), b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
