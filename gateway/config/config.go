// Package config reads the gateway's configuration: one YAML file into the
// typed configuration of all parts. How the text is decoded, and how its
// problems are shown, is package strict's; here are the sections, the
// defaults, and the rules that span more than one part.
//
// The package has no goroutines and no state. It reads the config file and the
// secrets that it names, and changes nothing.
package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/sim"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/transport"
)

// Config is the whole configuration.
type Config struct {
	Listen   Listen         `yaml:"listen" doc:"Where WAMP clients and browsers connect. Nothing is reachable from other machines unless an address here says so."`
	Router   router.Config  `yaml:",inline"`
	Realm    string         `yaml:"realm" example:"realm1" doc:"The realm of the devices and the bridge; empty for the first of realms."`
	StateDir string         `yaml:"state_dir" example:"/var/lib/postern" doc:"Where what must outlive a restart is kept, such as meter readings; relative to this file. Empty for the directory that systemd gives ($STATE_DIRECTORY), else ~/.local/state/postern."`
	Devices  devices.Config `yaml:"devices" doc:"The hardware. See drivers.md for the types of devices and their keys."`
	MQTT     broker.Config  `yaml:"mqtt" doc:"The embedded MQTT broker, for devices that connect straight to the gateway."`
	Bridge   bridge.Config  `yaml:"bridge" doc:"What crosses between MQTT and the realm. See bridge.md."`
	Log      Log            `yaml:"log" doc:"What is logged, to standard error."`
}

// Listen says where clients connect.
type Listen struct {
	HTTP      HTTP      `yaml:"http" doc:"WAMP over WebSocket at /ws and /, the page at /, and the health report at /healthz."`
	RawSocket RawSocket `yaml:"rawsocket" doc:"WAMP over RawSocket, TCP."`
	Universal Universal `yaml:"universal" doc:"Every transport on one port: what a client's first byte is says which one it speaks. Pings, origins, hosts and paths are those of listen.http and listen.rawsocket."`
	Unix      Unix      `yaml:"unix" doc:"WAMP over RawSocket on a Unix socket, for programs on this machine."`
	Remote    bool      `yaml:"allow_anonymous_remote" doc:"Lets a realm be anonymous although a listener is reachable from other machines: whoever reaches it then has the anonymous role's rights."`
}

// Systemd begins an address that is the name of a socket which systemd opens.
const Systemd = "systemd:"

// HTTP is the HTTP listeners.
type HTTP struct {
	Addresses           []string           `yaml:"addresses" single:"true" short:"true" example:"127.0.0.1:8080" doc:"Addresses to listen on, or systemd:NAME for a socket of that name from systemd; an empty list for none."`
	TLS                 transport.TLS      `yaml:"tls" doc:"TLS: https and wss instead of http and ws."`
	Proxies             []string           `yaml:"proxies" single:"true" example:"192.0.2.1, 10.0.0.0/8" doc:"addresses and networks of proxies that say by the PROXY protocol, version 1 or 2, for whom a connection is; where there are any, nobody else can connect to these addresses"`
	LongPoll            transport.LongPoll `yaml:"longpoll" doc:"WAMP over plain HTTP requests, for clients that cannot have a WebSocket."`
	transport.WebSocket `yaml:",inline"`
}

// RawSocket is the RawSocket listeners.
type RawSocket struct {
	Addresses           []string      `yaml:"addresses" single:"true" short:"true" example:"127.0.0.1:8081" doc:"Addresses to listen on, or systemd:NAME for a socket of that name from systemd; an empty list for none."`
	TLS                 transport.TLS `yaml:"tls" doc:"TLS on these addresses."`
	Proxies             []string      `yaml:"proxies" single:"true" example:"192.0.2.1, 10.0.0.0/8" doc:"as in listen.http"`
	transport.RawSocket `yaml:",inline"`
}

// Universal is the listeners that clients of every transport connect to.
type Universal struct {
	Addresses []string      `yaml:"addresses" single:"true" short:"true" example:"127.0.0.1:8082" doc:"Addresses to listen on, or systemd:NAME for a socket of that name from systemd."`
	TLS       transport.TLS `yaml:"tls" doc:"TLS for clients that begin with it."`
	Plain     bool          `yaml:"allow_plain" doc:"with a certificate, lets clients in without TLS as well"`
	Proxies   []string      `yaml:"proxies" single:"true" example:"192.0.2.1, 10.0.0.0/8" doc:"as in listen.http"`
}

