package strict

import (
	"fmt"
	"reflect"
	"slices"
)

// Differences lists the paths at which two values of one type differ, as deep as
// they can be told: of a list that has become longer or shorter, the list. It
// does not look at what no key is for.
func Differences(a, b any) []string {
	var d differences
	d.compare(reflect.ValueOf(a), reflect.ValueOf(b), field{}, "")
	return d.paths
}

type differences struct{ paths []string }

func (d *differences) compare(a, b reflect.Value, f field, path string) {
	switch {
	case a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type():
		d.add(path)
		return
	case !a.IsValid():
		return
	}
	if a.Kind() == reflect.Pointer || a.Kind() == reflect.Interface {
		if a.IsNil() != b.IsNil() {
			d.add(path)
		} else if !a.IsNil() {
			d.compare(a.Elem(), b.Elem(), f, path)
		}
		return
	}
	f.typ = a.Type()
	s, known := shapeOf(a.Type(), f)
	switch {
	case known && s == shapeStruct:
		for _, sub := range directFields(a.Type()) {
			d.compare(a.FieldByIndex(sub.index), b.FieldByIndex(sub.index), sub, join(path, sub.key))
		}
	case known && s == shapeList && a.Len() == b.Len():
		for i := range a.Len() {
			d.compare(a.Index(i), b.Index(i), f.element(), fmt.Sprintf("%s[%d]", path, i))
		}
	case !reflect.DeepEqual(a.Interface(), b.Interface()) && (!known || s != shapeList || a.Len()+b.Len() > 0):
		d.add(path)
	}
}

func (d *differences) add(path string) {
	if !slices.Contains(d.paths, path) {
		d.paths = append(d.paths, path)
	}
}
