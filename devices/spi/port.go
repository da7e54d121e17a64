package spi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"periph.io/x/conn/v3/physic"
	periph "periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// Common are the parameters of every device on a bus.
type Common struct {
	Port    string        `yaml:"port" doc:"the bus and the chip select: /dev/spidev0.0 is bus 0 with CE0; or sim for a simulated chip inside the gateway"`
	Speed   int           `yaml:"speed" min:"1000" max:"50000000" unit:"Hz" doc:"the clock in Hz; long wires want a slower one"`
	Timeout time.Duration `yaml:"timeout" min:"1ms" max:"10s" doc:"the longest that one transfer may hold the bus"`
}

const (
	simPort     = "sim"
	defaultPort = "/dev/spidev0.0"
	portPrefix  = "/dev/spidev"

	minSpeed = 1_000
	maxSpeed = 50_000_000
)

func newCommon(speed int) Common {
	return Common{Port: defaultPort, Speed: speed, Timeout: 500 * time.Millisecond}
}

// Claims implements devices.Claimer. A simulated chip is nobody else's.
func (c *Common) Claims() []string {
	if c.Port == simPort {
		return nil
	}
	return []string{"spi:" + canonicalPort(c.Port)}
}

// Occupies implements devices.Occupier.
func (c *Common) Occupies() []devices.Occupation { return devices.HeaderLines(canonicalPort(c.Port)) }

// Simulate implements devices.Simulator.
func (c *Common) Simulate() { c.Port = simPort }

// splitPort takes apart what can be written in several ways: 0.1, SPI0.1 (as
// periph writes it), spidev0.1 and /dev/spidev0.1.
func splitPort(port string) (number, chipSelect int, ok bool) {
	rest := strings.ToLower(port)
	for _, prefix := range []string{portPrefix, "spidev", "spi"} {
		if r, found := strings.CutPrefix(rest, prefix); found {
			rest = r
			break
		}
	}
	b, cs, found := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(b, 10, 16)
	m, err2 := strconv.ParseUint(cs, 10, 8)
	return int(n), int(m), found && err == nil && err2 == nil
}

func canonicalPort(port string) string {
	if n, cs, ok := splitPort(port); ok {
		return fmt.Sprintf("%s%d.%d", portPrefix, n, cs)
	}
	return port
}

// report is how a Validate speaks.
type report = func(path, problem, hint string)

func (c *Common) check(report report) {
	if _, _, ok := splitPort(c.Port); !ok && c.Port != simPort {
		report("port", fmt.Sprintf("%q is not known", c.Port), "write "+defaultPort+" for bus 0 with the chip select CE0 (pin 24), /dev/spidev0.1 for CE1 (pin 26)")
	}
	if c.Speed < minSpeed || c.Speed > maxSpeed {
		report("speed", fmt.Sprintf("%d Hz is out of range", c.Speed), fmt.Sprintf("write %d to %d", minSpeed, maxSpeed))
	}
	if c.Timeout < time.Millisecond || c.Timeout > 10*time.Second {
		report("timeout", fmt.Sprintf("%v is out of range", c.Timeout), "write a duration from 1ms to 10s")
	}
}

func checkInterval(interval, shortest time.Duration, report report) {
	if interval < shortest {
		report("interval", fmt.Sprintf("%v is too short", interval), fmt.Sprintf("write %v or more", shortest))
	}
}

// settings are how a chip wants to be spoken to.
type settings struct {
	speed int
	mode  periph.Mode
}

// line is a bus. It is used by one goroutine at a time.
type line interface {
	io.Closer
	// tx writes w to the chip, and returns as many bytes, read meanwhile.
	tx(chip string, s settings, w []byte) ([]byte, error)
}

// pool holds the busses in use.
type pool = bus.Pool[line]

// newPool has the ports opened by open, and simulated chips taken from sim.
func newPool(open func(number, chipSelect int) (periph.PortCloser, error), sim *simulation) *pool {
	return bus.NewPool(func(name string) (line, error) {
		if name == simPort {
			return sim, nil
		}
		n, err := strconv.Atoi(name)
		if err != nil {
			return nil, err
		}
		return &ports{number: n, open: open, chips: map[string]*chip{}}, nil
	}, func(error) bool { return false })
}

// ports are those of one bus, a chip select each.
type ports struct {
	number int
	open   func(number, chipSelect int) (periph.PortCloser, error)
	chips  map[string]*chip
}

type chip struct {
	port periph.PortCloser
	conn periph.Conn
}

func (p *ports) tx(name string, s settings, w []byte) ([]byte, error) {
	c := p.chips[name]
	if c == nil {
		cs, err := strconv.Atoi(name)
		if err != nil {
			return nil, err
		}
		port, err := p.open(p.number, cs)
		if err != nil {
			return nil, err
		}
		c = &chip{port: port}
		p.chips[name] = c
		if c.conn, err = port.Connect(physic.Frequency(s.speed)*physic.Hertz, s.mode, 8); err != nil {
			return nil, err
		}
	}
	r := make([]byte, len(w))
	return r, c.conn.Tx(w, r)
}

