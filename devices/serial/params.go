package serial

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postern-iot/postern/devices"
)

// Params are the parameters of a "serial-lines".
type Params struct {
	Line      `yaml:",inline"`
	Delimiter string        `yaml:"delimiter" doc:"what ends a line: lf (a newline; a carriage return before it is taken away), crlf, cr, or the 1 to 8 bytes themselves"`
	MaxLine   int           `yaml:"max_line" doc:"the longest line, in bytes; a longer one is skipped and counted as bad"`
	Format    string        `yaml:"format" doc:"what a line is: text (published whole as the reading line), regexp, csv or json"`
	Pattern   string        `yaml:"pattern" doc:"for regexp: the expression (RE2 syntax) that finds the fields as named groups, (?P<name>…)"`
	Separator string        `yaml:"separator" doc:"for csv: the one character between columns, or whitespace for any run of spaces and tabs"`
	Fields    []Field       `yaml:"fields" doc:"the readings that are found in a line; none for text"`
	Timeout   time.Duration `yaml:"timeout" doc:"without a good line for this long the readings have no value any more; 0s for never"`
	WriteRate int           `yaml:"write_rate" doc:"writes in a second; more are refused"`
	Safe      string        `yaml:"safe" doc:"for a device that drives something: the line that is written, with the delimiter behind it, at start, before anything is accepted, when the device fails, its controller is gone (control) or the gateway stops; empty for none"`
}

