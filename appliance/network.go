//go:build linux

package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// network gives the machine's Ethernet an address: a fixed one, or by DHCP, and
// whatever comes and goes on USB.
type network struct {
	m *machine
	// name of the interface that has an address, and what the server said.
	name  string
	lease lease
	told  string
}

// look is how often the interfaces are looked at.
const look = time.Second

func newNetwork(m *machine) *network { return &network{m: m} }

func (n *network) run(ctx context.Context) {
	for {
		err := n.step(ctx)
		n.m.trial.connected(n.name != "")
		if err != nil && err.Error() != n.told {
			n.told = err.Error() // once, not every second
			n.m.logf("network: %v", err)
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
	}
}

// step finds an interface that is plugged in and gives it an address, or keeps
// the one that it has.
func (n *network) step(ctx context.Context) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	var problems []error
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 || n.name != "" && n.name != i.Name {
			continue
		}
		if i.Flags&net.FlagUp == 0 {
			problems = append(problems, flagUp(i.Name))
		}
		if firstLine("/sys/class/net/"+i.Name+"/carrier") != "1" {
			if n.name == i.Name {
				n.m.logf("network: %s is unplugged", i.Name)
				n.name = ""
			}
			continue
		}
		if n.name == i.Name && time.Now().Before(n.lease.renew) {
			return nil
		}
		if err := n.obtain(ctx, i); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", i.Name, err))
			continue
		}
		return nil
	}
	if n.name != "" && !hasInterface(interfaces, n.name) {
		n.m.logf("network: %s is gone", n.name)
		n.name = ""
	}
	return errors.Join(problems...)
}

func hasInterface(list []net.Interface, name string) bool {
	for _, i := range list {
		if i.Name == name {
			return true
		}
	}
	return false
}

// obtain gives an interface its address.
func (n *network) obtain(ctx context.Context, i net.Interface) error {
	var l lease
	if s := n.m.settings; s.Address != "" {
		l = fixed(s.Address, s.Router, s.DNS)
	} else {
		var err error
		if l, err = askDHCP(ctx, i, n.lease.address); err != nil {
			if n.name == i.Name && time.Now().After(n.lease.end) {
				n.name = ""
				return errors.Join(err, dropAddress(i.Name))
			}
			return err
		}
	}
	fresh := n.name != i.Name || l.address != n.lease.address
	n.name, n.lease, n.told = i.Name, l, ""
	if !fresh {
		return nil
	}
	if err := l.apply(i.Name); err != nil {
		n.name = ""
		return err
	}
	router := "none"
	if l.router.IsValid() {
		router = l.router.String()
	}
	n.m.logf("network: %s has %v, router %s, name servers %v", i.Name, l.address, router, l.dns)
	n.m.clock.offer(l.ntp)
	return nil
}

// fixed makes a lease of settings, which were checked when they were read.
func fixed(address, router string, dns []string) lease {
	l := lease{address: netip.MustParsePrefix(address), renew: time.Now().Add(1000 * time.Hour)}
	if router != "" {
		l.router = netip.MustParseAddr(router)
	}
	for _, s := range dns {
		l.dns = append(l.dns, netip.MustParseAddr(s))
	}
	return l
}

// apply gives a lease to the kernel and the resolver.
func (l *lease) apply(name string) error {
	ip, mask := l.address.Addr().As4(), net.CIDRMask(l.address.Bits(), 32)
	if err := setAddress(name, unix.SIOCSIFADDR, ip); err != nil {
		return fmt.Errorf("set the address: %w", err)
	}
	if err := setAddress(name, unix.SIOCSIFNETMASK, [4]byte(mask)); err != nil {
		return fmt.Errorf("set the network's mask: %w", err)
	}
	if l.router.IsValid() {
		if err := defaultRoute(name, l.router.As4()); err != nil {
			return fmt.Errorf("set the router: %w", err)
		}
	}
	var b strings.Builder
	for _, s := range l.dns {
		fmt.Fprintf(&b, "nameserver %v\n", s)
	}
	return os.WriteFile("/etc/resolv.conf", []byte(b.String()), 0o644)
}

func loopback() error { return flagUp("lo") }

// request does an ioctl of network interfaces.
func request(do func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

func flagUp(name string) error {
	return request(func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	})
}

func setAddress(name string, code uint, ip [4]byte) error {
	return request(func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, code, r)
	})
}

func dropAddress(name string) error { return setAddress(name, unix.SIOCSIFADDR, [4]byte{}) }

// route is the kernel's struct rtentry.
type route struct {
	_                             uintptr
	destination, gateway, genmask unix.RawSockaddrInet4
	flags                         uint16
	_                             int16
	_                             uintptr
	_                             uintptr
	metric                        int16
	device                        *byte
	mtu, window                   uintptr
	irtt                          uint16
}

// defaultRoute sends all that is not for the network to the router.
func defaultRoute(name string, router [4]byte) error {
	device, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	r := route{flags: unix.RTF_UP | unix.RTF_GATEWAY, device: device}
	r.destination.Family, r.gateway.Family, r.genmask.Family = unix.AF_INET, unix.AF_INET, unix.AF_INET
	r.gateway.Addr = router
	return request(func(fd int) error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); e != 0 && e != unix.EEXIST {
			return e
		}
		return nil
	})
}