// Close closes all ports.
func (p *ports) Close() error {
	var errs []error
	for _, c := range p.chips {
		errs = append(errs, c.port.Close())
	}
	clear(p.chips)
	return errors.Join(errs...)
}

// conn is a device's way to its chip.
type conn struct {
	bus      *bus.Conn[line]
	port     string // for errors
	chip     string
	settings settings
	timeout  time.Duration
}

// connect gives a device its place on the bus; release takes it back.
func connect(p *pool, c *Common, mode periph.Mode, device string) (_ *conn, release func()) {
	n, cs, _ := splitPort(c.Port)
	name, chip := strconv.Itoa(n), strconv.Itoa(cs)
	if c.Port == simPort {
		name, chip = simPort, device
	}
	b, release := p.Connect(name)
	return &conn{bus: b, port: canonicalPort(c.Port), chip: chip, settings: settings{c.Speed, mode}, timeout: c.Timeout}, release
}

// tx writes w and returns as many bytes, read meanwhile.
func (c *conn) tx(ctx context.Context, w []byte) ([]byte, error) {
	w = slices.Clone(w)
	r, err := c.bus.Do(ctx, c.timeout, func(l line) ([]byte, error) { return l.tx(c.chip, c.settings, w) })
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil && err == ctx.Err(), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, err // explained when it was opened
	case errors.Is(err, bus.ErrDeadline):
		return nil, fmt.Errorf("SPI port %s hangs: its driver does not come back; restart the machine if it stays so: %w", c.port, err)
	}
	return nil, fmt.Errorf("SPI port %s: %w", c.port, err)
}

// silent says that nobody drove the data line: it read the same level all the
// time.
func (c *conn) silent(level string) error {
	return fmt.Errorf("nothing answers on SPI port %s (the data line stays %s): check the wiring (MISO, MOSI, SCLK, the chip select, 3.3 V, ground)", c.port, level)
}

// openPort opens a port of the machine.
func openPort(number, chipSelect int) (periph.PortCloser, error) {
	return openUnder("/", number, chipSelect)
}

// openUnder is openPort with another root for what it looks at in /dev.
func openUnder(root string, number, chipSelect int) (periph.PortCloser, error) {
	path := fmt.Sprintf("%s%d.%d", portPrefix, number, chipSelect)
	f, err := os.OpenFile(filepath.Join(root, path), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no SPI port %s%s: on a Raspberry Pi put dtparam=spi=on into the boot configuration (or use raspi-config) and restart; "+
			"bus 1 needs dtoverlay=spi1-1cs: %w", path, present(root), err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open SPI port %s: %w: the gateway's user must be in the group spi (sudo usermod -aG spi USER, then start it again)", path, err)
	case err != nil:
		return nil, fmt.Errorf("open SPI port %s: %w", path, err)
	}
	f.Close()
	p, err := sysfs.NewSPI(number, chipSelect)
	if err != nil {
		return nil, fmt.Errorf("open SPI port %s: %w", path, err)
	}
	return p, nil
}

// present lists the ports for an error.
func present(root string) string {
	paths, _ := filepath.Glob(filepath.Join(root, portPrefix+"*"))
	if len(paths) == 0 {
		return "; there is none at all"
	}
	for i, p := range paths {
		paths[i] = "/dev/" + filepath.Base(p)
	}
	return "; there are " + strings.Join(paths, ", ")
}

// Drivers returns the drivers of this package. Their devices share the busses.
func Drivers() []devices.Driver {
	sim := newSimulation()
	return drivers(newPool(openPort, sim), sim)
}

func drivers(p *pool, sim *simulation) []devices.Driver {
	return []devices.Driver{mcp3008Driver(p, sim), max31855Driver(p, sim), transferDriver(p, sim)}
}

// sensor is a device that measures in intervals.
type sensor struct {
	name     string
	common   Common
	interval time.Duration
	pool     *pool
	readings []devices.Reading
	measure  func(context.Context, *conn) ([]bus.Value, error)
}

// Readings implements devices.Device.
func (s *sensor) Readings() []devices.Reading { return s.readings }

// Procedures implements devices.Device.
func (s *sensor) Procedures() []devices.Procedure { return nil }

// Halt implements devices.Device: a sensor has no safe state.
func (s *sensor) Halt() error { return nil }

// Run implements devices.Device.
func (s *sensor) Run(ctx context.Context, out devices.Outlet) error {
	c, release := connect(s.pool, &s.common, periph.Mode0, s.name)
	defer release()
	return bus.Poll(ctx, out, s.interval, s.readings, func(ctx context.Context) ([]bus.Value, error) { return s.measure(ctx, c) })
}
