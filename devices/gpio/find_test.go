package gpio

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		pin, chip, want, problem string
	}{
		{"GPIO17", "", "GPIO17", ""},
		{"gpio17", "", "GPIO17", ""},
		{"GPIO017", "", "GPIO17", ""},
		{"P1-11", "", "GPIO17", ""},
		{"p1-3", "", "GPIO2", ""},
		{"P1-27", "", "GPIO0", ""},
		{"P1-40", "", "GPIO21", ""},
		{"ID_SDA", "", "ID_SDA", ""},
		{"usr led", "", "usr led", ""},
		{"17", "pinctrl-bcm2711", "17", ""},
		{"GPIO99999", "", "GPIO99999", ""},
		{"17", "", "", "write GPIO17"},
		{"17", "sim", "", "write GPIO17"},
		{"", "", "", "no pin"},
		{"P1-1", "", "", "3.3 V"},
		{"P1-2", "", "", "5 V"},
		{"P1-6", "", "", "ground"},
		{"P1-0", "", "", "P1-1 to P1-40"},
		{"P1-41", "", "", "P1-1 to P1-40"},
		{"P1-x", "", "", "P1-1 to P1-40"},
	} {
		have, err := canonical(c.pin, c.chip)
		if c.problem == "" && (err != nil || have != c.want) {
			t.Errorf("%q on %q: %q, %v", c.pin, c.chip, have, err)
		}
		if c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%q on %q: %q, %v", c.pin, c.chip, have, err)
		}
	}
}

// Every GPIO of the header is there once: GPIO0 to GPIO27.
func TestHeader(t *testing.T) {
	seen := map[string]int{}
	for i := 1; i < len(header); i++ {
		if name, err := canonical(fmt.Sprintf("P1-%d", i), ""); err == nil {
			seen[name]++
		}
	}
	for i := range 28 {
		if seen[fmt.Sprintf("GPIO%d", i)] != 1 {
			t.Errorf("GPIO%d is there %d times", i, seen[fmt.Sprintf("GPIO%d", i)])
		}
	}
	if len(seen) != 28 {
		t.Errorf("%d names", len(seen))
	}
}

func named(prefix string, n int) []LineInfo {
	lines := make([]LineInfo, n)
	for i := range lines {
		lines[i].Name = fmt.Sprintf("%s%d", prefix, i)
	}
	return lines
}

