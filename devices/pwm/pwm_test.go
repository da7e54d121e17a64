package pwm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices"
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

func (o *outlet) Ready()                          { o.say("ready") }
func (o *outlet) Degraded(err error)              { o.say("degraded") }
func (o *outlet) Fault(reading string, err error) { o.say("fault:" + reading) }
func (o *outlet) Emit(reading string, value any, _ devices.Sample) {
	o.say(fmt.Sprintf("%s=%v", reading, value))
}

// running is a device whose Run is under way.
type running struct {
	outlet
	t      *testing.T
	dev    devices.Device
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, dev devices.Device) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, dev: dev, cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- dev.Run(ctx, r) }()
	synctest.Wait()
	return r
}

func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

func (r *running) call(name string, args ...any) error {
	r.t.Helper()
	for _, p := range r.dev.Procedures() {
		if p.Name == name {
			_, err := p.Call(r.t.Context(), args, nil)
			return err
		}
	}
	r.t.Fatalf("no procedure %q", name)
	return nil
}

func (r *running) expect(want string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := strings.Join(r.said, " "); have != want {
		r.t.Errorf("have %q\nwant %q", have, want)
	}
	r.said = nil
}

// open opens a device of a driver, after its rules were applied.
func openDevice[P any](t *testing.T, d devices.Driver, change func(*P)) devices.Device {
	t.Helper()
	p := d.NewParams()
	change(p.(*P))
	p.(devices.Validator).Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })
	dev, err := d.Open(devices.Env{Name: "test"}, p)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func TestPWM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimChips()
		driver := pwmDriver("", sim)
		dev := openDevice(t, driver, func(p *Params) { p.Simulate(); p.Frequency, p.Inverted, p.Safe = 25_000, true, 10 })
		ch := sim.channel(0)
		if err := dev.Halt(); err != nil { // before the first Run
			t.Fatal(err)
		}
		// The kernel refuses a polarity without a period, and one while enabled.
		if have := strings.Join(ch.writes, " "); have != "period=40000 polarity=inversed duty_cycle=4000 enable=1" {
			t.Error(have)
		}
		r := start(t, dev)
		r.expect("ready duty=10")
		if err := r.call("set", 50.0); err != nil || ch.duty != 20_000 {
			t.Errorf("%v, duty %d", err, ch.duty)
		}
		if err := r.call("set", 101.0); err == nil || !strings.Contains(err.Error(), wamp.ErrInvalidArgument) {
			t.Errorf("%v", err)
		}
		if err := dev.(devices.Releaser).Release(); err != nil || ch.duty != 4000 {
			t.Errorf("%v, duty %d", err, ch.duty)
		}
		r.call("set", 0.0)
		r.expect("duty=50 duty=10 duty=0")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := r.call("set", 1.0); err == nil || !strings.Contains(err.Error(), wamp.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if err := dev.Halt(); err != nil || ch.duty != 4000 || !ch.on {
			t.Errorf("%v, %+v", err, ch)
		}

		// A gateway that comes back with a shorter period: the duty cycle that it
		// finds would be beyond it. What fits already goes on without a gap.
		ch.writes = nil
		dev = openDevice(t, driver, func(p *Params) { p.Simulate(); p.Frequency, p.Inverted = 500_000, true })
		if err := dev.Halt(); err != nil {
			t.Fatal(err)
		}
		if have := strings.Join(ch.writes, " "); have != "duty_cycle=0 period=2000 duty_cycle=0" {
			t.Error(have)
		}
	})
}

func TestServo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimChips()
		driver := servoDriver("", sim)
		dev := openDevice(t, driver, func(p *ServoParams) {
			p.Simulate()
			p.Channel, p.MinAngle, p.MaxAngle, p.Detach = 1, -90, 90, 2*time.Second
		})
		ch := sim.channel(1)
		if err := dev.Halt(); err != nil || ch.on {
			t.Fatalf("%v, it moves at start: %v", err, ch.on)
		}
		r := start(t, dev)
		r.expect("ready attached=false")
		for angle, pulse := range map[float64]int64{-90: 1_000_000, 0: 1_500_000, 45: 1_750_000, 90: 2_000_000} {
			if err := r.call("set", angle); err != nil || ch.duty != pulse || !ch.on || ch.period != 20_000_000 {
				t.Errorf("%v°: %v, %+v", angle, err, ch)
			}
		}
		r.mu.Lock()
		r.said = nil
		r.mu.Unlock()
		time.Sleep(1900 * time.Millisecond)
		r.call("set", 10.0)
		time.Sleep(1900 * time.Millisecond)
		r.expect("angle=10")
		time.Sleep(200 * time.Millisecond)
		r.expect("attached=false")
		r.call("set", 10.0)
		r.expect("attached=true")
		r.call("detach")
		r.expect("attached=false")
		r.call("set", 20.0)
		if err := dev.(devices.Releaser).Release(); err != nil || ch.on {
			t.Errorf("%v, still attached: %v", err, ch.on)
		}
		if err := r.call("set", 90.1); err == nil {
			t.Error("beyond its angle")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		angle := 0.0
		dev = openDevice(t, driver, func(p *ServoParams) { p.Simulate(); p.SafeAngle = &angle })
		if err := dev.Halt(); err != nil || !sim.channel(0).on || sim.channel(0).duty != 1_000_000 {
			t.Errorf("%v, %+v", err, sim.channel(0))
		}
	})
}

