package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ear is an Outlet that writes down what it hears.
type ear struct {
	said  []string
	state string
}

func (e *ear) Ready()                { e.state = "ready" }
func (e *ear) Degraded(reason error) { e.state = reason.Error() }

func (e *ear) Emit(reading string, value any, _ devices.Sample) {
	e.said = append(e.said, fmt.Sprintf("%s=%v", reading, value))
}

func (e *ear) Fault(reading string, reason error) {
	e.said = append(e.said, fmt.Sprintf("%s: %v", reading, reason))
}

func fixed(string) (disk, error) { return disk{used: 3 << 30, available: 9 << 30}, nil }

// open opens a machine on a fixture: vm is a copy from a virtual machine, pi is
// written after the kernel's documentation with a Pi 5's zones, broken has
// what a kernel should not say.
func open(t *testing.T, fixture string) *machine {
	t.Helper()
	p := Driver().NewParams().(*Params)
	p.Proc, p.Sys = filepath.Join("fixtures", fixture, "proc"), filepath.Join("fixtures", fixture, "sys")
	dev, err := Driver().Open(devices.Env{Name: "pi"}, p)
	if err != nil {
		t.Fatal(err)
	}
	m := dev.(*machine)
	m.usage = fixed
	m.addresses = func(string) wamp.List { return wamp.List{"192.0.2.7/24"} }
	return m
}

