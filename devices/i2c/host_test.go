package i2c

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

// Two devices on one bus as the gateway has them: under the host, as a client
// of the real router. One is unplugged and comes back.
func TestUnderTheHost(t *testing.T) {
	const patience = 10 * time.Second
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := router.New(router.DefaultConfig(), router.WithLog(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shutdown(context.Background()) })
	join := func() *client.Session {
		s, err := client.Join(t.Context(), func(context.Context) (transport.Conn, error) {
			return r.Local(context.Background(), realm.Identity{AuthID: "test", AuthRole: router.RoleTrusted}, "realm1")
		}, client.Config{Realm: "realm1", Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		return s
	}
	session, listener := join(), join() // nobody gets his own publications
	type news struct {
		topic   string
		value   any
		quality string
	}
	heard := make(chan news, 10_000)
	if _, err := listener.Subscribe(t.Context(), "device.", func(e *client.Event) {
		heard <- news{e.Topic, e.Args[0], wamp.AsString(e.KwArgs, "quality")}
	}, client.Pattern(wamp.MatchPrefix)); err != nil {
		t.Fatal(err)
	}
	await := func(want news) {
		t.Helper()
		var last news
		timeout := time.After(patience)
		for {
			select {
			case last = <-heard:
				if last == want {
					return
				}
			case <-timeout:
				t.Fatalf("no event %+v; the last one: %+v", want, last)
			}
		}
	}

	f := &faulty{simulation: newSimulation()}
	f.attach(0x76, newBoschModel(true))
	f.attach(0x44, &sht3xModel{t: 0x6666, h: 0x7333})
	table, err := devices.NewTable(drivers(newPool(f.open), nil)...)
	if err != nil {
		t.Fatal(err)
	}
	air := &BME280Params{Common: newCommon(0x76), Oversampling: 1}
	house := &SHT3xParams{newCommon(0x44)}
	air.Interval, house.Interval = 5*time.Millisecond, 5*time.Millisecond
	cfg := devices.DefaultConfig()
	cfg.Restart.Min = 10 * time.Millisecond
	cfg.List = []devices.Entry{{Name: "air", Type: "bme280", Params: air}, {Name: "house", Type: "sht3x", Params: house}}
	host, err := devices.NewHost(cfg, table, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx, session) }()

	pressure := news{"device.air.pressure", 100653.27, "good"}
	await(pressure)
	await(news{"device.house.humidity", 45.0, "good"})
	f.simulation.mu.Lock()
	delete(f.chips, 0x76)
	f.simulation.mu.Unlock()
	await(news{"device.air.pressure", nil, "bad"})
	await(news{"device.air.status", "back-off", ""})
	await(news{"device.house.humidity", 45.0, "good"})
	f.attach(0x76, newBoschModel(true))
	await(pressure)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
