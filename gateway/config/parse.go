package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/gateway/config/strict"
	"github.com/postern-iot/postern/wamp/transport"
)

// readBounded reads a file of which no more than a config may have is of use.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%q is a folder", path)
	}
	return io.ReadAll(io.LimitReader(f, strict.MaxSize+1))
}

// Parse decodes a configuration. name is the file's, for messages; dir is what
// the paths of secrets are relative to; table says which devices there are.
// The error is strict.Problems.
func Parse(name string, text []byte, dir string, table *devices.Table) (*Config, error) {
	cfg, _, err := parse(name, text, dir, table)
	return cfg, err
}

// parse is Parse; place says where in the text a path of the configuration is.
func parse(name string, text []byte, dir string, table *devices.Table) (cfg *Config, place func(path string) (line, column int), err error) {
	cfg = Default()
	host := hostname()
	err = strict.Decode(name, text, cfg, strict.Options{
		Dir:      dir,
		Expand:   map[string]string{"hostname": host},
		Complete: func() { cfg.complete() },
		Inline:   func(owner any) (any, *strict.Misfit) { return paramsOf(owner, table) },
		Check: func(report func(path, problem, hint string), where func(string) string) {
			checkClaims(cfg, report, where)
			cfg.checkPresets(report)
			checkGroups(cfg, report)
			checkReadings(cfg, table, report)
		},
		Done: func(at func(string) (int, int)) { place = at },
	})
	if err != nil {
		return nil, nil, err
	}
	cfg.StateDir = within(dir, cfg.StateDir)
	cfg.Devices.StateDir = cfg.stateDir(os.Getenv)
	cfg.Router.Cookies.File = within(dir, cfg.Router.Cookies.File)
	for i := range cfg.Bridge.Brokers {
		t := &cfg.Bridge.Brokers[i].TLS
		t.CA, t.Cert, t.Key = within(dir, t.CA), within(dir, t.Cert), within(dir, t.Key)
	}
	for _, t := range []*transport.TLS{&cfg.Listen.HTTP.TLS, &cfg.Listen.RawSocket.TLS, &cfg.MQTT.TLS.TLS, &cfg.MQTT.WebSocket.TLS} {
		t.Cert, t.Key, t.ClientCA = within(dir, t.Cert), within(dir, t.Key), within(dir, t.ClientCA)
	}
	for i := range cfg.Router.Realms {
		a := &cfg.Router.Realms[i].Auth
		a.UsersFile = within(dir, a.UsersFile)
	}
	cfg.Devices.Prefix = strings.ReplaceAll(cfg.Devices.Prefix, "{hostname}", host)
	return cfg, place, nil
}

// complete adds what follows from one part for another, before the rules are
// checked.
func (c *Config) complete() {
	c.addRoleFull()
	c.addPresets()
	c.Bridge.AddDiscovery(strings.ReplaceAll(c.Devices.Prefix, "{hostname}", hostname()))
	if c.MQTT.Enabled { // so that an entry which reaches it is seen as a loop, where it is written
		c.Bridge.EmbeddedAt = c.MQTT.Networks()
	}
	for _, r := range c.Router.Realms {
		if a := r.Auth; r.Name == c.HomeRealm() {
			c.MQTT.RealmUsers = a.UsersFile != "" || len(a.Users) > 0 || len(a.Dynamic) > 0
		}
	}
}

// within is a path of the configuration, which is relative to its folder.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// paramsOf makes the parameters of a device of the owner's type.
func paramsOf(owner any, table *devices.Table) (any, *strict.Misfit) {
	entry, ok := owner.(*devices.Entry)
	if !ok || entry.Type == "" {
		return nil, &strict.Misfit{Key: "type", Problem: "the device has no type", Hint: "the types are: " + strings.Join(table.Types(), ", ")}
	}
	driver := table.Driver(entry.Type)
	if driver == nil {
		hint := "the types are: " + strings.Join(table.Types(), ", ")
		if near := strict.Nearest(entry.Type, table.Types()); near != "" {
			hint = fmt.Sprintf("did you mean %q? %s", near, hint)
		}
		return nil, &strict.Misfit{Key: "type", Problem: fmt.Sprintf("there is no type of device %q", entry.Type), Hint: hint}
	}
	return driver.NewParams(), nil
}

// checkClaims reports hardware that two devices want for themselves, naming
// both and where the other is.
func checkClaims(cfg *Config, report func(path, problem, hint string), where func(string) string) {
	for _, c := range devices.CheckClaims(cfg.Devices.List) {
		first, second := cfg.Devices.List[c.First], cfg.Devices.List[c.Second]
		problem := fmt.Sprintf("device %q claims %s%s, which device %q has%s (%s)", second.Name, c.Claim, c.Role(1), first.Name, c.Role(0),
			where(claimPath(c.First, first, c.Claim+c.Role(0))))
		hint := "one piece of hardware serves one device: choose another for one of them"
		switch differ := c.Differ(); {
		case differ != "":
			problem, hint = problem+differ, "devices on one line must set it alike"
		case c.As != [2]string{}:
			hint = "choose another pin; on a board whose header is not a Raspberry Pi's, name the pin's chip too"
		}
		report(claimPath(c.Second, second, c.Claim+c.Role(1)), problem, hint)
	}
}

// checkReadings reports entries that speak of readings which their device does
// not have. Devices with a problem of their own are left out: what they would
// measure is not known.
func checkReadings(cfg *Config, table *devices.Table, report func(path, problem, hint string)) {
	for i, e := range cfg.Devices.List {
		if len(e.Readings)+len(e.Sim.Readings)+len(e.Sim.Faults) == 0 || e.Params == nil {
			continue
		}
		sound := true
		if v, ok := e.Params.(devices.Validator); ok {
			v.Validate(func(string, string, string) { sound = false })
		}
		if !sound {
			continue
		}
		dev, err := table.Driver(e.Type).Open(devices.Env{Name: e.Name}, e.Params)
		if err != nil {
			report(fmt.Sprintf("devices.list[%d]", i), fmt.Sprintf("device %q cannot be: %v", e.Name, err), "")
			continue
		}
		devices.CheckReadings(e, dev.Readings(), func(path, problem, hint string) {
			report(fmt.Sprintf("devices.list[%d].%s", i, path), problem, hint)
		})
	}
}

// claimPath is the key that makes a device's claim, as far as its text shows
// it: "gpio:GPIO17" is the one with the text GPIO17.
func claimPath(i int, e devices.Entry, claim string) string {
	path := fmt.Sprintf("devices.list[%d]", i)
	key := strict.KeyOf(e.Params, func(text string) bool { return strings.Contains(claim, text) })
	if key == "" {
		return path
	}
	return path + "." + key
}

// checkGroups reports devices that are alone in a group.
func checkGroups(cfg *Config, report func(path, problem, hint string)) {
	for _, l := range devices.CheckGroups(cfg.Devices.List) {
		report(fmt.Sprintf("devices.list[%d].%s", l.Index, l.Key),
			fmt.Sprintf("device %q is the only one with %s %q", cfg.Devices.List[l.Index].Name, l.Key, l.Name),
			"give the same name to the devices that belong together, or leave it out")
	}
}
