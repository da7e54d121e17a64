package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/i2c"
	"github.com/postern-iot/postern/devices/scan"
	"github.com/postern-iot/postern/gateway/config"
)

const configText = `listen: {http: "127.0.0.1:8080", rawsocket: []}
realms: [{name: realm1, anonymous: full}]
devices:
  list:
    - {name: relay, type: gpio-output, pin: GPIO17}
    - {name: air, type: bme280, bus: /dev/i2c-1, address: 0x76}
    - {name: soil, type: mcp3008, port: /dev/spidev0.0, channels: [{name: wet, input: ch0}]}
    - {name: boiler, type: ds18b20, sensors: [{name: top, id: 28-0316a2794eff}]}
    - {name: scale, type: serial-lines, port: /dev/ttyUSB0, baud: 9600}
    - {name: lamp, type: pwm, channel: 0, frequency: 100}
`

const unitText = `[Service]
User=postern
ExecStart=/usr/bin/postern run -c /etc/postern/postern.yaml
StateDirectory=postern
`

const bootText = `# as delivered
dtparam=i2c_arm=on,spi=on
dtoverlay=w1-gpio
dtoverlay=pwm-2chan
enable_uart=1
dtparam=strict_gpiod
[pi5]
dtparam=nvme
[all]
`

// tcpHeader is the first line of /proc/net/tcp.
const tcpHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// pi is a tree of files that stands for a Raspberry Pi on which everything is
// well; a test spoils it.
type pi struct {
	t       *testing.T
	root    string
	config  string
	gid     int // of the device's nodes
	chips   []gpio.Chip
	answers []i2c.Answer
	probe   error
	gateway string
	now     time.Time
	synced  bool
}

