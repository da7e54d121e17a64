package transport

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// CheckHost reports why a request's Host header is not acceptable, nil when it
// is. It protects what listens on loopback or in a private network from DNS
// rebinding, where a web page's own name is made to point at it; every HTTP
// service of a listener should ask it.
//
// allowed are host names without port; "*.example.com" is any name below
// example.com, "*" every name. Addresses and localhost need no mention: they
// cannot be rebound. When allowed is empty, a request that came in on a
// loopback address must be addressed to one, and others are accepted.
func CheckHost(r *http.Request, allowed []string) error {
	host := strings.ToLower(strings.TrimSuffix(hostOnly(r.Host), "."))
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || isAddr && addr.Unmap().IsLoopback()
	if local {
		return nil
	}
	if len(allowed) == 0 {
		if !onLoopback(r) {
			return nil
		}
		return fmt.Errorf("host %q is not a loopback name, and this listener is on loopback: use localhost, or add the name to allowed_hosts", r.Host)
	}
	if isAddr {
		return nil
	}
	for _, a := range allowed {
		if matchHost(strings.ToLower(a), host) {
			return nil
		}
	}
	return fmt.Errorf("host %q is not among allowed_hosts", r.Host)
}

// onLoopback says whether the request came in on a loopback address; when the
// server did not note it, it is taken to have.
func onLoopback(r *http.Request) bool {
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return false // no browser connects to it
	default:
		return true
	}
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// matchHost matches a host against a name, "*.name" or "*".
func matchHost(pattern, host string) bool {
	if pattern == "*" {
		return true
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasPrefix(suffix, ".") && len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return pattern == host
}

// origin is a web origin, or a pattern of them (RFC 6454).
type origin struct{ scheme, host, port string }

// parseOrigin takes scheme://host[:port] apart, with the scheme's own port when
// none is given.
func parseOrigin(s string) (origin, error) {
	// A port of "*" is no URL, so it is taken off first.
	rest, anyPort := strings.CutSuffix(s, ":*")
	u, err := url.Parse(rest)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return origin{}, fmt.Errorf("%q is not an origin", s)
	}
	o := origin{strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()}
	switch {
	case anyPort:
		o.port = "*"
	case o.port == "":
		o.port = defaultPort(o.scheme)
	}
	return o, nil
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

// checkOrigin reports why a request's Origin is not acceptable. Browsers send
// it with every WebSocket handshake and do not let scripts forge it; without
// the check, any page that a user visits could speak to the gateway in the
// user's name.
func checkOrigin(r *http.Request, allowed []string) error {
	sent := r.Header.Values("Origin")
	if len(sent) == 0 {
		return nil
	}
	for _, a := range allowed {
		if a == "*" {
			return nil
		}
	}
	o, err := parseOrigin(sent[0])
	if len(sent) > 1 || err != nil || o.port == "*" {
		return fmt.Errorf("origin %q is not allowed", strings.Join(sent, ", "))
	}
	port := defaultPort(o.scheme)
	if _, p, err := net.SplitHostPort(r.Host); err == nil {
		port = p
	}
	// The scheme is not compared with ours: behind a proxy that ends TLS, a
	// page's https is our http.
	if o.host == strings.ToLower(hostOnly(r.Host)) && o.port == port {
		return nil
	}
	for _, a := range allowed {
		p, err := parseOrigin(a)
		if err == nil && p.scheme == o.scheme && (p.port == "*" || p.port == o.port) && matchHost(p.host, o.host) {
			return nil
		}
	}
	return fmt.Errorf("origin %q is not allowed: serve the page from this gateway, or add it to origins", sent[0])
}

// requestAddr is an http.Request's RemoteAddr as an address.
type requestAddr string

// Network implements net.Addr.
func (requestAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a requestAddr) String() string { return string(a) }

// localAddr is where a request came in, nil when the server did not note it.
func localAddr(r *http.Request) net.Addr {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return a
}
