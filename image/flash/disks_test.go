package flash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a tree with sys, proc and dev.
type machine struct {
	t    *testing.T
	root string
	next int
}

func (m *machine) file(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(path, to string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(m.root, to), path); err != nil {
		m.t.Fatal(err)
	}
}

// block makes a block device at a place in /sys/devices; it gives its number.
func (m *machine) block(at, name string, whole bool) string {
	m.next++
	dev := fmt.Sprintf("8:%d", m.next)
	dir := "sys/devices/" + at + "/" + name
	m.file(dir+"/dev", dev+"\n")
	if whole {
		m.link("sys/block/"+name, dir)
	} else {
		m.file(dir+"/partition", "1\n")
	}
	m.link("sys/class/block/"+name, dir)
	m.link("sys/dev/block/"+dev, dir)
	m.file("dev/"+name, "")
	return dev
}

// disk makes a disk with one partition, of 32 GB.
func (m *machine) disk(at, name, part string, attributes ...string) (dev, partDev string) {
	dev = m.block(at, name, true)
	dir := "sys/devices/" + at + "/" + name
	m.file(dir+"/size", "62333952\n")
	m.file(dir+"/ro", "0\n")
	m.file(dir+"/removable", "0\n")
	for _, a := range attributes {
		key, value, _ := strings.Cut(a, "=")
		m.file(dir+"/"+key, value+"\n")
	}
	if part != "" {
		partDev = m.block(at+"/"+name, part, false)
	}
	return dev, partDev
}

func (m *machine) mounted(lines ...string) {
	m.file("proc/self/mountinfo", strings.Join(lines, "\n")+"\n")
}

func mount(dev, at, source string) string {
	return fmt.Sprintf("30 1 %s / %s rw,relatime shared:1 - ext4 %s rw", dev, at, source)
}

func desk(t *testing.T) (*machine, System) {
	m := &machine{t: t, root: t.TempDir()}
	const usb = "pci0000:00/0000:00:14.0/usb2/2-1"
	_, stick := m.disk(usb+"/2-1:1.0/host6/target6:0:0/6:0:0:0/block", "sda", "sda1", "device/vendor=Generic", "device/model=STORAGE DEVICE", "removable=1", "diskseq=9")
	m.file("sys/devices/"+usb+"/idVendor", "05e3\n")
	m.file("sys/devices/"+usb+"/serial", "000000001206\n")
	m.disk("pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block", "sdb", "sdb1", "device/model=Samsung SSD")
	m.disk("platform/mmc/mmc_host/mmc0/mmc0:aaaa/block", "mmcblk0", "mmcblk0p1", "device/type=SD", "device/name=SC32G", "device/serial=0x1234abcd")
	_, boot := m.disk("platform/mmc/mmc_host/mmc1/mmc1:0001/block", "mmcblk1", "mmcblk1p1", "device/type=MMC", "device/name=DG4032")
	m.block("platform/mmc/mmc_host/mmc1/mmc1:0001/block", "mmcblk1boot0", true)
	m.disk("pci0000:00/0000:00:1d.0/nvme/nvme0", "nvme0n1", "nvme0n1p1", "device/model=Fast", "device/serial=N1")
	m.disk(usb+"/2-1:1.0/host6/target6:0:0/6:0:0:1/block", "sdc", "", "size=0", "removable=1")
	m.disk(usb+"/2-1:1.0/host6/target6:0:0/6:0:0:2/block", "sdd", "sdd1", "ro=1", "removable=1")
	m.disk(usb+"/2-1:1.0/host6/target6:0:0/6:0:0:3/block", "sde", "sde1", "removable=1")
	m.disk(usb+"/2-1:1.0/host6/target6:0:0/6:0:0:4/block", "sdf", "sdf1", "removable=1", "size=7814037168", "queue/logical_block_size=4096")
	m.disk("virtual/block", "zram0", "")
	// The root is on a volume in an encrypted partition of sdb.
	m.block("virtual/block", "dm-0", true)
	root := m.block("virtual/block", "dm-1", true)
	m.link("sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sdb/sdb1/holders/dm-0", "sys/devices/virtual/block/dm-0")
	m.link("sys/devices/virtual/block/dm-0/holders/dm-1", "sys/devices/virtual/block/dm-1")
	m.block("virtual/block", "md0", true)
	m.link("sys/devices/"+usb+"/2-1:1.0/host6/target6:0:0/6:0:0:3/block/sde/sde1/holders/md0", "sys/devices/virtual/block/md0")
	m.mounted(
		"22 1 0:21 / /proc rw - proc proc rw",
		mount(root, "/", "/dev/mapper/vg-root"),
		mount(boot, "/boot/firmware", "/dev/mmcblk1p1"),
		mount(stick, `/media/me/my\040stick`, "/dev/sda1"),
		"a line that is none",
	)
	m.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n/dev/gone partition 1 0 -2\n/swapfile file 1 0 -2\n")
	m.link("dev/disk/by-id/mmc-SC32G", "dev/mmcblk0")
	return m, System{m.root}
}

