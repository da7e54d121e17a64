package strict

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// custom decodes a value with a tag of ours: !file is the only one.
func (d *decoder) custom(tag *ast.TagNode, n ast.Node, v reflect.Value, f field, path string) {
	if tag.Start.Value != "!file" {
		d.fail(tag, path, fmt.Sprintf("the tag %s is not known", tag.Start.Value), "the only one is !file path, for secrets; a text that starts with ! needs quotes")
		return
	}
	if !f.secret || v.Kind() != reflect.String {
		d.fail(tag, path, fmt.Sprintf("%s is no secret: !file has no meaning here", subject(path)), "expected "+f.describe())
		return
	}
	name, ok := text(n)
	if !ok || name == "" {
		d.fail(tag, path, "!file without a path", "write !file secrets/mqtt.pass; the path is relative to the config file")
		return
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(d.opts.Dir, name)
	}
	secret, problem, hint := readSecret(name)
	if problem != "" {
		d.fail(tag, path, problem, hint)
		return
	}
	v.SetString(secret)
}

// readSecret reads a file that only its owner, and perhaps its group, may
// read. A line end at its end is not part of the secret.
func readSecret(name string) (secret, problem, hint string) {
	file, err := os.Open(name)
	if err != nil {
		hint = "create the file, or correct the path"
		if errors.Is(err, os.ErrPermission) {
			hint = "the gateway's user must be able to read it: chgrp its group to the gateway's and chmod 0640 it"
		}
		return "", fmt.Sprintf("the secret's file cannot be read: %v", err), hint
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", fmt.Sprintf("the secret's file %q is no plain file", name), "give the path of a file that holds nothing but the secret"
	}
	if info.Mode().Perm()&0o037 != 0 {
		return "", fmt.Sprintf("the secret's file %q may be read or changed by others (mode %04o)", name, info.Mode().Perm()), "chmod 0600 " + name + " (or 0640, when its group must read it)"
	}
	b, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Sprintf("the secret's file cannot be read: %v", err), ""
	}
	secret = strings.TrimRight(string(b), "\r\n")
	switch {
	case len(b) > maxSecret:
		return "", fmt.Sprintf("the secret's file %q has more than %d bytes", name, maxSecret), "is this the right file?"
	case secret == "":
		return "", fmt.Sprintf("the secret's file %q is empty", name), "write the secret into it"
	}
	return secret, "", ""
}

// expand replaces {name} in the fields that allow it, defaults included.
func (d *decoder) expand(v reflect.Value, path string, f field) {
	walk(v, path, f, func(v reflect.Value, path string, f field) {
		if !f.expand || v.Kind() != reflect.String || !strings.Contains(v.String(), "{") {
			return
		}
		s := v.String()
		for name, value := range d.opts.Expand {
			s = strings.ReplaceAll(s, "{"+name+"}", value)
		}
		if strings.ContainsAny(s, "{}") && !d.isBad(path) {
			var names []string
			for name := range d.opts.Expand {
				names = append(names, "{"+name+"}")
			}
			slices.Sort(names)
			line, column := d.find(path)
			d.failAt(line, column, path, fmt.Sprintf("%s holds a name in braces that is not known", path), "known: "+strings.Join(names, ", "))
			return
		}
		v.SetString(s)
	})
}

// validate calls every Validator in v.
func (d *decoder) validate(v reflect.Value, path string) {
	walk(v, path, field{typ: v.Type()}, func(v reflect.Value, path string, _ field) {
		if v.Kind() != reflect.Struct || !v.CanAddr() {
			return
		}
		if val, ok := v.Addr().Interface().(Validator); ok {
			val.Validate(d.reporter(path))
		}
	})
}

// reporter makes the function that Validators report with. What lies at or
// below a problem that decoding found is not reported: it may follow from it.
func (d *decoder) reporter(base string) func(path, problem, hint string) {
	return func(path, problem, hint string) {
		full := join(base, path)
		if d.full || d.isBad(full) {
			return
		}
		line, column := d.find(full)
		if full != "" && !strings.Contains(problem, full) {
			problem = full + ": " + problem
		}
		if len(d.problems) < maxProblems {
			d.problems = append(d.problems, d.src.at(line, column, problem, hint))
		}
	}
}

// walk calls visit for every value that a file can hold, owners first.
func walk(v reflect.Value, path string, f field, visit func(reflect.Value, string, field)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), path, f, visit)
		}
		return
	}
	f.typ = v.Type()
	visit(v, path, f)
	s, ok := shapeOf(v.Type(), f)
	if !ok {
		return
	}
	switch s {
	case shapeStruct:
		for _, sub := range directFields(v.Type()) {
			walk(v.FieldByIndex(sub.index), join(path, sub.key), sub, visit)
		}
	case shapeList:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f.element(), visit)
		}
	case shapeMap:
		for _, k := range v.MapKeys() {
			// A map's values cannot be changed in place: visit a copy, and put
			// it back.
			el := reflect.New(v.Type().Elem()).Elem()
			el.Set(v.MapIndex(k))
			walk(el, join(path, k.String()), f.element(), visit)
			v.SetMapIndex(k, el)
		}
	}
}
