package pwm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sysRoot is where the kernel shows its PWM chips.
const sysRoot = "/sys/class/pwm"

// attributes are the files of a channel, as the kernel's documentation has them
// (Documentation/ABI/testing/sysfs-class-pwm).
type attributes interface {
	read(name string) (string, error)
	write(name, value string) error
	String() string
}

// channel is a PWM channel that is set up. Its user's mutex guards it.
type channel struct {
	attributes
	period  time.Duration
	duty    time.Duration // as last written
	enabled bool
}

// setUp gives a channel a period and a polarity. The kernel refuses a period
// below the duty cycle, a polarity without a period, and one while the channel
// is enabled: so a channel that has them already goes on without a gap.
func setUp(a attributes, period time.Duration, inverted bool) (*channel, error) {
	c := &channel{attributes: a, period: period}
	have, err := c.number("period")
	if err != nil {
		return nil, err
	}
	duty, err := c.number("duty_cycle")
	if err != nil {
		return nil, err
	}
	on, err := c.number("enable")
	if err != nil {
		return nil, err
	}
	c.duty, c.enabled = time.Duration(duty), on != 0
	if have != int64(period) {
		if c.duty > period {
			if err := c.setDuty(0); err != nil {
				return nil, err
			}
		}
		if err := c.put("period", int64(period)); err != nil {
			return nil, err
		}
	}
	return c, c.setPolarity(inverted)
}

func (c *channel) setPolarity(inverted bool) error {
	want := "normal"
	if inverted {
		want = "inversed" // the kernel's word
	}
	have, err := c.read("polarity")
	if errors.Is(err, fs.ErrNotExist) && !inverted {
		return nil // a chip that knows one only
	}
	if err != nil {
		return fmt.Errorf("%s: read polarity: %w", c, err)
	}
	if strings.TrimSpace(have) == want {
		return nil
	}
	if err := c.enable(false); err != nil {
		return err
	}
	if err := c.write("polarity", want); err != nil {
		return fmt.Errorf("%s: set polarity %s: %w; this chip may not be able to invert", c, want, err)
	}
	return nil
}

func (c *channel) number(name string) (int64, error) {
	text, err := c.read(name)
	if err != nil {
		return 0, fmt.Errorf("%s: read %s: %w", c, name, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: read %s: %w", c, name, err)
	}
	return n, nil
}

func (c *channel) put(name string, n int64) error {
	if err := c.write(name, strconv.FormatInt(n, 10)); err != nil {
		return fmt.Errorf("%s: set %s to %d: %w", c, name, n, err)
	}
	return nil
}

// setDuty sets the time that the channel is active in each period.
func (c *channel) setDuty(duty time.Duration) error {
	if err := c.put("duty_cycle", int64(duty)); err != nil {
		return err
	}
	c.duty = duty
	return nil
}

func (c *channel) enable(on bool) error {
	if on == c.enabled {
		return nil
	}
	n := int64(0)
	if on {
		n = 1
	}
	if err := c.put("enable", n); err != nil {
		return err
	}
	c.enabled = on
	return nil
}

// drive sets the duty cycle and has the channel run.
func (c *channel) drive(duty time.Duration) error {
	if err := c.setDuty(duty); err != nil {
		return err
	}
	return c.enable(true)
}

// open finds a channel; it touches the hardware only in that it has the kernel
// export it.
type open func() (attributes, error)

// opener is open for the chip and channel of a config.
func opener(root string, sim *simChips, chip string, n int) open {
	if chip == simChip {
		return func() (attributes, error) { return sim.channel(n), nil }
	}
	return func() (attributes, error) { return openSysfs(root, chip, n) }
}

// sysfs is a channel's folder.
type sysfs struct{ dir string }

func (s sysfs) String() string { return "PWM channel " + s.dir }

func (s sysfs) read(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	return string(b), err
}

func (s sysfs) write(name, value string) error {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// exportBound is how long udev may take to give an exported channel to a group.
const exportBound = 500 * time.Millisecond

func openSysfs(root, chip string, n int) (attributes, error) {
	dir, err := findChip(root, chip)
	if err != nil {
		return nil, err
	}
	parent, s := sysfs{dir}, sysfs{filepath.Join(dir, "pwm"+strconv.Itoa(n))}
	text, err := parent.read("npwm")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s, err)
	}
	if count, err := strconv.Atoi(strings.TrimSpace(text)); err != nil || n >= count {
		return nil, fmt.Errorf("open %s: the chip has %s channels, counted from 0", s, strings.TrimSpace(text))
	}
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		if err := parent.write("export", strconv.Itoa(n)); err != nil {
			return nil, fmt.Errorf("open %s: %w", s, explain(err))
		}
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		f, err := os.OpenFile(filepath.Join(s.dir, "duty_cycle"), os.O_WRONLY, 0)
		if err == nil {
			return s, f.Close()
		}
		if time.Since(begin) > exportBound || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open %s: %w", s, explain(err))
		}
	}
}

func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the gateway's user must be in the group that a udev rule gives the channels to (gpio on Raspberry Pi OS)", err)
	case strings.Contains(err.Error(), "busy"):
		return fmt.Errorf("%w: a driver of the kernel has it, such as a fan or a backlight: remove its overlay, or use another channel", err)
	}
	return err
}

// findChip finds a chip by its kernel name or by that of its device, "" for the
// only one. The number in the kernel name may change with the kernel.
func findChip(root, chip string) (string, error) {
	dirs, _ := filepath.Glob(filepath.Join(root, "pwmchip*"))
	slices.Sort(dirs)
	var found, have []string
	for _, dir := range dirs {
		device := ""
		if to, err := filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil {
			device = filepath.Base(to)
		}
		if chip == "" || chip == filepath.Base(dir) || chip == device {
			found = append(found, dir)
		}
		have = append(have, fmt.Sprintf("%s (%s)", device, filepath.Base(dir)))
	}
	switch {
	case len(dirs) == 0:
		return "", fmt.Errorf("find PWM chip: this machine has none in %s; a Raspberry Pi wants dtoverlay=pwm-2chan in its boot configuration; to try things out without one, set chip: sim", root)
	case len(found) == 0:
		return "", fmt.Errorf("find PWM chip %q: there are: %s", chip, strings.Join(have, ", "))
	case len(found) > 1:
		return "", fmt.Errorf("find PWM chip: there are several: %s; choose one by the parameter chip", strings.Join(have, ", "))
	}
	return found[0], nil
}
