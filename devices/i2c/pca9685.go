package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// References are to NXP's data sheet PCA9685.

// PCA9685Params are the parameters of a "pca9685".
type PCA9685Params struct {
	Common    `yaml:",inline"`
	Frequency float64          `yaml:"frequency" unit:"Hz" doc:"of the pulses, 24 to 1526 Hz, the same for all channels; servos want 50"`
	Invert    bool             `yaml:"invert" doc:"the outputs are low while they are on"`
	OpenDrain bool             `yaml:"open_drain" doc:"the outputs drive low only"`
	Channels  []PCA9685Channel `yaml:"channels" required:"true" doc:"the channels that are used, each a reading; the others are off"`
}

// PCA9685Channel is one output of the chip.
type PCA9685Channel struct {
	Name    string  `yaml:"name" required:"true" doc:"the name of the channel and its reading: a-z, 0-9 and _"`
	Channel int     `yaml:"channel" doc:"the output, 0 to 15"`
	Kind    string  `yaml:"kind" doc:"pwm, whose values are the time that it is on in %; or servo, whose values are angles in degrees"`
	Safe    string  `yaml:"safe" doc:"the value at start, when the gateway stops and when the device fails; or off: a servo then gets no pulses"`
	Angle   float64 `yaml:"angle" unit:"deg" doc:"servo: the largest angle, the smallest is 0"`
	MinUs   float64 `yaml:"min_us" unit:"us" doc:"servo: length of the pulse at 0, in microseconds"`
	MaxUs   float64 `yaml:"max_us" unit:"us" doc:"servo: length of the pulse at the largest angle, in microseconds"`
}

const (
	kindPWM   = "pwm"
	kindServo = "servo"
	safeOff   = "off"
)

// SetDefaults is called before the configuration is read.
func (c *PCA9685Channel) SetDefaults() {
	*c = PCA9685Channel{Kind: kindPWM, Safe: safeOff, Angle: 180, MinUs: 1000, MaxUs: 2000}
}

// Validate implements devices.Validator.
func (p *PCA9685Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x40, 0x7F)
	if !(p.Frequency >= 24 && p.Frequency <= 1526) {
		report("frequency", fmt.Sprintf("%g Hz is out of range", p.Frequency), "write 24 to 1526; servos want 50")
		return
	}
	if n := len(p.Channels); n < 1 || n > 16 {
		report("channels", fmt.Sprintf("there are %d", n), "list 1 to 16, each with name and channel")
	}
	names, outputs := map[string]bool{}, map[int]bool{}
	for i := range p.Channels {
		c := &p.Channels[i]
		at := func(key string) string { return fmt.Sprintf("channels[%d].%s", i, key) }
		readingName(at("name"), c.Name, names, report)
		switch {
		case c.Channel < 0 || c.Channel > 15:
			report(at("channel"), fmt.Sprintf("%d is not possible", c.Channel), "write 0 to 15")
		case outputs[c.Channel]:
			report(at("channel"), fmt.Sprintf("%d is used already", c.Channel), "")
		}
		outputs[c.Channel] = true
		if c.Kind != kindPWM && c.Kind != kindServo {
			report(at("kind"), fmt.Sprintf("%q is not known", c.Kind), "write pwm or servo")
			continue
		}
		if c.Kind == kindServo {
			if !(c.Angle > 0 && c.Angle <= 3600) {
				report(at("angle"), fmt.Sprintf("%g is out of range", c.Angle), "most servos turn by 180")
			}
			if !(c.MinUs >= 100 && c.MinUs < c.MaxUs && c.MaxUs <= 1e6/p.Frequency) {
				report(at("min_us"), fmt.Sprintf("pulses of %g to %g µs are not possible at %g Hz", c.MinUs, c.MaxUs, p.Frequency), "most servos take 1000 to 2000 µs at 50 Hz")
			}
		}
		if v, err := c.parse(c.Safe); err != nil || v > c.largest() {
			report(at("safe"), fmt.Sprintf("%q is not a value of the channel", c.Safe), fmt.Sprintf("write off, or 0 to %g", c.largest()))
		}
	}
}

func (c *PCA9685Channel) largest() float64 {
	if c.Kind == kindServo {
		return c.Angle
	}
	return 100
}

// off is the value of a channel that gives no pulses.
var off = math.NaN()

// parse takes a value as the configuration has it.
func (c *PCA9685Channel) parse(s string) (float64, error) {
	if s == safeOff {
		return off, nil
	}
	var v float64
	var rest string
	if n, _ := fmt.Sscanf(s+" ;", "%g %s", &v, &rest); n != 2 || rest != ";" || !(v >= 0) {
		return 0, fmt.Errorf("%q is not a value", s)
	}
	return v, nil
}

