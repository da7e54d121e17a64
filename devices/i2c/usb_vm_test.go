//go:build vm

package i2c

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/pwm"
	"github.com/postern-iot/postern/test/vm/tinyusb"
)

// These tests run as root in the machine of test/vm, on a real /dev/i2c-N whose
// chips are the models.

// wired is a model on the adapter.
type wired struct{ model }

func (w wired) Write(p []byte) bool { return w.write(p) }
func (w wired) Read(p []byte) bool  { return w.read(p) }

// until waits until the device has said it.
func (r *running) until(what string) {
	r.t.Helper()
	for start := time.Now(); ; unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) {
		r.mu.Lock()
		said := strings.Join(r.said, " ")
		if strings.Contains(said, what) {
			r.said = nil
		}
		r.mu.Unlock()
		if strings.Contains(said, what) {
			return
		}
		if time.Since(start) > 10*time.Second {
			r.t.Fatalf("it does not say %q, but %q", what, said)
		}
	}
}

func TestVMBus(t *testing.T) {
	a := tinyusb.Plug(t)
	a.Set(0x76, wired{newBoschModel(true)})
	a.Set(0x44, wired{&sht3xModel{t: 0x6666, h: 0x7333}})
	a.Set(0x18, wired{newMCP9808Model()})
	tinyusb.Await(t, true)
	b := bench{t, Drivers(gpio.NewChips())}
	fast := func(c *Common) { c.Bus, c.Interval = "tiny-usb", 10*time.Millisecond }
	open := func(typ string) devices.Device {
		return b.open(typ, func(params any) {
			switch p := params.(type) {
			case *BME280Params:
				fast(&p.Common)
			case *SHT3xParams:
				fast(&p.Common)
			case *MCP9808Params:
				fast(&p.Common)
			}
		})
	}
	air, house, cold := start(t, open("bme280")), start(t, open("sht3x")), start(t, open("mcp9808"))
	air.until("ready temperature=25.08 pressure=100653.27 humidity=")
	house.until("ready temperature=25 humidity=45")
	cold.until("ready temperature=25")

	// A chip that goes is told from a bus that goes; the neighbours go on.
	a.Set(0x76, nil)
	if err := <-air.result; err == nil || !isNACK(err) || !strings.Contains(err.Error(), "nothing answers at address 0x76") {
		t.Errorf("no chip: %v", err)
	}
	house.until("temperature=25 humidity=45")
	a.Set(0x76, wired{newBoschModel(true)})
	air = start(t, open("bme280"))
	air.until("pressure=100653.27")

	a.Unplug()
	for name, r := range map[string]*running{"air": air, "house": house, "cold": cold} {
		select {
		case err := <-r.result:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			t.Logf("%s: %v", name, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not notice", name)
		}
	}
	tinyusb.Await(t, false)
	if err := <-start(t, open("sht3x")).result; err == nil || !strings.Contains(err.Error(), "no I2C bus is named") {
		t.Errorf("no adapter: %v", err)
	}
	if _, err := openBus(defaultBus); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bus: %v", err)
	}
	<-a.Done

	again := tinyusb.Plug(t)
	again.Set(0x44, wired{&sht3xModel{t: 0x6666, h: 0x7333}})
	tinyusb.Await(t, true)
	house = start(t, open("sht3x"))
	house.until("temperature=25 humidity=45")
	// The gadget's thread sleeps in the kernel until there is a request: it
	// notices that its file is closed only while somebody measures.
	again.Unplug()
	<-again.Done
	if err := <-house.result; err == nil {
		t.Error("no error after the adapter was unplugged again")
	}
}

