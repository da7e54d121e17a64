package system

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxFile bounds what is read of a file in /proc or /sys, in bytes: /proc/stat
// is the longest, with a line per processor and a number per interrupt, and
// only its first line counts.
const maxFile = 64 << 10

// read reads a small file. One that is not there is no data.
func read(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", errNoData, err)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}

// loads reads the load averages over 1, 5 and 15 minutes (proc_loadavg(5)).
func (m *machine) loads() (loads [3]float64, err error) {
	path := filepath.Join(m.Proc, "loadavg")
	text, err := read(path)
	if err != nil {
		return loads, err
	}
	fields := strings.Fields(text)
	if len(fields) < len(loads) {
		return loads, fmt.Errorf("parse %q: too few fields", path)
	}
	for i := range loads {
		if loads[i], err = strconv.ParseFloat(fields[i], 64); err != nil {
			return loads, fmt.Errorf("parse %q: %w", path, err)
		}
	}
	return loads, nil
}

// uptime reads the time since the start, in seconds (proc_uptime(5)).
func (m *machine) uptime() (float64, error) {
	path := filepath.Join(m.Proc, "uptime")
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(first), 64)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", path, err)
	}
	return seconds, nil
}

// memory is in bytes.
type memory struct{ total, available uint64 }

// memory reads MemTotal and MemAvailable (proc_meminfo(5)); the latter is
// there since Linux 3.14.
func (m *machine) memory() (memory, error) {
	path := filepath.Join(m.Proc, "meminfo")
	text, err := read(path)
	if err != nil {
		return memory{}, err
	}
	var mem memory
	found := 0
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(line, ":")
		var into *uint64
		switch key {
		case "MemTotal":
			into = &mem.total
		case "MemAvailable":
			into = &mem.available
		default:
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			return memory{}, fmt.Errorf("parse %q: %q is not in kB", path, key)
		}
		kib, err := strconv.ParseUint(fields[0], 10, 54)
		if err != nil {
			return memory{}, fmt.Errorf("parse %q: %w", path, err)
		}
		*into = kib << 10
		found++
	}
	if found != 2 || mem.available > mem.total {
		return memory{}, fmt.Errorf("parse %q: MemTotal and MemAvailable are missing or wrong", path)
	}
	return mem, nil
}

// cpuTimes are times since the start, in ticks.
type cpuTimes struct{ busy, total uint64 }

// cpuUsed is the use of all processors since the call before, in percent. The
// first call has no data.
func (m *machine) cpuUsed() (float64, error) {
	path := filepath.Join(m.Proc, "stat")
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[0] != "cpu" {
		return 0, fmt.Errorf("parse %q: the first line is not that of all processors", path)
	}
	// user nice system idle iowait irq softirq steal; guest times are in user
	// and nice already (proc_stat(5)).
	var now cpuTimes
	for i, f := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(f, 10, 60)
		if err != nil {
			return 0, fmt.Errorf("parse %q: %w", path, err)
		}
		now.total += n
		if i != 3 && i != 4 {
			now.busy += n
		}
	}
	last := m.last
	m.last = now
	if last.total == 0 || now.total <= last.total || now.busy < last.busy {
		return 0, errNoData
	}
	return percent(now.busy-last.busy, now.total-last.total), nil
}

// cpuZones are parts of the names of thermal zones that are the processor's,
// the surest first: Raspberry Pi and most ARM boards, Intel, others.
var cpuZones = []string{"cpu-thermal", "cpu_thermal", "x86_pkg_temp", "cpu", "soc", "acpitz"}

// cpuTemperature reads the processor's thermal zone, in degrees Celsius
// (Linux, Documentation/driver-api/thermal/sysfs-api.rst).
func (m *machine) cpuTemperature() (float64, error) {
	zones, err := filepath.Glob(filepath.Join(m.Sys, "class", "thermal", "thermal_zone*"))
	if err != nil || len(zones) == 0 {
		return 0, errNoData
	}
	zone, best := "", len(cpuZones)
	for _, dir := range zones {
		kind, err := read(filepath.Join(dir, "type"))
		if err != nil {
			continue
		}
		kind = strings.TrimSpace(kind)
		if m.Thermal != "" {
			if kind == m.Thermal {
				zone = dir
				break
			}
			continue
		}
		for rank, name := range cpuZones[:best] {
			if strings.Contains(strings.ToLower(kind), name) {
				zone, best = dir, rank
				break
			}
		}
	}
	if zone == "" {
		if m.Thermal != "" {
			return 0, fmt.Errorf("find thermal zone: none of %d is of the type %q", len(zones), m.Thermal)
		}
		return 0, errNoData
	}
	path := filepath.Join(zone, "temp")
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	milli, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", path, err)
	}
	// A zone whose sensor is off reads 0 or something far out.
	if milli < -60_000 || milli > 200_000 {
		return 0, fmt.Errorf("read %q: %d m°C is out of range", path, milli)
	}
	return math.Round(float64(milli)/100) / 10, nil
}
