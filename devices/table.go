package devices

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Table is the explicit list of drivers that a gateway has.
type Table struct {
	drivers []Driver
	byType  map[string]*Driver
}

// valueTypes are what a Reading or an Arg may have as Type.
var valueTypes = []string{"float", "int", "bool", "string", "bytes", "dict"}

// NewTable makes a table of drivers in the given order. The error names every
// type that is there twice and every row that lacks something.
func NewTable(drivers ...Driver) (*Table, error) {
	t := &Table{drivers: slices.Clone(drivers), byType: make(map[string]*Driver, len(drivers))}
	var errs []error
	for i := range t.drivers {
		d := &t.drivers[i]
		for _, problem := range rowProblems(d) {
			errs = append(errs, fmt.Errorf("driver %q (row %d): %s", d.Type, i, problem))
		}
		if t.byType[d.Type] != nil {
			errs = append(errs, fmt.Errorf("driver %q (row %d): the type is there already", d.Type, i))
		}
		t.byType[d.Type] = d
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

// Driver returns the driver of a type, nil when there is none.
func (t *Table) Driver(typ string) *Driver { return t.byType[typ] }

// Drivers returns all drivers in their order.
func (t *Table) Drivers() []Driver { return slices.Clone(t.drivers) }

// Types returns the names of all drivers in their order.
func (t *Table) Types() []string {
	types := make([]string, len(t.drivers))
	for i := range t.drivers {
		types[i] = t.drivers[i].Type
	}
	return types
}

func rowProblems(d *Driver) []string {
	var problems []string
	check := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, problem)
		}
	}
	check(d.Type != "" && strings.Trim(d.Type, "abcdefghijklmnopqrstuvwxyz0123456789-") == "",
		"the type must be of a-z, 0-9 and -")
	check(d.Summary != "", "no summary")
	check(d.Doc != "", "no doc")
	check(d.Example != "", "no example")
	check(d.Open != nil, "no Open")
	if d.NewParams == nil {
		problems = append(problems, "no NewParams")
	} else {
		problems = append(problems, paramProblems(d.NewParams())...)
	}
	problems = append(problems, faceProblems(d.Readings, d.Procedures)...)
	for _, p := range d.Procedures {
		check(p.Call == nil, fmt.Sprintf("procedure %q has a Call, which belongs to an opened device", p.Name))
	}
	return problems
}

// paramProblems checks that params is a pointer to a struct whose fields all
// carry what the config decoder and the reference page need.
func paramProblems(params any) []string {
	v := reflect.ValueOf(params)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return []string{fmt.Sprintf("NewParams returns %T, not a pointer to a struct", params)}
	}
	var problems []string
	walkParams(v.Elem(), func(p param) {
		switch {
		case p.Key == "":
			problems = append(problems, fmt.Sprintf("parameter field %s has no yaml tag", p.Path))
		case p.Doc == "":
			problems = append(problems, fmt.Sprintf("parameter %q has no doc tag", p.Path))
		case p.Path == "name" || p.Path == "type" || p.Path == "control" || p.Path == "readings" || p.Path == "sim":
			problems = append(problems, fmt.Sprintf("parameter %q is a key of every device", p.Path))
		}
	})
	return problems
}

// faceProblems checks what a device shows: its readings and procedures.
func faceProblems(readings []Reading, procedures []Procedure) []string {
	var problems []string
	seen := map[string]bool{"status": true}
	for _, r := range readings {
		if p := NameProblem(r.Name); p != "" {
			problems = append(problems, "reading's name: "+p)
		} else if seen[r.Name] {
			problems = append(problems, fmt.Sprintf("reading %q is there twice, or is the host's own", r.Name))
		}
		seen[r.Name] = true
		if !slices.Contains(valueTypes, r.Type) {
			problems = append(problems, fmt.Sprintf("reading %q has the unknown type %q", r.Name, r.Type))
		}
	}
	seen = map[string]bool{"describe": true, "get": true, "status": true, "renew": true, "release": true}
	for _, p := range procedures {
		if problem := NameProblem(p.Name); problem != "" {
			problems = append(problems, "procedure's name: "+problem)
		} else if seen[p.Name] {
			problems = append(problems, fmt.Sprintf("procedure %q is there twice, or is the host's own", p.Name))
		}
		seen[p.Name] = true
		args := map[string]bool{}
		for _, a := range p.Args {
			if a.Name == "" || args[a.Name] || !slices.Contains(valueTypes, a.Type) {
				problems = append(problems, fmt.Sprintf("procedure %q: argument %q of type %q is malformed or there twice", p.Name, a.Name, a.Type))
			}
			args[a.Name] = true
		}
	}
	return problems
}