// An expander's lines under the gpio drivers, over the kernel's bus. Its
// interrupt is wired to a line of the machine: nothing is seen at an interval
// here.
func TestVMExpander(t *testing.T) {
	a := tinyusb.Plug(t)
	m := newMCP23017Model()
	m.irq = interruptOn(t, 22)
	a.Set(0x20, wired{m})
	tinyusb.Await(t, true)
	chips := gpio.NewChips()
	b := bench{t, append(gpio.Drivers(chips), Drivers(chips)...)}
	e := start(t, b.open("mcp23017", func(p any) {
		x := p.(*MCP23017Params)
		x.Bus, x.Interval, x.Interrupt = "tiny-usb", time.Minute, "GPIO22"
	}))
	e.until("ready")
	pump := b.open("gpio-output", func(p any) {
		o := p.(*gpio.OutputParams)
		o.Pin, o.Chip = "GPB0", "test"
	})
	out := start(t, pump)
	out.until("ready on=false")
	in := start(t, b.open("gpio-input", func(p any) {
		i := p.(*gpio.InputParams)
		i.Pin, i.Chip, i.Pull = "GPA0", "test", "up"
	}))
	in.until("ready level=true")
	high := func() (v bool) {
		a.Do(func() { v = m.levels()>>8&1 == 1 })
		return v
	}
	for _, on := range []bool{true, false, true} {
		if v, err := pump.Procedures()[0].Call(t.Context(), []any{on}, nil); err != nil || v != on || high() != on {
			t.Errorf("set %v: %v, %v, the line is high: %v", on, v, err, high())
		}
	}
	a.Do(func() { m.drive(0, false) })
	in.until("level=false")
	a.Do(func() { m.drive(0, true); m.drive(0, false) })
	in.until("level=true level=false")
	begin := time.Now()
	const edges = 100
	for i := range edges {
		a.Do(func() { m.drive(0, i%2 == 0) })
		in.until(fmt.Sprintf("level=%v", i%2 == 0))
	}
	t.Logf("%d edges, each seen by the interrupt, %v each on the whole", edges, (time.Since(begin) / edges).Round(10*time.Microsecond))
	for _, r := range []*running{in, out} {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
	if err := pump.Halt(); err != nil || high() {
		t.Errorf("halted: %v, the line is high: %v", err, high())
	}
	a.Unplug()
	m.irq(true) // nobody asks it any more but for this
	if err := <-e.result; err == nil {
		t.Error("the expander does not notice that its bus is gone")
	}
	<-a.Done
	tinyusb.Await(t, false)
}

// The command line finds the models on a real bus, and reads one; what a driver
// of the kernel has is not asked.
func TestVMScan(t *testing.T) {
	a := tinyusb.Plug(t)
	a.Set(0x76, wired{newBoschModel(true)})
	a.Set(0x44, wired{&sht3xModel{t: 0x6666, h: 0x7333}})
	a.Set(0x40, wired{newPCA9685Model()})
	tinyusb.Await(t, true)
	n, _ := tinyusb.Number()
	if err := os.WriteFile(fmt.Sprintf("/sys/bus/i2c/devices/i2c-%d/new_device", n), []byte("pca9685-pwm 0x40\n"), 0); err != nil {
		t.Fatal(err)
	}
	postern := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("/payload/postern", args...).CombinedOutput()
		if err != nil {
			t.Errorf("postern %v: %v", args, err)
		}
		return string(out)
	}
	found := postern("devices", "scan")
	t.Log("\n" + found)
	for _, want := range []string{
		fmt.Sprintf("/dev/i2c-%d (i2c-tiny-usb", n), "0x40: a driver of the kernel has it", "0x44: may be SHT3x", "0x76: may be BME280",
		"type: bme280\n        bus: /dev/i2c-", "pwmchip", "/dev/gpiochip0", "GPIO17 (P1-11)",
	} {
		if !strings.Contains(found, want) {
			t.Errorf("scan does not say %q", want)
		}
	}
	if strings.Count(found, ": may be") != 2 {
		t.Error("more than the two answer")
	}
	if read := postern("devices", "read", "--device", "{type: bme280, bus: tiny-usb, address: 0x76}"); !strings.Contains(read, "temperature  25.08 °C\npressure     100653.27 Pa") {
		t.Errorf("read: %s", read)
	}
	a.Unplug()
	// The gadget notices it at the next transfer.
	if answers, err := Probe(t.Context(), fmt.Sprintf("/dev/i2c-%d", n)); err == nil && len(answers) > 1 {
		t.Errorf("unplugged, and there are %v", answers)
	}
	<-a.Done
	tinyusb.Await(t, false)
}

