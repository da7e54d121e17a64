package serial

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices"
)

// lines is what a framer makes of a stream in chunks of n bytes.
func lines(stream, delimiter string, maximum, n int) (all []string, tooLong int) {
	f := framer{delimiter: []byte(delimiter), max: maximum}
	for chunk := range slices.Chunk([]byte(stream), n) {
		tooLong += f.feed(chunk, func(line []byte) { all = append(all, string(line)) })
	}
	return all, tooLong
}

func TestFramer(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name, stream, delimiter string
		want                    []string
		tooLong                 int
	}{
		{"lines", "a\nbb\n\nccc\nrest", "\n", []string{"a", "bb", "", "ccc"}, 0},
		{"as long as can be", "0123456789\nb\n", "\n", []string{"0123456789", "b"}, 0},
		{"one too long", "01234567890\nb\n", "\n", []string{"b"}, 1},
		{"much too long", long + "\nb\n" + long + long + "\nc\n", "\n", []string{"b", "c"}, 2},
		{"never ends", long + long, "\n", nil, 1},
		{"two bytes", "a\rb\r\nc\n\r\nd\r\n", "\r\n", []string{"a\rb", "c\n", "d"}, 0},
		{"two bytes, too long", long + "\r\nb\r\n", "\r\n", []string{"b"}, 1},
		{"overlapping", "aXXXbXX", "XX", []string{"a", "Xb"}, 0},
	} {
		for n := 1; n <= len(c.stream); n++ {
			have, tooLong := lines(c.stream, c.delimiter, 10, n)
			if !slices.Equal(have, c.want) || tooLong != c.tooLong {
				t.Errorf("%s, by %d: %q, %d too long", c.name, n, have, tooLong)
			}
		}
	}
}

func TestFramerKeepsNoMoreThanALine(t *testing.T) {
	f := framer{delimiter: []byte("\r\n"), max: 100}
	chunk := bytes.Repeat([]byte{'x'}, 4096)
	for range 256 {
		f.feed(chunk, func(line []byte) { t.Errorf("a line: %q", line) })
	}
	if len(f.buf) > 100+2 || cap(f.buf) > 3*4096 {
		t.Errorf("it keeps %d bytes of %d", len(f.buf), cap(f.buf))
	}
}

func FuzzFramer(f *testing.F) {
	f.Add([]byte("a\nb\nccccccccccccccc\nd"), "\n", uint8(10), uint8(3))
	f.Add([]byte("a\r\n\r\rb\r\n"), "\r\n", uint8(1), uint8(1))
	f.Add([]byte("XXXXXXX"), "XX", uint8(0), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, delimiter string, maximum, n uint8) {
		if len(delimiter) < 1 || len(delimiter) > 8 || n == 0 {
			return
		}
		have, tooLong := lines(string(stream), delimiter, int(maximum), int(n))
		parts := strings.Split(string(stream), delimiter)
		var want []string
		long := 0
		for i, p := range parts {
			switch {
			case i < len(parts)-1 && len(p) <= int(maximum):
				want = append(want, p)
			case i < len(parts)-1:
				long++
			}
		}
		// The last part may be called too long before it has ended.
		if last := len(parts[len(parts)-1]); !slices.Equal(have, want) || tooLong < long || tooLong > long+1 || tooLong > long && last <= int(maximum) {
			t.Errorf("%q by %d at %q: %q, %d too long; want %q, %d", stream, n, delimiter, have, tooLong, want, long)
		}
	})
}

func textParams() Params { return *newParams() }

func with(format string, fields ...Field) Params {
	p := *newParams()
	p.Port, p.Format, p.Fields = "/dev/ttyUSB0", format, fields
	return p
}

