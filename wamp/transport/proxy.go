package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Numbers of the PROXY protocol (haproxy, doc/proxy-protocol.txt).
const (
	proxyShortest = 15  // the header of either version
	proxyLongest1 = 107 // a header of version 1
	proxyHeader2  = 16  // what comes before the addresses in version 2
	// proxyLongest2 bounds addresses and further values of version 2. The text
	// allows 64 KB; what proxies send is some hundred bytes.
	proxyLongest2 = 4 << 10

	proxyChecksum = 0x03 // the type of the value that holds a CRC-32C
)

var (
	proxyPrefix1 = []byte("PROXY ")
	proxyPrefix2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// proxied is what a header says: between whom the connection is. Both are zero
// where it is the proxy's own, as for its health checks.
type proxied struct{ remote, local netip.AddrPort }

// ReadProxy reads the header of the PROXY protocol, version 1 or 2, with which
// a connection must begin, and returns the connection with the addresses that it
// gives; the proxy's own where it gives none. How long that may take is the
// caller's to bound, by a deadline. The error wraps ErrFraming for what is no
// header.
//
// Whoever sends the header chooses the addresses: the caller makes sure that it
// is a proxy that may.
func ReadProxy(conn net.Conn) (net.Conn, error) {
	p, err := readProxy(conn)
	if err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	o := open(conn)
	if p.remote.IsValid() {
		o.remote, o.local = net.TCPAddrFromAddrPort(p.remote), net.TCPAddrFromAddrPort(p.local)
	}
	return o, nil
}

// readProxy takes no more from r than the header.
func readProxy(r io.Reader) (proxied, error) {
	b := make([]byte, proxyShortest, proxyLongest1)
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return proxied{}, err
	}
	// At once, as who does not know of headers waits for an answer now.
	if b[0] != proxyPrefix1[0] && b[0] != proxyPrefix2[0] {
		return proxied{}, fmt.Errorf("%w: it begins with %#02x%s", ErrFraming, b[0], guess(b[0]))
	}
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		return proxied{}, fmt.Errorf("only a part of it came: %w", err)
	}
	switch {
	case bytes.HasPrefix(b, proxyPrefix1):
		return readProxy1(r, b)
	case bytes.HasPrefix(b, proxyPrefix2):
		return readProxy2(r, b)
	}
	return proxied{}, fmt.Errorf("%w: it begins with %q", ErrFraming, b)
}

// readProxy1 reads the line of version 1, of which b has come. Its length is not
// known before its end, so it is read by single bytes.
func readProxy1(r io.Reader, b []byte) (proxied, error) {
	for b[len(b)-1] != '\n' {
		if len(b) == proxyLongest1 {
			return proxied{}, fmt.Errorf("%w: the line does not end within %d bytes", ErrFraming, proxyLongest1)
		}
		b = b[:len(b)+1]
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return proxied{}, fmt.Errorf("only a part of it came: %w", err)
		}
	}
	wrong := func() (proxied, error) { return proxied{}, fmt.Errorf("%w: %q", ErrFraming, b) }
	line, ended := strings.CutSuffix(string(b), "\r\n")
	if !ended {
		return wrong()
	}
	words := strings.Split(line, " ")
	if words[1] == "UNKNOWN" { // whatever follows
		return proxied{}, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return wrong()
	}
	remote, ok := addrPort(words[2], words[4], words[1] == "TCP4")
	local, ok2 := addrPort(words[3], words[5], words[1] == "TCP4")
	if !ok || !ok2 {
		return wrong()
	}
	return proxied{remote, local}, nil
}

func addrPort(address, port string, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// readProxy2 reads what follows b in version 2.
func readProxy2(r io.Reader, b []byte) (proxied, error) {
	b = b[:proxyHeader2]
	if _, err := io.ReadFull(r, b[proxyShortest:]); err != nil {
		return proxied{}, fmt.Errorf("only a part of it came: %w", err)
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	if length > proxyLongest2 {
		return proxied{}, fmt.Errorf("%w: it claims %d bytes, more than %d", ErrFraming, length, proxyLongest2)
	}
	whole := append(bytes.Clone(b), make([]byte, length)...)
	if _, err := io.ReadFull(r, whole[proxyHeader2:]); err != nil {
		return proxied{}, fmt.Errorf("only a part of it came: %w", err)
	}
	const local, proxy, inet, inet6, unixStream, unspecified = 0x20, 0x21, 0x11, 0x21, 0x31, 0x00
	wrong := func(what string) (proxied, error) {
		return proxied{}, fmt.Errorf("%w: %s: % x", ErrFraming, what, whole[12:proxyHeader2])
	}
	command, family, body := whole[12], whole[13], whole[proxyHeader2:]
	if command == local { // whatever follows
		return proxied{}, nil
	}
	if command != proxy {
		return wrong("an unknown version or command")
	}
	size, known := proxySizes[family]
	if !known {
		return wrong("an unknown address family")
	}
	if size > len(body) {
		return wrong("too short for its addresses")
	}
	if err := proxyValues(whole, proxyHeader2+size); err != nil {
		return proxied{}, err
	}
	at := func(from, n, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(body[from : from+n])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(body[port:]))
	}
	switch family {
	case inet:
		return proxied{at(0, 4, 8), at(4, 4, 10)}, nil
	case inet6:
		return proxied{at(0, 16, 32), at(16, 16, 34)}, nil
	case unixStream, unspecified:
	}
	return proxied{}, nil
}

// proxySizes are the address families of streams, and how many bytes their
// addresses have. Of those of paths, and of none, nothing can be told.
var proxySizes = map[byte]int{0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}

// proxyValues checks what follows the addresses of a header of version 2, at
// from: the values must fill it, and a checksum must be right. Nothing else in
// them is of use here.
func proxyValues(header []byte, from int) error {
	for rest := header[from:]; len(rest) > 0; {
		if len(rest) < 3 || int(binary.BigEndian.Uint16(rest[1:])) > len(rest)-3 {
			return fmt.Errorf("%w: a value of it is cut short", ErrFraming)
		}
		kind, value := rest[0], rest[3:3+int(binary.BigEndian.Uint16(rest[1:]))]
		rest = rest[3+len(value):]
		if kind != proxyChecksum {
			continue
		}
		if len(value) != 4 {
			return fmt.Errorf("%w: its checksum has %d bytes", ErrFraming, len(value))
		}
		want := binary.BigEndian.Uint32(value)
		clear(value) // as it was while it was computed
		if crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)) != want {
			return fmt.Errorf("%w: its checksum is wrong", ErrFraming)
		}
		binary.BigEndian.PutUint32(value, want)
	}
	return nil
}
