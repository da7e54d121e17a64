// Package image makes the appliance's card image: a boot partition that says
// which of two slots boots, a slot with firmware, kernel and gateway, and a
// partition for data. The same input gives the same bytes.
//
//	1  FAT16   4 MiB  autoboot.txt: the slot to boot, and the one to try
//	2  FAT16  48 MiB  slot: firmware, kernel, device trees, initramfs
//	3     -   48 MiB  the other slot: the appliance makes it at the card's end
//	4  ext4   16 MiB  data; the appliance grows it up to the other slot
//
// It needs no root and no external program. It has no goroutines; it reads
// modules from the Go module proxy or its caches, and writes nothing else.
package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	profiles "github.com/postern-iot/postern/firmware-profiles"
	"github.com/postern-iot/postern/image/ext4"
	"github.com/postern-iot/postern/image/fat"
	"github.com/postern-iot/postern/image/layout"
)

// Spec says what to build.
type Spec struct {
	Board   *profiles.Board
	Version string
	// Gateway is the appliance's program, for linux/arm64.
	Gateway []byte
	// Boot are further lines of config.txt.
	Boot []string
	// Data are the files of the data partition.
	Data []ext4.File
}

// Image is an image and what it is made of.
type Image struct {
	Release layout.Release
	// Disk is the whole card.
	Disk []byte
	// Kernel and Initramfs are sizes in bytes, compressed.
	Kernel, Initramfs int
}

// Slot is the part of the disk that an update replaces.
func (i *Image) Slot() []byte { return i.Disk[layout.SlotAt : layout.SlotAt+layout.SlotSize] }

// Build makes an image.
func Build(ctx context.Context, s Spec, from *Source) (*Image, error) {
	if why := s.Board.Appliance.Unavailable; why != "" {
		return nil, fmt.Errorf("there is no appliance image for the %s: %s", s.Board.Name, why)
	}
	slot, img, err := s.slot(ctx, from)
	if err != nil {
		return nil, err
	}
	boot := []fat.File{{Name: "autoboot.txt", Data: layout.Autoboot(layout.SlotA)}}
	for _, f := range slot {
		if f.Name == "bootcode.bin" { // older boards load it from the first partition
			boot = append(boot, f)
		}
	}
	first, err := fat.Format(fat.Volume{Label: "POSTERN", Serial: layout.DiskID, Size: layout.BootSize, Hidden: layout.BootAt / 512, Time: layout.Epoch}, boot)
	if err != nil {
		return nil, fmt.Errorf("the boot partition: %w", err)
	}
	second, err := fat.Format(fat.Volume{Label: "SLOT", Serial: layout.DiskID, Size: layout.SlotSize, Hidden: layout.SlotAt / 512, Time: layout.Epoch}, slot)
	if err != nil {
		return nil, fmt.Errorf("the slot: %w", err)
	}
	data, err := ext4.Format("postern-data", layout.DataSize, layout.Epoch, s.Data)
	if err != nil {
		return nil, fmt.Errorf("the data partition: %w", err)
	}
	img.Disk = make([]byte, layout.Size)
	copy(img.Disk, layout.NewTable()[:])
	copy(img.Disk[layout.BootAt:], first)
	copy(img.Disk[layout.SlotAt:], second)
	copy(img.Disk[layout.DataAt:], data)
	return img, nil
}

