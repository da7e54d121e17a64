package gpio

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// chipInfo is what a scan learned of one chip.
type chipInfo struct {
	path  string // "/dev/gpiochip0"
	name  string // "gpiochip0"
	label string
	lines []lineInfo
}

type lineInfo struct {
	name     string
	consumer string
	used     bool
	output   bool
}

// headerChips are the labels of the chips behind the 40-pin header, on which
// line n is GPIOn. They matter where the kernel gives some lines another name,
// such as ID_SDA for GPIO0, or older kernels SDA1 for GPIO2.
var headerChips = []string{"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}

// locate finds the line that a config means. pin is canonical; chip is "" for
// any, else a chip's label, its kernel name or its path. failed are chips that
// could not be read, for the error.
func locate(pin, chip string, chips []chipInfo, failed []error) (Address, error) {
	var found []Address
	var searched []string
	for _, c := range chips {
		if chip != "" && chip != c.label && chip != c.name && chip != c.path {
			continue
		}
		searched = append(searched, fmt.Sprintf("%s (%s, %d lines)", c.path, c.label, len(c.lines)))
		for i, l := range c.lines {
			if l.name != "" && l.name == pin {
				found = append(found, Address{Path: c.path, Chip: c.label, Offset: uint32(i), Name: l.name})
			}
		}
	}
	if len(found) == 0 {
		found = byOffset(pin, chip, chips)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var where []string
		for _, a := range found {
			where = append(where, fmt.Sprintf("%s (%s)", a.Path, a.Chip))
		}
		return Address{}, fmt.Errorf("find GPIO line %q: several chips have it: %s; choose one by the parameter chip", pin, strings.Join(where, ", "))
	case len(failed) > 0:
		return Address{}, fmt.Errorf("find GPIO line %q: %w", pin, failed[0])
	}
	return Address{}, notFound(pin, chip, chips, searched)
}

// byOffset is for lines without the name: GPIOn of a header chip, and n of a
// chip that the config names.
func byOffset(pin, chip string, chips []chipInfo) []Address {
	var found []Address
	for _, c := range chips {
		named := chip != "" && (chip == c.label || chip == c.name || chip == c.path)
		if chip != "" && !named {
			continue
		}
		n, isGPIO := gpioNumber(pin)
		offset, err := strconv.ParseUint(pin, 10, 32)
		switch {
		case named && err == nil:
		case isGPIO && isHeaderChip(c.label):
			offset = uint64(n)
		default:
			continue
		}
		if offset < uint64(len(c.lines)) {
			found = append(found, Address{Path: c.path, Chip: c.label, Offset: uint32(offset), Name: c.lines[offset].name})
		}
	}
	return found
}

func isHeaderChip(label string) bool {
	for _, h := range headerChips {
		if label == h {
			return true
		}
	}
	return false
}

func notFound(pin, chip string, chips []chipInfo, searched []string) error {
	sort.Strings(searched)
	switch {
	case len(chips) == 0:
		return fmt.Errorf("find GPIO line %q: this machine has no GPIO chip (searched /dev/gpiochip*); to try things out without one, set chip: sim", pin)
	case len(searched) == 0:
		var have []string
		for _, c := range chips {
			have = append(have, fmt.Sprintf("%s (%s)", c.label, c.path))
		}
		sort.Strings(have)
		return fmt.Errorf("find GPIO line %q: no chip %q; there are: %s", pin, chip, strings.Join(have, ", "))
	}
	return fmt.Errorf("find GPIO line %q: no line of that name; searched %s", pin, strings.Join(searched, ", "))
}
