package gpio

import (
	"fmt"
	"slices"
	"strings"
	"time"

	periph "periph.io/x/conn/v3/gpio"
)

// InputParams are the parameters of a "gpio-input".
type InputParams struct {
	Pin       string        `yaml:"pin" required:"true" doc:"the line: its name (GPIO17), its place on the 40-pin header (P1-11), or with chip also its offset there"`
	Chip      string        `yaml:"chip" doc:"the chip's label or device, where the pin's name does not say it; sim for a simulated line inside the gateway"`
	Pull      string        `yaml:"pull" doc:"bias of the line: up, down, off, or as-is to leave it as it is"`
	ActiveLow bool          `yaml:"active_low" doc:"the level is true when the line is electrically low, as with a button to ground"`
	Edge      string        `yaml:"edge" doc:"the changes that are published: both, rising (to true) or falling (to false)"`
	Debounce  time.Duration `yaml:"debounce" doc:"how long a level must last before it counts; 0s for every edge"`
	Buffer    int           `yaml:"buffer" doc:"edges that the kernel keeps until the gateway fetches them"`
	MaxRate   int           `yaml:"max_rate" doc:"edges published in a second; of more, as from a loose wire, only the newest is, and the others are counted as dropped"`

	Press       bool          `yaml:"press" doc:"true: the line is a button, and has the reading press"`
	LongPress   time.Duration `yaml:"long_press" doc:"how long a button is held for a long press, which has a reading of its own; 0s for none"`
	DoubleClick time.Duration `yaml:"double_click" doc:"within which time a second press makes a double click, which has a reading of its own; a press is then told that much later; 0s for none"`
}

// OutputParams are the parameters of a "gpio-output".
type OutputParams struct {
	Pin       string        `yaml:"pin" required:"true" doc:"the line: its name (GPIO17), its place on the 40-pin header (P1-11), or with chip also its offset there"`
	Chip      string        `yaml:"chip" doc:"the chip's label or device, or the name of a device that is a chip, where the pin's name does not say it; sim for a simulated line inside the gateway"`
	ActiveLow bool          `yaml:"active_low" doc:"on is the low electrical level, as with most relay boards"`
	Initial   string        `yaml:"initial" doc:"the state when the device starts: off, on, keep for what the line has then, last for what was commanded last, or inverted for the opposite of that"`
	Safe      string        `yaml:"safe" doc:"the state when the gateway stops, the device fails or its controller is gone: off, on, or keep for what it has then"`
	Drive     string        `yaml:"drive" doc:"push-pull, open-drain (drives low only) or open-source (drives high only)"`
	MaxOn     time.Duration `yaml:"max_on" doc:"the longest time on: then it is switched off; 0s for any"`
	MinOn     time.Duration `yaml:"min_on" doc:"the shortest time on: commands to switch off before are refused"`
	MinOff    time.Duration `yaml:"min_off" doc:"the shortest time off: commands to switch on before are refused; a compressor wants minutes"`
	MaxRate   int           `yaml:"max_rate" doc:"how often it may be switched on in a minute; 0 for any"`
	Interlock string        `yaml:"interlock" doc:"a name that two or more outputs share of which only one may be on, such as the two directions of a motor"`
	DeadTime  time.Duration `yaml:"dead_time" doc:"how long all outputs of the interlock are off before another one may be on"`
}

const (
	stateOff  = "off"
	stateOn   = "on"
	stateKeep = "keep"

	stateLast     = "last"
	stateInverted = "inverted"

	drivePushPull = "push-pull"

	maxDebounce = time.Minute
	minClick    = 50 * time.Millisecond
	maxBuffer   = 1 << 16
	maxMaxRate  = 100_000
	maxSwitches = 6000 // in a minute
	maxTimes    = 24 * time.Hour
)

var (
	pulls = map[string]periph.Pull{"as-is": periph.PullNoChange, "off": periph.Float, "down": periph.PullDown, "up": periph.PullUp}
	edges = map[string]periph.Edge{"both": periph.BothEdges, "rising": periph.RisingEdge, "falling": periph.FallingEdge}

	drives = map[string]Drive{drivePushPull: PushPull, "open-drain": OpenDrain, "open-source": OpenSource}
	starts = map[string]bool{stateOff: true, stateOn: true, stateKeep: true, stateLast: true, stateInverted: true}
	states = map[string]bool{stateOff: true, stateOn: true, stateKeep: true}
)

func newInputParams() *InputParams {
	return &InputParams{Pull: "as-is", Edge: "both", Debounce: 0, Buffer: defaultBuffer, MaxRate: 5000}
}

func newOutputParams() *OutputParams {
	return &OutputParams{Initial: stateOff, Safe: stateOff, Drive: drivePushPull}
}