// slot makes a slot's files.
func (s *Spec) slot(ctx context.Context, from *Source) ([]fat.File, *Image, error) {
	module := kernelRPi
	if s.Board.Appliance.Kernel == "arm64" {
		module = kernelARM64
	}
	kernel, err := from.open(ctx, module)
	if err != nil {
		return nil, nil, err
	}
	defer kernel.Close()
	var files []fat.File
	add := func(name string, data []byte) { files = append(files, fat.File{Name: name, Data: data}) }
	if err := s.firmware(ctx, from, add); err != nil {
		return nil, nil, err
	}
	for _, name := range s.Board.Appliance.Trees {
		b, err := kernel.read(name)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", module.Path, err)
		}
		add(name, b)
	}
	if err := s.overlays(kernel, add); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", module.Path, err)
	}
	add("config.txt", s.configTxt())
	add("cmdline.txt", []byte(s.cmdline()))
	id := sha256.New()
	fmt.Fprintln(id, s.Version, s.Board.ID, module.Sum, firmware.Sum)
	for _, f := range files {
		fmt.Fprintln(id, f.Name, len(f.Data))
		id.Write(f.Data)
	}
	id.Write(s.Gateway)
	img := &Image{Release: layout.Release{Version: s.Version, Board: s.Board.ID, Build: hex.EncodeToString(id.Sum(nil)[:8])}}
	release, err := json.Marshal(img.Release)
	if err != nil {
		return nil, nil, err
	}
	vmlinuz, err := kernel.read("vmlinuz")
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", module.Path, err)
	}
	small, err := compress(vmlinuz)
	if err != nil {
		return nil, nil, err
	}
	ram, err := compress(initramfs(s.Gateway, release))
	if err != nil {
		return nil, nil, err
	}
	img.Kernel, img.Initramfs = len(small), len(ram)
	add("kernel.gz", small)
	add("initramfs.gz", ram)
	add("release.json", release)
	return files, img, nil
}

func (s *Spec) firmware(ctx context.Context, from *Source, add func(string, []byte)) error {
	if len(s.Board.Appliance.Firmware) == 0 {
		return nil
	}
	a, err := from.open(ctx, firmware)
	if err != nil {
		return err
	}
	defer a.Close()
	for _, name := range s.Board.Appliance.Firmware {
		b, err := a.read(name)
		if err != nil {
			return fmt.Errorf("%s: %w", firmware.Path, err)
		}
		add(name, b)
	}
	return nil
}

// overlays adds the overlays that the board's profile names, with their
// variants for other boards, which the firmware chooses by overlay_map.dtb.
func (s *Spec) overlays(kernel *archive, add func(string, []byte)) error {
	if len(s.Board.Overlays) == 0 {
		return nil
	}
	for _, name := range kernel.below("overlays") {
		base := strings.TrimSuffix(strings.TrimSuffix(name, ".dtbo"), "-pi5")
		if name != "overlay_map.dtb" && s.Board.Overlay(base) == nil {
			continue
		}
		b, err := kernel.read("overlays/" + name)
		if err != nil {
			return err
		}
		add("overlays/"+name, b)
	}
	return nil
}

// configTxt is what the Raspberry Pi's firmware reads.
func (s *Spec) configTxt() []byte {
	lines := append([]string{"arm_64bit=1", "kernel=kernel.gz", "initramfs initramfs.gz followkernel", "gpu_mem=16"}, s.Board.Appliance.Boot...)
	return []byte(strings.Join(append(lines, s.Boot...), "\n") + "\n")
}

// cmdline is the kernel's command line.
func (s *Spec) cmdline() string {
	words := append([]string{layout.SlotWord + "2"}, s.Board.Appliance.Cmdline...)
	return strings.Join(append(words, "panic=10", "oops=panic", "quiet", "printk.devkmsg=on"), " ") + "\n"
}

// compress makes a gzip file without a name and a time.
func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, 6)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// initramfs is the archive that the kernel unpacks and starts /init from, in
// its "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
func initramfs(gateway, release []byte) []byte {
	var b bytes.Buffer
	inode := 0
	put := func(name string, mode, major, minor int, data []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
			inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
		for _, part := range [][]byte{append([]byte(name), 0), data} {
			b.Write(part)
			b.Write(make([]byte, (4-b.Len()%4)%4))
		}
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc", "data", "boot"} {
		put(dir, 0o040755, 0, 0, nil)
	}
	// Without these a Go program ends at once as the first process.
	put("dev/console", 0o020600, 5, 1, nil)
	put("dev/null", 0o020666, 1, 3, nil)
	put("etc/release.json", 0o100644, 0, 0, release)
	put("init", 0o100755, 0, 0, gateway)
	put("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}