func TestParse(t *testing.T) {
	weather := with(formatCSV, Field{Name: "temperature"}, Field{Name: "humidity", Type: "int", Column: 3}, Field{Name: "station", Type: "string", Column: 2})
	scaled := with(formatCSV, Field{Name: "celsius", Scale: 0.5, Offset: -40})
	spaces := with(formatCSV, Field{Name: "a"}, Field{Name: "open", Type: "bool"})
	spaces.Separator = whitespace
	semicolon := with(formatCSV, Field{Name: "a"}, Field{Name: "b"})
	semicolon.Separator = ";"
	scale := with(formatRegexp, Field{Name: "weight", Group: "w"}, Field{Name: "stable", Type: "bool"})
	scale.Pattern = `^(?:(?P<stable>\d),)?GS,(?P<w>\S+) kg$`
	nested := with(formatJSON, Field{Name: "t", Key: "sensors.1.temp"}, Field{Name: "on", Type: "bool"}, Field{Name: "n", Type: "int"}, Field{Name: "id", Type: "string"})

	for _, c := range []struct {
		params  Params
		line    string
		want    []any
		problem string
	}{
		{textParams(), "hello, wörld\t", []any{"hello, wörld\t"}, ""},
		{textParams(), "caf\xe9", nil, "UTF-8"},

		{weather, "21.5,roof,44", []any{21.5, int64(44), "roof"}, ""},
		{weather, ` 21.5 ,"the ""old"" roof, left", 44 `, []any{21.5, int64(44), `the "old" roof, left`}, ""},
		{weather, "-1e1,,44.0,more", []any{-10.0, int64(44), ""}, ""},
		{weather, ",roof,", []any{nil, nil, "roof"}, ""},
		{weather, "nan,roof,44", []any{errNotFinite, int64(44), "roof"}, ""},
		{weather, "1e999,roof,44", []any{errNotFinite, int64(44), "roof"}, ""},
		{weather, "21.5,roof", nil, "2 columns"},
		{weather, "21.5x,roof,44", nil, `field "temperature": "21.5x" is not a number`},
		{weather, "21.5,roof,44.5", nil, `field "humidity": "44.5" is not an integer`},
		{weather, "21.5,roof,99999999999999999999", nil, "is not an integer"},
		{weather, "21.5,\"ro\nof\",44\n1,2,3", nil, "not one line"},
		{weather, "2\x001.5,roof,44", nil, "is not a number"},
		{scaled, "652", []any{286.0}, ""},
		{scaled, "", nil, "CSV"},
		{spaces, "  7\t on ", []any{7.0, true}, ""},
		{spaces, "7 maybe", nil, `"maybe" is not true or false`},
		{semicolon, "1;2", []any{1.0, 2.0}, ""},
		{semicolon, ";", nil, "none of the fields"},

		{scale, "1,GS,12.5 kg", []any{12.5, true}, ""},
		{scale, "GS,12.5 kg", []any{12.5, nil}, ""},
		{scale, "GS,heavy kg", nil, `"heavy" is not a number`},
		{scale, "ERR 5", nil, "does not match"},

		{nested, `{"sensors":[{},{"temp":-3.25}],"on":true,"n":7,"id":"x"}`, []any{-3.25, true, int64(7), "x"}, ""},
		{nested, ` {"sensors":[{"temp":1}],"on":"off","n":9007199254740993,"id":5} `, []any{nil, false, int64(9007199254740993), "5"}, ""},
		{nested, `{"n":1e3}`, []any{nil, nil, int64(1000), nil}, ""},
		{nested, `{"on":1}`, []any{nil, true, nil, nil}, ""},
		{nested, `{"n":null,"id":null}`, nil, "none of the fields"},
		{nested, `{"n":true}`, nil, "want int, have true"},
		{nested, `{"id":[1]}`, nil, "have a list or an object"},
		{nested, `{"n":1`, nil, "not JSON"},
		{nested, `{"n":1}{"n":2}`, nil, "not one JSON value"},
		{nested, `[1,2]`, nil, "none of the fields"},
		{nested, `"n"`, nil, "none of the fields"},
		{nested, strings.Repeat("[", 20_000), nil, "not JSON"},
	} {
		p := c.params
		a, err := newParser(&p)
		if err != nil {
			t.Fatal(err)
		}
		have, err := a.parse([]byte(c.line))
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) || len(err.Error()) > 200 {
				t.Errorf("%.40q: %v, %v", c.line, have, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(have, c.want) {
			t.Errorf("%q: %v, %v", c.line, have, err)
		}
	}
}

// What one line leaves behind must not show in the next.
func TestCSVLinesAreApart(t *testing.T) {
	p := with(formatCSV, Field{Name: "a"}, Field{Name: "b"})
	a, err := newParser(&p)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range []string{"1,2", "\"1,2\n3,4", "5,6", "7,8\n9,10", "11,12", "", "13,14"} {
		have, err := a.parse([]byte(line))
		if i%2 == 1 {
			if err == nil {
				t.Errorf("%q: %v", line, have)
			}
			continue
		}
		if want := "[" + strings.Replace(line, ",", " ", 1) + "]"; err != nil || fmt.Sprint(have) != want {
			t.Errorf("%q: %v, %v", line, have, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{"21.5,roof,44", `{"a":{"b":[1,2.5]},"c":true}`, "T=21.5 H=40", "\x00\xff", `"`, "1e999"} {
		f.Add([]byte(line))
	}
	fields := []Field{{Name: "a"}, {Name: "b", Type: "int"}, {Name: "c", Type: "bool"}, {Name: "d", Type: "string"}}
	var parsers []*parser
	for _, format := range formats[1:] {
		p := with(format, slices.Clone(fields)...)
		if format == formatRegexp {
			p.Pattern = `(?P<a>\S*) (?P<b>\S*)(?P<c>.*)(?P<d>)`
		}
		a, err := newParser(&p)
		if err != nil {
			f.Fatal(err)
		}
		parsers = append(parsers, a)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, a := range parsers {
			values, err := a.parse(line)
			if err != nil {
				continue
			}
			for i, v := range values {
				want := map[string]bool{"float": true, "int": true, "bool": true, "string": true}
				kind := ""
				switch v := v.(type) {
				case nil:
					continue
				case error:
					if !errors.Is(v, errNotFinite) || i != 0 {
						t.Errorf("%q: field %d: %v", line, i, v)
					}
					continue
				case float64:
					if math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%q: %v", line, v)
					}
					kind = "float"
				case int64:
					kind = "int"
				case bool:
					kind = "bool"
				case string:
					kind = "string"
				}
				if !want[kind] || kind != fields[i].kind() {
					t.Errorf("%q: field %d is %T", line, i, v)
				}
			}
		}
	})
}

func TestValidate(t *testing.T) {
	problems := func(p Params) string {
		var all []string
		p.Validate(func(path, problem, hint string) {
			if problem == "" {
				t.Errorf("%s: no problem said", path)
			}
			all = append(all, path)
		})
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		name   string
		params Params
		change func(*Params)
		want   string
	}{
		{"defaults", textParams(), func(p *Params) { p.Port = "/dev/ttyS0" }, ""},
		{"zero", Params{}, func(p *Params) {}, "baud data_bits parity stop_bits delimiter max_line write_rate format fields"},
		{"delimiters", textParams(), func(p *Params) { p.Port, p.Delimiter = "/dev/ttyS0", "123456789" }, "delimiter"},
		{"line", textParams(), func(p *Params) { p.Port, p.Baud, p.Timeout = "ttyUSB0", 9601, -1 }, "port baud timeout"},
		{"text with fields", with(formatText, Field{Name: "a"}), func(p *Params) {}, "fields"},
		{"csv without", with(formatCSV), func(p *Params) { p.Separator = ",," }, "separator fields"},
		{"csv", with(formatCSV, Field{Name: "a"}), func(p *Params) { p.Separator = "\t" }, ""},
		{"csv, quote", with(formatCSV, Field{Name: "a"}), func(p *Params) { p.Separator = `"` }, "separator"},
		{"regexp", with(formatRegexp, Field{Name: "a"}, Field{Name: "b"}), func(p *Params) { p.Pattern = "(?P<a>x)" }, "fields[1]"},
		{"regexp, broken", with(formatRegexp, Field{Name: "a"}), func(p *Params) { p.Pattern = "(" }, "pattern"},
		{"regexp, none", with(formatRegexp, Field{Name: "a"}), func(p *Params) {}, "pattern"},
		{"pattern elsewhere", with(formatJSON, Field{Name: "a"}), func(p *Params) { p.Pattern = "x" }, "pattern"},
		{"names", with(formatJSON, Field{Name: "A"}, Field{Name: "b"}, Field{Name: "b"}, Field{Name: "bad_lines"}), func(p *Params) {}, "fields[0].name fields[2].name fields[3].name"},
		{"types", with(formatJSON, Field{Name: "a", Type: "number"}, Field{Name: "b", Type: "int", Scale: 2}, Field{Name: "c", Offset: math.NaN()}), func(p *Params) {}, "fields[0].type fields[1].type fields[2].scale"},
		{"places", with(formatJSON, Field{Name: "a", Column: -1, Key: "x"}, Field{Name: "b", Group: "g"}), func(p *Params) {}, "fields[0].column fields[0] fields[1]"},
		{"many", with(formatJSON, make([]Field, 65)...), func(p *Params) {
			for i := range p.Fields {
				p.Fields[i].Name = fmt.Sprintf("f%d", i)
			}
		}, "fields"},
	} {
		c.change(&c.params)
		if have := problems(c.params); have != c.want {
			t.Errorf("%s: %q", c.name, have)
		}
	}
}

func TestTableRow(t *testing.T) {
	if _, err := devices.NewTable(Lines()); err != nil {
		t.Error(err)
	}
	p := with(formatCSV, Field{Name: "a", Unit: "V"}, Field{Name: "b", Type: "int", Doc: "the b"})
	want := []devices.Reading{{Name: "a", Type: "float", Unit: "V", Doc: `field "a" of a line`}, {Name: "b", Type: "int", Doc: "the b"}, badLines}
	if have := p.readings(); !reflect.DeepEqual(have, want) {
		t.Errorf("%+v", have)
	}
	for name, want := range map[string]string{"lf": "\n", "crlf": "\r\n", "cr": "\r", "\x03": "\x03", "END": "END"} {
		if have := (&Params{Delimiter: name}).delimiter(); string(have) != want {
			t.Errorf("delimiter %q: %q", name, have)
		}
	}
	if have := (&Params{Line: Line{Port: "/dev//ttyS0"}}).Claims(); !slices.Equal(have, []string{"serial:/dev/ttyS0"}) {
		t.Errorf("%q", have)
	}
}

func BenchmarkCSV(b *testing.B) {
	p := with(formatCSV, Field{Name: "a"}, Field{Name: "b"}, Field{Name: "c"})
	a, err := newParser(&p)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.parse([]byte("21.5,1013.25,44")); err != nil {
			b.Fatal(err)
		}
	}
}
