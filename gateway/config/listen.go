package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ParseProxies reads addresses and networks of proxies.
func ParseProxies(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := parseProxy(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseProxy(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no IP address", text)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q is no network", text)
	}
	return p, nil
}

func (l *Listen) validateProxies(report func(path, problem, hint string)) {
	for _, of := range []struct {
		path    string
		proxies []string
	}{
		{"listen.http", l.HTTP.Proxies}, {"listen.rawsocket", l.RawSocket.Proxies}, {"listen.universal", l.Universal.Proxies},
	} {
		for i, text := range of.proxies {
			path := fmt.Sprintf("%s.proxies[%d]", of.path, i)
			switch p, err := parseProxy(text); {
			case err != nil:
				report(path, err.Error(), "write an address such as 192.0.2.1, or a network such as 10.0.0.0/8, with no bits set beyond its length")
			case p.Bits() == 0:
				report(path, "every machine could say who it is", "list the proxies' own addresses")
			}
		}
	}
}

// Remote lists the addresses of WAMP listeners that can be reached from other
// machines.
func (c *Config) Remote() []string {
	l := &c.Listen
	return slices.Concat(c.RemoteHTTP(), remote(l.RawSocket.Addresses, l.RawSocket.Proxies))
}

// RemoteHTTP lists those that speak HTTP.
func (c *Config) RemoteHTTP() []string {
	l := &c.Listen
	return slices.Concat(remote(l.HTTP.Addresses, l.HTTP.Proxies), remote(l.Universal.Addresses, l.Universal.Proxies))
}

// remote lists those of addresses that other machines may reach: all, where
// proxies pass on what reaches them.
func remote(addresses, proxies []string) []string {
	var out []string
	for _, a := range addresses {
		if IsRemote(a) || len(proxies) > 0 {
			out = append(out, a)
		}
	}
	return out
}

// IsRemote reports whether other machines may reach what listens on an address.
func IsRemote(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}
