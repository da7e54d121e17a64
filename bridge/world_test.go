package bridge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/bridge/paho"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take in a test before it has failed.
const patience = 20 * time.Second

// world is a realm, and what is attached to it.
type world struct {
	t      testing.TB
	router *router.Router
	log    *slog.Logger
}

func newWorld(t testing.TB) *world {
	t.Helper()
	cfg := router.DefaultConfig()
	cfg.Realms = []router.RealmConfig{router.OpenRealm("realm1")}
	cfg.Limits.QueueMessages, cfg.Limits.QueueBytes = 200_000, 64<<20
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := router.New(cfg, router.WithLog(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("router: %v", err)
		}
	})
	return &world{t: t, router: r, log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))}
}

// testWriter logs into the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func (w *world) dial(ctx context.Context) (transport.Conn, error) {
	return w.router.Local(context.WithoutCancel(ctx), realm.Identity{AuthID: "test", AuthRole: router.RoleTrusted}, "realm1")
}

func (w *world) dialAs(authid, role string) client.Dialer {
	return func(ctx context.Context) (transport.Conn, error) {
		return w.router.Local(context.WithoutCancel(ctx), realm.Identity{AuthID: authid, AuthRole: role}, "realm1")
	}
}

func (w *world) join() *client.Session {
	w.t.Helper()
	s, err := client.Join(w.t.Context(), w.dial, client.Config{Realm: "realm1", EventBuffer: 64 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

func openBroker(c bridge.BrokerConfig) (bridge.Broker, error) { return paho.New(c) }

// running is a bridge at work.
type running struct {
	*bridge.Bridge
	w    *world
	stop func()
}

// run starts a bridge and waits until every broker is in the state given.
func (w *world) run(cfg bridge.Config, state string, embedded *broker.Broker) *running {
	w.t.Helper()
	host := bridge.Host{Realm: "realm1", Dial: w.dial, DialAs: w.dialAs, Log: w.log, Brokers: map[string]bridge.Broker{}, Open: openBroker}
	if embedded != nil {
		host.Brokers[bridge.Embedded] = embedded
	}
	for _, c := range cfg.Brokers {
		b, err := paho.New(c)
		if err != nil {
			w.t.Fatal(err)
		}
		host.Brokers[c.Name] = b
	}
	b, err := bridge.New(cfg, host)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			w.t.Errorf("bridge: %v", err)
		}
	}()
	r := &running{Bridge: b, w: w, stop: sync.OnceFunc(func() { cancel(); <-done })}
	w.t.Cleanup(r.stop)
	for _, s := range b.Status() {
		r.await(s.Broker, state)
	}
	return r
}

// await waits for a broker's state.
func (r *running) await(name, state string) bridge.Status {
	r.w.t.Helper()
	var last bridge.Status
	r.w.eventually(fmt.Sprintf("%s %s", name, state), func() bool {
		for _, s := range r.Status() {
			if s.Broker == name {
				last = s
			}
		}
		return last.State == state
	})
	return last
}

// eventually waits until f is true.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waited too long for: %s", what)
		}
	}
}

// got is one message that arrived somewhere.
type got struct {
	name     string // topic or URI
	value    string
	retained bool
}

// trap collects what arrives.
type trap struct {
	w   *world
	mu  sync.Mutex
	all []got
}

func (tr *trap) add(g got) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.all = append(tr.all, g)
}

func (tr *trap) list() []got {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]got(nil), tr.all...)
}

// wait waits for n messages and returns them.
func (tr *trap) wait(n int) []got {
	tr.w.t.Helper()
	tr.w.eventually(fmt.Sprintf("%d messages", n), func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.all) >= n
	})
	return tr.list()
}

// events subscribes to a prefix of URIs.
func (w *world) events(prefix string, opts ...client.SubscribeOption) *trap {
	w.t.Helper()
	tr := &trap{w: w}
	opts = append(opts, client.Pattern(wamp.MatchPrefix))
	if _, err := w.join().Subscribe(w.t.Context(), prefix, func(e *client.Event) {
		value := ""
		if len(e.Args) > 0 {
			value = fmt.Sprint(e.Args[0])
		}
		tr.add(got{e.Topic, value, e.Details.Retained})
	}, opts...); err != nil {
		w.t.Fatal(err)
	}
	return tr
}

