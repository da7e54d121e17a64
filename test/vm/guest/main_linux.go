// Guest is /init of the virtual machine that the device tests run in: it
// mounts what a Linux has, makes the simulated GPIO chips, links serial ports as
// udev does, runs the programs that the host has packed, and ends the machine.
//
// It reports on the console, each line beginning with "vm: ". The last one is
// "vm: end"; a machine that stops without it has failed.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := mount()
	if err == nil {
		err = loopback()
	}
	if err == nil {
		err = linkPorts()
	}
	var env []string
	if err == nil {
		env, err = gpioChips()
	}
	if err == nil {
		err = runAll("/payload/list", env)
	}
	if err != nil {
		fmt.Println("vm: failed:", err)
	} else {
		fmt.Println("vm: end")
	}
	powerOff()
}

func mount() error {
	for _, m := range []struct{ what, where string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"configfs", "/sys/kernel/config"},
		{"debugfs", "/sys/kernel/debug"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	return nil
}

// loopback brings up lo, which gives 127.0.0.1.
func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// gpioChips makes a Raspberry Pi's chip, and before it another one, so that
// the Pi's is not gpiochip0. The tests find the simulation's side of the Pi's
// lines, sim_gpio<n>/{pull,value}, in the folder SIM_PI, and that of the other
// chip, whose lines are OTHER0 to OTHER7, in SIM_OTHER.
func gpioChips() ([]string, error) {
	var env []string
	for _, c := range []struct {
		key, label, prefix string
		lines              int
	}{
		{"SIM_OTHER", "other-expander", "OTHER", 8},
		{"SIM_PI", "pinctrl-bcm2711", "GPIO", 54},
	} {
		dir, err := gpioChip(c.label, c.prefix, c.lines)
		if err != nil {
			return nil, fmt.Errorf("gpio-sim chip %s: %w", c.label, err)
		}
		env = append(env, c.key+"="+dir)
	}
	return env, nil
}

func gpioChip(label, prefix string, lines int) (string, error) {
	dir := "/sys/kernel/config/gpio-sim/" + label
	bank := dir + "/bank0"
	for _, d := range []string{dir, bank} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	write := func(name, value string) error { return os.WriteFile(filepath.Join(dir, name), []byte(value), 0) }
	if err := errors.Join(write("bank0/num_lines", strconv.Itoa(lines)), write("bank0/label", label)); err != nil {
		return "", err
	}
	for i := range lines {
		line := fmt.Sprintf("line%d", i)
		if err := os.Mkdir(filepath.Join(bank, line), 0o755); err != nil {
			return "", err
		}
		if err := write("bank0/"+line+"/name", prefix+strconv.Itoa(i)); err != nil {
			return "", err
		}
	}
	if err := write("live", "1"); err != nil {
		return "", err
	}
	dev, err := os.ReadFile(filepath.Join(dir, "dev_name"))
	if err != nil {
		return "", err
	}
	chip, err := os.ReadFile(filepath.Join(bank, "chip_name"))
	if err != nil {
		return "", err
	}
	return filepath.Join("/sys/devices/platform", strings.TrimSpace(string(dev)), strings.TrimSpace(string(chip))), nil
}

// runAll runs the command lines in the file, whose words are separated by
// single spaces, one after the other. One that begins with "& " runs beside the
// next one; what it says is shown when that has ended.
func runAll(list string, env []string) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	env = append(env, "PATH=/payload", "HOME=/tmp", "TMPDIR=/tmp", "POSTERN_VM=1")
	lines := bufio.NewScanner(f)
	var beside func() error
	for lines.Scan() {
		line, isBeside := strings.CutPrefix(lines.Text(), "& ")
		words := strings.Split(line, " ")
		name := filepath.Base(words[0])
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env, cmd.Dir = env, "/tmp"
		var later bytes.Buffer
		if isBeside {
			cmd.Stdout, cmd.Stderr = &later, &later
		} else {
			fmt.Println("vm: run", name)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("run %s: %w", words[0], err)
		}
		end := func() error {
			err := cmd.Wait()
			if isBeside {
				fmt.Printf("vm: run %s\n%s", name, later.Bytes())
			}
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				return fmt.Errorf("run %s: %w", words[0], err)
			}
			fmt.Println("vm: exit", name, cmd.ProcessState)
			return nil
		}
		if isBeside {
			beside = end
			continue
		}
		if err := end(); err != nil {
			return err
		}
		if beside != nil {
			if err := beside(); err != nil {
				return err
			}
			beside = nil
		}
	}
	return lines.Err()
}

// powerOff leaves through QEMU's isa-debug-exit, at once; should it be absent,
// through the kernel.
func powerOff() {
	unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1) // until the console has shown it all
	if f, err := os.OpenFile("/dev/port", os.O_WRONLY, 0); err == nil {
		f.WriteAt([]byte{0}, 0xf4)
		f.Close()
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
