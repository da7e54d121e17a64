package pwm

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// Drivers returns the drivers of this package.
func Drivers() []devices.Driver { return drivers(sysRoot) }

func drivers(root string) []devices.Driver {
	sim := newSimChips()
	return []devices.Driver{pwmDriver(root, sim), servoDriver(root, sim)}
}

// Place is where a channel is.
type Place struct {
	Chip    string `yaml:"chip" doc:"the PWM chip: the name of its device (fe20c000.pwm) or pwmchip0, whose number changes between kernels; empty for the only one; sim for a simulated one"`
	Channel int    `yaml:"channel" doc:"the channel of the chip, from 0"`
}

// Simulate implements devices.Simulator.
func (p *Place) Simulate() { p.Chip = simChip }

// Claims implements devices.Claimer.
func (p *Place) Claims() []string { return []string{fmt.Sprintf("pwm:%s:%d", p.Chip, p.Channel)} }

func (p *Place) validate(report func(path, problem, hint string)) {
	if p.Channel < 0 || p.Channel > 255 {
		report("channel", fmt.Sprintf("%d is no channel", p.Channel), "they are counted from 0")
	}
}

// Params are the parameters of a "pwm".
type Params struct {
	Place     `yaml:",inline"`
	Frequency float64 `yaml:"frequency" unit:"Hz" doc:"periods a second, 1 to 1000000 Hz"`
	Inverted  bool    `yaml:"inverted" doc:"the channel is active when it is low"`
	Safe      float64 `yaml:"safe" unit:"%" doc:"the duty cycle at start, when the gateway stops, the device fails or its controller is gone"`
}

// Validate implements devices.Validator.
func (p *Params) Validate(report func(path, problem, hint string)) {
	p.validate(report)
	if !(p.Frequency >= 1 && p.Frequency <= 1e6) {
		report("frequency", fmt.Sprintf("%v Hz is out of range", p.Frequency), "write 1 to 1000000; 1000 suits lamps, 25000 fans")
	}
	if !(p.Safe >= 0 && p.Safe <= 100) {
		report("safe", fmt.Sprintf("%v %% is out of range", p.Safe), "write 0 to 100")
	}
}

var (
	dutyReading = devices.Reading{Name: "duty", Type: "float", Unit: "%", Doc: "the duty cycle; one event a change"}
	setDuty     = devices.Procedure{
		Name: "set", Doc: "Sets the duty cycle.",
		Args: []devices.Arg{{Name: "duty", Type: "float", Doc: "in percent, 0 to 100"}}, Returns: "float: the duty cycle",
	}
)

func pwmDriver(root string, sim *simChips) devices.Driver {
	return devices.Driver{
		Type:    "pwm",
		Summary: "A PWM channel of the kernel: the brightness of a lamp, the speed of a fan.",
		Doc: "A channel below /sys/class/pwm. A Raspberry Pi has two, on GPIO12 or GPIO18 and GPIO13 or GPIO19, with `dtoverlay=pwm-2chan` in its boot " +
			"configuration; analogue audio uses them too.\n\nThe channel runs on when the gateway is killed. A fan or a motor needs a driver stage: a pin gives some milliamperes.",
		Example:    "name: lamp\ntype: pwm\nchannel: 0\nfrequency: 1000\n",
		NewParams:  func() any { return &Params{Frequency: 1000} },
		Readings:   []devices.Reading{dutyReading},
		Procedures: []devices.Procedure{setDuty},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*Params)
			d := &dimmer{safe: p.Safe}
			d.open, d.inverted = opener(root, sim, p.Chip, p.Channel), p.Inverted
			d.period = time.Duration(math.Round(1e9 / p.Frequency))
			return d, nil
		},
	}
}

// dimmer is a device of type "pwm".
type dimmer struct {
	output
	safe float64
	duty float64
}

func (d *dimmer) Readings() []devices.Reading { return []devices.Reading{dutyReading} }

func (d *dimmer) Procedures() []devices.Procedure {
	set := setDuty
	set.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		duty := args[0].(float64)
		if !(duty >= 0 && duty <= 100) {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "set: duty must be from 0 to 100, not %v", duty)
		}
		return duty, d.act(func() error { return d.set(duty) })
	}
	return []devices.Procedure{set}
}

// set drives a duty cycle. The caller has d.mu.
func (d *dimmer) set(duty float64) error {
	if err := d.ch.drive(time.Duration(math.Round(float64(d.period) * duty / 100))); err != nil {
		return err
	}
	if d.duty != duty {
		d.duty = duty
		if d.out != nil {
			d.out.Emit(dutyReading.Name, duty, devices.Sample{})
		}
	}
	return nil
}

// Run implements devices.Device.
func (d *dimmer) Run(ctx context.Context, out devices.Outlet) error {
	return d.run(ctx, out, func() error {
		d.out = nil // the first event is the one below
		if err := d.set(d.safe); err != nil {
			return err
		}
		d.out = out
		out.Ready()
		out.Emit(dutyReading.Name, d.duty, devices.Sample{})
		return nil
	}, func(time.Time) (time.Time, error) { return time.Time{}, nil })
}

// Halt implements devices.Device.
func (d *dimmer) Halt() error { return d.halt(func() error { return d.set(d.safe) }) }

// Release implements devices.Releaser.
func (d *dimmer) Release() error { return d.release(func() error { return d.set(d.safe) }) }
