package transport

import (
	"context"
	"net"
	"net/http"
	"testing"
)

func request(t *testing.T, host string, origins []string, local net.Addr) *http.Request {
	t.Helper()
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, local)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Header["Origin"] = origins
	return r
}

func TestCheckOrigin(t *testing.T) {
	for _, tt := range []struct {
		origin, host string
		allowed      []string
		ok           bool
	}{
		{"http://localhost:8080", "localhost:8080", nil, true},
		{"http://LOCALHOST:8080", "localhost:8080", nil, true},
		{"https://gw.example.com", "gw.example.com", nil, true},
		{"https://gw.example.com", "gw.example.com:443", nil, true},
		{"http://[::1]:8080", "[::1]:8080", nil, true},
		{"http://localhost:3000", "localhost:8080", nil, false},
		{"http://evil.example", "localhost:8080", nil, false},
		{"http://localhost:8080.evil.example", "localhost:8080", nil, false},
		{"null", "localhost:8080", nil, false},
		{"null", "localhost:8080", []string{"https://example.com"}, false},
		{"null", "localhost:8080", []string{"*"}, true},
		{"", "localhost:8080", nil, false},
		{"file://", "localhost:8080", nil, false},
		{"https://app.example.com", "gw", []string{"https://*.example.com"}, true},
		{"https://a.b.example.com", "gw", []string{"https://*.example.com"}, true},
		{"https://example.com", "gw", []string{"https://*.example.com"}, false},
		{"https://evilexample.com", "gw", []string{"https://*.example.com"}, false},
		{"https://app.example.com.evil.org", "gw", []string{"https://*.example.com"}, false},
		{"http://app.example.com", "gw", []string{"https://*.example.com"}, false},
		{"https://app.example.com:8443", "gw", []string{"https://*.example.com"}, false},
		{"http://localhost:3000", "gw", []string{"http://localhost:*"}, true},
		{"http://localhost:*", "gw", []string{"http://localhost:*"}, false},
		{"http://user@localhost:3000", "gw", []string{"http://localhost:*"}, false},
		{"https://a.example", "gw", []string{"https://b.example", "https://a.example:443"}, true},
	} {
		err := checkOrigin(request(t, tt.host, []string{tt.origin}, nil), tt.allowed)
		if (err == nil) != tt.ok {
			t.Errorf("origin %q at host %q with %q: %v", tt.origin, tt.host, tt.allowed, err)
		}
	}
	if err := checkOrigin(request(t, "localhost", nil, nil), nil); err != nil {
		t.Errorf("no origin: %v", err)
	}
	if err := checkOrigin(request(t, "a", []string{"http://a", "http://a"}, nil), nil); err == nil {
		t.Error("two origins were accepted")
	}
}

func TestCheckHost(t *testing.T) {
	loop := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	lan := &net.TCPAddr{IP: net.IPv4(192, 168, 1, 2)}
	for _, tt := range []struct {
		host    string
		local   net.Addr
		allowed []string
		ok      bool
	}{
		{"localhost:8080", loop, nil, true},
		{"LocalHost.", loop, nil, true},
		{"app.localhost", loop, nil, true},
		{"127.0.0.1:8080", loop, nil, true},
		{"127.1.2.3", loop, nil, true},
		{"[::1]:8080", loop, nil, true},
		{"::1", loop, nil, true},
		{"[::ffff:127.0.0.1]:80", loop, nil, true},
		{"evil.example:8080", loop, nil, false},
		{"localhost.evil.example", loop, nil, false},
		{"127.0.0.1.evil.example", loop, nil, false},
		{"192.168.1.2", loop, nil, false},
		{"", loop, nil, false},
		{"evil.example", nil, nil, false},
		{"evil.example", lan, nil, true},
		{"evil.example", lan, []string{"gw.lan"}, false},
		{"GW.lan:80", lan, []string{"gw.lan"}, true},
		{"192.168.1.2:80", lan, []string{"gw.lan"}, true},
		{"localhost", lan, []string{"gw.lan"}, true},
		{"gw.lan", loop, []string{"gw.lan"}, true},
		{"a.example.com", loop, []string{"*.example.com"}, true},
		{"example.com", loop, []string{"*.example.com"}, false},
		{"anything", loop, []string{"*"}, true},
		{"app", &net.UnixAddr{Name: "/x"}, nil, true},
	} {
		if err := CheckHost(request(t, tt.host, nil, tt.local), tt.allowed); (err == nil) != tt.ok {
			t.Errorf("host %q on %v with %q: %v", tt.host, tt.local, tt.allowed, err)
		}
	}
}

func TestValidate(t *testing.T) {
	good := NewWebSocket()
	good.Origins = []string{"*", "https://*.example.com", "http://localhost:*", "https://a.example:8443/"}
	good.AllowedHosts = []string{"gw.lan", "*.example.com", "*"}
	good.Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })
	rs := NewRawSocket()
	rs.Validate(func(path, problem, _ string) { t.Errorf("%s: %s", path, problem) })

	bad := WebSocket{
		Origins: []string{"example.com", "https://x/path"}, AllowedHosts: []string{"gw:80", ""},
		PingInterval: -1, PingTimeout: -1, WriteTimeout: -1,
	}
	var paths []string
	bad.Validate(func(path, problem, hint string) {
		if problem == "" || hint == "" {
			t.Errorf("%s: no problem or no hint", path)
		}
		paths = append(paths, path)
	})
	if len(paths) != 7 || paths[0] != "origins[0]" || paths[3] != "allowed_hosts[1]" {
		t.Errorf("reported %q", paths)
	}
}
