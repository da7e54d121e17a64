package onewire

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
	"github.com/postern-iot/postern/wamp"
)

// References are to Maxim's data sheet 19-7487, DS18B20.

// DS18B20Params are the parameters of a "ds18b20".
type DS18B20Params struct {
	Bus        string        `yaml:"bus" doc:"the bus: its name in /sys/bus/w1/devices, w1_bus_master1 for the first one; or sim for simulated sensors inside the gateway"`
	Sensors    []Sensor      `yaml:"sensors" required:"true" doc:"the thermometers, each a reading"`
	Resolution int           `yaml:"resolution" doc:"bits of a value, 9 to 12: 12 gives steps of 0.0625 °C in 750 ms, 9 gives 0.5 °C in 94 ms; 0 to leave the sensors as they are"`
	Interval   time.Duration `yaml:"interval" min:"1s" doc:"time between two measurements"`
	Timeout    time.Duration `yaml:"timeout" min:"1s" max:"30s" doc:"the longest that the kernel may take for one sensor"`
	Sys        string        `yaml:"sys" doc:"where sysfs is mounted"`
}

// Sensor is one thermometer.
type Sensor struct {
	Name   string  `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	ID     string  `yaml:"id" required:"true" doc:"the sensor's own number, as the folder in /sys/bus/w1/devices and the procedure scan show it: 28-0316a2795b7d"`
	Offset float64 `yaml:"offset" unit:"Cel" doc:"what is added to its value, as found out in ice water"`
	Doc    string  `yaml:"doc" doc:"where it is"`
}

const (
	simBus     = "sim"
	defaultBus = "w1_bus_master1"
	maxSensors = 64
)

// sensorID has the family code of a DS18B20 and 48 bits, as the kernel writes
// it.
var sensorID = regexp.MustCompile(`^28-[0-9a-f]{12}$`)

var busName = regexp.MustCompile(`^w1_bus_master[0-9]{1,4}$`)

// Validate implements devices.Validator.
func (p *DS18B20Params) Validate(report func(path, problem, hint string)) {
	if p.Bus != simBus && !busName.MatchString(p.Bus) {
		report("bus", fmt.Sprintf("%q is not the name of a bus", p.Bus), "write "+defaultBus+", or another one that ls /sys/bus/w1/devices shows")
	}
	if p.Resolution != 0 && (p.Resolution < 9 || p.Resolution > 12) {
		report("resolution", fmt.Sprintf("%d is not possible", p.Resolution), "write 9, 10, 11 or 12, or 0 to leave it")
	}
	if p.Interval < time.Second {
		report("interval", fmt.Sprintf("%v is too short", p.Interval), "a measurement takes up to 0.8 s: write 1s or more")
	}
	if p.Timeout < time.Second || p.Timeout > 30*time.Second {
		report("timeout", fmt.Sprintf("%v is out of range", p.Timeout), "write 1s to 30s")
	}
	if p.Sys == "" {
		report("sys", "it is empty", "write /sys")
	}
	if n := len(p.Sensors); n < 1 || n > maxSensors {
		report("sensors", fmt.Sprintf("there are %d", n), fmt.Sprintf("list 1 to %d, each with name and id", maxSensors))
	}
	names, ids := map[string]bool{"status": true}, map[string]bool{}
	for i, s := range p.Sensors {
		at := func(key string) string { return fmt.Sprintf("sensors[%d].%s", i, key) }
		switch problem := devices.NameProblem(s.Name); {
		case s.Name == "": // required: reported as missing
		case problem != "":
			report(at("name"), problem, "use a-z, 0-9 and _")
		case names[s.Name]:
			report(at("name"), fmt.Sprintf("%q is taken", s.Name), "choose another name")
		}
		switch {
		case s.ID == "":
		case !sensorID.MatchString(s.ID):
			report(at("id"), fmt.Sprintf("%q is not the number of a DS18B20", s.ID), "write it as ls /sys/bus/w1/devices shows it, such as 28-0316a2795b7d")
		case ids[s.ID]:
			report(at("id"), s.ID+" is there already", "")
		}
		names[s.Name], ids[s.ID] = true, true
		if !(s.Offset >= -20 && s.Offset <= 20) {
			report(at("offset"), fmt.Sprintf("%g is out of range", s.Offset), "write -20 to 20; a sensor that is further off is broken")
		}
	}
}

// Claims implements devices.Claimer.
func (p *DS18B20Params) Claims() []string {
	var all []string
	for _, s := range p.Sensors {
		if p.Bus != simBus {
			all = append(all, "1wire:"+s.ID)
		}
	}
	return all
}

// Simulate implements devices.Simulator.
func (p *DS18B20Params) Simulate() { p.Bus = simBus }

var scanProcedure = devices.Procedure{
	Name: "scan", Doc: "Lists the sensors that are on the bus now, those that are not configured too.",
	Returns: "a list of their numbers, such as 28-0316a2795b7d",
}

// Drivers returns the drivers of this package. Their devices share the busses.
func Drivers() []devices.Driver {
	return []devices.Driver{ds18b20Driver(newPool(openTree))}
}

func ds18b20Driver(p *pool) devices.Driver {
	return devices.Driver{
		Type:    "ds18b20",
		Summary: "Maxim DS18B20 thermometers on a 1-wire bus: any number on one pin.",
		Doc: "VDD of every sensor to 3.3 V (pin 1), GND to ground (pin 9), DQ to GPIO4 (pin 7), and one resistor of 4.7 kΩ between DQ and 3.3 V. " +
			"In the boot configuration: `dtoverlay=w1-gpio` (with `,gpiopin=17` for another pin).\n\n" +
			"`ls /sys/bus/w1/devices` shows the sensors' numbers; to tell them apart warm one in your hand. All convert at the same time. A sensor may be " +
			"plugged in while the gateway runs: the kernel finds it within ten seconds or so. One that is absent is a fault of its reading and makes the device degraded; the others go on.\n\n" +
			"Values with a wrong checksum are faults, and so is 85 °C where it is what the sensor holds after it was powered up. " +
			"A long cable or many sensors want VDD wired, not parasitic power. The readings are the sensors.",
		Example: "name: boiler\ntype: ds18b20\ninterval: 30s\nresolution: 12\nsensors:\n  - name: flow\n    id: 28-0316a2795b7d\n  - name: return_flow\n    id: 28-0316a27a1fff\n    offset: -0.25\n",
		NewParams: func() any {
			return &DS18B20Params{Bus: defaultBus, Resolution: 0, Interval: 30 * time.Second, Timeout: 5 * time.Second, Sys: "/sys"}
		},
		Procedures: []devices.Procedure{scanProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			d := &thermometers{params: *params.(*DS18B20Params), pool: p, last: map[string]int{}}
			if d.params.Bus == simBus {
				d.pool = newPool(func(string) (tree, error) { return newSimulation(d.params.Sensors), nil })
			}
			for _, s := range d.params.Sensors {
				doc := s.Doc
				if doc == "" {
					doc = "sensor " + s.ID
				}
				d.readings = append(d.readings, devices.Reading{Name: s.Name, Type: "float", Unit: "Cel", Doc: doc})
			}
			return d, nil
		},
	}
}

// thermometers is a device of type "ds18b20".
type thermometers struct {
	params   DS18B20Params
	pool     *pool
	readings []devices.Reading
	last     map[string]int // the last good value of a sensor, in m°C

	mu   sync.Mutex
	conn *bus.Conn[tree] // while Run serves
}

// Readings implements devices.Device.
func (d *thermometers) Readings() []devices.Reading { return d.readings }

// Halt implements devices.Device: a sensor has no safe state.
func (d *thermometers) Halt() error { return nil }

// Procedures implements devices.Device.
func (d *thermometers) Procedures() []devices.Procedure {
	p := scanProcedure
	p.Call = func(ctx context.Context, _ wamp.List, _ wamp.Dict) (any, error) {
		d.mu.Lock()
		c := d.conn
		d.mu.Unlock()
		if c == nil {
			return nil, wamp.Errorf(wamp.ErrUnavailable, "the device is not running")
		}
		text, err := c.Do(ctx, d.params.Timeout, func(t tree) ([]byte, error) {
			ids, err := t.list()
			return []byte(strings.Join(ids, " ")), err
		})
		if err != nil {
			return nil, wamp.Errorf(wamp.ErrRuntimeError, "the bus could not be read")
		}
		ids := wamp.List{}
		for _, id := range strings.Fields(string(text)) {
			ids = append(ids, id)
		}
		return ids, nil
	}
	return []devices.Procedure{p}
}

// Run implements devices.Device.
func (d *thermometers) Run(ctx context.Context, out devices.Outlet) error {
	name := d.params.Sys + "/bus/w1/devices/" + d.params.Bus
	c, release := d.pool.Connect(name)
	defer release()
	d.mu.Lock()
	d.conn = c
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conn = nil
	}()
	set := map[string]bool{} // the sensors whose resolution was set
	well := &outletOnce{Outlet: out}
	return bus.Poll(ctx, well, d.params.Interval, d.readings, func(ctx context.Context) ([]bus.Value, error) {
		values, err := d.measure(ctx, c, set)
		if err == nil {
			well.judge(values)
		}
		return values, err
	})
}

// outletOnce tells of a missing sensor: the device is degraded as long as one
// has no value.
type outletOnce struct {
	devices.Outlet
	degraded bool
	ready    bool
}

// Ready implements devices.Outlet: Poll says it when the bus works.
func (o *outletOnce) Ready() {
	if o.ready = true; !o.degraded {
		o.Outlet.Ready()
	}
}

// judge comes before Poll's Ready.
func (o *outletOnce) judge(values []bus.Value) {
	var bad error
	for _, v := range values {
		if v.Err != nil {
			bad = fmt.Errorf("%s: %w", v.Reading, v.Err)
			break
		}
	}
	switch {
	case bad != nil && !o.degraded:
		if !o.ready {
			o.Outlet.Ready() // a device is degraded only once it was ready
			o.ready = true
		}
		o.degraded = true
		o.Outlet.Degraded(bad)
	case bad == nil && o.degraded:
		o.degraded = false
		if o.ready {
			o.Outlet.Ready()
		}
	}
}

// measure has all sensors convert, then reads one after the other, so that
// others come in between. The error is that of the bus.
func (d *thermometers) measure(ctx context.Context, c *bus.Conn[tree], set map[string]bool) ([]bus.Value, error) {
	do := func(op func(tree) (string, error)) (string, error) {
		text, err := c.Do(ctx, d.params.Timeout, func(t tree) ([]byte, error) {
			s, err := op(t)
			return []byte(s), err
		})
		return string(text), err
	}
	if _, err := do(func(t tree) (string, error) { return "", t.convert() }); err != nil {
		return nil, err
	}
	values := make([]bus.Value, 0, len(d.params.Sensors))
	for _, s := range d.params.Sensors {
		resolution := 0
		if !set[s.ID] {
			resolution = d.params.Resolution
		}
		text, err := do(func(t tree) (string, error) { return t.read(s.ID, resolution) })
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, bus.ErrDeadline):
			return nil, fmt.Errorf("the 1-wire bus hangs at sensor %s: the data line may be shorted, or lack its resistor of 4.7 kΩ: %w", s.ID, err)
		case err != nil:
			delete(set, s.ID)
			values = append(values, bus.Value{Reading: s.Name, Err: err})
			continue
		}
		set[s.ID] = true
		milli, err := parse(text)
		if err == nil {
			err = d.powerUp(s.ID, milli)
		}
		if err != nil {
			if errors.Is(err, errPowerUp) {
				delete(set, s.ID) // its resolution is gone too
			}
			values = append(values, bus.Value{Reading: s.Name, Err: err})
			continue
		}
		d.last[s.ID] = milli
		v := bus.Within(s.Name, float64(milli)/1000, -55, 125) // the sensor's range
		if v.Err == nil {
			v.V = bus.Round(float64(milli)/1000+s.Offset, 4)
		}
		values = append(values, v)
	}
	return values, nil
}

const (
	powerUpMilli = 85_000
	nearPowerUp  = 5_000
)

// powerUp refuses 85 °C where the sensor was not near it before: it is what the
// temperature register holds after power-up ("Operation, measuring
// temperature"), and no sensor warms that much between two measurements.
func (d *thermometers) powerUp(id string, milli int) error {
	last, known := d.last[id]
	if milli == powerUpMilli && (!known || last < powerUpMilli-nearPowerUp || last > powerUpMilli+nearPowerUp) {
		return errPowerUp
	}
	return nil
}
