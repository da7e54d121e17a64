package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/bridge/paho"
	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
	"github.com/postern-iot/postern/web"
)

// ErrForced is returned by Run when a second signal cut the shutdown short:
// the actuators have been put into their safe state, nothing else is done.
var ErrForced = errors.New("stopped at the second signal: actuators only")

// Options are what a gateway needs beside its configuration.
type Options struct {
	// Version is shown in the health report and on the page.
	Version string
	// Drivers says which types of devices there are.
	Drivers *devices.Table
	// Log receives what happens; nil means slog.Default.
	Log *slog.Logger
	// Level is the log's, which a reload may set; nil for one that stays.
	Level *slog.LevelVar
	// File is where the configuration has come from, for Reload; empty for
	// nowhere.
	File string
	// Hangup has the configuration read again whenever it receives; it may be
	// nil.
	Hangup <-chan os.Signal
}

// Gateway is all parts of one gateway. Make one with New, and call Run once.
type Gateway struct {
	cfg   *config.Config
	log   *slog.Logger
	realm string // of devices and bridge

	file    string
	drivers *devices.Table
	level   *slog.LevelVar
	hangup  <-chan os.Signal
	reloads reloads

	router *router.Router
	host   *devices.Host
	broker *broker.Broker // nil when it is not enabled
	bridge *bridge.Bridge
	health *health
	http   *httpService
	own    Task // the gateway's own procedures

	ready chan struct{}
	fatal chan error
	bound Addresses
}

// Addresses are what the gateway listens on.
type Addresses struct {
	HTTP, RawSocket, Universal, MQTT []net.Addr
	Unix                             string
}

// New puts a gateway together. It opens no address or hardware, and no file
// but those of users; the error says what in the configuration cannot work.
func New(cfg *config.Config, opts Options) (*Gateway, error) {
	log := opts.Log
	if log == nil {
		log = slog.Default()
	}
	g := &Gateway{
		cfg: cfg, log: log, realm: cfg.HomeRealm(),
		file: opts.File, drivers: opts.Drivers, level: opts.Level, hangup: opts.Hangup,
		health: newHealth(opts.Version), ready: make(chan struct{}), fatal: make(chan error, 1),
	}
	g.health.problems = g.problems
	g.reloads.running = cfg.Router
	files, err := fs.Sub(web.Assets, "static")
	if err != nil {
		return nil, fmt.Errorf("open the page's files: %w", err)
	}
	p, err := newPage(files)
	if err != nil {
		return nil, err
	}
	if g.host, err = devices.NewHost(cfg.Devices, opts.Drivers, log); err != nil {
		return nil, err
	}
	if err := g.newBridge(opts.Version); err != nil {
		return nil, err
	}
	// Last, because it has a goroutine from the start.
	if g.router, err = router.New(complete(cfg.Router, nil), router.WithLog(log), router.WithAgent("postern "+opts.Version)); err != nil {
		return nil, err
	}
	lp := cfg.Listen.HTTP.LongPoll
	lp.Origins, lp.AllowedHosts, lp.WriteTimeout = cfg.Listen.HTTP.Origins, cfg.Listen.HTTP.AllowedHosts, cfg.Listen.HTTP.WriteTimeout
	g.own = g.servicesTask()
	g.http = &httpService{
		polls: http.StripPrefix(lp.Path, g.router.LongPoll(lp)), pollPath: lp.Path,
		hosts: cfg.Listen.HTTP.AllowedHosts, sockets: g.router.Handler(cfg.Listen.HTTP.WebSocket),
		health: g.health, metrics: g.metrics, page: p, log: log,
		settings: pageSettings{Version: opts.Version, Realm: g.realm, Prefix: cfg.Devices.Prefix},
	}
	if path := cfg.MQTT.WebSocket.Path; g.broker != nil && path != "" {
		g.http.mqttPath, g.http.mqtt = path, g.broker.Handler(cfg.Listen.HTTP.WebSocket, len(cfg.RemoteHTTP()) == 0)
	}
	return g, nil
}

func (g *Gateway) newBridge(version string) error {
	var err error
	brokers := map[string]bridge.Broker{}
	if g.cfg.MQTT.Enabled {
		if g.broker, err = g.newBroker(); err != nil {
			return err
		}
		brokers[bridge.Embedded] = g.broker
	}
	for _, c := range g.cfg.Bridge.Brokers {
		if brokers[c.Name], err = paho.New(c); err != nil {
			return err
		}
	}
	queues := g.cfg.Devices.StateDir
	if queues != "" {
		queues = filepath.Join(queues, "bridge")
	}
	g.bridge, err = bridge.New(g.cfg.Bridge, bridge.Host{
		Realm: g.realm, Dial: g.Dial("bridge"), DialAs: g.dialAs, URIs: g.cfg.URIs(), Brokers: brokers, Open: func(c bridge.BrokerConfig) (bridge.Broker, error) { return paho.New(c) }, StateDir: queues, Version: version, Log: g.log,
	})
	return err
}

