package gpio

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Chip is what Scan learned of one chip.
type Chip struct {
	Path  string // "/dev/gpiochip0"
	Name  string // "gpiochip0"
	Label string
	Lines []LineInfo // by their offset
}

// LineInfo is what the kernel tells of a line that is not one's own.
type LineInfo struct {
	Name     string
	Consumer string // who holds it, as far as they gave a name
	Used     bool
	Output   bool
}

// Header says whether it is the chip behind a Raspberry Pi's 40-pin header.
func (c *Chip) Header() bool { return isHeaderChip(c.Label) }

// Locate finds a line among chips, as Open does: pin and chip are as in a
// device's parameters.
func Locate(pin, chip string, chips []Chip) (Address, error) {
	name, err := canonical(pin, chip)
	if err != nil {
		return Address{}, err
	}
	return locate(name, chip, chips, nil)
}

// HeaderPin is where a line is on the 40-pin header, such as "P1-11" for
// "GPIO17"; "" for one that is not there.
func HeaderPin(name string) string {
	n, ok := gpioNumber(name)
	if !ok {
		return ""
	}
	for i, g := range header {
		if i > 0 && int(g) == n {
			return "P1-" + strconv.Itoa(i)
		}
	}
	return ""
}

// headerChips are the labels of the chips behind the 40-pin header, on which
// line n is GPIOn. They matter where the kernel gives some lines another name,
// such as ID_SDA for GPIO0, or older kernels SDA1 for GPIO2.
var headerChips = []string{"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}

// locate finds the line that a config means. pin is canonical; chip is "" for
// any, else a chip's label, its kernel name or its path. failed are chips that
// could not be read, for the error.
func locate(pin, chip string, chips []Chip, failed []error) (Address, error) {
	var found []Address
	var searched []string
	for _, c := range chips {
		if chip != "" && chip != c.Label && chip != c.Name && chip != c.Path {
			continue
		}
		searched = append(searched, fmt.Sprintf("%s (%s, %d lines)", c.Path, c.Label, len(c.Lines)))
		for i, l := range c.Lines {
			if l.Name != "" && l.Name == pin {
				found = append(found, Address{Path: c.Path, Chip: c.Label, Offset: uint32(i), Name: l.Name})
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
func byOffset(pin, chip string, chips []Chip) []Address {
	var found []Address
	for _, c := range chips {
		named := chip != "" && (chip == c.Label || chip == c.Name || chip == c.Path)
		if chip != "" && !named {
			continue
		}
		n, isGPIO := gpioNumber(pin)
		offset, err := strconv.ParseUint(pin, 10, 32)
		switch {
		case named && err == nil:
		case isGPIO && isHeaderChip(c.Label):
			offset = uint64(n)
		default:
			continue
		}
		if offset < uint64(len(c.Lines)) {
			found = append(found, Address{Path: c.Path, Chip: c.Label, Offset: uint32(offset), Name: c.Lines[offset].Name})
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

func notFound(pin, chip string, chips []Chip, searched []string) error {
	sort.Strings(searched)
	switch {
	case len(chips) == 0:
		return fmt.Errorf("find GPIO line %q: this machine has no GPIO chip (searched /dev/gpiochip*); to try things out without one, set chip: sim", pin)
	case len(searched) == 0:
		var have []string
		for _, c := range chips {
			have = append(have, fmt.Sprintf("%s (%s)", c.Label, c.Path))
		}
		sort.Strings(have)
		return fmt.Errorf("find GPIO line %q: no chip %q; there are: %s", pin, chip, strings.Join(have, ", "))
	}
	return fmt.Errorf("find GPIO line %q: no line of that name; searched %s", pin, strings.Join(searched, ", "))
}
