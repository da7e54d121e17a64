package scan_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/devices/i2c"
	"github.com/postern-iot/postern/devices/scan"
	"github.com/postern-iot/postern/gateway/config"
)

var rewrite = flag.Bool("rewrite", false, "write the golden report anew")

// machine is a tree of files with some of everything.
func machine(t *testing.T) scan.Machine {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/class/i2c-dev/i2c-1/name", "bcm2835 (i2c@7e804000)\n")
	write("sys/class/i2c-dev/i2c-20/name", "fef04500.i2c\n")
	write("dev/spidev0.0", "")
	write("dev/spidev0.1", "")
	write("sys/bus/w1/devices/w1_bus_master1/28-0316a2794eff/temperature", "21000\n")
	write("sys/bus/w1/devices/w1_bus_master1/01-000012345678/id", "")
	write("sys/bus/w1/devices/w1_bus_master1/driver-like/x", "")
	write("dev/ttyUSB0", "")
	write("dev/ttyS0", "")
	write("dev/ttyS1", "")
	write("sys/devices/usb1/1-1/product", "FT232R USB UART\x1b[2J\n")
	write("sys/devices/usb1/1-1/manufacturer", "FTDI\n")
	write("sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/x", "")
	link("../../../../bus/usb-serial/drivers/ftdi_sio", "sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/driver")
	link("../../../devices/usb1/1-1/1-1:1.0/ttyUSB0", "sys/class/tty/ttyUSB0/device")
	link("../../ttyUSB0", "dev/serial/by-id/usb-FTDI_FT232R_A10K1-if00-port0")
	write("sys/devices/pnp/x", "")
	link("../../../devices/pnp", "sys/class/tty/ttyS0/device")
	write("sys/class/tty/ttyS0/type", "4\n")
	link("../../../devices/pnp", "sys/class/tty/ttyS1/device")
	write("sys/class/tty/ttyS1/type", "0\n") // not there
	write("sys/class/tty/tty0/x", "")        // a console
	write("sys/class/pwm/pwmchip0/npwm", "2\n")
	write("sys/devices/fe20c000.pwm/x", "")
	link("../../../devices/fe20c000.pwm", "sys/class/pwm/pwmchip0/device")

	lines := make([]gpio.LineInfo, 28)
	for i := range lines {
		lines[i].Name = fmt.Sprintf("GPIO%d", i)
	}
	lines[17] = gpio.LineInfo{Name: "GPIO17", Used: true, Output: true, Consumer: "kettle"}
	return scan.Machine{
		Root: root,
		Chips: func() ([]gpio.Chip, []error) {
			return []gpio.Chip{
				{Path: "/dev/gpiochip0", Name: "gpiochip0", Label: "pinctrl-bcm2711", Lines: lines},
				{Path: "/dev/gpiochip1", Name: "gpiochip1", Label: "expander", Lines: make([]gpio.LineInfo, 2)},
			}, []error{errors.New("open GPIO chip /dev/gpiochip2: permission denied")}
		},
		Probe: func(_ context.Context, path string) ([]i2c.Answer, error) {
			if strings.HasSuffix(path, "i2c-20") {
				return nil, fs.ErrPermission
			}
			return []i2c.Answer{{Address: 0x1B, Kernel: true}, {Address: 0x33}, {Address: 0x76}}, nil
		},
	}
}

func TestReport(t *testing.T) {
	r, err := machine(t).Scan(t.Context(), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	have, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	have = append(have, '\n')
	const golden = "testdata/report.json"
	if *rewrite {
		if err := os.WriteFile(golden, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("the report differs from %s (go test ./devices/scan -rewrite):\n%s", golden, have)
	}
}

// What is suggested is sound as it stands.
func TestSuggestions(t *testing.T) {
	r, err := machine(t).Scan(t.Context(), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	n := 0
	add := func(yaml string) {
		if yaml == "" {
			return
		}
		n++
		for line := range strings.Lines(yaml) {
			list.WriteString("    " + line)
		}
	}
	for _, g := range r.GPIO {
		add(g.YAML)
	}
	for _, b := range r.I2C {
		for _, a := range b.Found {
			add(a.YAML)
		}
	}
	for _, p := range r.SPI {
		add(p.YAML)
	}
	for _, b := range r.OneWire {
		add(b.YAML)
	}
	for _, p := range r.Serial {
		add(p.YAML)
	}
	for _, c := range r.PWM {
		add(c.YAML)
	}
	cfg, err := config.Parse("suggested.yaml", []byte("devices:\n  list:\n"+list.String()), ".", all.Table())
	if err != nil {
		t.Fatalf("%v\n%s", err, list.String())
	}
	if n != 10 || len(cfg.Devices.List) != n {
		t.Errorf("%d suggestions, %d devices:\n%s", n, len(cfg.Devices.List), list.String())
	}
}

func TestOptions(t *testing.T) {
	m := machine(t)
	r, err := m.Scan(t.Context(), scan.Options{Busses: []string{"fef04500"}})
	if err != nil || !strings.Contains(r.I2C[1].Skipped, "sudo usermod -aG i2c") || len(r.Problems) != 2 {
		t.Errorf("named: %v, %+v, %v", err, r.I2C, r.Problems)
	}
	r, err = m.Scan(t.Context(), scan.Options{NoProbe: true})
	if err != nil || r.I2C[0].Skipped != "not asked" || len(r.I2C[0].Found) != 0 {
		t.Errorf("not asked: %v, %+v", err, r.I2C)
	}
	if _, err := m.Scan(t.Context(), scan.Options{Busses: []string{"nowhere"}}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no such bus: %v", err)
	}
}
