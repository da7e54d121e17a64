package onewire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/postern-iot/postern/devices/bus"
)

// tree is a bus as the kernel shows it. It is used by one goroutine at a time.
type tree interface {
	io.Closer
	// list are the sensors that the kernel has found.
	list() ([]string, error)
	// convert has all sensors measure at once, where that can be.
	convert() error
	// read returns the text of a sensor's w1_slave, after its resolution was
	// set, when that is not 0. A sensor that is not there is an error.
	read(id string, resolution int) (string, error)
}

// pool holds the busses in use, by their folders.
type pool = bus.Pool[tree]

func newPool(open func(folder string) (tree, error)) *pool {
	return bus.NewPool(open, func(error) bool { return true })
}

// files is the tree of w1_therm.
type files struct{ folder string }

// openTree opens a bus by its folder in /sys/bus/w1/devices.
func openTree(folder string) (tree, error) {
	f := &files{folder}
	return f, f.present()
}

func (f *files) present() error {
	if _, err := os.Stat(f.folder); err == nil {
		return nil
	}
	var have []string
	paths, _ := filepath.Glob(filepath.Join(filepath.Dir(f.folder), "w1_bus_master*"))
	for _, p := range paths {
		have = append(have, filepath.Base(p))
	}
	there := "there is none at all"
	if len(have) > 0 {
		there = "there are " + strings.Join(have, ", ")
	}
	return fmt.Errorf("there is no 1-wire bus %s; %s: on a Raspberry Pi put dtoverlay=w1-gpio into the boot configuration and restart; "+
		"a DS2482 or a USB adapter needs its own kernel driver: %w", filepath.Base(f.folder), there, fs.ErrNotExist)
}

// Close implements io.Closer: nothing is kept open.
func (f *files) Close() error { return nil }

func (f *files) list() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(f.folder, "28-*"))
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	slices.Sort(paths)
	return paths, err
}

// trigger is the command as the kernel wants it, with its end of line.
const trigger = "trigger\n"

// convert returns when the conversion is over: the kernel holds the write for
// so long. A kernel without it has each sensor convert when it is read.
func (f *files) convert() error {
	if err := f.present(); err != nil {
		return err
	}
	err := writeFile(filepath.Join(f.folder, "therm_bulk_read"), trigger)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // an old kernel, no sensor yet, or not root's to write: slower, not wrong
	}
	if err != nil {
		return fmt.Errorf("1-wire bus %s: convert: %w", filepath.Base(f.folder), err)
	}
	return nil
}

func (f *files) read(id string, resolution int) (string, error) {
	dir := filepath.Join(f.folder, id)
	if resolution != 0 {
		err := writeFile(filepath.Join(dir, "resolution"), strconv.Itoa(resolution)+"\n")
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("set the resolution of sensor %s: %w: only root may; give the file to the gateway's group by a udev rule, or set resolution: 0", id, err)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("set the resolution of sensor %s: %w", id, err)
		}
	}
	file, err := os.Open(filepath.Join(dir, "w1_slave"))
	if err == nil {
		defer file.Close()
		var text [512]byte
		n, readErr := io.ReadFull(file, text[:])
		if err = readErr; errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return string(text[:n]), nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		return "", fmt.Errorf("sensor %s is not on the bus: check its wiring and number (ls %s): %w", id, filepath.Dir(f.folder), err)
	case err == nil:
		return "", fmt.Errorf("sensor %s: its file is longer than any that the kernel writes", id)
	}
	return "", fmt.Errorf("read sensor %s: %w", id, err)
}

func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// What parse refuses.
var (
	errPowerUp = errors.New("85 °C is what the sensor holds after it was powered up: its supply may be interrupted, or too weak for a conversion")
	errSilent  = errors.New("the sensor's bytes are all zero: the data line is shorted to ground")
	errShort   = errors.New("the sensor has not answered, or not in time")
)

// slaveText is the kernel's text: nine bytes of the scratchpad, their checksum
// and verdict, and below the bytes of the last good reading and what they mean.
var slaveText = regexp.MustCompile(`^((?:[0-9a-f]{2} ){9}): crc=([0-9a-f]{2}) (YES|NO)\n(?:[0-9a-f]{2} ){9}t=(-?[0-9]{1,6})\n?$`)

// parse takes the temperature in m°C from a sensor's w1_slave. It trusts
// neither the verdict nor the number alone: the checksum is computed again,
// and the power-up value is told by the sensor's reserved byte.
func parse(text string) (int, error) {
	m := slaveText.FindStringSubmatch(text)
	if m == nil {
		if strings.TrimSpace(text) == "" {
			return 0, errShort
		}
		return 0, fmt.Errorf("the kernel's text is not understood: %.40q", text)
	}
	pad, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
	if err != nil {
		return 0, err
	}
	if slices.Equal(pad, make([]byte, 9)) {
		return 0, errSilent // its checksum would be right
	}
	if m[3] != "YES" || crc8(pad[:8]) != pad[8] {
		return 0, fmt.Errorf("the checksum of the sensor's value is wrong (%#02x): the cable may be too long, or the resistor of 4.7 kΩ missing", pad[8])
	}
	milli, err := strconv.Atoi(m[4])
	if err != nil {
		return 0, err
	}
	// Byte 6 is 0x0C after power-up and never beside this value after a
	// conversion: w1_therm tells it the same way (W1_THERM_CHECK_RESULT).
	if milli == powerUpMilli && pad[6] == 0x0C {
		return 0, errPowerUp
	}
	return milli, nil
}

// crc8 is the checksum of "CRC generation": x^8 + x^5 + x^4 + 1, the lowest bit
// first.
func crc8(p []byte) byte {
	var crc byte
	for _, b := range p {
		crc ^= b
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8C
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
