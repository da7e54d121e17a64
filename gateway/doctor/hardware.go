package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/i2c"
	"github.com/postern-iot/postern/devices/onewire"
	"github.com/postern-iot/postern/devices/pwm"
	"github.com/postern-iot/postern/devices/serial"
	"github.com/postern-iot/postern/devices/spi"
)

// gpio looks for the lines, and for who holds them.
func (e *examination) gpio() string {
	all := e.of("gpio")
	if len(all) == 0 {
		return ""
	}
	nodes, _ := filepath.Glob(e.at("/dev/gpiochip*"))
	if len(nodes) == 0 {
		e.problem(all[0].device, "this machine has no GPIO chip (/dev/gpiochip*)", "the device "+all[0].device+" and others have their lines there",
			"postern run --sim tries the configuration out on simulated hardware")
		return ""
	}
	chips, failed := e.Machine.Chips()
	e.chips = chips
	for _, err := range failed {
		if !errors.Is(err, fs.ErrPermission) {
			e.warning("", err.Error(), "its lines cannot be looked at", "postern devices scan")
		}
	}
	seen := map[string]bool{}
	for _, n := range all {
		addr, err := gpio.Locate(n.which, n.where, chips)
		if err != nil {
			if len(failed) == 0 {
				e.problem(n.device, err.Error(), "the device cannot start", "postern devices scan shows the chips and their lines")
			} else if !seen["denied"] {
				seen["denied"] = true
				e.warning(n.device, failed[0].Error(), "whether its line is free cannot be seen", "sudo postern doctor -c "+e.Path)
			}
			continue
		}
		if !seen[addr.Path] {
			seen[addr.Path] = true
			e.node(addr.Path, "the device "+n.device+" has its line there", "gpio")
		}
		e.holder(n, addr)
		if n.typ == "gpio-output" && !seen["strict"] && e.persistent(addr) {
			seen["strict"] = true
			e.warning(n.device, "its line keeps its level when whoever drives it is killed",
				"the service's safe-state command puts that right a moment later; with dtparam=strict_gpiod the kernel itself lets go of the line, and its pull decides",
				e.board.add("dtparam=strict_gpiod"))
		}
	}
	return fmt.Sprintf("%d lines, free or the gateway's own", len(all))
}

// persistent says whether the kernel leaves a line driven that nobody holds any
// more, which that of Raspberry Pis up to the 4 does unless told otherwise.
func (e *examination) persistent(addr gpio.Address) bool {
	return e.board.path != "" && !e.board.param("strict_gpiod") && slices.ContainsFunc(e.chips, func(c gpio.Chip) bool {
		return c.Path == addr.Path && strings.HasPrefix(c.Label, "pinctrl-bcm2")
	})
}

// holder says when a line is not the gateway's to have.
func (e *examination) holder(n need, addr gpio.Address) {
	i := slices.IndexFunc(e.chips, func(c gpio.Chip) bool { return c.Path == addr.Path })
	if i < 0 || int(addr.Offset) >= len(e.chips[i].Lines) {
		return
	}
	l := e.chips[i].Lines[addr.Offset]
	if !l.Used || e.Gateway != "" && strings.HasPrefix(l.Consumer, "postern") {
		return
	}
	holder := fmt.Sprintf("%q", l.Consumer)
	if l.Consumer == "" {
		holder = "somebody who gave no name"
	}
	do := fmt.Sprintf("sudo lsof %s shows the process, if it is one; a driver of the kernel's goes with its dtoverlay or dtparam", addr.Path)
	if e.board.path != "" {
		do += fmt.Sprintf(" (grep -n '^dt' %s)", e.board.path)
	}
	e.problem(n.device, fmt.Sprintf("the line %s is held by %s", addr, holder), "the device cannot have it, and does not start", do)
}

