package devices

import "fmt"

// Occupation is a line of the board that a device has through its bus.
type Occupation struct {
	Claim string // as in Claimer: "gpio:GPIO10"
	As    string // "MOSI of /dev/spidev0.0"
}

// Occupier is implemented by parameter structs of devices on a bus that takes
// lines of the board's 40-pin header. Devices on one bus occupy them together;
// a device that claims one of them for itself is a config error.
type Occupier interface {
	Occupies() []Occupation
}

// alternates are the functions that the lines of a Raspberry Pi's 40-pin header
// have for the busses of the kernel: Raspberry Pi's documentation, "Alternative
// Function Assignments" (GPIO), and the README of the firmware's overlays, for
// i2c_arm, spi and spi1-3cs without parameters. Serial ports and the lines of
// 1-wire and PWM go by what the boot configuration says, and are the kernel's
// to refuse.
var alternates = map[string][]Occupation{
	"/dev/i2c-1":     {{"gpio:GPIO2", "SDA"}, {"gpio:GPIO3", "SCL"}},
	"/dev/spidev0.0": {{"gpio:GPIO10", "MOSI"}, {"gpio:GPIO9", "MISO"}, {"gpio:GPIO11", "SCLK"}, {"gpio:GPIO8", "CE0"}},
	"/dev/spidev0.1": {{"gpio:GPIO10", "MOSI"}, {"gpio:GPIO9", "MISO"}, {"gpio:GPIO11", "SCLK"}, {"gpio:GPIO7", "CE1"}},
	"/dev/spidev1.0": {{"gpio:GPIO20", "MOSI"}, {"gpio:GPIO19", "MISO"}, {"gpio:GPIO21", "SCLK"}, {"gpio:GPIO18", "CE0"}},
	"/dev/spidev1.1": {{"gpio:GPIO20", "MOSI"}, {"gpio:GPIO19", "MISO"}, {"gpio:GPIO21", "SCLK"}, {"gpio:GPIO17", "CE1"}},
	"/dev/spidev1.2": {{"gpio:GPIO20", "MOSI"}, {"gpio:GPIO19", "MISO"}, {"gpio:GPIO21", "SCLK"}, {"gpio:GPIO16", "CE2"}},
	"/dev/serial0":   {{"gpio:GPIO14", "TXD"}, {"gpio:GPIO15", "RXD"}},
}

// HeaderLines are the lines that a bus or port occupies, by its device.
func HeaderLines(node string) []Occupation {
	all := make([]Occupation, len(alternates[node]))
	for i, o := range alternates[node] {
		all[i] = Occupation{Claim: o.Claim, As: o.As + " of " + node}
	}
	return all
}

// Conflict is a piece of hardware that two devices want for themselves.
type Conflict struct {
	// Claim is the hardware, such as "gpio:GPIO17".
	Claim string
	// First and Second are indexes into the entries, First the smaller.
	First, Second int
	// Terms are those of the two when they could share it but do not agree.
	Terms [2]string
	// As says what it is to one of the two that has it through its bus: "MOSI of
	// /dev/spidev0.0".
	As [2]string
}

// Differ says how the terms differ, "" when it is not they.
func (c *Conflict) Differ() string {
	if c.Terms == [2]string{} {
		return ""
	}
	return fmt.Sprintf(", the first for %s, the second for %s", c.Terms[0], c.Terms[1])
}

// Role says what the hardware is to the first (0) or second (1) of the two,
// with a space before it, "" when it is just its own.
func (c *Conflict) Role(i int) string {
	if c.As[i] == "" {
		return ""
	}
	return " as " + c.As[i]
}

// owner is who has a claim.
type owner struct {
	entry int
	terms string // "" for one that does not share
	as    string // "" for one that has it for itself
}

// CheckClaims finds the entries whose parameters claim the same hardware
// (see Claimer, Sharer and Occupier), in the order of the entries.
func CheckClaims(entries []Entry) []Conflict {
	var found []Conflict
	owners := make(map[string]owner)
	claim := func(what string, second owner) {
		first, taken := owners[what]
		switch {
		case !taken:
			owners[what] = second
		case first.entry == second.entry, second.terms != "" && second.terms == first.terms:
		case first.as != "" && second.as != "": // two on one bus; the bus itself is another claim
		default:
			c := Conflict{Claim: what, First: first.entry, Second: second.entry, As: [2]string{first.as, second.as}}
			if second.terms != "" && first.terms != "" {
				c.Terms = [2]string{first.terms, second.terms}
			}
			found = append(found, c)
		}
	}
	for i, e := range entries {
		if c, ok := e.Params.(Claimer); ok {
			for _, what := range c.Claims() {
				claim(what, owner{entry: i})
			}
		}
		if s, ok := e.Params.(Sharer); ok {
			if what, terms := s.Shares(); what != "" {
				claim(what, owner{entry: i, terms: terms})
			}
		}
		if o, ok := e.Params.(Occupier); ok {
			for _, line := range o.Occupies() {
				claim(line.Claim, owner{entry: i, as: line.As})
			}
		}
	}
	return found
}
