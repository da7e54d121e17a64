package serial

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parser turns a line into values, one a field.
type parser struct {
	params *Params
	find   func(line []byte, found []any) error // by format
	found  []any
	values []any
}

// newParser is for parameters that are valid.
func newParser(p *Params) (*parser, error) {
	a := &parser{params: p, found: make([]any, len(p.Fields)), values: make([]any, len(p.Fields))}
	switch p.Format {
	case formatText:
		a.values = make([]any, 1)
	case formatRegexp:
		re, err := regexp.Compile(p.Pattern)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p.Pattern, err)
		}
		a.find = byRegexp(re, p.Fields)
	case formatCSV:
		a.find = byColumn(p.Separator, p.Fields)
	case formatJSON:
		a.find = byKey(p.Fields)
	default:
		return nil, fmt.Errorf("format %q is not known", p.Format)
	}
	return a, nil
}

var (
	errNotUTF8   = errors.New("it is not UTF-8 text")
	errNoField   = errors.New("it has none of the fields")
	errNotFinite = errors.New("the device says that it has no value")
)

// parse returns a value for every field, in their order (for text the line
// alone), valid until the next call: nil where the line has none, and an error
// where the device sent NaN or an infinity. An error of parse itself means that
// the line as a whole is not to be trusted.
func (a *parser) parse(line []byte) ([]any, error) {
	if !utf8.Valid(line) {
		return nil, errNotUTF8
	}
	if a.find == nil {
		a.values[0] = string(line)
		return a.values, nil
	}
	clear(a.found)
	if err := a.find(line, a.found); err != nil {
		return nil, err
	}
	some := false
	for i := range a.params.Fields {
		f := &a.params.Fields[i]
		v, err := f.convert(a.found[i])
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		a.values[i] = v
		some = some || v != nil
	}
	if !some {
		return nil, errNoField
	}
	return a.values, nil
}

// byRegexp finds the named groups of the first match.
func byRegexp(re *regexp.Regexp, fields []Field) func([]byte, []any) error {
	index := make([]int, len(fields))
	for i := range fields {
		index[i] = re.SubexpIndex(fields[i].group())
	}
	return func(line []byte, found []any) error {
		m := re.FindSubmatchIndex(line)
		if m == nil {
			return errors.New("it does not match the pattern")
		}
		for i, g := range index {
			if g >= 0 && m[2*g] >= 0 {
				found[i] = string(line[m[2*g]:m[2*g+1]])
			}
		}
		return nil
	}
}

// byColumn splits at the separator, with CSV's quotes.
func byColumn(separator string, fields []Field) func([]byte, []any) error {
	split := func(line []byte) ([]string, error) { return strings.Fields(string(line)), nil }
	if separator != whitespace {
		c := &csvSplitter{}
		c.comma, _ = utf8.DecodeRuneInString(separator)
		split = c.split
	}
	return func(line []byte, found []any) error {
		columns, err := split(line)
		if err != nil {
			return err
		}
		for i := range fields {
			c := fields[i].Column
			if c == 0 {
				c = i + 1
			}
			if c > len(columns) {
				return fmt.Errorf("it has %d columns, field %q is in column %d", len(columns), fields[i].Name, c)
			}
			found[i] = strings.TrimSpace(columns[c-1])
		}
		return nil
	}
}

// csvSplitter uses one csv.Reader, and its buffer, for many lines: after the
// end of one it goes on with the next.
type csvSplitter struct {
	comma  rune
	source bytes.Reader
	reader *csv.Reader // nil after an error, when it may have a rest of the line
}

func (c *csvSplitter) split(line []byte) ([]string, error) {
	if c.reader == nil {
		c.reader = csv.NewReader(&c.source)
		c.reader.Comma, c.reader.FieldsPerRecord, c.reader.LazyQuotes = c.comma, -1, true
	}
	c.source.Reset(line)
	columns, err := c.reader.Read()
	if err != nil {
		c.reader = nil
		return nil, fmt.Errorf("it is not CSV: %w", err)
	}
	if _, err := c.reader.Read(); !errors.Is(err, io.EOF) {
		c.reader = nil
		return nil, errors.New("it is not one line of CSV")
	}
	return columns, nil
}

// byKey walks a JSON value.
func byKey(fields []Field) func([]byte, []any) error {
	paths := make([][]string, len(fields))
	for i := range fields {
		key := fields[i].Key
		if key == "" {
			key = fields[i].Name
		}
		paths[i] = strings.Split(key, ".")
	}
	return func(line []byte, found []any) error {
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var root any
		if err := d.Decode(&root); err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("it is not one JSON value")
		}
		for i, path := range paths {
			found[i] = walk(root, path)
		}
		return nil
	}
}

func walk(v any, path []string) any {
	for _, key := range path {
		switch node := v.(type) {
		case map[string]any:
			v = node[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

// convert makes the field's type of what was found: a string, or a value out
// of JSON. nil and the empty string are no value, except that a string may be
// empty.
func (f *Field) convert(v any) (any, error) {
	if n, ok := v.(json.Number); ok {
		v = string(n)
	}
	if b, ok := v.(bool); ok && f.kind() != "bool" {
		return nil, fmt.Errorf("want %s, have %t", f.kind(), b)
	} else if ok {
		return b, nil
	}
	s, ok := v.(string)
	switch {
	case v == nil, s == "" && ok && f.kind() != "string":
		return nil, nil
	case !ok:
		return nil, fmt.Errorf("want %s, have a list or an object", f.kind())
	}
	switch f.kind() {
	case "string":
		return s, nil
	case "bool":
		return parseBool(s)
	case "int":
		return parseInt(s)
	}
	return f.parseFloat(s)
}

func (f *Field) parseFloat(s string) (any, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, fmt.Errorf("%s is not a number", quoted(s))
	}
	if f.Scale != 0 {
		x *= f.Scale
	}
	x += f.Offset
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return errNotFinite, nil
	}
	return x, nil
}

func parseInt(s string) (any, error) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64); err == nil {
		return n, nil
	}
	// JSON writers and printf like 21.0 and 1e3; exact ones only.
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		return nil, fmt.Errorf("%s is not an integer", quoted(s))
	}
	return int64(x), nil
}

func parseBool(s string) (any, error) {
	switch strings.ToLower(s) {
	case "true", "1", "on", "yes", "t", "y":
		return true, nil
	case "false", "0", "off", "no", "f", "n":
		return false, nil
	}
	return nil, fmt.Errorf("%s is not true or false", quoted(s))
}

// quoted shortens what came from outside before it gets into an error.
func quoted(s string) string {
	const longest = 40
	if len(s) > longest {
		return strconv.Quote(s[:longest]) + "…"
	}
	return strconv.Quote(s)
}
