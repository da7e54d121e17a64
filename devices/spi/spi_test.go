package spi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/physic"
	periph "periph.io/x/conn/v3/spi"
	"periph.io/x/conn/v3/spi/spitest"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outlet records what a device says.
type outlet struct {
	mu   sync.Mutex
	said []string
}

func (o *outlet) say(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, s)
}

func (o *outlet) Ready()                                 { o.say("ready") }
func (o *outlet) Degraded(error)                         { o.say("degraded") }
func (o *outlet) Fault(reading string, _ error)          { o.say("fault:" + reading) }
func (o *outlet) Emit(r string, v any, _ devices.Sample) { o.say(fmt.Sprintf("%s=%v", r, v)) }

func (o *outlet) expect(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if have := strings.Join(o.said, " "); have != want {
		t.Errorf("have %q\nwant %q", have, want)
	}
	o.said = nil
}

type running struct {
	outlet
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, dev devices.Device) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- dev.Run(ctx, r) }()
	return r
}

func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

// open opens a device over one port.
func open(t *testing.T, port periph.PortCloser, typ string, change func(any)) devices.Device {
	t.Helper()
	sim := newSimulation()
	return openOver(t, drivers(newPool(func(int, int) (periph.PortCloser, error) { return port, nil }, sim), sim), typ, change)
}

func openOver(t *testing.T, list []devices.Driver, typ string, change func(any)) devices.Device {
	t.Helper()
	for _, d := range list {
		if d.Type != typ {
			continue
		}
		params := d.NewParams()
		change(params)
		params.(devices.Validator).Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })
		dev, err := d.Open(devices.Env{Name: "test"}, params)
		if err != nil {
			t.Fatal(err)
		}
		return dev
	}
	t.Fatalf("no driver %q", typ)
	return nil
}

func playback(ops ...conntest.IO) *spitest.Playback {
	return &spitest.Playback{Playback: conntest.Playback{Ops: ops, DontPanic: true}}
}

func TestTable(t *testing.T) {
	if _, err := devices.NewTable(Drivers()...); err != nil {
		t.Error(err)
	}
}

func TestModels(t *testing.T) {
	for _, c := range []struct {
		typ, want string
		change    func(any)
	}{
		{"mcp3008", "ready low=0.4125 high=3.296777 up=0.4125 down=0 percent=50", func(p any) {
			m := p.(*MCP3008Params)
			m.Port = simPort
			m.Channels = []MCP3008Channel{
				{Name: "low", Input: "ch0", Scale: 1},
				{Name: "high", Input: "ch7", Scale: 1},
				{Name: "up", Input: "ch3-ch2", Scale: 1},
				{Name: "down", Input: "ch2-ch3", Scale: 1},
				{Name: "percent", Input: "ch3", Scale: 100 / 3.3},
			}
		}},
		{"max31855", "ready temperature=100.75 cold_junction=25", func(p any) { p.(*MAX31855Params).Port = simPort }},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, open(t, nil, c.typ, c.change))
			time.Sleep(time.Second)
			r.expect(t, c.want)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Maxim 19-5793, table 4 (thermocouple) and table 5 (reference junction).
func TestMAX31855Tables(t *testing.T) {
	for bits, want := range map[uint32]float64{
		0b0110_0100_0000_00: 1600, 0b0011_1110_1000_00: 1000, 0b0000_0110_0100_11: 100.75, 0b0000_0001_1001_00: 25,
		0: 0, 0b1111_1111_1111_11: -0.25, 0b1111_1111_1111_00: -1, 0b1111_0000_0110_00: -250,
	} {
		if have, _ := max31855Celsius(bits << 18); have != want {
			t.Errorf("thermocouple %014b: have %v, want %v", bits, have, want)
		}
	}
	for bits, want := range map[uint32]float64{
		0b0111_1111_0000: 127, 0b0110_0100_1001: 100.5625, 0b0001_1001_0000: 25,
		0: 0, 0b1111_1111_1111: -0.0625, 0b1111_1111_0000: -1, 0b1110_1100_0000: -20, 0b1100_1001_0000: -55,
	} {
		if _, have := max31855Celsius(bits << 4); have != want {
			t.Errorf("junction %012b: have %v, want %v", bits, have, want)
		}
	}
	// The model is the tables' other way.
	for _, couple := range []float64{1600, -0.25, -250} {
		for _, junction := range []float64{100.5625, -0.0625, -55} {
			b := max31855Model(couple, junction, 0)(make([]byte, 4))
			if c, j := max31855Celsius(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])); c != couple || j != junction {
				t.Errorf("have %v and %v, want %v and %v", c, j, couple, junction)
			}
		}
	}
}