func TestMeasure(t *testing.T) {
	// 0x50005: under-voltage and throttled, now and since the start.
	const board = "throttling=map[flags:327685 frequency_capped:false frequency_capped_since_start:false soft_temperature_limit:false " +
		"soft_temperature_limit_since_start:false throttled:true throttled_since_start:true under_voltage:true under_voltage_since_start:true]"
	const wlan = "map[addresses:[192.0.2.7/24] mac:dc:a6:32:00:00:02 received:20 sent:3 state:down]"
	const links = "network=map[eth0:map[addresses:[192.0.2.7/24] mac:dc:a6:32:00:00:01 received:5000 sent:700 state:up] wlan0:" + wlan + "]"
	for _, c := range []struct {
		name, fixture string
		change        func(*machine)
		want          []string
		state         string
	}{
		{"pi", "pi", nil, []string{
			"cpu_temperature=48.7", "load1=0.52", "load5=0.31", "load15=0.14", "memory_used=15", "memory_available=3379195904",
			"disk_used=25", "disk_free=9663676416", "uptime=86412.07",
			"throttled=true", board, "card_used=30", "card_end=normal", "network_up=true", "network_received=5020", "network_sent=703", links,
		}, "ready"},
		{"a machine without a thermal zone", "vm", nil, []string{
			"load1=5.31", "load5=4.99", "load15=3.53", "memory_used=3.3", "memory_available=24436600832",
			"disk_used=25", "disk_free=9663676416", "uptime=4743.72",
		}, "ready"},
		{"another zone, no disk", "pi", func(m *machine) { m.Thermal, m.Disk = "rp1_adc", "" }, []string{
			"cpu_temperature=41.3", "load1=0.52", "load5=0.31", "load15=0.14", "memory_used=15", "memory_available=3379195904", "uptime=86412.07",
			"throttled=true", board, "card_used=30", "card_end=normal", "network_up=true", "network_received=5020", "network_sent=703", links,
		}, "ready"},
		{"a zone that is not there", "pi", func(m *machine) { m.Thermal, m.Proc = "gpu", "fixtures/none" }, []string{
			`cpu_temperature: find thermal zone: none of 2 is of the type "gpu"`, "disk_used=25", "disk_free=9663676416",
			"throttled=true", board, "card_used=30", "card_end=normal", "network_up=true", "network_received=5020", "network_sent=703", links,
		}, "ready"},
		{"one interface", "pi", func(m *machine) { m.Interface, m.Proc, m.Disk, m.Thermal = "wlan0", "fixtures/none", "", "rp1_adc" }, []string{
			"cpu_temperature=41.3", "throttled=true", board, "card_used=30", "card_end=normal",
			"network_up=false", "network_received=20", "network_sent=3", "network=map[wlan0:" + wlan + "]",
		}, "ready"},
		{"no such interface", "vm", func(m *machine) {
			m.Interface, m.Proc, m.Disk = "eth9", "fixtures/none", ""
			m.Sys = "fixtures/pi/sys"
			m.Thermal = "rp1_adc"
		}, []string{
			"cpu_temperature=41.3", "throttled=true", board, "card_used=30", "card_end=normal",
			`network_up: there is no network interface "eth9"`, `network_received: there is no network interface "eth9"`,
			`network_sent: there is no network interface "eth9"`, `network: there is no network interface "eth9"`,
		}, "ready"},
		{"nothing", "none", func(m *machine) { m.Disk = "" }, nil, "measure the system: no data on this machine"},
		{"nonsense", "broken", func(m *machine) {
			m.usage = func(string) (disk, error) { return disk{}, errors.New("statfs failed") }
		}, []string{
			`cpu_temperature: read "fixtures/broken/sys/class/thermal/thermal_zone0/temp": -274000 m°C is out of range`,
			`cpu_used: parse "fixtures/broken/proc/stat": the first line is not that of all processors`,
			`load1: parse "fixtures/broken/proc/loadavg": too few fields`, `load5: parse "fixtures/broken/proc/loadavg": too few fields`,
			`load15: parse "fixtures/broken/proc/loadavg": too few fields`,
			`memory_used: parse "fixtures/broken/proc/meminfo": MemTotal and MemAvailable are missing or wrong`,
			`memory_available: parse "fixtures/broken/proc/meminfo": MemTotal and MemAvailable are missing or wrong`,
			"disk_used: statfs failed", "disk_free: statfs failed",
			`uptime: parse "fixtures/broken/proc/uptime": strconv.ParseFloat: parsing "soon": invalid syntax`,
			`throttled: parse "fixtures/broken/sys/devices/platform/soc/soc_firmware/get_throttled": strconv.ParseUint: parsing "hot": invalid syntax`,
			`throttling: parse "fixtures/broken/sys/devices/platform/soc/soc_firmware/get_throttled": strconv.ParseUint: parsing "hot": invalid syntax`,
			`card_used: parse "fixtures/broken/sys/class/mmc_host/mmc0/mmc0_0001/life_time": "0x20" is no step from 0x00 to 0x0b`,
			`card_end: parse "fixtures/broken/sys/class/mmc_host/mmc0/mmc0_0001/life_time": "0x20" is no step from 0x00 to 0x0b`,
			`network_up: parse "fixtures/broken/sys/class/net/eth0/statistics/rx_bytes": strconv.ParseUint: parsing "-1": invalid syntax`,
			`network_received: parse "fixtures/broken/sys/class/net/eth0/statistics/rx_bytes": strconv.ParseUint: parsing "-1": invalid syntax`,
			`network_sent: parse "fixtures/broken/sys/class/net/eth0/statistics/rx_bytes": strconv.ParseUint: parsing "-1": invalid syntax`,
			`network: parse "fixtures/broken/sys/class/net/eth0/statistics/rx_bytes": strconv.ParseUint: parsing "-1": invalid syntax`,
		}, "measure the system: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t, c.fixture)
			if c.change != nil {
				c.change(m)
			}
			var e ear
			m.measure(time.Now(), &e)
			if !slices.Equal(e.said, c.want) {
				t.Errorf("have\n%s\nwant\n%s", strings.Join(e.said, "\n"), strings.Join(c.want, "\n"))
			}
			if !strings.HasPrefix(e.state, c.state) {
				t.Errorf("have %q, want %q", e.state, c.state)
			}
			if err := m.Halt(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The use is that of the time between two measurements.
func TestCPUUsed(t *testing.T) {
	dir := t.TempDir()
	m := open(t, "vm")
	m.Proc = dir
	for _, c := range []struct{ stat, want string }{
		{"cpu  100 0 100 700 100 0 0 0 0 0\n", "no data on this machine"},
		{"cpu  130 0 110 750 110 0 0 0 0 0\n", "40"},    // 40 of 100 ticks
		{"cpu  130 0 110 850 110 0 0 0 99 0\n", "0"},    // a guest's time is in user already
		{"cpu  130 0 110 850 110 0 0 100 0 0\n", "100"}, // stolen
		{"cpu  130 0 110 850 110 0 0 100 0 0\n", "no data on this machine"},
		{"cpu  1 0 1 1 1 0 0 1 0 0\n", "no data on this machine"}, // the counters began anew
		{"cpu  x 0 1 1 1\n", "invalid syntax"},
		{"cpu  1 0\n", "not that of all processors"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(c.stat), 0o600); err != nil {
			t.Fatal(err)
		}
		used, err := m.cpuUsed()
		if have := fmt.Sprint(used, err); have != c.want+" <nil>" && (err == nil || !strings.Contains(have, c.want)) {
			t.Errorf("%q: have %v, %v, want %v", c.stat, used, err, c.want)
		}
	}
}

func TestRunMeasuresAtItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, "pi")
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		var e ear
		if err := m.Run(ctx, &e); err != nil {
			t.Error(err)
		}
		n := 0
		for _, s := range e.said {
			if strings.HasPrefix(s, "uptime=") {
				n++
			}
		}
		if n != 3 {
			t.Errorf("have %d measurements in 25 s, want 3", n)
		}
	})
}

// A simulated machine has a value for every reading.
func TestSimulated(t *testing.T) {
	p := Driver().NewParams().(*Params)
	p.Simulate()
	dev, err := Driver().Open(devices.Env{Name: "pi"}, p)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var e ear
		if err := dev.Run(ctx, &e); err != nil || len(e.said) != len(readings) || e.state != "ready" {
			t.Errorf("%d of %d readings, state %q, %v", len(e.said), len(readings), e.state, err)
		}
	})
}

// The machine that runs this test has a load, memory and a disk.
func TestThisMachine(t *testing.T) {
	m := open(t, "vm")
	m.usage = diskUsage
	m.Disk = t.TempDir()
	if d, err := m.usage(m.Disk); err != nil || d.used+d.available == 0 {
		t.Errorf("disk: have %+v, %v", d, err)
	}
	if _, err := m.usage(filepath.Join(m.Disk, "missing")); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a disk that is not there: have %v", err)
	}
}
