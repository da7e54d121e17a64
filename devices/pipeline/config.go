package pipeline

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Config says what becomes of the values of one reading, in the order of the
// stages (see the package).
type Config struct {
	Polynomial []float64 `yaml:"polynomial" doc:"calibration: c0 + c1·x + c2·x² …, at most 8 coefficients, the constant first"`
	Table      []Point   `yaml:"table" doc:"calibration: points of a curve, 2 to 256 with rising in; between them it is a straight line, outside of them there is no value but a fault"`
	Scale      float64   `yaml:"scale" doc:"what the value, after polynomial or table, is multiplied by"`
	Offset     float64   `yaml:"offset" doc:"what is then added"`
	Unit       string    `yaml:"unit" doc:"the unit after calibration, in UCUM (Cel, %, V); empty for the driver's"`

	Min *float64 `yaml:"min" doc:"the least value that can be right; below, the reading is a fault"`
	Max *float64 `yaml:"max" doc:"the greatest value that can be right; above, the reading is a fault"`

	Median   int           `yaml:"median" doc:"smoothing: the median of so many values, an odd number up to 99; 0 for none"`
	EMA      time.Duration `yaml:"ema" doc:"smoothing: time constant of an exponential moving average; 0s for none"`
	Decimals *int          `yaml:"decimals" doc:"digits after the point that the value is rounded to, 0 to 15"`

	Alarms []Alarm `yaml:"alarms" doc:"limits whose crossing is an event of its own, at most 16"`

	Deadband        *float64      `yaml:"deadband" doc:"a value that lies no further than this from the one published last is not published; 0 for changes only"`
	DeadbandPercent *float64      `yaml:"deadband_percent" doc:"the same in percent of the value published last; of the two, the wider counts"`
	MinPeriod       time.Duration `yaml:"min_period" doc:"the least time between two events; of the values in between the newest is published when it is over"`
	MaxPeriod       time.Duration `yaml:"max_period" doc:"the longest time without an event: then the newest value is published, again if need be; 0s for no limit"`
}

// Point is a point of a calibration curve.
type Point struct {
	In  float64 `yaml:"in" required:"true" doc:"what the driver measures"`
	Out float64 `yaml:"out" required:"true" doc:"what that is"`
}

// Alarm is a limit. Exactly one of Above and Below is given.
type Alarm struct {
	Name       string   `yaml:"name" required:"true" doc:"the alarm's name, one for each alarm of the reading: a-z, 0-9 and _"`
	Above      *float64 `yaml:"above" doc:"it is raised by a value above this"`
	Below      *float64 `yaml:"below" doc:"it is raised by a value below this"`
	Hysteresis float64  `yaml:"hysteresis" doc:"how far back from the limit the value must come before it is cleared"`
}

// The bounds of a Config.
const (
	maxCoefficients = 8
	maxPoints       = 256
	maxMedian       = 99
	maxAlarms       = 16
	maxPeriod       = 30 * 24 * time.Hour
)

// SetDefaults is called before the configuration is read.
func (c *Config) SetDefaults() { c.Scale = 1 }

// Validate reports what is wrong whatever the reading's type.
func (c *Config) Validate(report func(path, problem, hint string)) {
	if len(c.Polynomial) > 0 && len(c.Table) > 0 {
		report("table", "there is a polynomial too", "give one of the two")
	}
	if len(c.Polynomial) > maxCoefficients {
		report("polynomial", fmt.Sprintf("it has %d coefficients", len(c.Polynomial)), fmt.Sprintf("write at most %d", maxCoefficients))
	}
	if n := len(c.Table); n == 1 || n > maxPoints {
		report("table", fmt.Sprintf("it has %d points", n), fmt.Sprintf("write 2 to %d", maxPoints))
	}
	for i, p := range c.Table {
		if i > 0 && !(p.In > c.Table[i-1].In) {
			report(fmt.Sprintf("table[%d].in", i), "it is not above the one before", "sort the points by in")
		}
	}
	if c.Scale == 0 {
		report("scale", "it is 0: every value would be the offset", "write 1 for the value itself")
	}
	if c.Min != nil && c.Max != nil && !(*c.Min < *c.Max) {
		report("min", "it is not below max", "")
	}
	if c.Median != 0 && (c.Median < 3 || c.Median > maxMedian || c.Median%2 == 0) {
		report("median", fmt.Sprintf("%d is not possible", c.Median), fmt.Sprintf("write an odd number from 3 to %d", maxMedian))
	}
	if c.Decimals != nil && (*c.Decimals < 0 || *c.Decimals > 15) {
		report("decimals", fmt.Sprintf("%d is out of range", *c.Decimals), "write 0 to 15")
	}
	c.validatePublishing(report)
	c.validateAlarms(report)
	c.validateFinite(report)
}