// Validate implements devices.Validator.
func (p *InputParams) Validate(report func(path, problem, hint string)) {
	validatePin(p.Pin, p.Chip, report)
	oneOf("pull", p.Pull, pulls, report)
	oneOf("edge", p.Edge, edges, report)
	if p.Debounce < 0 || p.Debounce > maxDebounce {
		report("debounce", fmt.Sprintf("%v is out of range", p.Debounce), "5ms to 50ms suits switches; the longest is 1m")
	}
	if p.Buffer < 1 || p.Buffer > maxBuffer {
		report("buffer", fmt.Sprintf("%d is out of range", p.Buffer), fmt.Sprintf("write a number from 1 to %d", maxBuffer))
	}
	for _, t := range []struct {
		path string
		d    time.Duration
	}{{"long_press", p.LongPress}, {"double_click", p.DoubleClick}} {
		if t.d != 0 && (t.d < minClick || t.d > maxDebounce) {
			report(t.path, fmt.Sprintf("%v is out of range", t.d), fmt.Sprintf("write 0s, or %v to %v", minClick, maxDebounce))
		}
	}
	if p.clicks() && p.Edge != "both" {
		report("edge", "presses need both edges", "write edge: both")
	}
	if p.MaxRate < 1 || p.MaxRate > maxMaxRate {
		report("max_rate", fmt.Sprintf("%d is out of range", p.MaxRate), fmt.Sprintf("write a number from 1 to %d", maxMaxRate))
	}
}

func (p *InputParams) clicks() bool { return p.Press || p.LongPress > 0 || p.DoubleClick > 0 }

// Validate implements devices.Validator.
func (p *OutputParams) Validate(report func(path, problem, hint string)) {
	validatePin(p.Pin, p.Chip, report)
	oneOf("initial", p.Initial, starts, report)
	oneOf("safe", p.Safe, states, report)
	oneOf("drive", p.Drive, drives, report)
	for _, t := range []struct {
		path string
		d    time.Duration
	}{{"max_on", p.MaxOn}, {"min_on", p.MinOn}, {"min_off", p.MinOff}, {"dead_time", p.DeadTime}} {
		if t.d < 0 || t.d > maxTimes {
			report(t.path, fmt.Sprintf("%v is out of range", t.d), fmt.Sprintf("write 0s to %v", maxTimes))
		}
	}
	if p.MaxRate < 0 || p.MaxRate > maxSwitches {
		report("max_rate", fmt.Sprintf("%d is out of range", p.MaxRate), fmt.Sprintf("write 0 to %d", maxSwitches))
	}
	if p.MaxOn > 0 && p.MaxOn < p.MinOn {
		report("max_on", fmt.Sprintf("%v is shorter than min_on, %v", p.MaxOn, p.MinOn), "")
	}
	if p.MaxOn > 0 && p.Safe == stateOn {
		report("max_on", "the output's safe state is on, where it would stay longer", "leave max_on out, or let it be safe off")
	}
	if p.Interlock != "" && (p.Initial != stateOff || p.Safe != stateOff) {
		report("interlock", "of its outputs only one may be on, so each must start off and be safe off", "write initial: off and safe: off")
	}
	if p.Interlock == "" && p.DeadTime != 0 {
		report("dead_time", "it belongs to an interlock, and there is none", "write interlock: NAME, the same for the outputs that exclude each other")
	}
}

// Group implements devices.Grouper.
func (p *OutputParams) Group() (key, name string) { return "interlock", p.Interlock }

func validatePin(pin, chip string, report func(path, problem, hint string)) {
	if pin == "" {
		return // required: reported as missing
	}
	if _, err := canonical(pin, chip); err != nil {
		report("pin", err.Error(), "")
	}
}

func oneOf[T any](path, value string, allowed map[string]T, report func(path, problem, hint string)) {
	if _, ok := allowed[value]; ok {
		return
	}
	words := make([]string, 0, len(allowed))
	for w := range allowed {
		words = append(words, w)
	}
	slices.Sort(words)
	report(path, fmt.Sprintf("%q is not known", value), "write one of "+strings.Join(words, ", "))
}

// Claims implements devices.Claimer. A simulated line may have one output and
// one input, which are then joined.
func (p *InputParams) Claims() []string { return claims(p.Pin, p.Chip, "in") }

// Claims implements devices.Claimer.
func (p *OutputParams) Claims() []string { return claims(p.Pin, p.Chip, "out") }

// Simulate implements devices.Simulator.
func (p *InputParams) Simulate() { p.Pin, p.Chip = simulated(p.Pin, p.Chip), simChip }

// Simulate implements devices.Simulator.
func (p *OutputParams) Simulate() { p.Pin, p.Chip = simulated(p.Pin, p.Chip), simChip }

// simulated is the name of the simulated line that stands for a real one: an
// offset means nothing without its chip.
func simulated(pin, chip string) string {
	switch {
	case pin == "" || strings.Trim(pin, "0123456789") != "":
		return pin
	case isHeaderChip(chip):
		return "GPIO" + pin
	}
	return chip + ":" + pin
}

func claims(pin, chip, direction string) []string {
	name, err := canonical(pin, chip)
	switch {
	case err != nil:
		return nil
	case chip == simChip:
		return []string{"gpio:sim:" + name + ":" + direction}
	case chip != "" && !isHeaderChip(chip):
		return []string{"gpio:" + chip + ":" + name}
	}
	// On a header's chip the offset is the GPIO's number.
	if name != "" && strings.Trim(name, "0123456789") == "" {
		name = "GPIO" + name
	}
	return []string{"gpio:" + name}
}