// Field is one reading in a line.
type Field struct {
	Name   string  `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	Type   string  `yaml:"type" doc:"float (the default), int, bool or string"`
	Unit   string  `yaml:"unit" doc:"the unit of the value, in UCUM where it has one: Cel, %, V, hPa"`
	Doc    string  `yaml:"doc" doc:"what the reading is"`
	Column int     `yaml:"column" doc:"for csv: the column, from 1; by default that of the field in this list"`
	Group  string  `yaml:"group" doc:"for regexp: the named group; by default the field's name"`
	Key    string  `yaml:"key" doc:"for json: the path to the value, keys and list indexes joined by dots (sensors.0.temp); by default the field's name"`
	Scale  float64 `yaml:"scale" doc:"for float: what the value is multiplied by; 0 stands for 1"`
	Offset float64 `yaml:"offset" doc:"for float: what is then added"`
}

const (
	formatText   = "text"
	formatRegexp = "regexp"
	formatCSV    = "csv"
	formatJSON   = "json"

	whitespace = "whitespace"

	maxMaxLine   = 64 << 10
	maxFields    = 64
	maxWriteRate = 1000

	lineReading     = "line"
	badLinesReading = "bad_lines"
)

var (
	formats = []string{formatText, formatRegexp, formatCSV, formatJSON}
	types   = []string{"float", "int", "bool", "string"}
)

func newParams() *Params {
	return &Params{
		Line:      newLine(),
		Delimiter: "lf", MaxLine: 4096, Format: formatText, Separator: ",", WriteRate: 20,
	}
}

// delimiters are those with a name.
var delimiters = map[string]string{"lf": "\n", "crlf": "\r\n", "cr": "\r"}

func (p *Params) delimiter() []byte {
	if d, ok := delimiters[p.Delimiter]; ok {
		return []byte(d)
	}
	return []byte(p.Delimiter)
}

// Validate implements devices.Validator.
func (p *Params) Validate(report func(path, problem, hint string)) {
	p.Line.check(report)
	if n := len(p.delimiter()); n < 1 || n > 8 {
		report("delimiter", fmt.Sprintf("%q is not of 1 to 8 bytes", p.Delimiter), `write lf, crlf, cr, or the bytes; "\x03" and other escapes work in double quotes only`)
	}
	if p.MaxLine < 1 || p.MaxLine > maxMaxLine {
		report("max_line", fmt.Sprintf("%d is out of range", p.MaxLine), fmt.Sprintf("write a number from 1 to %d", maxMaxLine))
	}
	checkTimes(p.Timeout, p.WriteRate, report)
	p.checkSafe(len(p.Safe), p.MaxLine, report)
	p.validateFormat(report)
	p.validateFields(report)
}

func (p *Params) validateFormat(report func(path, problem, hint string)) {
	if !slices.Contains(formats, p.Format) {
		report("format", fmt.Sprintf("%q is not known", p.Format), "write one of "+strings.Join(formats, ", "))
		return
	}
	if p.Pattern != "" && p.Format != formatRegexp {
		report("pattern", "it is for the format regexp only", "")
	}
	switch p.Format {
	case formatRegexp:
		re, err := regexp.Compile(p.Pattern)
		if err != nil || p.Pattern == "" {
			report("pattern", fmt.Sprintf("%q is not a regular expression: %v", p.Pattern, err), `write one such as 'T=(?P<temperature>[-0-9.]+)', in single quotes`)
			return
		}
		for i := range p.Fields {
			if f := &p.Fields[i]; re.SubexpIndex(f.group()) < 0 {
				report(fmt.Sprintf("fields[%d]", i), fmt.Sprintf("the pattern has no group %q", f.group()), fmt.Sprintf("write (?P<%s>…) around the value", f.group()))
			}
		}
	case formatCSV:
		r, n := utf8.DecodeRuneInString(p.Separator)
		if p.Separator != whitespace && (n == 0 || n != len(p.Separator) || strings.ContainsRune("\"\r\n", r) || r == utf8.RuneError) {
			report("separator", fmt.Sprintf("%q is not one character", p.Separator), `write one, such as ";" or "\t", or whitespace`)
		}
	}
}

func (p *Params) validateFields(report func(path, problem, hint string)) {
	switch {
	case p.Format == formatText && len(p.Fields) > 0:
		report("fields", "the format text has none", "choose the format regexp, csv or json")
	case p.Format != formatText && len(p.Fields) == 0:
		report("fields", "there are none: nothing would be read", "list the readings, each with its name")
	case len(p.Fields) > maxFields:
		report("fields", fmt.Sprintf("there are more than %d", maxFields), "")
	}
	seen := map[string]bool{badLinesReading: true}
	for i := range p.Fields {
		f := &p.Fields[i]
		at := func(key string) string { return fmt.Sprintf("fields[%d].%s", i, key) }
		if f.Name != "" && strings.Trim(f.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(f.Name) > 64 {
			report(at("name"), fmt.Sprintf("%q cannot be a reading's name", f.Name), "use a-z, 0-9 and _, at most 64 of them")
		} else if seen[f.Name] {
			report(at("name"), fmt.Sprintf("%q is there already", f.Name), "")
		}
		seen[f.Name] = true
		if !slices.Contains(types, f.kind()) {
			report(at("type"), fmt.Sprintf("%q is not known", f.Type), "write one of "+strings.Join(types, ", "))
		} else if f.kind() != "float" && (f.Scale != 0 || f.Offset != 0) {
			report(at("type"), "scale and offset are for float only", "")
		}
		if math.IsNaN(f.Scale+f.Offset) || math.IsInf(f.Scale+f.Offset, 0) {
			report(at("scale"), "scale and offset must be finite", "")
		}
		if f.Column < 0 || f.Column > maxMaxLine {
			report(at("column"), fmt.Sprintf("%d is out of range", f.Column), "columns count from 1")
		}
		for key, set := range map[string]bool{formatCSV: f.Column != 0, formatRegexp: f.Group != "", formatJSON: f.Key != ""} {
			if set && key != p.Format {
				report(fmt.Sprintf("fields[%d]", i), fmt.Sprintf("it says where to find it in %s, but the format is %s", key, p.Format), "column is for csv, group for regexp, key for json")
			}
		}
	}
}

func (f *Field) kind() string {
	if f.Type == "" {
		return "float"
	}
	return f.Type
}

func (f *Field) group() string {
	if f.Group == "" {
		return f.Name
	}
	return f.Group
}

// readings are those of a device with these parameters.
func (p *Params) readings() []devices.Reading {
	var all []devices.Reading
	if p.Format == formatText {
		all = append(all, devices.Reading{Name: lineReading, Type: "string", Doc: "a line as received, without its delimiter"})
	}
	for i := range p.Fields {
		f := &p.Fields[i]
		doc := f.Doc
		if doc == "" {
			doc = "field " + strconv.Quote(f.Name) + " of a line"
		}
		all = append(all, devices.Reading{Name: f.Name, Type: f.kind(), Unit: f.Unit, Doc: doc})
	}
	return append(all, badLines)
}

var badLines = devices.Reading{
	Name: badLinesReading, Type: "int",
	Doc: "how many lines could not be understood since the device was configured; published when it grows, at most once a second",
}
