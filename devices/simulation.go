package devices

import (
	"fmt"
	"time"
)

// Simulation says what a device measures, and what happens to it, when the
// gateway runs with simulated hardware (--sim). It means nothing otherwise.
type Simulation struct {
	Readings map[string]Script `yaml:"readings" doc:"what is measured, by the reading's name, instead of what the simulated chip has"`
	Faults   []SimulatedFault  `yaml:"faults" doc:"what happens to the device, and when; at most 64"`
}

// Script is what a reading has at each time: from a file, or written here.
type Script struct {
	File       string        `yaml:"file" doc:"a recording: a CSV file, or a text file with one value per line"`
	Column     string        `yaml:"column" doc:"the file's column, by its name in the first line or its number from 1; the first without it"`
	TimeColumn string        `yaml:"time_column" doc:"the file's column with the times; without one a row follows the other every interval"`
	Points     []ScriptPoint `yaml:"points" doc:"the values themselves, instead of a file"`
	Interval   time.Duration `yaml:"interval" min:"1ms" doc:"time between rows that have no times, and before the first is played again"`
	Speed      float64       `yaml:"speed" doc:"how much faster than it was recorded"`
	Loop       bool          `yaml:"loop" doc:"begin again at the end"`
}

// ScriptPoint is a value from a time on; of a bool, 0 and 1.
type ScriptPoint struct {
	At    time.Duration `yaml:"at" min:"0s" doc:"time since the device was started"`
	Value float64       `yaml:"value" doc:"the value from then on; 0 and 1 for a reading that is true or false"`
}

// SimulatedFault is something that goes wrong.
type SimulatedFault struct {
	Kind    string        `yaml:"kind" required:"true" enum:"unplug,noise,stuck,slow" doc:"unplug: the device is gone; noise: values scatter; stuck: they stay; slow: they come seldom"`
	Reading string        `yaml:"reading" doc:"the reading that it happens to; all without it"`
	At      time.Duration `yaml:"at" min:"0s" doc:"when it begins, since the gateway started"`
	For     time.Duration `yaml:"for" min:"0s" doc:"how long it lasts; 0s for ever"`
	Amount  float64       `yaml:"amount" doc:"noise: the standard deviation; slow: the seconds between two values; 0 for 1"`
}

const maxSimulatedFaults = 64

// SetDefaults is called before the configuration is read.
func (s *Script) SetDefaults() { s.Interval, s.Speed, s.Loop = time.Second, 1, true }

// Validate reports what types cannot say; the sources are package sim's.
func (s *Simulation) Validate(report func(path, problem, hint string)) {
	if len(s.Faults) > maxSimulatedFaults {
		report("faults", fmt.Sprintf("there are more than %d", maxSimulatedFaults), "")
	}
	for i, f := range s.Faults {
		if f.Kind == "unplug" && f.Reading != "" {
			report(fmt.Sprintf("faults[%d].reading", i), "a device is unplugged with all its readings", "remove it")
		}
		if !(f.Amount >= 0 && f.Amount < 1e9) {
			report(fmt.Sprintf("faults[%d].amount", i), "it is not from 0 to 1000000000", "")
		}
	}
}
