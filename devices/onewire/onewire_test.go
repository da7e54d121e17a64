package onewire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
	"github.com/postern-iot/postern/wamp"
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

const (
	idA = "28-0316a2795b7d"
	idB = "28-0316a27a1fff"
)

func open(t *testing.T, p *pool, change func(*DS18B20Params)) devices.Device {
	t.Helper()
	d := ds18b20Driver(p)
	params := d.NewParams().(*DS18B20Params)
	params.Sensors = []Sensor{{Name: "a", ID: idA}, {Name: "b", ID: idB, Offset: -0.25}}
	change(params)
	params.Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })
	dev, err := d.Open(devices.Env{Name: "test"}, params)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// root is a sysfs with one bus.
type root struct {
	t      *testing.T
	folder string
}

func newRoot(t *testing.T) root {
	r := root{t, filepath.Join(t.TempDir(), "bus/w1/devices/w1_bus_master1")}
	r.write("therm_bulk_read", "")
	return r
}

func (r root) sys() string { return strings.TrimSuffix(r.folder, "/bus/w1/devices/w1_bus_master1") }

func (r root) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.folder, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

func (r root) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.folder, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func (r root) sensor(id string, sixteenths int16) {
	m := newModel(sixteenths)
	m.convert()
	r.write(id+"/w1_slave", m.text())
	r.write(id+"/resolution", "12\n")
}

func TestTable(t *testing.T) {
	if _, err := devices.NewTable(Drivers()...); err != nil {
		t.Error(err)
	}
}

// Maxim 19-7487, table "Temperature/data relationship".
func TestTemperatureTable(t *testing.T) {
	for raw, want := range map[uint16]int{
		0x07D0: 125_000, 0x0191: 25_062, 0x00A2: 10_125, 0x0008: 500, 0: 0, 0xFFF8: -500, 0xFF5E: -10_125, 0xFE6F: -25_062, 0xFC90: -55_000,
	} {
		m := newModel(int16(raw))
		m.convert()
		if have, err := parse(m.text()); err != nil || have != want {
			t.Errorf("%#04x: have %d, %v, want %d", raw, have, err, want)
		}
	}
	// A real 85 °C has another reserved byte than the one after power-up.
	m := newModel(85 * 16)
	if _, err := parse(m.text()); !errors.Is(err, errPowerUp) {
		t.Errorf("after power-up: %v", err)
	}
	m.convert()
	if have, err := parse(m.text()); err != nil || have != 85_000 {
		t.Errorf("85 °C: have %d, %v", have, err)
	}
}

func TestParse(t *testing.T) {
	const good = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n" // w1_therm.rst's form
	if have, err := parse(good); err != nil || have != 23_125 {
		t.Errorf("have %d, %v", have, err)
	}
	for text, want := range map[string]string{
		"": "not answered",
		"50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n": "powered up",
		// The kernel repeats the last good bytes below a wrong checksum.
		"72 01 4b 46 7f ff 0e 10 58 : crc=57 NO\n72 01 4b 46 7f ff 0e 10 57 t=23125\n":  "checksum",
		"72 01 4b 46 7f ff 0e 10 58 : crc=58 YES\n72 01 4b 46 7f ff 0e 10 58 t=23125\n": "checksum", // a lie
		"00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n":     "shorted",
		"ff ff ff ff ff ff ff ff ff : crc=c9 NO\nff ff ff ff ff ff ff ff ff t=-62\n":    "checksum",
		strings.Replace(good, "t=23125", "t=hot", 1):                                    "not understood",
		"23125\n": "not understood",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: have %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n")
	f.Add("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := parse(text); err == nil && !strings.Contains(text, "YES") {
			t.Errorf("%q is %d", text, v)
		}
	})
}

