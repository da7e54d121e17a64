//go:build linux

// Command appliance is /init of the appliance's image: the first process, and
// the gateway that it starts. It has no command line for people; theirs is
// postern's, on another machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/postern-iot/postern/appliance"
	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/image/layout"
)

// beat is how often the gateway says that it lives; safeWithin bounds putting
// the safe state.
const (
	beat       = 5 * time.Second
	safeWithin = 10 * time.Second
)

func main() {
	if os.Getpid() == 1 {
		appliance.Run(appliance.Options{Gateway: []string{"gateway"}, SafeState: []string{"safe-state"}})
	}
	err := errors.New("this is the first process of an appliance; on other machines use postern")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "gateway":
		err = serve()
	case len(os.Args) == 2 && os.Args[1] == "safe-state":
		err = safeState()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "postern: %v\n", err)
		os.Exit(1)
	}
}

func load() (*config.Config, string, error) {
	file := filepath.Join("/data", layout.ConfigFile)
	cfg, err := config.Load(file, all.Table())
	return cfg, file, err
}

// serve runs the gateway, and tells the first process that it lives.
func serve() error {
	cfg, file, err := load()
	if err != nil {
		return err
	}
	signals, hangup := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Notify(hangup, syscall.SIGHUP)
	level := new(slog.LevelVar)
	g, err := gateway.New(cfg, gateway.Options{
		Version: os.Getenv("POSTERN_VERSION"), Drivers: all.Table(), Log: gateway.NewLogger(cfg.Log, os.Stderr, level),
		Level: level, File: file, Hangup: hangup,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		beats(ctx, g)
	}()
	err = g.Run(ctx, signals)
	cancel()
	<-done
	return err
}

// beats writes a line when the gateway serves and every few seconds then, as
// long as it says itself that it does.
func beats(ctx context.Context, g *gateway.Gateway) {
	out := os.NewFile(3, "beats")
	defer out.Close()
	select {
	case <-g.Ready():
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if state := g.Health().State; state == gateway.StateOK {
			if _, err := fmt.Fprintln(out, state); err != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// safeState puts every actuator into its safe state, without the gateway.
func safeState() error {
	cfg, _, err := load()
	if err != nil {
		return err
	}
	host, err := devices.NewHost(cfg.Devices, all.Table(), gateway.NewLogger(cfg.Log, os.Stderr, nil))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), safeWithin)
	defer cancel()
	var problems []error
	for _, r := range host.HaltAll(ctx) {
		if r.Err != nil {
			problems = append(problems, fmt.Errorf("%s is not safe: %w", r.Device, r.Err))
		}
	}
	return errors.Join(problems...)
}
