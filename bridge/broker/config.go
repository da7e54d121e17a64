package broker

import (
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/postern-iot/postern/wamp/transport"
)

// Config is the embedded broker's part of the configuration.
type Config struct {
	Enabled   bool      `yaml:"enabled" doc:"Whether the gateway has a broker of its own."`
	Listen    []string  `yaml:"listen" single:"true" doc:"Addresses, as host:port, where MQTT devices connect without TLS, or systemd:NAME for a socket of that name from systemd." example:"127.0.0.1:1883"`
	TLS       TLS       `yaml:"tls" doc:"Where they connect with TLS."`
	WebSocket WebSocket `yaml:"websocket" doc:"MQTT over WebSocket, for browsers; the subprotocol is mqtt."`
	Unix      Unix      `yaml:"unix" doc:"MQTT on a Unix socket, for programs on this machine."`

	Anonymous     string `yaml:"anonymous" enum:"auto,loopback,always,never" doc:"Who needs no user name: devices on this machine (loopback, by the address that is listened on), all (always), or none (never). auto is loopback while there are no users, here or in the realm, and never when there are."`
	AnonymousRole string `yaml:"anonymous_role" doc:"Role of the realm, for clients without a user name; empty lets them publish and subscribe to everything, which is only accepted while there are no users." example:"guest"`
	Users         []User `yaml:"users" doc:"Users that may connect, besides those of the realm of the devices, who have their role's permissions."`

	MaxClients   int           `yaml:"max_clients" min:"1" max:"100000" doc:"Most clients connected at once, and most sessions kept for those that are away."`
	MaxPacket    int           `yaml:"max_packet" unit:"bytes" min:"1KiB" max:"256MiB" doc:"Largest packet taken from a client."`
	MaxInFlight  int           `yaml:"max_in_flight" min:"1" max:"65535" doc:"Most messages of QoS 1 and 2 kept for a client that does not acknowledge them, or is away."`
	MaxPending   int           `yaml:"max_pending" min:"1" max:"65535" doc:"Most messages waiting to be written to a slow client; further ones are dropped for it."`
	MaxRetained  int           `yaml:"max_retained" min:"1" doc:"Most retained messages; further ones are passed on, but not kept."`
	MaxRate      int           `yaml:"max_rate" min:"0" max:"1000000" doc:"Most messages a second taken from one client, which has to wait with what is more; 0 for no bound."`
	MaxKeepAlive time.Duration `yaml:"max_keep_alive" min:"0s" max:"18h" doc:"Longest time a client may be silent, whatever it asks for, in whole seconds; one and a half times as long ends its connection. 0s leaves it to the clients, and TCP notices who is gone."`

	MaxRetainedBytes int `yaml:"max_retained_bytes" unit:"bytes" min:"1KiB" doc:"Most bytes that retained messages take."`

	// RealmUsers says that the realm has users who can show a password or a
	// certificate.
	RealmUsers bool `yaml:"-"`
}

// TLS is the listeners with TLS.
type TLS struct {
	Listen        []string `yaml:"listen" single:"true" doc:"Addresses to listen on, as host:port or systemd:NAME." example:"0.0.0.0:8883"`
	transport.TLS `yaml:",inline"`
}

// WebSocket is MQTT over WebSocket.
type WebSocket struct {
	Path   string        `yaml:"path" doc:"Path on the gateway's HTTP addresses, whose origins and allowed_hosts hold; empty for none there."`
	Listen []string      `yaml:"listen" single:"true" doc:"Addresses for nothing but MQTT over WebSocket, whatever the path." example:"127.0.0.1:9001"`
	TLS    transport.TLS `yaml:"tls" doc:"TLS on these addresses: wss instead of ws."`

	Origins      []string `yaml:"origins" doc:"Web origins whose scripts may connect to these addresses: 'https://example.com', or '*' for all."`
	AllowedHosts []string `yaml:"allowed_hosts" doc:"Host names that requests to these addresses may be addressed to, as in listen.http."`
}

// Unix is the Unix socket.
type Unix struct {
	Path string      `yaml:"path" short:"true" example:"/run/postern/mqtt.sock" doc:"Path of the socket; empty for none."`
	Mode fs.FileMode `yaml:"mode" doc:"Its file mode: who on this machine may connect."`
}

// User is one user name.
type User struct {
	Name     string `yaml:"name" required:"true" doc:"User name."`
	Password string `yaml:"password" required:"true" secret:"true" doc:"Password; write !file PATH to read it from a file."`
	Role     string `yaml:"role" doc:"Role of the realm, whose permissions the user has; empty lets it publish and subscribe to everything."`
}

