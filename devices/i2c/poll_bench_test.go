//go:build linux

package i2c

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	periph "periph.io/x/conn/v3/i2c"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/transport"
)

// BenchmarkPolledReadings is what 201 readings a second cost, of 67 sensors on
// four busses of models, over the host and the real router to a subscriber. An
// operation is a second; %core is the processor's time of all of it, and the
// goal is 2 at most. The kernel's and the wires' part is not in it.
func BenchmarkPolledReadings(b *testing.B) {
	const sensors = 67
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := router.New(router.DefaultConfig(), router.WithLog(quiet))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Shutdown(context.Background())
	join := func() *client.Session {
		s, err := client.Join(b.Context(), func(context.Context) (transport.Conn, error) {
			return r.Local(context.Background(), realm.Identity{AuthID: "test", AuthRole: router.RoleTrusted}, "realm1")
		}, client.Config{Realm: "realm1", Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	session, listener := join(), join()
	defer session.Close(context.Background())
	defer listener.Close(context.Background())
	var heard atomic.Int64
	if _, err := listener.Subscribe(b.Context(), "device.", func(*client.Event) { heard.Add(1) }, client.Pattern(wamp.MatchPrefix)); err != nil {
		b.Fatal(err)
	}
	var busses [4]*simulation
	for i := range busses {
		busses[i] = newSimulation()
	}
	table, err := devices.NewTable(drivers(newPool(func(name string) (periph.BusCloser, error) {
		return busses[name[len(name)-1]-'0'], nil
	}), nil)...)
	if err != nil {
		b.Fatal(err)
	}
	cfg := devices.DefaultConfig()
	for i := range sensors {
		p := &BME280Params{Common: newCommon(Address(8 + i)), Oversampling: 1}
		p.Bus, p.Interval = fmt.Sprint("/dev/i2c-", i%len(busses)), time.Second
		busses[i%len(busses)].attach(p.Address, newBoschModel(true))
		cfg.List = append(cfg.List, devices.Entry{Name: fmt.Sprint("air", i), Type: "bme280", Params: p})
	}
	host, err := devices.NewHost(cfg, table, quiet)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx, session) }()
	<-host.Ready()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	<-second.C // what opening costs is not counted

	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, begin, used := heard.Load(), time.Now(), cpu()
	for b.Loop() {
		<-second.C
	}
	took := time.Since(begin)
	b.ReportMetric(100*float64(cpu()-used)/float64(took), "%core")
	b.ReportMetric(float64(heard.Load()-before)/took.Seconds(), "readings/s")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
