package all

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/pipeline"
)

// field is a key of a device's parameters.
type field struct {
	key, least string // the tags yaml and min
	value      reflect.Value
}

// fields are those of a struct, with those that are inline.
func fields(v reflect.Value) []field {
	var all []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, inline, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case inline == "inline":
			all = append(all, fields(v.Field(i))...)
		case key != "" && key != "-":
			all = append(all, field{key, f.Tag.Get("min"), v.Field(i)})
		}
	}
	return all
}

// Whoever knows one driver knows how all are told when to measure and what to
// publish: the time between two measurements is interval in each that polls,
// and what becomes of a value is in readings, for none in its parameters.
func TestIntervals(t *testing.T) {
	host := fields(reflect.ValueOf(new(pipeline.Config)).Elem())
	polled := 0
	for _, d := range Table().Drivers() {
		params := d.NewParams()
		all := fields(reflect.ValueOf(params).Elem())
		for _, f := range all {
			switch f.key {
			case "poll", "every", "poll_interval", "deadband", "min_period", "max_period", "median", "alarms":
				t.Errorf("%s: the key %s", d.Type, f.key)
			}
			if f.key != "interval" {
				continue
			}
			polled++
			every, ok := f.value.Interface().(time.Duration)
			if !ok || every <= 0 {
				t.Errorf("%s: interval is %v by default", d.Type, f.value)
				continue
			}
			f.value.SetInt(int64(-time.Second))
			var said []string
			if v, ok := params.(devices.Validator); ok {
				v.Validate(func(path, _, _ string) { said = append(said, path) })
			}
			if f.least == "" && !slices.Contains(said, "interval") {
				t.Errorf("%s: an interval of -1s is no problem", d.Type)
			}
		}
	}
	if polled < 15 {
		t.Errorf("%d drivers have an interval", polled)
	}
	for _, key := range []string{"deadband", "min_period", "max_period"} {
		if !slices.ContainsFunc(host, func(f field) bool { return f.key == key }) {
			t.Errorf("readings have no %s", key)
		}
	}
}
