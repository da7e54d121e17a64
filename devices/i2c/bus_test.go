package i2c

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/bus"
)

// faulty is a bus of models on which an address may hang.
type faulty struct {
	*simulation
	mu     sync.Mutex
	hang   map[uint16]chan struct{} // until closed
	opened int
	closed int
}

func (f *faulty) Tx(addr uint16, w, r []byte) error {
	f.mu.Lock()
	hang := f.hang[addr]
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return f.simulation.Tx(addr, w, r)
}

func (f *faulty) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

func (f *faulty) open(string) (periph.BusCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	return f, nil
}

// A device that hangs costs its neighbours its deadline, and no more; when the
// kernel gives all back, nothing is left.
func TestHangingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{simulation: newSimulation(), hang: map[uint16]chan struct{}{0x76: release}}
		f.attach(0x76, newBoschModel(true))
		f.attach(0x18, newMCP9808Model())
		b := bench{t, drivers(newPool(f.open), nil)}
		well := start(t, b.open("mcp9808", func(p any) { p.(*MCP9808Params).Interval = 100 * time.Millisecond }))
		time.Sleep(time.Second)
		if have := well.take(); !strings.HasPrefix(have, "ready temperature=25") {
			t.Fatalf("have %q", have)
		}
		sick := start(t, b.open("bme280", func(p any) { p.(*BME280Params).Timeout = 200 * time.Millisecond }))
		begin := time.Now()
		err := <-sick.result
		if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "hangs at address 0x76") || took < 200*time.Millisecond || took > 250*time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
		well.take()
		time.Sleep(time.Second)
		if n := strings.Count(well.take(), "temperature=25"); n < 9 {
			t.Errorf("the neighbour measured %d times in a second", n)
		}
		// More of them, until no more are begun.
		for range bus.MaxStuck - 1 {
			<-start(t, b.open("bme280", func(any) {})).result
		}
		err = <-start(t, b.open("bme280", func(any) {})).result
		if err == nil || !strings.Contains(err.Error(), "held by the kernel") {
			t.Errorf("%v", err)
		}
		close(release)
		f.mu.Lock()
		f.hang = nil
		f.mu.Unlock()
		synctest.Wait()
		again := start(t, b.open("bme280", func(any) {}))
		time.Sleep(time.Second)
		if have := again.take(); !strings.HasPrefix(have, "ready temperature=25.08") {
			t.Errorf("have %q", have)
		}
		for _, r := range []*running{again, well} {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.opened != f.closed {
			t.Errorf("opened %d times, closed %d times", f.opened, f.closed)
		}
	})
}

// A chip that goes away is degraded, then given up; absent from the start it is
// an error that says what to do.
func TestAbsentDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		sim.attach(0x18, newMCP9808Model())
		dev := newBench(t, sim).open("mcp9808", func(any) {})
		r := start(t, dev)
		time.Sleep(time.Second)
		r.expect("ready temperature=25")
		sim.attach(0x18, nil)
		sim.mu.Lock()
		delete(sim.chips, 0x18)
		sim.mu.Unlock()
		err := <-r.result
		r.expect("degraded fault:temperature degraded fault:temperature")
		for _, part := range []string{"nothing answers at address 0x18", "/dev/i2c-1", "i2cdetect -y 1", "wiring"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("no %q in %v", part, err)
			}
		}
		if err := <-start(t, dev).result; err == nil || !isNACK(err) {
			t.Errorf("started without the chip: %v", err)
		}
		sim.attach(0x18, newMCP9808Model())
		r = start(t, dev)
		time.Sleep(time.Second)
		r.expect("ready temperature=25")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestStopWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{simulation: newSimulation(), hang: map[uint16]chan struct{}{0x44: release}}
		r := start(t, bench{t, drivers(newPool(f.open), nil)}.open("sht3x", func(any) {}))
		synctest.Wait()
		begin := time.Now()
		if err := r.stop(); err != nil || time.Since(begin) > time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		close(release)
	})
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("sysfs-i2c: remote I/O error"), "nothing answers"}, // periph keeps the text only
		{errors.New("sysfs-i2c: no such device or address"), "nothing answers"},
		{syscall.ETIMEDOUT, "held low"},
		{errors.New("sysfs-i2c: input/output error"), "I2C bus /dev/i2c-1, address 0x76: sysfs-i2c: input/output error"},
	} {
		if have := explain("/dev/i2c-1", 0x76, c.err).Error(); !strings.Contains(have, c.want) {
			t.Errorf("have %q, want %q", have, c.want)
		}
	}
}

