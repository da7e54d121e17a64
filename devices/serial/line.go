package serial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
)

// Line are the parameters of a serial port.
type Line struct {
	Port     string `yaml:"port" required:"true" doc:"the port's device; those in /dev/serial/by-id stay the same wherever the adapter is plugged in, those in /dev/serial/by-path name a socket; sim for a device simulated inside the gateway"`
	Baud     int    `yaml:"baud" doc:"the speed in bits a second"`
	DataBits int    `yaml:"data_bits" doc:"bits of a character, 5 to 8"`
	Parity   string `yaml:"parity" doc:"none, odd or even"`
	StopBits int    `yaml:"stop_bits" doc:"1 or 2"`
	RS485    *RS485 `yaml:"rs485" doc:"for ports of the board whose RTS line switches an RS-485 transceiver between sending and receiving: the kernel does it (TIOCSRS485); adapters that switch by themselves, as most on USB do, need none of it"`
}

// RS485 says how the kernel switches a transceiver.
type RS485 struct {
	SendLevel string        `yaml:"send_level" doc:"the level of RTS while sending: high or low; it has the other one while receiving"`
	Before    time.Duration `yaml:"before" doc:"time between switching to sending and the first bit, in whole milliseconds"`
	After     time.Duration `yaml:"after" doc:"time between the last bit and switching back, in whole milliseconds"`
	Echo      bool          `yaml:"echo" doc:"the receiver stays on while sending"`
}

// SetDefaults is called before the configuration is read.
func (r *RS485) SetDefaults() { *r = RS485{SendLevel: "high"} }

// port is an open serial port.
type port interface {
	io.ReadWriteCloser // Close may be called twice and ends pending calls
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// simPort is the port that is no port.
const simPort = "sim"

// simDoc is what every driver's page says of it.
const simDoc = "With `port: sim` the same driver talks to a device that is simulated inside the gateway."

// safeDoc is what the pages of streams say of their safe state.
const safeDoc = "With `safe` the device is an actuator: what it says is written in place of a command that nobody stands behind any more, and `control` may be used. " +
	"The port is opened for it where it is not open; a board that starts anew whenever its port is opened, as many Arduinos do, has to be safe by itself then."

var (
	parity = map[string]byte{"none": 'N', "odd": 'O', "even": 'E'}

	// bauds are what tarm/serial can set.
	bauds = []int{
		50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800,
		500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000,
	}
)

func newLine() Line { return Line{Baud: 9600, DataBits: 8, Parity: "none", StopBits: 1} }

// Claims implements devices.Claimer.
func (l *Line) Claims() []string {
	if l.Port == simPort {
		return nil
	}
	return []string{"serial:" + canonicalPort(l.Port)}
}

// header is the name of the port on the board's header.
const header = "/dev/serial0"

// Occupies implements devices.Occupier.
func (l *Line) Occupies() []devices.Occupation {
	if l.Port == simPort || canonicalPort(l.Port) != canonicalPort(header) {
		return nil
	}
	return devices.HeaderLines(header)
}

// Simulate implements devices.Simulator.
func (l *Line) Simulate() { l.Port, l.RS485 = simPort, nil }

// canonicalPort is one name for what can be written in several ways: where a
// link leads, if it is there to be followed.
func canonicalPort(port string) string {
	if real, err := filepath.EvalSymlinks(port); err == nil {
		return real
	}
	return filepath.Clean(port)
}

// report is how a Validate speaks.
type report = func(path, problem, hint string)

func (l *Line) check(report report) {
	if l.Port != "" && l.Port != simPort && !filepath.IsAbs(l.Port) {
		report("port", fmt.Sprintf("%q is not the path of a device", l.Port), "write it in full, such as /dev/ttyUSB0, or better one from /dev/serial/by-id")
	}
	if !slices.Contains(bauds, l.Baud) {
		report("baud", fmt.Sprintf("%d is not a speed that can be set", l.Baud), "usual ones are 9600, 19200, 38400, 57600 and 115200")
	}
	if l.DataBits < 5 || l.DataBits > 8 {
		report("data_bits", fmt.Sprintf("%d is out of range", l.DataBits), "write 5, 6, 7 or 8")
	}
	if parity[l.Parity] == 0 {
		report("parity", fmt.Sprintf("%q is not known", l.Parity), "write none, odd or even")
	}
	if l.StopBits != 1 && l.StopBits != 2 {
		report("stop_bits", fmt.Sprintf("%d is not possible", l.StopBits), "write 1 or 2")
	}
	if r := l.RS485; r != nil {
		if r.SendLevel != "high" && r.SendLevel != "low" {
			report("rs485.send_level", fmt.Sprintf("%q is not known", r.SendLevel), "write high or low")
		}
		for key, d := range map[string]time.Duration{"before": r.Before, "after": r.After} {
			if d < 0 || d > 100*time.Millisecond || d%time.Millisecond != 0 {
				report("rs485."+key, fmt.Sprintf("%v is not possible", d), "write whole milliseconds, 0ms to 100ms")
			}
		}
	}
}

// checkTimes validates what the streams have in common.
func checkTimes(timeout time.Duration, writeRate int, report report) {
	if timeout < 0 {
		report("timeout", "it is negative", "write 0s for none")
	}
	if writeRate < 1 || writeRate > maxWriteRate {
		report("write_rate", fmt.Sprintf("%d is out of range", writeRate), fmt.Sprintf("write a number from 1 to %d", maxWriteRate))
	}
}

// onLine is how long n bytes take on the line.
func (l *Line) onLine(n int) time.Duration {
	return time.Duration(n) * 12 * time.Second / time.Duration(max(1, l.Baud))
}

// open opens the port, or what plays the device in its stead: every driver of
// this package gets its hardware here.
func (l *Line) open(sim simulator) (port, error) {
	if l.Port == simPort {
		return openSim(sim), nil
	}
	return openPort(l)
}

// simulator is a device at the other end of a line. It returns when far is
// closed.
type simulator func(far net.Conn)

// simLine is a line with a simulator at its end.
type simLine struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func openSim(sim simulator) *simLine {
	near, far := net.Pipe()
	s := &simLine{Conn: near, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		defer far.Close()
		sim(far)
	}()
	return s
}

// Close implements port.
func (s *simLine) Close() error {
	s.once.Do(func() {
		s.Conn.Close()
		<-s.ended
	})
	return nil
}

// discard throws away what has arrived and was not read.
func (s *simLine) discard() {
	var buf [256]byte
	s.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		if _, err := s.Read(buf[:]); err != nil {
			return
		}
	}
}

// talker sends a frame every second, and one for whatever is written to it.
func talker(frame func(n int) []byte) simulator {
	return func(far net.Conn) {
		var buf [4096]byte
		due := time.Now()
		for n := 0; ; n++ {
			far.SetReadDeadline(due)
			if _, err := far.Read(buf[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			} else if err != nil {
				due = due.Add(time.Second)
			}
			if _, err := far.Write(frame(n)); err != nil {
				return
			}
		}
	}
}
