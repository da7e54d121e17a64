package serial

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Port is a serial port of the machine.
type Port struct {
	Path string `json:"path"` // "/dev/ttyUSB0"
	// ByID is a name that stays the same wherever the adapter is plugged in, ""
	// for ports that are not on USB.
	ByID string `json:"by_id,omitempty"`
	// Product is what the USB device says of itself.
	Product string `json:"product,omitempty"`
	Driver  string `json:"driver,omitempty"` // the kernel's
}

// Name is what a configuration should call the port.
func (p *Port) Name() string {
	if p.ByID != "" {
		return p.ByID
	}
	return p.Path
}

// Ports are the serial ports that have hardware. root is /, or the folder that
// stands for it.
func Ports(root string) []Port {
	stable := map[string]string{}
	links, _ := filepath.Glob(filepath.Join(root, "dev/serial/by-id/*"))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			stable[filepath.Base(to)] = "/dev/serial/by-id/" + filepath.Base(link)
		}
	}
	ttys, _ := filepath.Glob(filepath.Join(root, "sys/class/tty/*"))
	slices.Sort(ttys)
	var all []Port
	for _, tty := range ttys {
		name := filepath.Base(tty)
		device, err := filepath.EvalSymlinks(filepath.Join(tty, "device"))
		if err != nil {
			continue // a console or a pseudo-terminal
		}
		if _, err := os.Stat(filepath.Join(root, "dev", name)); err != nil {
			continue
		}
		p := Port{Path: "/dev/" + name, ByID: stable[name], Product: product(device)}
		if to, err := os.Readlink(filepath.Join(device, "driver")); err == nil {
			p.Driver = filepath.Base(to)
		}
		// The four ports that every PC seems to have, and which are not there.
		if text, err := os.ReadFile(filepath.Join(tty, "type")); err == nil && strings.TrimSpace(string(text)) == "0" && p.ByID == "" {
			continue
		}
		all = append(all, p)
	}
	return all
}

// product is the name of the USB device that a port belongs to: that of a
// folder above the port's own.
func product(device string) string {
	for range 4 {
		if text, err := os.ReadFile(filepath.Join(device, "product")); err == nil {
			maker, _ := os.ReadFile(filepath.Join(device, "manufacturer"))
			return clean(strings.TrimSpace(string(maker) + " " + string(text)))
		}
		device = filepath.Dir(device)
	}
	return ""
}

// clean makes one line of what a device says: it may be anything.
func clean(text string) string {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7F || r == '\uFFFD' || r >= 0x80 && r < 0xA0 })
	text = strings.Join(fields, " ")
	return text[:min(len(text), 128)]
}
