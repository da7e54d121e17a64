package i2c

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	periph "periph.io/x/conn/v3/i2c"
	"periph.io/x/host/v3/sysfs"

	"github.com/postern-iot/postern/devices/bus"
)

// openBus opens a bus of the machine by its device or its adapter's name.
func openBus(name string) (periph.BusCloser, error) {
	return openUnder("/", name)
}

// openUnder is openBus with another root for what it looks at in /sys and /dev.
func openUnder(root, name string) (periph.BusCloser, error) {
	number, err := busNumber(root, name)
	if err != nil {
		return nil, err
	}
	path := busPrefix + strconv.Itoa(number)
	f, err := os.OpenFile(filepath.Join(root, path), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no I2C bus %s%s: on a Raspberry Pi put dtparam=i2c_arm=on into the boot configuration (or use raspi-config), "+
			"have the module i2c-dev loaded (sudo modprobe i2c-dev), and restart; a USB adapter must be plugged in: %w", path, present(root), err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open I2C bus %s: %w: the gateway's user must be in the group i2c (sudo usermod -aG i2c USER, then start it again)", path, err)
	case err != nil:
		return nil, fmt.Errorf("open I2C bus %s: %w", path, err)
	}
	f.Close()
	b, err := sysfs.NewI2C(number)
	if err != nil {
		return nil, fmt.Errorf("open I2C bus %s: %w", path, err)
	}
	return b, nil
}

// busNumber finds the number of a bus.
func busNumber(root, name string) (int, error) {
	if s, ok := strings.CutPrefix(canonicalBus(name), busPrefix); ok {
		if n, err := strconv.Atoi(s); err == nil {
			return n, nil
		}
	}
	var found []int
	all := adapters(root)
	for n, adapter := range all {
		if strings.Contains(strings.ToLower(adapter), strings.ToLower(name)) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("no I2C bus is named %q%s", name, present(root))
	}
	return 0, fmt.Errorf("%d I2C busses are named %q%s: write its device", len(found), name, present(root))
}

// adapters are the names of the busses by their numbers.
func adapters(root string) map[int]string {
	all := map[int]string{}
	paths, _ := filepath.Glob(filepath.Join(root, "sys/class/i2c-dev/i2c-*/name"))
	for _, path := range paths {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "i2c-"))
		if err != nil {
			continue
		}
		if text, err := os.ReadFile(path); err == nil {
			all[n] = strings.TrimSpace(string(text))
		}
	}
	return all
}

// present lists the busses for an error.
func present(root string) string {
	var list []string
	for n, adapter := range adapters(root) {
		list = append(list, fmt.Sprintf("%s%d (%s)", busPrefix, n, adapter))
	}
	if len(list) == 0 {
		return "; there is none at all"
	}
	slices.Sort(list)
	return "; there are " + strings.Join(list, ", ")
}

// isErrno looks for a kernel's error in one of periph's, which have its text
// only.
func isErrno(err error, numbers ...syscall.Errno) bool {
	return slices.ContainsFunc(numbers, func(e syscall.Errno) bool {
		return errors.Is(err, e) || strings.Contains(err.Error(), e.Error())
	})
}

// isNACK says that nobody answered the address, or did not take a byte:
// adapters report it in one of two ways.
func isNACK(err error) bool { return isErrno(err, syscall.ENXIO, remoteIO) }

// remoteIO is Linux's EREMOTEIO, which other systems have not.
const remoteIO = syscall.Errno(121)

// explain says what a transaction's failure means.
func explain(name string, addr Address, err error) error {
	number, numbered := strings.CutPrefix(name, busPrefix)
	if !numbered {
		number = "N, with N from i2cdetect -l"
	}
	switch {
	case isNACK(err):
		return fmt.Errorf("nothing answers at address %v of I2C bus %s: check the wiring (SDA, SCL, 3.3 V, ground) and the address (i2cdetect -y %s): %w", addr, name, number, err)
	case isErrno(err, syscall.ETIMEDOUT), errors.Is(err, bus.ErrDeadline):
		return fmt.Errorf("I2C bus %s hangs at address %v: SDA or SCL may be held low; check the wiring and the pull-ups, and take the power off the chips: %w", name, addr, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return err // explained when it was opened
	}
	return fmt.Errorf("I2C bus %s, address %v: %w", name, addr, err)
}
