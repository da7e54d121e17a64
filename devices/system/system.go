// Package system has the driver of the machine that the gateway runs on: the
// processor's temperature and use, load, memory, disk, uptime, the supply's
// and the heat's throttling, the memory card's wear, and the network, from
// /proc and /sys. It starts no goroutine. What a machine does not have is left out
// and is no failure.
package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// Params are the parameters of a device of the type system.
type Params struct {
	Interval  time.Duration `yaml:"interval" min:"100ms" doc:"time between two measurements"`
	Disk      string        `yaml:"disk" doc:"a path on the disk to measure; empty for none"`
	Thermal   string        `yaml:"thermal" doc:"type of the thermal zone to measure, as in /sys/class/thermal/*/type; empty to look for the processor's"`
	Interface string        `yaml:"interface" doc:"the network interface to measure; empty for all that are hardware"`
	Proc      string        `yaml:"proc" doc:"where procfs is mounted"`
	Sys       string        `yaml:"sys" doc:"where sysfs is mounted"`

	simulated bool
}

// Simulate implements devices.Simulator: the machine is one that idles.
func (p *Params) Simulate() { p.simulated = true }

// errNoData says that this machine does not have what was asked for.
var errNoData = errors.New("no data on this machine")

// readings are the readings in their order.
var readings = []devices.Reading{
	{Name: "cpu_temperature", Type: "float", Unit: "Cel", Doc: "of the processor; left out where there is no thermal zone"},
	{Name: "cpu_used", Type: "float", Unit: "%", Doc: "of all processors, since the measurement before"},
	{Name: "load1", Type: "float", Doc: "mean number of running and waiting processes over 1 minute"},
	{Name: "load5", Type: "float", Doc: "the same over 5 minutes"},
	{Name: "load15", Type: "float", Doc: "the same over 15 minutes"},
	{Name: "memory_used", Type: "float", Unit: "%", Doc: "memory that is not available to new programs"},
	{Name: "memory_available", Type: "int", Unit: "By", Doc: "memory that new programs can have without swapping"},
	{Name: "disk_used", Type: "float", Unit: "%", Doc: "of the disk that holds the path, without what is reserved for root"},
	{Name: "disk_free", Type: "int", Unit: "By", Doc: "what users other than root can still write there"},
	{Name: "uptime", Type: "float", Unit: "s", Doc: "time since the machine was started"},
	{Name: "throttled", Type: "bool", Doc: "the board is slowed down now, for its supply or its heat; Raspberry Pi"},
	{Name: "throttling", Type: "dict", Doc: "why: under_voltage, frequency_capped, throttled, soft_temperature_limit, each now and (…_since_start) since the start"},
	{Name: "card_used", Type: "int", Unit: "%", Doc: "of the life of the eMMC or SD card, as it says itself, in steps of ten; most SD cards do not"},
	{Name: "card_end", Type: "string", Doc: "what the card says of its reserve: normal, warning or urgent"},
	{Name: "network_up", Type: "bool", Doc: "an interface has a link"},
	{Name: "network_received", Type: "int", Unit: "By", Doc: "by all interfaces since the start"},
	{Name: "network_sent", Type: "int", Unit: "By", Doc: "by all interfaces since the start"},
	{Name: "network", Type: "dict", Doc: "each interface with its state, mac, addresses, received and sent"},
}

// Driver is the driver of the type system.
func Driver() devices.Driver {
	return devices.Driver{
		Type:    "system",
		Summary: "The machine itself: processor temperature and use, load, memory, disk, uptime, throttling, card wear, network.",
		Doc: "Linux. Readings that the machine cannot give, such as the temperature of a virtual one, are left out.\n" +
			"`proc` and `sys` serve gateways in a container that has the host's mounted elsewhere.",
		Example: `name: pi
type: system
interval: 10s
disk: /var/lib
`,
		NewParams: func() any {
			return &Params{Interval: 10 * time.Second, Disk: "/", Proc: "/proc", Sys: "/sys"}
		},
		Readings: readings,
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return &machine{Params: *params.(*Params), usage: diskUsage, addresses: addresses}, nil
		},
	}
}

// machine is a device of the type system.
type machine struct {
	Params
	// usage measures the disk that holds a path.
	usage func(path string) (disk, error)
	// addresses lists those of a network interface.
	addresses func(name string) wamp.List
	last      cpuTimes
}

// disk is the size of a disk, in bytes.
type disk struct{ used, available uint64 }

func (m *machine) Readings() []devices.Reading     { return readings }
func (m *machine) Procedures() []devices.Procedure { return nil }
func (m *machine) Halt() error                     { return nil }

func (m *machine) Run(ctx context.Context, out devices.Outlet) error {
	out.Ready()
	measure := m.measure
	if m.simulated {
		measure = simulate
	}
	devices.Every(ctx, m.Interval, func(now time.Time) { measure(now, out) })
	return nil
}

// measure publishes what can be measured, and the failures of what cannot. The
// device is well as long as there is anything.
func (m *machine) measure(now time.Time, out devices.Outlet) {
	found := 0
	failed := errNoData
	report := func(err error, names ...string) {
		switch {
		case err == nil:
			found++
		case !errors.Is(err, errNoData):
			failed = err
			for _, name := range names {
				out.Fault(name, err)
			}
		}
	}
	emit := func(name string, v any) { out.Emit(name, v, devices.Sample{Time: now}) }

	celsius, err := m.cpuTemperature()
	if report(err, "cpu_temperature"); err == nil {
		emit("cpu_temperature", celsius)
	}
	used, err := m.cpuUsed()
	if report(err, "cpu_used"); err == nil {
		emit("cpu_used", used)
	}
	loads, err := m.loads()
	if report(err, "load1", "load5", "load15"); err == nil {
		emit("load1", loads[0])
		emit("load5", loads[1])
		emit("load15", loads[2])
	}
	memory, err := m.memory()
	if report(err, "memory_used", "memory_available"); err == nil {
		emit("memory_used", percent(memory.total-memory.available, memory.total))
		emit("memory_available", memory.available)
	}
	if m.Disk != "" {
		d, err := m.usage(m.Disk)
		if report(err, "disk_used", "disk_free"); err == nil {
			emit("disk_used", percent(d.used, d.used+d.available))
			emit("disk_free", d.available)
		}
	}
	uptime, err := m.uptime()
	if report(err, "uptime"); err == nil {
		emit("uptime", uptime)
	}
	m.measureBoard(now, out, report)
	if found > 0 {
		out.Ready()
	} else {
		out.Degraded(fmt.Errorf("measure the system: %w", failed))
	}
}

// percent is part of whole, with a digit after the point.
func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(int64(1000*float64(part)/float64(whole)+0.5)) / 10
}

// addresses lists the addresses of a network interface; none when it is gone.
func addresses(name string) wamp.List {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	all, err := ifc.Addrs()
	if err != nil {
		return nil
	}
	var out wamp.List
	for _, a := range all[:min(len(all), maxLinks)] {
		out = append(out, a.String())
	}
	return out
}
