package pwm

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// ServoParams are the parameters of a "servo".
type ServoParams struct {
	Place     `yaml:",inline"`
	MinPulse  time.Duration `yaml:"min_pulse" doc:"the pulse at min_angle; beyond what the servo stands it runs against its stop"`
	MaxPulse  time.Duration `yaml:"max_pulse" doc:"the pulse at max_angle"`
	MinAngle  float64       `yaml:"min_angle" unit:"deg" doc:"the smallest angle"`
	MaxAngle  float64       `yaml:"max_angle" unit:"deg" doc:"the largest angle"`
	Period    time.Duration `yaml:"period" doc:"from one pulse to the next; 20ms for nearly all servos"`
	Detach    time.Duration `yaml:"detach_after" doc:"the pulses end this long after the last command, so that the servo neither hums nor holds; 0s for never"`
	SafeAngle *float64      `yaml:"safe_angle" unit:"deg" doc:"the angle that it goes to when the gateway stops, the device fails or its controller is gone; without it the pulses end, and the servo is free"`
}

const maxDetach = time.Hour

// Validate implements devices.Validator.
func (p *ServoParams) Validate(report func(path, problem, hint string)) {
	p.validate(report)
	if p.Period < 2*time.Millisecond || p.Period > 100*time.Millisecond {
		report("period", fmt.Sprintf("%v is out of range", p.Period), "write 2ms to 100ms, mostly 20ms")
	}
	if p.MinPulse < 100*time.Microsecond || p.MinPulse >= p.MaxPulse {
		report("min_pulse", fmt.Sprintf("%v is not from 100µs to max_pulse", p.MinPulse), "1ms suits most servos")
	}
	if p.MaxPulse > 5*time.Millisecond || p.MaxPulse >= p.Period {
		report("max_pulse", fmt.Sprintf("%v is longer than 5ms or than the period", p.MaxPulse), "2ms suits most servos")
	}
	if !(p.MinAngle < p.MaxAngle) || math.Abs(p.MinAngle) > 3600 || math.Abs(p.MaxAngle) > 3600 {
		report("max_angle", fmt.Sprintf("%v is not above min_angle, %v", p.MaxAngle, p.MinAngle), "write angles from -3600 to 3600")
	}
	if p.Detach < 0 || p.Detach > maxDetach {
		report("detach_after", fmt.Sprintf("%v is out of range", p.Detach), fmt.Sprintf("write 0s to %v", maxDetach))
	}
	if p.SafeAngle != nil && !(*p.SafeAngle >= p.MinAngle && *p.SafeAngle <= p.MaxAngle) {
		report("safe_angle", fmt.Sprintf("%v is not from min_angle to max_angle", *p.SafeAngle), "")
	}
}

var (
	angleReading    = devices.Reading{Name: "angle", Type: "float", Unit: "deg", Doc: "the angle that the servo was told to take; one event a change"}
	attachedReading = devices.Reading{Name: "attached", Type: "bool", Doc: "whether the servo gets pulses, and so holds its angle"}
	servoFaces      = []devices.Procedure{
		{
			Name: "set", Doc: "Turns the servo to an angle.",
			Args: []devices.Arg{{Name: "angle", Type: "float", Doc: "in degrees, min_angle to max_angle"}}, Returns: "float: the angle",
		},
		{Name: "detach", Doc: "Ends the pulses: the servo is free."},
	}
)

func servoDriver(root string, sim *simChips) devices.Driver {
	return devices.Driver{
		Type:    "servo",
		Summary: "A model servo on a PWM channel of the kernel.",
		Doc: "The angle is the length of the pulse, from `min_pulse` to `max_pulse`. Without a command the servo gets no pulses, so that it does not move when the gateway " +
			"starts.\n\nFeed the servo from 5 V of its own, not from the board's pin, and join the grounds. Channels are those of the driver `pwm`; pulses that a process " +
			"makes by switching a line would tremble, and are not offered.",
		Example: "name: flap\ntype: servo\nchannel: 0\nmin_angle: -90\nmax_angle: 90\ndetach_after: 2s\n",
		NewParams: func() any {
			return &ServoParams{MinPulse: time.Millisecond, MaxPulse: 2 * time.Millisecond, MaxAngle: 180, Period: 20 * time.Millisecond}
		},
		Readings:   []devices.Reading{angleReading, attachedReading},
		Procedures: servoFaces,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := params.(*ServoParams)
			d := &servo{params: *p}
			d.open, d.period = opener(root, sim, p.Chip, p.Channel), p.Period
			return d, nil
		},
	}
}

// servo is a device of type "servo".
type servo struct {
	output
	params ServoParams
	angle  *float64  // nil before the first
	until  time.Time // when the pulses end; zero for never
}

func (d *servo) Readings() []devices.Reading {
	return []devices.Reading{angleReading, attachedReading}
}

func (d *servo) Procedures() []devices.Procedure {
	set, detach := servoFaces[0], servoFaces[1]
	set.Call = func(_ context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		angle := args[0].(float64)
		if !(angle >= d.params.MinAngle && angle <= d.params.MaxAngle) {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "set: angle must be from %v to %v, not %v", d.params.MinAngle, d.params.MaxAngle, angle)
		}
		return angle, d.act(func() error { return d.set(angle) })
	}
	detach.Call = func(context.Context, wamp.List, wamp.Dict) (any, error) { return nil, d.act(d.detach) }
	return []devices.Procedure{set, detach}
}

// pulse is the length of the pulse of an angle.
func (p *ServoParams) pulse(angle float64) time.Duration {
	part := (angle - p.MinAngle) / (p.MaxAngle - p.MinAngle)
	return p.MinPulse + time.Duration(math.Round(part*float64(p.MaxPulse-p.MinPulse)))
}

// set turns the servo. The caller has d.mu.
func (d *servo) set(angle float64) error {
	was := d.ch.enabled
	if err := d.ch.drive(d.params.pulse(angle)); err != nil {
		return err
	}
	d.until = time.Time{}
	if d.params.Detach > 0 {
		d.until = time.Now().Add(d.params.Detach)
	}
	if d.angle == nil || *d.angle != angle {
		d.angle = &angle
		d.emit(angleReading.Name, angle)
	}
	if !was {
		d.emit(attachedReading.Name, true)
	}
	return nil
}

// detach ends the pulses. The caller has d.mu.
func (d *servo) detach() error {
	d.until = time.Time{}
	was := d.ch.enabled
	if err := d.ch.enable(false); err != nil {
		return err
	}
	if was {
		d.emit(attachedReading.Name, false)
	}
	return nil
}

func (d *servo) emit(reading string, value any) {
	if d.out != nil {
		d.out.Emit(reading, value, devices.Sample{})
	}
}

// safe is the safe state. The caller has d.mu.
func (d *servo) safe() error {
	if d.params.SafeAngle == nil {
		return d.detach()
	}
	return d.set(*d.params.SafeAngle)
}

// Run implements devices.Device.
func (d *servo) Run(ctx context.Context, out devices.Outlet) error {
	return d.run(ctx, out, func() error {
		d.out = out
		out.Ready()
		if d.angle != nil {
			d.emit(angleReading.Name, *d.angle)
		}
		d.emit(attachedReading.Name, d.ch.enabled)
		return nil
	}, func(now time.Time) (time.Time, error) {
		if !d.until.IsZero() && !now.Before(d.until) {
			return time.Time{}, d.take(d.detach)
		}
		return d.until, nil
	})
}

// Halt implements devices.Device.
func (d *servo) Halt() error { return d.halt(d.safe) }

// Release implements devices.Releaser.
func (d *servo) Release() error { return d.release(d.safe) }