func TestRefusals(t *testing.T) {
	_, s := desk(t)
	everything := Allow{Fixed: true, Mounted: true, MaxSize: 1 << 60}
	for _, tt := range []struct {
		disk            string
		allow           Allow
		image           int64
		want            []string
		title, bus, ser string
	}{
		{"sda", Allow{}, 1e9, []string{`it is mounted at /media/me/my stick; unmount it`}, "Generic STORAGE DEVICE 31.9 GB", "usb", "000000001206"},
		{"sda", Allow{Mounted: true}, 1e9, nil, "", "", ""},
		{"sdb", everything, 1e9, []string{"this machine runs from it: it holds /"}, "Samsung SSD 31.9 GB", "ata", ""},
		{"mmcblk0", Allow{}, 1e9, nil, "SC32G 31.9 GB", "sd", "0x1234abcd"},
		{"mmcblk0", Allow{}, 32e9, []string{"it is too small: it has 31.9 GB (31914983424 bytes), the image 32.0 GB"}, "", "", ""},
		{"mmcblk1", everything, 1e9, []string{"it holds /boot/firmware"}, "DG4032 31.9 GB", "mmc", ""},
		{"mmcblk1", Allow{}, 1e9, []string{"it holds /boot/firmware", "it is not removable"}, "", "", ""},
		{"nvme0n1", everything, 1e9, []string{"it holds swap space"}, "Fast 31.9 GB", "nvme", "N1"},
		{"sdc", everything, 1e9, []string{"there is no medium in it"}, "0 B", "usb", ""},
		{"sdd", everything, 1e9, []string{"it is read-only"}, "", "", ""},
		{"sde", everything, 1e9, []string{"it is part of md0"}, "", "", ""},
		{"sdf", Allow{}, 1e9, []string{"it has 4.0 TB, more than a card has; --max-size 4000787030016"}, "4.0 TB", "usb", ""},
		{"sdf", everything, 1e9, nil, "", "", ""},
	} {
		d, err := s.Find("/dev/" + tt.disk)
		if err != nil {
			t.Error(err)
			continue
		}
		why := d.Refusals(tt.image, tt.allow)
		if len(why) != len(tt.want) {
			t.Errorf("%s, %+v: refused for %q, want %q", tt.disk, tt.allow, why, tt.want)
			continue
		}
		for i, w := range tt.want {
			if !strings.Contains(why[i], w) {
				t.Errorf("%s, %+v: refused for %q, want %q", tt.disk, tt.allow, why[i], w)
			}
		}
		if tt.title != "" && (d.Title() != tt.title || d.Bus != tt.bus || tt.ser != "" && d.Serial != tt.ser) {
			t.Errorf("%s: title %q, bus %q, serial %q", tt.disk, d.Title(), d.Bus, d.Serial)
		}
	}
}

func TestList(t *testing.T) {
	m, s := desk(t)
	disks, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range disks {
		names = append(names, d.Name)
	}
	if want := []string{"mmcblk0", "mmcblk1", "nvme0n1", "sda", "sdb", "sdc", "sdd", "sde", "sdf"}; !slices.Equal(names, want) {
		t.Errorf("disks %v, want %v", names, want)
	}
	byID, err := s.Find("/dev/disk/by-id/mmc-SC32G")
	if err != nil || byID.Name != "mmcblk0" {
		t.Errorf("by its link: %+v, %v", byID, err)
	}
	if _, err := s.Find("/dev/sda1"); err == nil || !strings.Contains(err.Error(), "is a partition") {
		t.Errorf("a partition: %v", err)
	}
	m.file("dev/null", "")
	m.file("home/image", "")
	for _, path := range []string{"/dev/null", "/home/image"} {
		if _, err := s.Find(path); !errors.Is(err, ErrNoDisk) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Another card in the same reader.
	before, err := s.Find("/dev/sda")
	if err != nil {
		t.Fatal(err)
	}
	m.file("sys/block/sda/diskseq", "10\n")
	if after, err := s.Find("/dev/sda"); err != nil || before.Same(after) || !before.Same(before) {
		t.Errorf("another card is the same: %v", err)
	}
	m.file("sys/block/sda/size", "much\n")
	if _, err := s.Find("/dev/sda"); err == nil {
		t.Error("a disk of no size")
	}
	if _, err := (System{t.TempDir()}).List(); err == nil || !strings.Contains(err.Error(), "needs Linux") {
		t.Errorf("elsewhere: %v", err)
	}
}

// TestRootElsewhere has the root on what has no block device of its own.
func TestRootElsewhere(t *testing.T) {
	m, s := desk(t)
	for _, tt := range []struct {
		mount, disk, want string
	}{
		{"30 1 0:50 / / rw - overlay overlay rw,lowerdir=/x", "sdb", "nobody knows which disk holds /"},
		{"30 1 0:50 / / rw - overlay overlay rw,lowerdir=/x", "mmcblk0", ""},
		{"30 1 0:33 /@ / rw - btrfs /dev/sdb1 rw", "sdb", "it holds /"},
		{"30 1 0:33 /@ / rw - btrfs /dev/mmcblk0p1 rw", "mmcblk0", "it holds /"},
	} {
		m.mounted(tt.mount)
		d, err := s.Find("/dev/" + tt.disk)
		if err != nil {
			t.Fatal(err)
		}
		why := strings.Join(d.Refusals(1e9, Allow{Fixed: true, Mounted: true}), "\n")
		if tt.want == "" && strings.Contains(why, "nobody") || !strings.Contains(why, tt.want) {
			t.Errorf("%s on %s: refused for %q, want %q", tt.mount, tt.disk, why, tt.want)
		}
	}
}