var (
	pcaSet = devices.Procedure{
		Name: "set", Doc: "Sets a channel to a value.",
		Args: []devices.Arg{
			{Name: "channel", Type: "string", Doc: "its name"},
			{Name: "value", Type: "float", Doc: "the time that it is on in %, or a servo's angle in degrees"},
		},
		Returns: "the value",
	}
	pcaOff = devices.Procedure{
		Name: "off", Doc: "Switches a channel off; a servo gets no pulses then and holds nothing.",
		Args:    []devices.Arg{{Name: "channel", Type: "string", Doc: "its name"}},
		Returns: "true",
	}
)

func pca9685Driver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "pca9685",
		Summary: "An NXP PCA9685: sixteen outputs with pulses in hardware, for servos, LEDs and motor drivers.",
		Doc: "VCC to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5), OE to ground; V+, which feeds the servos, to a supply of their own. " +
			"The address is 0x40 and what the six bridges A0 to A5 add.\n\n" +
			"The chip goes on by itself with what it was told last: on shutdown, on failure and at start every channel is set to its `safe` value, the unused ones to off. " +
			"Where a killed gateway must stop motors, have a line of the Raspberry Pi hold OE high by a resistor. " +
			"The device looks every `interval` whether the chip still has its settings. The readings are the channels; that of a servo without pulses is a fault.",
		Example: "name: arm\ntype: pca9685\naddress: 0x40\nfrequency: 50\nchannels:\n  - name: shoulder\n    channel: 0\n    kind: servo\n    angle: 180\n    min_us: 600\n    max_us: 2400\n" +
			"  - name: lamp\n    channel: 15\n    kind: pwm\n    safe: \"20\"\n",
		NewParams: func() any {
			c := newCommon(0x40)
			c.Interval = time.Second
			return &PCA9685Params{Common: c, Frequency: 50}
		},
		Procedures: []devices.Procedure{pcaSet, pcaOff},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return newPCA9685(p, sim, *params.(*PCA9685Params))
		},
	}
}

// Registers, section "Register definitions", and their bits.
const (
	pcaMode1    = 0x00
	pcaMode2    = 0x01
	pcaLED0     = 0x06 // four for each channel: on low, on high, off low, off high
	pcaPrescale = 0xFE

	pcaAuto      = 0x20 // MODE1 AI
	pcaSleep     = 0x10 // MODE1 SLEEP
	pcaInvert    = 0x10 // MODE2 INVRT
	pcaTotemPole = 0x04 // MODE2 OUTDRV
	pcaFull      = 0x10 // LEDn_ON_H and LEDn_OFF_H: always

	pcaOscillator = 25e6
	pcaSteps      = 4096
	pcaStart      = time.Millisecond // the oscillator takes 500 µs at most
)

// pca9685 is a device of type "pca9685".
type pca9685 struct {
	actuator
	params   PCA9685Params
	readings []devices.Reading
	prescale byte
	values   [16]float64 // what the outputs are set to
	safe     [16]float64
}

func newPCA9685(p *pool, sim *simulation, params PCA9685Params) (*pca9685, error) {
	if params.Bus == simBus {
		if sim == nil {
			return nil, errors.New("there is no simulation of this chip")
		}
		sim.attach(params.Address, newPCA9685Model())
	}
	d := &pca9685{params: params, prescale: pcaPrescaleOf(params.Frequency)}
	d.actuator = actuator{common: params.Common, pool: p, begin: d.start, check: d.look}
	for i := range d.safe {
		d.safe[i] = off
	}
	for i := range params.Channels {
		c := &params.Channels[i]
		v, err := c.parse(c.Safe)
		if err != nil {
			return nil, err
		}
		d.safe[c.Channel] = v
		r := devices.Reading{Name: c.Name, Type: "float", Unit: "%", Doc: fmt.Sprintf("what channel %d is set to", c.Channel)}
		if c.Kind == kindServo {
			r.Unit = "deg"
		}
		d.readings = append(d.readings, r)
	}
	return d, nil
}

// pcaPrescaleOf is the equation of "PWM frequency PRE_SCALE": the nearest that
// the chip can.
func pcaPrescaleOf(hertz float64) byte {
	return byte(min(max(math.Round(pcaOscillator/(pcaSteps*hertz))-1, 3), 255))
}

// counts is how many of 4096 steps a value is on.
func (d *pca9685) counts(c *PCA9685Channel, v float64) int {
	if c.Kind == kindServo {
		us := c.MinUs + (c.MaxUs-c.MinUs)*v/c.Angle
		return int(math.Round(us * pcaOscillator / 1e6 / float64(int(d.prescale)+1)))
	}
	return int(math.Round(v / 100 * pcaSteps))
}

// Readings implements devices.Device.
func (d *pca9685) Readings() []devices.Reading { return d.readings }

// Procedures implements devices.Device.
func (d *pca9685) Procedures() []devices.Procedure {
	set, switchOff := pcaSet, pcaOff
	set.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		return d.command(ctx, args[0].(string), args[1].(float64))
	}
	switchOff.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		if _, err := d.command(ctx, args[0].(string), off); err != nil {
			return nil, err
		}
		return true, nil
	}
	return []devices.Procedure{set, switchOff}
}