// Dial returns a dialer that joins the realm of the devices from within the
// process, with all rights. name becomes the sessions' authid.
func (g *Gateway) Dial(name string) client.Dialer { return g.dialAs(name, router.RoleTrusted) }

// dialAs returns such a dialer for sessions with a role's rights.
func (g *Gateway) dialAs(name, role string) client.Dialer { return g.dialInto(g.realm, name, role) }

func (g *Gateway) dialInto(realmName, name, role string) client.Dialer {
	return func(ctx context.Context) (transport.Conn, error) {
		// The context of a dialer bounds the dialling; the session goes on.
		return g.router.Local(context.WithoutCancel(ctx), realm.Identity{AuthID: name, AuthRole: role, AuthMethod: "local"}, realmName)
	}
}

// Realm is the realm of the devices and the bridge.
func (g *Gateway) Realm() string { return g.realm }

// Ready is closed when the gateway serves clients.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Addresses says what the gateway listens on; valid once Ready is closed.
func (g *Gateway) Addresses() Addresses { return g.bound }

// Health is the health report, as /healthz answers it to this machine.
func (g *Gateway) Health() Health { return g.health.report() }

// The bounds of the steps of a shutdown; together less than five seconds.
const (
	listenersBound = 200 * time.Millisecond
	devicesBound   = 1800 * time.Millisecond
	bridgeBound    = 1200 * time.Millisecond
	servicesBound  = 300 * time.Millisecond
	brokerBound    = 300 * time.Millisecond
	routerBound    = 1200 * time.Millisecond
	httpBound      = 200 * time.Millisecond
	haltBound      = 1200 * time.Millisecond // a device's own bound, and a little to say why it failed
	// startBound is how long clients may have to wait for the devices, and for
	// the gateway's own procedures.
	startBound = 2 * time.Second
)

// Run serves until ctx ends, a signal arrives, or a vital part fails, and then
// shuts down in good order. It returns nil after an orderly end; an error says
// which address could not be bound, which part failed, what did not stop in
// time, or that a second signal came (ErrForced).
func (g *Gateway) Run(ctx context.Context, signals <-chan os.Signal) error {
	defer startHeap()()
	stages, err := g.bind()
	if err != nil {
		bound, cancel := context.WithTimeout(context.Background(), routerBound)
		defer cancel()
		return errors.Join(err, g.router.Shutdown(bound))
	}
	g.warn()
	g.keepHistory()
	seq := newSequence(g.log, stages, g.failed)
	for _, name := range []string{"router", "services", "mqtt", "bridge", "devices"} {
		seq.start(ctx, name)
	}
	g.awaitParts(ctx)
	seq.start(ctx, "listeners")
	seq.start(ctx, "http")
	g.health.become(StateOK)
	g.log.Info("gateway started", "realm", g.realm, "devices", len(g.cfg.Devices.List),
		"http", texts(g.bound.HTTP), "rawsocket", texts(g.bound.RawSocket), "universal", texts(g.bound.Universal), "unix", g.bound.Unix, "mqtt", texts(g.bound.MQTT))
	close(g.ready)

	failure := g.await(ctx, signals)
	g.health.become(StateStopping)
	stopped := make(chan error, 1)
	go func() { stopped <- seq.stop("listeners", "devices", "bridge", "mqtt", "services", "router", "http") }()
	select {
	case err := <-stopped:
		g.log.Info("gateway stopped")
		return errors.Join(failure, err)
	case s := <-signals:
		g.log.Warn("second signal: putting actuators into their safe state, and leaving", "signal", s.String())
		return errors.Join(ErrForced, g.haltActuators())
	}
}

// keepHistory opens the histories on disk. Without them the gateway serves, and
// its health says so.
func (g *Gateway) keepHistory() {
	disk := func(r router.RealmConfig) bool {
		return slices.ContainsFunc(r.History, func(h router.HistoryConfig) bool { return h.Disk })
	}
	if g.cfg.Devices.StateDir == "" {
		if slices.ContainsFunc(g.cfg.Router.Realms, disk) {
			g.health.fail(Problem{Part: "history", State: "in memory only", Reason: "there is no state_dir for it"})
			g.log.Error("histories are in memory only", "reason", "there is no state_dir for them")
		}
		return
	}
	if err := g.router.KeepHistory(filepath.Join(g.cfg.Devices.StateDir, "history")); err != nil {
		g.health.fail(Problem{Part: "history", State: "in memory only", Reason: firstLine(err)})
		g.log.Error("histories are in memory only", "reason", err)
	}
}

