package serial

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

// A unit with safe values can be controlled, one without has nothing to lose.
func TestModbusControl(t *testing.T) {
	for _, c := range []struct {
		safe *float64
		want bool
	}{{nil, false}, {ptr(0.0), true}} {
		p := unitParams(1, ModbusRegister{Table: tableCoil, Access: accessReadWrite, Safe: c.safe})
		dev := newUnit(p, newPool(openPort))
		if _, can := dev.(devices.Releaser); can != c.want {
			t.Errorf("safe %v: %v", c.safe, can)
		}
	}
}

// Two units on one line as the gateway has them: under the host, as a client of
// the real router. One is dead: it is asked more and more rarely, and its
// neighbour waits for it no longer than its timeouts. Then it comes to life.
func TestModbusDeadUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long, restart = 10 * time.Minute, 20 * time.Second
		quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
		r, err := router.New(router.DefaultConfig(), router.WithLog(quiet))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Shutdown(context.Background())
		join := func() *client.Session {
			s, err := client.Join(t.Context(), func(context.Context) (transport.Conn, error) {
				return r.Local(context.Background(), realm.Identity{AuthID: "test", AuthRole: router.RoleTrusted}, "realm1")
			}, client.Config{Realm: "realm1", Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		session, listener := join(), join()
		defer session.Close(context.Background())
		defer listener.Close(context.Background())

		u := newUnitLine()
		params := [2]*ModbusParams{unitParams(1, ModbusRegister{}), unitParams(2, ModbusRegister{})}
		for _, p := range params {
			p.Timeout = 200 * time.Millisecond
			u.attach(p)
		}
		u.mu.Lock()
		u.tamper = func(request, answer []byte) [][]byte {
			if request[0] == 2 {
				return nil
			}
			return [][]byte{answer}
		}
		u.mu.Unlock()
		table, err := devices.NewTable(devices.Driver{
			Type: "unit", Summary: "a unit", Doc: "a unit", Example: "name: unit\ntype: unit\n", NewParams: func() any { return newModbusParams() },
			Procedures: []devices.Procedure{readProcedure},
			Open: func() func(devices.Env, any) (devices.Device, error) {
				pool := u.pool()
				return func(_ devices.Env, p any) (devices.Device, error) { return newUnit(p.(*ModbusParams), pool), nil }
			}(),
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg := devices.DefaultConfig()
		cfg.Restart = devices.Restart{Min: time.Second, Max: restart, StableAfter: time.Minute}
		cfg.List = []devices.Entry{{Name: "live", Type: "unit", Params: params[0]}, {Name: "dead", Type: "unit", Params: params[1]}}
		host, err := devices.NewHost(cfg, table, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var readings, revived int
		var last time.Time
		var gap time.Duration
		topic := func(name string, f func()) {
			if _, err := listener.Subscribe(t.Context(), name, func(e *client.Event) {
				if wamp.AsString(e.KwArgs, "quality") == "good" {
					f()
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		topic("device.live.r0", func() {
			if readings++; readings > 1 {
				gap = max(gap, time.Since(last))
			}
			last = time.Now()
		})
		topic("device.dead.r0", func() { revived++ })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- host.Run(ctx, session) }()

		time.Sleep(long)
		synctest.Wait()
		asked, read := 0, readings
		for _, request := range strings.Fields(u.requests()) {
			if strings.HasPrefix(request, "02") {
				asked++
			}
		}
		if read < int(long/time.Second)-1 || gap > time.Second+params[1].Timeout+slice {
			t.Errorf("the live unit was read %d times in %v, with a gap of %v", read, long, gap)
		}
		// Two requests a try, and tries 20 s apart or a little more.
		if most := 2 * int(long/(restart*3/4)); asked < 20 || asked > most+20 || revived > 0 {
			t.Errorf("the dead unit was asked %d times in %v; %d values", asked, long, revived)
		}
		u.set(nil)
		time.Sleep(restart*3/2 + time.Second)
		synctest.Wait()
		if revived == 0 {
			t.Errorf("no value of the unit %v after it came to life", restart*3/2)
		}
		t.Logf("in %v the live unit was read %d times, no two readings further apart than %v; the dead one was asked %d times", long, read, gap, asked)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