func (d *pca9685) command(ctx context.Context, name string, v float64) (any, error) {
	for i := range d.params.Channels {
		c := &d.params.Channels[i]
		if c.Name != name {
			continue
		}
		if v < 0 || v > c.largest() {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%s: the value must be from 0 to %g, not %g", name, c.largest(), v)
		}
		return d.act(ctx, func(ctx context.Context, conn *conn) (any, error) {
			if err := d.write(ctx, conn, c.Channel, v); err != nil {
				return nil, err
			}
			d.tell(c)
			return v, nil
		})
	}
	return nil, wamp.Errorf(wamp.ErrInvalidArgument, "there is no channel %q", name)
}

// tell publishes what a channel is set to. The caller has mu.
func (d *pca9685) tell(c *PCA9685Channel) {
	v := d.values[c.Channel]
	switch {
	case d.out == nil:
	case !math.IsNaN(v):
		d.out.Emit(c.Name, v, devices.Sample{})
	case c.Kind == kindPWM:
		d.out.Emit(c.Name, 0.0, devices.Sample{})
	default:
		d.out.Fault(c.Name, errors.New("the servo gets no pulses"))
	}
}

// write sets one output, in one transaction.
func (d *pca9685) write(ctx context.Context, conn *conn, channel int, v float64) error {
	on, gone := 0, pcaFull<<8 // off
	for i := range d.params.Channels {
		if c := &d.params.Channels[i]; c.Channel == channel && !math.IsNaN(v) {
			switch n := d.counts(c, v); {
			case n >= pcaSteps:
				on, gone = pcaFull<<8, 0
			case n > 0:
				gone = n
			}
		}
	}
	err := conn.write(ctx, byte(pcaLED0+4*channel), byte(on), byte(on>>8), byte(gone), byte(gone>>8))
	if err == nil {
		d.values[channel] = v
	}
	return err
}

// setUp sets all outputs, and the chip's mode and frequency where they are not
// right: the chip sleeps meanwhile, without pulses.
func (d *pca9685) setUp(ctx context.Context, c *conn, values *[16]float64) error {
	right, err := d.isSetUp(ctx, c)
	if err != nil {
		return err
	}
	mode2 := byte(pcaTotemPole)
	if d.params.OpenDrain {
		mode2 = 0
	}
	if d.params.Invert {
		mode2 |= pcaInvert
	}
	if !right {
		for _, w := range [][2]byte{{pcaMode1, pcaAuto | pcaSleep}, {pcaPrescale, d.prescale}, {pcaMode2, mode2}} {
			if err := c.write(ctx, w[0], w[1]); err != nil {
				return err
			}
		}
	}
	for i, v := range values {
		if err := d.write(ctx, c, i, v); err != nil {
			return err
		}
	}
	if right {
		return nil
	}
	if err := c.write(ctx, pcaMode1, pcaAuto); err != nil {
		return err
	}
	wait(pcaStart)
	right, err = d.isSetUp(ctx, c)
	if err == nil && !right {
		err = fmt.Errorf("the chip at address %v of I2C bus %s does not keep its settings: it is not a PCA9685", c.addr, c.bus.Name())
	}
	return err
}

// isSetUp reads the chip's settings back.
func (d *pca9685) isSetUp(ctx context.Context, c *conn) (bool, error) {
	mode, err := c.read(ctx, pcaMode1, 1)
	if err != nil {
		return false, err
	}
	prescale, err := c.read(ctx, pcaPrescale, 1)
	if err != nil {
		return false, err
	}
	return mode[0] == pcaAuto && prescale[0] == d.prescale, nil
}

func (d *pca9685) start(ctx context.Context, c *conn) error {
	if err := d.setUp(ctx, c, &d.safe); err != nil {
		return err
	}
	for i := range d.params.Channels {
		d.tell(&d.params.Channels[i])
	}
	return nil
}

// look notices a dip of the supply, after which the chip sleeps.
func (d *pca9685) look(ctx context.Context, c *conn) error {
	right, err := d.isSetUp(ctx, c)
	if err == nil && !right {
		err = errors.New("the chip has lost its settings: its supply dips, or another program uses it")
	}
	return err
}

// Halt implements devices.Device.
func (d *pca9685) Halt() error { return d.Release() }

// Release implements devices.Releaser.
func (d *pca9685) Release() error {
	return d.once(func(ctx context.Context, c *conn) error {
		before := d.values
		if err := d.setUp(ctx, c, &d.safe); err != nil {
			return err
		}
		for i := range d.params.Channels {
			ch := &d.params.Channels[i]
			if v := d.values[ch.Channel]; v != before[ch.Channel] && !(math.IsNaN(v) && math.IsNaN(before[ch.Channel])) {
				d.tell(ch)
			}
		}
		return nil
	})
}