// awaitParts waits until clients would find what they may ask for: the gateway's
// own procedures, and the devices. What is slow keeps them waiting no longer than
// startBound.
func (g *Gateway) awaitParts(ctx context.Context) {
	bound := time.NewTimer(startBound)
	defer bound.Stop()
	for _, part := range []struct {
		name  string
		ready <-chan struct{}
	}{{"services", g.own.Ready()}, {"devices", g.host.Ready()}} {
		select {
		case <-part.ready:
		case <-bound.C:
			g.log.Warn("a part is slow to start; clients are served already", "part", part.name)
			return
		case <-ctx.Done():
			return
		}
	}
}

// await serves until there is a reason to stop, and returns it where that is a
// failure.
func (g *Gateway) await(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			g.log.Info("gateway stopping")
			return nil
		case s := <-signals:
			g.log.Info("gateway stopping", "signal", s.String())
			return nil
		case failure := <-g.fatal:
			g.log.Error("gateway stopping: a vital part failed", "reason", failure)
			return failure
		case <-g.hangup:
			_, _ = g.Reload() // which logs its error
		}
	}
}

func texts(addresses []net.Addr) []string {
	out := make([]string, len(addresses))
	for i, a := range addresses {
		out[i] = a.String()
	}
	return out
}

// haltActuators puts every actuator into its safe state.
func (g *Gateway) haltActuators() error {
	ctx, cancel := context.WithTimeout(context.Background(), haltBound)
	defer cancel()
	var errs []error
	for _, r := range g.host.HaltAll(ctx) {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("device %q is not in its safe state: %w", r.Device, r.Err))
		}
	}
	return errors.Join(errs...)
}

// failed notes that a task has ended before its time.
func (g *Gateway) failed(s *stage, t Task, err error) {
	g.health.fail(Problem{Part: t.String(), State: "failed", Reason: firstLine(err)})
	if !s.vital {
		g.log.Error("task failed; the others go on", "task", t.String(), "reason", err)
		return
	}
	select {
	case g.fatal <- fmt.Errorf("%s: %w", t, err):
	default: // another one is the reason already
	}
}

// bind opens every address and returns the stages, not started. On error
// nothing is left open.
func (g *Gateway) bind() ([]*stage, error) {
	l := g.bindListeners()
	var mqtt []Task
	// Last: its listeners close only when it has run.
	if g.broker != nil && len(l.errs) == 0 {
		if err := g.broker.Listen(); err != nil {
			l.errs = append(l.errs, err)
		}
		g.bound.MQTT = g.broker.Addrs()
		mqtt = append(mqtt, g.broker)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(append(l.errs, l.Close())...)
	}
	return []*stage{
		{name: "http", bound: httpBound, tasks: l.http, vital: true},
		{name: "listeners", bound: listenersBound, tasks: l.raw, vital: true},
		{name: "devices", bound: devicesBound, tasks: []Task{g.devicesTask()}},
		{name: "bridge", bound: bridgeBound, tasks: []Task{g.bridge}},
		{name: "mqtt", bound: brokerBound, tasks: mqtt},
		{name: "services", bound: servicesBound, tasks: []Task{g.own}},
		{name: "router", bound: routerBound, tasks: []Task{g.routerTask()}, vital: true},
	}, nil
}

// routerTask ends the router, which has run since New.
func (g *Gateway) routerTask() Task {
	return newTask("router", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), routerBound)
		defer cancel()
		return g.router.Shutdown(bound)
	})
}

// devicesTask runs the devices in a session of their own.
func (g *Gateway) devicesTask() Task {
	return newTask("devices", func(ctx context.Context, ready func()) error {
		s, err := client.Join(ctx, g.Dial("devices"), client.Config{
			Realm:     g.realm,
			Reconnect: &client.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3},
			Log:       g.log.With("session", "devices"),
		})
		if err != nil {
			return fmt.Errorf("join the realm: %w", err)
		}
		ready()
		err = g.host.Run(ctx, s)
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
		defer cancel()
		return errors.Join(err, s.Close(bound))
	})
}

// warn says what is open to more than this machine.
func (g *Gateway) warn() {
	remote := g.cfg.Remote()
	for _, r := range g.cfg.Router.Realms {
		if r.Anonymous != "" && len(remote) > 0 {
			g.log.Warn("anonymous sessions from other machines are allowed, as configured", "realm", r.Name, "role", r.Anonymous, "addresses", remote)
		}
	}
}