// device is an MQTT client of the fleet.
func (w *world) device(addr string, change ...func(*mqtt.ClientOptions)) mqtt.Client {
	w.t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetAutoReconnect(false).SetConnectTimeout(patience)
	o.SetClientID(fmt.Sprintf("device-%d", time.Now().UnixNano()))
	for _, f := range change {
		f(o)
	}
	c := mqtt.NewClient(o)
	w.done(c.Connect())
	w.t.Cleanup(func() { c.Disconnect(100) })
	return c
}

func (w *world) done(token mqtt.Token) {
	w.t.Helper()
	if !token.WaitTimeout(patience) {
		w.t.Fatal("MQTT client: no answer")
	}
	if token.Error() != nil {
		w.t.Fatalf("MQTT client: %v", token.Error())
	}
}

// topics subscribes at a broker.
func (w *world) topics(c mqtt.Client, filter string, qos byte) *trap {
	w.t.Helper()
	tr := &trap{w: w}
	w.done(c.Subscribe(filter, qos, func(_ mqtt.Client, m mqtt.Message) {
		tr.add(got{m.Topic(), string(m.Payload()), m.Retained()})
	}))
	return tr
}

// mosquitto is Debian's broker, in a process of its own.
type mosquitto struct {
	t    testing.TB
	addr string
	conf string
	cmd  *exec.Cmd
}

const mosquittoPath = "/usr/sbin/mosquitto"

func newMosquitto(t testing.TB, extra string) *mosquitto {
	t.Helper()
	if _, err := os.Stat(mosquittoPath); err != nil {
		t.Fatalf("%s is missing: install Debian's mosquitto (apt-get install mosquitto); the bridge is tested against it", mosquittoPath)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	m := &mosquitto{t: t, addr: addr, conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	text := "listener " + port + " 127.0.0.1\npersistence false\nmax_queued_messages 0\nlog_type error\n" + extra
	if err := os.WriteFile(m.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(m.kill)
	return m
}

const open = "allow_anonymous true\n"

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(mosquittoPath, "-c", m.conf)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", m.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("mosquitto does not listen: %v", err)
		}
		<-tick.C
	}
}

// kill ends the process as kill -9 does.
func (m *mosquitto) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// gate is a TCP proxy: a network that can be taken away.
type gate struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	state gateState
	conns map[net.Conn]bool
}

type gateState int

const (
	gateOpen gateState = iota
	gateShut           // refuses
	gateHole           // accepts, and swallows both ways
)

func newGate(t testing.TB, target string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln, target: target, conns: map[net.Conn]bool{}}
	g.wg.Go(g.serve)
	t.Cleanup(func() {
		g.set(gateShut)
		ln.Close()
		g.wg.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.ln.Addr().String() }

// set changes the state; shutting cuts what is open.
func (g *gate) set(s gateState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = s
	if s == gateShut {
		for c := range g.conns {
			c.Close()
		}
	}
}

func (g *gate) is() gateState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

func (g *gate) keep(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == gateShut {
		c.Close()
		return false
	}
	g.conns[c] = true
	return true
}

func (g *gate) drop(c net.Conn) {
	c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

func (g *gate) serve() {
	for {
		c, err := g.ln.Accept()
		if err != nil {
			return
		}
		if !g.keep(c) {
			continue
		}
		up, err := net.Dial("tcp", g.target)
		if err != nil || !g.keep(up) {
			g.drop(c)
			continue
		}
		for _, p := range [][2]net.Conn{{c, up}, {up, c}} {
			g.wg.Go(func() {
				defer g.drop(p[0])
				defer g.drop(p[1])
				buf := make([]byte, 4096)
				for {
					n, err := p[0].Read(buf)
					if err != nil {
						return
					}
					if g.is() == gateHole {
						continue
					}
					if _, err := p[1].Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	}
}

// brokerAt is the configuration of one broker, quick to reconnect.
func brokerAt(name string, addrs ...string) bridge.BrokerConfig {
	var c bridge.BrokerConfig
	c.SetDefaults()
	c.Name, c.ClientID = name, fmt.Sprintf("bridge-%s-%d", name, time.Now().UnixNano())
	for _, a := range addrs {
		c.URLs = append(c.URLs, "tcp://"+a)
	}
	c.KeepAlive = 2 * time.Second
	c.Reconnect = bridge.ReconnectConfig{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond, StableAfter: time.Second}
	return c
}

func mapOf(direction, mqtt, wamp string, change ...func(*bridge.Map)) bridge.Map {
	m := bridge.Map{Name: mqtt + "|" + wamp, Direction: direction, MQTT: mqtt, WAMP: wamp}
	m.SetDefaults()
	for _, f := range change {
		f(&m)
	}
	return m
}
