package serial

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// simLines plays a device that sends lines with the fields of p.
func simLines(p *Params) simulator {
	line := func(n int) string { return fmt.Sprintf("line %d", n) }
	switch p.Format {
	case formatCSV:
		line = func(n int) string { return simCSV(p, n) }
	case formatJSON:
		line = func(n int) string { return simJSON(p, n) }
	case formatRegexp:
		if re, err := syntax.Parse(p.Pattern, syntax.Perl); err == nil {
			line = func(n int) string { return simMatch(re, p.Fields, n) }
		}
	}
	return talker(func(n int) []byte { return append([]byte(line(n)), p.delimiter()...) })
}

// simValue is what the field holds in the n-th line, in the units of the line.
func (f *Field) simValue(i, n int) string {
	switch f.kind() {
	case "bool":
		return strconv.Itoa(n / 10 % 2)
	case "string":
		return "sim"
	case "int":
		return strconv.Itoa(10*(i+1) + n%10)
	}
	return strconv.FormatFloat(float64(10*(i+1))+float64(n%10)/10, 'f', 1, 64)
}

func simCSV(p *Params, n int) string {
	var columns []string
	for i := range p.Fields {
		f := &p.Fields[i]
		c := f.Column
		if c == 0 {
			c = i + 1
		}
		for len(columns) < c {
			columns = append(columns, "0")
		}
		columns[c-1] = f.simValue(i, n)
	}
	if p.Separator == whitespace {
		return strings.Join(columns, " ")
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Comma, _ = utf8.DecodeRuneInString(p.Separator)
	w.Write(columns)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// simJSON nests objects along the fields' paths; an index of a list is one of
// its keys.
func simJSON(p *Params, n int) string {
	var root any
	for i := range p.Fields {
		f := &p.Fields[i]
		key := f.Key
		if key == "" {
			key = f.Name
		}
		var leaf any = f.simValue(i, n)
		if f.kind() != "string" {
			leaf = json.Number(leaf.(string))
			if f.kind() == "bool" {
				leaf = n/10%2 == 1
			}
		}
		root = plant(root, strings.Split(key, "."), leaf)
	}
	text, err := json.Marshal(root)
	if err != nil {
		return "{}"
	}
	return string(text)
}

// plant puts a leaf at the end of a path through objects and lists.
func plant(node any, path []string, leaf any) any {
	if len(path) == 0 {
		return leaf
	}
	const longest = 64 // of a list
	if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < longest {
		list, isList := node.([]any)
		if isList || node == nil {
			for len(list) <= i {
				list = append(list, nil)
			}
			list[i] = plant(list[i], path[1:], leaf)
			return list
		}
	}
	object, ok := node.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	object[path[0]] = plant(object[path[0]], path[1:], leaf)
	return object
}

// simMatch is a line that matches an expression, with the fields' values in its
// groups as far as it allows them.
func simMatch(re *syntax.Regexp, fields []Field, n int) string {
	var b strings.Builder
	writeMatch(&b, re, fields, n)
	return b.String()
}

func writeMatch(b *strings.Builder, re *syntax.Regexp, fields []Field, n int) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(pick(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpCapture:
		if i := slices.IndexFunc(fields, func(f Field) bool { return f.group() == re.Name }); i >= 0 {
			value := fields[i].simValue(i, n)
			whole, _, _ := strings.Cut(value, ".")
			for _, v := range []string{value, whole} {
				if matchesAll(re.Sub[0], v) {
					b.WriteString(v)
					return
				}
			}
		}
		writeMatch(b, re.Sub[0], fields, n)
	case syntax.OpPlus, syntax.OpAlternate:
		writeMatch(b, re.Sub[0], fields, n)
	case syntax.OpRepeat:
		for range re.Min {
			writeMatch(b, re.Sub[0], fields, n)
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			writeMatch(b, sub, fields, n)
		}
	}
}

// pick chooses a character out of ranges.
func pick(ranges []rune) rune {
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i] <= '1' && '1' <= ranges[i+1] {
			return '1'
		}
	}
	if len(ranges) == 0 {
		return 'x'
	}
	return ranges[0]
}

func matchesAll(re *syntax.Regexp, s string) bool {
	whole, err := regexp.Compile("^(?:" + re.String() + ")$")
	return err == nil && whole.MatchString(s)
}
