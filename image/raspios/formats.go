package raspios

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// firstBoot installs the gateway's package and its files. All formats run it.
//
//go:embed firstboot.sh
var firstBoot string

// shell quotes a text for sh.
func shell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }

// yaml quotes a text: what JSON has as a string is one in YAML, too.
func yaml(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always can be
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// toml quotes a text for the parser of rpi-preseed, which knows two escapes.
func toml(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// firstRun is the script of the format systemd. What it calls is there in
// Raspberry Pi OS since 2022 (raspberrypi-sys-mods, userconf-pi). Its last lines
// are as Raspberry Pi Imager has them: a later release looks for them, and puts
// /boot/firmware for /boot.
func (s *Settings) firstRun() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	custom := "/usr/lib/raspberrypi-sys-mods/imager_custom"
	line("#!/bin/sh")
	line("# Written by postern image customise; runs once, at the first boot.")
	line("exec >>/var/log/postern-firstrun.log 2>&1")
	line("set +e")
	if s.Hostname != "" {
		line("%s set_hostname %s", custom, shell(s.Hostname))
	}
	if s.User != "" {
		line("/usr/lib/userconf-pi/userconf %s %s", shell(s.User), shell(s.passwordOrNone()))
		if len(s.Keys) > 0 {
			var args []string
			for _, k := range s.Keys {
				args = append(args, shell(k))
			}
			line("%s enable_ssh -k %s", custom, strings.Join(args, " "))
		} else {
			line("%s enable_ssh -p", custom)
		}
	}
	if s.WiFi != nil {
		hidden := ""
		if s.WiFi.Hidden {
			hidden = "-h "
		}
		line("%s set_wlan %s%s %s %s", custom, hidden, shell(s.WiFi.SSID), shell(s.WiFi.Key), shell(s.Country))
	} else if s.Country != "" {
		line("%s set_wlan_country %s", custom, shell(s.Country))
	}
	if s.Timezone != "" {
		line("%s set_timezone %s", custom, shell(s.Timezone))
	}
	if s.I2C {
		line("echo i2c-dev >/etc/modules-load.d/postern.conf")
	}
	if s.Deb != nil {
		line("for boot in /boot/firmware /boot; do")
		line("  if [ -f $boot/%s/firstboot.sh ]; then sh $boot/%s/firstboot.sh; break; fi", folder, folder)
		line("done")
	}
	line("rm -f /boot/firstrun.sh")
	line(`sed -i 's| systemd\.[^ ]*||g' /boot/cmdline.txt`)
	line("exit 0")
	return b.String()
}

// passwordOrNone is a hash, or what no password has.
func (s *Settings) passwordOrNone() string {
	if s.Password == "" {
		return "!"
	}
	return s.Password
}

// userData is cloud-init's user-data; rpi says that its module for the Raspberry
// Pi is there (cloud-init, cc_raspberry_pi).
func (s *Settings) userData(rpi bool) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("#cloud-config")
	line("# Written by postern image customise.")
	if s.Hostname != "" {
		line("hostname: %s", s.Hostname)
		line("manage_etc_hosts: true")
	}
	if s.Timezone != "" {
		line("timezone: %s", s.Timezone)
	}
	if s.User != "" {
		// Not "users": that would be an account without the groups of the
		// distribution's own.
		line("user:")
		line("  name: %s", s.User)
		line("  shell: /bin/bash")
		line("  lock_passwd: %t", s.Password == "")
		if s.Password != "" {
			line("  passwd: %s", yaml(s.Password))
			// Else the distribution's rule stays: sudo without a password.
			line("  sudo: null")
		}
		if len(s.Keys) > 0 {
			line("  ssh_authorized_keys:")
			for _, k := range s.Keys {
				line("    - %s", yaml(k))
			}
		}
		line("ssh_pwauth: %t", len(s.Keys) == 0)
	}
	if rpi && (s.I2C || s.SPI || s.OneWire || s.Serial) {
		line("rpi:")
		line("  interfaces:")
		for _, i := range []struct {
			on   bool
			name string
		}{{s.I2C, "i2c"}, {s.SPI, "spi"}, {s.OneWire, "onewire"}} {
			if i.on {
				line("    %s: true", i.name)
			}
		}
		if s.Serial {
			line("    serial: {console: false, hardware: true}")
		}
	}
	var commands []string
	if s.User != "" {
		// Raspberry Pi OS comes with SSH off.
		commands = append(commands, "[systemctl, enable, --now, ssh]")
	}
	if s.I2C {
		commands = append(commands, "[sh, -c, "+yaml("echo i2c-dev >/etc/modules-load.d/postern.conf; modprobe i2c-dev")+"]")
	}
	if s.Deb != nil {
		commands = append(commands, "[sh, /boot/firmware/"+folder+"/firstboot.sh]")
	}
	if len(commands) > 0 {
		line("runcmd:\n  - %s", strings.Join(commands, "\n  - "))
	}
	return b.String()
}

