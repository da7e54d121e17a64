//go:build linux

package appliance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lease is an address and what goes with it.
type lease struct {
	address    netip.Prefix
	router     netip.Addr
	dns        []netip.Addr
	ntp        []string
	renew, end time.Time
}

// Options and types of messages, RFC 2132.
const (
	optMask, optRouter, optDNS, optHostname = 1, 3, 6, 12
	optNTP, optWanted, optTime, optType     = 42, 50, 51, 53
	optServer, optAsk, optEnd               = 54, 55, 255

	discover, offered, requested, acknowledged, refused = 1, 2, 3, 5, 6
)

// dhcpCookie begins the options.
var dhcpCookie = []byte{99, 130, 83, 99}

// offer is a server's message.
type offer struct {
	address netip.Addr
	options map[byte][]byte
}

// askDHCP gets a lease for an interface (RFC 2131): the one that it had before,
// if the server agrees.
func askDHCP(ctx context.Context, i net.Interface, before netip.Prefix) (lease, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(int(fd), i.Name))
		}); e != nil {
			return e
		}
		return err
	}}
	conn, err := config.ListenPacket(ctx, "udp4", "0.0.0.0:68")
	if err != nil {
		return lease{}, err
	}
	defer conn.Close()
	xid := rand.Uint32()
	exchange := func(kind byte, want []byte, more ...byte) (*offer, error) {
		if _, err := conn.WriteTo(dhcpMessage(kind, xid, i.HardwareAddr, more), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
			return nil, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		b := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return nil, errors.New("no DHCP server answers")
			}
			if o := readDHCP(b[:n], xid, i.HardwareAddr); o != nil && bytes.IndexByte(want, o.options[optType][0]) >= 0 {
				return o, nil
			}
		}
	}
	var more []byte
	if before.IsValid() {
		more = option(optWanted, before.Addr().AsSlice())
	}
	o, err := exchange(discover, []byte{offered}, more...)
	if err != nil {
		return lease{}, err
	}
	more = append(option(optWanted, o.address.AsSlice()), option(optServer, o.options[optServer])...)
	if o, err = exchange(requested, []byte{acknowledged, refused}, more...); err != nil {
		return lease{}, err
	}
	if o.options[optType][0] == refused {
		return lease{}, errors.New("the DHCP server refuses the address that it offered")
	}
	return o.lease(time.Now())
}

func option(code byte, value []byte) []byte {
	return append([]byte{code, byte(len(value))}, value...)
}

// dhcpMessage is a client's message.
func dhcpMessage(kind byte, xid uint32, hardware net.HardwareAddr, more []byte) []byte {
	b := make([]byte, 236, 400)
	b[0], b[1], b[2] = 1, 1, 6
	binary.BigEndian.PutUint32(b[4:], xid)
	b[10] = 0x80 // answer to all: the interface has no address yet
	copy(b[28:], hardware)
	b = append(b, dhcpCookie...)
	b = append(b, option(optType, []byte{kind})...)
	b = append(b, option(optAsk, []byte{optMask, optRouter, optDNS, optNTP, optTime})...)
	if name, err := os.Hostname(); err == nil && name != "" && len(name) < 64 {
		b = append(b, option(optHostname, []byte(name))...)
	}
	return append(append(b, more...), optEnd)
}

// readDHCP reads a server's message to this client, nil when it is none.
func readDHCP(b []byte, xid uint32, hardware net.HardwareAddr) *offer {
	if len(b) < 240 || b[0] != 2 || binary.BigEndian.Uint32(b[4:]) != xid || !bytes.Equal(b[28:34], hardware) || !bytes.Equal(b[236:240], dhcpCookie) {
		return nil
	}
	o := &offer{address: netip.AddrFrom4([4]byte(b[16:20])), options: map[byte][]byte{}}
	for rest := b[240:]; len(rest) > 0 && rest[0] != optEnd; {
		if rest[0] == 0 {
			rest = rest[1:]
			continue
		}
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return nil
		}
		o.options[rest[0]] = bytes.Clone(rest[2 : 2+int(rest[1])])
		rest = rest[2+int(rest[1]):]
	}
	if len(o.options[optType]) != 1 {
		return nil
	}
	return o
}

// lease reads what the server gives.
func (o *offer) lease(now time.Time) (lease, error) {
	mask := o.options[optMask]
	bits := 0
	if len(mask) == 4 {
		bits, _ = net.IPMask(mask).Size()
	}
	if bits == 0 || o.address.IsUnspecified() {
		return lease{}, errors.New("the DHCP server gives no address, or no mask")
	}
	l := lease{address: netip.PrefixFrom(o.address, bits), dns: addresses(o.options[optDNS])}
	if routers := addresses(o.options[optRouter]); len(routers) > 0 {
		l.router = routers[0]
	}
	for _, a := range addresses(o.options[optNTP]) {
		l.ntp = append(l.ntp, a.String())
	}
	length := time.Hour
	if t := o.options[optTime]; len(t) == 4 {
		length = max(time.Minute, time.Duration(binary.BigEndian.Uint32(t))*time.Second)
	}
	l.renew, l.end = now.Add(length/2), now.Add(length)
	return l, nil
}

// addresses reads a list, of no more than four.
func addresses(b []byte) []netip.Addr {
	var list []netip.Addr
	for ; len(b) >= 4 && len(list) < 4; b = b[4:] {
		list = append(list, netip.AddrFrom4([4]byte(b)))
	}
	return list
}
