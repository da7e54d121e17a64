package i2c

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// NXP PCA9685, "PWM frequency PRE_SCALE": 200 Hz are 30 (1Eh); the register's
// range, 24 Hz to 1526 Hz, is FFh to 03h.
func TestPCA9685Prescale(t *testing.T) {
	for hertz, want := range map[float64]byte{200: 30, 24: 253, 1526: 3, 50: 121} {
		if have := pcaPrescaleOf(hertz); have != want {
			t.Errorf("%g Hz: have %d, want %d", hertz, have, want)
		}
	}
}

func TestPCA9685(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		m := newPCA9685Model()
		sim.attach(0x40, m)
		dev := newBench(t, sim).open("pca9685", func(p any) {
			servo, lamp := PCA9685Channel{}, PCA9685Channel{}
			servo.SetDefaults()
			lamp.SetDefaults()
			servo.Name, servo.Kind, servo.Channel = "arm", kindServo, 2
			lamp.Name, lamp.Channel, lamp.Safe = "lamp", 15, "25"
			p.(*PCA9685Params).Channels = []PCA9685Channel{servo, lamp}
		})
		call := func(proc int, args ...any) (any, error) { return dev.Procedures()[proc].Call(t.Context(), args, nil) }
		outputs := func(arm, lamp int) {
			t.Helper()
			sim.mu.Lock()
			defer sim.mu.Unlock()
			if m.output(2) != arm || m.output(15) != lamp || m.output(0) != 0 {
				t.Errorf("have %d, %d, %d; want %d, %d, 0", m.output(2), m.output(15), m.output(0), arm, lamp)
			}
		}
		if err := dev.Halt(); err != nil { // the host's first
			t.Fatal(err)
		}
		outputs(0, 1024)
		if _, err := call(0, "lamp", 50.0); err == nil {
			t.Error("a call before Run")
		}
		r := start(t, dev)
		time.Sleep(time.Millisecond)
		r.expect("fault:arm lamp=25 ready")
		// 1.5 ms of 20.0 ms: 122 periods of 40 ns make a step.
		if v, err := call(0, "arm", 90.0); err != nil || v != 90.0 {
			t.Errorf("have %v, %v", v, err)
		}
		outputs(307, 1024)
		last := 0
		for v, want := range map[float64]int{0: 0, 100: pcaSteps, 50: 2048} {
			last = want
			if _, err := call(0, "lamp", v); err != nil {
				t.Error(err)
			}
			outputs(307, want)
		}
		r.take()
		for _, bad := range [][]any{{"lamp", 101.0}, {"arm", -1.0}, {"leg", 1.0}} {
			if _, err := call(0, bad...); err == nil || err.(*wamp.Error).URI != wamp.ErrInvalidArgument {
				t.Errorf("%v: %v", bad, err)
			}
		}
		if _, err := call(1, "arm"); err != nil {
			t.Error(err)
		}
		r.expect("fault:arm")
		if _, err := call(0, "arm", 180.0); err != nil {
			t.Error(err)
		}
		outputs(410, last)
		if err := dev.(devices.Releaser).Release(); err != nil {
			t.Error(err)
		}
		r.expect("arm=180 fault:arm lamp=25")
		outputs(0, 1024)

		// A dip of the supply resets the chip: the device starts anew.
		sim.mu.Lock()
		*m = *newPCA9685Model()
		sim.mu.Unlock()
		if err := <-r.result; err == nil {
			t.Error("a reset is not noticed")
		}
		outputs(0, 0)
		r = start(t, dev)
		time.Sleep(2 * time.Millisecond)
		r.expect("fault:arm lamp=25 ready")
		outputs(0, 1024)
		if _, err := call(0, "arm", 0.0); err != nil {
			t.Error(err)
		}
		outputs(205, 1024)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := dev.Halt(); err != nil {
			t.Error(err)
		}
		outputs(0, 1024)
	})
}

func TestPCA9685Absent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		channel := func(p any) {
			var c PCA9685Channel
			c.SetDefaults()
			c.Name = "a"
			p.(*PCA9685Params).Channels = []PCA9685Channel{c}
		}
		dev := newBench(t, sim).open("pca9685", channel)
		if err := dev.Halt(); err == nil || !isNACK(err) {
			t.Errorf("halted without the chip: %v", err)
		}
		if err := <-start(t, dev).result; err == nil || !isNACK(err) {
			t.Errorf("started without the chip: %v", err)
		}
		sim.attach(0x40, &wordChip{}) // something else
		if err := <-start(t, dev).result; err == nil {
			t.Error("started with another chip")
		}
	})
}