// networkConfig is cloud-init's network-config, in netplan's form. It takes the
// place of the distribution's, so it has the cable, too.
func (s *Settings) networkConfig() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("network:")
	line("  version: 2")
	line("  ethernets:")
	line("    eth0: {dhcp4: true, dhcp6: true, optional: true}")
	line("  wifis:")
	line("    wlan0:")
	line("      dhcp4: true")
	line("      optional: true")
	line("      regulatory-domain: %s", yaml(s.Country))
	line("      access-points:")
	line("        %s:", yaml(s.WiFi.SSID))
	line("          hidden: %t", s.WiFi.Hidden)
	if s.WiFi.Key != "" {
		line("          password: %s", yaml(s.WiFi.Key))
	} else {
		line("          auth: {key-management: none}")
	}
	return b.String()
}

// toml is rpi-preseed's file (rpi-preseed, schema/rpi-preseed.schema).
func (s *Settings) toml() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("# Written by postern image customise.")
	line(`config_version = "1.1"`)
	if s.Hostname != "" {
		line("\n[system]\nhostname = %s", toml(s.Hostname))
	}
	if s.User != "" {
		line("\n[user]\nname = %s", toml(s.User))
		line("password = %s\npassword_encrypted = true", toml(s.passwordOrNone()))
		line(`groups = ["sudo"]`)
		line("\n[ssh]\nenabled = true\npassword_authentication = %t", len(s.Keys) == 0)
		if len(s.Keys) > 0 {
			line("authorized_keys = [")
			for _, k := range s.Keys {
				line("  %s,", toml(k))
			}
			line("]")
		}
	}
	if w := s.WiFi; w != nil {
		line("\n[wlan]\nssid = %s", toml(w.SSID))
		if w.Key != "" {
			line("password = %s\npassword_encrypted = true", toml(w.Key))
		}
		line("hidden = %t\ncountry = %s", w.Hidden, toml(s.Country))
	} else if s.Country != "" {
		line("\n[wlan]\ncountry = %s", toml(s.Country))
	}
	if s.Timezone != "" {
		line("\n[locale]\ntimezone = %s", toml(s.Timezone))
	}
	if s.I2C || s.SPI || s.OneWire || s.Serial {
		line("\n[interfaces]")
		for _, i := range []struct {
			on   bool
			text string
		}{{s.I2C, "i2c = true"}, {s.SPI, "spi = true"}, {s.OneWire, "onewire = true"}, {s.Serial, `serial = "hardware"`}} {
			if i.on {
				line("%s", i.text)
			}
		}
	}
	if s.Deb != nil {
		// The package needs neither network nor the right time.
		line("\n[runcmd]\nlate = [%s]\nlate_require_time_sync = false", toml("sh /boot/firmware/"+folder+"/firstboot.sh"))
	}
	return b.String()
}
