// Package doctor examines a machine for a configuration: whether the gateway
// can work there, and what to type where it cannot. It reads files, asks the
// addresses of I2C busses as i2cdetect does, and changes nothing: no port is
// opened and no line requested. It has no goroutines.
//
// Everything is looked at below one root folder, so that trees of files can
// stand for machines.
package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/scan"
	"github.com/postern-iot/postern/gateway/config"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	// Problem keeps something from working, or from being safe.
	Problem Level = "problem"
	// Warning does not, yet.
	Warning Level = "warning"
)

// Finding is something that is wrong.
type Finding struct {
	Level  Level  `json:"level"`
	Device string `json:"device,omitempty"` // the one of the configuration that suffers, "" for none
	What   string `json:"what"`
	Why    string `json:"why"` // it matters
	Do     string `json:"do"`  // what to type
}

// Area is a part of the machine that was examined.
type Area struct {
	Name string `json:"area"`
	// Summary is what there is to say when nothing is wrong.
	Summary  string    `json:"summary"`
	Findings []Finding `json:"findings"`
}

// Case is what is to be examined.
type Case struct {
	// Path is the configuration's file, Config what it says; nil leaves out
	// everything that follows from one.
	Path   string
	Config *config.Config
	// User is the name of the one that the gateway runs as; empty for the one
	// that the systemd unit names, else the one that asks.
	User string
	// Gateway is where a gateway of this configuration answers, "" for nowhere.
	Gateway string
	Machine scan.Machine
	Now     time.Time
	// Synchronised says whether the clock is set by a time server, and whether
	// that is known at all.
	Synchronised func() (synchronised, known bool)
	// Addresses are those of the machine's network interfaces.
	Addresses []net.IP
	// UID is the one that asks.
	UID int
}

// New is a case of this machine.
func New(path string, cfg *config.Config) *Case {
	c := &Case{Path: path, Config: cfg, Machine: scan.New(), Now: time.Now(), Synchronised: synchronised, UID: os.Getuid()}
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if ip, ok := a.(*net.IPNet); ok {
				c.Addresses = append(c.Addresses, ip.IP)
			}
		}
	}
	return c
}

// examination is a case while it is worked on.
type examination struct {
	*Case
	ctx   context.Context
	user  person
	unit  unit
	board board
	needs []need
	chips []gpio.Chip
	procs []process

	area *Area
}

// Examine looks at everything, area by area. ctx bounds what asks the hardware.
func Examine(ctx context.Context, c *Case) []Area {
	e := &examination{Case: c, ctx: ctx}
	e.unit = readUnit(c.Machine.Root)
	e.user = e.whom()
	e.board = readBoard(c.Machine.Root)
	e.needs = needs(c.Config)
	e.procs = processes(c.Machine.Root)
	steps := []struct {
		name   string
		config bool // needs a configuration
		look   func() string
	}{
		{"config", true, e.config},
		{"kernel", false, e.kernel},
		{"user", false, e.who},
		{"gpio", true, e.gpio},
		{"i2c", true, e.i2c},
		{"spi", true, e.spi},
		{"1-wire", true, e.oneWire},
		{"serial", true, e.serial},
		{"pwm", true, e.pwm},
		{"power", false, e.power},
		{"clock", false, e.clock},
		{"card", false, e.card},
		{"state", true, e.state},
		{"ports", true, e.ports},
		{"certificates", true, e.certificates},
		{"secrets", true, e.secrets},
	}
	var all []Area
	for _, s := range steps {
		if s.config && c.Config == nil {
			continue
		}
		e.area = &Area{Name: s.name, Findings: []Finding{}}
		e.area.Summary = s.look()
		if e.area.Summary != "" || len(e.area.Findings) > 0 {
			all = append(all, *e.area)
		}
	}
	return all
}

func (e *examination) problem(device, what, why, do string) {
	e.area.Findings = append(e.area.Findings, Finding{Problem, device, what, why, do})
}

func (e *examination) warning(device, what, why, do string) {
	e.area.Findings = append(e.area.Findings, Finding{Warning, device, what, why, do})
}

// at is a path of the machine below its root; one that is not absolute is the
// asker's own.
func (e *examination) at(path string) string {
	if !filepath.IsAbs(path) {
		path, _ = filepath.Abs(path)
	}
	return filepath.Join(e.Machine.Root, path)
}

// text is a small file's content without space around it, "" when it cannot be
// read.
func text(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 64<<10)
	n, _ := f.Read(b)
	return strings.TrimSpace(strings.Trim(string(b[:n]), "\x00"))
}

func (e *examination) config() string {
	n := len(e.Config.Devices.List)
	where := "no gateway runs on it"
	if e.Gateway != "" {
		where = "a gateway runs on it, at " + e.Gateway
	}
	return fmt.Sprintf("%s is sound (%d devices, %d brokers); %s", e.Path, n, len(e.Config.Bridge.Brokers), where)
}

func (e *examination) kernel() string {
	release := text(e.at("/proc/sys/kernel/osrelease"))
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return ""
	}
	if major < 5 || major == 5 && minor < 10 {
		what := fmt.Sprintf("Linux %s is too old for GPIO lines: the second version of the character device came with 5.10", release)
		why := "gpio-input, gpio-output, gpio-counter and gpio-encoder cannot open their lines; other devices work"
		do := "sudo apt update && sudo apt full-upgrade && sudo reboot"
		if len(e.of("gpio")) > 0 {
			e.problem(e.of("gpio")[0].device, what, why, do)
		} else {
			e.warning("", what, why, do)
		}
	}
	if e.board.model != "" {
		return fmt.Sprintf("Linux %s on %s", release, e.board.model)
	}
	return "Linux " + release
}
