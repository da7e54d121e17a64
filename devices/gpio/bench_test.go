//go:build linux

package gpio_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sleepUntil(t time.Time) {
	if wait := time.Until(t); wait > 0 {
		ts := unix.NsecToTimespec(wait.Nanoseconds())
		unix.Nanosleep(&ts, nil)
	}
}

// pace returns what the source of edges costs without edges, in percent of a
// core.
func pace(b *testing.B) float64 {
	const rounds = 1000
	before, begin := cpuTime(b), time.Now()
	for i := range rounds {
		sleepUntil(begin.Add(time.Duration(i+1) * time.Millisecond))
	}
	return 100 * (cpuTime(b) - before).Seconds() / time.Since(begin).Seconds()
}

// An input with a thousand edges a second, end to end: the line, the driver, the
// host, the router, and a client that gets the events over RawSocket and CBOR.
// The processor time is that of the whole process, so also of the simulated
// line and of the client that decodes the events; what sleeping a thousand times
// a second costs is measured before, shown as %source and subtracted.
func BenchmarkThousandEdgesASecond(b *testing.B) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg := router.DefaultConfig()
	cfg.Realms[0].Anonymous = router.RoleTrusted
	r, err := router.New(cfg, router.WithLog(quiet))
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan struct{}), make(chan error, 1)
	go func() { defer close(served); r.Serve(ctx, ln, transport.NewRawSocket()) }()

	chips := gpio.NewChips()
	table, err := devices.NewTable(gpio.Drivers(chips)...)
	if err != nil {
		b.Fatal(err)
	}
	devs := devices.DefaultConfig()
	in := table.Driver("gpio-input").NewParams().(*gpio.InputParams)
	in.Pin, in.Chip = "GPIO17", "sim"
	devs.List = []devices.Entry{{Name: "line", Type: "gpio-input", Params: in}}
	host, err := devices.NewHost(devs, table, quiet)
	if err != nil {
		b.Fatal(err)
	}
	own, err := client.Join(ctx, func(ctx context.Context) (transport.Conn, error) {
		return r.Local(context.WithoutCancel(ctx), realm.Identity{AuthRole: router.RoleTrusted}, "realm1")
	}, client.Config{Realm: "realm1", Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	go func() { ran <- host.Run(ctx, own) }()
	<-host.Ready()
	user, err := client.Dial(ctx, "rs://"+ln.Addr().String(), client.Config{Realm: "realm1", Codec: codec.CBOR, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	var received atomic.Int64
	if _, err := user.Subscribe(ctx, "device.line.level", func(*client.Event) { received.Add(1) }); err != nil {
		b.Fatal(err)
	}
	line := gpio.SimulatedLine(chips, "GPIO17")

	source := pace(b)
	before, begin := cpuTime(b), time.Now()
	b.ReportAllocs()
	edges := int64(0)
	for b.Loop() {
		edges++
		line(edges%2 == 1)
		sleepUntil(begin.Add(time.Duration(edges) * time.Millisecond))
	}
	for limit := time.Now().Add(10 * time.Second); received.Load() < edges; {
		if time.Now().After(limit) {
			b.Fatalf("%d of %d edges arrived", received.Load(), edges)
		}
		<-time.After(time.Millisecond)
	}
	took := time.Since(begin)
	b.ReportMetric(100*(cpuTime(b)-before).Seconds()/took.Seconds()-source, "%core")
	b.ReportMetric(source, "%source")
	b.ReportMetric(float64(edges)/took.Seconds(), "edges/s")

	user.Close(context.Background())
	cancel()
	if err := <-ran; err != nil {
		b.Error(err)
	}
	own.Close(context.Background())
	ln.Close()
	if err := r.Shutdown(context.Background()); err != nil {
		b.Error(err)
	}
	<-served
}
