package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/devices/sim"
	"github.com/postern-iot/postern/gateway"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp/client"
)

// runOptions are the flags of run, which is also what happens without a
// command.
type runOptions struct {
	config string
	quiet  bool
	sim    bool
}

func (o *runOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "configuration; without one, simulated devices run, for this machine only")
	cmd.Flags().BoolVar(&o.sim, "sim", false, "with simulated hardware: no device touches anything outside of this program")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "without a configuration, do not show the readings")
}

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Run the gateway",
		Long: "run runs the gateway until SIGINT (Ctrl-C) or SIGTERM; actuators are then in their safe state. A second signal\n" +
			"does that and nothing else, and leaves with status 1. SIGHUP reads the configuration again; see 'postern reload'.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.flags(cmd)
	return cmd
}

func (o *runOptions) run(cmd *cobra.Command) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if o.config == "" {
		return o.demo(cmd, config.Demo(), signals)
	}
	cfg, err := load(cmd, o.config)
	if err != nil {
		return err
	}
	if o.sim {
		return simulate(cmd, cfg, signals)
	}
	// Only here: without a file there is nothing to read again, and a terminal
	// that is closed ends what runs in it.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	level := new(slog.LevelVar)
	g, err := gateway.New(cfg, gateway.Options{
		Version: versionText(), Drivers: all.Table(), Log: gateway.NewLogger(cfg.Log, cmd.ErrOrStderr(), level),
		Level: level, File: o.config, Hangup: hangup,
	})
	if err != nil {
		return err
	}
	return g.Run(context.Background(), signals)
}

// simulate runs a configuration on simulated hardware. What outlives a restart
// is kept apart from what the real devices keep, and forgotten.
func simulate(cmd *cobra.Command, cfg *config.Config, signals <-chan os.Signal) error {
	world, err := sim.NewWorld(all.Table(), cfg.Devices)
	if err != nil {
		return err
	}
	state, err := os.MkdirTemp("", "postern-sim-")
	if err != nil {
		return fmt.Errorf("make a directory for the simulation's state: %w", err)
	}
	defer os.RemoveAll(state)
	cfg.StateDir, cfg.Devices.StateDir = state, state
	log := gateway.NewLogger(cfg.Log, cmd.ErrOrStderr(), nil)
	log.Warn("simulated hardware: nothing outside of this program is measured or switched", "procedure", cfg.Devices.Prefix+".simulate")
	g, err := gateway.New(cfg, gateway.Options{Version: versionText() + " (simulated)", Drivers: world.Table(), Log: log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		select {
		case <-g.Ready():
		case <-ctx.Done():
			return
		}
		s, err := client.Join(ctx, g.Dial("simulation"), client.Config{Realm: g.Realm()})
		if err == nil {
			if err = world.Offer(ctx, s); err == nil {
				log.Info("simulation ready")
				<-ctx.Done()
			}
			bound, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = s.Close(bound) // the gateway is going anyway
		}
		if err != nil && ctx.Err() == nil {
			log.Error("the simulation cannot be controlled", "reason", err)
		}
	}()
	err = g.Run(ctx, signals)
	cancel()
	if !errors.Is(err, gateway.ErrForced) {
		<-served
	}
	return err
}

// demo runs what there is without a configuration, and shows what happens.
func (o *runOptions) demo(cmd *cobra.Command, cfg *config.Config, signals <-chan os.Signal) error {
	cfg.Log.Level = "warn"
	view := newView(cmd.OutOrStdout(), cmd.ErrOrStderr())
	g, err := gateway.New(cfg, gateway.Options{Version: versionText(), Drivers: all.Table(), Log: gateway.NewLogger(cfg.Log, view.log(), nil)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		select {
		case <-g.Ready():
		case <-ctx.Done():
			return
		}
		banner(cmd.OutOrStdout(), g)
		if o.quiet {
			return
		}
		if err := view.follow(ctx, g.Dial("terminal"), g.Realm(), cfg.Devices.Prefix); err != nil && ctx.Err() == nil {
			fmt.Fprintf(view.log(), "the readings cannot be shown: %v\n", err)
		}
	}()
	err = g.Run(ctx, signals)
	cancel()
	if !errors.Is(err, gateway.ErrForced) {
		<-shown
	}
	if err == nil {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "Stopped; all actuators are in their safe state.")
	}
	return err
}

// banner says what is there and what can be done with it.
func banner(w io.Writer, g *gateway.Gateway) {
	a := g.Addresses()
	fmt.Fprintf(w, "Postern %s with simulated devices, for this machine only. Ctrl-C stops it.\n\n", versionText())
	line := func(what, scheme string, addresses []net.Addr, path, more string) {
		for _, address := range addresses {
			fmt.Fprintf(w, "  %-6s %s://%s%s%s\n", what, scheme, address, path, more)
		}
	}
	line("page", "http", a.HTTP, "/", "")
	line("WAMP", "ws", a.HTTP, "/ws", "   realm "+g.Realm())
	line("", "rs", a.RawSocket, "", "")
	line("MQTT", "mqtt", a.MQTT, "", "")
	fmt.Fprintf(w, "\n  try    postern call device.relay.set true\n         postern subscribe device. --match prefix\n         postern init\n")
	if _, err := os.Stat("postern.yaml"); err == nil {
		fmt.Fprintf(w, "\n  postern.yaml is here, and not used: postern run -c postern.yaml\n")
	}
	fmt.Fprintf(w, "\n%s\n", time.Now().Format("Readings, since 15:04:05:"))
}