func TestLocate(t *testing.T) {
	pi4 := Chip{Path: "/dev/gpiochip0", Name: "gpiochip0", Label: "pinctrl-bcm2711", Lines: named("GPIO", 58)}
	pi4.Lines[0].Name, pi4.Lines[1].Name = "ID_SDA", "ID_SCL"
	expander := Chip{Path: "/dev/gpiochip1", Name: "gpiochip1", Label: "raspberrypi-exp-gpio", Lines: named("EXP", 8)}
	pi5 := Chip{Path: "/dev/gpiochip4", Name: "gpiochip4", Label: "pinctrl-rp1", Lines: named("GPIO", 54)}
	soc := Chip{Path: "/dev/gpiochip0", Name: "gpiochip0", Label: "gpio-brcmstb@107d508500", Lines: make([]LineInfo, 32)}
	double := Chip{Path: "/dev/gpiochip7", Name: "gpiochip7", Label: "usb-io", Lines: named("GPIO", 20)}
	denied := []error{errors.New("open GPIO chip /dev/gpiochip3: permission denied")}

	for _, c := range []struct {
		name, pin, chip string
		chips           []Chip
		failed          []error
		want            string // path:offset
		problem         string
	}{
		{"by name", "GPIO17", "", []Chip{expander, pi4}, nil, "/dev/gpiochip0:17", ""},
		{"wherever the chip is", "GPIO17", "", []Chip{soc, pi5}, nil, "/dev/gpiochip4:17", ""},
		{"a GPIO that has another name", "GPIO0", "", []Chip{expander, pi4}, nil, "/dev/gpiochip0:0", ""},
		{"that other name", "ID_SCL", "", []Chip{pi4}, nil, "/dev/gpiochip0:1", ""},
		{"by offset", "5", "raspberrypi-exp-gpio", []Chip{expander, pi4}, nil, "/dev/gpiochip1:5", ""},
		{"by offset on a path", "5", "/dev/gpiochip1", []Chip{expander, pi4}, nil, "/dev/gpiochip1:5", ""},
		{"chip chosen", "GPIO5", "usb-io", []Chip{pi4, double}, nil, "/dev/gpiochip7:5", ""},
		{"unreadable chip that does not matter", "GPIO5", "", []Chip{pi4}, denied, "/dev/gpiochip0:5", ""},
		{"ambiguous", "GPIO5", "", []Chip{pi4, double}, nil, "", "/dev/gpiochip0 (pinctrl-bcm2711), /dev/gpiochip7 (usb-io); choose one by the parameter chip"},
		{"unreadable", "GPIO5", "", nil, denied, "", "permission denied"},
		{"no chip", "GPIO5", "", nil, nil, "", "no GPIO chip (searched /dev/gpiochip*)"},
		{"no such line", "PUMP", "", []Chip{expander, pi4}, nil, "", "searched /dev/gpiochip0 (pinctrl-bcm2711, 58 lines), /dev/gpiochip1 (raspberrypi-exp-gpio, 8 lines)"},
		{"no such chip", "GPIO5", "nix", []Chip{pi4}, nil, "", `no chip "nix"; there are: pinctrl-bcm2711 (/dev/gpiochip0)`},
		{"beyond the chip", "9", "raspberrypi-exp-gpio", []Chip{expander}, nil, "", "no line of that name"},
		{"beyond the header", "GPIO99", "", []Chip{pi4}, nil, "", "no line of that name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := locate(c.pin, c.chip, c.chips, c.failed)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), c.pin) {
					t.Errorf("%+v, %v", a, err)
				}
				return
			}
			if have := fmt.Sprintf("%s:%d", a.Path, a.Offset); err != nil || have != c.want {
				t.Errorf("%s, %v", have, err)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	for _, c := range []struct{ pin, chip, want string }{
		{"GPIO17", "", "gpio:GPIO17"},
		{"P1-11", "", "gpio:GPIO17"},
		{"17", "pinctrl-bcm2711", "gpio:GPIO17"},
		{"P1-11", "pinctrl-rp1", "gpio:GPIO17"},
		{"3", "usb-io", "gpio:usb-io:3"},
		{"GPIO17", "sim", "gpio:sim:GPIO17:out"},
	} {
		p := newOutputParams()
		p.Pin, p.Chip = c.pin, c.chip
		if have := p.Claims(); len(have) != 1 || have[0] != c.want {
			t.Errorf("%q on %q: %q", c.pin, c.chip, have)
		}
	}
	in, out := &InputParams{Pin: "P1-11", Chip: "sim"}, &OutputParams{Pin: "GPIO17", Chip: "sim"}
	if in.Claims()[0] == out.Claims()[0] {
		t.Error("a simulated line cannot have an input and an output")
	}
	if have := (&InputParams{}).Claims(); have != nil {
		t.Errorf("no pin claims %q", have)
	}
}

func TestValidate(t *testing.T) {
	problems := func(v interface {
		Validate(func(path, problem, hint string))
	},
	) string {
		var all []string
		v.Validate(func(path, problem, hint string) { all = append(all, path) })
		return strings.Join(all, " ")
	}
	in, out := newInputParams(), newOutputParams()
	in.Pin, out.Pin = "GPIO4", "P1-7"
	if have := problems(in) + problems(out); have != "" {
		t.Errorf("defaults: %s", have)
	}
	if have := problems(&InputParams{Pin: "P1-2", Debounce: -1}); have != "pin pull edge debounce buffer max_rate" {
		t.Errorf("input: %s", have)
	}
	if have := problems(&OutputParams{Pin: "4"}); have != "pin initial safe drive" {
		t.Errorf("output: %s", have)
	}
	in.Debounce, in.Buffer, in.MaxRate = 2*maxDebounce, maxBuffer+1, maxMaxRate+1
	if have := problems(in); have != "debounce buffer max_rate" {
		t.Errorf("input: %s", have)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, pin := range []string{"GPIO17", "P1-11", "17", "", "P1-", "p1-040", "GPIO\x00", "GPIO18446744073709551617"} {
		f.Add(pin, "")
		f.Add(pin, "pinctrl-rp1")
	}
	chips := []Chip{{Path: "/dev/gpiochip0", Label: "pinctrl-rp1", Lines: named("GPIO", 54)}}
	f.Fuzz(func(t *testing.T, pin, chip string) {
		name, err := canonical(pin, chip)
		if err != nil {
			return
		}
		if again, err := canonical(name, chip); err != nil || again != name {
			t.Errorf("%q: %q, then %q, %v", pin, name, again, err)
		}
		if a, err := locate(name, chip, chips, nil); err == nil && a.Offset >= 54 {
			t.Errorf("%q: offset %d", pin, a.Offset)
		}
	})
}

// The simulated line of a real one has a name that a simulated chip knows.
func TestSimulate(t *testing.T) {
	for _, c := range []struct{ pin, chip, want string }{
		{"GPIO17", "", "GPIO17"}, {"P1-11", "", "P1-11"}, {"17", "pinctrl-bcm2711", "GPIO17"}, {"3", "/dev/gpiochip2", "/dev/gpiochip2:3"}, {"MOTOR", "ext", "MOTOR"},
	} {
		out, in := OutputParams{Pin: c.pin, Chip: c.chip}, InputParams{Pin: c.pin, Chip: c.chip}
		out.Simulate()
		in.Simulate()
		if out.Pin != c.want || out.Chip != simChip || in.Pin != c.want || in.Chip != simChip {
			t.Errorf("%+v: have %q, %q", c, out.Pin, in.Pin)
		}
		if _, err := canonical(out.Pin, out.Chip); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