// Unix is the Unix socket.
type Unix struct {
	Path string      `yaml:"path" short:"true" example:"/run/postern/postern.sock" doc:"Path of the socket; empty for none."`
	Mode fs.FileMode `yaml:"mode" doc:"Its file mode: who on this machine may connect."`
	HTTP bool        `yaml:"http" doc:"Lets clients of the socket speak HTTP and WebSocket as well, as a web server on this machine does that passes requests on."`
}

// Log says what is logged.
type Log struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" doc:"The least important messages to log."`
	Format string `yaml:"format" enum:"text,json" doc:"How they are written."`
}

// SlogLevel is the level as package slog has it.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level
	// The words allowed are those that slog knows.
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// RoleFull is the role that a realm's anonymous sessions may be given without
// defining it: it may do everything.
const RoleFull = "full"

// addRoleFull defines the role where a realm uses it without defining it.
func (c *Config) addRoleFull() {
	for i := range c.Router.Realms {
		r := &c.Router.Realms[i]
		if r.Anonymous != RoleFull || slices.ContainsFunc(r.Roles, func(role router.RoleConfig) bool { return role.Name == RoleFull }) {
			continue
		}
		r.Roles = append(r.Roles, router.RoleConfig{Name: RoleFull, ForceReregister: true, Permissions: []router.PermissionConfig{{
			Match: "prefix", Allow: []string{"call", "register", "publish", "subscribe"},
		}}})
	}
}

// Default is what holds where a file says nothing: listeners on loopback only,
// one realm that nobody may join, no devices.
func Default() *Config {
	return &Config{
		Listen: Listen{
			HTTP:      HTTP{Addresses: []string{"127.0.0.1:8080"}, TLS: transport.NewTLS(), LongPoll: transport.NewLongPoll(), WebSocket: transport.NewWebSocket()},
			RawSocket: RawSocket{Addresses: []string{"127.0.0.1:8081"}, TLS: transport.NewTLS(), RawSocket: transport.NewRawSocket()},
			Universal: Universal{TLS: transport.NewTLS()},
			Unix:      Unix{Mode: 0o660},
		},
		Router:  router.DefaultConfig(),
		Devices: devices.DefaultConfig(),
		MQTT:    broker.DefaultConfig(),
		Bridge:  bridge.DefaultConfig(),
		Log:     Log{Level: "info", Format: "text"},
	}
}

// Demo is what runs without a file: Default, with simulated devices, and one
// realm in which everybody on this machine may do everything.
func Demo() *Config {
	c := Default()
	c.Router.Realms[0].Anonymous = RoleFull
	c.addRoleFull()
	c.Devices.List = sim.Demo()
	return c
}

// stateDir is where state is kept, "" for nowhere.
func (c *Config) stateDir(env func(string) string) string {
	if c.StateDir != "" {
		return c.StateDir
	}
	// systemd gives several, separated by colons, where a unit asks for them.
	if first, _, _ := strings.Cut(env("STATE_DIRECTORY"), ":"); first != "" {
		return first
	}
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "postern")
	}
	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "postern")
	}
	return ""
}

// HomeRealm is the realm of the devices and the bridge.
func (c *Config) HomeRealm() string {
	if c.Realm == "" && len(c.Router.Realms) > 0 {
		return c.Router.Realms[0].Name
	}
	return c.Realm
}

// URIs is how strictly the realm of the devices and the bridge checks URIs.
func (c *Config) URIs() wamp.URIRule {
	for _, r := range c.Router.Realms {
		if r.Name == c.HomeRealm() && r.URIs == "strict" {
			return wamp.StrictURIs
		}
	}
	return wamp.LooseURIs
}

