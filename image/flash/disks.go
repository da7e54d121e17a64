// Package flash writes images to memory cards, and knows which disks it must
// not touch.
//
// A write begins by clearing the first chunk, so that a half-written card does
// not boot; it writes that chunk last, after all others were read back. A
// journal beside it lets an interrupted write go on. Nothing is kept open
// between calls; there are no goroutines but one for a decompressor's end.
package flash

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// System is where a machine's disks are described: Root is the directory that
// has sys, proc and dev, "/" but in tests.
type System struct{ Root string }

// Disk is a whole disk, as Linux describes it.
type Disk struct {
	Name      string   `json:"name"` // as in /dev
	Path      string   `json:"path"`
	Model     string   `json:"model"`
	Serial    string   `json:"serial"`
	Size      int64    `json:"size"` // bytes; 0 without a medium
	Bus       string   `json:"bus"`  // usb, sd, mmc, nvme, ata, virtio, loop; empty for others
	Removable bool     `json:"removable"`
	ReadOnly  bool     `json:"read_only"`
	Mounts    []string `json:"mounts"` // where it, or what is on it, is mounted
	Swap      bool     `json:"swap"`
	Part      string   `json:"part_of,omitempty"` // device-mapper or RAID device that it is a part of
	Sector    int64    `json:"sector"`            // bytes of the smallest write
	// RootUnknown says that nobody knows which disk holds /.
	RootUnknown bool `json:"-"`

	device   string // major:minor
	sequence string // changes with the medium, where the kernel counts
}

// ErrNoDisk is the error of a path that is no disk.
var ErrNoDisk = errors.New("no disk")

// Title is what a person is asked to type before a disk is written.
func (d *Disk) Title() string {
	return strings.TrimSpace(d.Model + " " + Bytes(d.Size))
}

// Same says whether a description read later is that of the same disk with the
// same medium.
func (d *Disk) Same(e *Disk) bool {
	return d.device == e.device && d.sequence == e.sequence && d.Size == e.Size && d.Serial == e.Serial && d.Model == e.Model
}

// List is all disks that could hold a card or a stick, and those of the machine.
func (s System) List() ([]*Disk, error) {
	entries, err := os.ReadDir(s.path("sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list the disks, which needs Linux: %w", err)
	}
	use, err := s.use()
	if err != nil {
		return nil, err
	}
	var disks []*Disk
	for _, e := range entries {
		if virtual(e.Name()) {
			continue
		}
		d, err := s.disk(e.Name(), use)
		if err != nil {
			return nil, err
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// virtual says of a name in /sys/block that it is no disk that somebody could
// take out: memory, files, parts of something else.
func virtual(name string) bool {
	for _, p := range []string{"loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock"} {
		if rest, ok := strings.CutPrefix(name, p); ok && strings.Trim(rest, "0123456789") == "" {
			return true
		}
	}
	return strings.HasPrefix(name, "mmcblk") && (strings.Contains(name, "boot") || strings.Contains(name, "rpmb"))
}

// Find is the disk with a path in /dev, also by a link as in /dev/disk/by-id. A
// partition is an error, as is what is no block device (ErrNoDisk).
func (s System) Find(path string) (*Disk, error) {
	name, err := s.deviceName(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.path("sys/block", name)); err != nil {
		if _, err := os.Stat(s.path("sys/class/block", name, "partition")); err == nil {
			return nil, fmt.Errorf("%s is a partition; an image goes onto a whole disk", path)
		}
		return nil, fmt.Errorf("%s: %w", path, ErrNoDisk)
	}
	use, err := s.use()
	if err != nil {
		return nil, err
	}
	return s.disk(name, use)
}

// deviceName is the name of the device that a path leads to.
func (s System) deviceName(path string) (string, error) {
	full := s.path(path)
	if strings.HasPrefix(path, s.Root) {
		full = path
	}
	full, err := filepath.EvalSymlinks(full)
	if err != nil {
		return "", fmt.Errorf("find the disk: %w", err)
	}
	if dir := filepath.Dir(full); dir != s.path("dev") && dir != s.path("dev/mapper") {
		return "", fmt.Errorf("%s: %w", path, ErrNoDisk)
	}
	return filepath.Base(full), nil
}

func (s System) path(parts ...string) string {
	return filepath.Join(append([]string{s.Root}, parts...)...)
}

// text is a small file of /sys or /proc, trimmed; empty if it cannot be read.
func (s System) text(parts ...string) string {
	f, err := os.Open(s.path(parts...))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 4096))
	return strings.ToValidUTF8(strings.Join(strings.Fields(string(b)), " "), "?")
}

func (s System) disk(name string, use *use) (*Disk, error) {
	sys := "sys/block/" + name
	sectors, err := strconv.ParseInt(s.text(sys, "size"), 10, 64)
	if err != nil || sectors < 0 || sectors > 1<<53 {
		return nil, fmt.Errorf("%s has no size in /%s/size", name, sys)
	}
	d := &Disk{
		Name: name, Path: "/dev/" + name, Size: sectors * 512, // in this unit, whatever the disk's own is
		Removable: s.text(sys, "removable") == "1", ReadOnly: s.text(sys, "ro") == "1",
		device: s.text(sys, "dev"), sequence: s.text(sys, "diskseq"), Sector: 512, RootUnknown: !use.rootKnown,
	}
	if n, err := strconv.ParseInt(s.text(sys, "queue/logical_block_size"), 10, 64); err == nil && n >= 512 && n <= 1<<16 {
		d.Sector = n
	}
	s.identify(d)
	s.occupation(d, sys, use)
	return d, nil
}

// identify fills in what the disk is, from the device that it belongs to.
func (s System) identify(d *Disk) {
	sys := "sys/block/" + d.Name
	d.Model = strings.TrimSpace(s.text(sys, "device/vendor") + " " + s.text(sys, "device/model"))
	d.Serial = s.text(sys, "device/serial")
	real, err := filepath.EvalSymlinks(s.path(sys))
	if err != nil {
		real = ""
	}
	switch {
	case strings.Contains(real, "/usb"):
		d.Bus = "usb"
		d.Removable = true
		for dir := real; len(dir) > len(s.path("sys")); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "idVendor")); err != nil {
				continue
			}
			at := strings.TrimPrefix(dir, filepath.Clean(s.Root))
			if serial := s.text(at, "serial"); serial != "" {
				d.Serial = serial
			}
			if d.Model == "" {
				d.Model = s.text(at, "product")
			}
			break
		}
	case strings.Contains(real, "/mmc_host/"):
		// A card's slot does not call itself removable, and soldered memory is
		// on the same bus: the card says which it is.
		d.Bus = strings.ToLower(s.text(sys, "device/type"))
		d.Removable = d.Removable || d.Bus == "sd"
		d.Model = s.text(sys, "device/name")
	case strings.Contains(real, "/nvme"):
		d.Bus = "nvme"
	case strings.Contains(real, "/ata"):
		d.Bus = "ata"
	case strings.Contains(real, "/virtio"):
		d.Bus, d.Model = "virtio", ""
	case strings.Contains(real, "/virtual/block/loop"):
		d.Bus, d.Model = "loop", s.text(sys, "loop/backing_file")
	}
}

