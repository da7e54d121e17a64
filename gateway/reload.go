package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
)

// ServicesRealm is the realm in which the gateway itself is managed, apart from
// the realms of its users. It is always there; the configuration says who else
// may join it than programs of the gateway's own user.
const ServicesRealm = router.RealmServices

// Setting is a key of the configuration, and where it is in the file.
type Setting struct {
	Path string `json:"path"`
	At   string `json:"at"`
}

// Reloaded says what has come of reading the configuration again.
type Reloaded struct {
	// Added, Removed and Changed are realms; Ended counts sessions that could
	// not join any more as they had.
	Added, Removed, Changed []string
	Ended                   int
	// Restart is what has been changed in the file and holds from the next
	// start on.
	Restart []Setting
}

// reloads is what the gateway knows of changes to its configuration.
type reloads struct {
	mu      sync.Mutex
	running router.Config        // the file's part of what the router runs by
	made    []router.RealmConfig // realms that are in no file
	restart []Setting
	failed  string // why the last reload has changed nothing; empty when it has

	Reloads, ReloadsFailed uint64
}

// errNoFile answers a reload of a gateway that runs without a file.
var errNoFile = errors.New("the gateway runs without a configuration file: there is nothing to read again")

// Reload reads the configuration file again, and applies what can change while
// the gateway runs: realms, users, roles, permissions, limits, the log's level.
// When there is an error nothing has changed; strict.Problems says what is wrong
// in the file, and where.
func (g *Gateway) Reload() (*Reloaded, error) {
	g.reloads.mu.Lock()
	defer g.reloads.mu.Unlock()
	done, err := g.reload()
	if err != nil {
		g.reloads.ReloadsFailed++
		g.reloads.failed = firstLine(err)
		g.log.Error("configuration not reloaded: everything stays as it was", "file", g.file, "reason", err.Error())
		return nil, err
	}
	g.reloads.Reloads++
	g.reloads.failed, g.reloads.restart = "", done.Restart
	g.log.Info("configuration reloaded", "file", g.file, "added", done.Added, "removed", done.Removed,
		"changed", done.Changed, "ended", done.Ended)
	for _, s := range done.Restart {
		g.log.Warn("a changed setting needs a restart", "setting", s.Path, "at", s.At)
	}
	return done, nil
}

func (g *Gateway) reload() (*Reloaded, error) {
	if g.file == "" {
		return nil, errNoFile
	}
	next, err := config.LoadRevision(g.file, g.drivers, g.cfg)
	if err != nil {
		return nil, err
	}
	for i, c := range next.Router.Realms {
		if g.reloads.has(c.Name) {
			return nil, fmt.Errorf("%s: realm %q was created while the gateway ran: remove that one first, or give this one another name",
				next.At(fmt.Sprintf("realms[%d].name", i)), c.Name)
		}
	}
	if !slices.ContainsFunc(next.Router.Realms, func(c router.RealmConfig) bool { return c.Name == g.realm }) {
		return nil, fmt.Errorf("%s: realm %q is gone, in which the devices and the bridge are: bring it back, or restart the gateway",
			next.At("realms"), g.realm)
	}
	routed, err := g.router.Reload(complete(next.Router, g.reloads.made))
	if err != nil {
		return nil, err
	}
	g.reloads.running = next.Router
	if g.level != nil {
		g.level.Set(next.Log.SlogLevel())
	}
	done := &Reloaded{Added: routed.Added, Removed: routed.Removed, Changed: routed.Changed, Ended: routed.Ended}
	for _, path := range append(next.Restart, routed.Pending...) {
		done.Restart = append(done.Restart, Setting{Path: path, At: next.At(path)})
	}
	return done, nil
}

func (r *reloads) has(realm string) bool {
	return slices.ContainsFunc(r.made, func(c router.RealmConfig) bool { return c.Name == realm })
}

// complete adds to the realms of a file those that are in none, and the services
// realm, which comes last so that indexes are those of the file.
func complete(cfg router.Config, made []router.RealmConfig) router.Config {
	cfg.Realms = append(slices.Clone(cfg.Realms), made...)
	for i := range cfg.Realms {
		if cfg.Realms[i].Name == ServicesRealm {
			return cfg
		}
	}
	services := router.RealmConfig{Name: ServicesRealm}
	services.SetDefaults()
	services.Local = router.RoleTrusted
	cfg.Realms = append(cfg.Realms, services)
	return cfg
}

// createRealm adds a realm that lives until it is removed or the gateway ends.
func (g *Gateway) createRealm(c router.RealmConfig) error {
	r := &g.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case c.Name == ServicesRealm || c.Name == g.realm:
		return fmt.Errorf("realm %q is the gateway's own", c.Name)
	case c.Anonymous != "" && len(g.cfg.Remote()) > 0 && !g.cfg.Listen.Remote:
		return fmt.Errorf("anonymous: everybody who reaches %s would have the rights of the role %s", strings.Join(g.cfg.Remote(), " or "), c.Anonymous)
	case c.Auth.UsersFile != "":
		return errors.New("auth.users_file: only realms of the configuration read files")
	case slices.ContainsFunc(c.History, func(h router.HistoryConfig) bool { return h.Disk }):
		return errors.New("history: only realms of the configuration have one on disk")
	case len(r.made) >= maxMade:
		return fmt.Errorf("%d realms have been created already, which is the limit", len(r.made))
	}
	made := append(slices.Clone(r.made), c)
	if _, err := g.router.Reload(complete(r.running, made)); err != nil {
		return err
	}
	r.made = made
	g.log.Info("realm created", "realm", c.Name)
	return nil
}

// maxMade bounds the realms that are in no file.
const maxMade = 256

// removeRealm removes one that createRealm has made; false when there is none.
func (g *Gateway) removeRealm(name string) (bool, error) {
	r := &g.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.has(name) {
		return false, nil
	}
	made := slices.DeleteFunc(slices.Clone(r.made), func(c router.RealmConfig) bool { return c.Name == name })
	if _, err := g.router.Reload(complete(r.running, made)); err != nil {
		return true, err
	}
	r.made = made
	g.log.Info("realm removed", "realm", name)
	return true, nil
}

// problems says what of the file does not hold.
func (r *reloads) problems() []Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Problem
	if r.failed != "" {
		out = append(out, Problem{Part: "configuration", State: "not reloaded", Reason: r.failed})
	}
	for _, s := range r.restart {
		out = append(out, Problem{Part: "configuration", State: "needs a restart", Reason: s.Path + " (" + s.At + ")"})
	}
	return out
}

// counts are the metrics of reloads.
type counts struct {
	Reloads, ReloadsFailed uint64
	ConfigPending          int // settings that wait for a restart
}

func (r *reloads) counts() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return counts{Reloads: r.Reloads, ReloadsFailed: r.ReloadsFailed, ConfigPending: len(r.restart)}
}