// refusing is a channel that goes away.
type refusing struct {
	*simChannel
	gone bool
}

func (r *refusing) write(name, value string) error {
	if r.gone {
		return syscall.ENODEV
	}
	return r.simChannel.write(name, value)
}

func TestChannelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &refusing{simChannel: newSimChips().channel(0)}
		d := &dimmer{}
		d.period, d.open = time.Millisecond, func() (attributes, error) { return a, nil }
		r := start(t, d)
		a.gone = true
		if err := r.call("set", 5.0); err == nil || strings.Contains(err.Error(), "no such device") {
			t.Errorf("%v", err)
		}
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), "no such device") {
			t.Errorf("Run: %v", err)
		}
		if err := d.Halt(); err == nil {
			t.Error("halted a channel that is gone")
		}
		a.gone = false
		if err := d.Halt(); err != nil {
			t.Error(err)
		}
	})
}

// tree makes a folder like /sys/class/pwm.
func tree(t *testing.T, chips map[string]string) string {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for chip, device := range chips {
		dir := filepath.Join(root, "class", chip)
		write(filepath.Join(dir, "npwm"), "2\n")
		write(filepath.Join(dir, "export"), "")
		for _, f := range []string{"period", "duty_cycle", "enable"} {
			write(filepath.Join(dir, "pwm0", f), "0\n")
		}
		write(filepath.Join(dir, "pwm0", "polarity"), "normal\n")
		if err := os.MkdirAll(filepath.Join(root, "devices", device), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../devices/"+device, filepath.Join(dir, "device")); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(root, "class")
}

func TestSysfs(t *testing.T) {
	root := tree(t, map[string]string{"pwmchip0": "fe20c000.pwm", "pwmchip3": "fan"})
	for _, c := range []struct {
		chip    string
		channel int
		problem string
	}{
		{"fe20c000.pwm", 0, ""},
		{"pwmchip3", 0, ""},
		{"", 0, "there are several: fe20c000.pwm (pwmchip0), fan (pwmchip3)"},
		{"pwmchip1", 0, `find PWM chip "pwmchip1": there are: fe20c000.pwm`},
		{"fan", 2, "the chip has 2 channels"},
		{"fan", 1, "no such file"}, // exported, but it does not appear
	} {
		a, err := openSysfs(root, c.chip, c.channel)
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		ch, err := setUp(a, 20*time.Millisecond, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.drive(1500 * time.Microsecond); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"period": "20000000", "duty_cycle": "1500000", "enable": "1"} {
			if have, err := a.read(name); strings.TrimSpace(have) != want || err != nil {
				t.Errorf("%s is %q, %v", name, have, err)
			}
		}
	}
	if text, _ := os.ReadFile(filepath.Join(root, "pwmchip3", "export")); string(text) != "1" {
		t.Errorf("exported %q", text)
	}
	if _, err := openSysfs(t.TempDir(), "", 0); err == nil || !strings.Contains(err.Error(), "dtoverlay=pwm-2chan") {
		t.Errorf("no chip: %v", err)
	}
}

func TestRules(t *testing.T) {
	problems := func(v devices.Validator) string {
		var paths []string
		v.Validate(func(path, _, _ string) { paths = append(paths, path) })
		return strings.Join(paths, " ")
	}
	if have := problems(&Params{Place: Place{Channel: -1}, Safe: 101}); have != "channel frequency safe" {
		t.Error(have)
	}
	angle := 1.0
	if have := problems(&ServoParams{Detach: -1, SafeAngle: &angle}); have != "period min_pulse max_pulse max_angle detach_after safe_angle" {
		t.Error(have)
	}
	if _, err := devices.NewTable(Drivers()...); err != nil {
		t.Error(err)
	}
	if have := (&Place{Chip: "fan", Channel: 1}).Claims(); have[0] != "pwm:fan:1" {
		t.Error(have)
	}
}
