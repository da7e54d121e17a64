package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const byID = "/dev/serial/by-id"

// linkPorts does what udev does for serial ports on USB: from the kernel's
// events it makes, and takes away, their links in /dev/serial/by-id
// (60-serial.rules). It runs until the machine ends.
func linkPorts() error {
	if err := os.MkdirAll(byID, 0o755); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("kernel's events: %w", err)
	}
	if err := unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("kernel's events: %w", err)
	}
	go func() {
		buf := make([]byte, 8192)
		for {
			n, err := unix.Read(s, buf)
			if err == nil {
				linkPort(event(buf[:n]))
			} else if err != unix.EINTR && err != unix.ENOBUFS {
				fmt.Println("vm: no more events of the kernel:", err)
				return
			}
		}
	}()
	return nil
}

// event takes an event of the kernel apart: NAME=VALUE, separated by zeros.
func event(b []byte) map[string]string {
	e := map[string]string{}
	for _, field := range strings.Split(string(b), "\x00") {
		if name, value, ok := strings.Cut(field, "="); ok {
			e[name] = value
		}
	}
	return e
}

func linkPort(e map[string]string) {
	if e["SUBSYSTEM"] != "tty" || !strings.HasPrefix(e["DEVNAME"], "ttyACM") {
		return
	}
	target := "../../" + e["DEVNAME"]
	switch e["ACTION"] {
	case "add":
		if name := portName("/sys" + e["DEVPATH"]); name != "" {
			path := filepath.Join(byID, name)
			os.Remove(path)
			if err := os.Symlink(target, path); err != nil {
				fmt.Println("vm: link of a port:", err)
			}
		}
	case "remove":
		links, _ := filepath.Glob(byID + "/*")
		for _, path := range links {
			if to, _ := os.Readlink(path); to == target {
				os.Remove(path)
			}
		}
	}
}

// portName is usb-MANUFACTURER_PRODUCT_SERIAL-ifNN of the device that a port
// belongs to, "" if that is gone already.
func portName(dir string) string {
	read := func(dir, name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.ReplaceAll(strings.TrimSpace(string(text)), " ", "_")
	}
	number := ""
	for ; dir != "/sys" && dir != "/"; dir = filepath.Dir(dir) {
		if n := read(dir, "bInterfaceNumber"); n != "" {
			number = n
		}
		if serial := read(dir, "serial"); serial != "" {
			return fmt.Sprintf("usb-%s_%s_%s-if%s", read(dir, "manufacturer"), read(dir, "product"), serial, number)
		}
	}
	return ""
}