func (c *Config) validatePublishing(report func(path, problem, hint string)) {
	for _, d := range []struct {
		key string
		v   *float64
	}{{"deadband", c.Deadband}, {"deadband_percent", c.DeadbandPercent}} {
		if d.v != nil && *d.v < 0 {
			report(d.key, "it is negative", "write 0 or more")
		}
	}
	for _, d := range []struct {
		key string
		v   time.Duration
	}{{"ema", c.EMA}, {"min_period", c.MinPeriod}, {"max_period", c.MaxPeriod}} {
		if d.v < 0 || d.v > maxPeriod {
			report(d.key, fmt.Sprintf("%v is out of range", d.v), "write 0s to 720h")
		}
	}
	if c.MaxPeriod > 0 && c.MaxPeriod < max(c.MinPeriod, 10*time.Millisecond) {
		report("max_period", fmt.Sprintf("%v is shorter than min_period or 10ms", c.MaxPeriod), "it is the longest time without an event")
	}
}

func (c *Config) validateAlarms(report func(path, problem, hint string)) {
	if len(c.Alarms) > maxAlarms {
		report("alarms", fmt.Sprintf("there are more than %d", maxAlarms), "")
	}
	seen := map[string]bool{}
	for i, a := range c.Alarms {
		path := fmt.Sprintf("alarms[%d]", i)
		switch {
		case a.Name == "" || len(a.Name) > 64 || strings.Trim(a.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
			report(path+".name", fmt.Sprintf("%q cannot be an alarm's name", a.Name), "use a-z, 0-9 and _, at most 64 of them")
		case seen[a.Name]:
			report(path+".name", fmt.Sprintf("%q is there already", a.Name), "")
		}
		seen[a.Name] = true
		if (a.Above == nil) == (a.Below == nil) {
			report(path, "it has not exactly one limit", "give above or below")
		}
		if a.Hysteresis < 0 {
			report(path+".hysteresis", "it is negative", "write 0 or more")
		}
	}
}

// validateFinite refuses what YAML can write and no value can be compared to.
func (c *Config) validateFinite(report func(path, problem, hint string)) {
	check := func(path string, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			report(path, "it is not a finite number", "")
		}
	}
	given := func(path string, v *float64) {
		if v != nil {
			check(path, *v)
		}
	}
	for i, v := range c.Polynomial {
		check(fmt.Sprintf("polynomial[%d]", i), v)
	}
	for i, p := range c.Table {
		check(fmt.Sprintf("table[%d].in", i), p.In)
		check(fmt.Sprintf("table[%d].out", i), p.Out)
	}
	check("scale", c.Scale)
	check("offset", c.Offset)
	given("min", c.Min)
	given("max", c.Max)
	given("deadband", c.Deadband)
	given("deadband_percent", c.DeadbandPercent)
	for i, a := range c.Alarms {
		given(fmt.Sprintf("alarms[%d].above", i), a.Above)
		given(fmt.Sprintf("alarms[%d].below", i), a.Below)
		check(fmt.Sprintf("alarms[%d].hysteresis", i), a.Hysteresis)
	}
}

// changes says whether the value that comes out may be another number than the
// one that went in.
func (c *Config) changes() bool {
	return len(c.Polynomial) > 0 || len(c.Table) > 0 || c.Scale != 1 || c.Offset != 0 || c.Median > 1 || c.EMA > 0 || c.Decimals != nil
}

// NumbersOnly names the first key that is given and makes sense for numbers
// only, "" when there is none.
func (c *Config) NumbersOnly() string {
	for _, k := range []struct {
		key   string
		given bool
	}{
		{"polynomial", len(c.Polynomial) > 0},
		{"table", len(c.Table) > 0},
		{"scale", c.Scale != 1},
		{"offset", c.Offset != 0},
		{"min", c.Min != nil},
		{"max", c.Max != nil},
		{"median", c.Median != 0},
		{"ema", c.EMA != 0},
		{"decimals", c.Decimals != nil},
		{"alarms", len(c.Alarms) > 0},
		{"deadband", c.Deadband != nil},
		{"deadband_percent", c.DeadbandPercent != nil},
	} {
		if k.given {
			return k.key
		}
	}
	return ""
}