// Sensors that are not there, come, are powered up and go; the neighbour goes
// on.
func TestSensorsComeAndGo(t *testing.T) {
	r := newRoot(t)
	r.sensor(idA, 25*16+1)
	synctest.Test(t, func(t *testing.T) {
		d := start(t, open(t, newPool(openTree), func(p *DS18B20Params) { p.Sys, p.Interval, p.Resolution = r.sys(), time.Second, 10 }))
		time.Sleep(500 * time.Millisecond)
		d.expect(t, "ready degraded a=25.062 fault:b")
		if have := r.read("therm_bulk_read"); have != "trigger\n" {
			t.Errorf("the conversion was asked for by %q", have)
		}
		if have := r.read(idA + "/resolution"); have != "10\n" {
			t.Errorf("the resolution was set to %q", have)
		}
		r.sensor(idB, 30*16)
		time.Sleep(time.Second)
		d.expect(t, "ready a=25.062 b=29.75")
		r.write(idB+"/w1_slave", newModel(0).text()) // its supply was interrupted
		r.write(idB+"/resolution", "12\n")
		time.Sleep(time.Second)
		d.expect(t, "degraded a=25.062 fault:b")
		time.Sleep(time.Second)
		d.expect(t, "a=25.062 fault:b")
		if have := r.read(idB + "/resolution"); have != "10\n" {
			t.Errorf("after power-up: the resolution is %q", have)
		}
		hot := newModel(85 * 16) // out of nowhere, though it says that it has measured
		hot.convert()
		r.write(idB+"/w1_slave", hot.text())
		time.Sleep(time.Second)
		d.expect(t, "a=25.062 fault:b")
		r.sensor(idB, 83*16)
		time.Sleep(time.Second)
		d.expect(t, "ready a=25.062 b=82.75")
		r.write(idB+"/w1_slave", hot.text())
		time.Sleep(time.Second)
		d.expect(t, "a=25.062 b=84.75")
		if err := os.RemoveAll(filepath.Join(r.folder, idB)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.expect(t, "degraded a=25.062 fault:b")
		if err := os.RemoveAll(r.folder); err != nil {
			t.Fatal(err)
		}
		err := <-d.result
		if err == nil || !strings.Contains(err.Error(), "there is no 1-wire bus w1_bus_master1; there is none at all") {
			t.Errorf("without a bus: %v", err)
		}
	})
}

// A kernel without therm_bulk_read converts sensor by sensor; one that lets
// nobody write the resolution says what to do.
func TestOldKernel(t *testing.T) {
	r := newRoot(t)
	if err := os.Remove(filepath.Join(r.folder, "therm_bulk_read")); err != nil {
		t.Fatal(err)
	}
	r.sensor(idA, 20*16)
	r.sensor(idB, 20*16)
	synctest.Test(t, func(t *testing.T) {
		d := start(t, open(t, newPool(openTree), func(p *DS18B20Params) { p.Sys = r.sys() }))
		time.Sleep(time.Second)
		d.expect(t, "ready a=20 b=19.75")
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSimulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := open(t, nil, func(p *DS18B20Params) { p.Resolution = 9; p.Simulate() })
		scan := dev.Procedures()[0].Call
		if _, err := scan(t.Context(), nil, nil); err == nil {
			t.Error("scanned before Run")
		}
		d := start(t, dev)
		time.Sleep(time.Second)
		d.expect(t, "ready a=20 b=21.25")
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
}

// hanging is a bus whose first sensor does not come back in time.
type hanging struct {
	*simulation
	release chan struct{}
}

func (h *hanging) read(id string, resolution int) (string, error) {
	if id == idA {
		<-h.release
	}
	return h.simulation.read(id, resolution)
}

func TestHangingBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{newSimulation([]Sensor{{ID: idA}, {ID: idB}}), make(chan struct{})}
		p := newPool(func(string) (tree, error) { return h, nil })
		sick := start(t, open(t, p, func(p *DS18B20Params) { p.Timeout = time.Second; p.Sensors = p.Sensors[:1] }))
		well := start(t, open(t, p, func(p *DS18B20Params) { p.Sensors = p.Sensors[1:] }))
		begin := time.Now()
		if err := <-sick.result; !errors.Is(err, bus.ErrDeadline) || time.Since(begin) > 1100*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		time.Sleep(time.Millisecond)
		well.expect(t, "ready b=21.25")
		close(h.release)
		if err := well.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := open(t, nil, func(p *DS18B20Params) { p.Simulate() })
		d := start(t, dev)
		synctest.Wait()
		have, err := dev.Procedures()[0].Call(t.Context(), nil, nil)
		if list, _ := have.(wamp.List); err != nil || len(list) != 2 || list[0] != idA || list[1] != idB {
			t.Errorf("have %v, %v", have, err)
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestClaims(t *testing.T) {
	a := &DS18B20Params{Sensors: []Sensor{{ID: idA}, {ID: idB}}}
	b := &DS18B20Params{Sensors: []Sensor{{ID: idB}}}
	if found := devices.CheckClaims([]devices.Entry{{Params: a}, {Params: b}}); len(found) != 1 || found[0].Claim != "1wire:"+idB {
		t.Errorf("have %+v", found)
	}
}

func TestValidate(t *testing.T) {
	p := &DS18B20Params{Bus: "../..", Resolution: 13, Sensors: []Sensor{{Name: "A", ID: "10-000000000000"}, {Name: "b", ID: idA, Offset: 21}, {Name: "b", ID: idA}}}
	var paths []string
	p.Validate(func(path, _, _ string) { paths = append(paths, path) })
	want := "bus resolution interval timeout sys sensors[0].name sensors[0].id sensors[1].offset sensors[2].name sensors[2].id"
	if have := strings.Join(paths, " "); have != want {
		t.Errorf("have %q\nwant %q", have, want)
	}
}