// i2c looks for the busses, and asks them for the chips.
func (e *examination) i2c() string {
	all := e.of("i2c")
	var sound []string
	for _, where := range places(all) {
		b, err := i2c.FindBus(e.Machine.Root, where)
		why := users(all, where)
		if err != nil {
			e.problem("", err.Error(), why, "postern devices scan lists the busses; plug the adapter in, or write another bus")
			continue
		}
		if !e.node(b.Path, why, "i2c") {
			e.problem("", fmt.Sprintf("there is no I2C bus %s", b.Path), why, e.missingI2C(b.Path))
			continue
		}
		answers, err := e.Machine.Probe(e.ctx, b.Node(e.Machine.Root))
		switch {
		case errors.Is(err, fs.ErrPermission):
			e.warning("", fmt.Sprintf("the chips on %s cannot be looked for: it may not be opened", b.Path), "whether they answer is not known", "sudo postern doctor -c "+e.Path)
			continue
		case err != nil:
			e.problem("", err.Error(), why, "check the wiring and the pull-ups, and take the power off the chips")
			continue
		}
		sound = append(sound, b.Path)
		for _, n := range all {
			if n.where == where {
				e.chip(n, &b, answers)
			}
		}
	}
	if len(all) == 0 || len(sound) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d chips, all answer", strings.Join(sound, ", "), len(all))
}

func (e *examination) missingI2C(path string) string {
	switch {
	case !e.board.pi():
		return "sudo modprobe i2c-dev; a USB adapter must be plugged in; postern devices scan lists the busses"
	case path == "/dev/i2c-1" && !e.board.param("i2c_arm") && !e.board.param("i2c"):
		return e.board.add("dtparam=i2c_arm=on")
	case path == "/dev/i2c-1":
		return "sudo modprobe i2c-dev && echo i2c-dev | sudo tee /etc/modules-load.d/i2c.conf; if dtparam=i2c_arm=on is new, sudo reboot"
	case path == "/dev/i2c-0":
		return e.board.add("dtparam=i2c_vc=on")
	}
	return "postern devices scan lists the busses; for a further one, " + e.board.add("dtoverlay=i2c"+strings.TrimPrefix(path, "/dev/i2c-"))
}

// chip says when a chip does not answer, and where one like it does.
func (e *examination) chip(n need, b *i2c.Bus, answers []i2c.Answer) {
	var near []string
	for _, a := range answers {
		if a.Address.String() == n.which {
			if a.Kernel {
				e.problem(n.device, fmt.Sprintf("a driver of the kernel has the address %s of %s", n.which, b.Path), "two drivers for one chip disturb each other",
					fmt.Sprintf("ls -l /sys/bus/i2c/devices/%d-%04s/driver names it; remove its overlay from the boot configuration", b.Number, strings.TrimPrefix(n.which, "0x")))
			}
			return
		}
		if slices.ContainsFunc(i2c.Candidates(a.Address), func(c i2c.Candidate) bool { return c.Type == n.typ }) {
			near = append(near, a.Address.String())
		}
	}
	do := fmt.Sprintf("check SDA, SCL, 3.3 V and ground; postern devices scan --bus %s shows what answers", b.Path)
	if len(near) > 0 {
		do = fmt.Sprintf("at %s there is one that could be it: if its address pins are wired so, write address: %s", strings.Join(near, ", "), near[0])
	}
	e.problem(n.device, fmt.Sprintf("nothing answers at %s of %s", n.which, b.Path), "the device has no readings and is tried again and again", do)
}

func (e *examination) spi() string {
	all := e.of("spi")
	for _, path := range places(all) {
		why := users(all, path)
		if e.node(path, why, "spi") {
			continue
		}
		do := "the machine needs a device tree with spidev; postern devices scan lists the ports"
		switch {
		case !e.board.pi():
		case strings.HasPrefix(path, "/dev/spidev0.") && !e.board.param("spi"):
			do = e.board.add("dtparam=spi=on")
		case strings.HasPrefix(path, "/dev/spidev1.") && !e.board.overlay("spi1-1cs", "spi1-2cs", "spi1-3cs"):
			do = e.board.add("dtoverlay=spi1-3cs")
		default:
			do = "the boot configuration has it: if that is new, sudo reboot"
		}
		e.problem("", "there is no SPI port "+path, why, do)
	}
	if len(all) == 0 {
		return ""
	}
	return strings.Join(places(all), ", ") + " of " + fmt.Sprint(len(spi.Ports(e.Machine.Root)))
}

