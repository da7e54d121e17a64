//go:build linux

// Package appliance is the first process of the appliance: it mounts, finds its
// card, keeps the clock and the network, starts the gateway and watches it, and
// restarts the machine when nothing else helps. The gateway is a second process
// of the same program, so that its end is not the machine's.
//
// Run has these goroutines, for as long as the machine runs: the network's, the
// clock's, the updates', the console's, and the one that makes the data larger; and one for each life of the
// gateway, which ends with it. The package touches no device of the gateway's:
// safe states are put by a process of the gateway's program.
package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/layout"
)

// dataDir is where the data partition is mounted.
const dataDir = "/data"

// Options say how the program is started as the gateway.
type Options struct {
	// Gateway are the arguments with which it runs as the gateway; it writes a
	// line to descriptor 3 when it is ready and every few seconds then.
	Gateway []string
	// SafeState are the arguments with which it puts all actuators into their
	// safe state.
	SafeState []string
}

// machine is the running appliance.
type machine struct {
	options  Options
	console  *console
	release  layout.Release
	settings *layout.Settings
	card     *card
	slot     int
	watchdog *watchdog
	logs     *logFile
	clock    *clock
	trial    *trial
	orders   chan string // how to restart, from the updates
	how      string
}

// Run is the first process. It does not return: at its end the machine
// restarts.
func Run(o Options) {
	m := &machine{options: o, settings: &layout.Settings{}, orders: make(chan string, 1)}
	err := m.guarded()
	m.logf("restarting: %v", err)
	m.restart(m.how)
}

// order has the machine restarted, once the gateway has stopped.
func (m *machine) order(how string) {
	select {
	case m.orders <- how:
	default: // it restarts already
	}
}

// guarded runs the machine and makes an error of a panic, so that the safe
// state is put before the machine restarts.
func (m *machine) guarded() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			m.safeState()
		}
	}()
	return m.run()
}

func (m *machine) run() error {
	mountKernel()
	m.console = newConsole(openConsole())
	if text, err := os.ReadFile("/etc/release.json"); err != nil || json.Unmarshal(text, &m.release) != nil {
		return fmt.Errorf("this is no appliance: /etc/release.json: %v", err)
	}
	m.slot = slotOf(firstLine("/proc/cmdline"))
	m.logf("postern appliance %s for %s, build %s, slot %d, on %s", m.release.Version, m.release.Board, m.release.Build, m.slot, firstLine("/proc/device-tree/model"))
	if !strings.Contains(firstLine("/proc/cmdline"), noWatchdog) {
		m.watchdog = openWatchdog(m.logf)
	}
	var err error
	if m.card, err = findCard(m.logf, m.watchdog.pet); err != nil {
		m.pause()
		return err
	}
	if err := m.openData(); err != nil {
		m.pause()
		return err
	}
	m.trial = m.newTrial()
	ctx := context.Background()
	if err := loopback(); err != nil {
		m.logf("loopback: %v", err)
	}
	go newNetwork(m).run(ctx)
	go m.clock.run(ctx)
	go m.card.grow(m.logf)
	go m.serveUpdates()
	return m.supervise()
}

// openData mounts the data, and takes from it what the machine's own is.
func (m *machine) openData() error {
	if err := m.card.mountData(dataDir); err != nil {
		return err
	}
	for _, dir := range []string{layout.StateDir, layout.LogDir, layout.KeysDir} {
		if err := os.MkdirAll(filepath.Join(dataDir, dir), 0o700); err != nil {
			return err
		}
	}
	if text, err := os.ReadFile(filepath.Join(dataDir, layout.SettingsFile)); err == nil {
		s, err := layout.ParseSettings(text)
		if err != nil {
			m.logf("%v", err) // DHCP and no updates are better than no machine
		} else {
			m.settings = s
		}
	}
	name := m.settings.Hostname
	if name == "" {
		name = "postern"
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		m.logf("set the name %q: %v", name, err)
	}
	m.logs = openLog(filepath.Join(dataDir, layout.LogDir, "appliance.log"), m.console)
	m.clock = newClock(filepath.Join(dataDir, layout.StateDir, "clock"), m.settings.NTP, m.logf)
	m.clock.restore()
	return makeKeys(filepath.Join(dataDir, layout.KeysDir), name, m.logf)
}

// logf writes a line with the seconds since the kernel's start.
func (m *machine) logf(format string, a ...any) {
	line := fmt.Sprintf("[%s] %s\n", uptime(), fmt.Sprintf(format, a...))
	switch {
	case m.logs != nil:
		_, _ = m.logs.Write([]byte(line))
	case m.console != nil:
		_, _ = m.console.Write([]byte(line))
	}
}

// pause leaves time to read the console before a restart.
func (m *machine) pause() {
	m.logf("restarting in 10 seconds")
	time.Sleep(10 * time.Second)
}

// restart writes all to the card and restarts the machine; how is what the
// firmware is told, such as "0 tryboot".
func (m *machine) restart(how string) {
	if m.clock != nil {
		m.clock.save()
	}
	if m.console != nil {
		m.console.drain()
	}
	unix.Sync()
	_ = unix.Unmount(dataDir, unix.MNT_DETACH)
	_ = unix.Mount("", dataDir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if how != "" {
		if err := restartWith(how); err != nil {
			m.logf("restart %q: %v", how, err)
		}
	}
	for {
		err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		m.logf("restart: %v", err)
		time.Sleep(10 * time.Second) // the watchdog does it in the end
	}
}

// mountKernel mounts what the kernel offers as files. There is nobody to tell
// yet when it fails: there is no console without /dev.
func mountKernel() {
	for _, f := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		_ = unix.Mount(f[0], f[1], f[0], unix.MS_NOSUID|unix.MS_NOEXEC, "")
	}
}

// openConsole makes the console the standard output; where the kernel has none,
// its log takes the lines.
func openConsole() *os.File {
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		if console, err = os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err != nil {
			return os.Stdout
		}
	}
	for fd := range 3 {
		_ = unix.Dup3(int(console.Fd()), fd, 0)
	}
	return console
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\x00\n")
}

// uptime is how long the kernel runs, in seconds, as text.
func uptime() string {
	first, _, _ := strings.Cut(firstLine("/proc/uptime"), " ")
	return first
}

// slotOf is the slot that a kernel's command line names, 0 for none.
func slotOf(cmdline string) int {
	for word := range strings.FieldsSeq(cmdline) {
		if n, ok := strings.CutPrefix(word, layout.SlotWord); ok {
			if slot, err := strconv.Atoi(n); err == nil && (slot == layout.SlotA || slot == layout.SlotB) {
				return slot
			}
		}
	}
	return 0
}

// noWatchdog is a word of the kernel's command line for machines whose watchdog
// is none.
const noWatchdog = "postern.watchdog=off"

// errStopped ends the supervision when the machine is told to restart.
var errStopped = errors.New("told to restart")
