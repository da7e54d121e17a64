package client_test

import (
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func TestValues(t *testing.T) {
	v := client.Values{Args: wamp.List{
		int64(-3), 2.0, 2.5, "text", true,
		[]byte{1},
		nil, uint64(1 << 63),
		wamp.List{1},
		wamp.Dict{},
		"a text that is too long to be shown whole", []byte(nil), complex(1, 2),
	}}
	get := map[string]func(int) (any, error){
		"Int":   func(i int) (any, error) { return v.Int(i) },
		"Float": func(i int) (any, error) { return v.Float(i) },
		"Text":  func(i int) (any, error) { return v.Text(i) },
		"Bool":  func(i int) (any, error) { return v.Bool(i) },
		"Bytes": func(i int) (any, error) { b, err := v.Bytes(i); return len(b), err },
	}
	for _, c := range []struct {
		as    string
		i     int
		want  any
		wrong string
	}{
		{"Int", 0, int64(-3), ""},
		{"Int", 1, int64(2), ""},
		{"Int", 2, nil, "argument 2: want an integer, have the number 2.5"},
		{"Int", 7, nil, "argument 7: want an integer, have the integer 9223372036854775808"},
		{"Int", 3, nil, `argument 3: want an integer, have the string "text"`},
		{"Int", 13, nil, "argument 13 is missing: want an integer, have 13 arguments"},
		{"Int", -1, nil, "argument -1 is missing"},
		{"Float", 0, -3.0, ""},
		{"Float", 2, 2.5, ""},
		{"Float", 7, float64(1 << 63), ""},
		{"Float", 4, nil, "argument 4: want a number, have the boolean true"},
		{"Float", 6, nil, "argument 6: want a number, have null"},
		{"Text", 3, "text", ""},
		{"Text", 5, nil, "argument 5: want a string, have binary data of 1 bytes"},
		{"Text", 8, nil, "argument 8: want a string, have a list of 1"},
		{"Bool", 4, true, ""},
		{"Bool", 9, nil, "argument 9: want a boolean, have a dictionary of 0"},
		{"Bool", 10, nil, "argument 10: want a boolean, have a string of 41 bytes"},
		{"Bytes", 5, 1, ""},
		{"Bytes", 11, 0, ""},
		{"Bytes", 12, nil, "argument 12: want binary data, have a complex128"},
	} {
		got, err := get[c.as](c.i)
		if c.wrong == "" {
			if got != c.want || err != nil {
				t.Errorf("%s(%d) = %v, %v; want %v", c.as, c.i, got, err, c.want)
			}
			continue
		}
		wantURI(t, err, wamp.ErrInvalidArgument)
		wantText(t, err, c.wrong)
	}
}