// occupation fills in who uses the disk, its partitions, and what is made of
// them: encrypted, logical and RAID volumes.
func (s System) occupation(d *Disk, sys string, use *use) {
	parts, _ := filepath.Glob(s.path(sys, "*", "partition"))
	names := []string{d.Name}
	for _, p := range parts {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	for i := 0; i < len(names) && i < 256; i++ {
		n := names[i]
		dev := s.text("sys/class/block", n, "dev")
		if n == d.Name {
			dev = d.device
		}
		d.Mounts = append(d.Mounts, use.mounts[dev]...)
		d.Mounts = append(d.Mounts, use.named[n]...)
		d.Swap = d.Swap || use.swaps[n]
		holders, _ := os.ReadDir(s.path("sys/class/block", n, "holders"))
		for _, h := range holders {
			d.Part = h.Name()
			if !slices.Contains(names, h.Name()) {
				names = append(names, h.Name())
			}
		}
	}
	slices.Sort(d.Mounts)
	d.Mounts = slices.Compact(d.Mounts)
}

// use is what the machine does with its block devices.
type use struct {
	mounts    map[string][]string // by major:minor
	named     map[string][]string // by name, for file systems on several devices
	swaps     map[string]bool     // by name
	rootKnown bool
}

// use reads the mounts (proc(5), /proc/pid/mountinfo) and swap areas.
func (s System) use() (*use, error) {
	u := &use{mounts: map[string][]string{}, named: map[string][]string{}, swaps: map[string]bool{}}
	err := s.lines("proc/self/mountinfo", func(fields []string) {
		separator := slices.Index(fields, "-")
		if separator < 6 || len(fields) < separator+3 {
			return
		}
		dev, at, source := fields[2], unescape(fields[4]), unescape(fields[separator+2])
		_, err := os.Stat(s.path("sys/dev/block", dev))
		known := err == nil
		if known {
			u.mounts[dev] = append(u.mounts[dev], at)
		} else if strings.HasPrefix(source, "/dev/") {
			// A file system such as btrfs has a number of its own.
			if name, err := s.deviceName(source); err == nil {
				u.named[name] = append(u.named[name], at)
				known = true
			}
		}
		if at == "/" {
			u.rootKnown = known
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what is mounted, which needs Linux: %w", err)
	}
	// A kernel without swap has no such file.
	err = s.lines("proc/swaps", func(fields []string) {
		if strings.HasPrefix(fields[0], "/dev/") {
			if name, err := s.deviceName(fields[0]); err == nil {
				u.swaps[name] = true
			}
		}
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the swap areas: %w", err)
	}
	return u, nil
}

func (s System) lines(path string, each func(fields []string)) error {
	f, err := os.Open(s.path(path))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 16<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			each(fields)
		}
	}
	return lines.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Bytes is a size as it is printed on cards.
func Bytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= u.size {
			return strconv.FormatFloat(float64(n)/float64(u.size), 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