func (e *examination) oneWire() string {
	all := e.of("1-wire")
	busses := onewire.Busses(e.Machine.Root)
	for _, name := range places(all) {
		i := slices.IndexFunc(busses, func(b onewire.Bus) bool { return b.Name == name })
		if i < 0 {
			do := "sudo modprobe w1-gpio, or the kernel's driver of your adapter (ds2482, ds2490)"
			switch {
			case e.board.pi() && !e.board.overlay("w1-gpio", "w1-gpio-pullup", "w1-gpio-pi5"):
				do = e.board.add("dtoverlay=w1-gpio") + ", with the sensors on GPIO4 (pin 7)"
			case e.board.pi():
				do = "the boot configuration has it: if that is new, sudo reboot"
			}
			e.problem("", "there is no 1-wire bus "+name, users(all, name), do)
			continue
		}
		for _, n := range all {
			if n.where != name || slices.Contains(busses[i].Sensors, n.which) {
				continue
			}
			do := "check data, ground and the resistor of 4.7 kΩ to 3.3 V"
			var spare []string
			for _, id := range busses[i].Sensors {
				if !slices.ContainsFunc(all, func(o need) bool { return o.which == id }) {
					spare = append(spare, id)
				}
			}
			if len(spare) > 0 {
				do += "; on the bus, and in no device, is " + strings.Join(spare, ", ")
			}
			e.problem(n.device, fmt.Sprintf("the sensor %s is not on %s", n.which, name), "it has no reading", do)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d sensors, all there", len(all))
}

// console are the names that the kernel's console may have on a Raspberry Pi's
// own port.
var console = []string{"serial0", "ttyAMA0", "ttyS0", "ttyAMA10"}

func (e *examination) serial() string {
	all := e.of("serial")
	for _, path := range places(all) {
		why := users(all, path)
		base := filepath.Base(path)
		if !e.node(path, why, "dialout") {
			e.problem("", "there is no serial port "+path, why, e.missingSerial(base))
			continue
		}
		if slices.Contains(console, base) && strings.Contains(" "+text(e.at("/proc/cmdline")), " console="+base) {
			e.problem("", "the kernel writes its console to "+path, why+", and would get its messages, and a login besides",
				"sudo raspi-config nonint do_serial_cons 1 && sudo reboot")
		}
		if p := e.opener(path); p != nil && !(e.Gateway != "" && p.name == "postern") {
			e.problem("", fmt.Sprintf("%s is open in %s", path, p), why+"; two readers take each other's bytes", p.stop())
		}
	}
	if len(all) == 0 {
		return ""
	}
	return strings.Join(places(all), ", ")
}

func (e *examination) missingSerial(base string) string {
	if e.board.pi() && slices.Contains(console, base) && e.board.others["enable_uart"] != "1" {
		return e.board.add("enable_uart=1")
	}
	var have []string
	for _, p := range serial.Ports(e.Machine.Root) {
		have = append(have, p.Name())
	}
	if len(have) == 0 {
		return "plug the adapter in: there is no serial port at all"
	}
	return "plug the adapter in, or write another port; there are " + strings.Join(have, ", ")
}

func (e *examination) pwm() string {
	all := e.of("pwm")
	chips := pwm.Chips(e.Machine.Root)
	for _, where := range places(all) {
		why := users(all, where)
		i := slices.IndexFunc(chips, func(c pwm.Chip) bool { return where == "" || where == c.Name || where == c.Device })
		if i >= 0 && (where != "" || len(chips) == 1) {
			continue
		}
		do := "postern devices scan lists the PWM chips"
		what := fmt.Sprintf("there is no PWM chip %q", where)
		switch {
		case len(chips) > 1 && where == "":
			what, do = fmt.Sprintf("there are %d PWM chips, and the configuration does not say which", len(chips)), do+"; write chip: in the device"
		case e.board.pi() && !e.board.overlay("pwm", "pwm-2chan"):
			do = e.board.add("dtoverlay=pwm-2chan")
		}
		if where == "" && len(chips) == 0 {
			what = "there is no PWM chip"
		}
		e.problem("", what, why, do)
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d channels", len(all))
}
