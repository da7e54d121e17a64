package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// demo is the demo's configuration on ports that are free.
func demo(t *testing.T) *config.Config {
	t.Helper()
	cfg := config.Demo()
	cfg.Listen.HTTP.Addresses = []string{"127.0.0.1:0"}
	cfg.Listen.RawSocket.Addresses = []string{"127.0.0.1:0"}
	cfg.Listen.Unix.Path = filepath.Join(t.TempDir(), "p.sock")
	cfg.MQTT.Listen = []string{"127.0.0.1:0"}
	return cfg
}

// up is a running gateway.
type up struct {
	*Gateway
	t       *testing.T
	signals chan os.Signal
	ended   chan error
}

func start(t *testing.T, cfg *config.Config) *up {
	t.Helper()
	return startWith(t, cfg, Options{})
}

func startWith(t *testing.T, cfg *config.Config, opts Options) *up {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	opts.Version, opts.Drivers = "test", all.Table()
	g, err := New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	u := &up{Gateway: g, t: t, signals: make(chan os.Signal, 2), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { u.ended <- g.Run(ctx, u.signals) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-u.ended:
		case <-time.After(10 * time.Second):
			t.Error("the gateway did not end")
		}
	})
	select {
	case <-g.Ready():
	case err := <-u.ended:
		u.ended <- err
		t.Fatalf("the gateway ended at once: %v", err)
	}
	return u
}

// stop sends SIGTERM and returns how long the end took.
func (u *up) stop() time.Duration {
	u.t.Helper()
	begun := time.Now()
	u.signals <- syscall.SIGTERM
	err := <-u.ended
	u.ended <- nil // for Cleanup
	if err != nil {
		u.t.Errorf("after SIGTERM: %v", err)
	}
	return time.Since(begun)
}

func (u *up) url(path string) string {
	return "http://" + u.Addresses().HTTP[0].String() + path
}