func TestBusByName(t *testing.T) {
	root := t.TempDir()
	if _, err := busNumber(root, "tiny"); err == nil || !strings.Contains(err.Error(), "none at all") {
		t.Errorf("%v", err)
	}
	for n, name := range map[string]string{"0": "bcm2835 (i2c@7e205000)", "1": "bcm2835 (i2c@7e804000)", "11": "i2c-tiny-usb at bus 001 device 003"} {
		dir := filepath.Join(root, "sys/class/i2c-dev/i2c-"+n)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"tiny-usb": 11, "7e804000": 1, "/dev/i2c-7": 7, "i2c-3": 3, "2": 2} {
		if n, err := busNumber(root, name); err != nil || n != want {
			t.Errorf("%s: have %d, %v", name, n, err)
		}
	}
	for name, want := range map[string]string{"bcm2835": "2 I2C busses", "ch341": "no I2C bus is named"} {
		if _, err := busNumber(root, name); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "i2c-tiny-usb at") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openUnder(root, "/dev/i2c-1"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "dtparam=i2c_arm=on") {
		t.Errorf("%v", err)
	}
}

// However a bus is written, it is the same one.
func TestClaims(t *testing.T) {
	a := &BME280Params{Common: newCommon(0x76)}
	other := &SHT3xParams{newCommon(0x44)}
	for _, spelling := range []string{"1", "01", "I2C1", "i2c-1", "/dev/i2c-1", "/dev/i2c-01"} {
		b := &RegistersParams{Bus: spelling, Address: 0x76}
		found := devices.CheckClaims([]devices.Entry{{Params: a}, {Params: other}, {Params: b}})
		if len(found) != 1 || found[0].Claim != "i2c:/dev/i2c-1/0x76" || found[0].Second != 2 {
			t.Errorf("%s: have %+v", spelling, found)
		}
	}
	for _, another := range []string{"2", "i2c-11", "tiny-usb", "sim"} {
		b := &RegistersParams{Bus: another, Address: 0x76}
		if found := devices.CheckClaims([]devices.Entry{{Params: a}, {Params: b}}); len(found) != 0 {
			t.Errorf("%s: have %+v", another, found)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		params devices.Validator
		paths  string
	}{
		{&BME280Params{Common: Common{Bus: "", Address: 0x44}, Oversampling: 3}, "bus address timeout interval oversampling"},
		{&BH1750Params{newCommon(0x24)}, "address"},
		{&INA219Params{Common: newCommon(0x40), Shunt: 0.1, MaxCurrent: 4}, "max_current"},
		{&INA219Params{Common: newCommon(0x40), Shunt: 0, MaxCurrent: 4}, "shunt"},
		{&INA219Params{Common: newCommon(0x40), Shunt: 0.001, MaxCurrent: 0.1}, "max_current"},
		{&ADS1115Params{Common: newCommon(0x48)}, "channels"},
		{
			&ADS1115Params{Common: newCommon(0x48), Channels: []ADS1115Channel{{Name: "A", Input: "a4", Range: 5}, {Name: "status", Input: "a0", Range: 4.096, Scale: 1}}},
			"channels[0].name channels[0].input channels[0].range channels[0].scale channels[1].name",
		},
		{
			&RegistersParams{Bus: "sim", Address: 3, Timeout: time.Second, Interval: time.Second, Setup: []Setup{{}}, Fields: []Register{{Name: "a", Type: "i16", Endian: "middle", Mask: 1, Scale: 1, Min: 2}}},
			"address setup[0].bytes registers[0].mask registers[0].endian registers[0].min",
		},
	} {
		var paths []string
		c.params.Validate(func(path, _, _ string) { paths = append(paths, path) })
		if have := strings.Join(paths, " "); have != c.paths {
			t.Errorf("%+v: have %q\nwant %q", c.params, have, c.paths)
		}
	}
}
