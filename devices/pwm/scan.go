package pwm

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Chip is a PWM chip of the machine.
type Chip struct {
	Name     string `json:"name"`   // "pwmchip0", whose number changes between kernels
	Device   string `json:"device"` // "fe20c000.pwm"
	Channels int    `json:"channels"`
}

// Chips are those of the machine. root is /, or the folder that stands for it.
func Chips(root string) []Chip {
	dirs, _ := filepath.Glob(filepath.Join(root, sysRoot, "pwmchip*"))
	slices.Sort(dirs)
	var all []Chip
	for _, dir := range dirs {
		c := Chip{Name: filepath.Base(dir)}
		if to, err := filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil {
			c.Device = filepath.Base(to)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "npwm")); err == nil {
			c.Channels, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		all = append(all, c)
	}
	return all
}