// Validate checks addresses, and that nobody gets rights by accident.
func (c *Config) Validate(report func(path, problem, hint string)) {
	taken := map[string]string{}
	address := func(path, a string) {
		host, port, err := net.SplitHostPort(a)
		name, activated := strings.CutPrefix(a, Systemd)
		switch _, known := taken[a]; {
		case activated && name != "" && !known: // where it is reachable from is not known here
		case err != nil:
			report(path, fmt.Sprintf("%q is no address", a), "write host:port, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all networks")
			return
		case !validPort(port):
			report(path, fmt.Sprintf("%q has no port from 0 to 65535", a), "")
		case host == "":
			report(path, fmt.Sprintf("%q does not say on which networks to listen", a), "write 127.0.0.1"+a+" for this machine only, or 0.0.0.0"+a+" for all networks")
		case known && port != "0":
			report(path, fmt.Sprintf("%s is taken by %s", a, taken[a]), "give every listener an address of its own")
		}
		taken[a] = path
	}
	each := func(path string, addresses []string) {
		for i, a := range addresses {
			address(fmt.Sprintf("%s[%d]", path, i), a)
		}
	}
	each("listen.http.addresses", c.Listen.HTTP.Addresses)
	each("listen.rawsocket.addresses", c.Listen.RawSocket.Addresses)
	each("listen.universal.addresses", c.Listen.Universal.Addresses)
	c.Listen.validateProxies(report)
	if c.Listen.Universal.Plain && !c.Listen.Universal.TLS.Enabled() {
		report("listen.universal.allow_plain", "without a certificate nobody comes with TLS", "give tls a cert and a key, or leave allow_plain out")
	}
	if c.Listen.Unix.Mode&0o111 != 0 || c.Listen.Unix.Mode&0o600 != 0o600 {
		report("listen.unix.mode", fmt.Sprintf("%04o makes no sense for a socket", uint32(c.Listen.Unix.Mode)), "write 0600, 0660 or 0666")
	}
	if c.MQTT.Enabled {
		c.MQTT.Each(func(path, a string) {
			if _, _, err := net.SplitHostPort(a); err == nil { // else the broker's own rule says so
				address("mqtt."+path, a)
			}
		})
		c.validateMQTT(report)
	}
	if !slices.ContainsFunc(c.Router.Realms, func(r router.RealmConfig) bool { return r.Name == c.HomeRealm() }) {
		report("realm", fmt.Sprintf("there is no realm %q", c.Realm), "use the name of an entry of realms, or leave it out")
	}
	c.validateAnonymous(report)
	c.validateCalls(report)
}

// homeRoles are the roles of the realm of the devices and the bridge.
func (c *Config) homeRoles() []string {
	roles := []string{router.RoleTrusted}
	for _, r := range c.Router.Realms {
		if r.Name == c.HomeRealm() {
			for _, role := range r.Roles {
				roles = append(roles, role.Name)
			}
		}
	}
	return roles
}

// validateCalls checks that commands from MQTT have a role that is there.
func (c *Config) validateCalls(report func(path, problem, hint string)) {
	for i, s := range c.Bridge.Sparkplug {
		c.validateRole(fmt.Sprintf("bridge.sparkplug[%d].role", i), s.Role, report)
	}
	for i, h := range c.Bridge.HomeAssistant {
		c.validateRole(fmt.Sprintf("bridge.homeassistant[%d].role", i), h.Role, report)
	}
	for i, call := range c.Bridge.Calls {
		c.validateRole(fmt.Sprintf("bridge.calls[%d].role", i), call.Role, report)
	}
}

// validateMQTT checks that users of the broker have a role that is there.
func (c *Config) validateMQTT(report func(path, problem, hint string)) {
	c.validateRole("mqtt.anonymous_role", c.MQTT.AnonymousRole, report)
	for i, u := range c.MQTT.Users {
		c.validateRole(fmt.Sprintf("mqtt.users[%d].role", i), u.Role, report)
	}
}

func (c *Config) validateRole(path, role string, report func(path, problem, hint string)) {
	if roles := c.homeRoles(); role != "" && !slices.Contains(roles, role) {
		report(path, fmt.Sprintf("the realm has no role %q", role), "there are: "+strings.Join(roles, ", "))
	}
}

// validateAnonymous refuses rights for whoever can reach a listener, unless
// the file says that this is meant.
func (c *Config) validateAnonymous(report func(path, problem, hint string)) {
	remote := c.Remote()
	if len(remote) == 0 || c.Listen.Remote {
		return
	}
	for i, r := range c.Router.Realms {
		if r.Anonymous != "" {
			report(fmt.Sprintf("realms[%d].anonymous", i), fmt.Sprintf("everybody who reaches %s would have the rights of the role %s", strings.Join(remote, " or "), r.Anonymous),
				"listen on 127.0.0.1 only; or, where the network is trusted, write\nlisten: {allow_anonymous_remote: true}")
		}
	}
}

func validPort(port string) bool {
	n := 0
	for _, r := range port {
		if r < '0' || r > '9' {
			return false
		}
		if n = n*10 + int(r-'0'); n > 65535 {
			return false
		}
	}
	return port != ""
}

// hostname is the machine's name as it may stand in topics, URIs and client
// identifiers: the first label, in a-z, 0-9, _ and -.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "postern"
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, name)
}

// Load reads a config file. The error is strict.Problems when the file could
// be read and is not sound.
func Load(path string, table *devices.Table) (*Config, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, text, filepath.Dir(path), table)
}
