package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices/system"
)

// power is what the firmware of a Raspberry Pi says of supply and heat.
func (e *examination) power() string {
	now, before, ok := system.Throttled(e.at("/sys"))
	if !ok {
		return ""
	}
	words := func(flags []string) string { return strings.ReplaceAll(strings.Join(flags, ", "), "_", " ") }
	do := "vcgencmd get_throttled shows it again; use the board's own power supply and a short cable, nothing else on its USB"
	if !strings.Contains(strings.Join(append(now, before...), " "), "under_voltage") {
		do = "vcgencmd measure_temp; give the processor a heat sink or air"
	}
	switch {
	case len(now) > 0:
		e.problem("", "the firmware reports: "+words(now), "the board slows down, USB devices drop out, and cards lose data", do)
	case len(before) > 0:
		e.warning("", "since the start the firmware has reported: "+words(before), "it will again: the board slowed down, and cards may lose data", do)
	}
	return "the supply is good, and nothing is too hot"
}

// earliest is a time that any clock that was ever set has passed.
var earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func (e *examination) clock() string {
	const why = "readings have wrong times, certificates count as not yet valid, and tokens as expired"
	const do = "sudo timedatectl set-ntp true; timedatectl timesync-status shows why not"
	if e.Now.Before(earliest) {
		e.problem("", "the clock is not set: "+e.Now.UTC().Format(time.RFC3339), why, do)
		return ""
	}
	now := e.Now.UTC().Format("2006-01-02 15:04:05 MST")
	if _, err := os.Stat(e.at("/run/systemd/timesync/synchronized")); err == nil {
		return now + ", synchronised"
	}
	switch yes, known := e.Synchronised(); {
	case known && yes:
		return now + ", synchronised"
	case known:
		e.warning("", "no time server sets the clock: it shows "+now, "it drifts, and after a power cut a board without a battery is wrong: "+why, do)
	}
	return now
}

func (e *examination) card() string {
	used, reserve, ok := system.CardWear(e.at("/sys"))
	if !ok {
		return ""
	}
	what := fmt.Sprintf("the memory card has used up to %d %% of its life", used)
	const why = "a worn card turns read-only or loses data without warning"
	const do = "write a new card, of an industrial or endurance grade, and keep state_dir small"
	switch {
	case used >= 100 || reserve == 3:
		e.problem("", what, why, do)
	case used >= 80 || reserve == 2:
		e.warning("", what, why, do)
	}
	return what
}

// state looks at the folder of what outlives a restart.
func (e *examination) state() string {
	dir := e.Config.Devices.StateDir
	if e.Config.StateDir == "" && e.unit.stateDir != "" {
		dir = e.unit.stateDir
	}
	const why = "totals of meters, last states of outputs and what waits for a broker do not outlive a restart"
	if dir == "" {
		e.warning("", "there is no folder for state", why, "write state_dir: /var/lib/postern into the configuration")
		return ""
	}
	info, err := os.Stat(e.at(dir))
	if err != nil {
		if dir == e.unit.stateDir {
			return dir + " (systemd makes it)"
		}
		parent := dir
		for err != nil && parent != filepath.Dir(parent) {
			parent = filepath.Dir(parent)
			info, err = os.Stat(e.at(parent))
		}
		if err != nil || !e.user.may(info, 3) {
			e.problem("", fmt.Sprintf("%s is not there, and %s may not make it", dir, e.user.name), why, e.giveFolder(dir))
		}
		return dir + " (the gateway makes it)"
	}
	switch {
	case !info.IsDir():
		e.problem("", dir+" is no folder", why, "write another state_dir into the configuration")
	case !e.user.may(info, 7):
		e.problem("", fmt.Sprintf("%s may not write to %s", e.user.name, dir), why, e.giveFolder(dir))
	}
	return dir
}

func (e *examination) giveFolder(dir string) string {
	return fmt.Sprintf("sudo install -d -o %s -m 0700 %s", e.user.name, dir)
}

// readable examines whether the gateway may read a file. It returns nil when
// it is not there, or not a file, which is a problem as well.
func (e *examination) readable(path, why string) fs.FileInfo {
	info, err := os.Stat(e.at(path))
	switch {
	case err != nil:
		e.problem("", fmt.Sprintf("%s cannot be read: %v", path, err), why, "ls -l "+path)
		return nil
	case !info.Mode().IsRegular():
		e.problem("", path+" is no file", why, "ls -l "+path)
		return nil
	case !e.user.may(info, 4):
		e.problem("", fmt.Sprintf("%s may not read %s (mode %04o)", e.user.name, path, uint32(info.Mode().Perm())), why,
			fmt.Sprintf("sudo chgrp %s %s && sudo chmod 0640 %s", e.user.groupName(), path, path))
	}
	return info
}

// groupName is the user's first group, else its own name.
func (p *person) groupName() string {
	if len(p.groups) > 0 && p.names[p.groups[0]] != "" {
		return p.names[p.groups[0]]
	}
	return p.name
}