// Who needs no user name.
const (
	AnonymousAuto     = "auto"
	AnonymousLoopback = "loopback"
	AnonymousAlways   = "always"
	AnonymousNever    = "never"
)

// DefaultConfig listens on the loopback interface only.
func DefaultConfig() Config {
	return Config{
		Enabled: true, Listen: []string{"127.0.0.1:1883"}, Anonymous: AnonymousAuto,
		TLS: TLS{TLS: transport.NewTLS()}, WebSocket: WebSocket{Path: "/mqtt", TLS: transport.NewTLS()}, Unix: Unix{Mode: 0o660},
		MaxClients: 1000, MaxPacket: 1 << 20, MaxInFlight: 1024, MaxPending: 1024,
		MaxRetained: 10_000, MaxRetainedBytes: 16 << 20,
	}
}

// Networks are the addresses of all listeners, as configured.
func (c *Config) Networks() []string {
	var out []string
	c.Each(func(_, a string) { out = append(out, a) })
	return out
}

// Each calls f for every address and its key.
func (c *Config) Each(f func(path, address string)) {
	for _, l := range []struct {
		path      string
		addresses []string
	}{{"listen", c.Listen}, {"tls.listen", c.TLS.Listen}, {"websocket.listen", c.WebSocket.Listen}} {
		for i, a := range l.addresses {
			f(fmt.Sprintf("%s[%d]", l.path, i), a)
		}
	}
}

// systemd begins the name of a socket that systemd opens.
const systemd = "systemd:"

// Validate reports what is wrong beyond the types of the fields.
func (c *Config) Validate(report func(path, problem, hint string)) {
	users := len(c.Users) > 0 || c.RealmUsers
	c.Each(func(path, a string) {
		name, activated := strings.CutPrefix(a, systemd)
		if _, _, err := net.SplitHostPort(a); err != nil && !activated || activated && name == "" {
			report(path, fmt.Sprintf("%q is not an address", a), "write it as host:port, such as 127.0.0.1:1883")
			return
		}
		if c.Enabled && !users && !c.anonymousAt(a) {
			report(path, fmt.Sprintf("nobody could connect at %q: there are no users, and only this machine may do without", a),
				"add users, or allow everybody with anonymous: always")
		}
	})
	switch c.Anonymous {
	case AnonymousLoopback, AnonymousAlways:
		if c.Enabled && users && c.AnonymousRole == "" {
			report("anonymous", "there are users, but clients without a user name would have all rights",
				"write anonymous: never, or give them a role of the realm with anonymous_role")
		}
	case AnonymousAuto, AnonymousNever:
	default:
		report("anonymous", fmt.Sprintf("%q is not known", c.Anonymous), "use auto, loopback, always or never")
	}
	if len(c.TLS.Listen) > 0 && !c.TLS.Enabled() {
		report("tls.cert", "there are addresses for TLS, and no certificate", "give cert and key; 'postern keys tls' makes them")
	}
	if p := c.WebSocket.Path; p != "" && (!strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?# ") || p == "/" || p == "/ws") {
		report("websocket.path", fmt.Sprintf("%q cannot be", p), "write a path such as /mqtt; / and /ws are WAMP's")
	}
	if c.Unix.Mode&0o111 != 0 || c.Unix.Mode&0o600 != 0o600 {
		report("unix.mode", fmt.Sprintf("%04o makes no sense for a socket", uint32(c.Unix.Mode)), "write 0600, 0660 or 0666")
	}
	c.validateUsers(report)
}

func (c *Config) validateUsers(report func(path, problem, hint string)) {
	names := map[string]bool{}
	for i, u := range c.Users {
		path := fmt.Sprintf("users[%d].", i)
		if u.Name == "" || names[u.Name] {
			report(path+"name", fmt.Sprintf("the user name %q is empty or taken", u.Name), "give every user a name of its own")
		}
		if u.Password == "" {
			report(path+"password", "is empty", "give one, or write !file PATH")
		}
		names[u.Name] = true
	}
}

// anonymous is what Anonymous comes to.
func (c *Config) anonymous() string {
	switch {
	case c.Anonymous != AnonymousAuto:
		return c.Anonymous
	case len(c.Users) > 0 || c.RealmUsers:
		return AnonymousNever
	}
	return AnonymousLoopback
}

// anonymousAt reports whether clients need no user name at an address.
func (c *Config) anonymousAt(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return c.anonymousFrom(err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()))
}

// anonymousFrom reports whether clients need no user name at a listener; local
// says that only this machine reaches it.
func (c *Config) anonymousFrom(local bool) bool {
	switch c.anonymous() {
	case AnonymousAlways:
		return true
	case AnonymousLoopback:
		return local
	}
	return false
}
