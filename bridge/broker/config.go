package broker

import (
	"fmt"
	"net"
)

// Config is the embedded broker's part of the configuration.
type Config struct {
	Enabled   bool     `yaml:"enabled" doc:"Whether the gateway has a broker of its own."`
	Listen    []string `yaml:"listen" single:"true" doc:"Addresses, as host:port, where MQTT devices connect." example:"127.0.0.1:1883"`
	Anonymous string   `yaml:"anonymous" enum:"loopback,always,never" doc:"Who needs no user name: devices on this machine, all, or none. loopback goes by the address that is listened on."`
	Users     []User   `yaml:"users" doc:"Users that may connect."`

	MaxClients  int `yaml:"max_clients" min:"1" max:"100000" doc:"Most clients connected at once, and most sessions kept for those that are away."`
	MaxPacket   int `yaml:"max_packet" unit:"bytes" min:"1KiB" max:"256MiB" doc:"Largest packet taken from a client."`
	MaxInFlight int `yaml:"max_in_flight" min:"1" max:"65535" doc:"Most messages of QoS 1 and 2 kept for a client that does not acknowledge them, or is away."`
	MaxPending  int `yaml:"max_pending" min:"1" max:"65535" doc:"Most messages waiting to be written to a slow client; further ones are dropped for it."`
	MaxRetained int `yaml:"max_retained" min:"1" doc:"Most retained messages; further ones are passed on, but not kept."`

	MaxRetainedBytes int `yaml:"max_retained_bytes" unit:"bytes" min:"1KiB" doc:"Most bytes that retained messages take."`
}

// User is one user name.
type User struct {
	Name     string `yaml:"name" required:"true" doc:"User name."`
	Password string `yaml:"password" required:"true" secret:"true" doc:"Password; write !file PATH to read it from a file."`
}

// Who needs no user name.
const (
	AnonymousLoopback = "loopback"
	AnonymousAlways   = "always"
	AnonymousNever    = "never"
)

// DefaultConfig listens on the loopback interface only.
func DefaultConfig() Config {
	return Config{
		Enabled: true, Listen: []string{"127.0.0.1:1883"}, Anonymous: AnonymousLoopback,
		MaxClients: 1000, MaxPacket: 1 << 20, MaxInFlight: 1024, MaxPending: 1024,
		MaxRetained: 10_000, MaxRetainedBytes: 16 << 20,
	}
}

// Validate reports what is wrong beyond the types of the fields.
func (c *Config) Validate(report func(path, problem, hint string)) {
	for i, a := range c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		if _, _, err := net.SplitHostPort(a); err != nil {
			report(path, fmt.Sprintf("%q is not an address", a), "write it as host:port, such as 127.0.0.1:1883")
			continue
		}
		if c.Enabled && len(c.Users) == 0 && !c.anonymousAt(a) {
			report(path, fmt.Sprintf("nobody could connect at %q: there are no users, and only this machine may do without", a),
				"add users, or allow everybody with anonymous: always")
		}
	}
	switch c.Anonymous {
	case AnonymousLoopback, AnonymousAlways, AnonymousNever:
	default:
		report("anonymous", fmt.Sprintf("%q is not known", c.Anonymous), "use loopback, always or never")
	}
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

// anonymousAt reports whether clients need no user name at an address.
func (c *Config) anonymousAt(address string) bool {
	switch c.Anonymous {
	case AnonymousAlways:
		return true
	case AnonymousLoopback:
		host, _, err := net.SplitHostPort(address)
		ip := net.ParseIP(host)
		return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
	}
	return false
}