// get asks over HTTP, without a connection that stays.
func get(t *testing.T, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if change != nil {
		change(req)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func dial(t *testing.T, url string) *client.Session {
	t.Helper()
	s, err := client.Dial(t.Context(), url, client.Config{Realm: "realm1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func TestCallsOverEveryListener(t *testing.T) {
	u := start(t, demo(t))
	a := u.Addresses()
	for i, url := range []string{
		"ws://" + a.HTTP[0].String() + "/ws", "ws://" + a.HTTP[0].String() + "/",
		"rs://" + a.RawSocket[0].String(), "unix://" + a.Unix,
	} {
		s := dial(t, url)
		on := i%2 == 0
		r, err := s.Call(t.Context(), "device.relay.set", client.Args{on}, nil)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if len(r.Args) != 1 || r.Args[0] != on {
			t.Errorf("%s: relay.set(%v) returned %v", url, on, r.Args)
		}
	}
	s := dial(t, "ws://"+a.HTTP[0].String()+"/ws")
	events := make(chan *client.Event, 100)
	if _, err := s.Subscribe(t.Context(), "device.", func(e *client.Event) { events <- e }, client.Pattern(wamp.MatchPrefix)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(t.Context(), "device.relay.toggle", nil, nil); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Topic == "device.relay.on" {
			break
		}
	}
	u.stop()
}

func TestShutdownHaltsActuatorsAndSaysGoodbye(t *testing.T) {
	u := start(t, demo(t))
	s := dial(t, "ws://"+u.Addresses().HTTP[0].String()+"/ws")
	if _, err := s.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
		t.Fatal(err)
	}
	last := make(chan any, 100)
	if _, err := s.Subscribe(t.Context(), "device.relay.on", func(e *client.Event) { last <- e.Args[0] }); err != nil {
		t.Fatal(err)
	}
	took := u.stop()
	if took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	for on := any(true); on != false; { // that it was switched on may come first
		select {
		case on = <-last:
		case <-time.After(10 * time.Second):
			t.Fatal("the relay's safe state was not published")
		}
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), wamp.CloseSystemShutdown) {
		t.Errorf("the session ended with %v, want %s", err, wamp.CloseSystemShutdown)
	}
	for _, d := range u.host.Status() {
		if d.State != devices.StateStopped {
			t.Errorf("device %s is %s", d.Device, d.State)
		}
	}
	if _, err := net.Dial("tcp", u.Addresses().RawSocket[0].String()); err == nil {
		t.Error("the RawSocket listener is still open")
	}
	if _, err := os.Stat(u.Addresses().Unix); err == nil {
		t.Error("the Unix socket is still there")
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	u := start(t, demo(t))
	u.signals <- os.Interrupt
	u.signals <- os.Interrupt
	err := <-u.ended
	u.ended <- nil
	if !errors.Is(err, ErrForced) {
		t.Fatalf("want ErrForced, have %v", err)
	}
	for _, d := range u.host.Status() {
		if d.State != devices.StateStopped {
			t.Errorf("device %s is %s", d.Device, d.State)
		}
	}
}

func TestWhatIsBrokenDoesNotStopTheRest(t *testing.T) {
	cfg := demo(t)
	var dead bridge.BrokerConfig
	dead.SetDefaults()
	dead.Name, dead.URLs = "plant", []string{"tcp://127.0.0.1:1"}
	cfg.Bridge.Brokers = append(cfg.Bridge.Brokers, dead)
	out := bridge.Map{Name: "up", Brokers: []string{"plant"}, MQTT: "gw/{d}/{r}", WAMP: "device.{d}.{r}", Direction: bridge.Out}
	out.SetDefaults()
	cfg.Bridge.Maps = append(cfg.Bridge.Maps, out)
	u := start(t, cfg)
	s := dial(t, "ws://"+u.Addresses().HTTP[0].String()+"/ws")
	if _, err := s.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, body := get(t, u.url("/healthz"), nil)
		var h Health
		if err := json.Unmarshal([]byte(body), &h); err != nil || resp.StatusCode != http.StatusOK || h.State != StateOK {
			t.Fatalf("%d %s %v", resp.StatusCode, body, err)
		}
		if strings.Contains(fmt.Sprint(h.Problems), "broker plant") && strings.Contains(body, "127.0.0.1:1") {
			break
		}
		<-tick.C
	}
	if took := u.stop(); took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
}

func TestAddressesInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	for name, change := range map[string]func(*config.Config){
		"http":      func(c *config.Config) { c.Listen.HTTP.Addresses = []string{"127.0.0.1:0", taken} },
		"rawsocket": func(c *config.Config) { c.Listen.RawSocket.Addresses = []string{taken} },
		"MQTT":      func(c *config.Config) { c.MQTT.Listen = []string{taken} },
	} {
		cfg := demo(t)
		change(cfg)
		g, err := New(cfg, Options{Drivers: all.Table(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		err = g.Run(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: want an error that names %s, have %v", name, taken, err)
		}
	}
}

func TestHTTP(t *testing.T) {
	u := start(t, demo(t))
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for _, c := range []struct {
		path   string
		change func(*http.Request)
		status int
		body   string
	}{
		{"/", nil, 200, "<title>Postern</title>"},
		{"/page.js", nil, 200, "Session"},
		{"/index.html", nil, 200, "<title>"},
		{"/postern.json", nil, 200, `{"version":"test","realm":"realm1","prefix":"device"}`},
		{"/healthz", nil, 200, `"status":"ok"`},
		{"/nothing", nil, 404, "nothing is served"},
		{"/../gateway.go", nil, 404, "nothing"},
		{"/static/index.html", nil, 404, "nothing"},
		{"/%00", nil, 404, "nothing"},
		{"/ws", nil, 426, "WebSocket"},
		{"/", host("evil.example"), 403, "allowed_hosts"},
		{"/healthz", host("evil.example:8080"), 403, "allowed_hosts"},
		{"/", host("localhost"), 200, "<title>"},
		{"/page.js", func(r *http.Request) { r.Method = http.MethodPost }, 405, "only be read"},
		{"/", header("X-Large", strings.Repeat("x", 64<<10)), 431, ""},
	} {
		resp, body := get(t, u.url(c.path), c.change)
		if resp.StatusCode != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %.200s, want %d %s", c.path, resp.StatusCode, body, c.status, c.body)
		}
		if c.status == 200 && (resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: the security headers are missing: %v", c.path, resp.Header)
		}
	}
	resp, _ := get(t, u.url("/page.js"), nil)
	if again, _ := get(t, u.url("/page.js"), header("If-None-Match", resp.Header.Get("ETag"))); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same file again: %d, want 304", again.StatusCode)
	}
	upgrade := func(origin string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Sec-WebSocket-Version", "13")
			r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			r.Header.Set("Sec-WebSocket-Protocol", "wamp.2.json")
			r.Header.Set("Origin", origin)
		}
	}
	if resp, _ := get(t, u.url("/"), upgrade("https://evil.example")); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign origin: %d, want 403", resp.StatusCode)
	}
	u.health.become(StateStopping)
	if resp, _ := get(t, u.url("/ws"), upgrade(u.url(""))); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new session while stopping: %d, want 503", resp.StatusCode)
	}
	if resp, body := get(t, u.url("/healthz"), nil); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Errorf("health while stopping: %d %s", resp.StatusCode, body)
	}
}

// TestLongPollIsMounted: where the configuration says, and under the same rules
// as the rest.
func TestLongPollIsMounted(t *testing.T) {
	cfg := demo(t)
	cfg.Listen.HTTP.LongPoll.Path = "/poll"
	g := start(t, cfg)
	for _, tt := range []struct {
		path, origin string
		code         int
	}{
		{"/poll/open", "", http.StatusOK},
		{"/poll/open", "http://evil.example", http.StatusForbidden},
		{"/lp/open", "", http.StatusNotFound},
		{"/poll/nobody/receive", "", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url(tt.path), strings.NewReader(`{"protocols": ["wamp.2.json"]}`))
		if err != nil {
			t.Fatal(err)
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%s from %q: %d %q, want %d", tt.path, tt.origin, resp.StatusCode, body, tt.code)
		}
	}
}