func newPi(t *testing.T) *pi {
	t.Helper()
	p := &pi{t: t, root: t.TempDir(), config: configText, gid: os.Getgid(), synced: true, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	if os.Getuid() == 0 {
		p.gid = 60998
	}
	lines := make([]gpio.LineInfo, 58)
	for i := range lines {
		lines[i].Name = "GPIO" + strconv.Itoa(i)
	}
	p.chips = []gpio.Chip{{Path: "/dev/gpiochip0", Name: "gpiochip0", Label: "pinctrl-bcm2711", Lines: lines}}
	p.answers = []i2c.Answer{{Address: 0x76}}
	for name, text := range map[string]string{
		"proc/device-tree/model":             "Raspberry Pi 4 Model B Rev 1.5\x00",
		"proc/sys/kernel/osrelease":          "6.12.20+rpt-rpi-v8\n",
		"proc/cmdline":                       "console=tty1 root=PARTUUID=1\n",
		"proc/net/tcp":                       tcpHeader,
		"boot/firmware/config.txt":           bootText,
		"etc/passwd":                         fmt.Sprintf("root:x:0:0::/root:/bin/sh\npostern:x:%d:60777::/nonexistent:/bin/false\n", os.Getuid()+1000),
		"etc/group":                          fmt.Sprintf("root:x:0:\npostern:x:60777:\nhardware:x:%d:pi,postern\n", p.gid),
		"etc/systemd/system/postern.service": unitText,
		"sys/class/i2c-dev/i2c-1/name":       "bcm2835 (i2c@7e804000)\n",
		"sys/bus/w1/devices/w1_bus_master1/28-0316a2794eff/temperature": "21000\n",
		"sys/class/pwm/pwmchip0/npwm":                                   "2\n",
		"sys/class/tty/ttyUSB0/device/product":                          "FT232R\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":           "0\n",
	} {
		p.write(name, text)
	}
	for _, name := range []string{"gpiochip0", "i2c-1", "spidev0.0", "ttyUSB0"} {
		p.write("dev/"+name, "")
		p.mode("dev/"+name, 0o660)
	}
	return p
}

func (p *pi) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pi) mode(name string, mode fs.FileMode) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.Chmod(path, mode); err != nil {
		p.t.Fatal(err)
	}
	if p.gid != os.Getgid() {
		if err := os.Chown(path, os.Getuid(), p.gid); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *pi) remove(name string) {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.root, name)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pi) link(to, name string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pi) examine() []Area {
	p.t.Helper()
	p.t.Setenv("HOME", "/nonexistent")
	const path = "/etc/postern/postern.yaml"
	p.write(path, p.config)
	cfg, err := config.Parse(path, []byte(p.config), "/etc/postern", all.Table())
	if err != nil {
		p.t.Fatal(err)
	}
	return Examine(p.t.Context(), &Case{
		Path: path, Config: cfg, Gateway: p.gateway, Now: p.now, UID: os.Getuid(),
		Machine: scan.Machine{
			Root:  p.root,
			Chips: func() ([]gpio.Chip, []error) { return p.chips, nil },
			Probe: func(context.Context, string) ([]i2c.Answer, error) { return p.answers, p.probe },
		},
		Synchronised: func() (bool, bool) { return p.synced, true },
		Addresses:    []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

func TestNothingIsWrong(t *testing.T) {
	areas := newPi(t).examine()
	var names []string
	for _, a := range areas {
		names = append(names, a.Name)
		for _, f := range a.Findings {
			t.Errorf("%s: %s %s: %s (%s; %s)", a.Name, f.Level, f.Device, f.What, f.Why, f.Do)
		}
		if a.Summary == "" {
			t.Errorf("%s says nothing", a.Name)
		}
	}
	if have, want := strings.Join(names, " "), "config kernel user gpio i2c spi 1-wire serial pwm power clock state ports"; have != want {
		t.Errorf("areas: %s\nwant:  %s", have, want)
	}
}

// Each of these spoils one thing, and gives one finding.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(p *pi)
		area  string
		level Level
		what  string // in the finding's text and device
		do    string
	}{
		{"old kernel", func(p *pi) { p.write("proc/sys/kernel/osrelease", "5.4.0\n") }, "kernel", Problem, "relay: Linux 5.4.0 is too old", "apt full-upgrade"},
		{"no user", func(p *pi) { p.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n") }, "user", Problem, `no user "postern"`, "sudo useradd --system postern"},
		{"line held", func(p *pi) { p.chips[0].Lines[17] = gpio.LineInfo{Name: "GPIO17", Used: true, Consumer: "kettle"} }, "gpio", Problem, `relay: the line GPIO17 (/dev/gpiochip0 line 17) is held by "kettle"`, "sudo lsof /dev/gpiochip0"},
		{"line held by nobody in particular", func(p *pi) { p.chips[0].Lines[17].Used = true }, "gpio", Problem, "somebody who gave no name", "grep -n '^dt' /boot/firmware/config.txt"},
		{"chip's mode", func(p *pi) { p.mode("dev/gpiochip0", 0o600) }, "gpio", Problem, "postern may not open /dev/gpiochip0: only root may", `KERNEL=="gpiochip*", GROUP="gpio"`},
		{"no chip", func(p *pi) { p.remove("dev/gpiochip0") }, "gpio", Problem, "relay: this machine has no GPIO chip", "--sim"},
		{"no line", func(p *pi) { p.config = strings.Replace(p.config, "pin: GPIO17", "pin: HEATER", 1) }, "gpio", Problem, `relay: find GPIO line "HEATER"`, "devices scan"},
		{"outputs keep their level", func(p *pi) {
			p.write("boot/firmware/config.txt", strings.Replace(bootText, "strict_gpiod", "watchdog", 1))
		}, "gpio", Warning, "its line keeps its level when whoever drives it is killed", `printf '\ndtparam=strict_gpiod\n' | sudo tee -a /boot/firmware/config.txt && sudo reboot`},
		{"i2c not on", func(p *pi) {
			p.remove("sys/class/i2c-dev/i2c-1")
			p.remove("dev/i2c-1")
			p.write("boot/firmware/config.txt", strings.Replace(bootText, "i2c_arm=on,", "", 1))
		}, "i2c", Problem, "there is no I2C bus /dev/i2c-1", `printf '\ndtparam=i2c_arm=on\n' | sudo tee -a /boot/firmware/config.txt && sudo reboot`},
		{"i2c on, module missing", func(p *pi) { p.remove("dev/i2c-1") }, "i2c", Problem, "there is no I2C bus /dev/i2c-1", "sudo modprobe i2c-dev && echo i2c-dev"},
		{"wrong section", func(p *pi) {
			p.remove("dev/spidev0.0")
			p.write("boot/firmware/config.txt", "dtparam=i2c_arm=on,strict_gpiod\ndtoverlay=w1-gpio\ndtoverlay=pwm-2chan\n[pi5]\ndtparam=spi=on\n")
		}, "spi", Problem, "there is no SPI port /dev/spidev0.0", `printf '\n[all]\ndtparam=spi=on\n'`},
		{"i2c group", func(p *pi) {
			p.write("etc/group", fmt.Sprintf("spi:x:%d:pi\n", p.gid))
			p.mode("dev/gpiochip0", 0o666)
			p.mode("dev/spidev0.0", 0o666)
			p.mode("dev/ttyUSB0", 0o666)
		}, "i2c", Problem, "postern may not open /dev/i2c-1", "sudo usermod -aG spi postern"},
		{"chip does not answer", func(p *pi) { p.answers = nil }, "i2c", Problem, "air: nothing answers at 0x76 of /dev/i2c-1", "check SDA, SCL"},
		{"chip is elsewhere", func(p *pi) { p.answers = []i2c.Answer{{Address: 0x77}} }, "i2c", Problem, "air: nothing answers at 0x76", "write address: 0x77"},
		{"kernel's own driver", func(p *pi) { p.answers[0].Kernel = true }, "i2c", Problem, "air: a driver of the kernel has the address 0x76", "/sys/bus/i2c/devices/1-0076/driver"},
		{"bus hangs", func(p *pi) { p.probe = syscall.ETIMEDOUT }, "i2c", Problem, "connection timed out", "pull-ups"},
		{"bus not to be looked at", func(p *pi) { p.probe = fs.ErrPermission }, "i2c", Warning, "cannot be looked for", "sudo postern doctor -c /etc/postern/postern.yaml"},
		{"1-wire not on", func(p *pi) {
			p.remove("sys/bus/w1/devices/w1_bus_master1")
			p.write("boot/firmware/config.txt", strings.Replace(bootText, "dtoverlay=w1-gpio\n", "", 1))
		}, "1-wire", Problem, "no 1-wire bus w1_bus_master1", "dtoverlay=w1-gpio"},
		{"sensor missing", func(p *pi) {
			p.remove("sys/bus/w1/devices/w1_bus_master1/28-0316a2794eff")
			p.write("sys/bus/w1/devices/w1_bus_master1/28-0000075a1b2c/temperature", "1\n")
		}, "1-wire", Problem, "boiler: the sensor 28-0316a2794eff is not on w1_bus_master1", "28-0000075a1b2c"},
		{"serial gone", func(p *pi) { p.remove("dev/ttyUSB0") }, "serial", Problem, "no serial port /dev/ttyUSB0", "plug the adapter in"},
		{"serial console", func(p *pi) {
			p.config = strings.Replace(p.config, "/dev/ttyUSB0", "/dev/serial0", 1)
			p.write("dev/serial0", "")
			p.mode("dev/serial0", 0o660)
			p.write("proc/cmdline", "console=serial0,115200 root=1\n")
		}, "serial", Problem, "console to /dev/serial0", "raspi-config nonint do_serial_cons 1"},
		{"serial busy", func(p *pi) {
			p.write("proc/4711/comm", "minicom\n")
			p.link("/dev/ttyUSB0", "proc/4711/fd/3")
		}, "serial", Problem, "/dev/ttyUSB0 is open in minicom (process 4711)", "kill 4711"},
		{"no PWM", func(p *pi) {
			p.remove("sys/class/pwm")
			p.write("boot/firmware/config.txt", strings.Replace(bootText, "dtoverlay=pwm-2chan\n", "", 1))
		}, "pwm", Problem, "there is no PWM chip", "dtoverlay=pwm-2chan"},
		{"weak supply now", func(p *pi) { p.write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n") }, "power", Problem, "under voltage, throttled", "vcgencmd get_throttled"},
		{"hot before", func(p *pi) { p.write("sys/devices/platform/soc/soc:firmware/get_throttled", "80000\n") }, "power", Warning, "soft temperature limit", "vcgencmd measure_temp"},
		{"clock not set", func(p *pi) { p.now = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC) }, "clock", Problem, "the clock is not set", "timedatectl set-ntp true"},
		{"clock drifts", func(p *pi) { p.synced = false }, "clock", Warning, "no time server", "timedatectl set-ntp true"},
		{"port taken", func(p *pi) {
			p.write("proc/net/tcp", tcpHeader+"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1 0 100 0 0 10 0\n")
			p.write("proc/4711/comm", "nginx\n")
			p.link("socket:[31337]", "proc/4711/fd/6")
		}, "ports", Problem, "127.0.0.1:8080 of listen.http is taken by nginx (process 4711)", "systemctl status 4711"},
		{"low port", func(p *pi) { p.config = strings.Replace(p.config, "127.0.0.1:8080", "127.0.0.1:80", 1) }, "ports", Problem, "may not listen on port 80", "CAP_NET_BIND_SERVICE"},
		{"foreign address", func(p *pi) {
			p.config = strings.Replace(p.config, `http: "127.0.0.1:8080"`, `allow_anonymous_remote: true, http: "192.0.2.77:8080"`, 1)
		}, "ports", Problem, "192.0.2.77 of listen.http is not an address of this machine", "ip -brief address"},
		{"state not to be written", func(p *pi) { p.write("var/lib/postern/x", ""); p.mode("var/lib/postern", 0o755) }, "state", Problem, "postern may not write to /var/lib/postern", "sudo install -d -o postern -m 0700 /var/lib/postern"},
		{"worn card", func(p *pi) {
			p.write("sys/class/mmc_host/mmc0/mmc0:0001/life_time", "0x09 0x01\n")
			p.write("sys/class/mmc_host/mmc0/mmc0:0001/pre_eol_info", "0x01\n")
			p.write("sys/block/mmcblk0/device/life_time", "0x09 0x01\n")
			p.write("sys/block/mmcblk0/device/pre_eol_info", "0x01\n")
		}, "card", Warning, "the memory card has used up to 90 %", "write a new card"},
		{"secret in the open", func(p *pi) {
			p.config = strings.Replace(p.config, "devices:", "bridge: {brokers: [{name: plant, urls: ['tcp://127.0.0.1:1'], username: x, password: y}]}\ndevices:", 1)
		}, "secrets", Problem, "everybody on this machine may read the secrets in /etc/postern/postern.yaml (mode 0644)", "chmod 0640"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPi(t)
			c.spoil(p)
			var found []Finding
			area := ""
			for _, a := range p.examine() {
				found = append(found, a.Findings...)
				if len(a.Findings) > 0 {
					area = a.Name
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d findings: %+v", len(found), found)
			}
			f := found[0]
			what := f.What
			if f.Device != "" {
				what = f.Device + ": " + what
			}
			if area != c.area || f.Level != c.level || !strings.Contains(what, c.what) || !strings.Contains(f.Do, c.do) || f.Why == "" {
				t.Errorf("%s: %s: %s\nwhy: %s\ndo:  %s\nwant %s: %s: …%s…\ndo:  …%s…", area, f.Level, what, f.Why, f.Do, c.area, c.level, c.what, c.do)
			}
		})
	}
}

// What the gateway itself holds is no finding.
func TestOwnHands(t *testing.T) {
	p := newPi(t)
	p.gateway = "127.0.0.1:8080"
	p.chips[0].Lines[17] = gpio.LineInfo{Name: "GPIO17", Used: true, Consumer: "postern:relay", Output: true}
	p.write("proc/net/tcp", tcpHeader+"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1 0 100 0 0 10 0\n")
	p.write("proc/4711/comm", "postern\n")
	p.link("/dev/ttyUSB0", "proc/4711/fd/3")
	for _, a := range p.examine() {
		for _, f := range a.Findings {
			t.Errorf("%s: %+v", a.Name, f)
		}
	}
}

// Without a configuration only the machine is looked at.
func TestWithoutConfiguration(t *testing.T) {
	p := newPi(t)
	areas := Examine(t.Context(), &Case{Machine: scan.Machine{Root: p.root}, Now: p.now, Synchronised: func() (bool, bool) { return true, true }})
	if len(areas) != 4 || areas[0].Name != "kernel" || areas[0].Summary != "Linux 6.12.20+rpt-rpi-v8 on Raspberry Pi 4 Model B Rev 1.5" {
		t.Errorf("%+v", areas)
	}
}