// interruptOn is a chip's open-drain output that is wired to a line of the
// machine.
func interruptOn(t *testing.T, line int) func(low bool) {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("%s/sim_gpio%d/pull", os.Getenv("SIM_PI"), line), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	set := func(low bool) {
		word := "pull-up"
		if low {
			word = "pull-down"
		}
		if _, err := f.WriteAt([]byte(word), 0); err != nil {
			t.Error(err)
		}
	}
	set(false)
	return set
}

// The kernel's own driver of a PCA9685 makes PWM channels of it, which the
// drivers pwm and servo use; the model shows what the chip would give.
func TestVMKernelPWM(t *testing.T) {
	a := tinyusb.Plug(t)
	m := newPCA9685Model()
	a.Set(0x40, wired{m})
	tinyusb.Await(t, true)
	n, _ := tinyusb.Number()
	if err := os.WriteFile(fmt.Sprintf("/sys/bus/i2c/devices/i2c-%d/new_device", n), []byte("pca9685-pwm 0x40\n"), 0); err != nil {
		t.Fatal(err)
	}
	tinyusb.Eventually(t, "the kernel has the channels", func() bool {
		chips, _ := filepath.Glob("/sys/class/pwm/pwmchip*")
		return len(chips) == 1
	})
	output := func(channel int) (steps int) {
		a.Do(func() { steps = m.output(channel) })
		return steps
	}
	b := bench{t, pwm.Drivers()}
	lamp := b.open("pwm", func(p any) { x := p.(*pwm.Params); x.Channel, x.Frequency, x.Safe = 3, 50, 25 })
	arm := b.open("servo", func(p any) { p.(*pwm.ServoParams).Channel = 4 })
	for _, d := range []devices.Device{lamp, arm} {
		if err := d.Halt(); err != nil { // the host's first
			t.Fatal(err)
		}
	}
	if output(3) != 1024 || output(4) != 0 {
		t.Errorf("at start: %d and %d steps", output(3), output(4))
	}
	light, turn := start(t, lamp), start(t, arm)
	light.until("ready duty=25")
	turn.until("ready attached=false")
	call := func(d devices.Device, args ...any) {
		t.Helper()
		if _, err := d.Procedures()[0].Call(t.Context(), args, nil); err != nil {
			t.Errorf("set %v: %v", args, err)
		}
	}
	for duty, steps := range map[float64]int{0: 0, 50: 2048, 100: pcaSteps} {
		call(lamp, duty)
		if have := output(3); have != steps {
			t.Errorf("%v %%: %d steps instead of %d", duty, have, steps)
		}
	}
	call(arm, 90.0)
	if have := output(4); have < 306 || have > 308 { // 1.5 ms of 20 ms
		t.Errorf("90 degrees: %d steps", have)
	}
	if err := arm.(devices.Releaser).Release(); err != nil || output(4) != 0 {
		t.Errorf("released: %v, %d steps", err, output(4))
	}
	if err := turn.stop(); err != nil {
		t.Error(err)
	}
	call(lamp, 60.0)
	if err := lamp.Halt(); err != nil || output(3) != 1024 { // as after a failure, with Run on its way out
		t.Errorf("halted: %v, %d steps", err, output(3))
	}
	if err := light.stop(); err != nil {
		t.Error(err)
	}
	light = start(t, lamp)
	light.until("ready duty=25")
	// The kernel's driver does not tell of a chip that does not answer; its
	// channels go with their bus.
	a.Unplug()
	duty := 0.0
	tinyusb.Eventually(t, "the channel is gone", func() bool {
		duty = 1 - duty
		_, err := lamp.Procedures()[0].Call(t.Context(), []any{duty}, nil)
		return err != nil
	})
	if err := <-light.result; err == nil {
		t.Error("the device does not notice that its chip is gone")
	} else {
		t.Log(err)
	}
	<-a.Done
	tinyusb.Await(t, false)
	if err := lamp.Halt(); err == nil || !strings.Contains(err.Error(), "this machine has none") {
		t.Errorf("halted without the chip: %v", err)
	}
}