func TestMAX31855Faults(t *testing.T) {
	for fault, want := range map[uint32]string{maxOpen: "not connected", maxShortGND: "to ground", maxShortVCC: "to the supply"} {
		b := max31855Model(0, 20, fault)(make([]byte, 4))
		word := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if err := max31855Fault(word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", fault, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		zeros := make([]byte, 4)
		p := playback(
			conntest.IO{W: zeros, R: []byte{0x06, 0x4C, 0x19, 0x00}}, // 100.75 and 25
			conntest.IO{W: zeros, R: []byte{0x00, 0x01, 0x19, 0x01}}, // open
			conntest.IO{W: zeros, R: []byte{0xFF, 0xFF, 0xFF, 0xFF}}, // nobody there
			conntest.IO{W: zeros, R: zeros},
			conntest.IO{W: zeros, R: []byte{0xFF, 0xFF, 0xFF, 0xFF}},
		)
		many := &reopening{Playback: p}
		r := start(t, open(t, many, "max31855", func(p any) { p.(*MAX31855Params).Interval = time.Second }))
		time.Sleep(500 * time.Millisecond)
		r.expect(t, "ready temperature=100.75 cold_junction=25")
		time.Sleep(time.Second)
		r.expect(t, "fault:temperature cold_junction=25")
		err := <-r.result
		r.expect(t, "degraded fault:temperature fault:cold_junction degraded fault:temperature fault:cold_junction")
		if err == nil || !strings.Contains(err.Error(), "nothing answers on SPI port /dev/spidev0.0") {
			t.Errorf("have %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// reopening lets a Playback be closed and connected again.
type reopening struct{ *spitest.Playback }

func (r *reopening) Close() error {
	r.Lock()
	defer r.Unlock()
	r.Initialized = false
	return nil
}

// DS21295, "Using the MCP3004/3008 with microcontroller (MCU) SPI ports": three
// bytes, the ten bits of value are the last of them.
func TestMCP3008Transfers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playback(
			conntest.IO{W: []byte{0x01, 0xD0, 0x00}, R: []byte{0xFF, 0xFA, 0x00}}, // ch5: 512
			conntest.IO{W: []byte{0x01, 0x10, 0x00}, R: []byte{0xFF, 0xFB, 0xFF}}, // ch1-ch0: 1023
		)
		r := start(t, open(t, p, "mcp3008", func(params any) {
			m := params.(*MCP3008Params)
			m.Reference = 2.048
			m.Channels = []MCP3008Channel{{Name: "a", Input: "ch5", Scale: 1}, {Name: "b", Input: "ch1-ch0", Scale: 2, Offset: 1}}
		}))
		time.Sleep(time.Second)
		r.expect(t, "ready a=1.024 b=5.092")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		absent := playback(conntest.IO{W: []byte{0x01, 0x80, 0x00}, R: []byte{0xFF, 0xFF, 0xFF}})
		err := <-start(t, open(t, absent, "mcp3008", func(params any) {
			params.(*MCP3008Params).Channels = []MCP3008Channel{{Name: "a", Input: "ch0", Scale: 1}}
		})).result
		if err == nil || !strings.Contains(err.Error(), "nothing answers on SPI port /dev/spidev0.0") {
			t.Errorf("have %v", err)
		}
	})
}

func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playback(
			conntest.IO{W: []byte{0, 0}, R: []byte{9, 9}}, // before the first Run
			conntest.IO{W: []byte{1}, R: []byte{9}},
			conntest.IO{W: []byte{0xAA, 0x55}, R: []byte{1, 2}},
			conntest.IO{W: []byte{0, 0}, R: []byte{9, 9}},
		)
		dev := open(t, &reopening{p}, "spi-transfer", func(params any) {
			x := params.(*TransferParams)
			x.MaxBytes, x.Initial, x.Safe = 2, []uint8{1}, []uint8{0, 0}
		})
		call := dev.Procedures()[0].Call
		if _, err := call(t.Context(), []any{[]byte{1}}, nil); err == nil {
			t.Error("a call before Run")
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		r := start(t, dev)
		r.expect(t, "ready")
		if v, err := call(t.Context(), []any{[]byte{0xAA, 0x55}}, nil); err != nil || string(v.([]byte)) != "\x01\x02" {
			t.Errorf("have %v, %v", v, err)
		}
		for _, data := range [][]byte{nil, {1, 2, 3}} {
			if _, err := call(t.Context(), []any{data}, nil); err == nil || !strings.Contains(err.Error(), "1 to 2 bytes") {
				t.Errorf("%v: %v", data, err)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	// A failure ends the run, so that the device starts anew.
	synctest.Test(t, func(t *testing.T) {
		dev := open(t, playback(), "spi-transfer", func(any) {})
		r := start(t, dev)
		r.expect(t, "ready")
		if _, err := dev.Procedures()[0].Call(t.Context(), []any{[]byte{1}}, nil); err == nil {
			t.Error("no error")
		}
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), "/dev/spidev0.0") {
			t.Errorf("have %v", err)
		}
	})
}

// stalled is a port whose transfers do not come back until it is closed.
type stalled struct {
	spitest.Playback
	release chan struct{}
}

func (s *stalled) Connect(_ physic.Frequency, _ periph.Mode, _ int) (periph.Conn, error) {
	return s, nil
}

func (s *stalled) Tx(w, r []byte) error { <-s.release; return nil }

func (s *stalled) TxPackets([]periph.Packet) error { return errors.ErrUnsupported }

// A chip whose transfers hang costs its neighbour on the bus its deadline, no
// more.
func TestStalledNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &stalled{release: make(chan struct{})}
		var ops []conntest.IO
		for range 20 {
			ops = append(ops, conntest.IO{W: make([]byte, 4), R: []byte{0x06, 0x4C, 0x19, 0x00}})
		}
		good := &reopening{playback(ops...)}
		sim := newSimulation()
		list := drivers(newPool(func(_, cs int) (periph.PortCloser, error) {
			if cs == 1 {
				return bad, nil
			}
			return good, nil
		}, sim), sim)
		well := start(t, openOver(t, list, "max31855", func(p any) { p.(*MAX31855Params).Interval = 100 * time.Millisecond }))
		time.Sleep(50 * time.Millisecond)
		well.expect(t, "ready temperature=100.75 cold_junction=25")
		begin := time.Now()
		err := <-start(t, openOver(t, list, "max31855", func(p any) {
			m := p.(*MAX31855Params)
			m.Port, m.Timeout = "SPI0.1", 60*time.Millisecond
		})).result
		if took := time.Since(begin); !errors.Is(err, bus.ErrDeadline) || took > 100*time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		well.mu.Lock()
		n := len(well.said) / 2
		well.mu.Unlock()
		if n < 9 {
			t.Errorf("the neighbour measured %d times in a second", n)
		}
		close(bad.release)
		if err := well.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestClaims(t *testing.T) {
	a := &MCP3008Params{Common: newCommon(1_000_000)}
	for _, spelling := range []string{"0.0", "SPI0.0", "spidev0.0", "/dev/spidev0.0"} {
		b := &TransferParams{Common: Common{Port: spelling}}
		if found := devices.CheckClaims([]devices.Entry{{Params: a}, {Params: b}}); len(found) != 1 || found[0].Claim != "spi:/dev/spidev0.0" {
			t.Errorf("%s: have %+v", spelling, found)
		}
	}
	for _, another := range []string{"0.1", "/dev/spidev1.0", "sim"} {
		b := &TransferParams{Common: Common{Port: another}}
		if found := devices.CheckClaims([]devices.Entry{{Params: a}, {Params: b}}); len(found) != 0 {
			t.Errorf("%s: have %+v", another, found)
		}
	}
}

func TestAbsentPort(t *testing.T) {
	root := t.TempDir()
	if _, err := openUnder(root, 0, 0); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none at all") || !strings.Contains(err.Error(), "dtparam=spi=on") {
		t.Errorf("have %v", err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "dev"), 0o755), os.WriteFile(filepath.Join(root, "dev/spidev0.1"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := openUnder(root, 0, 0); err == nil || !strings.Contains(err.Error(), "there are /dev/spidev0.1") {
		t.Errorf("have %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		params devices.Validator
		paths  string
	}{
		{&MAX31855Params{Common: Common{Port: "spi"}}, "port speed timeout interval"},
		{&TransferParams{Common: newCommon(1000), Mode: 4, MaxBytes: 5000, Safe: make([]uint8, 5000)}, "mode max_bytes safe"},
		{
			&MCP3008Params{Common: newCommon(1000), Interval: time.Second, Channels: []MCP3008Channel{{Name: "A", Input: "ch8", Scale: 1}, {Name: "b", Input: "ch0-ch2"}, {Name: "b", Input: "ch7-ch6", Scale: 1}}},
			"reference channels[0].name channels[0].input channels[1].input channels[1].scale channels[2].name",
		},
	} {
		var paths []string
		c.params.Validate(func(path, _, _ string) { paths = append(paths, path) })
		if have := strings.Join(paths, " "); have != c.paths {
			t.Errorf("have %q\nwant %q", have, c.paths)
		}
	}
}
