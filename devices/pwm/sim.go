package pwm

import (
	"fmt"
	"strconv"
	"sync"
	"syscall"
)

// simChip is the chip whose channels are inside the process.
const simChip = "sim"

// simChips is the simulated chip of one driver table.
type simChips struct {
	mu       sync.Mutex
	channels map[int]*simChannel
}

func newSimChips() *simChips { return &simChips{channels: map[int]*simChannel{}} }

func (s *simChips) channel(n int) *simChannel {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[n]
	if c == nil {
		c = &simChannel{n: n}
		s.channels[n] = c
	}
	return c
}

// simChannel keeps the rules of the kernel's pwm_apply_state and of its sysfs
// files (drivers/pwm/core.c, sysfs.c).
type simChannel struct {
	n int

	mu           sync.Mutex
	period, duty int64
	inverted, on bool
	writes       []string // what was written, for tests
}

func (c *simChannel) String() string { return fmt.Sprintf("PWM channel %d (simulated)", c.n) }

func (c *simChannel) read(name string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch name {
	case "period":
		return strconv.FormatInt(c.period, 10) + "\n", nil
	case "duty_cycle":
		return strconv.FormatInt(c.duty, 10) + "\n", nil
	case "enable":
		if c.on {
			return "1\n", nil
		}
		return "0\n", nil
	case "polarity":
		if c.inverted {
			return "inversed\n", nil
		}
		return "normal\n", nil
	}
	return "", syscall.ENOENT
}

func (c *simChannel) write(name, value string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	period, duty, inverted, on := c.period, c.duty, c.inverted, c.on
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case name == "polarity":
		inverted, err = value == "inversed", nil
		if c.on {
			return syscall.EBUSY
		}
	case err != nil || n < 0:
		return syscall.EINVAL
	case name == "period":
		period = n
	case name == "duty_cycle":
		duty = n
	case name == "enable":
		on = n != 0
	default:
		return syscall.ENOENT
	}
	if period == 0 || duty > period {
		return syscall.EINVAL
	}
	c.period, c.duty, c.inverted, c.on = period, duty, inverted, on
	if len(c.writes) < 64 {
		c.writes = append(c.writes, name+"="+value)
	}
	return err
}
